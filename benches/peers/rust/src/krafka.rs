//! krafka: `enqueue` with the acknowledgements left to `flush`, and `poll` of as many records as there
//! are.

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use krafka::consumer::{AutoOffsetReset, Consumer};
use krafka::producer::{Acks, Producer};
use krafka::{Compression, Kafka, Record};
use ottla_bench::contestant::{self, Args, Mode, Outcome, Phase, paced};
use ottla_bench::workload::Workload;
use tokio::runtime::Runtime;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let pool = Workload::load(&args.workload)?;
    let runtime = Runtime::new()?;
    let kafka = runtime.block_on(Kafka::builder(&args.bootstrap).connect())?;
    match args.mode {
        Mode::Produce => {
            let records = shared(&pool);
            let producer = runtime.block_on(producer(&args, &kafka, Duration::from_millis(5)))?;
            contestant::run(&args, |phase| {
                runtime.block_on(produce(&args, &records, &producer, phase))
            })
        }
        Mode::Consume => {
            let consumer = runtime.block_on(consumer(&args, &kafka))?;
            contestant::run(&args, |phase| runtime.block_on(consume(&consumer, phase)))
        }
        Mode::Latency => {
            let producer = runtime.block_on(producer(&args, &kafka, Duration::ZERO))?;
            contestant::run(&args, |phase| {
                paced(phase, args.rate, &pool, |event| {
                    let record = Record::new(args.topic.as_str(), event.value.to_vec())
                        .key(event.key.to_vec());
                    let started = Instant::now();
                    let _ = runtime.block_on(producer.send(record))?;
                    Ok::<_, Failure>(started.elapsed())
                })
            })
        }
        Mode::Endtoend => {
            let producer = runtime.block_on(producer(&args, &kafka, Duration::ZERO))?;
            let consumer = runtime.block_on(consumer(&args, &kafka))?;
            contestant::run(&args, |phase| {
                let drain = consumer.poll(Duration::from_millis(700));
                let mut left = runtime.block_on(drain)?.len();
                while left > 0 {
                    left = runtime
                        .block_on(consumer.poll(Duration::from_millis(700)))?
                        .len();
                }
                paced(phase, args.rate, &pool, |event| {
                    let record = Record::new(args.topic.as_str(), event.value.to_vec())
                        .key(event.key.to_vec());
                    let started = Instant::now();
                    runtime.block_on(async {
                        let _ = producer.enqueue(record).await?;
                        while consumer.poll(Duration::from_secs(5)).await?.is_empty() {}
                        Ok::<_, Failure>(started.elapsed())
                    })
                })
            })
        }
    }
}

/// Key and value of every record as views of one buffer, which a record then only counts.
fn shared(pool: &Workload) -> Vec<(Bytes, Bytes)> {
    let mut all = Vec::new();
    for event in pool.iter() {
        all.extend_from_slice(event.key);
        all.extend_from_slice(event.value);
    }
    let all = Bytes::from(all);
    let mut at = 0;
    let mut cut = |len: usize| {
        at += len;
        all.slice(at - len..at)
    };
    pool.iter()
        .map(|event| (cut(event.key.len()), cut(event.value.len())))
        .collect()
}

async fn producer(args: &Args, kafka: &Kafka, linger: Duration) -> Result<Producer, Failure> {
    let compression = match args.codec.as_str() {
        "none" => Compression::None,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        other => return Err(format!("unknown codec {other}").into()),
    };
    let producer = kafka
        .producer()
        .acks(Acks::All)
        .idempotent(true)
        .compression(compression)
        .batch_size(args.client_batch_bytes())
        .linger(linger)
        .buffer_memory(64 << 20);
    Ok(producer.build().await?)
}

async fn produce(
    args: &Args,
    records: &[(Bytes, Bytes)],
    producer: &Producer,
    phase: Phase,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    while phase.open(outcome.records) {
        for _ in 0..256 {
            let (key, value) = &records[outcome.records as usize % records.len()];
            let record = Record::new(args.topic.as_str(), value.clone()).key(key.clone());
            // The sink counts what arrives; nobody waits for a single record.
            let _ = producer.enqueue(record).await?;
            outcome.records += 1;
            outcome.value_bytes += value.len() as u64;
        }
    }
    producer.flush().await?;
    Ok(outcome)
}

async fn consumer(args: &Args, kafka: &Kafka) -> Result<Consumer, Failure> {
    let consumer = kafka
        .consumer_without_group()
        .auto_offset_reset(AutoOffsetReset::Earliest)
        .max_poll_records(20_000)
        .max_buffered_records(100_000)
        .build()
        .await?;
    consumer
        .assign(&args.topic, (0..args.partitions as i32).collect())
        .await?;
    Ok(consumer)
}

async fn consume(consumer: &Consumer, phase: Phase) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let mut touched = 0_u64;
    while phase.open(outcome.records) {
        for record in consumer.poll(Duration::from_millis(100)).await? {
            let value = record.value.unwrap_or_default();
            touched += u64::from(value.first().copied().unwrap_or(0));
            outcome.records += 1;
            outcome.value_bytes += value.len() as u64;
        }
    }
    std::hint::black_box(touched);
    Ok(outcome)
}
