//! A task for each partition, one of them slow: `cargo run -p consuming --bin partition-tasks`.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use consuming::demo::{self, Demo, Failure};
use consuming::partitions;
use ottla::consumer::{ConsumerConfig, RecordBatch};
use ottla::prelude::*;

const TOPIC: &str = "readings";
const PARTITIONS: usize = 6;
const READINGS: u64 = 30_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let topics = [(TOPIC, PARTITIONS as i32)];
    let demo = Demo::start(&topics, |client| client.group_id("means")).await?;
    let readings = (0..READINGS).map(|n| (format!("sensor-{}", n % 100), n.to_string()));
    demo::write(&demo.client, TOPIC, readings).await?;

    let consumer = demo.client.consumer_with(ConsumerConfig {
        enable_auto_commit: false,
        auto_offset_reset: OffsetReset::Earliest,
        ..demo.client.consumer_config()
    })?;
    consumer.subscribe([TOPIC])?;
    let done: Arc<[AtomicU64]> = (0..PARTITIONS).map(|_| AtomicU64::new(0)).collect();
    let count = done.clone();
    let work = move |batch: RecordBatch| {
        let done = count.clone();
        async move {
            let partition = batch.partition();
            for record in &batch {
                let Ok(record) = record else { return };
                let _reading = record.value();
                // One of them has a hard time, and the others do not notice.
                if partition == 0 && record.offset() % 50 == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                done[partition as usize].fetch_add(1, Relaxed);
            }
        }
    };
    let watched = consumer.clone();
    let stop = async move {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let counts: Vec<u64> = done.iter().map(|count| count.load(Relaxed)).collect();
            let queued = watched
                .metrics()
                .partitions
                .into_iter()
                .map(|p| p.queued_bytes);
            println!(
                "worked on {counts:?}, waiting {:?} bytes",
                queued.collect::<Vec<_>>()
            );
            if counts.iter().sum::<u64>() >= READINGS {
                return;
            }
        }
    };
    partitions::run(consumer, work, stop).await?;
    demo.end().await;
    Ok(())
}
