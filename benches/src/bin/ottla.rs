//! Ottla as a contestant: `send` with the deliveries left to `flush`, and `poll` of borrowed batches; or with `--split` a
//! stream and a task for each partition, and borrowed batches from those.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use ottla_bench::contestant::{self, Args, Mode, Outcome, Phase, paced};
use ottla_bench::workload::{Event, Workload};
use ottla_consumer::{
    Consumer, ConsumerConfig, Offset, PartitionStream, RecordBatch, TopicPartition,
};
use ottla_net::{Cluster, ClusterConfig, TcpConnector};
use ottla_producer::{Producer, ProducerConfig, ProducerRecord};
use tokio::runtime::Runtime;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    args: Args,
    /// Consume with a stream and a task for each partition.
    #[arg(long)]
    split: bool,
}

fn main() -> Result<(), Failure> {
    let Options { args, split } = Options::parse();
    let pool = Workload::load(&args.workload)?;
    let runtime = Runtime::new()?;
    let _inside = runtime.enter();
    let config = ClusterConfig::new([args.bootstrap.parse()?]);
    let cluster = Cluster::new(config, Arc::new(TcpConnector::default()))?;
    match args.mode {
        Mode::Produce => {
            let producer = producer(&args, cluster, Duration::from_millis(5))?;
            contestant::run(&args, |phase| {
                runtime.block_on(produce(&args, &pool, &producer, phase))
            })
        }
        Mode::Consume if split => {
            let consumer = consumer(&args, cluster, Offset::Beginning)?;
            let mut partitions = consumer.split()?;
            let mut streams = Vec::new();
            while streams.len() < args.partitions {
                streams.push(runtime.block_on(partitions.next_partition())?);
            }
            contestant::run(&args, |phase| {
                runtime.block_on(consume_split(&mut streams, phase))
            })
        }
        Mode::Consume => {
            let consumer = consumer(&args, cluster, Offset::Beginning)?;
            contestant::run(&args, |phase| runtime.block_on(consume(&consumer, phase)))
        }
        Mode::Latency => {
            let producer = producer(&args, cluster, Duration::ZERO)?;
            contestant::run(&args, |phase| {
                paced(phase, args.rate, &pool, |event| {
                    let started = Instant::now();
                    runtime.block_on(async {
                        producer.send(record(&args, event)).await?.await?;
                        Ok::<_, Failure>(started.elapsed())
                    })
                })
            })
        }
        Mode::Endtoend => {
            let producer = producer(&args, cluster.clone(), Duration::ZERO)?;
            let consumer = consumer(&args, cluster, Offset::End)?;
            // The end is looked up in the background: no record may be sent before it is known.
            runtime.block_on(consumer.poll(Duration::from_secs(1)))?;
            contestant::run(&args, |phase| {
                paced(phase, args.rate, &pool, |event| {
                    let started = Instant::now();
                    runtime.block_on(async {
                        let delivery = producer.send(record(&args, event)).await?;
                        while consumer.poll(Duration::from_secs(5)).await?.is_empty() {}
                        let latency = started.elapsed();
                        delivery.await?;
                        Ok::<_, Failure>(latency)
                    })
                })
            })
        }
    }
}

fn producer(args: &Args, cluster: Cluster, linger: Duration) -> Result<Producer, Failure> {
    let config = ProducerConfig {
        linger,
        batch_size: args.client_batch_bytes(),
        max_request_size: 2_000_000,
        buffer_memory: 64 << 20,
        compression: args.codec.parse()?,
        ..ProducerConfig::default()
    };
    Ok(Producer::new(cluster, config)?)
}

fn record<'a>(args: &'a Args, event: Event<'a>) -> ProducerRecord<'a> {
    ProducerRecord::to(&args.topic)
        .key(event.key)
        .value(event.value)
}

async fn produce(
    args: &Args,
    pool: &Workload,
    producer: &Producer,
    phase: Phase,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    while phase.open(outcome.records) {
        for _ in 0..256 {
            let event = pool.event(outcome.records as usize % pool.len());
            // The sink counts what arrives; nobody waits for a single record.
            drop(producer.send(record(args, event)).await?);
            outcome.records += 1;
            outcome.value_bytes += event.value.len() as u64;
        }
    }
    producer.flush(Duration::from_secs(60)).await?;
    Ok(outcome)
}

fn consumer(args: &Args, cluster: Cluster, from: Offset) -> Result<Consumer, Failure> {
    let config = ConsumerConfig {
        enable_auto_commit: false,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(cluster, config)?;
    let partitions = 0..args.partitions as i32;
    consumer.assign(
        partitions.map(|partition| (TopicPartition::new(args.topic.as_str(), partition), from)),
    )?;
    Ok(consumer)
}

async fn consume(consumer: &Consumer, phase: Phase) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let mut touched = 0_u64;
    while phase.open(outcome.records) {
        let wait = phase.remaining().min(Duration::from_millis(100));
        for batch in consumer.poll_max(1_000, wait).await? {
            touch(&batch, &mut outcome, &mut touched)?;
        }
    }
    std::hint::black_box(touched);
    Ok(outcome)
}

async fn consume_split(
    streams: &mut Vec<PartitionStream>,
    phase: Phase,
) -> Result<Outcome, Failure> {
    let phase = phase.shared_by(streams.len() as u64);
    let tasks: Vec<_> = streams
        .drain(..)
        .map(|stream| tokio::spawn(consume_one(stream, phase)))
        .collect();
    let mut all = Outcome::default();
    for task in tasks {
        let (stream, outcome) = task.await??;
        streams.push(stream);
        all.records += outcome.records;
        all.value_bytes += outcome.value_bytes;
    }
    Ok(all)
}

async fn consume_one(
    mut stream: PartitionStream,
    phase: Phase,
) -> Result<(PartitionStream, Outcome), Failure> {
    let mut outcome = Outcome::default();
    let mut touched = 0_u64;
    while phase.open(outcome.records) {
        let next = tokio::time::timeout(phase.remaining(), stream.next_batch()).await;
        let Some(batch) = next.unwrap_or(Ok(None))? else {
            break;
        };
        touch(&batch, &mut outcome, &mut touched)?;
    }
    std::hint::black_box(touched);
    Ok((stream, outcome))
}

fn touch(batch: &RecordBatch, outcome: &mut Outcome, touched: &mut u64) -> Result<(), Failure> {
    for record in batch {
        let value = record?.value().unwrap_or_default();
        *touched += u64::from(value.first().copied().unwrap_or(0));
        outcome.records += 1;
        outcome.value_bytes += value.len() as u64;
    }
    Ok(())
}
