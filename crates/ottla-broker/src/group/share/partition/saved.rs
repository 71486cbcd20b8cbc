//! What is known of a partition of a share group, as a data directory keeps it.

use std::sync::Arc;

use ottla_wire::Uuid;
use serde::{Deserialize, Serialize, Serializer};

use super::{SharePartition, State};

/// All but who has acquired what: that ends with the process, and the record is as it was before.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedSharePartition {
    topic: String,
    partition: i32,
    state_epoch: i32,
    start: i64,
    next: i64,
    /// From `start` to `next`, first and last offset of what is available, and how often it was delivered; in order. What
    /// lies between is done with.
    available: Vec<(i64, i64, i16)>,
}

/// Made once for as long as nothing changes: a group is written often, most of its partitions change seldom.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "SavedSharePartition")]
pub(crate) struct Kept(Arc<SavedSharePartition>);

impl From<SavedSharePartition> for Kept {
    fn from(saved: SavedSharePartition) -> Self {
        Self(Arc::new(saved))
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Kept {
    /// Topic and partition; none if the topic's id is no id.
    pub(crate) fn id(&self) -> Option<(Uuid, i32)> {
        Some((self.0.topic.parse().ok()?, self.0.partition))
    }

    /// The partition as it was, as far as the log, which begins and ends at `log`, has its records.
    ///
    /// # Errors
    /// If that is not how a partition can be.
    pub(crate) fn restore(&self, log: (i64, i64)) -> Result<SharePartition, String> {
        let saved = &*self.0;
        if saved.start < 0 || saved.next < saved.start {
            return Err(format!(
                "partition {} of topic {} begins at {} and ends at {}",
                saved.partition, saved.topic, saved.start, saved.next
            ));
        }
        let mut partition = SharePartition::new(saved.start, saved.state_epoch);
        let mut behind = saved.start;
        for (first, last, deliveries) in &saved.available {
            if *first < behind || last < first || *last >= saved.next || *deliveries < 0 {
                return Err(format!(
                    "offsets {first} to {last} of partition {} of topic {} cannot be there",
                    saved.partition, saved.topic
                ));
            }
            behind = *last + 1;
            let deliveries = *deliveries;
            // No more than the log has.
            for offset in (*first).max(log.0)..=(*last).min(log.1 - 1) {
                let state = State::Available { deliveries };
                partition.states.insert(offset, state);
            }
        }
        partition.next = saved.next;
        partition.advance_start();
        partition.truncate(log.0);
        partition.cut(log.1);
        Ok(partition)
    }
}

impl SharePartition {
    /// How to keep it.
    pub(crate) fn keep(&mut self, (topic, partition): (Uuid, i32)) -> Kept {
        if let Some(kept) = &self.kept {
            return kept.clone();
        }
        let mut available: Vec<(i64, i64, i16)> = Vec::new();
        for (offset, state) in &self.states {
            let deliveries = match state {
                State::Available { deliveries } => *deliveries,
                State::Acquired { deliveries, .. } => deliveries - 1,
            };
            match available.last_mut() {
                Some(run) if run.1 + 1 == *offset && run.2 == deliveries => run.1 = *offset,
                _ => available.push((*offset, *offset, deliveries)),
            }
        }
        let mut next = self.next;
        // What was not delivered yet need not be named at the end.
        if let Some((first, last, 0)) = available.last().copied()
            && last + 1 == next
        {
            next = first;
            available.pop();
        }
        let kept = Kept::from(SavedSharePartition {
            topic: topic.to_string(),
            partition,
            state_epoch: self.state_epoch,
            start: self.start,
            next,
            available,
        });
        self.kept = Some(kept.clone());
        kept
    }

    /// Whether it is not as it was when it was kept last.
    pub(crate) fn is_unkept(&self) -> bool {
        self.kept.is_none()
    }
}
