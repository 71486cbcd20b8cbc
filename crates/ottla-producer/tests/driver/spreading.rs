//! Where records go that may go anywhere.

use std::time::Duration;

use ottla_producer::{Partitioning, Producer, ProducerConfig, ProducerRecord};

use crate::kafka::{Act, Kafka, config};

fn counts(kafka: &Kafka, partitions: i32) -> Vec<usize> {
    (0..partitions)
        .map(|partition| kafka.values(partition).len())
        .collect()
}

async fn send_keyless(producer: &Producer, count: usize, bytes: usize) {
    let value = "x".repeat(bytes);
    for _ in 0..count {
        let _sent = producer
            .send(ProducerRecord::to("clicks").value(&value))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn round_robin_gives_every_partition_its_turn() {
    let kafka = Kafka::start(1, 4);
    let producer = kafka.producer(ProducerConfig {
        partitioner: Partitioning::RoundRobin,
        ..config()
    });
    for n in 0..40 {
        let record = ProducerRecord::to("clicks").key("the same").value("x");
        let _sent = producer.send(record).await.unwrap();
        if n == 20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    producer.flush(Duration::from_secs(5)).await.unwrap();
    assert_eq!(counts(&kafka, 4), [10; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_broker_gets_fewer_of_the_records_that_may_go_anywhere() {
    for adaptive in [true, false] {
        let kafka = Kafka::start(2, 2);
        // Partition 0 is on node 1.
        kafka.fault(|call, _, _| {
            Act::Delay(Duration::from_millis(if call.node == 1 { 400 } else { 1 }))
        });
        let producer = kafka.producer(ProducerConfig {
            partitioner_adaptive: adaptive,
            delivery_timeout: Duration::from_secs(900),
            batch_size: 1000,
            ..config()
        });
        send_keyless(&producer, 2000, 300).await;
        producer.flush(Duration::from_secs(900)).await.unwrap();
        let counts = counts(&kafka, 2);
        let share = counts[0] as f64 / 2000.0;
        match adaptive {
            true => assert!(share < 0.2, "{counts:?}"),
            false => assert!((0.4..0.6).contains(&share), "{counts:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_takes_nothing_is_passed_over() {
    let kafka = Kafka::start(3, 3);
    kafka.fault(|call, _, _| match call.node {
        1 => Act::Silence,
        _ => Act::Append,
    });
    let producer = kafka.producer(ProducerConfig {
        partitioner_availability_timeout: Duration::from_millis(200),
        batch_size: 1000,
        ..config()
    });
    send_keyless(&producer, 300, 300).await;
    let before = producer.len();
    assert!(before > 0, "node 1 has some");
    send_keyless(&producer, 600, 300).await;
    let after = producer.len();
    // What sticks to the silent broker's partition when it turns silent may fill one batch more.
    assert!(after <= before + 8, "{before}, then {after}");
    let counts = counts(&kafka, 3);
    assert!(counts[1] > 200 && counts[2] > 200, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn with_a_rack_the_partitions_nearby_are_preferred() {
    for (aware, rack) in [
        (true, Some("b")),
        (true, Some("nowhere")),
        (true, None),
        (false, Some("b")),
    ] {
        let kafka = Kafka::start(3, 6);
        for (node, rack) in [(1, "a"), (2, "b"), (3, "c")] {
            kafka.brokers.set_rack(node, rack);
        }
        let producer = kafka.producer(ProducerConfig {
            partitioner_rack_aware: aware,
            client_rack: rack.map(str::to_owned),
            batch_size: 1000,
            ..config()
        });
        send_keyless(&producer, 400, 300).await;
        producer.flush(Duration::from_secs(5)).await.unwrap();
        let counts = counts(&kafka, 6);
        // Node 2 leads partitions 1 and 4.
        let near = counts[1] + counts[4];
        match (aware, rack) {
            (true, Some("b")) => assert_eq!(near, 400, "{counts:?}"),
            _ => assert!(counts.iter().all(|count| *count > 20), "{counts:?}"),
        }
    }
}
