//! Record batches, written and walked by hand for the floor and the sink.

use std::io;

use crate::codec::{Codec, Contexts};
use crate::workload::Event;

/// Bytes in front of a batch's records.
pub const HEADER: usize = 61;
/// What the checksum covers starts here.
const CRC_FROM: usize = 21;

/// A batch being filled. Reused for batch after batch.
#[derive(Debug)]
pub struct OpenBatch {
    /// Room for the header, then plain records.
    buf: Vec<u8>,
    count: u32,
    sealed: Vec<u8>,
}

impl Default for OpenBatch {
    fn default() -> Self {
        Self {
            buf: vec![0; HEADER],
            count: 0,
            sealed: Vec::new(),
        }
    }
}

impl OpenBatch {
    /// Appends one record; its timestamp is the batch's.
    #[inline]
    pub fn append(&mut self, event: Event<'_>) {
        let mut head = [0_u8; 24];
        let delta = zigzag(self.count);
        let (key_len, value_len) = (
            zigzag(event.key.len() as u32),
            zigzag(event.value.len() as u32),
        );
        // attributes, timestamp delta, …, header count: one byte each.
        let body = 3
            + varint_len(delta)
            + varint_len(key_len)
            + event.key.len()
            + varint_len(value_len)
            + event.value.len();
        let mut at = put_varint(&mut head, 0, zigzag(body as u32));
        at = put_varint(&mut head, at + 2, delta);
        at = put_varint(&mut head, at, key_len);
        self.buf.extend_from_slice(&head[..at]);
        self.buf.extend_from_slice(event.key);
        let at = put_varint(&mut head, 0, value_len);
        self.buf.extend_from_slice(&head[..at]);
        self.buf.extend_from_slice(event.value);
        self.buf.push(0);
        self.count += 1;
    }

