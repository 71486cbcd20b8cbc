//! What other writers put into batches: markers, append times, gaps, strange headers, old formats.
// Helpers of tests are tests: what they unwrap is what they check.
#![allow(clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use kafka_protocol::records as peer;
use ottla_wire::compress::{Compression, Compressor, Decompressor};
use ottla_wire::record::{
    Batch, BatchError, BatchWriter, Batches, ControlType, DecodedBatch, Header, NewRecord,
    RecordFault, SealOptions, TimestampType, control_batch,
};

#[test]
fn markers_say_commit_or_abort() {
    for (commit, kind) in [(false, ControlType::Abort), (true, ControlType::Commit)] {
        let mut marker = control_batch(commit, 17, 3, 5, 1_000);
        marker.place(42, 6);
        let batch = one(marker.freeze());
        batch.verify_crc().unwrap();
        assert!(batch.is_control() && batch.is_transactional());
        assert_eq!(batch.control_type().unwrap(), Some(kind));
        assert_eq!((batch.base_offset(), batch.next_offset()), (42, 43));
        assert_eq!(batch.partition_leader_epoch(), 6);
        assert_eq!(batch.header().base_sequence(), -1);
        // The peer's reader sees a control record as well.
        let set = peer::RecordBatchDecoder::decode(&mut batch.bytes().clone()).unwrap();
        assert!(set.records[0].control && set.records[0].transactional);
        assert_eq!(set.records[0].producer_id, 17);
    }
}

#[test]
fn a_control_record_without_a_type_is_an_error() {
    let mut bytes = batch(&[(1, None, Some(b"v"))]);
    bytes[22] |= 0x20;
    let error = one(bytes.freeze()).control_type().unwrap_err();
    assert!(matches!(
        error,
        BatchError::Record {
            fault: RecordFault::ControlKey,
            ..
        }
    ));
}

#[test]
fn append_time_replaces_every_timestamp() {
    let mut bytes = batch(&[(5, None, None), (9, None, None)]);
    bytes[22] |= 0x08;
    bytes[35..43].copy_from_slice(&777i64.to_be_bytes());
    let batch = one(bytes.freeze());
    assert_eq!(
        batch.header().timestamp_type(),
        TimestampType::LogAppendTime
    );
    let times: Vec<_> = decode(&batch)
        .records()
        .map(|r| r.unwrap().timestamp())
        .collect();
    assert_eq!(times, [777, 777]);
}

#[test]
fn a_delete_horizon_is_told_and_timestamps_stay() {
    // The cleaner puts the horizon into the base timestamp and rewrites the deltas, here to
    // negative ones: a writer whose first record is the latest does the same.
    let mut bytes = batch(&[(9_000, None, None), (5, None, None)]);
    assert_eq!(
        one(bytes.clone().freeze()).header().delete_horizon_ms(),
        None
    );
    bytes[22] |= 0x40;
    let batch = one(bytes.freeze());
    assert_eq!(batch.header().delete_horizon_ms(), Some(9_000));
    let decoded = decode(&batch);
    let last = decoded.records().last().unwrap().unwrap();
    assert_eq!(last.timestamp(), 5);
}

#[test]
fn compaction_leaves_gaps_and_empty_batches() {
    // Three records written, the middle one's delta changed to 5, the last offset delta to 9.
    let mut bytes = batch(&[(1, None, None), (1, None, None)]);
    bytes[0..8].copy_from_slice(&100i64.to_be_bytes());
    bytes[23..27].copy_from_slice(&9i32.to_be_bytes());
    // The second record: length 6, attributes, time delta, offset delta.
    let second = 61 + 7;
    assert_eq!(bytes[second..second + 4], [12, 0, 0, 2]);
    bytes[second + 3] = 5 << 1;
    let batch = one(bytes.freeze());
    let offsets: Vec<_> = decode(&batch)
        .records()
        .map(|r| r.unwrap().offset())
        .collect();
    assert_eq!(offsets, [100, 105]);
    assert_eq!(batch.next_offset(), 110);

    // Only the header is kept, to remember the producer's sequence; with any codec.
    for codec in 0..5 {
        let mut header = batch.bytes()[..61].to_vec();
        header[8..12].copy_from_slice(&49i32.to_be_bytes());
        header[22] = codec;
        header[57..61].fill(0);
        let empty = one(header.into());
        assert_eq!(empty.header().record_count(), Some(0));
        assert_eq!(empty.next_offset(), 110);
        assert!(decode(&empty).records().next().is_none());
    }
}

