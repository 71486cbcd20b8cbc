//! The hot paths allocate per batch, never per record; hostile batches allocate no more than their budget.
// Helpers of tests are tests: what they unwrap is what they check.
#![allow(clippy::unwrap_used)]

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use ottla_wire::compress::{Codec, Compression, Compressor, DecompressError, Decompressor};
use ottla_wire::record::{BatchWriter, Batches, Header, NewRecord, SealOptions};

const HEADERS: [Header<'_>; 2] = [
    Header {
        key: "trace",
        value: Some(b"0123456789abcdef"),
    },
    Header {
        key: "trace",
        value: None,
    },
];

#[test]
fn appending_to_a_reserved_buffer_allocates_nothing() {
    let mut writer = BatchWriter::new(BytesMut::with_capacity(1 << 20));
    let info = measure(|| append(&mut writer, 1_000));
    assert_eq!(info.count_total, 0, "{info:?}");
    assert_eq!(writer.record_count(), 1_000);
}

#[test]
fn a_buffer_given_back_is_used_again() {
    // Freezing makes the reference count: 24 bytes, whatever the batch's size.
    let mut compressor = Compressor::new();
    let mut cycle = |buf: BytesMut| {
        let mut writer = BatchWriter::new(buf);
        append(&mut writer, 1_000);
        let sealed = writer
            .seal(&SealOptions::default(), &mut compressor)
            .unwrap();
        sealed.freeze().try_into_mut().unwrap()
    };
    let mut buf = cycle(BytesMut::new());
    buf = cycle(buf);
    let info = measure(|| drop(cycle(std::mem::take(&mut buf))));
    assert!(info.count_total <= 1 && info.bytes_total <= 32, "{info:?}");
}

#[test]
fn sealing_allocates_the_same_for_ten_records_and_a_thousand() {
    for compression in Compression::ALL {
        let options = SealOptions {
            codec: Codec::from(compression),
        };
        let mut compressor = Compressor::new();
        // The first batch builds the codec's context and grows the scratch buffer.
        drop(writer(1_000).seal(&options, &mut compressor));
        for count in [10, 1_000] {
            let writer = writer(count);
            let mut sealed = None;
            let info = measure(|| {
                let mut batch = writer.seal(&options, &mut compressor).unwrap();
                batch.stamp(1, 2, 3, false);
                sealed = Some(batch);
            });
            assert!(
                info.count_total <= SEAL_ALLOCATIONS,
                "{compression}, {count}: {info:?}"
            );
        }
    }
}

/// The sealed batch's buffer, and a few small tables that the zstd encoder makes for each frame.
const SEAL_ALLOCATIONS: u64 = 16;

#[test]
fn lending_records_allocates_nothing() {
    for compression in Compression::ALL {
        let decoded = decode(&sealed(compression, 1_000)).unwrap();
        let mut count = 0;
        let info = measure(|| {
            for record in decoded.records() {
                let record = record.unwrap();
                assert_eq!(record.headers().count(), 2);
                count += 1;
            }
        });
        assert_eq!(count, 1_000);
        assert_eq!(info.count_total, 0, "{compression}: {info:?}");
    }
}

#[test]
fn owning_records_allocates_nothing_per_record() {
    for compression in Compression::ALL {
        let decoded = decode(&sealed(compression, 1_000)).unwrap();
        let mut kept = Vec::with_capacity(1_000);
        let info = measure(|| {
            for record in decoded.into_records() {
                kept.push(record.unwrap());
            }
        });
        assert_eq!(kept.len(), 1_000);
        // The first share of a buffer makes its reference count.
        assert!(info.count_total <= 1, "{compression}: {info:?}");
    }
}

#[test]
fn splitting_and_checking_allocates_nothing() {
    let one = sealed(Compression::Lz4, 10);
    let many = Bytes::from(one.repeat(100));
    let first = many.clone();
    let mut count = 0;
    let info = measure(|| {
        for batch in Batches::new(many) {
            batch.unwrap().verify_crc().unwrap();
            count += 1;
        }
    });
    drop(first);
    assert_eq!(count, 100);
    assert_eq!(info.count_total, 0, "{info:?}");
}

