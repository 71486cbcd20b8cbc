//! What can go wrong between plain and compressed bytes.

use super::codec::Compression;

/// A codec name nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown compression {name:?}: use one of none, gzip, snappy, lz4, zstd")]
pub struct UnknownCompression {
    /// What was asked for.
    pub name: String,
}

/// A level outside the codec's range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{compression} has no level {level}: use {min} to {max}")]
pub struct LevelError {
    /// The codec.
    pub compression: Compression,
    /// The level asked for.
    pub level: i32,
    /// Its lowest level.
    pub min: i32,
    /// Its highest level.
    pub max: i32,
}

/// A codec refused to compress. No input is known to cause it; it is typed all the same so that no
/// record is lost in silence should a codec change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{compression} could not compress {len} bytes: {reason}")]
pub struct CompressError {
    /// The codec.
    pub compression: Compression,
    /// How many bytes it was given.
    pub len: usize,
    /// What it said.
    pub reason: String,
}

/// Compressed bytes that cannot be, or must not be, decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecompressError {
    /// The output would be larger than the budget: a decompression bomb, or a budget too small
    /// for this topic's batches.
    #[error(
        "{compression} data of {len} bytes decompresses to more than the limit of {limit} bytes"
    )]
    OverBudget {
        /// The codec.
        compression: Compression,
        /// Bytes of compressed input.
        len: usize,
        /// The budget, in bytes.
        limit: usize,
    },
    /// The bytes are not what the codec writes.
    #[error("corrupt {compression} data: {reason}")]
    Corrupt {
        /// The codec.
        compression: Compression,
        /// What is wrong with them.
        reason: String,
    },
}

impl DecompressError {
    pub(super) fn corrupt(compression: Compression, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            compression,
            reason: reason.into(),
        }
    }
}
