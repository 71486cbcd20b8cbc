//! An open batch: records are encoded where they will be sent from.

use bytes::BytesMut;

use crate::compress::{Codec, Compression, Compressor};

use super::error::{AppendError, SealError};
use super::header::{BatchHeader, CONTROL, HEADER_LEN};
use super::reader::RecordRef;
use super::sealed::{SealOptions, SealedBatch};
use super::varint::{Short, varint_len, varlong_len};

/// A record to append, borrowed from the caller.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// The key; `None` is null, which is not empty.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null, a tombstone on compacted topics.
    pub value: Option<&'a [u8]>,
    /// The headers, in order; names may repeat.
    pub headers: &'a [Header<'a>],
}

/// A header of a record to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name, which may repeat within a record.
    pub key: &'a str,
    /// Its value; `None` is null.
    pub value: Option<&'a [u8]>,
}

/// An open batch of magic 2.
///
/// It owns one buffer that starts with room for the header; [`Self::append`] encodes each record
/// behind the last, so that an uncompressed batch is sent from where it was written. Appending
/// allocates nothing but the growth of that buffer.
///
/// The buffer is kept longer than what is written in it, so that a record is a few stores into a slice and not a
/// push, with its look at the capacity, for each of its fields.
#[derive(Debug)]
pub struct BatchWriter {
    /// The header's bytes, not yet meaningful, then whole records up to `end`, then bytes of no meaning.
    buf: BytesMut,
    /// Always in `HEADER_LEN..=buf.len()`.
    end: usize,
    /// The first record's timestamp, once there is one.
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
}

impl BatchWriter {
    /// Opens a batch in `buf`, whose content is overwritten and whose memory is used. Pass an empty
    /// one for a start, and the buffers of earlier batches, with their content, to save allocations and the filling of new
    /// memory.
    #[must_use]
    pub fn new(mut buf: BytesMut) -> Self {
        if buf.len() < HEADER_LEN {
            buf.resize(HEADER_LEN, 0);
        }
        Self {
            buf,
            end: HEADER_LEN,
            base_timestamp: 0,
            max_timestamp: i64::MIN,
            count: 0,
        }
    }

    /// Appends a record and returns its offset delta, which is its place in the batch.
    ///
    /// # Errors
    /// [`AppendError`] when the record or the batch would pass the format's 2 GiB; the batch is
    /// as it was.
    #[inline]
    pub fn append(&mut self, record: &NewRecord<'_>) -> Result<i32, AppendError> {
        let tail = if record.headers.is_empty() {
            Tail::NoHeaders
        } else {
            Tail::Headers(record.headers)
        };
        self.append_parts(self.count, record.timestamp, record.key, record.value, tail)
    }

