//! The settings of a producer: what each means, its unit, range and default.
//!
//! Plain data. Parsing Kafka's key names from strings is the facade's work; [`ProducerConfig::validate`]
//! is the one place that says which combinations make sense.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ottla_wire::compress::{Codec, Compression};

use crate::error::ConfigError;
use crate::interceptor::Interceptors;
use crate::partitioner::Partitioning;
use crate::topic_config::TopicConfig;

/// Settings of a [`Producer`](crate::Producer).
///
/// The defaults are Java's; where Java and librdkafka differ the field says so.
///
/// ```
/// use std::time::Duration;
/// use ottla_producer::ProducerConfig;
///
/// let config = ProducerConfig {
///     linger: Duration::from_millis(20),
///     ..ProducerConfig::default()
/// };
/// config.validate().unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// `acks`: how many replicas must have a batch before the broker acknowledges it.
    /// Default [`Acks::All`].
    pub acks: Acks,

    /// `enable.idempotence`: number the records so that a retry never writes one twice and never
    /// reorders (KIP-98).
    ///
    /// `None`, the default, means *on unless another setting rules it out* (acks other than all, no
    /// retries, more than five requests in flight). `Some(true)` beside such a setting is an error.
    pub enable_idempotence: Option<bool>,

    /// `linger.ms`: how long an open batch waits for more records once it holds its first. Zero
    /// sends as soon as the broker's pipeline has room; under load, batches still form while
    /// requests are in flight. Range 0 to 15 minutes, default 5 ms.
    pub linger: Duration,

    /// `batch.size`: the size in bytes, **after compression**, at which a batch is full. One larger
    /// record still travels, alone. Memory is taken as a batch grows, so a large value costs
    /// nothing while partitions are quiet. Range 1 to 2^30, default 1,000,000 (librdkafka's; Java: 16,384).
    pub batch_size: usize,

    /// `batch.num.messages`: the most records in one batch. Range 1 to 2^31-1, default 2^31-1
    /// (as Java, which has no such limit; librdkafka: 10,000).
    pub batch_records_max: i32,

    /// `buffer.memory`: bytes that records may occupy from `send` until their outcome is known.
    /// At the bound `send` waits and `try_send` fails. Default 33,554,432 (32 MiB).
    pub buffer_memory: usize,

    /// `queue.buffering.max.messages`: records that may be between `send` and their outcome, at most; at the bound
    /// it is as with `buffer_memory`. Costs an atomic operation per record. Range 0 to 2^31-1, default 0: no
    /// such bound (librdkafka: 100,000).
    pub buffer_records_max: usize,

    /// `max.block.ms`: how long `send` may wait for metadata of an unknown topic and for buffer space.
    /// Default 60 s.
    pub max_block: Duration,

    /// `delivery.timeout.ms` (`message.timeout.ms`): from the opening of a record's batch until its
    /// outcome is reported at the latest. At least `linger + request_timeout`. Default 120 s.
    pub delivery_timeout: Duration,

    /// `request.timeout.ms`: how long a broker may take to answer one Produce request; also the
    /// `timeoutMs` it is given to wait for its replicas. Default 30 s.
    pub request_timeout: Duration,

    /// `retries`: how many times a batch is sent again after a retriable failure. Best left alone:
    /// `delivery_timeout` is the bound that means something. Default 2^31-1.
    pub retries: u32,

    /// `retry.backoff.ms`: the pause before the first retry of a partition. Default 100 ms.
    pub retry_backoff: Duration,

    /// `retry.backoff.max.ms`: the longest pause before a retry, reached by doubling (KIP-580).
    /// Default 1 s.
    pub retry_backoff_max: Duration,

    /// `max.in.flight.requests.per.connection`: unanswered Produce requests per broker. Range 1 to
    /// 1,000,000, at most 5 when idempotent. Default 5.
    pub max_in_flight: usize,

    /// `max.request.size` (`message.max.bytes`): the most bytes of record batches in one Produce
    /// request, and the largest record accepted, counted before compression. Default 1,048,576. A
    /// broker has its own limit, `message.max.bytes`, and a topic `max.message.bytes`.
    pub max_request_size: usize,

    /// `compression.type`: the codec of record batches. Default none.
    pub compression: Compression,

    /// `compression.level` (`compression.<codec>.level`): the codec's own level; `None` is the codec's
    /// default. Ignored by codecs that have no levels.
    pub compression_level: Option<i32>,

    /// `partitioner`: how a record without an explicit partition finds one. Default murmur2 of the
    /// key, as Java, and sticky for records without a key.
    pub partitioner: Partitioning,

    /// `partitioner.ignore.keys`: treat every record as if it had no key when choosing its
    /// partition. Default false.
    pub partitioner_ignore_keys: bool,

    /// `partitioner.adaptive.partitioning.enable`: records without a key go less often to partitions with more
    /// batches under way (KIP-794). Default true.
    pub partitioner_adaptive: bool,

    /// `partitioner.availability.timeout.ms`: with `partitioner_adaptive`, records without a key pass over partitions
    /// whose broker has taken nothing for so long though something waits for it (KIP-794). Default
    /// zero: never.
    pub partitioner_availability_timeout: Duration,

    /// `partitioner.rack.aware`: records without a key prefer partitions whose leader is in
    /// [`client_rack`](Self::client_rack), as long as there are any (KIP-1123). Default false.
    pub partitioner_rack_aware: bool,

    /// `client.rack`: where this program runs, in the words of the brokers' `broker.rack`. Default none.
    pub client_rack: Option<String>,

    /// `enable.gapless.guarantee`: once a batch is refused or lost, the producer sends no more, so that
    /// nothing is written behind the gap; from then on everything fails with
    /// [`SendError::Fatal`](crate::SendError::Fatal). Time or retries that ran out, and purged records, do not
    /// count, as in librdkafka. Needs idempotence. Default false.
    pub gapless: bool,

    /// What differs for some topics, by name. Default nothing.
    pub topics: BTreeMap<String, TopicConfig>,

    /// See records before they are sent, and outcomes. Default none, which costs nothing.
    pub interceptors: Interceptors,

    /// Whether each record gets a `tracing` span of its own (`create`), a child of the caller's, which its batch's span
    /// (`send`) follows from. Costs a span per record. Default false.
    pub trace_records: bool,

    /// `transactional.id`: the name under which a
    /// [`TransactionalProducer`](crate::TransactionalProducer) is known to the cluster. Of the
    /// instances with one name only the youngest may write. Default none.
    pub transactional_id: Option<String>,

    /// `transaction.timeout.ms`: the coordinator aborts a transaction that is open for so long. At most
    /// the brokers' `transaction.max.timeout.ms` (15 minutes unless set). Range 1 ms to 2^31-1 ms,
    /// default 60 s.
    pub transaction_timeout: Duration,

    /// Whether large batches are compressed on tokio's blocking threads. Otherwise tasks of the runtime do it, so that a
    /// program or a simulation on one thread stays on it. Default true.
    pub blocking_threads: bool,
}

