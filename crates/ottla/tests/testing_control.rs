//! What a test makes happen in an embedded cluster that no client could ask for, and how clients take it.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::time::Duration;

use ottla::consumer::{AcknowledgeType, GroupProtocol, ShareAcknowledgementMode};
use ottla::prelude::*;
use ottla::testing::{TestCluster, TestClusterBuilder};
use tokio::time::{Instant, timeout};

/// Two nodes, of which the first leads the one partition of the topic `t`.
fn two_nodes() -> TestClusterBuilder {
    TestCluster::builder()
        .nodes(2)
        .set("group.consumer.heartbeat.interval.ms", 500)
        .topic("t", 1)
}

async fn write(client: &Client, values: std::ops::Range<u32>) {
    let producer = client.producer().unwrap();
    for value in values {
        let value = value.to_string();
        let record = ProducerRecord::to("t").value(&value);
        producer.send(record).await.unwrap().await.unwrap();
    }
    producer.close(Duration::from_secs(60)).await.unwrap();
}

async fn read(consumer: &Consumer, count: usize) -> Vec<(i64, u32)> {
    let mut read = Vec::new();
    while read.len() < count {
        let record = timeout(Duration::from_secs(120), consumer.recv()).await;
        let record = record.unwrap_or_else(|_| panic!("no more than {read:?}"));
        let record = record.unwrap();
        read.push((record.offset(), number(record.value())));
    }
    read
}

fn number(value: Option<&[u8]>) -> u32 {
    std::str::from_utf8(value.unwrap())
        .unwrap()
        .parse()
        .unwrap()
}

fn from_the_beginning(client: &Client) -> Consumer {
    let config = ottla::consumer::ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        ..client.consumer_config()
    };
    let consumer = client.consumer_with(config).unwrap();
    consumer.assign([(("t", 0), Offset::Beginning)]).unwrap();
    consumer
}

