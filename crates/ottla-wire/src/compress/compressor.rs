//! Plain bytes in, a batch body out.

use super::codec::{Codec, Compression};
use super::error::CompressError;
use super::{gzip, lz4, snappy, zstd};

/// Compresses batch bodies, keeping each codec's tables and one scratch buffer for the next batch.
///
/// One per worker: building a context costs as much as compressing a small batch.
#[derive(Default)]
pub struct Compressor {
    gzip: gzip::Encoder,
    snappy: snappy::Encoder,
    lz4: lz4::Encoder,
    zstd: zstd::Encoder,
    scratch: Vec<u8>,
}

impl Compressor {
    /// A compressor that builds each codec's context when it is first used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses `plain` and lends the result until the next call. `Compression::None` copies.
    ///
    /// # Errors
    /// [`CompressError`] when the codec refuses, which no input is known to cause.
    pub fn compress(&mut self, codec: Codec, plain: &[u8]) -> Result<&[u8], CompressError> {
        let out = &mut self.scratch;
        match codec.compression() {
            Compression::None => {
                out.clear();
                out.extend_from_slice(plain);
            }
            Compression::Gzip => self.gzip.compress(codec.level(), plain, out)?,
            Compression::Snappy => self.snappy.compress(plain, out)?,
            Compression::Lz4 => self.lz4.compress(plain, out)?,
            Compression::Zstd => self.zstd.compress(codec.level(), plain, out)?,
        }
        Ok(&self.scratch)
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor")
            .field("scratch_capacity", &self.scratch.capacity())
            .finish_non_exhaustive()
    }
}
