//! Settings that a topic has of its own.

use std::time::Duration;

use ottla_wire::compress::{Codec, Compression};

use crate::config::{Acks, ProducerConfig};
use crate::error::ConfigError;
use crate::partitioner::Partitioning;
use crate::sealer::Sealing;

/// What differs for one topic; `None` is the producer's own. See [`ProducerConfig::topics`].
///
/// ```
/// use ottla_producer::{Compression, ProducerConfig, TopicConfig};
///
/// let mut config = ProducerConfig::default();
/// config.topics.insert(
///     "audit".into(),
///     TopicConfig {
///         compression: Some(Compression::Zstd),
///         ..TopicConfig::default()
///     },
/// );
/// config.validate().unwrap();
/// ```
#[derive(Debug, Clone, Default)]
pub struct TopicConfig {
    /// `acks`. Anything but all rules idempotence out, for the whole producer.
    pub acks: Option<Acks>,
    /// `compression.type`.
    pub compression: Option<Compression>,
    /// `compression.level`. With a codec of its own a topic does not take over the producer's level.
    pub compression_level: Option<i32>,
    /// `delivery.timeout.ms`, at least `linger + request_timeout`.
    pub delivery_timeout: Option<Duration>,
    /// `partitioner`.
    pub partitioner: Option<Partitioning>,
}

/// What holds for one topic, all told.
#[derive(Debug)]
pub(crate) struct TopicSettings {
    pub(crate) acks: Acks,
    pub(crate) delivery_timeout: Duration,
    pub(crate) partitioner: Partitioning,
    pub(crate) sealing: Sealing,
}

impl TopicSettings {
    pub(crate) fn new(config: &ProducerConfig, topic: &str) -> Self {
        let none = TopicConfig::default();
        let own = config.topics.get(topic).unwrap_or(&none);
        let (compression, level) = own.compression(config);
        Self {
            acks: own.acks.unwrap_or(config.acks),
            delivery_timeout: own.delivery_timeout.unwrap_or(config.delivery_timeout),
            partitioner: own
                .partitioner
                .clone()
                .unwrap_or_else(|| config.partitioner.clone()),
            sealing: Sealing::new(compression, level),
        }
    }
}

impl TopicConfig {
    pub(crate) fn validate(&self, config: &ProducerConfig) -> Result<(), ConfigError> {
        let (compression, level) = self.compression(config);
        if Codec::new(compression, compression.levels().and(level)).is_err() {
            return Err(ConfigError {
                setting: "compression.level",
                problem: "of a topic lies outside its codec's levels",
            });
        }
        if self.delivery_timeout.is_some_and(|timeout| {
            timeout < config.linger.saturating_add(config.request_timeout)
                || timeout.as_millis() > i32::MAX as u128
        }) {
            return Err(ConfigError {
                setting: "delivery.timeout.ms",
                problem: "of a topic must be at least linger.ms + request.timeout.ms, and below 2^31 ms",
            });
        }
        Ok(())
    }

    /// The codec and its level.
    pub(crate) fn compression(&self, config: &ProducerConfig) -> (Compression, Option<i32>) {
        let compression = self.compression.unwrap_or(config.compression);
        let inherited = config
            .compression_level
            .filter(|_| compression == config.compression);
        (compression, self.compression_level.or(inherited))
    }
}
