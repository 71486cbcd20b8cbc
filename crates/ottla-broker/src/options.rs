//! What a user may say about an embedded broker.

use std::path::PathBuf;
use std::time::Duration;

use crate::group::migration::MigrationPolicy;

/// Settings of an embedded cluster; [`Default`] is one node in memory on a free port.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Where node 1 listens, as `host:port`; further nodes take the ports after it. Port 0 takes free ones.
    /// Default `127.0.0.1:0`.
    pub listen: String,
    /// How many nodes the cluster has, 1 to 100. Default 1.
    pub nodes: u16,
    /// Where logs and committed offsets are kept; `None`, the default, keeps them in memory.
    pub data_dir: Option<PathBuf>,
    /// Topics to create at the start, with their number of partitions, unless they are there already.
    pub topics: Vec<(String, i32)>,
    /// `auto.create.topics.enable`: whether a topic is made when a client asks for it. Default true.
    pub auto_create_topics: bool,
    /// `num.partitions` of topics made without a number. Default 1.
    pub partitions: i32,
    /// `default.replication.factor`; never more than there are nodes. Default 3.
    pub replication: i16,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members. Default 0.
    pub initial_rebalance_delay: Duration,
    /// `group.consumer.session.timeout.ms`: silence after which a member of a consumer group counts as gone. Default
    /// 45 seconds.
    pub consumer_session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`: how often members of consumer groups are told to say that they live.
    /// Default 5 seconds.
    pub consumer_heartbeat_interval: Duration,
    /// `group.consumer.migration.policy`: which groups with members change between the classic and the consumer protocol.
    /// Default in both directions.
    pub consumer_migration: MigrationPolicy,
    /// How many partitions all topics may have together; more are refused with `POLICY_VIOLATION`. Each takes
    /// about half a kilobyte while it is empty, and an open file in a data directory. Default 20,000.
    pub partitions_max: usize,
    /// `max.connections` of each node. Default 20,000.
    pub connections_max: usize,
    /// `socket.request.max.bytes`: the largest request that is read. Default 100 MiB.
    pub request_bytes_max: usize,
    /// `connections.max.idle.ms`: silence after which a connection is closed. A request must also come whole, and
    /// an answer be read whole, within this time. Default 10 minutes.
    pub idle_max: Duration,
    /// `log.retention.check.interval.ms`: how often old segments are looked for. Default 5 minutes.
    pub retention_check_interval: Duration,
    /// What topics have where they set nothing themselves, by the topics' names for it (`retention.ms`).
    /// Default nothing: then Kafka's defaults hold. [`BrokerOptions::set`] takes the brokers' names too.
    pub topic_defaults: Vec<(String, String)>,
    /// `offsets.retention.minutes`: how long offsets are kept that no member of their group reads on from, as a
    /// duration. Default 7 days.
    pub offsets_retention: Duration,
    /// `log.cleaner.backoff.ms`: how often compacted topics are looked at. Default 15 seconds.
    pub cleaner_backoff: Duration,
    /// Racks of the nodes, in order; nodes beyond its end have none.
    pub racks: Vec<String>,
    /// `replica.selector.class`: whether leaders send consumers to a follower in their rack (KIP-392), as Kafka's
    /// `RackAwareReplicaSelector` does, and followers serve them. Default false: only leaders are read from.
    pub rack_aware_reads: bool,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            nodes: 1,
            data_dir: None,
            topics: Vec::new(),
            auto_create_topics: true,
            partitions: 1,
            replication: 3,
            initial_rebalance_delay: Duration::ZERO,
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(5),
            consumer_migration: MigrationPolicy::default(),
            partitions_max: 20_000,
            connections_max: 20_000,
            request_bytes_max: 100 << 20,
            idle_max: Duration::from_secs(600),
            retention_check_interval: Duration::from_secs(300),
            topic_defaults: Vec::new(),
            offsets_retention: Duration::from_secs(7 * 86_400),
            cleaner_backoff: Duration::from_secs(15),
            racks: Vec::new(),
            rack_aware_reads: false,
        }
    }
}
