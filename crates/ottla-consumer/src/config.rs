//! Every setting of a consumer, with Java's (else librdkafka's) defaults. What concerns
//! connections, metadata and security is [`ottla_net::ClusterConfig`]'s.

use std::{sync::Arc, time::Duration};

use ottla_net::Backoff;

use crate::{
    Error, RebalanceListener,
    assignor::{self, Assignor},
};

/// Settings of a [`Consumer`](crate::Consumer).
///
/// A plain value: change the fields that matter and leave the rest to [`Default`].
///
/// ```
/// use ottla_consumer::{ConsumerConfig, OffsetReset};
///
/// let config = ConsumerConfig {
///     group_id: Some("billing".into()),
///     auto_offset_reset: OffsetReset::Earliest,
///     ..Default::default()
/// };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// `group.id`. Needed to subscribe and to commit; a consumer that only assigns may leave it
    /// out. Default: none.
    pub group_id: Option<String>,
    /// `group.instance.id`: makes this a static member (KIP-345), which keeps its partitions over a
    /// restart shorter than the session timeout and does not leave the group on close.
    /// Default: none.
    pub group_instance_id: Option<String>,
    /// `client.rack`: where this consumer runs, for rack-aware brokers and assignors. A leader may send it to
    /// a follower nearby (KIP-392). Empty: unknown. Default: empty.
    pub client_rack: String,
    /// `session.timeout.ms`: the coordinator drops a member it has not heard of for so long. Must
    /// lie within the broker's `group.min/max.session.timeout.ms`. Default: 45 s.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`: must be below the session timeout; a third of it or less is usual.
    /// Default: 3 s.
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: an application that does not come back for records for so long
    /// loses its place in the group, until it does come back. It is also how long a rebalance
    /// waits for members. Default: 5 min.
    pub max_poll_interval: Duration,
    /// `max.poll.records`: the most records that one `poll` returns, at least 1. Default: 500.
    pub max_poll_records: usize,
    /// `partition.assignment.strategy`: what the group's leader may assign partitions with, in
    /// order of preference; every member of the group must share one. If all of them allow it (as
    /// `cooperative-sticky` does), the consumer rebalances cooperatively: it reads on during a rebalance
    /// and gives up only what goes to others (KIP-429). Default: range.
    pub assignors: Vec<Arc<dyn Assignor>>,
    /// Is told of partitions that the group gives and takes. Default: none.
    pub rebalance_listener: Option<Arc<dyn RebalanceListener>>,
    /// `auto.offset.reset`: where to start when the group has no committed offset, or the position
    /// lies outside of the log. Default: latest.
    pub auto_offset_reset: OffsetReset,
    /// `enable.auto.commit`: commit in the background what the application was handed before its
    /// latest call for records. Default: true.
    pub enable_auto_commit: bool,
    /// `enable.auto.offset.store`: whether handing records out marks them for automatic commit. Without it the application
    /// marks what is to be committed itself, with [`Consumer::store_offset`](crate::Consumer::store_offset). Default:
    /// true.
    pub enable_auto_offset_store: bool,
    /// `auto.commit.interval.ms`. Default: 5 s.
    pub auto_commit_interval: Duration,
    /// `isolation.level`. Default: read uncommitted.
    pub isolation_level: IsolationLevel,
    /// `enable.partition.eof`: calls for records fail with [`Error::PartitionEof`] each time the end of a partition
    /// is reached, after its last record; calling again goes on. Default: false.
    pub enable_partition_eof: bool,
    /// `exclude.internal.topics`: whether a subscription by pattern leaves out the cluster's own topics, such as
    /// `__consumer_offsets`. Default: true.
    pub exclude_internal_topics: bool,
    /// `check.crcs`: verify the checksum of every batch before a record of it is handed out.
    /// Default: true.
    pub check_crcs: bool,
    /// `fetch.min.bytes`: the broker answers a fetch as soon as it has so much.
    /// Range 0 to 2³¹−1. Default: 1.
    pub fetch_min_bytes: u32,
    /// `fetch.max.wait.ms` (librdkafka: `fetch.wait.max.ms`): but answers after so long at the
    /// latest. Default: 500 ms.
    pub fetch_max_wait: Duration,
    /// `fetch.max.bytes`: the most bytes, still compressed, one answer to a fetch carries. A first
    /// batch that is larger comes whole. Range 1 to 2³¹−1. Default: 50 MiB.
    pub fetch_max_bytes: u32,
    /// `max.partition.fetch.bytes` (librdkafka: `fetch.message.max.bytes`): the same for each
    /// partition. Range 1 to 2³¹−1. Default: 1 MiB.
    pub max_partition_fetch_bytes: u32,
    /// `queued.max.messages.kbytes`, here in bytes: how much fetched data waits in memory for the
    /// application, in all partitions together. Counts what is being fetched, what is fetched
    /// and still compressed, and what was decompressed ahead of the application.
    /// One fetch and one batch are let through even when they alone exceed it. Default: 64 MiB.
    pub queued_bytes_max: usize,
    /// How much of that one partition may hold; it is not fetched again until the application
    /// has taken enough of it. Bounds what a paused partition keeps. Default: 8 MiB.
    pub queued_partition_bytes_max: usize,
    /// The most one batch may decompress to; a larger one is an error that names it, since a few
    /// bytes can claim to hold a gigabyte. Default: 256 MiB.
    pub batch_bytes_max: usize,
    /// `request.timeout.ms`: how long one request to one broker may take. A JoinGroup takes as
    /// long as the rebalance does. Default: 30 s.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`: how long a call that names no deadline may take in all, with its
    /// retries. Default: 60 s.
    pub default_api_timeout: Duration,
    /// `retry.backoff.ms`: the first pause before a retry. Default: 100 ms.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`: pauses double, with jitter, up to this. Default: 1 s.
    pub retry_backoff_max: Duration,
    /// Whether compressed batches are decompressed ahead on tokio's blocking threads. Otherwise a task of the runtime
    /// does it, so that a program or a simulation on one thread stays on it. Default: true.
    pub blocking_threads: bool,
}

