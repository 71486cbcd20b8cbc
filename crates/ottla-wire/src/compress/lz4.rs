//! LZ4 frames, written and read here around `lz4_flex`'s blocks.
//!
//! Kafka's frames are a narrow corner of the format: independent blocks, no dictionary, no content
//! size. Framing them here reuses one table and one buffer for every batch, and reads the header
//! checksum that old producers got wrong.

use lz4_flex::block::{self, CompressTable};
use twox_hash::XxHash32;

use super::codec::Compression;
use super::error::{CompressError, DecompressError};
use super::output::Output;

/// The frame's magic number, little-endian on the wire.
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// Version 1, independent blocks, no checksums, no content size.
const FLAGS: u8 = 0x60;

/// Block size 4 of the format: 64 KiB, Java's default, which every reader takes.
const BLOCK_DESCRIPTOR: u8 = 0x40;

/// Plain bytes per block.
const BLOCK_LEN: usize = 64 * 1024;

/// Set in a block's length when its bytes are stored as they are.
const STORED: u32 = 1 << 31;

/// How far back a linked block can refer.
const WINDOW_LEN: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Encoder {
    table: Option<CompressTable>,
}

impl Encoder {
    pub(super) fn compress(
        &mut self,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressError> {
        let table = self.table.get_or_insert_with(CompressTable::large);
        let block_max = 4 + block::get_maximum_output_size(BLOCK_LEN);
        out.clear();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[FLAGS, BLOCK_DESCRIPTOR]);
        out.push(header_checksum(&[FLAGS, BLOCK_DESCRIPTOR]));
        for piece in plain.chunks(BLOCK_LEN) {
            let start = out.len();
            out.resize(start + block_max, 0);
            let (len_field, body) = out[start..].split_at_mut(4);
            let len = block::compress_into_with_table(piece, body, table).map_err(|error| {
                CompressError {
                    compression: Compression::Lz4,
                    len: plain.len(),
                    reason: error.to_string(),
                }
            })?;
            // Both lengths are below 128 KiB.
            let (len, stored) = if len < piece.len() {
                (len, 0)
            } else {
                body[..piece.len()].copy_from_slice(piece);
                (piece.len(), STORED)
            };
            len_field.copy_from_slice(&(len as u32 | stored).to_le_bytes());
            out.truncate(start + 4 + len);
        }
        out.extend_from_slice(&[0; 4]);
        Ok(())
    }
}

/// Which header checksums a reader takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderChecksum {
    /// The one the format asks for.
    Correct,
    /// Whatever is there: producers of magic 0 hashed the magic number as well.
    Any,
}

pub(super) fn decompress(
    input: &[u8],
    checksum: HeaderChecksum,
    out: &mut Output,
) -> Result<(), DecompressError> {
    let (frame, mut rest) = FrameHeader::parse(input, checksum, out)?;
    let start = out.len();
    loop {
        let cut = |out: &Output| out.corrupt("the LZ4 frame is cut short");
        let (len, after) = rest.split_first_chunk::<4>().ok_or_else(|| cut(out))?;
        let len = u32::from_le_bytes(*len);
        if len == 0 {
            rest = after;
            break;
        }
        let stored = len & STORED != 0;
        let len = (len & !STORED) as usize;
        if len > frame.block_max {
            return Err(out.corrupt(format!(
                "an LZ4 block of {len} bytes in a frame of {}",
                frame.block_max
            )));
        }
        let (body, after) = after.split_at_checked(len).ok_or_else(|| cut(out))?;
        if stored {
            out.extend(body)?;
        } else {
            frame.block(body, start, out)?;
        }
        rest = after;
        if frame.block_checksums {
            let (sum, after) = rest.split_first_chunk::<4>().ok_or_else(|| cut(out))?;
            if u32::from_le_bytes(*sum) != XxHash32::oneshot(0, body) {
                return Err(out.corrupt("an LZ4 block checksum does not match"));
            }
            rest = after;
        }
    }
    let produced = out.len() - start;
    if frame.content_checksum {
        let (sum, after) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| out.corrupt("the LZ4 content checksum is cut short"))?;
        if u32::from_le_bytes(*sum) != XxHash32::oneshot(0, &out.produced()[start..]) {
            return Err(out.corrupt("the LZ4 content checksum does not match"));
        }
        rest = after;
    }
    if frame
        .content_size
        .is_some_and(|size| size != produced as u64)
    {
        return Err(out.corrupt(format!(
            "the LZ4 frame declares {} bytes and holds {produced}",
            frame.content_size.unwrap_or_default()
        )));
    }
    if !rest.is_empty() {
        return Err(out.corrupt(format!("{} bytes follow the LZ4 frame", rest.len())));
    }
    Ok(())
}

