//! Zstandard in Rust, by `structured-zstd`.

use structured_zstd::decoding::FrameDecoder;
use structured_zstd::encoding::{CompressionLevel, FrameCompressor};

use super::frame::decompress_each;
use crate::compress::error::{CompressError, DecompressError};
use crate::compress::output::Output;

#[derive(Default)]
pub(in crate::compress) struct Encoder {
    /// The context and the level it was last set to.
    context: Option<(i32, Box<FrameCompressor>)>,
}

impl Encoder {
    pub(in crate::compress) fn compress(
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
pub(in crate::compress) struct Decoder {
    context: Option<Box<FrameDecoder>>,
}

impl Decoder {
    pub(in crate::compress) fn decompress(
        &mut self,
        input: &[u8],
        out: &mut Output,
    ) -> Result<(), DecompressError> {
        let decoder = self.context.get_or_insert_with(Box::default);
        decompress_each(input, out, |frame, target| {
            decoder.decode_all(frame, target)
        })
    }
}
