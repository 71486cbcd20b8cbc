//! Record batches: the unit in which Kafka stores, sends and fetches records.
//!
//! Owns the layout of magic 2 in both directions and of magic 0 and 1 for reading. Does no I/O,
//! reads no clock, knows no topic. Producers append to a [`BatchWriter`], seal it, stamp the
//! [`SealedBatch`] with their identity and hand its bytes to a Produce request; consumers split
//! what a Fetch response brought with [`Batches`], check and decode each [`Batch`], and read
//! [`RecordRef`]s that borrow the [`DecodedBatch`], or [`Record`]s that share it. Neither way
//! allocates per record.
//!
//! ```
//! use bytes::BytesMut;
//! use ottla_wire::compress::{Codec, Compression, Compressor, Decompressor};
//! use ottla_wire::record::{BatchWriter, Batches, NewRecord, SealOptions};
//!
//! let mut writer = BatchWriter::new(BytesMut::new());
//! writer.append(&NewRecord {
//!     timestamp: 1_700_000_000_000,
//!     key: Some(b"user-7"),
//!     value: Some(b"clicked"),
//!     headers: &[],
//! })?;
//! let options = SealOptions { codec: Codec::from(Compression::Lz4) };
//! let mut sealed = writer.seal(&options, &mut Compressor::new())?;
//! sealed.stamp(4711, 0, 12, false);
//!
//! let mut batches = Batches::new(sealed.freeze());
//! let batch = batches.next().expect("one batch")?;
//! batch.verify_crc()?;
//! let decoded = batch.decode(&mut Decompressor::new(), 1 << 20)?;
//! for record in decoded.records() {
//!     let record = record?;
//!     assert_eq!(record.value(), Some(&b"clicked"[..]));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod batches;
mod control;
mod crc;
mod decoded;
mod error;
mod header;
mod legacy;
mod owned;
mod reader;
mod retain;
mod sealed;
mod sequence;
mod split;
mod varint;
mod writer;

pub use batch::Batch;
pub use batches::{Batches, PartialTail};
pub use control::{ControlType, control_batch};
pub use decoded::DecodedBatch;
pub use error::{AppendError, BatchError, HeaderFault, RecordFault, SealError};
pub use header::{BatchHeader, TimestampType};
pub use owned::{OwnedRecords, Record};
pub use reader::{RecordHeaders, RecordRef, Records};
pub use retain::{RetainError, retain};
pub use sealed::{SealOptions, SealedBatch, restamp};
pub use sequence::next_sequence;
pub use split::{SplitError, split};
pub use writer::{BatchWriter, Header, NewRecord};
