//! What can go wrong for a consumer, in words that say where and what to try.

use std::time::Duration;

use crate::{Str, TopicPartition};

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
    /// Whether the same call may succeed later without anything being changed.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::UnknownTopic { .. })
    }
}
