//! A closed batch, waiting for its producer's identity and then for the wire.

use bytes::{Bytes, BytesMut};

use crate::compress::{Codec, Compression};

use super::crc::{combine, shift};
use super::error::HeaderFault;
use super::header::{BatchHeader, CRC_COVERS_FROM, HEADER_LEN, TRANSACTIONAL};

/// How a batch is sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealOptions {
    /// The codec and its level.
    pub codec: Codec,
}

/// A batch whose records are final and whose header is not yet: the producer's identity, the only
/// part that changes when it is sent, can be stamped as often as needed without reading the body
/// again.
#[derive(Debug)]
pub struct SealedBatch {
    /// Header, always valid, and body.
    buf: BytesMut,
    header: BatchHeader,
    /// Checksum of the body alone.
    body_crc: u32,
    /// Bytes before compression, header included.
    uncompressed_len: usize,
    /// The buffer the records were written in, when the body moved to another.
    spare: Option<BytesMut>,
}

impl SealedBatch {
    /// `buf` has room for the header and then the body; `spare` is what the records were written
    /// in if that was another buffer.
    pub(super) fn new(header: BatchHeader, buf: BytesMut, spare: Option<BytesMut>) -> Self {
        let body_crc = crc32c::crc32c(&buf[HEADER_LEN..]);
        let uncompressed_len = spare.as_ref().map_or(buf.len(), BytesMut::len);
        let mut sealed = Self {
            buf,
            header,
            body_crc,
            uncompressed_len,
            spare,
        };
        sealed.write_header();
        sealed
    }

    /// Writes the producer's identity. `producer_id`, `producer_epoch` and `base_sequence` are -1
    /// without idempotence, which is also how a batch is sealed.
    pub fn stamp(
        &mut self,
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
        transactional: bool,
    ) {
        self.header.producer_id = producer_id;
        self.header.producer_epoch = producer_epoch;
        self.header.base_sequence = base_sequence;
        self.header.attributes &= !TRANSACTIONAL;
        if transactional {
            self.header.attributes |= TRANSACTIONAL;
        }
        self.write_header();
    }

    /// Gives the records the offsets from `base_offset` on and the epoch of the leader that
    /// appended them, as a broker does. Producers leave both: their batches start at 0.
    pub fn place(&mut self, base_offset: i64, partition_leader_epoch: i32) {
        let span = self.header.last_offset - self.header.base_offset;
        self.header.base_offset = base_offset;
        self.header.last_offset = base_offset + span;
        self.header.partition_leader_epoch = partition_leader_epoch;
        self.write_header();
    }

    /// Bytes that its buffer has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Bytes on the wire, header included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Never: sealing refuses empty batches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bytes before compression, header included.
    #[must_use]
    pub fn uncompressed_len(&self) -> usize {
        self.uncompressed_len
    }

    /// How many records it holds, at least one.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.header.record_count.unwrap_or(0)
    }

    /// The latest timestamp of its records, in ms since the epoch.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        self.header.max_timestamp
    }

    /// The codec of its body: none when the one asked for did not make it smaller.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.header.compression().unwrap_or_default()
    }

    /// What its header says now.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The buffer the records were written in, if compression left it behind: open the next batch
    /// in it.
    pub fn take_spare(&mut self) -> Option<BytesMut> {
        self.spare.take()
    }

    /// The batch's bytes, as a Produce request carries them.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        self.buf.freeze()
    }

    fn write_header(&mut self) {
        let len = self.buf.len();
        let Some(bytes) = self.buf.first_chunk_mut::<HEADER_LEN>() else {
            unreachable!("every sealed buffer starts with a header");
        };
        self.header.write(bytes, len);
        let head_crc = crc32c::crc32c(&bytes[CRC_COVERS_FROM..]);
        self.header.crc = combine(head_crc, self.body_crc, len - HEADER_LEN);
        bytes[17..21].copy_from_slice(&self.header.crc.to_be_bytes());
    }
}

/// Gives a batch that was already sent another producer identity, as after an epoch bump. The
/// records are untouched and not read again; the bytes are copied only if somebody else holds them.
///
/// # Errors
/// [`HeaderFault`] when `bytes` is not one batch of magic 2.
pub fn restamp(
    bytes: Bytes,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
) -> Result<Bytes, HeaderFault> {
    let mut header = super::batches::header_of_one(&bytes)?;
    let mut buf = bytes
        .try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    let len = buf.len();
    let Some(head) = buf.first_chunk_mut::<HEADER_LEN>() else {
        unreachable!("the header was just read");
    };
    let before = crc32c::crc32c(&head[CRC_COVERS_FROM..]);
    header.producer_id = producer_id;
    header.producer_epoch = producer_epoch;
    header.base_sequence = base_sequence;
    header.write(head, len);
    let after = crc32c::crc32c(&head[CRC_COVERS_FROM..]);
    // The difference of the heads becomes the difference of the whole, so a body that was damaged
    // in memory still fails its check.
    header.crc ^= shift(before ^ after, len - HEADER_LEN);
    head[17..21].copy_from_slice(&header.crc.to_be_bytes());
    Ok(buf.freeze())
}
