//! What Fetch and ShareFetch have in common: the partitions they read, and waiting until there is something in them.

use std::sync::Arc;
use std::time::Duration;

use ottla_wire::{ErrorCode, Uuid};
use tokio::sync::Notify;

use super::metadata::resolve;
use crate::cluster::Partition;
use crate::context::Context;

/// A partition that a request names, or why it cannot be read.
pub(super) type Found = Result<Arc<Partition>, ErrorCode>;

/// The partition of a topic that is named by id, if it has one.
pub(super) fn find(context: &Context, topic: &str, topic_id: Uuid, index: i32) -> Found {
    let topic = resolve(context, topic, topic_id)?;
    let partition = topic.partition(index).cloned();
    partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// Asks partitions to notify, until it is dropped: a request that waits may be given up, and nothing may ever be
/// appended that would make its partitions forget it.
pub(super) struct Waiting<'a, I: Iterator<Item = &'a Found> + Clone> {
    partitions: I,
    waiter: &'a Arc<Notify>,
}

impl<'a, I: Iterator<Item = &'a Found> + Clone> Waiting<'a, I> {
    pub(super) fn begin(partitions: I, waiter: &'a Arc<Notify>) -> Self {
        for partition in partitions.clone().flatten() {
            partition.state.lock().wait(waiter);
        }
        Self { partitions, waiter }
    }
}

impl<'a, I: Iterator<Item = &'a Found> + Clone> Drop for Waiting<'a, I> {
    fn drop(&mut self) {
        for partition in self.partitions.clone().flatten() {
            partition.state.lock().stop_waiting(self.waiter);
        }
    }
}

/// `fetch.max.bytes` of the broker, Kafka's default.
pub(super) const BYTES_MAX: usize = 55 << 20;

/// Nobody may park a request for longer.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(600);
