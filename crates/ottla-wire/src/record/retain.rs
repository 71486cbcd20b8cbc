//! A batch of which only some records remain, as a broker's compaction leaves it.

use bytes::{Bytes, BytesMut};

use crate::compress::{Codec, CompressError, Compression, Compressor};
use crate::varint::{len_i32, len_i64, put_i32, put_i64};

use super::batch::Batch;
use super::decoded::DecodedBatch;
use super::error::BatchError;
use super::header::{BatchHeader, CRC_COVERS_FROM, DELETE_HORIZON, HEADER_LEN};
use super::reader::RecordRef;

/// A batch that cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetainError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] BatchError),
    /// The codec failed.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// Only batches of magic 2 can lose records; older ones are to be converted first.
    #[error(
        "the batch at offset {base_offset} is of format (magic) {magic}, which cannot lose single records"
    )]
    Magic {
        /// The batch's first offset.
        base_offset: i64,
        /// Its format.
        magic: i8,
    },
    /// What remains does not fit a batch: only timestamps that a new base moved far away can do that.
    #[error(
        "what remains of the batch at offset {base_offset} takes {len} bytes, more than a batch can have"
    )]
    TooLarge {
        /// The batch's first offset.
        base_offset: i64,
        /// Bytes it would take.
        len: usize,
    },
}

/// `batch`, which `decoded` is decoded from, with only those of its records that `keep` wants.
///
/// Offsets, the batch's first and last offset, codec, kind of timestamp and the producer's identity and sequences stay
/// as they were, so the batch still covers what it covered; the largest timestamp becomes that of the records that are
/// left. If none is left, a batch of no records and no codec remains, which keeps the largest timestamp.
///
/// `delete_horizon_ms`, ms since the epoch, is noted as the time from which tombstones may go (KIP-534), unless no
/// record is left; `None` leaves the one that is there.
///
/// # Errors
/// [`RetainError`] when a record cannot be read or the result not be written.
pub fn retain(
    batch: &Batch,
    decoded: &DecodedBatch,
    mut keep: impl FnMut(&RecordRef<'_>) -> bool,
    delete_horizon_ms: Option<i64>,
    compressor: &mut Compressor,
) -> Result<Bytes, RetainError> {
    let mut header = *batch.header();
    let base_offset = header.base_offset;
    if header.magic != 2 {
        let magic = header.magic;
        return Err(RetainError::Magic { base_offset, magic });
    }
    let base_timestamp = delete_horizon_ms.unwrap_or(header.base_timestamp);
    let mut body = BytesMut::with_capacity(decoded.body_len());
    let mut count = 0;
    let mut max_timestamp = i64::MIN;
    for record in decoded.records() {
        let record = record?;
        if keep(&record) {
            count += 1;
            max_timestamp = max_timestamp.max(record.timestamp());
            put(&mut body, &record, base_offset, base_timestamp);
        }
    }
    header.record_count = Some(count);
    if count == 0 {
        header.attributes &= !(CODEC | DELETE_HORIZON);
        header.base_timestamp = -1;
        return assemble(header, &[]);
    }
    header.base_timestamp = base_timestamp;
    if header.log_append_time().is_none() {
        header.max_timestamp = max_timestamp;
    }
    if delete_horizon_ms.is_some() {
        header.attributes |= DELETE_HORIZON;
    }
    match header.compression() {
        Some(Compression::None) | None => assemble(header, &body),
        Some(codec) => assemble(header, compressor.compress(Codec::from(codec), &body)?),
    }
}

fn put(body: &mut BytesMut, record: &RecordRef<'_>, base_offset: i64, base_timestamp: i64) {
    // Wrapping, as the reader adds.
    let timestamp_delta = record.timestamp().wrapping_sub(base_timestamp);
    // It came out of 32 bits and stays what it was.
    let offset_delta = (record.offset() - base_offset) as i32;
    let nullable_len = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i32);
    let (key_len, value_len) = (nullable_len(record.key()), nullable_len(record.value()));
    let len = 1
        + len_i64(timestamp_delta)
        + len_i32(offset_delta)
        + len_i32(key_len)
        + key_len.max(0) as usize
        + len_i32(value_len)
        + value_len.max(0) as usize
        + record.encoded_headers().len();
    put_i32(body, len as i32);
    body.extend_from_slice(&[0]);
    put_i64(body, timestamp_delta);
    put_i32(body, offset_delta);
    put_i32(body, key_len);
    body.extend_from_slice(record.key().unwrap_or_default());
    put_i32(body, value_len);
    body.extend_from_slice(record.value().unwrap_or_default());
    body.extend_from_slice(record.encoded_headers());
}

fn assemble(mut header: BatchHeader, body: &[u8]) -> Result<Bytes, RetainError> {
    let len = HEADER_LEN + body.len();
    if i32::try_from(len).is_err() {
        let base_offset = header.base_offset;
        return Err(RetainError::TooLarge { base_offset, len });
    }
    let mut head = [0; HEADER_LEN];
    header.write(&mut head, len);
    header.crc = crc32c::crc32c_append(crc32c::crc32c(&head[CRC_COVERS_FROM..]), body);
    header.write(&mut head, len);
    let mut bytes = BytesMut::with_capacity(len);
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(body);
    Ok(bytes.freeze())
}

