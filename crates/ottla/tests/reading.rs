//! Readers of partitions by hand, on a broker that keeps fetch sessions as Kafka does: it names a partition when there is
//! news of it, and not otherwise.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::time::Duration;

use ottla::consumer::{ConsumerConfig, Error};
use ottla::prelude::*;
use ottla::testing::TestCluster;
use tokio::time::timeout;

async fn end(consumer: &Consumer) -> (i32, i64) {
    let told = timeout(Duration::from_secs(30), consumer.recv()).await;
    match told.expect("no end was told of") {
        Err(Error::PartitionEof { partition, offset }) => (partition.partition, offset),
        other => panic!("{other:?}"),
    }
}

async fn until_the_lag_is_known(consumer: &Consumer, partition: &TopicPartition) {
    let known = async {
        while consumer.lag(partition).unwrap() != Some(0) {
            let nothing = timeout(Duration::from_millis(100), consumer.recv()).await;
            assert!(nothing.is_err(), "{nothing:?}");
        }
    };
    timeout(Duration::from_secs(30), known).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_seeks_to_the_end_is_told_so_each_time() {
    let kafka = TestCluster::builder().topic("t", 2).in_memory().unwrap();
    let client = kafka.client().unwrap();
    let producer = client.producer().unwrap();
    let record = ProducerRecord::to("t").partition(0).value("one");
    producer.send(record).await.unwrap().await.unwrap();
    producer.close(Duration::from_secs(10)).await.unwrap();
    let config = ConsumerConfig {
        enable_partition_eof: true,
        ..client.consumer_config()
    };
    let consumer = client.consumer_with(config).unwrap();
    let both = [(("t", 0), Offset::End), (("t", 1), Offset::End)];
    consumer.assign(both).unwrap();
    let mut ends = [end(&consumer).await, end(&consumer).await];
    ends.sort_unstable();
    assert_eq!(ends, [(0, 1), (1, 0)]);
    let first = TopicPartition::new("t", 0);
    for place in [Offset::End, Offset::At(1), Offset::End] {
        // The broker waits for news meanwhile.
        tokio::time::sleep(Duration::from_millis(100)).await;
        consumer.seek(&first, place).unwrap();
        assert_eq!(end(&consumer).await, (0, 1), "{place:?}");
    }
    consumer.close(Duration::from_secs(10)).await.unwrap();
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_assigned_again_has_a_lag_though_nothing_is_written() {
    let kafka = TestCluster::builder().topic("t", 2).in_memory().unwrap();
    let client = kafka.client().unwrap();
    let consumer = client.consumer().unwrap();
    let (first, second) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
    let begin = Offset::Beginning;
    consumer
        .assign([(first, begin), (second.clone(), begin)])
        .unwrap();
    until_the_lag_is_known(&consumer, &second).await;
    consumer
        .incremental_unassign(std::slice::from_ref(&second))
        .unwrap();
    consumer
        .incremental_assign([(second.clone(), Offset::At(0))])
        .unwrap();
    until_the_lag_is_known(&consumer, &second).await;
    consumer.close(Duration::from_secs(10)).await.unwrap();
    client.close().await;
}
