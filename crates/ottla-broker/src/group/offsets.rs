//! A group's committed offsets.

use std::collections::BTreeMap;

/// Offsets of one group, by topic and partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offsets {
    committed: BTreeMap<(String, i32), Committed>,
}

/// One committed offset with what came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
    pub(crate) commit_time_ms: i64,
}

impl Offsets {
    pub(crate) fn commit(&mut self, topic: &str, partition: i32, committed: Committed) {
        self.committed
            .insert((topic.to_owned(), partition), committed);
    }

    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.committed.get(&(topic.to_owned(), partition))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, i32, &Committed)> {
        self.committed
            .iter()
            .map(|((topic, partition), committed)| (topic.as_str(), *partition, committed))
    }

    /// Removes one partition's offset; whether there was one.
    pub(crate) fn remove(&mut self, topic: &str, partition: i32) -> bool {
        self.committed
            .remove(&(topic.to_owned(), partition))
            .is_some()
    }

    /// Removes what `keep` does not want; whether there was any.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str, &Committed) -> bool) -> bool {
        let before = self.committed.len();
        self.committed
            .retain(|(topic, _), committed| keep(topic, committed));
        self.committed.len() < before
    }

    /// Removes every offset of a topic that is gone; whether there was any.
    pub(crate) fn remove_topic(&mut self, topic: &str) -> bool {
        self.retain(|name, _| name != topic)
    }
}