    /// Appends a record that was read from another batch, its headers byte for byte.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_ref(&mut self, record: &RecordRef<'_>) -> Result<i32, AppendError> {
        self.append_at(self.count, record)
    }

    /// Appends a record with an offset delta of its own, as compaction leaves them.
    pub(super) fn append_at(
        &mut self,
        offset_delta: i32,
        record: &RecordRef<'_>,
    ) -> Result<i32, AppendError> {
        self.append_parts(
            offset_delta,
            record.timestamp(),
            record.key(),
            record.value(),
            Tail::Encoded(record.encoded_headers()),
        )
    }

    /// Bytes that `record` takes when appended now.
    #[must_use]
    pub fn encoded_len(&self, record: &NewRecord<'_>) -> u64 {
        let body = body_len(
            self.timestamp_delta(record.timestamp),
            self.count,
            record.key,
            record.value,
            &Tail::Headers(record.headers),
        );
        body + varint_len(body.min(i32::MAX as u64) as i32) as u64
    }

    /// Bytes that `record` takes at most in any batch, to reserve memory before one is chosen.
    #[must_use]
    #[inline]
    pub fn max_encoded_len(record: &NewRecord<'_>) -> u64 {
        let tail = if record.headers.is_empty() {
            Tail::NoHeaders
        } else {
            Tail::Headers(record.headers)
        };
        let body = body_len(i64::MIN, i32::MAX, record.key, record.value, &tail);
        body + MAX_LENGTH_LEN
    }

    /// Bytes of the batch so far, header included: what it takes on the wire uncompressed.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.end
    }

    /// Records so far.
    #[must_use]
    #[inline]
    pub fn record_count(&self) -> i32 {
        self.count
    }

    /// Whether no record was appended yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes the buffer can hold before it grows.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Whether a record of at most `size` bytes ([`max_encoded_len`](Self::max_encoded_len)) fits without the buffer growing.
    #[must_use]
    #[inline]
    pub fn has_room(&self, size: usize) -> bool {
        self.buf.capacity() - self.end >= size + OVERSHOOT
    }

    /// The smallest buffer in which a batch of `len` bytes never grows.
    #[must_use]
    pub const fn capacity_for(len: usize) -> usize {
        len + OVERSHOOT
    }

    /// Goes on in `larger`, and gives the buffer back that was used so far.
    pub fn move_to(&mut self, mut larger: BytesMut) -> BytesMut {
        if larger.len() < self.end {
            larger.clear();
            larger.extend_from_slice(&self.buf[..self.end]);
        } else {
            larger[..self.end].copy_from_slice(&self.buf[..self.end]);
        }
        std::mem::replace(&mut self.buf, larger)
    }

    /// Gives the buffer back, with what was appended.
    #[must_use]
    pub fn into_buffer(mut self) -> BytesMut {
        self.buf.truncate(self.end);
        self.buf
    }

    /// Closes the batch: compresses the records, unless that does not make them smaller, and
    /// writes the header of a batch that belongs to no idempotent producer yet.
    ///
    /// # Errors
    /// [`SealError`] when there are no records or the codec fails.
    pub fn seal(
        self,
        options: &SealOptions,
        compressor: &mut Compressor,
    ) -> Result<SealedBatch, SealError> {
        self.seal_into(options, compressor, BytesMut::with_capacity)
    }

    /// As [`Self::seal`]; what was compressed goes into the buffer that `buffer` gives when it is told how many bytes that
    /// takes. Whatever the buffer holds is overwritten, and one that is too small grows.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub fn seal_into(
        mut self,
        options: &SealOptions,
        compressor: &mut Compressor,
        buffer: impl FnOnce(usize) -> BytesMut,
    ) -> Result<SealedBatch, SealError> {
        if self.count == 0 {
            return Err(SealError::Empty);
        }
        self.buf.truncate(self.end);
        let header = self.header(options.codec, 0);
        let plain = &self.buf[HEADER_LEN..];
        if options.codec.compression() == Compression::None {
            return Ok(SealedBatch::new(header, self.buf, None));
        }
        let packed = compressor.compress(options.codec, plain)?;
        if packed.len() >= plain.len() {
            let header = self.header(Codec::default(), 0);
            return Ok(SealedBatch::new(header, self.buf, None));
        }
        // A batch waits for its acknowledgement in this buffer, while the large one goes back to work.
        let mut sealed = buffer(HEADER_LEN + packed.len());
        sealed.clear();
        sealed.extend_from_slice(&[0; HEADER_LEN]);
        sealed.extend_from_slice(packed);
        Ok(SealedBatch::new(header, sealed, Some(self.buf)))
    }

    /// Closes a batch that was never empty as a control batch, which is never compressed.
    pub(super) fn seal_control(mut self) -> SealedBatch {
        self.buf.truncate(self.end);
        let header = self.header(Codec::default(), CONTROL);
        SealedBatch::new(header, self.buf, None)
    }

    fn header(&self, codec: Codec, attributes: i16) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            last_offset: i64::from(self.count - 1),
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: attributes | codec.compression() as i16,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: Some(self.count),
        }
    }

    #[inline]
    fn timestamp_delta(&self, timestamp: i64) -> i64 {
        if self.count == 0 {
            0
        } else {
            // Wrapping, as the reader adds: even absurd timestamps come back as they were.
            timestamp.wrapping_sub(self.base_timestamp)
        }
    }

    #[inline(always)]
    fn append_parts(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        tail: Tail<'_>,
    ) -> Result<i32, AppendError> {
        let key_bytes = key.unwrap_or_default();
        let value_bytes = value.unwrap_or_default();
        // Lengths past 31 bits come out wrong here and are refused below.
        let delta = Short::varlong(self.timestamp_delta(timestamp));
        let offset_and_key = Short::varint(offset_delta).then(Short::varint(nullable_len(key)));
        let value_len = Short::varint(nullable_len(value));
        let body = 1
            + (delta.len() + offset_and_key.len() + value_len.len()) as u64
            + key_bytes.len() as u64
            + value_bytes.len() as u64
            + tail.len();
        if body + MAX_LENGTH_LEN > MAX_BATCH_LEN - self.end as u64 || self.count == i32::MAX {
            return Err(self.refuse(body));
        }

        let room_max = body as usize + MAX_LENGTH_LEN as usize + OVERSHOOT;
        if self.buf.len() - self.end < room_max {
            self.lengthen(room_max);
        }
        let mut room = Room {
            bytes: &mut self.buf[self.end..],
            at: 0,
        };
        // Attributes, of which none are defined, are a byte of zero.
        let length = Short::varint(body as i32).then(Short::ZERO);
        room.put_short(length.then(delta));
        room.put_short(offset_and_key);
        room.put(key_bytes);
        room.put_short(value_len);
        room.put(value_bytes);
        match tail {
            Tail::NoHeaders => room.put_short(Short::ZERO),
            Tail::Headers(headers) => room.put_headers(headers),
            Tail::Encoded(bytes) => room.put(bytes),
        }
        self.end += room.at;

        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count += 1;
        Ok(offset_delta)
    }

    /// Makes the buffer `room` bytes longer than what is written, and some more while that costs no memory.
    #[cold]
    #[inline(never)]
    fn lengthen(&mut self, room: usize) {
        let ahead = (self.end + LENGTHENED_BY).min(self.buf.capacity());
        self.buf.resize(ahead.max(self.end + room), 0);
    }

    #[cold]
    fn refuse(&self, body: u64) -> AppendError {
        if body + MAX_LENGTH_LEN > MAX_BATCH_LEN - HEADER_LEN as u64 {
            AppendError::RecordTooLarge { len: body }
        } else {
            AppendError::BatchFull {
                len: self.end,
                count: self.count,
            }
        }
    }
}