/// The bits of a batch's attributes that name its codec.
const CODEC: i16 = 7;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compress::Decompressor;
    use crate::record::{BatchWriter, Batches, Header, NewRecord, SealOptions, TimestampType};

    fn written(timestamps: &[i64], codec: Compression) -> Batch {
        let mut writer = BatchWriter::new(BytesMut::new());
        for (index, timestamp) in timestamps.iter().enumerate() {
            let key = format!("key-{index}");
            let headers = [Header {
                key: "h",
                value: Some(b"v"),
            }];
            writer
                .append(&NewRecord {
                    timestamp: *timestamp,
                    key: Some(key.as_bytes()),
                    value: (index % 2 == 0).then_some(b"value value value value"),
                    headers: if index % 3 == 0 { &headers } else { &[] },
                })
                .unwrap();
        }
        let options = SealOptions {
            codec: Codec::from(codec),
        };
        let mut sealed = writer.seal(&options, &mut Compressor::new()).unwrap();
        sealed.stamp(7, 3, 40, false);
        sealed.place(1000, 5);
        only(sealed.freeze())
    }

    fn only(bytes: Bytes) -> Batch {
        let mut batches = Batches::new(bytes.clone());
        let batch = batches.next().unwrap().unwrap();
        assert_eq!(batch.bytes().len(), bytes.len());
        batch.verify_crc().unwrap();
        batch
    }

    fn decode(batch: &Batch) -> DecodedBatch {
        batch.decode(&mut Decompressor::new(), 1 << 20).unwrap()
    }

    type Seen = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, usize);

    fn seen(batch: &Batch) -> Vec<Seen> {
        decode(batch)
            .records()
            .map(|record| {
                let record = record.unwrap();
                (
                    record.offset(),
                    record.timestamp(),
                    record.key().map(<[u8]>::to_vec),
                    record.value().map(<[u8]>::to_vec),
                    record.headers().count(),
                )
            })
            .collect()
    }

    proptest! {
        #[test]
        fn what_is_kept_reads_as_before(
            timestamps in proptest::collection::vec(any::<i64>(), 1..40),
            keep in any::<u64>(),
            codec in 0_usize..5,
            horizon in proptest::option::of(0..i64::MAX),
        ) {
            let batch = written(&timestamps, Compression::ALL[codec]);
            let wanted = |offset: i64| keep >> (offset - 1000) & 1 == 1;
            let kept = retain(
                &batch,
                &decode(&batch),
                |record| wanted(record.offset()),
                horizon,
                &mut Compressor::new(),
            )
            .unwrap();
            let kept = only(kept);
            let expected: Vec<Seen> = seen(&batch).into_iter().filter(|r| wanted(r.0)).collect();
            prop_assert_eq!(seen(&kept), expected.clone());
            let (old, new) = (batch.header(), kept.header());
            prop_assert_eq!(
                (new.base_offset(), new.last_offset(), new.partition_leader_epoch()),
                (old.base_offset(), old.last_offset(), old.partition_leader_epoch())
            );
            prop_assert_eq!(
                (new.producer_id(), new.producer_epoch(), new.base_sequence()),
                (old.producer_id(), old.producer_epoch(), old.base_sequence())
            );
            match expected.iter().map(|r| r.1).max() {
                Some(newest) => {
                    prop_assert_eq!(new.max_timestamp(), newest);
                    prop_assert_eq!(new.delete_horizon_ms(), horizon);
                    prop_assert_eq!(new.compression(), old.compression());
                }
                None => {
                    prop_assert_eq!(new.max_timestamp(), old.max_timestamp());
                    prop_assert_eq!(new.delete_horizon_ms(), None);
                }
            }
        }
    }

    #[test]
    fn the_brokers_time_and_an_earlier_horizon_stay() {
        let batch = written(&[10, 20, 30], Compression::None);
        let mut header = *batch.header();
        header.attributes |= super::super::header::LOG_APPEND_TIME;
        header.max_timestamp = 99;
        let stamped = only(assemble(header, &batch.bytes()[HEADER_LEN..]).unwrap());
        let first = |record: &RecordRef<'_>| record.offset() == 1000;
        let horizon = Some(5000);
        let kept = retain(
            &stamped,
            &decode(&stamped),
            first,
            horizon,
            &mut Compressor::new(),
        );
        let kept = only(kept.unwrap());
        assert_eq!(kept.header().timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(seen(&kept)[0].1, 99);
        let again = retain(&kept, &decode(&kept), first, None, &mut Compressor::new());
        assert_eq!(only(again.unwrap()).header().delete_horizon_ms(), horizon);
    }

    #[test]
    fn a_marker_that_compaction_emptied_announces_nothing_and_is_no_damage() {
        let marker = only(super::super::control_batch(false, 7, 0, 0, 5).freeze());
        let emptied = retain(
            &marker,
            &decode(&marker),
            |_| false,
            None,
            &mut Compressor::new(),
        );
        let emptied = only(emptied.unwrap());
        assert!(emptied.is_control() && emptied.is_transactional());
        assert_eq!(emptied.control_type(), Ok(None));
    }
}
