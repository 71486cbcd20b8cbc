//! Zstandard by the C library, for those who have a compiler and want its last tenth of speed.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_error_name};

use super::frame::decompress_each;
use crate::compress::codec::Compression;
use crate::compress::error::{CompressError, DecompressError};
use crate::compress::output::Output;

#[derive(Default)]
pub(in crate::compress) struct Encoder {
    context: Option<CCtx<'static>>,
}

impl Encoder {
    pub(in crate::compress) fn compress(
        &mut self,
        level: i32,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressError> {
        let refused = |code| CompressError {
            compression: Compression::Zstd,
            len: plain.len(),
            reason: get_error_name(code).to_owned(),
        };
        let context = self.context.get_or_insert_with(CCtx::create);
        context
            .set_parameter(CParameter::CompressionLevel(level))
            .map_err(refused)?;
        out.clear();
        out.reserve(compress_bound(plain.len()));
        context.compress2(out, plain).map_err(refused)?;
        Ok(())
    }
}

#[derive(Default)]
pub(in crate::compress) struct Decoder {
    context: Option<DCtx<'static>>,
}

impl Decoder {
    pub(in crate::compress) fn decompress(
        &mut self,
        input: &[u8],
        out: &mut Output,
    ) -> Result<(), DecompressError> {
        let context = self.context.get_or_insert_with(DCtx::create);
        decompress_each(input, out, |frame, target| {
            context.decompress(target, frame).map_err(get_error_name)
        })
    }
}
