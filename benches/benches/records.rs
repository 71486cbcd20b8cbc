//! Record batches: nanoseconds per record to write and to read, checksum included, beside
//! kafka-protocol in the same run.
//!
//! `cargo bench -p ottla-bench --bench records`
#![allow(
    missing_docs,
    reason = "criterion_group! makes a public function without any"
)]

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kafka_protocol::records as peer;
use ottla_wire::compress::{Compressor, Decompressor};
use ottla_wire::record::{BatchWriter, Batches, NewRecord, SealOptions};
use std::hint::black_box;

const RECORDS: usize = 1_000;

/// Key and value together.
const RECORD_LEN: usize = 100;

const KEY_LEN: usize = 8;

criterion_group!(benches, write, read);
criterion_main!(benches);

fn write(c: &mut Criterion) {
    let payload = Payload::new();
    let mut group = c.benchmark_group("write a record of 100 bytes");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("ottla", |b| {
        let mut compressor = Compressor::new();
        let mut spare = BytesMut::new();
        b.iter(|| {
            let mut writer = BatchWriter::new(std::mem::take(&mut spare));
            payload.append_all(&mut writer);
            let sealed = writer.seal(&SealOptions::default(), &mut compressor);
            let mut sealed = sealed.expect("a batch with records");
            sealed.stamp(1, 0, 0, false);
            let bytes = black_box(sealed.freeze());
            spare = bytes.try_into_mut().expect("nobody shares it");
        });
    });
    group.bench_function("kafka-protocol", |b| {
        let records = payload.peer_records();
        let options = peer::RecordEncodeOptions {
            version: 2,
            compression: peer::Compression::None,
        };
        let mut buf = BytesMut::new();
        b.iter(|| {
            buf.clear();
            peer::RecordBatchEncoder::encode(&mut buf, &records, &options).expect("valid records");
            black_box(&buf);
        });
    });
    group.finish();
}

fn read(c: &mut Criterion) {
    let batch = Payload::new().batch();
    let mut group = c.benchmark_group("read a record of 100 bytes");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("ottla, lent", |b| {
        let mut decompressor = Decompressor::new();
        b.iter(|| {
            let batch = one(&batch);
            batch.verify_crc().expect("intact");
            let decoded = batch.decode(&mut decompressor, usize::MAX).expect("intact");
            let mut sum = 0;
            for record in decoded.records() {
                let record = record.expect("intact");
                sum += record.offset() + record.timestamp();
                black_box((record.key(), record.value()));
            }
            sum
        });
    });
    group.bench_function("ottla, owned", |b| {
        let mut decompressor = Decompressor::new();
        b.iter(|| {
            let batch = one(&batch);
            batch.verify_crc().expect("intact");
            let decoded = batch.decode(&mut decompressor, usize::MAX).expect("intact");
            let mut sum = 0;
            for record in decoded.into_records() {
                let record = record.expect("intact");
                sum += record.offset() + record.timestamp();
                black_box((record.key(), record.value()));
            }
            sum
        });
    });
    group.bench_function("kafka-protocol", |b| {
        b.iter_batched(
            || batch.clone(),
            |mut batch| {
                let set = peer::RecordBatchDecoder::decode(&mut batch).expect("intact");
                let mut sum = 0;
                for record in &set.records {
                    sum += record.offset + record.timestamp;
                    black_box((&record.key, &record.value));
                }
                sum
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn one(batch: &Bytes) -> ottla_wire::record::Batch {
    Batches::new(batch.clone())
        .next()
        .and_then(Result::ok)
        .expect("one batch")
}

/// The records' bytes, made before any clock starts.
struct Payload {
    timestamps: Vec<i64>,
    bytes: Vec<Bytes>,
}

impl Payload {
    fn new() -> Self {
        let start = 1_700_000_000_000;
        Self {
            timestamps: (0..RECORDS as i64).map(|i| start + i / 7).collect(),
            bytes: (0..RECORDS)
                .map(|i| {
                    let text = format!("{i:08}{{\"user\":{i},\"page\":\"/a/{}\"}}", i * 31 % 977);
                    Bytes::from(format!("{text:.<RECORD_LEN$}"))
                })
                .collect(),
        }
    }

    fn append_all(&self, writer: &mut BatchWriter) {
        for (timestamp, bytes) in self.timestamps.iter().zip(&self.bytes) {
            let (key, value) = bytes.split_at(KEY_LEN);
            let record = NewRecord {
                timestamp: *timestamp,
                key: Some(key),
                value: Some(value),
                headers: &[],
            };
            writer.append(&record).expect("room for it");
        }
    }

    fn batch(&self) -> Bytes {
        let mut writer = BatchWriter::new(BytesMut::new());
        self.append_all(&mut writer);
        writer
            .seal(&SealOptions::default(), &mut Compressor::new())
            .expect("a batch with records")
            .freeze()
    }

    fn peer_records(&self) -> Vec<peer::Record> {
        self.timestamps
            .iter()
            .zip(&self.bytes)
            .enumerate()
            .map(|(index, (&timestamp, bytes))| peer::Record {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: 0,
                producer_id: 1,
                producer_epoch: 0,
                timestamp_type: peer::TimestampType::Creation,
                offset: index as i64,
                sequence: index as i32,
                timestamp,
                key: Some(bytes.slice(..KEY_LEN)),
                value: Some(bytes.slice(KEY_LEN..)),
                headers: Default::default(),
            })
            .collect()
    }
}
