//! `range`: each topic's partitions in contiguous ranges, so that topics with equal partition
//! counts are read by the same members (which joins of streams rely on).

use super::{Assignor, GroupTopics, Member, in_order};
use crate::TopicPartition;

/// The `range` assignor, Java's and librdkafka's default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range;

impl Assignor for Range {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, topics: &GroupTopics, members: &[Member]) -> Vec<Vec<TopicPartition>> {
        let mut assignment = vec![Vec::new(); members.len()];
        let order = in_order(members);
        for (topic, &count) in topics {
            let subscribed: Vec<usize> = order
                .iter()
                .copied()
                .filter(|&m| members[m].subscribes(topic))
                .collect();
            if subscribed.is_empty() {
                continue;
            }
            let count = count.max(0) as usize;
            let (each, extra) = (count / subscribed.len(), count % subscribed.len());
            let mut next = 0;
            for (rank, member) in subscribed.into_iter().enumerate() {
                let end = next + each + usize::from(rank < extra);
                assignment[member].extend(
                    (next..end)
                        .map(|partition| TopicPartition::new(topic.clone(), partition as i32)),
                );
                next = end;
            }
        }
        assignment
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    fn assigned(partitions: &[TopicPartition]) -> Vec<String> {
        partitions.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_members_take_the_remainder() {
        let topics = topics(&[("a", 3), ("b", 3)]);
        let members = [member("c2", &["a", "b"]), member("c1", &["a", "b"])];
        let assignment = Range.assign(&topics, &members);
        assert_eq!(assigned(&assignment[1]), ["a-0", "a-1", "b-0", "b-1"]);
        assert_eq!(assigned(&assignment[0]), ["a-2", "b-2"]);
    }

    #[test]
    fn only_subscribers_share_a_topic() {
        let topics = topics(&[("a", 2), ("b", 5), ("nobody", 4)]);
        let members = [
            member("c1", &["a", "b"]),
            member("c2", &["b"]),
            member("c3", &["a", "missing"]),
        ];
        let assignment = Range.assign(&topics, &members);
        assert_eq!(assigned(&assignment[0]), ["a-0", "b-0", "b-1", "b-2"]);
        assert_eq!(assigned(&assignment[1]), ["b-3", "b-4"]);
        assert_eq!(assigned(&assignment[2]), ["a-1"]);
    }

    #[test]
    fn more_members_than_partitions_leaves_some_idle() {
        let members = [
            member("c1", &["a"]),
            member("c2", &["a"]),
            member("c3", &["a"]),
        ];
        let assignment = Range.assign(&topics(&[("a", 2)]), &members);
        assert_eq!(
            assignment.iter().map(Vec::len).collect::<Vec<_>>(),
            [1, 1, 0]
        );
    }
}
