//! What there is to distribute: the topics of a group, and where their partitions lie.

use std::collections::BTreeMap;

use crate::{Str, TopicPartition};

/// The topics that anyone in a group subscribes to, how many partitions each has, and in which racks their
/// replicas are. A topic that does not exist (yet) is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupTopics {
    /// For each partition the racks of its replicas.
    topics: BTreeMap<Str, Vec<Vec<Str>>>,
}

impl GroupTopics {
    /// Adds a topic by the racks of the replicas of each of its partitions (KIP-881). A rack may be named more
    /// than once.
    pub fn insert(&mut self, topic: impl Into<Str>, racks: Vec<Vec<Str>>) {
        self.topics.insert(topic.into(), racks);
    }

    /// Whether the topic exists.
    pub fn contains(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// How many partitions a topic has: they are numbered from 0. 0 if it does not exist.
    pub fn partition_count(&self, topic: &str) -> usize {
        self.topics.get(topic).map_or(0, Vec::len)
    }

    /// The racks in which a partition has replicas. Empty if that is not known.
    pub fn racks(&self, partition: &TopicPartition) -> &[Str] {
        let index = usize::try_from(partition.partition).ok();
        let racks = self
            .topics
            .get(&partition.topic)
            .and_then(|topic| topic.get(index?));
        racks.map_or(&[], Vec::as_slice)
    }

    /// The topics with their numbers of partitions, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Str, usize)> {
        self.topics
            .iter()
            .map(|(topic, racks)| (topic, racks.len()))
    }

    /// All partitions, by topic and number.
    pub fn partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.iter().flat_map(|(topic, count)| {
            (0..count).map(|index| TopicPartition::new(topic.clone(), index as i32))
        })
    }
}

/// Topics with their numbers of partitions, without racks.
impl<S: Into<Str>> FromIterator<(S, usize)> for GroupTopics {
    fn from_iter<I: IntoIterator<Item = (S, usize)>>(topics: I) -> Self {
        let topics = topics.into_iter();
        Self {
            topics: topics
                .map(|(topic, count)| (topic.into(), vec![Vec::new(); count]))
                .collect(),
        }
    }
}
