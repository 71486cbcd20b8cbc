//! What sending allocates: per batch, never per record.

#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

use std::pin::pin;
use std::task::{Context, Poll, Waker};
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
    let mut cx = Context::from_waker(Waker::noop());
    let (mut stretches, mut allocations) = (0, 0);
    for _ in 0..100 {
        let info = measure(|| {
            for _ in 0..100 {
                deliveries.push(producer.try_send(record).unwrap());
                match pin!(producer.send(keyless)).poll(&mut cx) {
                    Poll::Ready(delivery) => deliveries.push(delivery.unwrap()),
                    Poll::Pending => panic!("there is room for it"),
                }
            }
        });
        stretches += u32::from(info.count_total > 0);
        allocations += info.count_total;
    }
    // A batch's buffer doubles while it grows; no record allocates.
    assert!(
        stretches <= 20 && allocations <= 40,
        "{stretches} {allocations}"
    );
}