impl ConsumerConfig {
    /// Says what does not fit together, before anything is connected.
    ///
    /// # Errors
    /// [`Error::Config`] names the setting and the range it has.
    pub fn validate(&self) -> Result<(), Error> {
        let checks = [
            (
                !self.heartbeat_interval.is_zero()
                    && self.heartbeat_interval < self.session_timeout,
                "heartbeat.interval.ms",
                "must be above 0 and below session.timeout.ms; a third of it is usual",
            ),
            (
                self.session_timeout <= MILLIS_MAX,
                "session.timeout.ms",
                "must be at most 2147483647 ms",
            ),
            (
                !self.max_poll_interval.is_zero() && self.max_poll_interval <= MILLIS_MAX,
                "max.poll.interval.ms",
                "must be between 1 and 2147483647 ms",
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
                self.client_rack.len() <= i16::MAX as usize,
                "client.rack",
                "must be at most 32767 bytes long",
            ),
            (
                self.max_poll_records > 0,
                "max.poll.records",
                "must be at least 1",
            ),
            (
                self.fetch_min_bytes <= i32::MAX as u32,
                "fetch.min.bytes",
                "must be at most 2147483647",
            ),
            (
                self.fetch_max_wait < self.request_timeout,
                "fetch.max.wait.ms",
                "must be below request.timeout.ms, or every fetch from an idle broker times out",
            ),
            (
                (1..=i32::MAX as u32).contains(&self.fetch_max_bytes),
                "fetch.max.bytes",
                "must be between 1 and 2147483647",
            ),
            (
                (1..=i32::MAX as u32).contains(&self.max_partition_fetch_bytes),
                "max.partition.fetch.bytes",
                "must be between 1 and 2147483647",
            ),
            (
                self.retry_backoff <= self.retry_backoff_max,
                "retry.backoff.ms",
                "must be at most retry.backoff.max.ms",
            ),
            (
                self.queued_bytes_max > 0,
                "queued.max.messages.kbytes",
                "must be at least 1",
            ),
            (
                self.group_id.as_deref() != Some(""),
                "group.id",
                "must not be empty; leave it out for a consumer without a group",
            ),
            (
                self.group_instance_id.is_none() || self.group_id.is_some(),
                "group.instance.id",
                "is for members of a group: set group.id as well",
            ),
            (
                self.group_id.is_none() || !self.assignors.is_empty(),
                "partition.assignment.strategy",
                "needs at least one assignor, such as range",
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
}

impl ConsumerConfig {
    /// The pauses between attempts: `retry.backoff.ms` and `retry.backoff.max.ms`.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.retry_backoff, self.retry_backoff_max)
    }
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group_id: None,
            group_instance_id: None,
            client_rack: String::new(),
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            max_poll_records: 500,
            assignors: vec![Arc::new(assignor::Range)],
            rebalance_listener: None,
            auto_offset_reset: OffsetReset::Latest,
            enable_auto_commit: true,
            enable_auto_offset_store: true,
            auto_commit_interval: Duration::from_secs(5),
            isolation_level: IsolationLevel::ReadUncommitted,
            enable_partition_eof: false,
            exclude_internal_topics: true,
            check_crcs: true,
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            queued_bytes_max: 64 << 20,
            queued_partition_bytes_max: 8 << 20,
            batch_bytes_max: 256 << 20,
            request_timeout: Duration::from_secs(30),
            default_api_timeout: Duration::from_secs(60),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            blocking_threads: true,
        }
    }
}

/// `auto.offset.reset`: where to start without a usable committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the first record the log still holds (`earliest`, `smallest`, `beginning`).
    Earliest,
    /// Behind the last record (`latest`, `largest`, `end`).
    Latest,
    /// Nowhere: the call for records fails, and the application seeks (`none`, `error`).
    Fail,
    /// At the first record younger than this (`by_duration:PT1H`, KIP-1106).
    ByDuration(Duration),
}

/// `isolation.level`: whether records of transactions that are open or were aborted are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolationLevel {
    /// Every record, as soon as it is replicated.
    ReadUncommitted,
    /// Only records outside of transactions and of committed ones; reading stops at the first
    /// transaction that is still open.
    ReadCommitted,
}

const MILLIS_MAX: Duration = Duration::from_millis(i32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        ConsumerConfig::default().validate().unwrap();
    }

    #[test]
    fn a_bad_setting_is_named() {
        let cases: [(&str, ConsumerConfig); 5] = [
            (
                "heartbeat.interval.ms",
                ConsumerConfig {
                    heartbeat_interval: Duration::from_secs(45),
                    ..Default::default()
                },
            ),
            (
                "max.poll.records",
                ConsumerConfig {
                    max_poll_records: 0,
                    ..Default::default()
                },
            ),
            (
                "fetch.max.wait.ms",
                ConsumerConfig {
                    fetch_max_wait: Duration::from_secs(31),
                    ..Default::default()
                },
            ),
            (
                "group.id",
                ConsumerConfig {
                    group_id: Some(String::new()),
                    ..Default::default()
                },
            ),
            (
                "group.instance.id",
                ConsumerConfig {
                    group_instance_id: Some("a".into()),
                    ..Default::default()
                },
            ),
        ];
        for (name, config) in cases {
            match config.validate() {
                Err(Error::Config { setting, .. }) => assert_eq!(setting, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
