//! Every setting of a consumer, with Java's (else librdkafka's) defaults. What concerns
//! connections, metadata and security is [`ottla_net::ClusterConfig`]'s.

use std::{sync::Arc, time::Duration};

use ottla_net::Backoff;

use crate::{
    CommitListener, Error, RebalanceListener,
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
    /// `group.protocol`: who divides the partitions of a group, its members or the brokers. Default: classic.
    pub group_protocol: GroupProtocol,
    /// `group.remote.assignor`: what the brokers divide partitions by, with [`GroupProtocol::Consumer`]: Kafka's are
    /// `uniform` and `range`. The group uses what most of its members want. Default: none, the brokers choose.
    pub group_remote_assignor: Option<String>,
    /// `client.rack`: where this consumer runs, for rack-aware brokers and assignors. A leader may send it to
    /// a follower nearby (KIP-392). Empty: unknown. Default: empty.
    pub client_rack: String,
    /// `session.timeout.ms`: the coordinator drops a member it has not heard of for so long. Must
    /// lie within the broker's `group.min/max.session.timeout.ms`. The broker's alone to say with
    /// [`GroupProtocol::Consumer`]. Default: 45 s.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`: must be below the session timeout; a third of it or less is usual.
    /// The broker's alone to say with [`GroupProtocol::Consumer`]. Default: 3 s.
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
    /// and gives up only what goes to others (KIP-429). Not with [`GroupProtocol::Consumer`], where the brokers
    /// assign. Default: range.
    pub assignors: Vec<Arc<dyn Assignor>>,
    /// Is told of partitions that the group gives and takes. Default: none.
    pub rebalance_listener: Option<Arc<dyn RebalanceListener>>,
    /// Is told what becomes of commits, automatic ones among them. Default: none.
    pub commit_listener: Option<Arc<dyn CommitListener>>,
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
    ///
    /// It holds against brokers that do not keep to what they are asked for, too: of each of their answers stays what was
    /// asked for, and at most one batch that is larger, as Kafka sends one that is larger than the limits (KIP-74). What goes
    /// beyond is dropped, and fetched again when there is room. While an answer comes in and is taken apart, what bounds it
    /// is not this but `receive.message.max.bytes`
    /// ([`receive_message_max_bytes`](ottla_net::ClusterConfig::receive_message_max_bytes)), for each broker that is fetched
    /// from.
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
        let defaults = Self::default();
        let by_broker = self.group_protocol == GroupProtocol::Consumer;
        let names = |config: &Self| -> Vec<String> {
            let assignors = config.assignors.iter();
            assignors
                .map(|assignor| assignor.name().to_owned())
                .collect()
        };
        let checks = [
            (
                !by_broker || self.session_timeout == defaults.session_timeout,
                "session.timeout.ms",
                "does not go with group.protocol=consumer: the broker's \
                 group.consumer.session.timeout.ms holds; leave it out",
            ),
            (
                !by_broker || self.heartbeat_interval == defaults.heartbeat_interval,
                "heartbeat.interval.ms",
                "does not go with group.protocol=consumer: the broker's \
                 group.consumer.heartbeat.interval.ms holds; leave it out",
            ),
            (
                !by_broker || names(self) == names(&defaults),
                "partition.assignment.strategy",
                "does not go with group.protocol=consumer, where the broker assigns: leave it out, \
                 and set group.remote.assignor to choose among the broker's assignors",
            ),
            (
                self.group_remote_assignor.is_none()
                    || self.group_protocol != GroupProtocol::Classic,
                "group.remote.assignor",
                "does not go with group.protocol=classic, where members assign: set \
                 partition.assignment.strategy, or group.protocol=consumer",
            ),
            (
                self.group_remote_assignor.as_deref() != Some(""),
                "group.remote.assignor",
                "must not be empty; leave it out to let the broker choose",
            ),
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
            group_protocol: GroupProtocol::Classic,
            group_remote_assignor: None,
            client_rack: String::new(),
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            max_poll_records: 500,
            assignors: vec![Arc::new(assignor::Range)],
            rebalance_listener: None,
            commit_listener: None,
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

/// `group.protocol`: by which protocol a consumer is a member of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProtocol {
    /// One of the members divides the partitions; a rebalance goes through all of them.
    Classic,
    /// The brokers divide the partitions, and each member comes to its share at its own pace (KIP-848). For brokers
    /// of Kafka 4.0 or later.
    Consumer,
    /// `consumer` where the brokers speak it (ConsumerGroupHeartbeat, with the cluster's `group.version` at 1 or above) and
    /// the group is not one of classic members that they cannot take along, else `classic`. Found out at the first
    /// subscription, and kept. Ottla's own choice.
    Auto,
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
        let by_broker = || ConsumerConfig {
            group_protocol: GroupProtocol::Consumer,
            ..Default::default()
        };
        by_broker().validate().unwrap();
        let cases: [(&str, ConsumerConfig); 9] = [
            (
                "session.timeout.ms",
                ConsumerConfig {
                    session_timeout: Duration::from_secs(10),
                    ..by_broker()
                },
            ),
            (
                "heartbeat.interval.ms",
                ConsumerConfig {
                    heartbeat_interval: Duration::from_secs(1),
                    ..by_broker()
                },
            ),
            (
                "partition.assignment.strategy",
                ConsumerConfig {
                    assignors: vec![Arc::new(assignor::CooperativeSticky)],
                    ..by_broker()
                },
            ),
            (
                "group.remote.assignor",
                ConsumerConfig {
                    group_remote_assignor: Some("range".into()),
                    ..Default::default()
                },
            ),
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
