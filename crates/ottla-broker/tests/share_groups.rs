//! What a share group knows of records, over restarts, full disks, moves of leaders and administrators' changes.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::path::Path;

use ottla_broker::{BrokerOptions, EmbeddedCluster, Error};
use ottla_wire::ErrorCode;
use ottla_wire::messages::alter_share_group_offsets::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestPartition,
    AlterShareGroupOffsetsRequestTopic, AlterShareGroupOffsetsResponse,
};
use ottla_wire::messages::delete_groups::DeleteGroupsRequest;
use ottla_wire::messages::delete_share_group_offsets::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequestTopic,
};
use ottla_wire::messages::delete_topics::DeleteTopicsRequest;
use ottla_wire::messages::describe_share_group_offsets::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsRequestTopic,
};
use ottla_wire::messages::list_groups::ListGroupsRequest;
use tokio::io::DuplexStream;

mod in_memory;
mod support;
use support::share::{ACCEPT, Member, REJECT, RELEASE, described, set};
use support::{Client, paused};

fn options() -> BrokerOptions {
    BrokerOptions {
        topics: vec![("t".into(), 1)],
        ..Default::default()
    }
}

/// As soon as the one before has let go.
async fn on_disk(dir: &Path) -> EmbeddedCluster {
    let options = BrokerOptions {
        data_dir: Some(dir.to_owned()),
        ..options()
    };
    for _ in 0..1000 {
        match EmbeddedCluster::start_in_memory(options.clone()) {
            Err(Error::DataDirInUse { .. }) => tokio::task::yield_now().await,
            started => return started.unwrap(),
        }
    }
    panic!("the directory is not let go of");
}

fn client(cluster: &EmbeddedCluster) -> Client<DuplexStream> {
    Client::new(cluster.connect(1).unwrap())
}

async fn member(cluster: &EmbeddedCluster, node: i32, id: &str) -> Member<DuplexStream> {
    let stream = cluster.connect(node).unwrap();
    Member::join(stream, "g", id, "t").await.unwrap()
}

/// Writes so many records, one a batch, and has the group begin with the first.
async fn fill(cluster: &EmbeddedCluster, records: usize) {
    let mut client = client(cluster);
    for number in 0..records {
        let value = number.to_string();
        let answer = client.produce("t", 0, &[value.as_bytes()]).await.unwrap();
        assert_eq!(answer.error_code, ErrorCode::NONE);
    }
    let set = set(&mut client, "g", "share.auto.offset.reset", "earliest").await;
    assert_eq!(set.unwrap(), ErrorCode::NONE);
}

#[tokio::test]
async fn what_became_of_records_outlives_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = on_disk(dir.path()).await;
    fill(&cluster, 10).await;
    let mut first = member(&cluster, 1, "m").await;
    assert_eq!(first.acquire(0, 8).await.unwrap(), [(0, 7, 1)]);
    let said = first.say(0, ACCEPT, &[(0, 1), (3, 3)]).await.unwrap();
    assert_eq!(said, ErrorCode::NONE);
    assert_eq!(
        first.say(0, RELEASE, &[(4, 5)]).await.unwrap(),
        ErrorCode::NONE
    );
    assert_eq!(
        first.say(0, REJECT, &[(6, 6)]).await.unwrap(),
        ErrorCode::NONE
    );
    // 2 and 7 are acquired still. No orderly end, and the group is all that is left of its members.
    drop(first);
    drop(cluster);
    let cluster = on_disk(dir.path()).await;
    let listed = client(&cluster).ask(&ListGroupsRequest::default(), 5).await;
    let listed = listed.unwrap().groups;
    assert_eq!(
        (&*listed[0].group_type, &*listed[0].group_state),
        ("share", "Empty")
    );
    let at = described(&mut client(&cluster), "g").await.unwrap();
    assert_eq!((at[0].start_offset, at[0].lag), (2, 6));
    let mut second = member(&cluster, 1, "n").await;
    let acquired = second.acquire(0, 100).await.unwrap();
    assert_eq!(acquired, [(2, 2, 1), (4, 5, 2), (7, 9, 1)]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_group_that_begins_with_what_is_new_begins_there_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = on_disk(dir.path()).await;
    let mut producer = client(&cluster);
    producer.produce("t", 0, &[b"before"]).await.unwrap();
    let mut first = member(&cluster, 1, "m").await;
    assert_eq!(first.acquire(0, 9).await.unwrap(), []);
    producer.produce("t", 0, &[b"after"]).await.unwrap();
    drop((first, producer, cluster));
    let cluster = on_disk(dir.path()).await;
    let mut second = member(&cluster, 1, "n").await;
    assert_eq!(second.acquire(0, 9).await.unwrap(), [(1, 1, 1)]);
}

