//! Which settings may differ by topic, and how they reach the producer.

use ottla_producer::{ProducerConfig, TopicConfig};

/// The keys that may differ, by their own names.
pub(super) const KEYS: [&str; 5] = [
    "acks",
    "compression.type",
    "compression.level",
    "delivery.timeout.ms",
    "partitioner",
];

pub(super) const WHY_NOT: &str = "it holds for all topics of a client; those that may differ by topic \
     are acks, compression.type, compression.level, delivery.timeout.ms and partitioner";

/// What differs for a topic whose settings, all told, are `own`, where only the keys that `is_set` tells are its own.
pub(super) fn differing(own: &ProducerConfig, is_set: impl Fn(&str) -> bool) -> TopicConfig {
    let compressed = is_set("compression.type") || is_set("compression.level");
    TopicConfig {
        acks: is_set("acks").then_some(own.acks),
        compression: compressed.then_some(own.compression),
        compression_level: own.compression_level.filter(|_| compressed),
        delivery_timeout: is_set("delivery.timeout.ms").then_some(own.delivery_timeout),
        partitioner: is_set("partitioner").then(|| own.partitioner.clone()),
    }
}
