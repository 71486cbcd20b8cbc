//! What a share consumer has done and where it stands, in numbers.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ottla_net::{Histogram, Recorder};

use super::acknowledge::AcknowledgeType;
use crate::TopicPartition;

/// A snapshot of a share consumer, from [`ShareConsumer::metrics`](crate::ShareConsumer::metrics). Counts begin with the
/// consumer and only rise; those of acknowledgements count records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShareConsumerMetrics {
    /// Calls for records.
    pub polls: u64,
    /// ShareFetches that were answered.
    pub fetches: u64,
    /// ShareFetches and ShareAcknowledges that were not.
    pub failures: u64,
    /// Bytes of batches fetched, still compressed: also of records in them that others have acquired.
    pub fetched_bytes: u64,
    /// The time from sending ShareFetches to their answers, in all. Includes what brokers waited for records.
    pub fetch_time: Duration,
    /// Bytes of batches that a ShareFetch brought, still compressed, per ShareFetch that brought some. They add up to
    /// [`fetched_bytes`](Self::fetched_bytes).
    pub fetch_size: Histogram,
    /// From sending a ShareFetch to its answer, in microseconds, per ShareFetch that brought records: how fast brokers are,
    /// while there are records to acquire. Otherwise the first one is waited for here, for up to `fetch.max.wait.ms`;
    /// what waited in vain does not count.
    pub fetch_latency: Histogram,
    /// Heartbeats that were answered.
    pub heartbeats: u64,
    /// Records handed out.
    pub records: u64,
    /// Of those, how many had been handed to some member before (a delivery count above 1).
    pub records_redelivered: u64,
    /// The largest delivery count of all.
    pub delivery_count_max: i16,
    /// Records whose acceptance is stored.
    pub accepted: u64,
    /// Records that came to be handed out again: what the application released, and what could not be read.
    pub released: u64,
    /// Records whose rejection is stored.
    pub rejected: u64,
    /// Records whose lock began anew.
    pub renewed: u64,
    /// Records whose acknowledgement was refused, or was not answered.
    pub acknowledge_failures: u64,
    /// From sending a request with acknowledgements to its answer, in microseconds, per request. Those that a ShareFetch takes
    /// along are answered with it, when it has found records or waited for them.
    pub acknowledge_latency: Histogram,
    /// Records that are handed out and not acknowledged, as far as their locks have not timed out.
    pub records_held: u64,
    /// The partitions that this member is to read now, by name.
    pub partitions: Vec<TopicPartition>,
}

/// What the core counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) redelivered: u64,
    pub(super) delivery_count_max: i16,
    /// By type, beginning with [`AcknowledgeType::Accept`].
    acknowledged: [u64; 4],
    failures: u64,
}

impl Tally {
    /// So many records of this type were acknowledged, or were not. Gaps are no records.
    pub(super) fn acknowledge(&mut self, kind: i8, records: u64, stored: bool) {
        let index = kind - AcknowledgeType::Accept as i8;
        let Some(counter) = usize::try_from(index)
            .ok()
            .and_then(|index| self.acknowledged.get_mut(index))
        else {
            return;
        };
        let counter = match stored {
            true => counter,
            false => &mut self.failures,
        };
        // A broker may have handed over more offsets than there can be.
        *counter = counter.saturating_add(records);
    }
}

/// Where the tasks count.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) polls: AtomicU64,
    pub(super) fetches: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) fetch_micros: AtomicU64,
    pub(super) fetch_size: Recorder,
    pub(super) fetch_latency: Recorder,
    pub(super) acknowledge_latency: Recorder,
    pub(super) heartbeats: AtomicU64,
}

impl Counters {
    pub(super) fn snapshot(
        &self,
        tally: Tally,
        records_held: u64,
        partitions: Vec<TopicPartition>,
    ) -> ShareConsumerMetrics {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let fetch_size = self.fetch_size.snapshot();
        let [accepted, released, rejected, renewed] = tally.acknowledged;
        ShareConsumerMetrics {
            polls: of(&self.polls),
            fetches: of(&self.fetches),
            failures: of(&self.failures),
            fetched_bytes: fetch_size.sum(),
            fetch_time: Duration::from_micros(of(&self.fetch_micros)),
            fetch_size,
            fetch_latency: self.fetch_latency.snapshot(),
            heartbeats: of(&self.heartbeats),
            records: tally.records,
            records_redelivered: tally.redelivered,
            delivery_count_max: tally.delivery_count_max,
            accepted,
            released,
            rejected,
            renewed,
            acknowledge_failures: tally.failures,
            acknowledge_latency: self.acknowledge_latency.snapshot(),
            records_held,
            partitions,
        }
    }
}