#[tokio::test]
async fn what_the_disk_did_not_take_is_acquired_still() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = on_disk(dir.path()).await;
    fill(&cluster, 4).await;
    let mut first = member(&cluster, 1, "m").await;
    assert_eq!(first.acquire(0, 9).await.unwrap(), [(0, 3, 1)]);
    assert_eq!(
        first.say(0, ACCEPT, &[(0, 0)]).await.unwrap(),
        ErrorCode::NONE
    );
    let mut second = member(&cluster, 1, "n").await;
    cluster.limit_disk(Some(10));
    let full = ErrorCode::COORDINATOR_NOT_AVAILABLE;
    assert_eq!(first.say(0, ACCEPT, &[(1, 1)]).await.unwrap(), full);
    assert_eq!(first.say(0, REJECT, &[(2, 2)]).await.unwrap(), full);
    assert_eq!(first.say(0, RELEASE, &[(3, 3)]).await.unwrap(), full);
    let at = described(&mut client(&cluster), "g").await.unwrap();
    assert_eq!((at[0].start_offset, at[0].lag), (1, 3));
    // What was released is there for others in any case.
    assert_eq!(second.acquire(0, 9).await.unwrap(), [(3, 3, 2)]);
    cluster.limit_disk(None);
    assert_eq!(
        first.say(0, ACCEPT, &[(1, 1)]).await.unwrap(),
        ErrorCode::NONE
    );
    drop((first, second, cluster));
    let cluster = on_disk(dir.path()).await;
    let mut third = member(&cluster, 1, "o").await;
    assert_eq!(third.acquire(0, 9).await.unwrap(), [(2, 2, 1), (3, 3, 2)]);
}

#[tokio::test]
async fn a_topic_or_a_group_that_is_gone_is_forgotten_with_what_was_known_of_it() {
    let dir = tempfile::tempdir().unwrap();
    for group_goes in [true, false] {
        let cluster = on_disk(dir.path()).await;
        fill(&cluster, 2).await;
        let mut member = member(&cluster, 1, "m").await;
        member.acquire(0, 9).await.unwrap();
        member.say(0, ACCEPT, &[(0, 1)]).await.unwrap();
        assert_eq!(member.leave().await.unwrap(), ErrorCode::NONE);
        let mut client = client(&cluster);
        let gone = if group_goes {
            let request = DeleteGroupsRequest {
                groups_names: vec!["g".into()],
                ..Default::default()
            };
            client.ask(&request, 2).await.unwrap().results[0].error_code
        } else {
            let request = DeleteTopicsRequest {
                topic_names: vec!["t".into()],
                timeout_ms: 1000,
                ..Default::default()
            };
            client.ask(&request, 5).await.unwrap().responses[0].error_code
        };
        assert_eq!(gone, ErrorCode::NONE);
        drop((member, client, cluster));
        let cluster = on_disk(dir.path()).await;
        let at = described(&mut self::client(&cluster), "g").await.unwrap();
        assert_eq!(at, [], "group goes: {group_goes}");
        cluster.stop().await;
    }
}

