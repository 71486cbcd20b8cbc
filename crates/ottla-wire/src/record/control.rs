//! Control batches: the markers that end transactions, and what else brokers write among records.

use bytes::BytesMut;

use super::decoded::DecodedBatch;
use super::error::{BatchError, RecordFault};
use super::sealed::SealedBatch;
use super::writer::{BatchWriter, NewRecord};

/// What the record of a control batch announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ControlType {
    /// The producer's transaction was aborted: its records since the last marker do not count.
    Abort,
    /// The producer's transaction was committed.
    Commit,
    /// A KRaft leader took over.
    LeaderChange,
    /// A KRaft snapshot begins.
    SnapshotHeader,
    /// A KRaft snapshot ends.
    SnapshotFooter,
    /// The KRaft protocol's version changed.
    KRaftVersion,
    /// The KRaft voters changed.
    KRaftVoters,
    /// A type from a later Kafka; readers skip it.
    Unknown(i16),
}

impl ControlType {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::KRaftVersion => 5,
            Self::KRaftVoters => 6,
            Self::Unknown(number) => number,
        }
    }

    fn from_number(number: i16) -> Self {
        match number {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::KRaftVersion,
            6 => Self::KRaftVoters,
            other => Self::Unknown(other),
        }
    }

    /// Reads the first record's key: a version, whatever it is, and the type.
    pub(super) fn of(batch: &DecodedBatch) -> Result<Self, BatchError> {
        let fault = BatchError::Record {
            base_offset: batch.header().base_offset(),
            index: 0,
            fault: RecordFault::ControlKey,
        };
        let record = batch.records().next().unwrap_or(Err(fault.clone()))?;
        match record.key() {
            Some(&[_, _, high, low, ..]) => Ok(Self::from_number(i16::from_be_bytes([high, low]))),
            _ => Err(fault),
        }
    }
}

/// The marker that ends a transaction of `producer_id`, as a broker writes it to each of the
/// transaction's partitions: `commit` or abort, at `timestamp` ms since the epoch. Give it its
/// offset with [`SealedBatch::place`].
#[must_use]
pub fn control_batch(
    commit: bool,
    producer_id: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
    timestamp: i64,
) -> SealedBatch {
    let kind = if commit {
        ControlType::Commit
    } else {
        ControlType::Abort
    };
    let mut key = [0; 4];
    key[2..].copy_from_slice(&kind.number().to_be_bytes());
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    let mut writer = BatchWriter::new(BytesMut::new());
    let marker = NewRecord {
        timestamp,
        key: Some(&key),
        value: Some(&value),
        headers: &[],
    };
    let appended = writer.append(&marker);
    debug_assert!(appended.is_ok(), "a batch has room for 20 bytes");
    let mut sealed = writer.seal_control();
    sealed.stamp(producer_id, producer_epoch, -1, true);
    sealed
}
