//! Positions that logs no longer have, or have no more in full.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod in_memory;
mod support;

use in_memory::{Client, cluster, sealed};
use ottla_wire::ErrorCode;
use ottla_wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use support::fetch_request;

/// Writes a batch of records with these timestamps, the same for all of one batch.
async fn write(client: &mut Client, timestamp: i64, records: usize) {
    let entries = vec![(None, Some("v")); records];
    let batch = sealed(&entries, timestamp).freeze();
    let answer = client.produce("t", 0, batch).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
}

/// Offset and timestamp of the newest record.
async fn newest(client: &mut Client) -> (i64, i64) {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition {
                timestamp: -3,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.ask(&request, 7).await;
    let found = &answer.topics[0].partitions[0];
    assert_eq!(found.error_code, ErrorCode::NONE);
    (found.offset, found.timestamp)
}

#[tokio::test]
async fn the_newest_record_is_one_that_was_not_deleted() {
    let cluster = cluster(1);
    cluster
        .create_topic_with("t", 1, &[("segment.bytes", "1024")])
        .unwrap();
    let mut client = Client::new(&cluster, 1);
    assert_eq!(newest(&mut client).await, (-1, -1));
    // 0 to 1, 2 to 3, 4 to 5.
    for timestamp in [900, 500, 300] {
        write(&mut client, timestamp, 2).await;
    }
    assert_eq!(newest(&mut client).await, (0, 900));
    // Part of the first batch is there still.
    cluster.delete_records("t", 0, 1).unwrap();
    assert_eq!(newest(&mut client).await, (1, 900));
    cluster.delete_records("t", 0, 2).unwrap();
    assert_eq!(newest(&mut client).await, (2, 500));
    cluster.delete_records("t", 0, 3).unwrap();
    assert_eq!(newest(&mut client).await, (3, 500));
    write(&mut client, 700, 1).await;
    assert_eq!(newest(&mut client).await, (6, 700));
    cluster.delete_records("t", 0, 7).unwrap();
    assert_eq!(newest(&mut client).await, (-1, -1));
    // Over several segments.
    for timestamp in (0..60).chain([10, 20]) {
        write(&mut client, timestamp, 1).await;
    }
    assert_eq!(newest(&mut client).await, (66, 59));
    cluster.delete_records("t", 0, 67).unwrap();
    assert_eq!(newest(&mut client).await, (68, 20));
}

#[tokio::test]
async fn who_knows_only_epochs_that_are_gone_is_told_and_does_not_wait_for_ever() {
    let cluster = cluster(2);
    cluster.create_topic("t", 1).unwrap();
    cluster.move_leader("t", 0, 2).unwrap();
    cluster.move_leader("t", 0, 1).unwrap();
    let mut client = Client::new(&cluster, 1);
    write(&mut client, 1, 10).await;
    // All that was written is of a later epoch than 0.
    let mut request = fetch_request("t", 0, 3, 60_000);
    request.topics[0].partitions[0].last_fetched_epoch = 0;
    let answer = client.ask(&request, 12).await;
    let data = &answer.responses[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::NONE);
    // It is to go back to where the log begins, as with Kafka.
    let diverging = &data.diverging_epoch;
    assert_eq!((diverging.epoch, diverging.end_offset), (0, 0));
}
