//! Kafka producer: partitioner, accumulator, sender, idempotence, transactions.
#![forbid(unsafe_code)]

mod accumulator;
mod batch;
mod budget;
mod buffers;
mod client;
mod config;
mod delivery;
mod error;
mod identity;
mod keeper;
mod outstanding;
mod partitioner;
mod producer;
mod record;
mod sealer;
mod sender;
mod topics;
mod transaction;

pub use config::{Acks, ProducerConfig};
pub use delivery::{Delivery, RecordMetadata};
pub use error::{ConfigError, FlushError, SendError, TopicPartition};
pub use ottla_wire::compress::Compression;
pub use partitioner::{Partitioner, Partitioning, crc32, fnv1a, murmur2};
pub use producer::Producer;
pub use record::{Header, ProducerRecord};
pub use transaction::{
    CommitError, RunError, Transaction, TransactionError, TransactionOffset, TransactionalProducer,
};