#[test]
fn header_names_repeat_and_need_not_be_text() {
    let mut bytes = written(&[NewRecord {
        timestamp: 1,
        key: None,
        value: None,
        headers: &[
            Header {
                key: "aa",
                value: Some(b"1"),
            },
            Header {
                key: "aa",
                value: None,
            },
            Header {
                key: "",
                value: Some(b""),
            },
        ],
    }]);
    // The first name becomes bytes that are no UTF-8.
    let at = bytes.windows(2).position(|pair| pair == b"aa").unwrap();
    bytes[at..at + 2].copy_from_slice(&[0xff, 0xfe]);
    let decoded = decode(&one(bytes.freeze()));
    let record = decoded.records().next().unwrap().unwrap();
    let headers: Vec<_> = record.headers().collect();
    let expected: [(&[u8], Option<&[u8]>); 3] =
        [(&[0xff, 0xfe], Some(b"1")), (b"aa", None), (b"", Some(b""))];
    assert_eq!(headers, expected);
}

#[test]
fn damage_is_told_with_its_place() {
    let good = batch(&[(1, Some(b"key"), Some(b"value")), (2, None, None)]);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let damaged_batch = one(flipped.freeze());
    assert!(matches!(
        damaged_batch.verify_crc(),
        Err(BatchError::Crc { .. })
    ));
    let decoded = decode(&damaged_batch);
    let mut records = decoded.records();
    assert!(records.next().unwrap().is_ok());
    assert!(matches!(
        records.next(),
        Some(Err(BatchError::Record { index: 1, .. }))
    ));
    assert!(records.next().is_none());

    // One record fewer declared than there are.
    let mut fewer = good.clone();
    fewer[60] = 1;
    let decoded = decode(&one(fewer.freeze()));
    let last = decoded.records().last().unwrap();
    assert!(matches!(
        last,
        Err(BatchError::Record {
            fault: RecordFault::LeftOver { .. },
            ..
        })
    ));

    // Formats and lengths that lead nowhere end the splitting.
    for (at, byte) in [(16, 3), (8, 0x80), (11, 0), (0, 0x80), (23, 0x80)] {
        let mut bad = good.clone();
        bad[at] = byte;
        if at == 11 {
            bad[10] = 0;
        }
        let mut batches = Batches::new(bad.freeze());
        let error = batches.next().unwrap().unwrap_err();
        assert!(
            matches!(error, BatchError::Header { position: 0, .. }),
            "{at}: {error}"
        );
        assert!(batches.next().is_none() && batches.partial_tail().is_none());
    }
}

#[test]
fn the_peer_reads_what_we_write_and_we_read_what_it_writes() {
    let ours = batch(&[
        (7, Some(b"k"), Some(b"v")),
        (9, None, Some(b"")),
        (8, Some(b""), None),
    ]);
    let set = peer::RecordBatchDecoder::decode(&mut ours.clone().freeze()).unwrap();
    let theirs: Vec<_> = set
        .records
        .iter()
        .map(|r| (r.offset, r.timestamp, r.key.clone(), r.value.clone()))
        .collect();
    assert_eq!(theirs, fields(&decode(&one(ours.freeze()))));

    let options = peer::RecordEncodeOptions {
        version: 2,
        compression: peer::Compression::None,
    };
    let mut buf = BytesMut::new();
    peer::RecordBatchEncoder::encode(&mut buf, &set.records, &options).unwrap();
    let batch = one(buf.freeze());
    batch.verify_crc().unwrap();
    assert_eq!(fields(&decode(&batch)), theirs);
}

