//! Kafka consumer: group membership, fetcher, offsets.
#![forbid(unsafe_code)]

pub mod assignor;
mod commit_listener;
mod config;
mod consumer;
mod core;
mod current;
mod driver;
mod error;
mod group;
mod listener;
mod metrics;
mod pattern;
mod payload;
mod reader;
mod record;
mod share;
mod spans;
mod split;
mod stream;
mod topic_partition;
mod topics;
mod waiting;

pub use ottla_net::{GroupMetadata, Histogram};
pub use ottla_wire::{
    Bytes, Str,
    record::{RecordHeaders, RecordRef, TimestampType},
};

pub use self::{
    commit_listener::{CommitListener, CommitOutcome},
    config::{ConsumerConfig, GroupProtocol, IsolationLevel, OffsetReset},
    consumer::Consumer,
    core::{StreamEnd, Watermarks},
    error::Error,
    listener::{ListenerFuture, RebalanceListener, in_listener},
    metrics::{ConsumerMetrics, PartitionMetrics},
    pattern::TopicPattern,
    record::{BatchRecords, IntoRecords, Record, RecordBatch},
    share::{
        AcknowledgeListener, AcknowledgeOutcome, AcknowledgeType, Fault, ShareAcknowledgementMode,
        ShareAcquireMode, ShareConsumer, ShareConsumerConfig, ShareConsumerMetrics, ShareRecord,
        ShareRecordStream,
    },
    split::{PartitionStream, PartitionStreams},
    stream::RecordStream,
    topic_partition::{CommittedOffset, Offset, OffsetForTime, TopicPartition},
};
