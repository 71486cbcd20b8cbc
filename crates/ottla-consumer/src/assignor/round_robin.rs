//! `roundrobin`: all partitions of all topics dealt out one by one.

use super::{Assignor, GroupTopics, Member, in_order};
use crate::TopicPartition;

/// The `roundrobin` assignor: the most even one when all members subscribe to the same topics.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoundRobin;

impl Assignor for RoundRobin {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn assign(&self, topics: &GroupTopics, members: &[Member]) -> Vec<Vec<TopicPartition>> {
        let mut assignment = vec![Vec::new(); members.len()];
        let order = in_order(members);
        let mut turn = 0;
        for (topic, count) in topics.iter() {
            if !members.iter().any(|member| member.subscribes(topic)) {
                continue;
            }
            for partition in 0..count as i32 {
                // Ends: someone subscribes to the topic.
                while !members[order[turn % order.len()]].subscribes(topic) {
                    turn += 1;
                }
                assignment[order[turn % order.len()]]
                    .push(TopicPartition::new(topic.clone(), partition));
                turn += 1;
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
    fn partitions_are_dealt_across_topics() {
        let topics = topics(&[("a", 3), ("b", 3)]);
        let members = [member("c1", &["a", "b"]), member("c2", &["a", "b"])];
        let assignment = RoundRobin.assign(&topics, &members);
        assert_eq!(assigned(&assignment[0]), ["a-0", "a-2", "b-1"]);
        assert_eq!(assigned(&assignment[1]), ["a-1", "b-0", "b-2"]);
    }

    #[test]
    fn members_that_do_not_subscribe_are_passed_over() {
        let topics = topics(&[("a", 1), ("b", 2), ("c", 3)]);
        let members = [
            member("c1", &["a"]),
            member("c2", &["a", "b"]),
            member("c3", &["a", "b", "c"]),
        ];
        let assignment = RoundRobin.assign(&topics, &members);
        assert_eq!(assigned(&assignment[0]), ["a-0"]);
        assert_eq!(assigned(&assignment[1]), ["b-0"]);
        assert_eq!(assigned(&assignment[2]), ["b-1", "c-0", "c-1", "c-2"]);
    }
}
