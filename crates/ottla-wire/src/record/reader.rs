//! Records read where they lie: every field borrows the batch's bytes.

use super::error::{BatchError, RecordFault};
use super::varint::{varint, varlong};

/// A record that borrows its batch.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    offset: i64,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    /// Header count and headers, checked when the record was read.
    headers: &'a [u8],
}

impl<'a> RecordRef<'a> {
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
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; `None` is null, a tombstone on compacted topics.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The headers, in order.
    #[must_use]
    pub fn headers(&self) -> RecordHeaders<'a> {
        RecordHeaders::new(self.headers)
    }

    /// A record without headers or offset, to be appended elsewhere.
    pub(super) fn bare(timestamp: i64, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self {
            offset: 0,
            timestamp,
            key,
            value,
            headers: &[0],
        }
    }

    /// Bytes it takes at most in any batch.
    pub(super) fn encoded_len_max(&self) -> usize {
        RECORD_OVERHEAD_MAX
            + self.key.map_or(0, <[u8]>::len)
            + self.value.map_or(0, <[u8]>::len)
            + self.headers.len()
    }

    /// Header count and headers as the batch has them.
    pub(super) fn encoded_headers(&self) -> &'a [u8] {
        self.headers
    }
}

/// A header's name and value, which may be null.
type HeaderRef<'a> = (&'a [u8], Option<&'a [u8]>);

/// The headers of a record: name and value, which may be null. Names may repeat and, though Kafka
/// calls them strings, may hold any bytes.
#[derive(Clone, Debug)]
pub struct RecordHeaders<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> RecordHeaders<'a> {
    /// `encoded` was walked by [`check_headers`].
    pub(super) fn new(encoded: &'a [u8]) -> Self {
        let (count, at) = varint(encoded, 0).unwrap_or((0, encoded.len()));
        Self {
            rest: &encoded[at..],
            left: usize::try_from(count).unwrap_or(0),
        }
    }
}

impl<'a> Iterator for RecordHeaders<'a> {
    type Item = HeaderRef<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        // Never fails: the record was checked before it was lent.
        let (header, next) = header(self.rest, 0).ok()?;
        self.rest = &self.rest[next..];
        self.left -= 1;
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for RecordHeaders<'_> {}

/// Walks the records of a decoded batch, in order, without allocating. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    body: &'a [u8],
    cursor: Cursor,
}

impl<'a> Records<'a> {
    pub(super) fn new(body: &'a [u8], cursor: Cursor) -> Self {
        Self { body, cursor }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next(self.body)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // A malformed record ends the walk early.
        (0, Some(self.cursor.left() + 1))
    }
}

/// A place among the records of a batch.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    pub(super) base_offset: i64,
    pub(super) base_timestamp: i64,
    /// The timestamp of every record, when the broker's clock set it.
    pub(super) log_append_time: Option<i64>,
    /// Records to read in all; set to `index` after an error.
    count: u32,
    /// Records read.
    index: u32,
    /// Where in the body the next one starts.
    at: usize,
    /// Whether the end was checked for left-over bytes.
    ended: bool,
}

impl Cursor {
    pub(super) fn new(
        base_offset: i64,
        base_timestamp: i64,
        log_append_time: Option<i64>,
        count: u32,
    ) -> Self {
        Self {
            base_offset,
            base_timestamp,
            log_append_time,
            count,
            index: 0,
            at: 0,
            ended: false,
        }
    }

    pub(super) fn left(&self) -> usize {
        (self.count - self.index) as usize
    }

