//! A batch whose records can be read.

use bytes::Bytes;

use super::control::ControlType;
use super::error::BatchError;
use super::header::{BatchHeader, MIN_RECORD_LEN};
use super::owned::OwnedRecords;
use super::reader::{Cursor, Records};

/// A batch's records, decompressed. Cloning bumps a reference count.
#[derive(Clone, Debug)]
pub struct DecodedBatch {
    header: BatchHeader,
    /// The records of magic 2, whatever the batch's own format was: in the response they came
    /// with, or in the one buffer they were decompressed into.
    body: Bytes,
    count: u32,
}

impl DecodedBatch {
    /// # Errors
    /// [`BatchError::Count`] when `body` cannot hold `count` records, so that nobody reserves
    /// memory for a number a broker made up.
    pub(super) fn new(header: BatchHeader, body: Bytes, count: u32) -> Result<Self, BatchError> {
        if count as usize > body.len() / MIN_RECORD_LEN {
            return Err(BatchError::Count {
                base_offset: header.base_offset,
                count,
                len: body.len(),
            });
        }
        Ok(Self {
            header,
            body,
            count,
        })
    }

    /// What the batch says of itself. Its base offset is exact for every format.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// How many records it says it holds; never more than its bytes could.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the decompressed records: what a budget of prefetched memory counts.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.body.len()
    }

    /// Lends the records in order, allocating nothing. The walk ends after the first error.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.body, self.cursor())
    }

    /// Hands the records out owned, each sharing this batch's buffer.
    #[must_use]
    pub fn into_records(self) -> OwnedRecords {
        let cursor = self.cursor();
        OwnedRecords::new(self, cursor)
    }

    /// What a control batch announces; `None` for batches that hold data, and for one whose record compaction has
    /// removed: brokers keep such a batch for its producer's epoch.
    ///
    /// # Errors
    /// [`BatchError::Record`] when the control record is malformed.
    pub fn control_type(&self) -> Result<Option<ControlType>, BatchError> {
        if !self.header.is_control() || self.count == 0 {
            return Ok(None);
        }
        ControlType::of(self).map(Some)
    }

    pub(super) fn body(&self) -> &Bytes {
        &self.body
    }

    fn cursor(&self) -> Cursor {
        Cursor::new(
            self.header.base_offset,
            self.header.base_timestamp,
            self.header.log_append_time(),
            self.count,
        )
    }
}