#[tokio::test(start_paused = true)]
async fn a_consumer_goes_back_to_where_the_log_of_an_unclean_leader_parted() {
    let kafka = two_nodes().in_memory().unwrap();
    kafka.move_leader("t", 0, 1).unwrap();
    let client = kafka.client().unwrap();
    write(&client, 0..10).await;
    let consumer = from_the_beginning(&client);
    assert_eq!(read(&consumer, 10).await.last(), Some(&(9, 9)));
    // The second node never had the last four.
    assert_eq!(kafka.elect_unclean("t", 0, 2, 6).unwrap(), 6);
    assert_eq!(kafka.leader("t", 0), Some(2));
    assert_eq!(kafka.offsets("t", 0), Some((0, 6)));
    write(&client, 100..103).await;
    let read = read(&consumer, 3).await;
    assert_eq!(
        read,
        [(6, 100), (7, 101), (8, 102)],
        "none of them was missed"
    );
    consumer.close(Duration::from_secs(10)).await.unwrap();
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_goes_back_to_where_the_log_parted_while_nobody_read_it() {
    let kafka = two_nodes().in_memory().unwrap();
    kafka.move_leader("t", 0, 1).unwrap();
    let client = kafka.client().unwrap();
    write(&client, 0..10).await;
    let member = || {
        let config = ottla::consumer::ConsumerConfig {
            group_id: Some("g".into()),
            auto_offset_reset: OffsetReset::Earliest,
            ..client.consumer_config()
        };
        let consumer = client.consumer_with(config).unwrap();
        consumer.subscribe(["t"]).unwrap();
        consumer
    };
    let first = member();
    assert_eq!(read(&first, 10).await.last(), Some(&(9, 9)));
    first.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!(kafka.elect_unclean("t", 0, 2, 6).unwrap(), 6);
    // More than were lost: the committed offset is in the log again, and what is there is not what it stood for.
    write(&client, 100..106).await;
    let second = member();
    let missed = read(&second, 6).await;
    assert_eq!(missed.first(), Some(&(6, 100)), "{missed:?}");
    second.close(Duration::from_secs(10)).await.unwrap();
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_hears_that_its_log_was_truncated_before_anything_is_written_again() {
    let kafka = two_nodes().in_memory().unwrap();
    kafka.move_leader("t", 0, 1).unwrap();
    let client = kafka.client().unwrap();
    write(&client, 0..4).await;
    let consumer = from_the_beginning(&client);
    read(&consumer, 4).await;
    assert_eq!(kafka.elect_unclean("t", 0, 2, 0).unwrap(), 0);
    // While it waits for more it asks, and goes back.
    let nothing = timeout(Duration::from_secs(20), consumer.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    write(&client, 100..101).await;
    assert_eq!(read(&consumer, 1).await, [(0, 100)]);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_reads_from_the_follower_in_its_rack_and_from_the_leader_when_that_lags() {
    let kafka = two_nodes()
        .set(
            "replica.selector.class",
            "org.apache.kafka.common.replica.RackAwareReplicaSelector",
        )
        .options(|options| options.racks = vec!["a".into(), "b".into()])
        .in_memory()
        .unwrap();
    kafka.move_leader("t", 0, 1).unwrap();
    let writer = kafka.client().unwrap();
    write(&writer, 0..10).await;
    kafka.lag_follower("t", 0, 2, Some(5)).unwrap();
    let client = kafka
        .client_builder()
        .set("client.rack", "b")
        .build()
        .unwrap();
    let consumer = from_the_beginning(&client);
    assert_eq!(read(&consumer, 5).await.last(), Some(&(4, 4)));
    // The follower has no more, and the consumer stays with it.
    let more = timeout(Duration::from_secs(20), consumer.recv()).await;
    assert!(more.is_err(), "{more:?}");
    kafka.lag_follower("t", 0, 2, Some(8)).unwrap();
    assert_eq!(read(&consumer, 3).await.last(), Some(&(7, 7)));
    // One that lost what its reader has read already is of no use: the leader has the rest.
    kafka.lag_follower("t", 0, 2, Some(3)).unwrap();
    assert_eq!(read(&consumer, 2).await.last(), Some(&(9, 9)));
    // In another rack nobody is sent anywhere.
    let client = kafka
        .client_builder()
        .set("client.rack", "c")
        .build()
        .unwrap();
    let elsewhere = from_the_beginning(&client);
    assert_eq!(read(&elsewhere, 10).await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_fenced_joins_again_and_reads_on() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let kafka = two_nodes().in_memory().unwrap();
        let client = kafka.client_builder().group_id("g").build().unwrap();
        let config = ottla::consumer::ConsumerConfig {
            group_protocol: protocol,
            auto_offset_reset: OffsetReset::Earliest,
            ..client.consumer_config()
        };
        let consumer = client.consumer_with(config).unwrap();
        consumer.subscribe(["t"]).unwrap();
        write(&client, 0..1).await;
        assert_eq!(read(&consumer, 1).await, [(0, 0)]);
        let members = kafka.group_members("g");
        let [member] = &members[..] else {
            panic!("{members:?}");
        };
        assert!(kafka.fence_member("g", "nobody").await.is_err());
        kafka.fence_member("g", member).await.unwrap();
        assert!(kafka.group_members("g").is_empty());
        let fenced = Instant::now();
        while kafka.group_members("g").is_empty() {
            assert!(fenced.elapsed() < Duration::from_secs(60), "{protocol:?}");
            // It hears of it with its next heartbeat.
            consumer.poll(Duration::from_secs(1)).await.unwrap();
        }
        write(&client, 1..2).await;
        // It may read the first once more: its commit may have come too late.
        while read(&consumer, 1).await != [(1, 1)] {}
        consumer.close(Duration::from_secs(10)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_a_test_ends_gives_the_record_to_another_member() {
    let kafka = two_nodes().in_memory().unwrap();
    let client = kafka.client_builder().group_id("g").build().unwrap();
    let member = || {
        let mut config = client.share_consumer_config();
        config.acknowledgement_mode = ShareAcknowledgementMode::Explicit;
        let member = client.share_consumer_with(config).unwrap();
        member.subscribe(["t"]).unwrap();
        member
    };
    let first = member();
    // It has joined, and the group begins with what comes from here on.
    let nothing = first.poll(Duration::from_secs(20)).await.unwrap();
    assert!(nothing.is_empty());
    write(&client, 0..1).await;
    let held = first.recv().await.unwrap();
    assert_eq!(held.delivery_count(), 1);
    let second = member();
    let nothing = second.poll(Duration::from_secs(10)).await.unwrap();
    assert!(nothing.is_empty(), "{nothing:?}");
    let since = Instant::now();
    assert_eq!(kafka.expire_share_locks("g", "t", 0).await.unwrap(), 1);
    assert_eq!(kafka.expire_share_locks("g", "t", 0).await.unwrap(), 0);
    let again = second.recv().await.unwrap();
    assert_eq!((number(again.value()), again.delivery_count()), (0, 2));
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    first.acknowledge(&held, AcknowledgeType::Accept).unwrap();
    let outcome = first.commit().await.unwrap();
    assert!(outcome[0].result.is_err(), "{outcome:?}");
    second.acknowledge(&again, AcknowledgeType::Accept).unwrap();
    second.commit().await.unwrap();
    assert_eq!(kafka.expire_share_locks("g", "t", 0).await.unwrap(), 0);
}
