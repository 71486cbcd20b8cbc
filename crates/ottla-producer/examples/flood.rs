//! Sends numbered records as fast as a broker takes them, and says what that cost.
//!
//!     cargo run --release -p ottla-producer --example flood -- 127.0.0.1:9092 clicks 1000000 100 lz4 all

use std::time::{Duration, Instant};

use ottla_net::{Cluster, ClusterConfig};
use ottla_producer::{Producer, ProducerConfig, ProducerRecord};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, topic, count, size, codec, acks] = arguments.as_slice() else {
        return Err("usage: flood BOOTSTRAP TOPIC COUNT SIZE CODEC ACKS".into());
    };
    let (count, size): (u64, usize) = (count.parse()?, size.parse()?);
    let cluster = Cluster::over_tcp(ClusterConfig::new([bootstrap.parse()?]))?;
    let config = ProducerConfig {
        compression: codec.parse()?,
        acks: acks.parse()?,
        buffer_memory: 64 << 20,
        ..Default::default()
    };
    let producer = Producer::new(cluster.clone(), config)?;
    let start = Instant::now();
    let mut value = vec![b'.'; size];
    let (mut deliveries, mut failed) = (Vec::new(), 0u64);
    for n in 0..count {
        let (key, number) = ((n % 10_007).to_be_bytes(), format!("{n:012}"));
        value[..number.len().min(size)]
            .copy_from_slice(&number.as_bytes()[..number.len().min(size)]);
        let record = ProducerRecord::to(topic).key(&key).value(&value);
        deliveries.push(producer.send(record).await?);
        if deliveries.len() == 100_000 {
            failed += settle(&mut deliveries).await;
        }
    }
    failed += settle(&mut deliveries).await;
    let seconds = start.elapsed().as_secs_f64();
    producer.close(Duration::from_secs(30)).await?;
    cluster.close().await;
    println!("{count} records of {size} bytes in {seconds:.2} s, {failed} failed");
    Ok(())
}

async fn settle(deliveries: &mut Vec<ottla_producer::Delivery>) -> u64 {
    let mut failed = 0;
    for delivery in deliveries.drain(..) {
        if let Err(error) = delivery.await {
            failed += 1;
            if failed <= 3 {
                eprintln!("{error}");
            }
        }
    }
    failed
}
