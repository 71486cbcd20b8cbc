//! What a consumer has done and where it stands, in numbers.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ottla_net::{Histogram, Recorder};

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
    /// Bytes of batches that a fetch brought, still compressed, per fetch that brought some. They add up to
    /// [`fetched_bytes`](Self::fetched_bytes).
    pub fetch_size: Histogram,
    /// From sending a fetch to its answer, in microseconds, per fetch that brought records: how fast brokers are, for a reader
    /// that lags behind. One that has caught up waits here for the next record, for up to `fetch.max.wait.ms`; what
    /// waited in vain does not count.
    pub fetch_latency: Histogram,
    /// Commits the coordinator has accepted.
    pub commits: u64,
    /// Commits that were refused, or not answered in time.
    pub commit_failures: u64,
    /// From asking for a commit to its acceptance, in microseconds, per accepted commit: what came before it, and what had to
    /// be tried again, included.
    pub commit_latency: Histogram,
    /// Assignments that the group gave this member.
    pub rebalances: u64,
    /// The time from joining to the assignment, in all; where partitions are given up first, from then on.
    pub rebalance_time: Duration,
    /// The same, in microseconds, per rebalance. One that the coordinator made without this member's joining or giving up
    /// anything took no time, and does not count.
    pub rebalance_latency: Histogram,
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
    pub(crate) fetch_micros: AtomicU64,
    pub(crate) fetch_size: Recorder,
    pub(crate) fetch_latency: Recorder,
    pub(crate) commit_latency: Recorder,
    pub(crate) commit_failures: AtomicU64,
    pub(crate) rebalances: AtomicU64,
    pub(crate) rebalance_latency: Recorder,
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
        let fetch_size = self.fetch_size.snapshot();
        let commit_latency = self.commit_latency.snapshot();
        let rebalance_latency = self.rebalance_latency.snapshot();
        ConsumerMetrics {
            polls,
            fetches: of(&self.fetches),
            fetch_failures: of(&self.fetch_failures),
            fetched_bytes: fetch_size.sum(),
            fetch_time: Duration::from_micros(of(&self.fetch_micros)),
            fetch_size,
            fetch_latency: self.fetch_latency.snapshot(),
            commits: commit_latency.count(),
            commit_failures: of(&self.commit_failures),
            commit_latency,
            rebalances: of(&self.rebalances),
            rebalance_time: Duration::from_micros(rebalance_latency.sum()),
            rebalance_latency,
            partitions_assigned: of(&self.partitions_assigned),
            partitions_revoked: of(&self.partitions_revoked),
            partitions_lost: of(&self.partitions_lost),
            heartbeats: of(&self.heartbeats),
            partitions,
        }
    }
}
