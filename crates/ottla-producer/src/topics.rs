//! The topics this producer has sent to, as the sending threads see them.
//!
//! One immutable table, swapped whole when a topic is added or changes; a `send` reads it without a
//! lock. A partition is made once and lives in every later table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashMap;
use ottla_wire::{Str, Uuid};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::accumulator::{Line, PartitionQueue, Ratio};
use crate::adapting::Adapting;
use crate::error::TopicPartition;
use crate::partitioner::{BrokerHealth, Sticky, adaptive};
use crate::sender::Slot;
use crate::topic_config::TopicSettings;

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
    /// Where records may go that may go anywhere: the partitions with a leader (in our rack, if that is preferred
    /// and has any), or all when none has one.
    pub(crate) available: Vec<u32>,
    /// The leaders of [`available`](Self::available).
    pub(crate) health: Vec<Option<Arc<BrokerHealth>>>,
}

impl Topic {
    /// The partition to move on to for records that may go anywhere.
    pub(crate) fn another(&self, than: u32, adapting: Adapting) -> u32 {
        let count = self.available.len();
        match self.available.as_slice() {
            [] => than,
            [only] => *only,
            several if !adapting.enabled => {
                let chosen = fastrand::usize(..count);
                match several[chosen] == than {
                    false => several[chosen],
                    true => several[(chosen + 1) % count],
                }
            }
            several => {
                let timeout = adapting.availability_timeout;
                let now = (!timeout.is_zero()).then(Instant::now);
                let load = |index: usize| {
                    let health = self.health[index].as_ref();
                    if now
                        .zip(health)
                        .is_some_and(|(now, health)| health.is_stuck(now, timeout))
                    {
                        return None;
                    }
                    let partition = &self.partitions[several[index] as usize];
                    Some(partition.load.load(Ordering::Relaxed))
                };
                let (start, random) = (fastrand::usize(..count), fastrand::f64());
                several[adaptive::choose(count, start, random, load)]
            }
        }
    }

    /// The partition that such records go to now.
    pub(crate) fn sticky(&self, adapting: Adapting) -> u32 {
        let current = self.shared.sticky.current();
        let all = self.available.len() == self.partitions.len();
        if all || self.available.binary_search(&current).is_ok() {
            return current;
        }
        let other = self.another(current, adapting);
        self.shared.sticky.move_on(current, other);
        self.shared.sticky.current()
    }

    /// The next partition in turn.
    pub(crate) fn next_in_turn(&self) -> u32 {
        let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed) as usize;
        match self.available.as_slice() {
            [] => 0,
            several => several[turn % several.len()],
        }
    }
}

/// What stays of a topic while its snapshots change.
#[derive(Debug)]
pub(crate) struct TopicShared {
    pub(crate) name: Arc<str>,
    pub(crate) wire_name: Str,
    /// Zero when brokers tell none.
    pub(crate) id: Mutex<Uuid>,
    pub(crate) settings: TopicSettings,
    pub(crate) ratio: Ratio,
    pub(crate) sticky: Sticky,
    /// Whose turn it is (`round_robin`).
    pub(crate) turn: AtomicU32,
}

/// Where threads that send and the broker's sender meet.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) topic: Arc<TopicShared>,
    pub(crate) at: TopicPartition,
    pub(crate) slot: Slot,
    /// Batches whose outcome is open.
    pub(crate) load: Arc<AtomicU32>,
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
