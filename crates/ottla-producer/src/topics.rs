//! The topics this producer has sent to, as the sending threads see them.
//!
//! One immutable table, swapped whole when a topic is added or changes; a `send` reads it without a
//! lock. A partition is made once and lives in every later table.

use std::sync::Arc;

use hashbrown::HashMap;
use ottla_wire::{Str, Uuid};
use parking_lot::Mutex;

use crate::accumulator::{Line, PartitionQueue, Ratio};
use crate::error::TopicPartition;
use crate::partitioner::Sticky;
use crate::sender::Slot;

/// Topics by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topics {
    pub(crate) by_name: HashMap<Arc<str>, Arc<Topic>>,
}

/// A topic at one moment.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) shared: Arc<TopicShared>,
    /// The snapshot this was made from.
    pub(crate) seen: Arc<ottla_net::Topic>,
    /// By number.
    pub(crate) partitions: Vec<Arc<Partition>>,
    /// Every partition the topic ever had, by number. One that went away when the topic was made anew, and
    /// comes back, goes on where it was: two of the same number would use the same sequences.
    pub(crate) ever: Vec<Arc<Partition>>,
    /// Those with a leader, or all when none has one.
    pub(crate) available: Vec<u32>,
}

impl Topic {
    /// Another partition for records that may go anywhere.
    pub(crate) fn another(&self, than: u32) -> u32 {
        match self.available.as_slice() {
            [] => than,
            [only] => *only,
            several => {
                let chosen = fastrand::usize(..several.len());
                match several[chosen] == than {
                    false => several[chosen],
                    true => several[(chosen + 1) % several.len()],
                }
            }
        }
    }

    /// The partition that such records go to now.
    pub(crate) fn sticky(&self) -> u32 {
        let current = self.shared.sticky.current();
        let all = self.available.len() == self.partitions.len();
        if all || self.available.binary_search(&current).is_ok() {
            return current;
        }
        self.shared.sticky.move_on(current, self.another(current));
        self.shared.sticky.current()
    }
}

/// What stays of a topic while its snapshots change.
#[derive(Debug)]
pub(crate) struct TopicShared {
    pub(crate) name: Arc<str>,
    pub(crate) wire_name: Str,
    /// Zero when brokers tell none.
    pub(crate) id: Mutex<Uuid>,
    pub(crate) ratio: Ratio,
    pub(crate) sticky: Sticky,
}

/// Where threads that send and the broker's sender meet.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) topic: Arc<TopicShared>,
    pub(crate) at: TopicPartition,
    pub(crate) slot: Slot,
    pub(crate) front: Mutex<Front>,
}

#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) queue: PartitionQueue,
    /// Where to say that there is something to send.
    pub(crate) line: Arc<Line<Arc<Partition>>>,
    /// It was said, and nobody has looked since.
    pub(crate) told: bool,
    /// The partition's deadlines are being watched.
    pub(crate) watched: bool,
    /// The producer ended: nothing is taken any more.
    pub(crate) ended: bool,
}
