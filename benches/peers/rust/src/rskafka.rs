//! rskafka: it neither batches nor partitions, so batches are gathered here, per partition, and
//! handed over whole, several at a time; each partition is read by a task of its own. No idempotence.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use clap::Parser;
use ottla_bench::contestant::{self, Args, Mode, Outcome, Phase, paced};
use ottla_bench::workload::{Event, Workload, partition_of};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::record::Record;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

/// Keys and values in a batch; larger ones leave the cache before they are encoded.
const BATCH_BYTES: usize = 256 << 10;
const BUFFER_BYTES: usize = 64 << 20;

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let pool = Workload::load(&args.workload)?;
    let codec = match args.codec.as_str() {
        "none" => Compression::NoCompression,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        other => return Err(format!("unknown codec {other}").into()),
    };
    let runtime = Runtime::new()?;
    let partitions = runtime.block_on(connect(&args))?;
    match args.mode {
        Mode::Produce => contestant::run(&args, |phase| {
            runtime.block_on(produce(&pool, &partitions, codec, phase))
        }),
        Mode::Consume => {
            let mut offsets = vec![0; partitions.len()];
            contestant::run(&args, |phase| {
                runtime.block_on(consume(&partitions, &mut offsets, phase))
            })
        }
        Mode::Latency => contestant::run(&args, |phase| {
            paced(phase, args.rate, &pool, |event| {
                let started = Instant::now();
                let partition = &partitions[partition_of(event.key, partitions.len())];
                runtime.block_on(partition.produce(vec![record(event)], codec))?;
                Ok::<_, Failure>(started.elapsed())
            })
        }),
        Mode::Endtoend => {
            let partition = Arc::clone(&partitions[0]);
            let mut offset = 0;
            contestant::run(&args, |phase| {
                loop {
                    let fetch = partition.fetch_records(offset, 1..8_000_000, 10);
                    match runtime.block_on(fetch)?.0.last() {
                        Some(last) => offset = last.offset + 1,
                        None => break,
                    }
                }
                paced(phase, args.rate, &pool, |event| {
                    let reader = Arc::clone(&partition);
                    let fetch = runtime.spawn(async move {
                        reader.fetch_records(offset, 1..1_000_000, 500).await
                    });
                    let started = Instant::now();
                    let arrived = runtime.block_on(async {
                        partition.produce(vec![record(event)], codec).await?;
                        Ok::<_, Failure>(fetch.await??)
                    })?;
                    offset = arrived.0.last().ok_or("the record did not arrive")?.offset + 1;
                    Ok::<_, Failure>(started.elapsed())
                })
            })
        }
    }
}

async fn connect(args: &Args) -> Result<Vec<Arc<PartitionClient>>, Failure> {
    let client = ClientBuilder::new(vec![args.bootstrap.clone()])
        .build()
        .await?;
    let mut partitions = Vec::new();
    for partition in 0..args.partitions as i32 {
        let handling = UnknownTopicHandling::Retry;
        let client = client
            .partition_client(&args.topic, partition, handling)
            .await?;
        partitions.push(Arc::new(client));
    }
    Ok(partitions)
}

fn record(event: Event<'_>) -> Record {
    Record {
        key: Some(event.key.to_vec()),
        value: Some(event.value.to_vec()),
        headers: BTreeMap::new(),
        timestamp: Utc::now(),
    }
}

async fn produce(
    pool: &Workload,
    partitions: &[Arc<PartitionClient>],
    codec: Compression,
    phase: Phase,
) -> Result<Outcome, Failure> {
    let buffer = Arc::new(Semaphore::new(BUFFER_BYTES / BATCH_BYTES));
    let mut sends: JoinSet<Result<(), Failure>> = JoinSet::new();
    let mut open: Vec<(usize, Vec<Record>)> = vec![(0, Vec::new()); partitions.len()];
    let mut outcome = Outcome::default();
    while phase.open(outcome.records) {
        for _ in 0..256 {
            let event = pool.event(outcome.records as usize % pool.len());
            let partition = partition_of(event.key, partitions.len());
            let (bytes, records) = &mut open[partition];
            records.push(record(event));
            *bytes += event.key.len() + event.value.len();
            outcome.records += 1;
            outcome.value_bytes += event.value.len() as u64;
            if *bytes >= BATCH_BYTES {
                let capacity = records.len();
                let batch = std::mem::replace(records, Vec::with_capacity(capacity));
                *bytes = 0;
                let room = Arc::clone(&buffer).acquire_owned().await?;
                let client = Arc::clone(&partitions[partition]);
                sends.spawn(async move {
                    client.produce(batch, codec).await?;
                    drop(room);
                    Ok(())
                });
                while let Some(sent) = sends.try_join_next() {
                    sent??;
                }
            }
        }
    }
    for (partition, (_, records)) in partitions.iter().zip(open) {
        partition.produce(records, codec).await?;
    }
    while let Some(sent) = sends.join_next().await {
        sent??;
    }
    Ok(outcome)
}

async fn consume(
    partitions: &[Arc<PartitionClient>],
    offsets: &mut [i64],
    phase: Phase,
) -> Result<Outcome, Failure> {
    let phase = phase.shared_by(partitions.len() as u64);
    let mut reads = JoinSet::new();
    for (index, partition) in partitions.iter().enumerate() {
        let partition = Arc::clone(partition);
        let mut offset = offsets[index];
        reads.spawn(async move {
            let mut outcome = Outcome::default();
            let mut touched = 0_u64;
            while phase.open(outcome.records) {
                let (records, _) = partition.fetch_records(offset, 1..1_000_000, 100).await?;
                if let Some(last) = records.last() {
                    offset = last.offset + 1;
                }
                for fetched in records {
                    let value = fetched.record.value.unwrap_or_default();
                    touched += u64::from(value.first().copied().unwrap_or(0));
                    outcome.records += 1;
                    outcome.value_bytes += value.len() as u64;
                }
            }
            std::hint::black_box(touched);
            Ok::<_, Failure>((index, offset, outcome))
        });
    }
    let mut total = Outcome::default();
    while let Some(read) = reads.join_next().await {
        let (index, offset, outcome) = read??;
        offsets[index] = offset;
        total.records += outcome.records;
        total.value_bytes += outcome.value_bytes;
    }
    Ok(total)
}
