//! Every setting of a share consumer.

use std::{fmt, sync::Arc, time::Duration};

use ottla_net::Backoff;

use super::outcome::AcknowledgeListener;
use crate::{ConsumerConfig, Error};

/// Settings of a [`ShareConsumer`](crate::ShareConsumer). Where a group begins to read, which transactions it sees and how
/// long records are locked are settings of the *group*, which brokers keep: `share.auto.offset.reset`,
/// `share.isolation.level`, `share.record.lock.duration.ms`.
///
/// ```
/// use ottla_consumer::{ShareAcknowledgementMode, ShareConsumerConfig};
///
/// let config = ShareConsumerConfig {
///     group_id: "thumbnails".into(),
///     acknowledgement_mode: ShareAcknowledgementMode::Explicit,
///     ..Default::default()
/// };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone)]
pub struct ShareConsumerConfig {
    /// `group.id`, which a share consumer needs. Default: empty.
    pub group_id: String,
    /// `client.rack`: where this consumer runs, for assignors that care. Empty: unknown. Default: empty.
    pub client_rack: String,
    /// `share.acknowledgement.mode`: who says what becomes of a record. Default: implicit.
    pub acknowledgement_mode: ShareAcknowledgementMode,
    /// `share.acquire.mode`: how many records are acquired at a time (KIP-1206). Default: batch optimized.
    pub acquire_mode: ShareAcquireMode,
    /// Is told what becomes of acknowledgements. Default: none.
    pub acknowledge_listener: Option<Arc<dyn AcknowledgeListener>>,
    /// `max.poll.interval.ms`: an application that does not come back for records for so long loses its place in the
    /// group, until it does come back. Default: 5 min.
    pub max_poll_interval: Duration,
    /// `max.poll.records`: the most records that one `poll` returns, and how many are asked for at a time. Range 1 to
    /// 2³¹−1. Default: 500.
    pub max_poll_records: usize,
    /// `check.crcs`: verify the checksum of every batch before a record of it is handed out. Default: true.
    pub check_crcs: bool,
    /// `fetch.min.bytes`: the broker answers a fetch as soon as it has so much. Range 0 to 2³¹−1. Default: 1.
    pub fetch_min_bytes: u32,
    /// `fetch.max.wait.ms`: but answers after so long at the latest. A commit waits for a fetch that is under way. Default:
    /// 500 ms.
    pub fetch_max_wait: Duration,
    /// `fetch.max.bytes`: the most bytes, still compressed, one answer to a fetch carries; a first batch that is larger
    /// comes whole. At most one answer of each broker waits in memory; one of a broker that sends more than it was asked for
    /// is bounded by `receive.message.max.bytes`. Range 1 to 2³¹−1. Default: 50 MiB.
    pub fetch_max_bytes: u32,
    /// The most one batch may decompress to; a larger one is an error that names it. Default: 256 MiB.
    pub batch_bytes_max: usize,
    /// `request.timeout.ms`: how long one request to one broker may take. Default: 30 s.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`: how long a commit waits for its outcome. Default: 60 s.
    pub default_api_timeout: Duration,
    /// `retry.backoff.ms`: the first pause before a retry. Default: 100 ms.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`: pauses double, with jitter, up to this. Default: 1 s.
    pub retry_backoff_max: Duration,
}

/// `share.acknowledgement.mode`: who says what becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShareAcknowledgementMode {
    /// Coming for records, or committing, accepts those handed out before.
    #[default]
    Implicit,
    /// The application acknowledges each record, in any order and from any task.
    Explicit,
}

/// `share.acquire.mode`: how many records are acquired at a time (KIP-1206).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShareAcquireMode {
    /// Whole batches as they lie in the log: from all brokers at a time, and mostly more records than `max.poll.records`.
    #[default]
    BatchOptimized,
    /// Never more than `max.poll.records`: from one broker at a time. For records that take long. Brokers before 4.2 do not
    /// know it.
    RecordLimit,
}

impl ShareConsumerConfig {
    /// Says what does not fit together, before anything is connected.
    ///
    /// # Errors
    /// [`Error::Config`] names the setting and the range it has.
    pub fn validate(&self) -> Result<(), Error> {
        let checks = [
            (
                !self.group_id.is_empty(),
                "group.id",
                "must not be empty: a share consumer is a member of a share group",
            ),
            (
                !self.max_poll_interval.is_zero() && self.max_poll_interval <= MILLIS_MAX,
                "max.poll.interval.ms",
                "must be between 1 and 2147483647 ms",
            ),
            (
                (1..=i32::MAX as usize).contains(&self.max_poll_records),
                "max.poll.records",
                "must be between 1 and 2147483647",
            ),
            (
                self.fetch_min_bytes <= i32::MAX as u32,
                "fetch.min.bytes",
                "must be at most 2147483647",
            ),
            (
                (1..=i32::MAX as u32).contains(&self.fetch_max_bytes),
                "fetch.max.bytes",
                "must be between 1 and 2147483647",
            ),
            (
                self.fetch_max_wait < self.request_timeout,
                "fetch.max.wait.ms",
                "must be below request.timeout.ms, or every fetch from an idle broker times out",
            ),
            (
                self.request_timeout <= MILLIS_MAX,
                "request.timeout.ms",
                "must be at most 2147483647 ms",
            ),
            (
                self.default_api_timeout <= MILLIS_MAX,
                "default.api.timeout.ms",
                "must be at most 2147483647 ms",
            ),
            (
                self.retry_backoff <= self.retry_backoff_max,
                "retry.backoff.ms",
                "must be at most retry.backoff.max.ms",
            ),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            None => Ok(()),
            Some((_, setting, reason)) => Err(Error::Config {
                setting,
                reason: reason.into(),
            }),
        }
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.retry_backoff, self.retry_backoff_max)
    }
}

impl Default for ShareConsumerConfig {
    fn default() -> Self {
        Self::from(&ConsumerConfig::default())
    }
}

/// What both kinds of consumers have.
impl From<&ConsumerConfig> for ShareConsumerConfig {
    fn from(config: &ConsumerConfig) -> Self {
        Self {
            group_id: config.group_id.clone().unwrap_or_default(),
            client_rack: config.client_rack.clone(),
            acknowledgement_mode: ShareAcknowledgementMode::default(),
            acquire_mode: ShareAcquireMode::default(),
            acknowledge_listener: None,
            max_poll_interval: config.max_poll_interval,
            max_poll_records: config.max_poll_records,
            check_crcs: config.check_crcs,
            fetch_min_bytes: config.fetch_min_bytes,
            fetch_max_wait: config.fetch_max_wait,
            fetch_max_bytes: config.fetch_max_bytes,
            batch_bytes_max: config.batch_bytes_max,
            request_timeout: config.request_timeout,
            default_api_timeout: config.default_api_timeout,
            retry_backoff: config.retry_backoff,
            retry_backoff_max: config.retry_backoff_max,
        }
    }
}

impl fmt::Debug for ShareConsumerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareConsumerConfig")
            .field("group_id", &self.group_id)
            .field("acknowledgement_mode", &self.acknowledgement_mode)
            .field("acquire_mode", &self.acquire_mode)
            .field("max_poll_records", &self.max_poll_records)
            .field("max_poll_interval", &self.max_poll_interval)
            .field("fetch_max_wait", &self.fetch_max_wait)
            .field("fetch_max_bytes", &self.fetch_max_bytes)
            .finish_non_exhaustive()
    }
}

const MILLIS_MAX: Duration = Duration::from_millis(i32::MAX as u64);
