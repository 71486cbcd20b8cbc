//! `-e` and `e@MS`: which partitions have been read to their end.

use std::collections::{HashMap, HashSet};

use ottla::consumer::{Consumer, TopicPartition};

use crate::exit::Failure;

/// Where each partition ends, and how far it has been read.
#[derive(Debug)]
pub(crate) struct Ends {
    /// Whether ends matter at all.
    wanted: bool,
    /// What was the end when the partition was first met.
    ends: HashMap<TopicPartition, i64>,
    positions: HashMap<TopicPartition, i64>,
    /// Read up to the time to stop at.
    in_time: HashSet<TopicPartition>,
}

impl Ends {
    pub(crate) fn new(wanted: bool) -> Ends {
        Ends {
            wanted,
            ends: HashMap::new(),
            positions: HashMap::new(),
            in_time: HashSet::new(),
        }
    }

    /// Finds the ends of partitions that were not met before.
    pub(crate) async fn find(
        &mut self,
        consumer: &Consumer,
        partitions: impl IntoIterator<Item = &TopicPartition>,
    ) -> Result<(), Failure> {
        if !self.wanted {
            return Ok(());
        }
        let known = |p: &&TopicPartition| self.ends.contains_key(*p);
        let new: Vec<_> = partitions
            .into_iter()
            .filter(|p| !known(p))
            .cloned()
            .collect();
        if !new.is_empty() {
            let found = consumer.end_offsets(&new).await;
            self.ends.extend(found?);
        }
        Ok(())
    }

    /// Whether a record is behind what was the end.
    pub(crate) fn is_past(&self, partition: &TopicPartition, offset: i64) -> bool {
        self.ends.get(partition).is_some_and(|end| offset >= *end)
    }

    /// The partition has been read up to here.
    pub(crate) fn advance(&mut self, partition: &TopicPartition, position: i64) {
        if self.wanted {
            match self.positions.get_mut(partition) {
                Some(known) => *known = position.max(*known),
                None => {
                    self.positions.insert(partition.clone(), position);
                }
            }
        }
    }

    /// The partition has come to the time to stop at.
    pub(crate) fn reach_time(&mut self, partition: &TopicPartition) {
        self.in_time.insert(partition.clone());
    }

    pub(crate) fn is_past_time(&self, partition: &TopicPartition) -> bool {
        !self.in_time.is_empty() && self.in_time.contains(partition)
    }

    /// Whether all of these have been read to their end.
    pub(crate) fn reached(&self, partitions: &[TopicPartition]) -> bool {
        partitions.iter().all(|p| {
            let at_end = match (self.ends.get(p), self.positions.get(p)) {
                // Nothing to read, so nothing ever moves the position.
                (Some(0), _) => true,
                (Some(end), Some(position)) => position >= end,
                _ => false,
            };
            at_end || self.in_time.contains(p)
        })
    }

    /// Whether it is worth asking whether all is read: without looking at the assignment, cheaply.
    pub(crate) fn all_reached(&self) -> bool {
        if !self.wanted {
            return !self.in_time.is_empty();
        }
        !self.ends.is_empty()
            && self.ends.iter().all(|(p, end)| {
                *end == 0
                    || self.in_time.contains(p)
                    || self
                        .positions
                        .get(p)
                        .is_some_and(|position| position >= end)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(n: i32) -> TopicPartition {
        TopicPartition::new("t", n)
    }

    fn ends(of: &[(i32, i64)]) -> Ends {
        let mut ends = Ends::new(true);
        ends.ends = of.iter().map(|(p, end)| (partition(*p), *end)).collect();
        ends
    }

    #[test]
    fn an_empty_partition_is_at_its_end() {
        assert!(ends(&[(0, 0)]).reached(&[partition(0)]));
        assert!(ends(&[(0, 0)]).all_reached());
    }

    #[test]
    fn every_partition_must_be_read() {
        let mut ends = ends(&[(0, 10), (1, 5)]);
        ends.advance(&partition(0), 10);
        assert!(!ends.reached(&[partition(0), partition(1)]) && !ends.all_reached());
        ends.advance(&partition(1), 4);
        assert!(!ends.all_reached());
        ends.advance(&partition(1), 7);
        ends.advance(&partition(1), 2);
        assert!(ends.reached(&[partition(0), partition(1)]) && ends.all_reached());
        // One that was taken over since has not been read.
        assert!(!ends.reached(&[partition(0), partition(2)]));
    }

    #[test]
    fn a_time_ends_a_partition_too() {
        let mut ends = ends(&[(0, 10), (1, 5)]);
        ends.advance(&partition(0), 10);
        ends.reach_time(&partition(1));
        assert!(ends.all_reached() && ends.is_past_time(&partition(1)));
        assert!(ends.is_past(&partition(0), 10) && !ends.is_past(&partition(0), 9));
    }
}
