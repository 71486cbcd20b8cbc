//! Which transactions are open in a partition, and which were aborted (KIP-98).
//!
//! Owns what a reader with `isolation.level=read_committed` is told. Fed with every batch that is written or
//! recovered; which transaction a producer is in is the transaction coordinator's business.

use std::collections::BTreeMap;

use ottla_wire::record::{Batches, ControlType};

use super::header::BatchHeader;

/// The transactions of one partition.
#[derive(Debug, Default)]
pub(crate) struct LogTransactions {
    /// Where each open transaction began, by producer id.
    open: BTreeMap<i64, i64>,
    /// In the order of their markers.
    aborted: Vec<AbortedTransaction>,
}

/// A transaction that was aborted, and the offsets of its first record and its marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortedTransaction {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    pub(crate) last_offset: i64,
}

impl LogTransactions {
    /// Takes note of a batch; `marker` says what a control batch does.
    pub(super) fn note_appended(&mut self, batch: &BatchHeader, marker: Option<ControlType>) {
        if !batch.is_transactional() {
            return;
        }
        let (producer_id, first_offset) = (batch.producer_id, batch.base_offset);
        if !batch.is_control() {
            self.open.entry(producer_id).or_insert(first_offset);
            return;
        }
        let Some(first_offset) = self.open.remove(&producer_id) else {
            return;
        };
        if marker == Some(ControlType::Abort) {
            self.aborted.push(AbortedTransaction {
                producer_id,
                first_offset,
                last_offset: batch.last_offset(),
            });
        }
    }

    /// Where the oldest open transaction began.
    pub(super) fn first_open(&self) -> Option<i64> {
        self.open.values().min().copied()
    }

    /// Where the producer's transaction began, if it has one open here.
    pub(crate) fn start_of(&self, producer_id: i64) -> Option<i64> {
        self.open.get(&producer_id).copied()
    }

    /// The aborted transactions that have records or their marker in `from..to`.
    pub(crate) fn aborted_in(&self, from: i64, to: i64) -> Vec<AbortedTransaction> {
        let first = self
            .aborted
            .partition_point(|aborted| aborted.last_offset < from);
        self.aborted[first..]
            .iter()
            .filter(|aborted| aborted.first_offset < to)
            .copied()
            .collect()
    }

    /// Forgets what ended before the log starts.
    pub(super) fn trim(&mut self, start_offset: i64) {
        self.aborted
            .retain(|aborted| aborted.last_offset >= start_offset);
    }
}

/// What the control batch in `bytes` does; `None` if it is none, or compaction has emptied it.
pub(super) fn marker_in(header: &BatchHeader, bytes: &[u8]) -> Option<ControlType> {
    if !header.is_control() {
        return None;
    }
    let batch = Batches::new(bytes::Bytes::copy_from_slice(bytes)).next()?;
    batch.ok()?.control_type().ok()?
}
