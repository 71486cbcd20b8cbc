//! Kafka consumer: group membership, fetcher, offsets.
#![forbid(unsafe_code)]

pub mod assignor;
mod config;
mod error;
mod group;
mod topic_partition;

pub use bytes::Bytes;
pub use bytestring::ByteString as Str;

pub use self::{
    config::{ConsumerConfig, IsolationLevel, OffsetReset},
    error::Error,
    topic_partition::{CommittedOffset, Offset, OffsetForTime, TopicPartition},
};
