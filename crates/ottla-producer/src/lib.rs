//! Kafka producer: partitioner, accumulator, sender, idempotence, transactions.
#![forbid(unsafe_code)]

mod accumulator;
mod adapting;
mod batch;
mod budget;
mod buffers;
mod client;
mod config;
mod delivery;
mod error;
mod figures;
mod identity;
mod interceptor;
mod keeper;
mod metrics;
mod outstanding;
mod partitioner;
mod producer;
mod purge;
mod recent;
mod record;
mod record_clock;
mod reports;
mod sealer;
mod sender;
mod sending;
mod spans;
mod topic_config;
mod topics;
mod transaction;

pub use config::{Acks, ProducerConfig};
pub use delivery::{Delivery, RecordMetadata};
pub use error::{ConfigError, FlushError, SendAllError, SendError, TopicPartition};
pub use interceptor::{Acknowledgement, InterceptedRecord, Interceptors, ProducerInterceptor};
pub use metrics::{Histogram, ProducerMetrics};
pub use ottla_wire::compress::Compression;
pub use partitioner::{Partitioner, Partitioning, crc32, fnv1a, murmur2};
pub use producer::Producer;
pub use purge::Purge;
pub use record::{Header, ProducerRecord};
pub use reports::{DeliverySink, DeliveryStream, delivery_stream};
pub use sending::Sending;
pub use topic_config::TopicConfig;
pub use transaction::{
    Attempt, Attempts, CommitError, RunError, Transaction, TransactionError, TransactionOffset,
    TransactionalProducer,
};
