//! One batch of a Fetch response, still as the broker sent it.

use bytes::Bytes;

use crate::compress::{Compression, Decompressor};

use super::control::ControlType;
use super::decoded::DecodedBatch;
use super::error::BatchError;
use super::header::{BatchHeader, CRC_COVERS_FROM, HEADER_LEN};
use super::legacy;

/// A batch, its header read and nothing else: neither checked nor decompressed. Cloning bumps a
/// reference count.
#[derive(Clone, Debug)]
pub struct Batch {
    header: BatchHeader,
    /// The whole batch, header included.
    bytes: Bytes,
}

/// The control record of a compressed control batch is a few bytes; brokers compress none.
const CONTROL_BODY_MAX: usize = 64 * 1024;

impl Batch {
    pub(super) fn new(header: BatchHeader, bytes: Bytes) -> Self {
        Self { header, bytes }
    }

    /// What the batch says of itself.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// [`BatchHeader::base_offset`].
    #[must_use]
    pub fn base_offset(&self) -> i64 {
        self.header.base_offset()
    }

    /// [`BatchHeader::last_offset`].
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.header.last_offset()
    }

    /// [`BatchHeader::next_offset`].
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.header.next_offset()
    }

    /// [`BatchHeader::is_control`].
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.header.is_control()
    }

    /// [`BatchHeader::is_transactional`].
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.header.is_transactional()
    }

    /// [`BatchHeader::producer_id`].
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        self.header.producer_id()
    }

    /// [`BatchHeader::partition_leader_epoch`].
    #[must_use]
    pub fn partition_leader_epoch(&self) -> i32 {
        self.header.partition_leader_epoch()
    }

    /// The whole batch as the broker sent it.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Compares the batch's checksum with its bytes: damage on disk or on the way shows here.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = if self.header.magic < 2 {
            legacy::crc(&self.bytes)
        } else {
            crc32c::crc32c(&self.bytes[CRC_COVERS_FROM..])
        };
        if computed == self.header.crc {
            return Ok(());
        }
        Err(BatchError::Crc {
            base_offset: self.header.base_offset,
            stored: self.header.crc,
            computed,
        })
    }

    /// Decompresses the records, if they are compressed, to at most `max_bytes`. Records that are
    /// not compressed are shared with the response, whatever `max_bytes` says.
    ///
    /// Messages of magic 0 and 1 are translated, so for them twice `max_bytes` may be in use while
    /// this runs. The checksum is not looked at; see [`Self::verify_crc`].
    ///
    /// # Errors
    /// [`BatchError`] when the codec is unknown, the body is corrupt or over budget, or the record
    /// count cannot be true. Malformed records show when they are read.
    pub fn decode(
        &self,
        decompressor: &mut Decompressor,
        max_bytes: usize,
    ) -> Result<DecodedBatch, BatchError> {
        // Places in a batch are counted in 32 bits.
        let max_bytes = max_bytes.min(i32::MAX as usize);
        if self.header.magic < 2 {
            return legacy::decode(&self.header, &self.bytes, decompressor, max_bytes);
        }
        let base_offset = self.header.base_offset;
        let compression = self.compression_or_error()?;
        // Not negative: `BatchHeader::parse` refuses that.
        let count = self.header.record_count.unwrap_or(0) as u32;
        let packed = &self.bytes[HEADER_LEN..];
        let body = if compression == Compression::None || packed.is_empty() {
            self.bytes.slice(HEADER_LEN..)
        } else {
            decompressor
                .decompress(compression, packed, max_bytes)
                .map_err(|source| BatchError::Decompress {
                    base_offset,
                    source,
                })?
        };
        DecodedBatch::new(self.header, body, count)
    }

    /// What a control batch announces; `None` for batches that hold data, and for one whose record compaction has
    /// removed.
    ///
    /// # Errors
    /// [`BatchError`] when the control record cannot be read.
    pub fn control_type(&self) -> Result<Option<ControlType>, BatchError> {
        if !self.header.is_control() {
            return Ok(None);
        }
        self.decode(&mut Decompressor::new(), CONTROL_BODY_MAX)?
            .control_type()
    }

    fn compression_or_error(&self) -> Result<Compression, BatchError> {
        self.header.compression().ok_or(BatchError::UnknownCodec {
            base_offset: self.header.base_offset,
            number: (self.header.attributes & 7) as u8,
        })
    }
}
