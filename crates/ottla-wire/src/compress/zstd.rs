//! Zstandard frames (RFC 8878), by `structured-zstd`. See `docs/decisions/0002-zstd.md`.

use structured_zstd::decoding::{
    FrameDecoder, FrameSizeError, find_frame_compressed_size, frame_decompressed_bound,
    frame_header_size,
};
use structured_zstd::encoding::{CompressionLevel, FrameCompressor};

use super::error::{CompressError, DecompressError};
use super::output::Output;

#[derive(Default)]
pub(super) struct Encoder {
    /// The context and the level it was last set to.
    context: Option<(i32, Box<FrameCompressor>)>,
}

impl Encoder {
    pub(super) fn compress(
        &mut self,
        level: i32,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressError> {
        let frames = match &mut self.context {
            Some((set_to, frames)) => {
                if *set_to != level {
                    *set_to = level;
                    frames.set_compression_level(CompressionLevel::from_level(level));
                }
                frames
            }
            empty => {
                let fresh = FrameCompressor::new(CompressionLevel::from_level(level));
                &mut empty.insert((level, Box::new(fresh))).1
            }
        };
        frames.compress_independent_frame_into(plain, out);
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Decoder {
    context: Option<Box<FrameDecoder>>,
}

impl Decoder {
    pub(super) fn decompress(
        &mut self,
        input: &[u8],
        out: &mut Output,
    ) -> Result<(), DecompressError> {
        let decoder = self.context.get_or_insert_with(Box::default);
        let mut rest = input;
        loop {
            let unreadable = |error: FrameSizeError| {
                out.corrupt(match error {
                    FrameSizeError::Header(error) => error.to_string(),
                    FrameSizeError::Truncated => "the zstd frame is cut short".to_owned(),
                    other => format!("unreadable zstd frame: {other:?}"),
                })
            };
            let len = find_frame_compressed_size(rest).map_err(unreadable)?;
            let declared = frame_decompressed_bound(rest).map_err(unreadable)?;
            let (frame, next) = rest
                .split_at_checked(len)
                .ok_or_else(|| out.corrupt("the zstd frame is cut short"))?;
            let bound = block_bound(frame).min(declared);
            let room = out.room();
            let start = out.len();
            let reserve = usize::try_from(bound).map_or(room, |bound| bound.min(room));
            let (_, target) = out.grow(reserve)?;
            let written = decoder
                .decode_all(frame, target)
                .map_err(|error| error.to_string());
            match written {
                Ok(written) => out.keep(start + written),
                Err(_) if bound > room as u64 => return Err(out.over_budget()),
                Err(reason) => return Err(out.corrupt(reason)),
            }
            rest = next;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }
}

/// The most that a frame's blocks can hold, whatever its header declares: the plain size of raw
/// and run-length blocks, 128 KiB for each compressed one.
fn block_bound(frame: &[u8]) -> u64 {
    const COMPRESSED_MAX: u64 = 128 * 1024;
    const RAW: u32 = 0;
    const RUN: u32 = 1;

    let mut bound = 0;
    // A skippable frame has no such header, and no content either.
    let mut at = frame_header_size(frame).unwrap_or(frame.len());
    while let Some(&[b0, b1, b2]) = frame.get(at..at + 3) {
        let header = u32::from_le_bytes([b0, b1, b2, 0]);
        let size = header >> 3;
        let (plain, stored) = match (header >> 1) & 3 {
            RAW => (u64::from(size), size),
            RUN => (u64::from(size), 1),
            _ => (COMPRESSED_MAX, size),
        };
        bound += plain;
        at += 3 + stored as usize;
        if header & 1 == 1 {
            break;
        }
    }
    bound
}
