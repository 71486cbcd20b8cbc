//! What can go wrong for a consumer, in words that say where and what to try.

use std::{sync::Arc, time::Duration};

use ottla_wire::{ErrorCode, record::BatchError};

use crate::{Fault, Str, TopicPartition};

/// What went wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting does not fit; nothing was connected.
    #[error("the consumer setting {setting} {reason}")]
    Config {
        /// Java's name of the setting.
        setting: &'static str,
        /// The range it has, or what it clashes with.
        reason: String,
    },
    /// The call does not fit what the consumer is doing.
    #[error("{0}")]
    Usage(&'static str),
    /// A pattern of topics cannot be used.
    #[error("{pattern} is no pattern of topics: {reason}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The end of a partition was reached: said once each time with `enable.partition.eof`. Not that anything is wrong.
    #[error("the end of {partition} was reached, at offset {offset}")]
    PartitionEof {
        /// The partition.
        partition: TopicPartition,
        /// The offset that the next record written to it will have, or for a reader of committed records that of the first
        /// that is not decided.
        offset: i64,
    },
    /// The partition is not assigned to this consumer (any more).
    #[error("{0} is not assigned to this consumer: assign it, or wait for the group to")]
    NotAssigned(TopicPartition),
    /// The topic stayed unknown to the cluster until the deadline.
    #[error(
        "the cluster does not know topic {topic} (asked for {waited:?}): create it, check its \
         spelling, and that this user may describe it"
    )]
    UnknownTopic {
        /// Its name.
        topic: Str,
        /// How long the answer stayed the same.
        waited: Duration,
    },
    /// There is no offset to start at, and `auto.offset.reset` is `none`.
    #[error(
        "{partition} has no usable committed offset and auto.offset.reset is none: seek to \
         where reading should start"
    )]
    NoOffset {
        /// The partition that cannot start.
        partition: TopicPartition,
    },
    /// The position lies outside of the log, and `auto.offset.reset` is `none`.
    #[error(
        "offset {offset} of {partition} lies outside of the log (deleted by retention, or never \
         written) and auto.offset.reset is none: seek to where reading should go on"
    )]
    OffsetOutOfRange {
        /// The partition that cannot go on.
        partition: TopicPartition,
        /// The position it had.
        offset: i64,
    },
    /// The log lost records that were read already (unclean leader election), and
    /// `auto.offset.reset` is `none` (KIP-320).
    #[error(
        "the log of {partition} was truncated at or before offset {diverged}, behind the position \
         {offset}: records that were read are gone; seek to where reading should go on"
    )]
    LogTruncated {
        /// The partition that cannot go on.
        partition: TopicPartition,
        /// The position it had.
        offset: i64,
        /// The first offset whose record differs from what was read.
        diverged: i64,
    },
    /// A batch of the log cannot be read: it is damaged, uses an unknown codec, or decompresses to more
    /// than allowed. It is tried again, in case it was damaged on the way; otherwise seek past it.
    #[error(
        "cannot read {partition} at offset {offset}: {source}; seek past it to go on without it"
    )]
    Unreadable {
        /// Where.
        partition: TopicPartition,
        /// The first offset that was not handed out.
        offset: i64,
        /// What is wrong.
        source: Arc<BatchError>,
    },
    /// The group does not take this consumer as a member. Nothing is read until it subscribes anew.
    #[error("group {group} refuses this member: {error}{}", group_hint(*error))]
    Group {
        /// `group.id`.
        group: Str,
        /// What the coordinator said.
        error: ErrorCode,
    },
    /// The coordinator refuses a commit; nothing of it is stored, or not this partition.
    #[error("group {group} refuses the commit{}: {error}{}", of(partition.as_ref()), commit_hint(*error))]
    CommitRefused {
        /// `group.id`.
        group: Str,
        /// The partition; none if the whole commit was refused.
        partition: Option<TopicPartition>,
        /// What the coordinator said.
        error: ErrorCode,
    },
    /// A commit was sent and no answer came before the deadline: it may or may not be stored.
    #[error(
        "the commit to group {group} may or may not be stored: no answer came in time ({last}); \
         commit again, or ask for the committed offsets"
    )]
    CommitUnknown {
        /// `group.id`.
        group: Str,
        /// The last thing that stood in the way.
        last: ErrorCode,
    },
    /// The cluster could not be asked.
    #[error(transparent)]
    Net(#[from] ottla_net::Error),
    /// A broker refuses to let a partition be read. It is tried again, in case that changes.
    #[error("cannot fetch {partition} at offset {offset}: {error}")]
    Fetch {
        /// What was to be read.
        partition: TopicPartition,
        /// From where.
        offset: i64,
        /// What the broker said.
        error: ErrorCode,
    },
    /// The share group does not take this consumer as a member. Nothing is read until it subscribes anew.
    #[error("share group {group} refuses this member: {error}{}{}", said(message.as_ref()), share_group_hint(*error))]
    ShareGroup {
        /// `group.id`.
        group: Str,
        /// What the coordinator said.
        error: ErrorCode,
        /// And in words.
        message: Option<Str>,
    },
    /// A broker refuses to let a share group's member fetch. It is tried again, in case that changes.
    #[error("broker {node} does not let this member of a share group fetch{}: {error}", of(partition.as_ref()))]
    ShareFetch {
        /// The broker.
        node: i32,
        /// What was to be fetched; none if it refuses all.
        partition: Option<TopicPartition>,
        /// What it said.
        error: ErrorCode,
    },
    /// The record is not this member's to acknowledge: it was acknowledged before, its acquisition lock timed out, or the
    /// connection to the broker that it was acquired from was lost.
    #[error(
        "the record at offset {offset} of {partition} is not held by this member (any more): it was acknowledged before, \
         its acquisition lock timed out, or the connection to its broker was lost; if not acknowledged, it comes again"
    )]
    NotHeld {
        /// Its partition.
        partition: TopicPartition,
        /// Its offset.
        offset: i64,
    },
    /// Acknowledgements are not stored, or nobody knows whether they are.
    #[error("acknowledgements of {partition} are not stored for share group {group}: {fault}")]
    AcknowledgeFailed {
        /// `group.id`.
        group: Str,
        /// Of which partition.
        partition: TopicPartition,
        /// Why.
        #[source]
        fault: Fault,
    },
    /// The deadline of the call passed.
    #[error("{what} did not end within {waited:?}: {last}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited: Duration,
        /// The last thing that stood in the way.
        last: String,
    },
    /// The consumer was closed.
    #[error("the consumer is closed")]
    Closed,
}

