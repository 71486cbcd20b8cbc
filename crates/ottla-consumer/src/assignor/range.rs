//! `range`: each topic's partitions in contiguous ranges, so that topics with equal partition
//! counts are read by the same members (which joins of streams rely on).
//!
//! With racks (KIP-881) a member first gets partitions that have a replica in its rack; topics that the same
//! members read and that have the same number of partitions stay together also then.

use std::collections::BTreeMap;

use super::{Assignor, GroupTopics, Member, in_order, racks};
use crate::{Str, TopicPartition};

/// The `range` assignor, Java's and librdkafka's default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Range;

impl Assignor for Range {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, topics: &GroupTopics, members: &[Member]) -> Vec<Vec<TopicPartition>> {
        let order = in_order(members);
        let mut states: Vec<Topic<'_>> = topics
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| Topic::new(topics, name, count, members, &order))
            .filter(|topic| !topic.readers.is_empty())
            .collect();
        let mut assignment = vec![Vec::new(); members.len()];
        let heeds_racks = states.iter().any(|topic| topic.heeds_racks);
        if heeds_racks {
            match_racks(&mut states, &mut assignment);
        }
        for topic in &mut states {
            topic.assign_ranges(&mut assignment, |_, _, _| true);
        }
        if heeds_racks {
            for partitions in &mut assignment {
                partitions.sort();
            }
        }
        assignment
    }
}

/// One topic, while its partitions are distributed.
struct Topic<'a> {
    name: &'a Str,
    members: &'a [Member],
    /// Who subscribes to it, in the order in which they are served.
    readers: Vec<usize>,
    /// The racks of each partition's replicas, if any reader has a rack.
    racks: Option<Vec<&'a [Str]>>,
    heeds_racks: bool,
    unassigned: Vec<bool>,
    /// How many each member has got.
    got: BTreeMap<usize, usize>,
    each: usize,
    /// How many readers get one more than `each`, and have not yet.
    extra: usize,
}

impl<'a> Topic<'a> {
    fn new(
        topics: &'a GroupTopics,
        name: &'a Str,
        count: usize,
        members: &'a [Member],
        order: &[usize],
    ) -> Self {
        let readers: Vec<usize> = order
            .iter()
            .copied()
            .filter(|&member| members[member].subscribes(name))
            .collect();
        let reader_racks = || readers.iter().filter_map(|&m| members[m].known_rack());
        let racks = reader_racks().next().is_some().then(|| {
            let partitions = (0..count as i32).map(|p| TopicPartition::new(name.clone(), p));
            partitions
                .map(|partition| topics.racks(&partition))
                .collect::<Vec<_>>()
        });
        let heeds_racks = racks
            .as_ref()
            .is_some_and(|of| racks::matter(reader_racks(), of.iter().copied()));
        Self {
            name,
            members,
            each: count.checked_div(readers.len()).unwrap_or(0),
            extra: count.checked_rem(readers.len()).unwrap_or(0),
            readers,
            racks,
            heeds_racks,
            unassigned: vec![true; count],
            got: BTreeMap::new(),
        }
    }

    /// Gives each reader as many as it is due, of those it may have.
    fn assign_ranges(
        &mut self,
        assignment: &mut [Vec<TopicPartition>],
        may_have: impl Fn(&Self, usize, usize) -> bool,
    ) {
        for member in self.readers.clone() {
            let mine: Vec<usize> = (0..self.unassigned.len())
                .filter(|&partition| {
                    self.unassigned[partition] && may_have(self, member, partition)
                })
                .take(self.due(member))
                .collect();
            self.give(member, &mine, assignment);
        }
    }

    fn give(&mut self, member: usize, mine: &[usize], assignment: &mut [Vec<TopicPartition>]) {
        if mine.is_empty() {
            return;
        }
        let got = self.got.entry(member).or_default();
        *got += mine.len();
        if *got > self.each {
            self.extra = self.extra.saturating_sub(1);
        }
        for &partition in mine {
            self.unassigned[partition] = false;
            assignment[member].push(TopicPartition::new(self.name.clone(), partition as i32));
        }
    }

    fn due(&self, member: usize) -> usize {
        let got = self.got.get(&member).copied().unwrap_or(0);
        (self.each + usize::from(self.extra > 0)).saturating_sub(got)
    }

    /// Whether a member is near a partition; one without a rack is near to all.
    fn is_near(&self, member: usize, partition: usize) -> bool {
        let Some(rack) = self.members[member].known_rack() else {
            return true;
        };
        let racks = self.racks.as_ref().and_then(|racks| racks.get(partition));
        racks.is_some_and(|racks| racks.contains(rack))
    }
}

/// Gives each member what is near it. Topics with the same readers and as many partitions are treated as one.
fn match_racks(states: &mut [Topic<'_>], assignment: &mut [Vec<TopicPartition>]) {
    let mut alike: BTreeMap<(Vec<usize>, usize), Vec<usize>> = BTreeMap::new();
    for (index, topic) in states.iter().enumerate() {
        let count = topic.racks.as_ref().map_or(0, Vec::len);
        let key = (topic.readers.clone(), count);
        alike.entry(key).or_default().push(index);
    }
    for ((readers, count), together) in alike {
        if let [alone] = *together {
            if states[alone].heeds_racks {
                states[alone].assign_ranges(assignment, Topic::is_near);
            }
            continue;
        }
        let mut left = readers;
        for partition in 0..count {
            let suits = |member: usize| {
                together.iter().all(|&topic| {
                    states[topic].is_near(member, partition) && states[topic].due(member) > 0
                })
            };
            let Some(member) = left.iter().copied().find(|&member| suits(member)) else {
                continue;
            };
            for &topic in &together {
                states[topic].give(member, &[partition], assignment);
            }
            if together.iter().all(|&topic| states[topic].due(member) == 0) {
                left.retain(|&other| other != member);
            }
        }
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

    #[test]
    fn members_read_in_their_rack_and_topics_stay_together() {
        let mut topics = GroupTopics::default();
        let rack = |rack: &str| vec![Str::from(rack.to_owned())];
        topics.insert("a", vec![rack("east"), rack("west")]);
        let mut members = [member("c1", &["a", "b"]), member("c2", &["a", "b"])];
        members[0].rack = Some("west".into());
        members[1].rack = Some("east".into());
        let alone = Range.assign(&topics, &members);
        assert_eq!(assigned(&alone[0]), ["a-1"]);
        // No member is near partition 1 of both, so that the plain ranges decide about it.
        topics.insert("b", vec![rack("east"), rack("east")]);
        let together = Range.assign(&topics, &members);
        assert_eq!(assigned(&together[0]), ["a-1", "b-1"]);
        assert_eq!(assigned(&together[1]), ["a-0", "b-0"]);
    }
}
