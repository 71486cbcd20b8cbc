//! The 61 bytes in front of a batch's records.

use crate::compress::Compression;

use super::error::HeaderFault;

/// Bytes of a magic-2 header, from the base offset to the record count.
pub(crate) const HEADER_LEN: usize = 61;

/// Base offset and length: what the length field does not count.
pub(crate) const LOG_OVERHEAD: usize = 12;

/// Where the magic byte is, in every format.
pub(crate) const MAGIC_AT: usize = 16;

/// From here to the end the checksum covers.
pub(crate) const CRC_COVERS_FROM: usize = 21;

/// The least bytes a record takes: length, attributes, two deltas, two lengths, header count.
pub(crate) const MIN_RECORD_LEN: usize = 7;

/// Attribute bits above the codec's.
pub(crate) const LOG_APPEND_TIME: i16 = 1 << 3;
pub(crate) const TRANSACTIONAL: i16 = 1 << 4;
pub(crate) const CONTROL: i16 = 1 << 5;
pub(crate) const DELETE_HORIZON: i16 = 1 << 6;

/// What a batch says of itself before its records are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub(super) base_offset: i64,
    pub(super) last_offset: i64,
    pub(super) partition_leader_epoch: i32,
    pub(super) magic: i8,
    pub(super) crc: u32,
    pub(super) attributes: i16,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) base_sequence: i32,
    /// Unknown in a compressed magic 0/1 message until it is decoded. Never negative.
    pub(super) record_count: Option<i32>,
}

/// Whose clock a batch's timestamps are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// Messages of magic 0 have no timestamp; theirs reads -1.
    None,
    /// The producer's.
    CreateTime,
    /// The broker's, when it appended the batch. All its records have the same.
    LogAppendTime,
}

impl BatchHeader {
    /// Offset of the batch's first record, even if compaction has removed that one.
    ///
    /// A compressed message of magic 0 or 1 only tells its last offset until it is decoded.
    #[must_use]
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Offset of the batch's last record, even if compaction has removed that one.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.last_offset
    }

    /// The position after this batch, always past its base offset: reading goes on here even when
    /// the batch is empty.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        // `parse` refuses a last offset of i64::MAX.
        self.last_offset + 1
    }

    /// Epoch of the leader that appended the batch; -1 when unknown, as in magic 0 and 1.
    #[must_use]
    pub fn partition_leader_epoch(&self) -> i32 {
        self.partition_leader_epoch
    }

    /// The format: 0, 1 or 2.
    #[must_use]
    pub fn magic(&self) -> i8 {
        self.magic
    }

    /// The codec of the body; `None` for a number that Kafka has not given out.
    #[must_use]
    pub fn compression(&self) -> Option<Compression> {
        Compression::from_attributes(self.attributes)
    }

    /// Whose clock the timestamps are from.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.magic == 0 {
            TimestampType::None
        } else if self.attributes & LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// The latest timestamp in the batch, or the time of append, in ms since the epoch.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// What the records' timestamp deltas count from, in ms since the epoch: the first record's
    /// timestamp, or the delete horizon.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// When the log cleaner may drop this batch's tombstones and markers, in ms since the epoch.
    #[must_use]
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Id of the idempotent producer, or -1.
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        self.producer_id
    }

    /// Epoch of that producer, or -1.
    #[must_use]
    pub fn producer_epoch(&self) -> i16 {
        self.producer_epoch
    }

    /// Sequence of the batch's first record, or -1.
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        self.base_sequence
    }

    /// How many records the batch holds: fewer than its offsets span after compaction, 0 when only
    /// the header was kept. `None` for a compressed message of magic 0 or 1, which only tells when
    /// it is decoded.
    #[must_use]
    pub fn record_count(&self) -> Option<i32> {
        self.record_count
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch holds a control record (a transaction marker), which no application sees.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// The append time that stands for every record's own timestamp.
    pub(super) fn log_append_time(&self) -> Option<i64> {
        (self.timestamp_type() == TimestampType::LogAppendTime).then_some(self.max_timestamp)
    }

    /// Reads a magic-2 header from a batch of `batch_len` bytes in all.
    pub(super) fn parse(bytes: &[u8; HEADER_LEN], batch_len: usize) -> Result<Self, HeaderFault> {
        let base_offset = i64_at(bytes, 0);
        let last_offset_delta = i32_at(bytes, 23);
        let last_offset = base_offset
            .checked_add(i64::from(last_offset_delta))
            .filter(|&last| base_offset >= 0 && last_offset_delta >= 0 && last < i64::MAX)
            .ok_or(HeaderFault::Offsets {
                base_offset,
                last_offset_delta,
            })?;
        let attributes = i16_at(bytes, 21);
        let count = i32_at(bytes, 57);
        let body_len = batch_len - HEADER_LEN;
        let plain = Compression::from_attributes(attributes) == Some(Compression::None);
        if count < 0 || (plain && count as usize > body_len / MIN_RECORD_LEN) {
            return Err(HeaderFault::Count {
                count,
                len: body_len,
            });
        }
        Ok(Self {
            base_offset,
            last_offset,
            partition_leader_epoch: i32_at(bytes, 12),
            magic: 2,
            crc: i32_at(bytes, 17) as u32,
            attributes,
            base_timestamp: i64_at(bytes, 27),
            max_timestamp: i64_at(bytes, 35),
            producer_id: i64_at(bytes, 43),
            producer_epoch: i16_at(bytes, 51),
            base_sequence: i32_at(bytes, 53),
            record_count: Some(count),
        })
    }

    /// Writes a magic-2 header for a batch of `batch_len` bytes in all, with the checksum it has.
    pub(super) fn write(&self, bytes: &mut [u8; HEADER_LEN], batch_len: usize) {
        let length = (batch_len - LOG_OVERHEAD) as i32;
        let last_offset_delta = (self.last_offset - self.base_offset) as i32;
        bytes[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        bytes[MAGIC_AT] = 2;
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        bytes[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.record_count.unwrap_or(0).to_be_bytes());
    }
}

/// Reads a big-endian integer at a place the caller has checked to be there.
macro_rules! int_at {
    ($name:ident, $int:ty) => {
        pub(super) fn $name(bytes: &[u8], at: usize) -> $int {
            let mut int = [0; size_of::<$int>()];
            int.copy_from_slice(&bytes[at..at + size_of::<$int>()]);
            <$int>::from_be_bytes(int)
        }
    };
}

int_at!(i16_at, i16);
int_at!(i32_at, i32);
int_at!(i64_at, i64);
