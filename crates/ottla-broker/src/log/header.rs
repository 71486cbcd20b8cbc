//! The fixed fields at the head of a record batch, as far as a log needs them.

/// The header of a batch of format version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    /// Bytes after the first twelve.
    batch_length: i32,
    pub(crate) partition_leader_epoch: i32,
    /// CRC-32C of everything from [`CRC_COVERS_FROM`] on.
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    last_offset_delta: i32,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; `None` if it is too short, of another magic, or makes no
    /// sense.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let parsed = Self {
            base_offset: i64::from_be_bytes(*header[0..].first_chunk()?),
            batch_length: i32::from_be_bytes(*header[8..].first_chunk()?),
            partition_leader_epoch: i32::from_be_bytes(*header[12..].first_chunk()?),
            crc: u32::from_be_bytes(*header[17..].first_chunk()?),
            attributes: i16::from_be_bytes(*header[21..].first_chunk()?),
            last_offset_delta: i32::from_be_bytes(*header[23..].first_chunk()?),
            max_timestamp: i64::from_be_bytes(*header[35..].first_chunk()?),
            producer_id: i64::from_be_bytes(*header[43..].first_chunk()?),
            producer_epoch: i16::from_be_bytes(*header[51..].first_chunk()?),
            base_sequence: i32::from_be_bytes(*header[53..].first_chunk()?),
            record_count: i32::from_be_bytes(*header[57..].first_chunk()?),
        };
        let sane = header[16] == 2
            && parsed.batch_length >= (HEADER_LEN - 12) as i32
            && parsed.last_offset_delta >= 0
            && parsed.base_offset >= 0
            && parsed.record_count >= 0
            && parsed
                .base_offset
                .checked_add(i64::from(parsed.last_offset_delta) + 1)
                .is_some();
        sane.then_some(parsed)
    }

    /// Length of the batch in bytes, header included.
    pub(crate) fn total_len(&self) -> usize {
        12 + self.batch_length as usize
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    pub(crate) fn last_offset_delta(&self) -> i32 {
        self.last_offset_delta
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }
}

/// What stands before it is filled in by the broker and not covered by the checksum.
pub(crate) const CRC_COVERS_FROM: usize = 21;

/// Length of the fixed fields.
pub(crate) const HEADER_LEN: usize = 61;
