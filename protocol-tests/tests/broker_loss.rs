//! A broker of three dies in the middle of a run: nothing acknowledged is lost, nothing is there
//! twice, nothing is out of order.
#![allow(clippy::unwrap_used)]

mod client;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use client::{producer, within};
use ottla_producer::{Compression, Producer, ProducerConfig, ProducerRecord};
use ottla_protocol_tests::{KafkaCluster, Options, or_skip, unique};

const PARTITIONS: usize = 6;
const RECORDS: usize = 60_000;
const LIMIT: Duration = Duration::from_secs(150);

#[test]
fn killing_one_broker_of_three_loses_and_repeats_nothing() {
    let options = Options {
        nodes: 3,
        ..Options::default()
    };
    let Some(cluster) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    let topic = unique("loss");
    cluster.create_topic(&topic, PARTITIONS as i32, &[("min.insync.replicas", "2")]);
    let acknowledged = AtomicUsize::new(0);

    let written = within(LIMIT, async {
        let config = ProducerConfig {
            compression: Compression::Lz4,
            // Many small batches, several in flight when the broker dies.
            batch_size: 8_000,
            delivery_timeout: Duration::from_secs(120),
            ..Default::default()
        };
        let producer = producer(&cluster.bootstrap(), config);
        let sending = send_all(&producer, &topic, &acknowledged);
        let killing = async {
            // In the middle of the run, and in the middle of the flow.
            while acknowledged.load(Ordering::Relaxed) < RECORDS / 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::task::block_in_place(|| cluster.kill(2));
            let at = acknowledged.load(Ordering::Relaxed);
            assert!(at < RECORDS, "the broker died before the end");
            while acknowledged.load(Ordering::Relaxed) < RECORDS * 2 / 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::task::block_in_place(|| cluster.restart(2).unwrap());
        };
        let (written, ()) = tokio::join!(sending, killing);
        producer.close(Duration::from_secs(60)).await.unwrap();
        written
    });
    assert_eq!(
        acknowledged.into_inner(),
        RECORDS,
        "every record was acknowledged in the end"
    );

    // Read by Kafka's own consumer, so that no fault of ours can hide another.
    let seen = cluster.tools().consume(&topic, RECORDS, &[]);
    assert_eq!(seen.len(), RECORDS);
    let dumps = cluster.dump_all(1, &topic, PARTITIONS as i32);
    assert_eq!(
        dumps.iter().map(|dump| dump.records).sum::<usize>(),
        RECORDS,
        "and no more"
    );
    let mut stored = BTreeMap::new();
    let mut last = [None; PARTITIONS];
    for record in seen {
        let number: usize = std::str::from_utf8(record.sample.value.as_deref().unwrap())
            .unwrap()
            .parse()
            .unwrap();
        let place = (record.partition, record.offset);
        assert_eq!(
            stored.insert(number, place),
            None,
            "record {number} is there twice"
        );
        let last = &mut last[record.partition as usize];
        assert!(*last < Some(number), "record {number} after {last:?}");
        *last = Some(number);
    }
    for (number, place) in written {
        assert_eq!(
            stored.get(&number),
            Some(&place),
            "record {number} is where it was said to be"
        );
    }
}

/// Sends numbered records, and says where each was written.
async fn send_all(
    producer: &Producer,
    topic: &str,
    acknowledged: &AtomicUsize,
) -> Vec<(usize, (i32, i64))> {
    let (sender, mut deliveries) = tokio::sync::mpsc::channel(20_000);
    let sending = async move {
        let start = Instant::now();
        for number in 0..RECORDS {
            let value = number.to_string();
            let record = ProducerRecord::to(topic)
                .partition((number % PARTITIONS) as i32)
                .value(&value);
            let delivery = producer.send(record).await.unwrap();
            sender.send((number, delivery)).await.unwrap();
            // A steady flow of some 20,000 a second, so that there is a middle to be killed in.
            let due = start + Duration::from_micros(50 * number as u64);
            if let Some(ahead) = due.checked_duration_since(Instant::now())
                && ahead > Duration::from_millis(2)
            {
                tokio::time::sleep(ahead).await;
            }
        }
    };
    let collecting = async {
        let mut written = Vec::with_capacity(RECORDS);
        while let Some((number, delivery)) = deliveries.recv().await {
            let at = delivery
                .await
                .unwrap_or_else(|error| panic!("record {number}: {error}"));
            // A repeated batch may be so old that the broker no longer knows where it put it.
            if let Some(offset) = at.offset() {
                written.push((number, (at.partition(), offset)));
            }
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        written
    };
    let ((), written) = tokio::join!(sending, collecting);
    written
}