/// Four megabytes of zeros, in a few kilobytes, with a budget of one.
#[test]
fn bombs_stop_at_the_budget() {
    const BUDGET: usize = 1 << 20;
    let zeros = vec![0; 4 << 20];
    let mut compressor = Compressor::new();
    let mut decompressor = Decompressor::new();
    for compression in &Compression::ALL[1..] {
        let bomb = compressor
            .compress((*compression).into(), &zeros)
            .unwrap()
            .to_vec();
        let mut result = None;
        let info = measure(|| result = Some(decompressor.decompress(*compression, &bomb, BUDGET)));
        assert!(
            matches!(
                result,
                Some(Err(DecompressError::OverBudget { limit: BUDGET, .. }))
            ),
            "{compression}: {result:?}"
        );
        // A buffer that grows may be there twice while it moves.
        let most = (2 * BUDGET + CONTEXT_MAX) as u64;
        assert!(info.bytes_max <= most, "{compression}: {info:?}");
    }
}

/// What a decompressor's context takes: windows, tables, literals.
const CONTEXT_MAX: usize = 512 << 10;

/// Sizes that a few bytes declare, and do not hold, cost nothing.
#[test]
fn declared_sizes_are_not_believed() {
    // Snappy: 2^32-1 bytes declared. LZ4: 4 MiB blocks and a content size of 2^62. Zstd: a content
    // size of 2^62 in one segment; and a window of 128 MiB with no size.
    let snappy = b"\xff\xff\xff\xff\x0f\x00a".to_vec();
    let mut lz4 = vec![0x04, 0x22, 0x4d, 0x18, 0x68, 0x70];
    lz4.extend_from_slice(&(1u64 << 62).to_le_bytes());
    lz4.push((twox_hash::XxHash32::oneshot(0, &lz4[4..]) >> 8) as u8);
    lz4.extend_from_slice(&[2, 0, 0, 0, 0x10, b'a', 0, 0, 0, 0]);
    let mut sized = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    sized.extend_from_slice(&(1u64 << 62).to_le_bytes());
    sized.extend_from_slice(&[0x09, 0, 0, b'a']);
    let windowed = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x09, 0, 0, b'a'];
    for (compression, bytes) in [
        (Compression::Snappy, snappy),
        (Compression::Lz4, lz4),
        (Compression::Zstd, sized),
        (Compression::Zstd, windowed),
    ] {
        let mut decompressor = Decompressor::new();
        let mut result = None;
        let info = measure(|| result = Some(decompressor.decompress(compression, &bytes, 1 << 30)));
        assert!(
            info.bytes_max < 1 << 20,
            "{compression}: {info:?}, {result:?}"
        );
    }
}

/// A record count of 2^31-1 in a batch of a few bytes, plain and compressed.
#[test]
fn declared_counts_are_not_believed() {
    for compression in Compression::ALL {
        let mut bytes = sealed(compression, 10).to_vec();
        bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
        let mut result = None;
        let bytes = Bytes::from(bytes);
        let info = measure(|| {
            result = Some(match Batches::new(bytes).next().unwrap() {
                Ok(batch) => batch.decode(&mut Decompressor::new(), 1 << 30).map(drop),
                Err(error) => Err(error),
            });
        });
        let error = result.unwrap().unwrap_err();
        assert!(error.to_string().contains("2147483647"), "{error}");
        assert!(info.bytes_max < 1 << 20, "{compression}: {info:?}");
    }
}

fn writer(count: usize) -> BatchWriter {
    let mut writer = BatchWriter::new(BytesMut::with_capacity(1 << 20));
    append(&mut writer, count);
    writer
}

fn append(writer: &mut BatchWriter, count: usize) {
    let value = [b'v'; 100];
    for index in 0..count {
        writer
            .append(&NewRecord {
                timestamp: 1_700_000_000_000 + index as i64,
                key: Some(&index.to_be_bytes()),
                value: Some(&value),
                headers: &HEADERS,
            })
            .unwrap();
    }
}

fn sealed(compression: Compression, count: usize) -> Bytes {
    let options = SealOptions {
        codec: Codec::from(compression),
    };
    let sealed = writer(count).seal(&options, &mut Compressor::new());
    sealed.unwrap().freeze()
}

fn decode(bytes: &Bytes) -> Option<ottla_wire::record::DecodedBatch> {
    let batch = Batches::new(bytes.clone()).next()?.ok()?;
    batch.decode(&mut Decompressor::new(), 1 << 30).ok()
}