impl ProducerConfig {
    /// Whether records will be numbered: [`enable_idempotence`](Self::enable_idempotence), resolved.
    pub fn idempotent(&self) -> bool {
        self.enable_idempotence
            .unwrap_or_else(|| self.idempotence_hindrance().is_none())
    }

    /// Refuses values out of range and combinations that cannot work, naming the setting.
    ///
    /// # Errors
    /// The first setting found wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.enable_idempotence == Some(true)
            && let Some((setting, problem)) = self.idempotence_hindrance()
        {
            return Err(ConfigError { setting, problem });
        }
        if Codec::new(
            self.compression,
            self.compression_level
                .filter(|_| self.compression.levels().is_some()),
        )
        .is_err()
        {
            let (setting, problem) = ("compression.level", "lies outside the codec's levels");
            return Err(ConfigError { setting, problem });
        }
        for topic in self.topics.values() {
            topic.validate(self)?;
        }
        let minute = Duration::from_secs(60);
        let checks = [
            (
                "linger.ms",
                self.linger <= 15 * minute,
                "must be at most 15 minutes",
            ),
            (
                "batch.size",
                (1..=BATCH_SIZE_MAX).contains(&self.batch_size),
                "must lie in 1 to 2^30",
            ),
            (
                "batch.num.messages",
                self.batch_records_max >= 1,
                "must be at least 1",
            ),
            (
                "max.request.size",
                self.max_request_size >= 1000,
                "must be at least 1000 bytes",
            ),
            (
                "max.request.size",
                self.max_request_size <= BATCH_SIZE_MAX,
                "must be at most 2^30",
            ),
            (
                "buffer.memory",
                self.buffer_memory >= self.max_request_size,
                "must be at least max.request.size, else its largest record could never be sent",
            ),
            (
                "request.timeout.ms",
                !self.request_timeout.is_zero(),
                "must be above 0",
            ),
            (
                "request.timeout.ms",
                fits_i32_ms(self.request_timeout),
                "must be below 2^31 ms",
            ),
            (
                "delivery.timeout.ms",
                self.delivery_timeout >= self.linger.saturating_add(self.request_timeout),
                "must be at least linger.ms + request.timeout.ms",
            ),
            (
                "delivery.timeout.ms",
                fits_i32_ms(self.delivery_timeout),
                "must be below 2^31 ms",
            ),
            (
                "enable.gapless.guarantee",
                !self.gapless || self.idempotent(),
                "needs enable.idempotence, which enable.idempotence=false, acks, retries or max.in.flight.requests.per.connection rule out here",
            ),
            (
                "queue.buffering.max.messages",
                u32::try_from(self.buffer_records_max).is_ok(),
                "must be below 2^32",
            ),
            (
                "retry.backoff.ms",
                self.retry_backoff <= self.retry_backoff_max,
                "must be at most retry.backoff.max.ms",
            ),
            (
                "transactional.id",
                self.transactional_id.as_deref() != Some(""),
                "must not be empty; without transactions, leave it out",
            ),
            (
                "transactional.id",
                self.transactional_id.is_none() || self.idempotent(),
                "needs enable.idempotence, which enable.idempotence=false, acks, retries or max.in.flight.requests.per.connection rule out here",
            ),
            (
                "transaction.timeout.ms",
                self.transaction_timeout.as_millis() >= 1 && fits_i32_ms(self.transaction_timeout),
                "must lie in 1 to 2^31-1 ms",
            ),
            (
                "max.in.flight.requests.per.connection",
                (1..=1_000_000).contains(&self.max_in_flight),
                "must lie in 1 to 1000000",
            ),
        ];
        match checks.into_iter().find(|(_, sound, _)| !sound) {
            Some((setting, _, problem)) => Err(ConfigError { setting, problem }),
            None => Ok(()),
        }
    }

    fn idempotence_hindrance(&self) -> Option<(&'static str, &'static str)> {
        if self.acks != Acks::All {
            return Some(("acks", "must be all when enable.idempotence is true"));
        }
        if self
            .topics
            .values()
            .any(|topic| topic.acks.is_some_and(|acks| acks != Acks::All))
        {
            return Some((
                "acks",
                "must be all for every topic when enable.idempotence is true",
            ));
        }
        if self.retries == 0 {
            return Some(("retries", "must be above 0 when enable.idempotence is true"));
        }
        if self.max_in_flight > IN_FLIGHT_IDEMPOTENT_MAX {
            return Some((
                "max.in.flight.requests.per.connection",
                "must be at most 5 when enable.idempotence is true",
            ));
        }
        None
    }
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            enable_idempotence: None,
            linger: Duration::from_millis(5),
            batch_size: 1_000_000,
            batch_records_max: i32::MAX,
            buffer_memory: 32 << 20,
            buffer_records_max: 0,
            max_block: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(30),
            retries: i32::MAX as u32,
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            max_in_flight: IN_FLIGHT_IDEMPOTENT_MAX,
            max_request_size: 1 << 20,
            compression: Compression::None,
            compression_level: None,
            partitioner: Partitioning::default(),
            partitioner_ignore_keys: false,
            partitioner_adaptive: true,
            partitioner_availability_timeout: Duration::ZERO,
            partitioner_rack_aware: false,
            client_rack: None,
            gapless: false,
            topics: BTreeMap::new(),
            interceptors: Interceptors::default(),
            trace_records: false,
            transactional_id: None,
            transaction_timeout: Duration::from_secs(60),
            blocking_threads: true,
        }
    }
}

