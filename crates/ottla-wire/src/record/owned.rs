//! Records that outlive the borrow: each shares its batch's one buffer.

use bytes::Bytes;

use super::decoded::DecodedBatch;
use super::error::BatchError;
use super::reader::{Cursor, RecordHeaders, RecordRef, Records};

/// A record that keeps its batch's buffer alive. Making one, like cloning it, bumps a reference
/// count and allocates nothing.
///
/// As long as one record of a batch is kept, the whole batch's bytes are: copy what is kept for
/// long.
#[derive(Clone)]
pub struct Record {
    /// The records of the whole batch.
    body: Bytes,
    offset: i64,
    timestamp: i64,
    key: Span,
    value: Span,
    headers: Span,
}

impl Record {
    fn new(body: &Bytes, record: &RecordRef<'_>) -> Self {
        Self {
            body: body.clone(),
            offset: record.offset(),
            timestamp: record.timestamp(),
            key: Span::of(body, record.key()),
            value: Span::of(body, record.value()),
            headers: Span::of(body, Some(record.encoded_headers())),
        }
    }

    /// Its offset in the partition.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Milliseconds since the Unix epoch; -1 when the record has none.
    #[must_use]
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The key; `None` is null, which is not empty.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.get(&self.body)
    }

    /// The value; `None` is null, a tombstone on compacted topics.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.value.get(&self.body)
    }

    /// The headers, in order.
    #[must_use]
    pub fn headers(&self) -> RecordHeaders<'_> {
        RecordHeaders::new(self.headers.get(&self.body).unwrap_or(&[0]))
    }

    /// The key, sharing the batch's buffer.
    #[must_use]
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key.share(&self.body)
    }

    /// The value, sharing the batch's buffer.
    #[must_use]
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value.share(&self.body)
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field("key", &self.key_bytes())
            .field("value", &self.value_bytes())
            .field("headers", &self.headers().len())
            .finish()
    }
}

/// Walks a decoded batch and owns it: a place in a batch that can be kept, across polls and across
/// tasks. Allocates nothing.
#[derive(Clone, Debug)]
pub struct OwnedRecords {
    batch: DecodedBatch,
    cursor: Cursor,
}

impl OwnedRecords {
    pub(super) fn new(batch: DecodedBatch, cursor: Cursor) -> Self {
        Self { batch, cursor }
    }

    /// The next record, borrowed: cheaper than [`Iterator::next`] by one reference count.
    #[inline]
    pub fn next_ref(&mut self) -> Option<Result<RecordRef<'_>, BatchError>> {
        self.cursor.next(self.batch.body())
    }

    /// Lends the records that are left; they stay left.
    #[must_use]
    pub fn remaining(&self) -> Records<'_> {
        Records::new(self.batch.body(), self.cursor.clone())
    }

    /// The batch that is walked.
    #[must_use]
    pub fn batch(&self) -> &DecodedBatch {
        &self.batch
    }

    /// Records not read yet, going by the batch's header.
    #[must_use]
    pub fn left(&self) -> usize {
        self.cursor.left()
    }
}

impl Iterator for OwnedRecords {
    type Item = Result<Record, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let body = self.batch.body();
        let record = self.cursor.next(body)?;
        Some(record.map(|record| Record::new(body, &record)))
    }
}

/// Where a nullable field lies in a batch's body, which is smaller than 2 GiB.
#[derive(Clone, Copy)]
struct Span {
    /// `u32::MAX` for null.
    start: u32,
    len: u32,
}

impl Span {
    const NULL: u32 = u32::MAX;

    #[inline]
    fn of(body: &[u8], part: Option<&[u8]>) -> Self {
        match part {
            // A slice of the body starts inside it, or at its end.
            Some(part) => Self {
                start: (part.as_ptr() as usize - body.as_ptr() as usize) as u32,
                len: part.len() as u32,
            },
            None => Self {
                start: Self::NULL,
                len: 0,
            },
        }
    }

    fn get(self, body: &[u8]) -> Option<&[u8]> {
        let start = self.start as usize;
        (self.start != Self::NULL).then(|| &body[start..start + self.len as usize])
    }

    fn share(self, body: &Bytes) -> Option<Bytes> {
        let start = self.start as usize;
        (self.start != Self::NULL).then(|| body.slice(start..start + self.len as usize))
    }
}
