//! What a thread remembers of topics: never another producer's, nor what they were.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_producer::{
    Partitioner, Partitioning, Producer, ProducerConfig, ProducerRecord, SendError,
};

use crate::kafka::{Kafka, config, send};

#[tokio::test(start_paused = true)]
async fn producers_of_one_thread_keep_their_topics_apart() {
    let (small, large) = (Kafka::start(1, 2), Kafka::start(1, 6));
    let producers = [small.producer(config()), large.producer(config())];
    for n in 0..20 {
        for producer in &producers {
            send(producer, n % 2, "here").await.await.unwrap();
        }
    }
    send(&producers[1], 5, "only there").await.await.unwrap();
    let record = ProducerRecord::to("clicks").value("nowhere").partition(5);
    let refused = producers[0].send(record).await.unwrap_err();
    assert!(
        matches!(refused, SendError::UnknownPartition { count: 2, .. }),
        "{refused}"
    );
    for producer in producers {
        producer.close(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_added_are_found() {
    let kafka = Kafka::start(1, 2);
    let producer = kafka.producer(config());
    send(&producer, 1, "before").await.await.unwrap();
    kafka.brokers.grow_topic("clicks", 3);
    tokio::time::timeout(Duration::from_secs(600), async {
        // Refused, and metadata asked for, until it is known.
        let record = ProducerRecord::to("clicks").value("after").partition(2);
        while producer.send(record).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .unwrap();
    producer.close(Duration::from_secs(5)).await.unwrap();
}

/// Sends a record of its own for each that it is asked about.
struct Copies {
    through: Mutex<Option<Producer>>,
}

impl Partitioner for Copies {
    fn partition(&self, _: &str, key: Option<&[u8]>, value: Option<&[u8]>, _: u32) -> Option<u32> {
        let through = self.through.lock().unwrap();
        if let Some(producer) = through.as_ref().filter(|_| key.is_some()) {
            let copy = ProducerRecord::to("clicks").value(value?).partition(1);
            drop(producer.try_send(copy).unwrap());
        }
        Some(0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_partitioner_may_send_records_itself() {
    let kafka = Kafka::start(1, 2);
    let copies = Arc::new(Copies {
        through: Mutex::default(),
    });
    let config = ProducerConfig {
        partitioner: Partitioning::Custom(copies.clone()),
        ..config()
    };
    let producer = kafka.producer(config);
    send(&producer, 1, "first").await.await.unwrap();
    *copies.through.lock().unwrap() = Some(producer.clone());
    for n in 0..10 {
        let value = format!("{n}");
        let record = ProducerRecord::to("clicks").key("k").value(value.as_str());
        producer.send(record).await.unwrap().await.unwrap();
    }
    producer.flush(Duration::from_secs(5)).await.unwrap();
    assert_eq!(kafka.values(0).len(), 10);
    assert_eq!(kafka.values(1).len(), 11);
    copies.through.lock().unwrap().take();
    producer.close(Duration::from_secs(5)).await.unwrap();
}
