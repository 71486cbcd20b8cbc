//! What can go wrong, in words a person can act on.
//!
//! One [`SendError`] tells whether the record is certainly *not* written or *possibly* written; a
//! program that must not lose or repeat anything reads [`SendError::possibly_written`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ottla_wire::ErrorCode;

use crate::delivery::Delivery;

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {problem}")]
pub struct ConfigError {
    /// Kafka's name of the setting.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Why a record was not accepted, or not (certainly) written.
///
/// Cheap to clone: every record of a failed batch gets one.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The cluster does not know the topic, or says nothing about it within `max.block.ms`.
    #[error(
        "topic {topic}: no usable metadata after {waited:?} (max.block.ms): {detail}; create the topic, or check its name and the address of the cluster"
    )]
    TopicUnavailable {
        /// The topic.
        topic: Arc<str>,
        /// How long the call waited.
        waited: Duration,
        /// What the cluster said last.
        detail: Arc<str>,
    },

    /// `try_send` to a topic whose metadata is still on its way.
    #[error("topic {topic}: metadata not loaded yet; send() waits for it, try_send() does not")]
    TopicNotLoaded {
        /// The topic.
        topic: Arc<str>,
    },

    /// The record names a partition that the topic does not have.
    #[error(
        "topic {topic} has {count} partitions, numbered from 0; there is no partition {partition}"
    )]
    UnknownPartition {
        /// The topic.
        topic: Arc<str>,
        /// The partition asked for.
        partition: i32,
        /// How many the topic has.
        count: i32,
    },

    /// The record alone exceeds a limit; it was not accepted, or the broker refused it.
    #[error(
        "topic {topic}: a record of {size} bytes is larger than {limit}; raise it or send less"
    )]
    RecordTooLarge {
        /// The topic.
        topic: Arc<str>,
        /// The record's size in bytes, with its batch's header.
        size: usize,
        /// The limit, with the name of the setting.
        limit: Arc<str>,
    },

    /// The record cannot be represented.
    #[error("topic {topic}: invalid record: {problem}")]
    InvalidRecord {
        /// The topic.
        topic: Arc<str>,
        /// What is wrong with it.
        problem: Arc<str>,
    },

    /// As many records as `queue.buffering.max.messages` allows are undelivered, and none was released in time.
    #[error(
        "queue.buffering.max.messages ({records_max}) records are undelivered, waited {waited:?}; the cluster is slower than this program: send less, wait for deliveries, or raise it or max.block.ms"
    )]
    QueueFull {
        /// `queue.buffering.max.messages`.
        records_max: usize,
        /// How long the call waited; zero for `try_send`.
        waited: Duration,
    },

    /// Unacknowledged records fill `buffer.memory`, and none was released in time.
    #[error(
        "buffer.memory ({capacity} bytes) is full of undelivered records, waited {waited:?}; the cluster is slower than this program: send less, wait for deliveries, or raise buffer.memory or max.block.ms"
    )]
    BufferFull {
        /// `buffer.memory`, in bytes.
        capacity: usize,
        /// How long the call waited; zero for `try_send`.
        waited: Duration,
    },

    /// `delivery.timeout.ms` passed. The record is certainly not written.
    #[error("{at}: not written within {after:?} (delivery.timeout.ms): {stuck}")]
    TimedOut {
        /// The partition.
        at: TopicPartition,
        /// Time since the record's batch was opened.
        after: Duration,
        /// Where it was stuck.
        stuck: Arc<str>,
    },

    /// Time or retries ran out while at least one attempt had left with no definite answer: the
    /// record may be in the log or not. Sending it again may write it twice.
    #[error("{at}: possibly written, outcome unknown after {after:?}: {stuck}")]
    PossiblyWritten {
        /// The partition.
        at: TopicPartition,
        /// Time since the record's batch was opened.
        after: Duration,
        /// What happened to the last attempt.
        stuck: Arc<str>,
    },

    /// The broker refused the record for good. It is not written.
    #[error("{at}: refused by broker {broker}: {code}{}", Detail(detail))]
    Refused {
        /// The partition.
        at: TopicPartition,
        /// The broker's node id.
        broker: i32,
        /// Kafka's error code.
        code: ErrorCode,
        /// What the broker said about it.
        detail: Option<Arc<str>>,
    },

    /// The record's transaction takes no more, or was aborted before the record left. It is not written.
    #[error("not sent: {reason}")]
    TransactionEnded {
        /// Why.
        reason: Arc<str>,
    },

    /// [`Producer::purge`](crate::Producer::purge) took the record out before it was sent. It is not written.
    #[error("purged before it was sent")]
    Purged,

    /// The producer can send no more: its identity was refused. Close it.
    #[error("the producer cannot go on: {reason}")]
    Fatal {
        /// Why.
        reason: Arc<str>,
    },

    /// The producer is closed, or was closed while the record waited. The record is not written.
    #[error("the producer is closed")]
    Closed,
}

impl SendError {
    /// Whether the record may be in the log in spite of the error.
    pub fn possibly_written(&self) -> bool {
        matches!(self, Self::PossiblyWritten { .. })
    }

    /// Whether sending the same record again can succeed without anything else being changed. For
    /// [`PossiblyWritten`](Self::PossiblyWritten) it can also write the record twice.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::TopicUnavailable { .. }
            | Self::TopicNotLoaded { .. }
            | Self::BufferFull { .. }
            | Self::QueueFull { .. }
            | Self::TimedOut { .. }
            | Self::PossiblyWritten { .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            _ => false,
        }
    }
}

/// [`Producer::send_all`](crate::Producer::send_all) stopped at a record that was not accepted.
#[derive(Debug, thiserror::Error)]
#[error("record {} of the call was not accepted: {error}", .accepted.len())]
pub struct SendAllError {
    /// The deliveries of the records before it, which are on their way.
    pub accepted: Vec<Delivery>,
    /// Why this one was not accepted.
    #[source]
    pub error: SendError,
}

/// `flush` or `close` ended at its deadline with records left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.describe())]
pub struct FlushError {
    /// How long it waited.
    pub waited: Duration,
    /// Records whose outcome was still open, per partition; at most the first hundred partitions.
    pub undelivered: Vec<(TopicPartition, u64)>,
}

impl FlushError {
    /// All records whose outcome was still open.
    pub fn records(&self) -> u64 {
        self.undelivered.iter().map(|(_, count)| count).sum()
    }

    fn describe(&self) -> String {
        use fmt::Write;
        let mut text = format!(
            "{} records not delivered after {:?}:",
            self.records(),
            self.waited
        );
        for (at, count) in self.undelivered.iter().take(SHOWN) {
            let _ = write!(text, " {at} ({count})");
        }
        if let Some(more) = self
            .undelivered
            .len()
            .checked_sub(SHOWN)
            .filter(|more| *more > 0)
        {
            let _ = write!(text, " and {more} more partitions");
        }
        text
    }
}

/// A topic's partition, for messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

struct Detail<'a>(&'a Option<Arc<str>>);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

/// Partitions named in the text of a [`FlushError`].
const SHOWN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_error_counts_and_names() {
        let at = |partition| TopicPartition {
            topic: "clicks".into(),
            partition,
        };
        let error = FlushError {
            waited: Duration::from_secs(2),
            undelivered: (0..7).map(|p| (at(p), 10)).collect(),
        };
        assert_eq!(error.records(), 70);
        let text = error.to_string();
        assert!(
            text.starts_with("70 records not delivered after 2s: clicks[0] (10)"),
            "{text}"
        );
        assert!(text.ends_with("and 2 more partitions"), "{text}");
    }
}
