//! Reads a topic as a member of a group and says what it is given: start several, and end them, to watch
//! the group rebalance.
//!
//! `cargo run -p ottla-consumer --example member -- localhost:9092 GROUP TOPIC [SECONDS [ASSIGNOR]]`

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ottla_consumer::{
    Consumer, ConsumerConfig, ListenerFuture, OffsetReset, RebalanceListener, TopicPartition,
    assignor,
};
use ottla_net::{Cluster, ClusterConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(bootstrap), Some(group), Some(topic)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("say BOOTSTRAP GROUP TOPIC [SECONDS [ASSIGNOR]]".into());
    };
    let seconds = arguments
        .next()
        .map_or(Ok(u64::MAX), |seconds| seconds.parse())?;
    let strategy = arguments.next().unwrap_or_else(|| "range".into());
    let assignor = assignor::by_name(&strategy).ok_or("no such assignor")?;
    let started = Instant::now();
    let cluster = Cluster::over_tcp(ClusterConfig::new([bootstrap.parse()?]))?;
    let consumer = Consumer::new(
        cluster,
        ConsumerConfig {
            group_id: Some(group),
            auto_offset_reset: OffsetReset::Earliest,
            assignors: vec![assignor],
            rebalance_listener: Some(Arc::new(Says(started))),
            ..Default::default()
        },
    )?;
    consumer.subscribe([topic])?;
    let mut read: BTreeMap<i32, (u64, i64)> = BTreeMap::new();
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
    }
    consumer.close(Duration::from_secs(5)).await?;
    let total: u64 = read.values().map(|(count, _)| count).sum();
    println!("read {total} records: {read:?}");
    Ok(())
}

/// Says what the group gives and takes.
#[derive(Debug)]
struct Says(Instant);

impl Says {
    fn say(&self, what: &str, partitions: &[TopicPartition]) -> ListenerFuture<'static> {
        let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
        println!("{:>6} ms: {what} {names:?}", self.0.elapsed().as_millis());
        Box::pin(std::future::ready(()))
    }
}

impl RebalanceListener for Says {
    fn partitions_assigned<'a>(
        &'a self,
        _: &'a Consumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        self.say("assigned", partitions)
    }

    fn partitions_revoked<'a>(
        &'a self,
        _: &'a Consumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        self.say("revoked", partitions)
    }

    fn partitions_lost<'a>(
        &'a self,
        _: &'a Consumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        self.say("lost", partitions)
    }
}