#[test]
fn old_messages_are_read_one_by_one() {
    let mut set = message(0, 0, 7, 0, None, Some(b"old"));
    set.extend(message(1, 0, 8, 1_234, Some(b"k"), None));
    set.extend(message(1, 0x08, 9, 999, None, Some(b"appended")));
    set.extend(batch(&[(5, None, Some(b"new"))]));
    let batches: Vec<_> = Batches::new(set.into()).map(Result::unwrap).collect();
    for batch in &batches {
        batch.verify_crc().unwrap();
    }
    let [zero, one, appended, two] = &batches[..] else {
        panic!("four batches");
    };
    assert_eq!(zero.header().timestamp_type(), TimestampType::None);
    assert_eq!(fields(&decode(zero)), [(7, -1, None, Some("old".into()))]);
    assert_eq!(fields(&decode(one)), [(8, 1_234, Some("k".into()), None)]);
    assert_eq!(
        appended.header().timestamp_type(),
        TimestampType::LogAppendTime
    );
    assert_eq!(fields(&decode(appended))[0].1, 999);
    assert_eq!(two.header().magic(), 2);

    let mut damaged = message(1, 0, 8, 1_234, None, Some(b"value"));
    *damaged.last_mut().unwrap() ^= 1;
    let error = Batches::new(damaged.into())
        .next()
        .unwrap()
        .unwrap()
        .verify_crc();
    assert!(matches!(error, Err(BatchError::Crc { base_offset: 8, .. })));
}

#[test]
fn old_compressed_sets_are_unpacked() {
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4] {
        // Magic 1: relative offsets 0, 2, 3 inside an outer offset of 53. Magic 0: absolute ones.
        for (magic, inner) in [(1, [0, 2, 3]), (0, [50, 52, 53])] {
            let set: Vec<u8> = inner
                .iter()
                .flat_map(|&offset| message(magic, 0, offset, offset, None, Some(b"inner")))
                .collect();
            let mut packed = pack(compression, &set);
            if compression == Compression::Lz4 && magic == 0 {
                // As producers before 0.10 hashed it: with the magic number.
                packed[6] = (twox_hash::XxHash32::oneshot(0, &packed[..6]) >> 8) as u8;
            }
            let outer = message(magic, compression as u8, 53, 9, None, Some(&packed));
            let batch = one(outer.into());
            batch.verify_crc().unwrap();
            assert_eq!(batch.header().record_count(), None);
            assert_eq!(batch.next_offset(), 54);
            let decoded = decode(&batch);
            assert_eq!(decoded.header().base_offset(), 50);
            let read = fields(&decoded);
            let offsets: Vec<_> = read.iter().map(|r| r.0).collect();
            assert_eq!(offsets, [50, 52, 53], "{compression}, magic {magic}");
            let time = if magic == 0 { -1 } else { 2 };
            assert_eq!(read[1].1, time);

            if magic == 1 {
                // The broken checksum is no excuse in magic 1.
                if compression == Compression::Lz4 {
                    packed[6] ^= 1;
                    let outer = message(1, 3, 53, 9, None, Some(&packed));
                    let result = one(outer.into()).decode(&mut Decompressor::new(), 1 << 20);
                    assert!(matches!(result, Err(BatchError::Decompress { .. })));
                }
                // With the broker's clock the outer timestamp is everyone's.
                let packed = pack(compression, &set);
                let outer = message(1, compression as u8 | 8, 53, 9, None, Some(&packed));
                let times: Vec<_> = fields(&decode(&one(outer.into())))
                    .iter()
                    .map(|r| r.1)
                    .collect();
                assert_eq!(times, [9, 9, 9]);
            }
        }
    }
}

