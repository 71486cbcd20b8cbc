//! What a fuzzer feeds: one function per decoder, taking any bytes.
//!
//! Each panics when a promise is broken and returns when it is kept, however wrong the bytes are.
//! The fuzz binaries call them under libFuzzer; `crates/ottla-wire/tests/fuzz_targets.rs` includes
//! this file and calls them with seeded mutations, on stable and without a fuzzer.

use std::cell::RefCell;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use ottla_wire::compress::{Codec, Compression, Compressor, Decompressor};
use ottla_wire::record::{
    Batch, BatchWriter, Batches, Header, NewRecord, SealOptions, SealedBatch, restamp, split,
};

/// Output that a decompressor may make of a fuzzer's few bytes.
const BUDGET: usize = 1 << 20;

/// Splits, checks, decodes and walks whatever is there, and re-encodes what could be read.
pub fn record_batches(data: &[u8]) {
    let mut decompressor = Decompressor::new();
    let records = Bytes::copy_from_slice(data);
    let mut batches = Batches::new(records.clone());
    let mut end = 0;
    for batch in &mut batches {
        let Ok(batch) = batch else { break };
        end += batch.bytes().len();
        assert!(batch.next_offset() > batch.base_offset());
        let _ = batch.verify_crc();
        let _ = batch.control_type();
        let _ = restamp(batch.bytes().clone(), 1, 2, 3);
        walk(&batch, &mut decompressor);
    }
    assert_eq!(batches.position(), end);
    assert!(batches.next().is_none(), "an ended splitter stays ended");
    if let Some(tail) = batches.partial_tail() {
        assert_eq!(tail.available, data.len() - end);
        assert!(tail.needed.is_none_or(|needed| needed > tail.available));
    }
}

/// Decompresses one batch and reads its records both ways.
fn walk(batch: &Batch, decompressor: &mut Decompressor) {
    let Ok(decoded) = batch.decode(decompressor, BUDGET) else {
        return;
    };
    let _ = decoded.control_type();
    let mut owned = decoded.clone().into_records();
    let mut good = 0;
    for lent in decoded.records() {
        let kept = owned.next().expect("both ways agree on the count");
        let (lent, kept) = match (lent, kept) {
            (Ok(lent), Ok(kept)) => (lent, kept),
            (Err(lent), Err(kept)) => {
                assert_eq!(lent, kept);
                break;
            }
            (lent, kept) => panic!("lent {lent:?}, kept {kept:?}"),
        };
        good += 1;
        assert!(lent.offset() >= 0);
        assert_eq!(lent.offset(), kept.offset());
        assert_eq!(lent.timestamp(), kept.timestamp());
        assert_eq!(lent.key(), kept.key());
        assert_eq!(lent.value(), kept.value());
        assert_eq!(lent.headers().len(), lent.headers().count());
        assert!(lent.headers().eq(kept.headers()));
    }
    assert!(owned.next().is_none());
    assert!(good <= decoded.record_count());

    // A batch that reads whole splits into the same records.
    if good == 0 || good < decoded.record_count() || batch.header().magic() != 2 {
        return;
    }
    let options = SealOptions::default();
    let mut compressor = Compressor::new();
    if let Ok(parts) = split(batch.bytes(), 256, &options, &mut compressor, decompressor) {
        let count: i32 = parts.iter().map(SealedBatch::record_count).sum();
        assert_eq!(count as usize, good);
    }
}

/// Cuts `data` into records, seals them with a codec that `data` chooses, and reads them back.
pub fn record_round_trip(data: &[u8]) {
    let [choice, level, rest @ ..] = data else {
        return;
    };
    let compression = Compression::ALL[usize::from(choice % 5)];
    let levels = compression.levels().unwrap_or(0..=0);
    let level = (*levels.end()).min(i32::from(level % 23)).max(1);
    let codec = Codec::new(compression, Some(level)).expect("a level the codec has");
    let mut written = Vec::new();
    let mut writer = BatchWriter::new(BytesMut::new());
    for piece in rest.split(|&byte| byte == b'\n') {
        let (key, value) = piece.split_at(piece.len() / 3);
        let (key, value) = ((key.len() % 2 == 0).then_some(key), Some(value));
        let headers = [Header {
            key: "name",
            value: key,
        }];
        let headers = &headers[..piece.len() % 2];
        let timestamp = i64::from(piece.first().copied().unwrap_or(0)) << (piece.len() % 56);
        writer
            .append(&NewRecord {
                timestamp,
                key,
                value,
                headers,
            })
            .expect("room for it");
        written.push((timestamp, key, value, headers.len()));
    }
    let sealed = writer
        .seal(&SealOptions { codec }, &mut Compressor::new())
        .expect("at least one record");
    let bytes = sealed.freeze();
    let batch = Batches::new(bytes).next().expect("a batch").expect("valid");
    batch.verify_crc().expect("intact");
    let decoded = batch
        .decode(&mut Decompressor::new(), 4 * rest.len() + 1024)
        .unwrap_or_else(|error| panic!("{codec:?}: {error}"));
    let mut read = decoded.records();
    for (timestamp, key, value, headers) in written {
        let record = read.next().expect("as many records").expect("valid");
        assert_eq!(record.timestamp(), timestamp);
        assert_eq!(record.key(), key);
        assert_eq!(record.value(), value);
        assert_eq!(record.headers().len(), headers);
    }
    assert!(read.next().is_none());
}

/// A gzip decompressor never makes more than its budget.
pub fn gzip(data: &[u8]) {
    decompress(Compression::Gzip, data);
}

/// The same of snappy.
pub fn snappy(data: &[u8]) {
    decompress(Compression::Snappy, data);
}

/// The same of LZ4.
pub fn lz4(data: &[u8]) {
    decompress(Compression::Lz4, data);
}

/// The same of zstd.
pub fn zstd(data: &[u8]) {
    decompress(Compression::Zstd, data);
}

fn decompress(compression: Compression, data: &[u8]) {
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let Ok(plain) = decompressor.decompress(compression, data, BUDGET) else {
            // A failure leaves nothing behind: the next input is read as by a fresh decompressor.
            let packed = &INTACT[compression as usize];
            let plain = decompressor.decompress(compression, packed, BUDGET);
            assert_eq!(plain.expect("intact"), &b"after an error"[..]);
            return;
        };
        assert!(plain.len() <= BUDGET);
        // The exact budget suffices, and one byte less does not.
        let exact = decompressor.decompress(compression, data, plain.len());
        assert_eq!(exact.as_ref(), Ok(&plain));
        if !plain.is_empty() {
            let less = decompressor.decompress(compression, data, plain.len() - 1);
            assert!(less.is_err(), "{less:?}");
        }
    });
}

thread_local! {
    /// Kept from input to input, as a client keeps it.
    static DECOMPRESSOR: RefCell<Decompressor> = RefCell::default();
}

/// The same few bytes with each codec, in the order of their numbers.
static INTACT: LazyLock<[Vec<u8>; 5]> = LazyLock::new(|| {
    Compression::ALL.map(|compression| {
        Compressor::new()
            .compress(compression.into(), b"after an error")
            .expect("it compresses")
            .to_vec()
    })
});