struct FrameHeader {
    block_max: usize,
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
}

impl FrameHeader {
    fn parse<'a>(
        input: &'a [u8],
        checksum: HeaderChecksum,
        out: &Output,
    ) -> Result<(Self, &'a [u8]), DecompressError> {
        let short = || out.corrupt("the LZ4 frame header is cut short");
        let rest = input
            .strip_prefix(&MAGIC)
            .ok_or_else(|| out.corrupt("not an LZ4 frame"))?;
        let &[flags, descriptor, ..] = rest else {
            return Err(short());
        };
        if flags & 0xc0 != 0x40 {
            return Err(out.corrupt("unknown LZ4 frame version"));
        }
        if flags & 0x03 != 0 || descriptor & 0x8f != 0 {
            return Err(out.corrupt("the LZ4 frame wants a dictionary or sets reserved bits"));
        }
        let block_max = match descriptor >> 4 {
            size @ 4..=7 => 1 << (8 + 2 * size),
            _ => return Err(out.corrupt("unknown LZ4 block size")),
        };
        let has_content_size = flags & 0x08 != 0;
        let header_len = if has_content_size { 10 } else { 2 };
        let (header, rest) = rest.split_at_checked(header_len).ok_or_else(short)?;
        let (&sum, rest) = rest.split_first().ok_or_else(short)?;
        if checksum == HeaderChecksum::Correct && sum != header_checksum(header) {
            return Err(out.corrupt("the LZ4 header checksum does not match"));
        }
        let content_size = header[2..]
            .first_chunk::<8>()
            .map(|s| u64::from_le_bytes(*s));
        let header = Self {
            block_max,
            linked: flags & 0x20 == 0,
            block_checksums: flags & 0x10 != 0,
            content_checksum: flags & 0x04 != 0,
            content_size,
        };
        Ok((header, rest))
    }

    /// Decompresses one block; `start` is where the frame's output began.
    fn block(&self, body: &[u8], start: usize, out: &mut Output) -> Result<(), DecompressError> {
        let room = out.room();
        // One byte of LZ4 makes at most 255, so the input bounds the memory whatever is declared.
        let most = self.block_max.min(body.len().saturating_mul(255));
        let at = out.len();
        let (done, target) = out.grow(most.min(room))?;
        let result = if self.linked {
            let from = start.max(at.saturating_sub(WINDOW_LEN));
            linked(body, target, &done[from..])
        } else {
            independent(body, target)
        };
        match result {
            Ok(written) => {
                out.keep(at + written);
                Ok(())
            }
            Err(block::DecompressError::OutputTooSmall { .. }) if most > room => {
                Err(out.over_budget())
            }
            Err(error) => Err(out.corrupt(error.to_string())),
        }
    }
}

/// The path of nearly every block. In a function of its own the compiler turns its many copies of a
/// few bytes into plain moves; inlined beside its twin for linked blocks they became calls.
#[inline(never)]
fn independent(body: &[u8], target: &mut [u8]) -> Result<usize, block::DecompressError> {
    block::decompress_into(body, target)
}

#[inline(never)]
fn linked(body: &[u8], target: &mut [u8], done: &[u8]) -> Result<usize, block::DecompressError> {
    block::decompress_into_with_dict(body, target, done)
}

fn header_checksum(header: &[u8]) -> u8 {
    (XxHash32::oneshot(0, header) >> 8) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_header_is_javas() {
        assert_eq!(header_checksum(&[FLAGS, BLOCK_DESCRIPTOR]), 0x82);
    }
}
