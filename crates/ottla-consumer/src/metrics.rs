//! What a consumer has done and where it stands, in numbers.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{TopicPartition, Watermarks};

/// A snapshot of a consumer, from [`Consumer::metrics`](crate::Consumer::metrics). Counts begin with the consumer and only
/// rise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerMetrics {
    /// Calls for records.
    pub polls: u64,
    /// Fetches that were answered.
    pub fetches: u64,
    /// Fetches that were not.
    pub fetch_failures: u64,
    /// Bytes of batches fetched, still compressed.
    pub fetched_bytes: u64,
    /// The time from sending fetches to their answers, in all. Includes what brokers waited for data.
    pub fetch_time: Duration,
    /// Commits the coordinator has accepted.
    pub commits: u64,
    /// Commits that were refused, or not answered in time.
    pub commit_failures: u64,
    /// Assignments that the group gave this member.
    pub rebalances: u64,
    /// The time from joining to the assignment, in all.
    pub rebalance_time: Duration,
    /// Partitions that the group gave, took away, and took without asking.
    pub partitions_assigned: u64,
    /// Partitions given up in rebalances.
    pub partitions_revoked: u64,
    /// Partitions lost.
    pub partitions_lost: u64,
    /// Heartbeats that were answered.
    pub heartbeats: u64,
    /// The partitions that are read now, by name.
    pub partitions: Vec<PartitionMetrics>,
}

/// Of a partition that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionMetrics {
    /// Its name.
    pub partition: TopicPartition,
    /// The offset of the next record to hand out, once it is known.
    pub position: Option<i64>,
    /// How many offsets that is behind the end of the log, or behind the last stable offset for a reader of committed
    /// records.
    pub lag: Option<i64>,
    /// The ends of its log, as the latest fetch told them.
    pub watermarks: Option<Watermarks>,
    /// Bytes of it that wait to be handed out.
    pub queued_bytes: usize,
    /// Whether the application has paused it.
    pub paused: bool,
}

/// Where the consumer's tasks count.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) fetches: AtomicU64,
    pub(crate) fetch_failures: AtomicU64,
    pub(crate) fetched_bytes: AtomicU64,
    pub(crate) fetch_micros: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) commit_failures: AtomicU64,
    pub(crate) rebalances: AtomicU64,
    pub(crate) rebalance_micros: AtomicU64,
    pub(crate) partitions_assigned: AtomicU64,
    pub(crate) partitions_revoked: AtomicU64,
    pub(crate) partitions_lost: AtomicU64,
    pub(crate) heartbeats: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_time(counter: &AtomicU64, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        counter.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(
        &self,
        polls: u64,
        partitions: Vec<PartitionMetrics>,
    ) -> ConsumerMetrics {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ConsumerMetrics {
            polls,
            fetches: of(&self.fetches),
            fetch_failures: of(&self.fetch_failures),
            fetched_bytes: of(&self.fetched_bytes),
            fetch_time: Duration::from_micros(of(&self.fetch_micros)),
            commits: of(&self.commits),
            commit_failures: of(&self.commit_failures),
            rebalances: of(&self.rebalances),
            rebalance_time: Duration::from_micros(of(&self.rebalance_micros)),
            partitions_assigned: of(&self.partitions_assigned),
            partitions_revoked: of(&self.partitions_revoked),
            partitions_lost: of(&self.partitions_lost),
            heartbeats: of(&self.heartbeats),
            partitions,
        }
    }
}
