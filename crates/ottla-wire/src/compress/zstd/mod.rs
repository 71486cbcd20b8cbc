//! Zstandard frames (RFC 8878): in Rust, or with the feature `zstd-c` by the C library.
//!
//! `docs/decisions/0002-zstd.md` has the figures behind the choice.

#[cfg(feature = "zstd-c")]
mod c;
#[cfg(all(test, feature = "zstd-c"))]
mod cross_check;
mod frame;
// With the C library in charge, the Rust one is still held against it in tests.
#[cfg(any(not(feature = "zstd-c"), test))]
mod pure;

#[cfg(feature = "zstd-c")]
pub(super) use c::{Decoder, Encoder};
#[cfg(not(feature = "zstd-c"))]
pub(super) use pure::{Decoder, Encoder};