#[test]
fn the_next_leader_goes_on_with_what_was_said() {
    paused().block_on(async {
        let options = BrokerOptions {
            nodes: 2,
            ..options()
        };
        let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
        cluster.move_leader("t", 0, 1).unwrap();
        cluster.move_coordinator("g", 1);
        fill(&cluster, 4).await;
        let mut first = member(&cluster, 1, "m").await;
        assert_eq!(first.acquire(0, 9).await.unwrap(), [(0, 3, 1)]);
        assert_eq!(
            first.say(0, ACCEPT, &[(1, 1)]).await.unwrap(),
            ErrorCode::NONE
        );
        assert_eq!(
            first.say(0, RELEASE, &[(2, 2)]).await.unwrap(),
            ErrorCode::NONE
        );
        cluster.move_leader("t", 0, 2).unwrap();
        // A member that has a session with the old leader cannot say more there.
        let late = first.say(0, ACCEPT, &[(0, 0)]).await.unwrap();
        assert_eq!(late, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        cluster.move_coordinator("g", 2);
        let mut second = member(&cluster, 2, "n").await;
        let acquired = second.acquire(0, 9).await.unwrap();
        assert_eq!(acquired, [(0, 0, 1), (2, 2, 2), (3, 3, 1)], "at once");
        cluster.move_leader("t", 0, 1).unwrap();
        let late = first.say(0, ACCEPT, &[(0, 0)]).await.unwrap();
        assert_eq!(late, ErrorCode::INVALID_RECORD_STATE);
    });
}

#[test]
fn a_group_may_begin_with_what_is_younger_than_that() {
    paused().block_on(async {
        let cluster = EmbeddedCluster::start_in_memory(options()).unwrap();
        let mut client = client(&cluster);
        let name = "share.auto.offset.reset";
        let bad = set(&mut client, "g", name, "by_duration:1h").await.unwrap();
        assert_eq!(bad, ErrorCode::INVALID_CONFIG);
        let good = set(&mut client, "g", name, "by_duration:PT1H")
            .await
            .unwrap();
        assert_eq!(good, ErrorCode::NONE);
        // The records of the tests' batches are of 1970.
        client.produce("t", 0, &[b"old"]).await.unwrap();
        let mut first = member(&cluster, 1, "m").await;
        assert_eq!(first.acquire(0, 9).await.unwrap(), []);
        client.produce("t", 0, &[b"new"]).await.unwrap();
        assert_eq!(first.acquire(0, 9).await.unwrap(), [(1, 1, 1)]);
        // Longer ago than that there is nothing.
        let all = set(&mut client, "h", name, "by_duration:P100000D").await;
        assert_eq!(all.unwrap(), ErrorCode::NONE);
        let stream = cluster.connect(1).unwrap();
        let mut other = Member::join(stream, "h", "m", "t").await.unwrap();
        assert_eq!(other.acquire(0, 9).await.unwrap(), [(0, 1, 1)]);
    });
}

#[test]
fn a_share_of_a_compacted_log_is_not_held_up_by_what_is_gone() {
    paused().block_on(async {
        let cluster = EmbeddedCluster::start_in_memory(options()).unwrap();
        let config = [("cleanup.policy", "compact")];
        cluster.create_topic_with("c", 1, &config).unwrap();
        let mut client = client(&cluster);
        let name = "share.auto.offset.reset";
        set(&mut client, "g", name, "earliest").await.unwrap();
        for value in ["a", "b", "c"] {
            produce_keyed(&mut client, value).await;
        }
        let stream = cluster.connect(1).unwrap();
        let mut first = Member::join(stream, "g", "m", "c").await.unwrap();
        assert_eq!(first.acquire(0, 2).await.unwrap(), [(0, 1, 1)]);
        assert_eq!(
            first.say(0, RELEASE, &[(0, 1)]).await.unwrap(),
            ErrorCode::NONE
        );
        // Of the first two nothing is left.
        cluster.compact("c", 0).unwrap();
        assert_eq!(first.acquire(0, 9).await.unwrap(), [(2, 2, 1)]);
        let at = described(&mut client, "g").await.unwrap();
        assert_eq!(at[0].start_offset, 2);
    });
}

/// Writes a record of the one key to the topic that is compacted.
async fn produce_keyed(client: &mut Client<DuplexStream>, value: &str) {
    let records = in_memory::batch(&[(Some("k"), Some(value))]);
    let request = support::produce_request("c", 0, records);
    let answer = client.ask(&request, 9).await.unwrap();
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, ErrorCode::NONE);
}

