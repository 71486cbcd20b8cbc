//! What a consumer costs that is assigned ten thousand partitions in which nothing happens: memory and CPU of its process.
//!
//! `cargo run --release -p ottla-bench --bin bench-idle-consumer`. The broker is an embedded one in a process of its own.

use std::error::Error;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ottla_bench::idle::{beside_a_broker, idle, row};
use ottla_consumer::{
    Consumer, ConsumerConfig, GroupProtocol, Offset, OffsetReset, TopicPartition,
};
use ottla_net::{Cluster, ClusterConfig, TcpConnector};
use ottla_producer::{Producer, ProducerConfig, ProducerRecord};
use tokio::runtime::Runtime;

type Failure = Box<dyn Error>;

const TOPIC: &str = "idle";
const PARTITIONS: i32 = 10_000;
const MARK_MIB: f64 = 50.0;
/// One per cent of a core.
const MARK_MS: f64 = 50.0;

/// What a consumer that rests may be.
const KINDS: [(&str, &str); 4] = [
    ("empty", "all 10,000 assigned, all empty"),
    ("read", "all assigned, one record of each read"),
    ("classic", "the only member of a classic group"),
    ("consumer", "the only member of a KIP-848 group"),
];

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [kind, bootstrap] = arguments.as_slice() {
        return Runtime::new()?.block_on(rest(kind, bootstrap));
    }
    beside_a_broker(TOPIC, PARTITIONS, async |bootstrap| {
        // Each in a process that has done nothing else. The records come after those who want none.
        for (kind, _) in [KINDS[0], KINDS[2], KINDS[3], KINDS[1]] {
            if kind == "read" {
                write(bootstrap).await?;
            }
            let status = Command::new(std::env::current_exe()?)
                .args([kind, bootstrap])
                .status()?;
            if !status.success() {
                return Err(format!("{kind}: {status}").into());
            }
        }
        println!("\nThe marks are {MARK_MIB} MiB and {MARK_MS} ms.");
        Ok(())
    })
}

/// A record of 100 B for every partition.
async fn write(bootstrap: &str) -> Result<(), Failure> {
    let cluster = cluster(bootstrap)?;
    let producer = Producer::new(cluster.clone(), ProducerConfig::default())?;
    for partition in 0..PARTITIONS {
        let record = ProducerRecord::to(TOPIC)
            .value(&[b'.'; 100])
            .partition(partition);
        drop(producer.send(record).await?);
    }
    producer.close(Duration::from_secs(60)).await?;
    cluster.close().await;
    Ok(())
}

async fn rest(kind: &str, bootstrap: &str) -> Result<(), Failure> {
    let cluster = cluster(bootstrap)?;
    let config = ConsumerConfig {
        group_id: Some(kind.to_owned()),
        group_protocol: match kind {
            "consumer" => GroupProtocol::Consumer,
            _ => GroupProtocol::Classic,
        },
        auto_offset_reset: OffsetReset::Latest,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(cluster.clone(), config)?;
    match kind {
        "empty" | "read" => consumer.assign(
            (0..PARTITIONS)
                .map(|partition| (TopicPartition::new(TOPIC, partition), Offset::Beginning)),
        )?,
        _ => consumer.subscribe([TOPIC])?,
    }
    while consumer.assignment().len() < PARTITIONS as usize {
        consumer.poll(Duration::from_millis(100)).await?;
    }
    let mut read = 0;
    while kind == "read" && read < PARTITIONS as usize {
        for batch in consumer.poll(Duration::from_secs(30)).await? {
            read += batch.records().count();
        }
    }
    settle(&consumer).await?;
    let named = KINDS.into_iter().find(|(name, _)| *name == kind);
    let (_, what) = named.ok_or_else(|| format!("unknown kind {kind}"))?;
    row(what, Some(idle()?))?;
    consumer.close(Duration::from_secs(10)).await?;
    cluster.close().await;
    Ok(())
}

fn cluster(bootstrap: &str) -> Result<Cluster, Failure> {
    let config = ClusterConfig::new([bootstrap.parse()?]);
    Ok(Cluster::new(config, Arc::new(TcpConnector::default()))?)
}

/// Until every partition's position is known and the first long poll is out.
async fn settle(consumer: &Consumer) -> Result<(), Failure> {
    consumer.poll(Duration::from_secs(5)).await?;
    Ok(())
}
