//! `ottla::testing`: what its documentation promises.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::time::Duration;

use ottla::prelude::*;
use ottla::testing::{ApiKey, Error, Fault, Rule, TestCluster};
use tokio::time::Instant;

async fn write(client: &Client, topic: &str, values: impl IntoIterator<Item = u32>) {
    let producer = client.producer().unwrap();
    let mut deliveries = Vec::new();
    for value in values {
        let value = value.to_string();
        let record = ProducerRecord::to(topic).key(&value).value(&value);
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    producer.close(Duration::from_secs(60)).await.unwrap();
}

async fn read(client: &Client, topic: &str, count: usize) -> Vec<u32> {
    let mut config = client.consumer_config();
    config.auto_offset_reset = OffsetReset::Earliest;
    let consumer = client.consumer_with(config).unwrap();
    consumer.subscribe([topic]).unwrap();
    let mut values = Vec::new();
    while values.len() < count {
        let record = consumer.recv().await.unwrap();
        let value = std::str::from_utf8(record.value().unwrap()).unwrap();
        values.push(value.parse().unwrap());
    }
    consumer.close(Duration::from_secs(10)).await.unwrap();
    values.sort_unstable();
    values
}

/// The values of a topic in the logs, sorted.
fn logged(kafka: &TestCluster, topic: &str) -> Vec<u32> {
    let mut values: Vec<u32> = kafka
        .values(topic)
        .iter()
        .map(|value| std::str::from_utf8(value).unwrap().parse().unwrap())
        .collect();
    values.sort_unstable();
    values
}

#[tokio::test(start_paused = true)]
async fn in_memory_a_group_reads_what_was_written() {
    let kafka = TestCluster::builder().topic("t", 3).in_memory().unwrap();
    let client = kafka.client_builder().group_id("g").build().unwrap();
    write(&client, "t", 0..1000).await;
    let expected: Vec<u32> = (0..1000).collect();
    assert_eq!(read(&client, "t", 1000).await, expected);
    assert_eq!(logged(&kafka, "t"), expected);
    client.close().await;
    kafka.stop().await;
}

#[tokio::test(start_paused = true)]
async fn consumers_of_one_client_share_a_group() {
    let kafka = TestCluster::builder().topic("t", 12).in_memory().unwrap();
    let client = kafka.client_builder().group_id("g").build().unwrap();
    let started = Instant::now();
    let consumers: Vec<_> = (0..3)
        .map(|_| {
            let consumer = client.consumer().unwrap();
            consumer.subscribe(["t"]).unwrap();
            consumer
        })
        .collect();
    let shares = || {
        consumers
            .iter()
            .map(|c| c.assignment().len())
            .collect::<Vec<_>>()
    };
    // One that waits for the others must not stand in the way of their requests.
    while shares() != [4, 4, 4] {
        for consumer in &consumers {
            consumer.poll(Duration::from_millis(10)).await.unwrap();
        }
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{:?}",
            shares()
        );
    }
}

#[tokio::test]
async fn over_tcp_too() {
    let kafka = TestCluster::over_tcp().await.unwrap();
    assert!(kafka.connector().is_none());
    kafka.create_topic("t", 3).unwrap();
    let client = kafka.client_builder().group_id("g").build().unwrap();
    write(&client, "t", 0..100).await;
    assert_eq!(read(&client, "t", 100).await, (0..100).collect::<Vec<_>>());
    client.close().await;
    kafka.stop().await;
}

#[tokio::test(start_paused = true)]
async fn faults_are_survived_and_nothing_repeats() {
    let kafka = TestCluster::builder()
        .nodes(3)
        .topic("t", 4)
        .in_memory()
        .unwrap();
    let client = kafka.client().unwrap();
    for (skip, fault) in [
        (0, Fault::LoseReply),
        (1, Fault::Disconnect),
        (2, Fault::Drop),
    ] {
        kafka.inject(Rule {
            api: ApiKey::Produce,
            node: None,
            skip,
            times: 1,
            fault,
        });
    }
    write(&client, "t", 0..50).await;
    for partition in 0..4 {
        let leader = kafka.leader("t", partition).unwrap();
        kafka.move_leader("t", partition, leader % 3 + 1).unwrap();
    }
    write(&client, "t", 50..100).await;
    kafka.stop_node(1).await.unwrap();
    write(&client, "t", 100..150).await;
    kafka.start_node(1).await.unwrap();
    kafka.stop_node(2).await.unwrap();
    write(&client, "t", 150..200).await;
    assert_eq!(logged(&kafka, "t"), (0..200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_client_outlives_its_cluster_and_hears_of_it() {
    let kafka = TestCluster::builder().topic("t", 1).in_memory().unwrap();
    let client = kafka.client().unwrap();
    write(&client, "t", 0..1).await;
    drop(kafka);
    let started = Instant::now();
    let admin = client.admin().with_timeout(Duration::from_secs(5));
    let error = admin.list_topics().await.unwrap_err().to_string();
    assert!(error.contains("memory:1"), "{error}");
    assert!(started.elapsed() <= Duration::from_secs(6));
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_data_directory_outlives_a_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let start = || TestCluster::builder().topic("t", 2).data_dir(dir.path());
    let kafka = start().in_memory().unwrap();
    let client = kafka.client_builder().group_id("g").build().unwrap();
    write(&client, "t", 0..10).await;
    assert_eq!(read(&client, "t", 10).await.len(), 10);
    client.close().await;
    assert!(
        matches!(start().in_memory(), Err(Error::DataDirInUse { .. })),
        "in use"
    );
    kafka.stop().await;

    let kafka = start().in_memory().unwrap();
    let client = kafka.client_builder().group_id("g").build().unwrap();
    write(&client, "t", 10..12).await;
    assert_eq!(read(&client, "t", 2).await, [10, 11], "the group goes on");
    assert_eq!(logged(&kafka, "t").len(), 12);
}

#[tokio::test(start_paused = true)]
async fn mistakes_are_told_at_the_start() {
    let setting = TestCluster::builder()
        .set("num.partitions", 3)
        .set("num.partition", 3)
        .set("num.partitions", 0);
    let error = setting.in_memory().unwrap_err().to_string();
    assert!(error.contains("num.partition`"), "the first: {error}");
    let topic = TestCluster::builder().topic("no spaces", 1).in_memory();
    assert!(matches!(topic, Err(Error::Topic { .. })), "{topic:?}");
    let nodes = TestCluster::builder().nodes(0).in_memory();
    assert!(matches!(nodes, Err(Error::Options(_))), "{nodes:?}");
    let nodes = TestCluster::builder().nodes(0).over_tcp().await;
    assert!(matches!(nodes, Err(Error::Options(_))), "{nodes:?}");
}