/// What follows a record's value.
enum Tail<'a> {
    NoHeaders,
    Headers(&'a [Header<'a>]),
    /// Header count and headers, as another batch has them.
    Encoded(&'a [u8]),
}

impl Tail<'_> {
    #[inline(always)]
    fn len(&self) -> u64 {
        match self {
            Self::NoHeaders => 1,
            Self::Headers(headers) => headers_len(headers),
            Self::Encoded(bytes) => bytes.len() as u64,
        }
    }
}

/// Bytes of a record after its length field. Saturates nowhere: the sum of lengths of slices in
/// memory fits 64 bits.
#[inline(always)]
fn body_len(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    tail: &Tail<'_>,
) -> u64 {
    1 + varlong_len(timestamp_delta) as u64
        + varint_len(offset_delta) as u64
        + nullable_encoded_len(key)
        + nullable_encoded_len(value)
        + tail.len()
}

#[inline(always)]
fn nullable_len(bytes: Option<&[u8]>) -> i32 {
    bytes.map_or(-1, |bytes| bytes.len() as i32)
}

/// Bytes of a nullable field with its length. A length past 31 bits counts as the longest varint;
/// the sum is then too large to be appended anyway.
#[inline(always)]
fn nullable_encoded_len(bytes: Option<&[u8]>) -> u64 {
    let len = bytes.map_or(0, <[u8]>::len);
    let len_len = match bytes {
        None => 1,
        Some(_) => varint_len(i32::try_from(len).unwrap_or(i32::MAX)),
    };
    len_len as u64 + len as u64
}

fn headers_len(headers: &[Header<'_>]) -> u64 {
    let mut len = varint_len(i32::try_from(headers.len()).unwrap_or(i32::MAX)) as u64;
    for header in headers {
        len +=
            nullable_encoded_len(Some(header.key.as_bytes())) + nullable_encoded_len(header.value);
    }
    len
}

/// Where a record is written, with enough bytes for it and [`OVERSHOOT`] more.
struct Room<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Room<'_> {
    /// Storing sixteen bytes whatever the length is one instruction; copying a length known at run time only is a
    /// call. What comes next overwrites the rest.
    #[inline(always)]
    fn put_short(&mut self, short: Short) {
        self.bytes[self.at..self.at + 16].copy_from_slice(&short.padded());
        self.at += short.len();
    }

    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        let room = &mut self.bytes[self.at..self.at + bytes.len()];
        match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            // Keys mostly are short: two stores that may overlap.
            (Some(first), Some(last)) if bytes.len() <= 16 => {
                room[..8].copy_from_slice(first);
                room[bytes.len() - 8..].copy_from_slice(last);
            }
            _ => room.copy_from_slice(bytes),
        }
        self.at += bytes.len();
    }

    fn put_headers(&mut self, headers: &[Header<'_>]) {
        self.put_short(Short::varint(headers.len() as i32));
        for header in headers {
            self.put_short(Short::varint(header.key.len() as i32));
            self.put(header.key.as_bytes());
            self.put_short(Short::varint(nullable_len(header.value)));
            self.put(header.value.unwrap_or_default());
        }
    }
}

/// How far a record's stores may reach past its end.
const OVERSHOOT: usize = 16;

/// How much of a new buffer is filled at a time, for many records and while it stays in the first cache.
const LENGTHENED_BY: usize = 4 << 10;

/// A record's length field at its longest.
const MAX_LENGTH_LEN: u64 = 5;

/// A batch's length field, which does not count its first 12 bytes, has 31 bits.
const MAX_BATCH_LEN: u64 = i32::MAX as u64;