#[test]
fn a_set_inside_a_set_is_refused() {
    let inner = message(1, 1, 0, 0, None, Some(b"compressed again"));
    let outer = message(1, 1, 5, 0, None, Some(&pack(Compression::Gzip, &inner)));
    let error = one(outer.into())
        .decode(&mut Decompressor::new(), 1 << 20)
        .unwrap_err();
    assert!(matches!(
        error,
        BatchError::Record {
            fault: RecordFault::Nested,
            ..
        }
    ));
}

#[test]
fn gzip_members_and_zstd_frames_may_follow_each_other() {
    let mut decompressor = Decompressor::new();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let twice = pack(compression, b"one ")
            .into_iter()
            .chain(pack(compression, b"two"));
        let twice: Vec<u8> = twice.collect();
        let plain = decompressor.decompress(compression, &twice, 7).unwrap();
        assert_eq!(plain, "one two");
    }
    let twice = pack(Compression::Lz4, b"one").repeat(2);
    assert!(
        decompressor
            .decompress(Compression::Lz4, &twice, 100)
            .is_err()
    );
    // Snappy without xerial's framing, as librdkafka and Go write it.
    let raw = snap::raw::Encoder::new()
        .compress_vec(b"raw raw raw raw")
        .unwrap();
    let plain = decompressor
        .decompress(Compression::Snappy, &raw, 100)
        .unwrap();
    assert_eq!(plain, "raw raw raw raw");
}

type Fields = (i64, i64, Option<Bytes>, Option<Bytes>);

fn fields(batch: &DecodedBatch) -> Vec<Fields> {
    let records = batch.clone().into_records().map(Result::unwrap);
    records
        .map(|r| (r.offset(), r.timestamp(), r.key_bytes(), r.value_bytes()))
        .collect()
}

fn one(bytes: Bytes) -> Batch {
    let mut batches = Batches::new(bytes);
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none() && batches.partial_tail().is_none());
    batch
}

fn decode(batch: &Batch) -> DecodedBatch {
    batch.decode(&mut Decompressor::new(), 1 << 20).unwrap()
}

/// Timestamp, key, value.
type New<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>);

fn batch(records: &[New<'_>]) -> BytesMut {
    let records: Vec<_> = records
        .iter()
        .map(|&(timestamp, key, value)| NewRecord {
            timestamp,
            key,
            value,
            headers: &[],
        })
        .collect();
    written(&records)
}

fn written(records: &[NewRecord<'_>]) -> BytesMut {
    let mut writer = BatchWriter::new(BytesMut::new());
    for record in records {
        writer.append(record).unwrap();
    }
    let sealed = writer
        .seal(&SealOptions::default(), &mut Compressor::new())
        .unwrap();
    sealed.freeze().try_into_mut().unwrap()
}

fn pack(compression: Compression, plain: &[u8]) -> Vec<u8> {
    Compressor::new()
        .compress(compression.into(), plain)
        .unwrap()
        .to_vec()
}

/// A message of magic 0 or 1, written out by hand.
fn message(
    magic: u8,
    attributes: u8,
    offset: i64,
    timestamp: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Vec<u8> {
    let mut covered = vec![magic, attributes];
    if magic == 1 {
        covered.extend(timestamp.to_be_bytes());
    }
    for field in [key, value] {
        covered.extend(
            field
                .map_or(-1, |f| i32::try_from(f.len()).unwrap())
                .to_be_bytes(),
        );
        covered.extend(field.unwrap_or_default());
    }
    let mut crc = flate2::Crc::new();
    crc.update(&covered);
    let mut message = offset.to_be_bytes().to_vec();
    message.extend((covered.len() as i32 + 4).to_be_bytes());
    message.extend(crc.sum().to_be_bytes());
    message.extend(covered);
    message
}