    #[inline(always)]
    pub(super) fn next<'a>(&mut self, body: &'a [u8]) -> Option<Result<RecordRef<'a>, BatchError>> {
        if self.index == self.count {
            return self.end(body);
        }
        match self.read(body) {
            Ok(record) => {
                self.index += 1;
                Some(Ok(record))
            }
            Err(fault) => Some(Err(self.fail(fault))),
        }
    }

    /// Reads the record at `at` and moves past it.
    #[inline(always)]
    fn read<'a>(&mut self, body: &'a [u8]) -> Result<RecordRef<'a>, RecordFault> {
        let (len, at) = varint(body, self.at).ok_or(RecordFault::CutShort)?;
        let record = field(body, at, len, "record")?;
        // Attributes, of which none are defined, come first.
        let (timestamp_delta, at) = varlong(record, 1).ok_or(RecordFault::CutShort)?;
        let (offset_delta, at) = varint(record, at).ok_or(RecordFault::CutShort)?;
        let (key, at) = nullable(record, at, "key")?;
        let (value, at) = nullable(record, at, "value")?;
        let headers = record.get(at..).ok_or(RecordFault::CutShort)?;
        if headers != [0] {
            check_headers(headers)?;
        }
        let offset = self
            .base_offset
            .checked_add(i64::from(offset_delta))
            .filter(|&offset| offset >= 0)
            .ok_or(RecordFault::Offset {
                delta: i64::from(offset_delta),
            })?;
        let timestamp = match self.log_append_time {
            None => self.base_timestamp.wrapping_add(timestamp_delta),
            Some(time) => time,
        };
        // `field` found the record inside the body.
        self.at = record_end(body, record);
        Ok(RecordRef {
            offset,
            timestamp,
            key,
            value,
            headers,
        })
    }

    /// After the last record nothing may follow.
    #[cold]
    fn end(&mut self, body: &[u8]) -> Option<Result<RecordRef<'static>, BatchError>> {
        if self.ended {
            return None;
        }
        self.ended = true;
        let len = body.len() - self.at;
        (len != 0).then(|| Err(self.fail(RecordFault::LeftOver { len })))
    }

    #[cold]
    fn fail(&mut self, fault: RecordFault) -> BatchError {
        let error = BatchError::Record {
            base_offset: self.base_offset,
            index: self.index,
            fault,
        };
        self.count = self.index;
        self.ended = true;
        error
    }
}

/// Length, attributes, both deltas, key and value length at their longest.
const RECORD_OVERHEAD_MAX: usize = 5 + 1 + 10 + 5 + 5 + 5;

/// The index in `body` after `part`, which is a slice of it.
#[inline(always)]
fn record_end(body: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - body.as_ptr() as usize + part.len()
}

/// The `len` bytes at `at`.
#[inline(always)]
fn field<'a>(
    bytes: &'a [u8],
    at: usize,
    len: i32,
    name: &'static str,
) -> Result<&'a [u8], RecordFault> {
    usize::try_from(len)
        .ok()
        .and_then(|len| bytes.get(at..)?.get(..len))
        .ok_or(RecordFault::Length {
            field: name,
            len: i64::from(len),
        })
}

/// The nullable field at `at`, and the index after it.
#[inline(always)]
fn nullable<'a>(
    record: &'a [u8],
    at: usize,
    name: &'static str,
) -> Result<(Option<&'a [u8]>, usize), RecordFault> {
    let (len, at) = varint(record, at).ok_or(RecordFault::CutShort)?;
    if len == -1 {
        return Ok((None, at));
    }
    let bytes = field(record, at, len, name)?;
    Ok((Some(bytes), at + bytes.len()))
}

/// The header at `at`, and the index after it.
fn header(bytes: &[u8], at: usize) -> Result<(HeaderRef<'_>, usize), RecordFault> {
    let (len, at) = varint(bytes, at).ok_or(RecordFault::CutShort)?;
    let key = field(bytes, at, len, "header key")?;
    let (value, at) = nullable(bytes, at + key.len(), "header value")?;
    Ok(((key, value), at))
}

/// Walks a record's headers, which must fill `bytes` exactly.
#[inline(never)]
fn check_headers(bytes: &[u8]) -> Result<(), RecordFault> {
    let (count, mut at) = varint(bytes, 0).ok_or(RecordFault::CutShort)?;
    // A header takes two bytes at least.
    if count < 0 || count as usize > (bytes.len() - at) / 2 {
        return Err(RecordFault::Length {
            field: "header count",
            len: i64::from(count),
        });
    }
    for _ in 0..count {
        (_, at) = header(bytes, at)?;
    }
    match bytes.len() - at {
        0 => Ok(()),
        len => Err(RecordFault::LeftOver { len }),
    }
}
