//! The four codecs of a record batch: gzip, snappy, lz4 and zstd, all in Rust.
//!
//! Owns the codec contexts and the framing each codec has inside a batch (gzip members, xerial
//! snappy, LZ4 frames, zstd frames). It never looks at records, never does I/O and never believes
//! a size that compressed bytes declare: output stops at the caller's budget, memory at what the
//! input could justify. Plain bytes come from [`BatchWriter`](crate::record::BatchWriter),
//! compressed ones from a [`Batch`](crate::record::Batch).
//!
//! Contexts are costly to build and cheap to reuse: keep one [`Compressor`] and one
//! [`Decompressor`] per worker.

mod codec;
mod compressor;
mod decompressor;
mod error;
mod gzip;
mod lz4;
mod output;
mod snappy;
mod zstd;

pub use codec::{Codec, Compression};
pub use compressor::Compressor;
pub use decompressor::Decompressor;
pub use error::{CompressError, DecompressError, LevelError, UnknownCompression};
