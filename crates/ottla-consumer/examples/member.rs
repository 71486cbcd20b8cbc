//! Reads a topic as a member of a group and says what it is given: start several, and end them, to watch
//! the group rebalance.
//!
//! `cargo run -p ottla-consumer --example member -- localhost:9092 GROUP TOPIC [SECONDS]`

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ottla_consumer::{Consumer, ConsumerConfig, OffsetReset};
use ottla_net::{Cluster, ClusterConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(bootstrap), Some(group), Some(topic)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("say BOOTSTRAP GROUP TOPIC [SECONDS]".into());
    };
    let seconds = arguments
        .next()
        .map_or(Ok(u64::MAX), |seconds| seconds.parse())?;
    let cluster = Cluster::over_tcp(ClusterConfig::new([bootstrap.parse()?]))?;
    let consumer = Consumer::new(
        cluster,
        ConsumerConfig {
            group_id: Some(group),
            auto_offset_reset: OffsetReset::Earliest,
            ..Default::default()
        },
    )?;
    consumer.subscribe([topic])?;
    let started = Instant::now();
    let mut read: BTreeMap<i32, (u64, i64)> = BTreeMap::new();
    let mut assigned = Vec::new();
    while started.elapsed() < Duration::from_secs(seconds) {
        for batch in consumer.poll(Duration::from_millis(200)).await? {
            for record in &batch {
                let record = record?;
                let (count, next) = read.entry(batch.partition()).or_default();
                if *count > 0 && record.offset() != *next {
                    println!("{}: from {next} to {}", batch.partition(), record.offset());
                }
                (*count, *next) = (*count + 1, record.offset() + 1);
            }
        }
        let mut now: Vec<_> = consumer.assignment().iter().map(|p| p.partition).collect();
        now.sort_unstable();
        if now != assigned {
            println!(
                "{:>6} ms: partitions {now:?}",
                started.elapsed().as_millis()
            );
            assigned = now;
        }
    }
    consumer.close(Duration::from_secs(5)).await?;
    let total: u64 = read.values().map(|(count, _)| count).sum();
    println!("read {total} records: {read:?}");
    Ok(())
}