/// How many replicas must hold a batch before it counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// `0`: none. The broker does not answer; a delivery says only that the bytes were handed to
    /// the connection, and its offset is unknown.
    None,
    /// `1`: the leader alone. Records can be lost when it fails before its followers copied them.
    Leader,
    /// `all` or `-1`: every in-sync replica, at least the topic's `min.insync.replicas`.
    #[default]
    All,
}

impl Acks {
    /// The value in a Produce request.
    pub fn wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

impl fmt::Display for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "0",
            Self::Leader => "1",
            Self::All => "all",
        })
    }
}

impl std::str::FromStr for Acks {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "0" => Ok(Self::None),
            "1" => Ok(Self::Leader),
            "-1" | "all" => Ok(Self::All),
            _ => Err(ConfigError {
                setting: "acks",
                problem: "must be 0, 1, -1 or all",
            }),
        }
    }
}

fn fits_i32_ms(duration: Duration) -> bool {
    duration.as_millis() <= i32::MAX as u128
}

/// Brokers remember the last five batches of a producer per partition; more in flight could not be
/// told from duplicates.
const IN_FLIGHT_IDEMPOTENT_MAX: usize = 5;
const BATCH_SIZE_MAX: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_sound_and_idempotent() {
        let config = ProducerConfig::default();
        config.validate().unwrap();
        assert!(config.idempotent());
    }

    #[test]
    fn idempotence_yields_when_not_asked_for_and_is_refused_when_it_is() {
        let mut config = ProducerConfig {
            acks: Acks::Leader,
            ..Default::default()
        };
        assert!(!config.idempotent());
        config.validate().unwrap();
        config.enable_idempotence = Some(true);
        assert_eq!(config.validate().unwrap_err().setting, "acks");

        config.acks = Acks::All;
        config.max_in_flight = 6;
        assert_eq!(
            config.validate().unwrap_err().setting,
            "max.in.flight.requests.per.connection"
        );
    }

    #[test]
    fn a_delivery_timeout_shorter_than_one_attempt_is_refused() {
        let config = ProducerConfig {
            delivery_timeout: Duration::from_secs(30),
            ..Default::default()
        };
        assert_eq!(
            config.validate().unwrap_err().setting,
            "delivery.timeout.ms"
        );
    }

    #[test]
    fn acks_reads_kafkas_spellings() {
        assert_eq!("all".parse::<Acks>().unwrap(), Acks::All);
        assert_eq!("-1".parse::<Acks>().unwrap(), Acks::All);
        assert_eq!("0".parse::<Acks>().unwrap().wire(), 0);
        assert!("2".parse::<Acks>().is_err());
    }
}