    /// Bytes of plain records and header so far.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Compresses, fills in the header and the checksum, and lends the batch's bytes. Call
    /// [`clear`](Self::clear) afterwards.
    pub fn seal(
        &mut self,
        codec: Codec,
        contexts: &mut Contexts,
        millis: i64,
    ) -> io::Result<&[u8]> {
        let bytes = if codec == Codec::None {
            &mut self.buf
        } else {
            self.sealed.clear();
            self.sealed.resize(HEADER, 0);
            contexts.compress(codec, &self.buf[HEADER..], &mut self.sealed)?;
            &mut self.sealed
        };
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
        bytes[16] = 2;
        bytes[21..23].copy_from_slice(&u16::from(codec as u8).to_be_bytes());
        bytes[23..27].copy_from_slice(&(self.count - 1).to_be_bytes());
        bytes[27..35].copy_from_slice(&millis.to_be_bytes());
        bytes[35..43].copy_from_slice(&millis.to_be_bytes());
        // No producer id, epoch or sequence.
        bytes[43..57].fill(0xff);
        bytes[57..61].copy_from_slice(&self.count.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        Ok(bytes)
    }

    /// Makes room for the next batch.
    pub fn clear(&mut self) {
        self.buf.truncate(HEADER);
        self.count = 0;
    }
}

/// What [`walk`] saw.
#[derive(Debug, Default, Clone, Copy)]
pub struct Walked {
    /// Records of complete batches.
    pub records: u64,
    /// Bytes of their values.
    pub value_bytes: u64,
    /// Sum of the values' first bytes: proof that each was touched.
    pub touched: u64,
}

/// Offset after the last complete batch in `records`, or `None` when there is none. Reads headers only.
pub fn next_offset(mut records: &[u8]) -> Option<i64> {
    let mut next = None;
    while let Some((batch, rest)) = split(records) {
        let base = i64::from_be_bytes(*batch.first_chunk()?);
        next = Some(base + i64::from(be_i32(batch, 23)) + 1);
        records = rest;
    }
    next
}

/// Checks, decompresses and walks every complete batch.
pub fn walk(
    mut records: &[u8],
    contexts: &mut Contexts,
    scratch: &mut [u8],
    seen: &mut Walked,
) -> io::Result<()> {
    while let Some((batch, rest)) = split(records) {
        if crc32c::crc32c(&batch[CRC_FROM..]) != be_i32(batch, 17) as u32 {
            return Err(io::Error::other("checksum of a batch does not match"));
        }
        let codec = match batch[22] & 7 {
            0 => Codec::None,
            1 => Codec::Gzip,
            2 => Codec::Snappy,
            3 => Codec::Lz4,
            4 => Codec::Zstd,
            other => return Err(io::Error::other(format!("unknown codec {other}"))),
        };
        let count = be_i32(batch, 57);
        let body = &batch[HEADER..];
        let plain = if codec == Codec::None {
            body
        } else {
            let len = contexts.decompress(codec, body, scratch)?;
            &scratch[..len]
        };
        walk_records(plain, count, seen).ok_or_else(|| io::Error::other("malformed record"))?;
        records = rest;
    }
    Ok(())
}

fn walk_records(plain: &[u8], count: i32, seen: &mut Walked) -> Option<()> {
    let mut at = 0;
    for _ in 0..count {
        let length = varint(plain, &mut at)?;
        let end = at + usize::try_from(length).ok()?;
        at += 1;
        varint(plain, &mut at)?;
        varint(plain, &mut at)?;
        at += varint(plain, &mut at)?.max(0) as usize;
        let value_len = varint(plain, &mut at)?.max(0) as usize;
        let value = plain.get(at..at + value_len)?;
        seen.touched += u64::from(value.first().copied().unwrap_or(0));
        seen.value_bytes += value_len as u64;
        at = end;
    }
    seen.records += count as u64;
    Some(())
}

/// The first complete batch and what follows it.
fn split(records: &[u8]) -> Option<(&[u8], &[u8])> {
    if records.len() < HEADER {
        return None;
    }
    let total = 12 + usize::try_from(be_i32(records, 8)).ok()?;
    (total >= HEADER).then(|| records.split_at_checked(total))?
}

fn be_i32(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
fn zigzag(value: u32) -> u32 {
    value << 1
}

#[inline]
fn varint_len(value: u32) -> usize {
    ((38 - (value | 1).leading_zeros()) / 7) as usize
}

#[inline]
fn put_varint(out: &mut [u8], mut at: usize, mut value: u32) -> usize {
    while value > 0x7f {
        out[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    out[at] = value as u8;
    at + 1
}

#[inline]
fn varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut raw = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        raw |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_walked() {
        for codec in [
            Codec::None,
            Codec::Gzip,
            Codec::Snappy,
            Codec::Lz4,
            Codec::Zstd,
        ] {
            let mut contexts = Contexts::default();
            let mut open = OpenBatch::default();
            let value = vec![b'v'; 300];
            for _ in 0..500 {
                open.append(Event {
                    key: b"key",
                    value: &value,
                });
            }
            let mut bytes = open.seal(codec, &mut contexts, 1).unwrap().to_vec();
            assert_eq!(next_offset(&bytes), Some(500));
            bytes.extend_from_slice(&[0; 30]);
            let mut seen = Walked::default();
            walk(&bytes, &mut contexts, &mut vec![0; 1 << 20], &mut seen).unwrap();
            assert_eq!((seen.records, seen.value_bytes), (500, 150_000));
            assert_eq!(seen.touched, 500 * u64::from(b'v'));
            bytes[70] ^= 1;
            assert!(walk(&bytes, &mut contexts, &mut vec![0; 1 << 20], &mut seen).is_err());
        }
    }

    #[test]
    fn varint_lengths_are_what_is_written() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            u32::MAX,
        ] {
            assert_eq!(
                put_varint(&mut [0; 8], 0, value),
                varint_len(value),
                "{value}"
            );
        }
    }
}
