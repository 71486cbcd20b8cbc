//! Kafka producer: partitioner, accumulator, sender, idempotence.
#![forbid(unsafe_code)]
#![allow(
    dead_code,
    unused_imports,
    reason = "the sender that uses these follows in the next commit"
)]

mod accumulator;
mod batch;
mod budget;
mod buffers;
mod config;
mod delivery;
mod error;
mod identity;
mod outstanding;
mod partitioner;
mod record;

pub use config::{Acks, ProducerConfig};
pub use delivery::{Delivery, RecordMetadata};
pub use error::{ConfigError, FlushError, SendError, TopicPartition};
pub use ottla_wire::compress::Compression;
pub use partitioner::{Partitioner, Partitioning, crc32, fnv1a, murmur2};
pub use record::{Header, ProducerRecord};
