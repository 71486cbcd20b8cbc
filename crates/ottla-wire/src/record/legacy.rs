//! Messages of magic 0 and 1, which brokers wrote before 0.11 and old topics still hold.
//!
//! Reading only: each message, or the set of messages inside a compressed one, is translated into
//! the records of magic 2, so that everything downstream knows one format.
//!
//! A message is: offset i64 · size i32 · crc u32 (CRC-32 of the rest) · magic i8 · attributes i8 ·
//! timestamp i64 (magic 1) · key · value, each with an i32 length, -1 for null. A compressed
//! message's value is a set of messages. Its own offset is that of the last of them; inside,
//! offsets are absolute in magic 0 and relative in magic 1.

use bytes::{Bytes, BytesMut};

use crate::compress::{Compression, Decompressor};

use super::decoded::DecodedBatch;
use super::error::{BatchError, HeaderFault, RecordFault};
use super::header::{BatchHeader, HEADER_LEN, LOG_OVERHEAD, MAGIC_AT, i32_at, i64_at};
use super::reader::RecordRef;
use super::writer::BatchWriter;

/// The least that the size field of magic 0 can say: crc, magic, attributes, two lengths.
pub(super) const MIN_LENGTH_0: i32 = 14;

/// The same for magic 1, which adds the timestamp.
pub(super) const MIN_LENGTH_1: i32 = 22;

/// From here to the end the checksum covers.
const CRC_COVERS_FROM: usize = MAGIC_AT;

/// The checksum that a message's bytes have.
pub(super) fn crc(message: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(&message[CRC_COVERS_FROM..]);
    crc.sum()
}

/// What a whole message says of itself.
pub(super) fn header(message: &[u8]) -> Result<BatchHeader, HeaderFault> {
    let magic = message[MAGIC_AT] as i8;
    let attributes = i16::from(message[MAGIC_AT + 1]);
    let offset = i64_at(message, 0);
    if !(0..i64::MAX).contains(&offset) {
        return Err(HeaderFault::Offsets {
            base_offset: offset,
            last_offset_delta: 0,
        });
    }
    let timestamp = match magic {
        0 => -1,
        _ => i64_at(message, MAGIC_AT + 2),
    };
    let plain = Compression::from_attributes(attributes) == Some(Compression::None);
    Ok(BatchHeader {
        base_offset: offset,
        last_offset: offset,
        partition_leader_epoch: -1,
        magic,
        crc: i32_at(message, LOG_OVERHEAD) as u32,
        // Of the later bits only the timestamp's type means anything yet.
        attributes: attributes & 0x0f,
        base_timestamp: timestamp,
        max_timestamp: timestamp,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: plain.then_some(1),
    })
}

/// Translates a message, or the set inside a compressed one, into records of magic 2.
pub(super) fn decode(
    header: &BatchHeader,
    message: &[u8],
    decompressor: &mut Decompressor,
    max_bytes: usize,
) -> Result<DecodedBatch, BatchError> {
    let at = |index| {
        let base_offset = header.base_offset;
        move |fault| BatchError::Record {
            base_offset,
            index,
            fault,
        }
    };
    let outer = Message::parse(message).map_err(at(0))?;
    let compression = header.compression().ok_or(BatchError::UnknownCodec {
        base_offset: header.base_offset,
        number: (header.attributes & 7) as u8,
    })?;
    let mut translation = Translation::new(*header);
    if compression == Compression::None {
        translation
            .push(header.base_offset, &outer)
            .map_err(at(0))?;
        return translation.finish();
    }

    let packed = outer.value.ok_or(RecordFault::Length {
        field: "value",
        len: -1,
    });
    let packed = packed.map_err(at(0))?;
    let set = match header.magic {
        0 => decompressor.decompress_magic_0(compression, packed, max_bytes),
        _ => decompressor.decompress(compression, packed, max_bytes),
    };
    let set = set.map_err(|source| BatchError::Decompress {
        base_offset: header.base_offset,
        source,
    })?;

    // Relative offsets count from the first message, and the outer offset is the last one's.
    let base = if header.magic == 0 {
        0
    } else {
        let mut last = 0;
        for (index, message) in Messages::new(&set).enumerate() {
            last = i64_at(message.map_err(at(index as u32))?, 0);
        }
        header
            .last_offset
            .checked_sub(last)
            .ok_or(RecordFault::Offset { delta: last })
            .map_err(at(0))?
    };
    for (index, message) in Messages::new(&set).enumerate() {
        let at = at(index as u32);
        let message = message.map_err(at)?;
        let inner = Message::parse(message).map_err(at)?;
        if inner.magic != header.magic || inner.attributes & 7 != 0 {
            return Err(at(RecordFault::Nested));
        }
        let relative = i64_at(message, 0);
        let offset = base
            .checked_add(relative)
            .filter(|offset| (0..=header.last_offset).contains(offset))
            .ok_or(RecordFault::Offset { delta: relative })
            .map_err(at)?;
        translation.push(offset, &inner).map_err(at)?;
    }
    translation.finish()
}