async fn alter(
    client: &mut Client<DuplexStream>,
    group: &str,
    starts: &[(&str, i32, i64)],
) -> AlterShareGroupOffsetsResponse {
    let topics = starts.iter().map(|(topic, partition, start)| {
        let partition = AlterShareGroupOffsetsRequestPartition {
            partition_index: *partition,
            start_offset: *start,
            ..Default::default()
        };
        AlterShareGroupOffsetsRequestTopic {
            topic_name: (*topic).to_owned().into(),
            partitions: vec![partition],
            ..Default::default()
        }
    });
    let request = AlterShareGroupOffsetsRequest {
        group_id: group.to_owned().into(),
        topics: topics.collect(),
        ..Default::default()
    };
    client.ask(&request, 0).await.unwrap()
}

async fn delete(client: &mut Client<DuplexStream>, topics: &[&str]) -> Vec<ErrorCode> {
    let topics = topics.iter();
    let request = DeleteShareGroupOffsetsRequest {
        group_id: "g".into(),
        topics: topics
            .map(|name| DeleteShareGroupOffsetsRequestTopic {
                topic_name: (*name).to_owned().into(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let answer = client.ask(&request, 0).await.unwrap();
    let topics = answer.responses.iter();
    let mut errors = vec![answer.error_code];
    errors.extend(topics.map(|topic| topic.error_code));
    errors
}

#[tokio::test]
async fn administrators_say_where_a_group_without_members_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = on_disk(dir.path()).await;
    fill(&cluster, 10).await;
    let mut client = client(&cluster);
    let none = ErrorCode::NONE;
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    // One that does not exist is made, if that can be kept.
    let answer = alter(&mut client, "h", &[("x", 0, 1)]).await;
    assert_eq!(answer.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    cluster.limit_disk(Some(10));
    let answer = alter(&mut client, "h", &[("t", 0, 1)]).await;
    assert_eq!(answer.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    cluster.limit_disk(None);
    let listed = client.ask(&ListGroupsRequest::default(), 5).await;
    assert!(listed.unwrap().groups.is_empty());
    let answer = alter(&mut client, "h", &[("t", 0, 1)]).await;
    assert_eq!(answer.error_code, none);
    let at = described(&mut client, "h").await.unwrap();
    assert_eq!((at[0].start_offset, at[0].lag), (1, 9));
    assert_eq!(
        delete(&mut client, &["t"]).await,
        [ErrorCode::GROUP_ID_NOT_FOUND]
    );
    let mut first = member(&cluster, 1, "m").await;
    assert_eq!(first.acquire(0, 9).await.unwrap(), [(0, 8, 1)]);
    let answer = alter(&mut client, "g", &[("t", 0, 1)]).await;
    assert_eq!(answer.error_code, ErrorCode::NON_EMPTY_GROUP);
    assert_eq!(
        delete(&mut client, &["t"]).await,
        [ErrorCode::NON_EMPTY_GROUP]
    );
    first.leave().await.unwrap();
    let answer = alter(
        &mut client,
        "g",
        &[("t", 0, 4), ("t", 1, 4), ("x", 0, 4), ("t", 0, -2)],
    )
    .await;
    assert_eq!(answer.error_code, none);
    let errors = answer.responses.iter();
    let errors: Vec<_> = errors.map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!(errors, [none, unknown, unknown, ErrorCode::INVALID_REQUEST]);
    // What was acquired before is nobody's business any more, though the session is there still.
    let late = first.say(0, ACCEPT, &[(5, 5)]).await.unwrap();
    assert_eq!(late, ErrorCode::INVALID_RECORD_STATE);
    let at = described(&mut client, "g").await.unwrap();
    assert_eq!((at[0].start_offset, at[0].lag), (4, 6));

    // Not while the disk is full, and then as it was.
    cluster.limit_disk(Some(10));
    let full = ErrorCode::COORDINATOR_NOT_AVAILABLE;
    let starts = [("t", 0, 8), ("t", 0, 9)];
    assert_eq!(alter(&mut client, "g", &starts).await.error_code, full);
    assert_eq!(delete(&mut client, &["t"]).await, [full]);
    cluster.limit_disk(None);
    drop((first, client, cluster));
    let cluster = on_disk(dir.path()).await;
    let mut client = self::client(&cluster);
    let at = described(&mut client, "g").await.unwrap();
    assert_eq!((at[0].start_offset, at[0].lag), (4, 6));
    let mut second = member(&cluster, 1, "n").await;
    assert_eq!(second.acquire(0, 2).await.unwrap(), [(4, 5, 1)]);
    second.leave().await.unwrap();

    cluster.create_topic("u", 1).unwrap();
    assert_eq!(
        delete(&mut client, &["t", "u", "x"]).await,
        [none, none, unknown, unknown]
    );
    assert_eq!(described(&mut client, "g").await.unwrap(), []);
    drop((second, client, cluster));
    let cluster = on_disk(dir.path()).await;
    let mut third = member(&cluster, 1, "o").await;
    assert_eq!(third.acquire(0, 2).await.unwrap(), [(0, 1, 1)]);
    // -1 is what an unread partition has, and makes it one.
    third.leave().await.unwrap();
    let mut client = self::client(&cluster);
    assert_eq!(
        alter(&mut client, "g", &[("t", 0, -1)]).await.error_code,
        none
    );
    assert_eq!(described(&mut client, "g").await.unwrap(), []);
}

#[test]
fn partitions_that_were_not_read_are_described_as_nowhere() {
    paused().block_on(async {
        let options = BrokerOptions {
            nodes: 2,
            ..options()
        };
        let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
        cluster.move_coordinator("g", 1);
        cluster.move_leader("t", 0, 1).unwrap();
        fill(&cluster, 3).await;
        let mut member = member(&cluster, 1, "m").await;
        member.acquire(0, 2).await.unwrap();
        let of = |group: &str| DescribeShareGroupOffsetsRequestGroup {
            group_id: group.to_owned().into(),
            topics: Some(vec![
                DescribeShareGroupOffsetsRequestTopic {
                    topic_name: "t".into(),
                    partitions: vec![0, 7],
                    ..Default::default()
                },
                DescribeShareGroupOffsetsRequestTopic {
                    topic_name: "x".into(),
                    partitions: vec![0],
                    ..Default::default()
                },
            ]),
            ..Default::default()
        };
        let request = DescribeShareGroupOffsetsRequest {
            groups: vec![of("g"), of("")],
            ..Default::default()
        };
        let answer = client(&cluster).ask(&request, 1).await.unwrap();
        let places = |topic: usize| -> Vec<(i32, i64, i64)> {
            let partitions = answer.groups[0].topics[topic].partitions.iter();
            partitions
                .map(|at| (at.partition_index, at.start_offset, at.lag))
                .collect()
        };
        assert_eq!(places(0), [(0, 0, 3), (7, -1, -1)]);
        assert_eq!(places(1), [(0, -1, -1)]);
        assert_eq!(answer.groups[1].error_code, ErrorCode::INVALID_GROUP_ID);
        // Only the group's coordinator knows.
        let mut other = Client::new(cluster.connect(2).unwrap());
        let answer = other.ask(&request, 0).await.unwrap();
        assert_eq!(answer.groups[0].error_code, ErrorCode::NOT_COORDINATOR);
    });
}
