//! Readers of partitions by hand, on a broker that keeps fetch sessions as Kafka does: it names a partition when there is
//! news of it, and not otherwise.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::time::Duration;

use ottla::consumer::{ConsumerConfig, Error, IsolationLevel, OffsetReset};
use ottla::prelude::*;
use ottla::producer::ProducerConfig;
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

/// Four records, written three hours, two hours, half an hour and no time ago.
async fn four_ages() -> (TestCluster, Client, [i64; 4]) {
    let kafka = TestCluster::builder().topic("t", 1).in_memory().unwrap();
    let client = kafka.client().unwrap();
    let producer = client.producer().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let now = i64::try_from(now).unwrap();
    let times = [180, 120, 30, 0].map(|minutes| now - minutes * 60_000);
    for time in times {
        let record = ProducerRecord::to("t").value("v").timestamp(time);
        producer.send(record).await.unwrap().await.unwrap();
    }
    producer.close(Duration::from_secs(10)).await.unwrap();
    (kafka, client, times)
}

#[tokio::test(start_paused = true)]
async fn who_goes_some_time_back_reads_on_from_there() {
    let (_kafka, client, _) = four_ages().await;
    const HOUR: Duration = Duration::from_secs(3600);
    // KIP-1106: where the group has committed nothing.
    for (back, first) in [(4 * HOUR, 0), (HOUR, 2), (HOUR * 5 / 2, 1)] {
        let config = ConsumerConfig {
            group_id: Some(format!("g-{}", back.as_secs())),
            auto_offset_reset: OffsetReset::ByDuration(back),
            ..client.consumer_config()
        };
        let consumer = client.consumer_with(config).unwrap();
        consumer.assign([(("t", 0), Offset::Committed)]).unwrap();
        assert_eq!(consumer.recv().await.unwrap().offset(), first, "{back:?}");
        // The same by hand.
        let partition = TopicPartition::new("t", 0);
        consumer.seek(&partition, Offset::Since(HOUR / 4)).unwrap();
        assert_eq!(consumer.recv().await.unwrap().offset(), 3);
        consumer.seek(&partition, Offset::Since(back)).unwrap();
        assert_eq!(consumer.recv().await.unwrap().offset(), first, "{back:?}");
        consumer.close(Duration::from_secs(10)).await.unwrap();
    }
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn offsets_for_times_are_those_of_the_first_records_since() {
    let (_kafka, client, times) = four_ages().await;
    let consumer = client.consumer_with(ConsumerConfig::default()).unwrap();
    let partition = TopicPartition::new("t", 0);
    for (time, expected) in [
        (0, Some(0)),
        (times[0], Some(0)),
        (times[0] + 1, Some(1)),
        (times[2], Some(2)),
        (times[3], Some(3)),
        (times[3] + 1, None),
    ] {
        let asked = [(partition.clone(), time)];
        let mut answer = consumer.offsets_for_times(asked).await.unwrap();
        let found = answer.remove(&partition).unwrap();
        assert_eq!(found.as_ref().map(|found| found.offset), expected);
        let timestamp = expected.map(|offset| times[offset as usize]);
        assert_eq!(found.map(|found| found.timestamp), timestamp);
    }
    consumer.close(Duration::from_secs(10)).await.unwrap();
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_committed_is_behind_for_one_reader_and_not_there_for_the_other() {
    let kafka = TestCluster::builder().topic("t", 1).in_memory().unwrap();
    let client = kafka.client().unwrap();
    let mut producer = client
        .transactional_producer_with(ProducerConfig {
            transactional_id: Some("writer".into()),
            ..client.producer_config()
        })
        .await
        .unwrap();
    let transaction = producer.begin().await.unwrap();
    for _ in 0..3 {
        let record = ProducerRecord::to("t").value("v");
        transaction.send(record).await.unwrap().await.unwrap();
    }
    transaction.commit().await.unwrap();
    // Behind the marker of the first one, at offset 3, is a transaction that stays open.
    let transaction = producer.begin().await.unwrap();
    for _ in 0..2 {
        let record = ProducerRecord::to("t").value("v");
        transaction.send(record).await.unwrap().await.unwrap();
    }
    let partition = TopicPartition::new("t", 0);
    for (isolation_level, end) in [
        (IsolationLevel::ReadCommitted, 4),
        (IsolationLevel::ReadUncommitted, 6),
    ] {
        let config = ConsumerConfig {
            isolation_level,
            ..ConsumerConfig::default()
        };
        let consumer = client.consumer_with(config).unwrap();
        consumer
            .assign([(partition.clone(), Offset::Beginning)])
            .unwrap();
        consumer.recv().await.unwrap();
        let lag = consumer.lag(&partition).unwrap();
        assert_eq!(lag, Some(end - 1), "{isolation_level:?}");
        let told = consumer.metrics().partitions.remove(0).lag;
        assert_eq!(told, Some(end - 1), "{isolation_level:?}");
        let ends = consumer.end_offsets(std::slice::from_ref(&partition)).await;
        assert_eq!(ends.unwrap()[&partition], end, "{isolation_level:?}");
        let asked = consumer.query_watermarks(&partition).await.unwrap();
        assert_eq!(asked, 0..end, "{isolation_level:?}");
        consumer.close(Duration::from_secs(10)).await.unwrap();
    }
    transaction.abort().await.unwrap();
    client.close().await;
}