/// Records of magic 2 in the making.
struct Translation {
    header: BatchHeader,
    writer: BatchWriter,
}

impl Translation {
    fn new(header: BatchHeader) -> Self {
        Self {
            header,
            writer: BatchWriter::new(BytesMut::new()),
        }
    }

    fn push(&mut self, offset: i64, message: &Message<'_>) -> Result<(), RecordFault> {
        if self.writer.is_empty() {
            self.header.base_offset = offset;
            self.header.base_timestamp = message.timestamp;
        }
        // A set may have lost messages to compaction, so deltas leave gaps.
        let delta = offset - self.header.base_offset;
        let out_of_range = RecordFault::Offset { delta };
        let delta = i32::try_from(delta).map_err(|_| out_of_range)?;
        if delta < 0 {
            return Err(out_of_range);
        }
        let record = RecordRef::bare(message.timestamp, message.key, message.value);
        self.writer
            .append_at(delta, &record)
            .map_err(|_| RecordFault::Length {
                field: "record",
                len: message.value.map_or(0, <[u8]>::len) as i64,
            })?;
        Ok(())
    }

    fn finish(mut self) -> Result<DecodedBatch, BatchError> {
        let count = self.writer.record_count();
        if count == 0 {
            return Err(BatchError::Record {
                base_offset: self.header.base_offset,
                index: 0,
                fault: RecordFault::CutShort,
            });
        }
        self.header.record_count = Some(count);
        let body = self.writer.into_buffer().freeze().slice(HEADER_LEN..);
        DecodedBatch::new(self.header, body, count as u32)
    }
}

/// The messages of a set, each whole.
struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    fn new(set: &'a Bytes) -> Self {
        Self { rest: set }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<&'a [u8], RecordFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let message = match self.rest.get(8..LOG_OVERHEAD) {
            Some(size) => {
                let size = i32_at(size, 0);
                usize::try_from(size)
                    .ok()
                    .and_then(|size| self.rest.split_at_checked(LOG_OVERHEAD + size))
                    .ok_or(RecordFault::Length {
                        field: "message",
                        len: i64::from(size),
                    })
            }
            None => Err(RecordFault::CutShort),
        };
        match message {
            Ok((message, rest)) => {
                self.rest = rest;
                Some(Ok(message))
            }
            Err(fault) => {
                self.rest = &[];
                Some(Err(fault))
            }
        }
    }
}

/// One message's fields.
struct Message<'a> {
    magic: i8,
    attributes: u8,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, RecordFault> {
        let Some(&[magic, attributes]) = message.get(MAGIC_AT..MAGIC_AT + 2) else {
            return Err(RecordFault::CutShort);
        };
        let rest = &message[MAGIC_AT + 2..];
        let (timestamp, rest) = match magic {
            0 => (-1, rest),
            1 => {
                let (bytes, rest) = rest.split_first_chunk().ok_or(RecordFault::CutShort)?;
                (i64::from_be_bytes(*bytes), rest)
            }
            _ => return Err(RecordFault::Nested),
        };
        let (key, rest) = nullable(rest, "key")?;
        let (value, rest) = nullable(rest, "value")?;
        if !rest.is_empty() {
            return Err(RecordFault::LeftOver { len: rest.len() });
        }
        Ok(Self {
            magic: magic as i8,
            attributes,
            timestamp,
            key,
            value,
        })
    }
}

fn nullable<'a>(
    bytes: &'a [u8],
    field: &'static str,
) -> Result<(Option<&'a [u8]>, &'a [u8]), RecordFault> {
    let (len, rest) = bytes.split_first_chunk().ok_or(RecordFault::CutShort)?;
    let len = i32::from_be_bytes(*len);
    if len == -1 {
        return Ok((None, rest));
    }
    usize::try_from(len)
        .ok()
        .and_then(|len| rest.split_at_checked(len))
        .map(|(bytes, rest)| (Some(bytes), rest))
        .ok_or(RecordFault::Length {
            field,
            len: i64::from(len),
        })
}
