//! What a producer has done so far, in figures.
//!
//! Owns the counters. They are counted per batch and per request, by whoever settles or sends one, and
//! read in one [snapshot](ProducerMetrics); nothing is counted per record, and nothing is sent anywhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use ottla_net::Histogram;
use ottla_net::Recorder;

use crate::delivery::Outcome;
use crate::error::SendError;

/// Figures of one producer as of one moment, all since it was made. From
/// [`Producer::metrics`](crate::Producer::metrics).
///
/// They are read one after the other while the producer works, so two of them may be a batch apart.
///
/// ```no_run
/// # fn example(producer: &ottla_producer::Producer) {
/// let metrics = producer.metrics();
/// println!(
///     "{} records written, {} failed, p99 {:?}, compressed to {:.0}%",
///     metrics.records_delivered,
///     metrics.records_failed,
///     metrics.delivery_latency.time(0.99),
///     metrics.compression_ratio() * 100.0,
/// );
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProducerMetrics {
    /// Records that `send` and `try_send` accepted.
    pub records_accepted: u64,
    /// Records that were acknowledged, or with `acks=0` handed to the connection.
    pub records_delivered: u64,
    /// Records that failed, those possibly written among them.
    pub records_failed: u64,
    /// Records that failed and may be in the log nevertheless.
    pub records_possibly_written: u64,
    /// Bytes of `buffer.memory` in use.
    pub buffered_bytes: usize,
    /// Callers that wait for room in the buffer.
    pub waiting_callers: usize,
    /// Batches that were acknowledged.
    pub batches_delivered: u64,
    /// Batches that failed.
    pub batches_failed: u64,
    /// Batches that a broker found too large, and that went on in pieces.
    pub batches_split: u64,
    /// Times a batch was sent again.
    pub retries: u64,
    /// Bytes of sealed batches before compression.
    pub plain_bytes: u64,
    /// Bytes of the same batches as they were sent.
    pub sealed_bytes: u64,
    /// Produce requests that left.
    pub requests_sent: u64,
    /// Produce requests that got no answer.
    pub requests_failed: u64,
    /// How long brokers had the producer wait for its quota, in all.
    pub throttled: Duration,
    /// From a batch's first record to its acknowledgement, in microseconds, per batch.
    pub delivery_latency: Histogram,
    /// From a batch's first record until it was first sent, in microseconds, per batch: lingering and waiting
    /// for a free request.
    pub queue_latency: Histogram,
    /// From sending a request to its answer, in microseconds, per request.
    pub request_latency: Histogram,
    /// Bytes of delivered batches as they were sent, per batch.
    pub batch_bytes: Histogram,
    /// Records of delivered batches, per batch.
    pub batch_records: Histogram,
}

impl ProducerMetrics {
    /// Bytes sent per byte before compression; 1 before anything was sealed.
    pub fn compression_ratio(&self) -> f64 {
        match self.plain_bytes {
            0 => 1.0,
            plain => self.sealed_bytes as f64 / plain as f64,
        }
    }

    /// Records whose outcome is open.
    pub fn records_outstanding(&self) -> u64 {
        let settled = self.records_delivered + self.records_failed;
        self.records_accepted.saturating_sub(settled)
    }
}

/// Where one producer counts.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    records_delivered: AtomicU64,
    records_failed: AtomicU64,
    records_possibly_written: AtomicU64,
    batches_delivered: AtomicU64,
    batches_failed: AtomicU64,
    batches_split: AtomicU64,
    retries: AtomicU64,
    plain_bytes: AtomicU64,
    sealed_bytes: AtomicU64,
    requests_sent: AtomicU64,
    requests_failed: AtomicU64,
    throttled_ms: AtomicU64,
    delivery_latency: Recorder,
    queue_latency: Recorder,
    request_latency: Recorder,
    batch_bytes: Recorder,
    batch_records: Recorder,
}

impl Meters {
    /// A batch of `records`, and of `bytes` on the wire, has its outcome.
    pub(crate) fn settled(&self, records: u32, bytes: usize, outcome: &Outcome) {
        match outcome {
            Outcome::Written(written) => {
                add(&self.batches_delivered, 1);
                self.delivery_latency.add_time(written.latency);
                self.queue_latency.add_time(written.queued);
                self.batch_bytes.add(bytes as u64);
                self.batch_records.add(u64::from(records));
                // Last: who sees them counted finds the rest counted, too.
                self.records_delivered
                    .fetch_add(u64::from(records), Ordering::Release);
            }
            Outcome::Failed { error, .. } => {
                add(&self.batches_failed, 1);
                if matches!(error, SendError::PossiblyWritten { .. }) {
                    add(&self.records_possibly_written, u64::from(records));
                }
                self.records_failed
                    .fetch_add(u64::from(records), Ordering::Release);
            }
            Outcome::Split(_) => add(&self.batches_split, 1),
        }
    }

    /// A batch was sealed.
    pub(crate) fn sealed(&self, plain: usize, sealed: usize) {
        add(&self.plain_bytes, plain as u64);
        add(&self.sealed_bytes, sealed as u64);
    }

    /// A request with `retries` batches that were sent before leaves.
    pub(crate) fn request_sent(&self, retries: usize) {
        add(&self.requests_sent, 1);
        add(&self.retries, retries as u64);
    }

    /// A broker answered a request after `latency`, and has us wait for `throttle_ms`.
    pub(crate) fn request_answered(&self, latency: Duration, throttle_ms: i32) {
        self.request_latency.add_time(latency);
        add(&self.throttled_ms, u64::try_from(throttle_ms).unwrap_or(0));
    }

    pub(crate) fn request_failed(&self) {
        add(&self.requests_failed, 1);
    }

    /// Records whose outcome is known.
    pub(crate) fn records_settled(&self) -> u64 {
        let delivered = self.records_delivered.load(Ordering::Acquire);
        delivered + self.records_failed.load(Ordering::Acquire)
    }

    /// All figures but for those of the buffer, which are not counted here.
    pub(crate) fn snapshot(&self, records_accepted: impl FnOnce() -> u64) -> ProducerMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        // Before what was accepted: no more can be settled than that.
        let (delivered, failed) = (read(&self.records_delivered), read(&self.records_failed));
        ProducerMetrics {
            records_accepted: records_accepted(),
            records_delivered: delivered,
            records_failed: failed,
            records_possibly_written: read(&self.records_possibly_written),
            buffered_bytes: 0,
            waiting_callers: 0,
            batches_delivered: read(&self.batches_delivered),
            batches_failed: read(&self.batches_failed),
            batches_split: read(&self.batches_split),
            retries: read(&self.retries),
            plain_bytes: read(&self.plain_bytes),
            sealed_bytes: read(&self.sealed_bytes),
            requests_sent: read(&self.requests_sent),
            requests_failed: read(&self.requests_failed),
            throttled: Duration::from_millis(read(&self.throttled_ms)),
            delivery_latency: self.delivery_latency.snapshot(),
            queue_latency: self.queue_latency.snapshot(),
            request_latency: self.request_latency.snapshot(),
            batch_bytes: self.batch_bytes.snapshot(),
            batch_records: self.batch_records.snapshot(),
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
