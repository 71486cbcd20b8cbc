//! Names for places in a log: a partition, an offset in it, and where to start reading.

use std::{fmt, time::Duration};

use crate::Str;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Str,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Str>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl<S: Into<Str>> From<(S, i32)> for TopicPartition {
    fn from((topic, partition): (S, i32)) -> Self {
        Self::new(topic, partition)
    }
}

/// Where in a partition to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Offset {
    /// At the first record the log still holds.
    Beginning,
    /// Behind the last record (for read committed: behind the last stable one).
    End,
    /// At the offset the group committed; where there is none, as `auto.offset.reset` says.
    Committed,
    /// At this offset, or the next one that exists. Not negative.
    At(i64),
    /// At the first record with this timestamp or a later one, in ms since 1970; at the end if
    /// there is none.
    Timestamp(i64),
    /// This many records before the end, or at the beginning if there are not so many.
    Tail(u64),
    /// At the first record younger than this.
    Since(Duration),
}

/// An offset to commit, or one that was committed: the next record to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommittedOffset {
    /// The offset of the next record to read, one past the last that was processed.
    pub offset: i64,
    /// The leader epoch of the last record that was processed, if known: lets whoever reads on from
    /// here notice a log that was truncated (KIP-320).
    pub leader_epoch: Option<i32>,
    /// Anything the application wants to store with it. The broker limits its size
    /// (`offset.metadata.max.bytes`, 4096).
    pub metadata: Str,
}

impl From<i64> for CommittedOffset {
    fn from(offset: i64) -> Self {
        Self {
            offset,
            ..Self::default()
        }
    }
}

/// The answer to a question for the offset of a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetForTime {
    /// Offset of the first record with the timestamp asked for, or a later one.
    pub offset: i64,
    /// That record's timestamp, ms since 1970.
    pub timestamp: i64,
    /// The leader epoch it was written in, if the broker says.
    pub leader_epoch: Option<i32>,
}