impl Error {
    /// The partition whose records cannot be read, if it is about one.
    pub(crate) fn partition(&self) -> Option<&TopicPartition> {
        match self {
            Self::PartitionEof { partition, .. }
            | Self::NoOffset { partition }
            | Self::OffsetOutOfRange { partition, .. }
            | Self::LogTruncated { partition, .. }
            | Self::Unreadable { partition, .. }
            | Self::Fetch { partition, .. } => Some(partition),
            _ => None,
        }
    }

    /// Whether nothing more is read of its partition until the application seeks.
    pub(crate) fn stops_its_partition(&self) -> bool {
        matches!(
            self,
            Self::NoOffset { .. } | Self::OffsetOutOfRange { .. } | Self::LogTruncated { .. }
        )
    }

    /// Whether the same call may succeed later without anything being changed.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::UnknownTopic { .. }
            | Self::PartitionEof { .. }
            | Self::CommitUnknown { .. }
            | Self::Unreadable { .. } => true,
            // A commit of a topic that may come yet was tried again.
            Self::CommitRefused { error, .. } => {
                error.is_retriable() && *error != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            }
            Self::Fetch { error, .. } | Self::ShareFetch { error, .. } => error.is_retriable(),
            Self::Net(error) => error.is_retriable(),
            _ => false,
        }
    }
}

fn of(partition: Option<&TopicPartition>) -> String {
    partition
        .map(|partition| format!(" of {partition}"))
        .unwrap_or_default()
}

fn said(message: Option<&Str>) -> String {
    message
        .map(|message| format!(" ({message})"))
        .unwrap_or_default()
}

fn share_group_hint(error: ErrorCode) -> &'static str {
    match error {
        ErrorCode::GROUP_MAX_SIZE_REACHED => "; group.share.max.size of the brokers bounds it",
        ErrorCode::UNSUPPORTED_VERSION => {
            "; share groups must be switched on in the cluster (kafka-features, share.version 1)"
        }
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL | ErrorCode::GROUP_ID_NOT_FOUND => {
            "; a group of consumers of the other kind may have that id"
        }
        _ => "",
    }
}

fn group_hint(error: ErrorCode) -> &'static str {
    match error {
        ErrorCode::FENCED_INSTANCE_ID => "; another member uses the same group.instance.id",
        ErrorCode::UNRELEASED_INSTANCE_ID => {
            "; if that one ended without closing, it has its place until its session ends \
             (group.consumer.session.timeout.ms of the broker): subscribe again then"
        }
        ErrorCode::UNSUPPORTED_ASSIGNOR => {
            "; group.remote.assignor must be one of the broker's group.consumer.assignors, such as \
             uniform or range"
        }
        ErrorCode::GROUP_ID_NOT_FOUND => {
            "; group.protocol=consumer cannot join a group whose members speak the classic protocol, \
             unless the brokers take them along (group.consumer.migration.policy)"
        }
        ErrorCode::UNSUPPORTED_VERSION => {
            "; group.protocol=consumer needs brokers of Kafka 4.0 or later with group.version switched \
             on; with older ones set it to classic, or to auto"
        }
        ErrorCode::INVALID_REGULAR_EXPRESSION => {
            "; brokers match patterns by RE2/J, which does not know all of this client's syntax"
        }
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL => {
            "; its members share none of this one's partition.assignment.strategy, or it is no \
             group of consumers"
        }
        ErrorCode::INVALID_SESSION_TIMEOUT => {
            "; session.timeout.ms must lie between the broker's group.min.session.timeout.ms and \
             group.max.session.timeout.ms"
        }
        _ => "",
    }
}

fn commit_hint(error: ErrorCode) -> &'static str {
    match error {
        ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::ILLEGAL_GENERATION
        | ErrorCode::STALE_MEMBER_EPOCH
        | ErrorCode::REBALANCE_IN_PROGRESS => {
            "; the partitions may belong to another member by now, which reads on from the last \
             commit: if that happens often, raise max.poll.interval.ms or lower max.poll.records"
        }
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            "; the topic was deleted, or has no such partition: the offset is of no use to anybody"
        }
        ErrorCode::OFFSET_METADATA_TOO_LARGE => {
            "; the metadata is longer than the broker's offset.metadata.max.bytes"
        }
        _ => "",
    }
}
