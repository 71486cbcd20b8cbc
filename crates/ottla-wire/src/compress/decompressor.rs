//! A batch body in, plain bytes out, within a budget.

use bytes::Bytes;

use super::codec::Compression;
use super::error::DecompressError;
use super::output::{Output, Spares};
use super::{gzip, lz4, snappy, zstd};

/// Decompresses batch bodies from brokers that are not trusted, keeping each codec's context for
/// the next batch.
///
/// ```
/// use ottla_wire::compress::{Compression, Compressor, Decompressor};
///
/// let packed = Compressor::new()
///     .compress(Compression::Lz4.into(), &[b'a'; 10_000])?
///     .to_vec();
/// let mut decompressor = Decompressor::new();
/// let plain = decompressor.decompress(Compression::Lz4, &packed, 10_000)?;
/// assert_eq!(plain, [b'a'; 10_000][..]);
/// assert!(decompressor.decompress(Compression::Lz4, &packed, 9_999).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Decompressor {
    gzip: gzip::Decoder,
    zstd: zstd::Decoder,
    spares: Spares,
    /// How many bytes one byte became in the last batch of each codec.
    growth: [usize; Compression::ALL.len()],
}

impl Decompressor {
    /// A decompressor that builds each codec's context when it is first used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decompresses `input`, which is one batch's whole body, to at most `max_bytes`.
    ///
    /// Several gzip members and several zstd frames after each other are one body, as Kafka reads
    /// them; snappy may be raw or in xerial framing; LZ4 is one frame.
    ///
    /// # Errors
    /// [`DecompressError::OverBudget`] as soon as more than `max_bytes` would be produced, and
    /// [`DecompressError::Corrupt`] for anything the codec's format does not allow.
    pub fn decompress(
        &mut self,
        compression: Compression,
        input: &[u8],
        max_bytes: usize,
    ) -> Result<Bytes, DecompressError> {
        self.run(compression, input, max_bytes, lz4::HeaderChecksum::Correct)
    }

    /// Like [`Self::decompress`] for messages of magic 0, whose LZ4 frames carry a header checksum
    /// that old producers computed over the wrong bytes (KAFKA-3160).
    pub(crate) fn decompress_magic_0(
        &mut self,
        compression: Compression,
        input: &[u8],
        max_bytes: usize,
    ) -> Result<Bytes, DecompressError> {
        self.run(compression, input, max_bytes, lz4::HeaderChecksum::Any)
    }

    fn run(
        &mut self,
        compression: Compression,
        input: &[u8],
        max_bytes: usize,
        lz4_checksum: lz4::HeaderChecksum,
    ) -> Result<Bytes, DecompressError> {
        let growth = &mut self.growth[compression as usize];
        // What the last batch grew by is a good guess; a wrong one costs a copy or some room.
        let expected = input
            .len()
            .saturating_mul((*growth).min(GROWTH_MAX))
            .min(max_bytes);
        let (spares, buffer) = (self.spares.clone(), self.spares.take(expected));
        let buffer = buffer.unwrap_or_else(|| Vec::with_capacity(expected));
        let mut out =
            Output::with_buffer(compression, input.len(), max_bytes, buffer, Some(spares));
        match compression {
            Compression::None => out.extend(input)?,
            Compression::Gzip => self.gzip.decompress(input, &mut out)?,
            Compression::Snappy => snappy::decompress(input, &mut out)?,
            Compression::Lz4 => lz4::decompress(input, lz4_checksum, &mut out)?,
            Compression::Zstd => self.zstd.decompress(input, &mut out)?,
        }
        *growth = out.len().div_ceil(input.len().max(1));
        out.finish()
    }
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

/// The most that is set aside for one byte before any was produced.
const GROWTH_MAX: usize = 16;
