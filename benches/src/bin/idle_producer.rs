//! What a producer costs that knows ten thousand partitions and has nothing to do: memory and CPU of its process.
//!
//! `cargo run --release -p ottla-bench --bin bench-idle-producer`. The broker is an embedded one in a process of its own.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use ottla_bench::idle::{beside_a_broker, idle, row};
use ottla_net::{Cluster, ClusterConfig, TcpConnector};
use ottla_producer::{Producer, ProducerConfig, ProducerRecord};

type Failure = Box<dyn Error>;

const TOPIC: &str = "idle";
const PARTITIONS: i32 = 10_000;
const MARK_MIB: f64 = 20.0;

fn main() -> Result<(), Failure> {
    beside_a_broker(TOPIC, PARTITIONS, async |bootstrap| {
        measure(bootstrap).await
    })
}

async fn measure(bootstrap: &str) -> Result<(), Failure> {
    let config = ClusterConfig::new([bootstrap.parse()?]);
    let cluster = Cluster::new(config, Arc::new(TcpConnector::default()))?;
    let producer = Producer::new(cluster.clone(), ProducerConfig::default())?;
    let value = [b'.'; 100];
    let to = |partition| ProducerRecord::to(TOPIC).value(&value).partition(partition);
    producer.send(to(0)).await?.await?;
    row("one partition of 10,000 written to", Some(idle()?))?;
    for partition in 0..PARTITIONS {
        drop(producer.send(to(partition)).await?);
    }
    producer.flush(Duration::from_secs(60)).await?;
    row("all of them written to once", Some(idle()?))?;
    for _ in 0..10 {
        for partition in 0..PARTITIONS {
            drop(producer.send(to(partition)).await?);
        }
    }
    producer.flush(Duration::from_secs(60)).await?;
    row("all of them written to ten times more", Some(idle()?))?;
    producer.close(Duration::from_secs(10)).await?;
    cluster.close().await;
    println!("\nThe mark is {MARK_MIB} MiB.");
    Ok(())
}
