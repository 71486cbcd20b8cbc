//! What sending allocates: per batch, never per record.

#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

use std::time::Duration;

use allocation_counter::measure;
use ottla_net::testing::ScriptedCluster;
use ottla_producer::{Producer, ProducerConfig, ProducerRecord};

#[tokio::test]
async fn records_are_sent_without_an_allocation_each() {
    let brokers = ScriptedCluster::start(1);
    brokers.add_topic("clicks", 3);
    let config = ProducerConfig {
        // Nothing leaves: what the tasks allocate per request is not what is counted here.
        linger: Duration::from_secs(600),
        delivery_timeout: Duration::from_secs(1200),
        batch_size: 8 << 20,
        ..Default::default()
    };
    let producer = Producer::new(brokers.connect(), config).unwrap();
    let record = ProducerRecord::to("clicks")
        .key("user-7")
        .value([7; 100].as_slice());
    let keyless = ProducerRecord::to("clicks").value([7; 100].as_slice());
    // Opens the batches.
    for record in [record, keyless] {
        drop(producer.send(record).await.unwrap());
    }
    let mut deliveries = Vec::with_capacity(20_000);
    let info = measure(|| {
        for _ in 0..10_000 {
            deliveries.push(producer.try_send(record).unwrap());
            deliveries.push(producer.try_send(keyless).unwrap());
        }
    });
    // A batch's buffer doubles while it grows.
    assert!(info.count_total <= 40, "{info:?}");
}
