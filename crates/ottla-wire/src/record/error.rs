//! What can be wrong with a batch, on the way out and on the way in.

use crate::compress::{CompressError, DecompressError};

/// A record that an open batch does not take. The batch is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The record alone passes what a length field of 32 bits can say.
    #[error("a record of {len} bytes is larger than a record batch can be (2 GiB)")]
    RecordTooLarge {
        /// Bytes the record would take.
        len: u64,
    },
    /// The batch has records already and no room for one more: seal it and open another.
    #[error("the batch is full: {len} bytes in {count} records")]
    BatchFull {
        /// Bytes in the batch.
        len: usize,
        /// Records in the batch.
        count: i32,
    },
}

/// A batch that cannot be sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Brokers refuse batches without records.
    #[error("a batch without records cannot be sealed")]
    Empty,
    /// The codec failed.
    #[error(transparent)]
    Compress(#[from] CompressError),
}

/// Bytes that are not a batch, or not one that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes where a batch should start are not a batch's header. Nothing after them can be
    /// found either.
    #[error("no record batch at byte {position} of the records: {fault}")]
    Header {
        /// Where the batch would start, counted from the start of the records.
        position: usize,
        /// What is wrong there.
        fault: HeaderFault,
    },
    /// The checksum does not match: the batch was damaged on disk or on the way.
    #[error(
        "record batch at offset {base_offset} is corrupt: its CRC is {stored:#010x}, its bytes \
         have {computed:#010x}"
    )]
    Crc {
        /// The batch's first offset.
        base_offset: i64,
        /// The checksum it carries.
        stored: u32,
        /// The checksum its bytes have.
        computed: u32,
    },
    /// The batch names a codec that Kafka has not defined.
    #[error("record batch at offset {base_offset} names unknown codec {number}")]
    UnknownCodec {
        /// The batch's first offset.
        base_offset: i64,
        /// The codec's number, 5 to 7.
        number: u8,
    },
    /// The batch's body cannot be decompressed, or not within the limit.
    #[error("record batch at offset {base_offset}: {source}")]
    Decompress {
        /// The batch's first offset.
        base_offset: i64,
        /// Why.
        source: DecompressError,
    },
    /// The batch cannot hold the number of records it declares.
    #[error(
        "record batch at offset {base_offset} declares {count} records in {len} bytes, which \
         cannot hold them"
    )]
    Count {
        /// The batch's first offset.
        base_offset: i64,
        /// What its header says.
        count: u32,
        /// Bytes of its decompressed records.
        len: usize,
    },
    /// A record inside the batch is malformed. The records before it are fine.
    #[error("record {index} of the batch at offset {base_offset} is corrupt: {fault}")]
    Record {
        /// The batch's first offset.
        base_offset: i64,
        /// The record's place in the batch, from 0.
        index: u32,
        /// What is wrong with it.
        fault: RecordFault,
    },
}

/// Why some bytes are not a batch's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// The length field is smaller than a header.
    #[error("a length of {length} bytes is less than the {min} of its header")]
    Length {
        /// What the length field says.
        length: i32,
        /// The least it could say.
        min: i32,
    },
    /// A format later than 2, or none.
    #[error("unknown format (magic) {magic}")]
    Magic {
        /// The magic byte.
        magic: i8,
    },
    /// The first offset is negative, or the last is before the first or past 2^63-1.
    #[error("impossible offsets: base {base_offset}, last delta {last_offset_delta}")]
    Offsets {
        /// The first offset.
        base_offset: i64,
        /// What to add to it for the last.
        last_offset_delta: i32,
    },
    /// The number of records is negative or more than the bytes could hold.
    #[error("impossible record count {count} in {len} bytes")]
    Count {
        /// What the count field says.
        count: i32,
        /// The bytes that would hold them.
        len: usize,
    },
}

/// Why some bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// The bytes end inside it.
    #[error("it is cut short")]
    CutShort,
    /// A length is negative where none may be, or passes the end of the record.
    #[error("its {field} length {len} does not fit")]
    Length {
        /// Which length.
        field: &'static str,
        /// What it says.
        len: i64,
    },
    /// Bytes are left over inside the record, or after the last one.
    #[error("{len} bytes are left over")]
    LeftOver {
        /// How many.
        len: usize,
    },
    /// Its offset passes 2^63-1 or is negative.
    #[error("its offset delta {delta} leads nowhere")]
    Offset {
        /// The delta.
        delta: i64,
    },
    /// A message inside a compressed message set of magic 0 or 1 is compressed itself, or is of
    /// another format.
    #[error("a compressed message set holds a message it cannot hold")]
    Nested,
    /// A control batch's record has no key that names a control type.
    #[error("its key names no control type")]
    ControlKey,
}
