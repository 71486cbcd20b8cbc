//! Compacted topics as clients and programs see them.

#![allow(clippy::unwrap_used, reason = "a test fails where its tools do")]

mod in_memory;
mod support;

use std::time::Duration;

use in_memory::{Client, batch, cluster, records, sealed};
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_wire::ErrorCode;
use ottla_wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};

const COMPACTED: &[(&str, &str)] = &[("cleanup.policy", "compact")];

#[tokio::test(start_paused = true)]
async fn a_consumer_reads_across_the_gaps() {
    let cluster = cluster(1);
    cluster.create_topic_with("t", 1, COMPACTED).unwrap();
    let mut client = Client::new(&cluster, 1);
    for i in 0..20 {
        let value = i.to_string();
        let appended = client
            .produce(
                "t",
                0,
                batch(&[(Some("a"), Some(&value)), (Some("b"), Some(&value))]),
            )
            .await;
        assert_eq!(
            (appended.error_code, appended.base_offset),
            (ErrorCode::NONE, i * 2)
        );
    }
    cluster.compact("t", 0).unwrap();
    client
        .produce("t", 0, batch(&[(Some("c"), Some("new"))]))
        .await;
    assert_eq!(cluster.offsets("t", 0), Some((0, 41)));
    for from in [0, 7, 38] {
        let (mut position, mut seen) = (from, Vec::new());
        while position < 41 {
            seen.extend(records(&client.fetch("t", 0, position).await));
            // One answer may end where a segment ends.
            position = seen.last().unwrap().0 + 1;
        }
        let expected = [
            (38, "19".to_owned()),
            (39, "19".to_owned()),
            (40, "new".to_owned()),
        ];
        assert_eq!(seen, expected, "from {from}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_without_a_key_is_refused_as_by_kafka() {
    let cluster = cluster(1);
    cluster.create_topic_with("t", 1, COMPACTED).unwrap();
    let mut client = Client::new(&cluster, 1);
    let refused = client
        .produce("t", 0, batch(&[(Some("a"), Some("1")), (None, Some("2"))]))
        .await;
    assert_eq!(refused.error_code, ErrorCode::INVALID_RECORD);
    let [of_record] = &refused.record_errors[..] else {
        panic!("{refused:?}")
    };
    assert_eq!(of_record.batch_index, 1);
    assert_eq!(
        of_record.batch_index_error_message.as_deref(),
        Some("Compacted topic cannot accept message without key in topic partition t-0.")
    );
    assert_eq!(cluster.offsets("t", 0), Some((0, 0)));
}

#[tokio::test(start_paused = true)]
async fn the_broker_compacts_by_itself_what_is_dirty_enough() {
    let cluster = cluster(1);
    let config = [("cleanup.policy", "compact"), ("segment.bytes", "1024")];
    cluster.create_topic_with("t", 1, &config).unwrap();
    let mut client = Client::new(&cluster, 1);
    for i in 0..100 {
        let value = i.to_string();
        client
            .produce("t", 0, batch(&[(Some("a"), Some(&value))]))
            .await;
    }
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert_eq!(cluster.records("t", 0).unwrap().len(), 100);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let left = cluster.records("t", 0).unwrap();
    assert!(left.len() < 20 && left.last().unwrap().0 == 99, "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn tombstones_go_in_time_and_topics_that_are_not_compacted_are_left_alone() {
    let cluster = cluster(1);
    let config = [
        ("cleanup.policy", "compact"),
        ("delete.retention.ms", "60000"),
    ];
    cluster.create_topic_with("t", 1, &config).unwrap();
    cluster.create_topic("plain", 1).unwrap();
    let mut client = Client::new(&cluster, 1);
    client
        .produce(
            "t",
            0,
            batch(&[(Some("a"), Some("1")), (Some("b"), Some("1"))]),
        )
        .await;
    client.produce("t", 0, batch(&[(Some("a"), None)])).await;
    client
        .produce("t", 0, batch(&[(Some("c"), Some("1"))]))
        .await;
    let offsets = |cluster: &EmbeddedCluster| -> Vec<i64> {
        cluster
            .records("t", 0)
            .unwrap()
            .iter()
            .map(|record| record.0)
            .collect()
    };
    cluster.compact("t", 0).unwrap();
    assert_eq!(offsets(&cluster), [1, 2, 3]);
    tokio::time::sleep(Duration::from_secs(61)).await;
    cluster.compact("t", 0).unwrap();
    assert_eq!(offsets(&cluster), [1, 3]);
    assert!(cluster.compact("plain", 0).is_err());
    assert!(cluster.compact("t", 1).is_err() && cluster.compact("none", 0).is_err());
}

#[tokio::test]
async fn offsets_are_found_by_time_where_records_are_gone() {
    let cluster = cluster(1);
    cluster.create_topic_with("t", 1, COMPACTED).unwrap();
    let mut client = Client::new(&cluster, 1);
    for (time, key) in [(100, "a"), (200, "b"), (300, "a"), (400, "c")] {
        client
            .produce("t", 0, sealed(&[(Some(key), Some("v"))], time).freeze())
            .await;
    }
    cluster.compact("t", 0).unwrap();
    for (timestamp, expected) in [
        (50, (1, 200)),
        (200, (1, 200)),
        (201, (2, 300)),
        (401, (-1, -1)),
        (-3, (3, 400)),
    ] {
        let request = ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                name: "t".into(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: 0,
                    timestamp,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = client.ask(&request, 7).await;
        let found = &answer.topics[0].partitions[0];
        assert_eq!((found.offset, found.timestamp), expected, "{timestamp}");
    }
}

#[tokio::test]
async fn a_compacted_topic_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = BrokerOptions {
        data_dir: Some(dir.path().to_owned()),
        ..Default::default()
    };
    let cluster = EmbeddedCluster::start_in_memory(options.clone()).unwrap();
    cluster.create_topic_with("t", 1, COMPACTED).unwrap();
    let mut client = Client::new(&cluster, 1);
    for i in 0..10 {
        let value = i.to_string();
        client
            .produce(
                "t",
                0,
                batch(&[(Some("a"), Some(&value)), (Some(&value), Some("v"))]),
            )
            .await;
    }
    cluster.compact("t", 0).unwrap();
    client
        .produce("t", 0, batch(&[(Some("a"), Some("last"))]))
        .await;
    let before = cluster.records("t", 0).unwrap();
    assert_eq!(before.len(), 12);
    drop(client);
    cluster.stop().await;
    let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
    assert_eq!(cluster.records("t", 0).unwrap(), before);
    cluster.compact("t", 0).unwrap();
    assert_eq!(cluster.records("t", 0).unwrap().len(), 11);
}
