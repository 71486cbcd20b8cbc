//! Groups as tools ask about them: simple consumers' commits, lists, deletions.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod in_memory;
mod support;

use in_memory::{Client, cluster};
use ottla_wire::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use ottla_wire::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use ottla_wire::messages::delete_groups::DeleteGroupsRequest;
use ottla_wire::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_wire::messages::list_groups::ListGroupsRequest;
use ottla_wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_wire::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_wire::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestTopic,
};
use ottla_wire::{ErrorCode, encode_versioned};

async fn commit(client: &mut Client, topic: &str, generation: i32, version: i16) -> ErrorCode {
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: generation,
        topics: vec![OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 3,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.ask(&request, version).await;
    answer.topics[0].partitions[0].error_code
}

async fn listed(client: &mut Client, state: &str, kind: &str) -> usize {
    let request = ListGroupsRequest {
        states_filter: vec![state.into()],
        types_filter: vec![kind.into()],
        ..Default::default()
    };
    client.ask(&request, 5).await.groups.len()
}

async fn delete_group(client: &mut Client, group: &str) -> ErrorCode {
    let request = DeleteGroupsRequest {
        groups_names: vec![group.into()],
        ..Default::default()
    };
    client.ask(&request, 2).await.results[0].error_code
}

async fn delete_offset(client: &mut Client, topic: &str) -> ErrorCode {
    let request = OffsetDeleteRequest {
        group_id: "g".into(),
        topics: vec![OffsetDeleteRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetDeleteRequestPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.ask(&request, 0).await;
    assert!(answer.error_code.is_ok());
    answer.topics[0].partitions[0].error_code
}

#[tokio::test]
async fn groups_are_committed_to_listed_and_deleted_as_in_kafka() {
    let cluster = cluster(1);
    for topic in ["read", "left"] {
        cluster.create_topic(topic, 1).unwrap();
    }
    let mut client = Client::new(&cluster, 1);
    let client = &mut client;
    // Nobody knows the group: only who claims no generation may make it.
    assert_eq!(
        commit(client, "read", 1, 8).await,
        ErrorCode::ILLEGAL_GENERATION
    );
    assert_eq!(
        commit(client, "read", 1, 9).await,
        ErrorCode::GROUP_ID_NOT_FOUND
    );
    for topic in ["read", "left"] {
        assert_eq!(commit(client, topic, -1, 8).await, ErrorCode::NONE);
    }
    assert_eq!(listed(client, "empty", "Classic").await, 1);
    assert_eq!(listed(client, "Stable", "classic").await, 0);
    assert_eq!(listed(client, "Empty", "consumer").await, 0);
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["read".into()],
        ..Default::default()
    };
    let mut join = JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: encode_versioned(&subscription, 3).unwrap(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let told = client.ask(&join, 4).await;
    assert_eq!(told.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    join.member_id = told.member_id;
    assert_eq!(client.ask(&join, 4).await.error_code, ErrorCode::NONE);
    assert_eq!(listed(client, "CompletingRebalance", "classic").await, 1);
    assert_eq!(
        commit(client, "read", -1, 8).await,
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    assert_eq!(delete_group(client, "g").await, ErrorCode::NON_EMPTY_GROUP);
    assert_eq!(
        delete_group(client, "other").await,
        ErrorCode::GROUP_ID_NOT_FOUND
    );
    assert_eq!(delete_offset(client, "left").await, ErrorCode::NONE);
    assert_eq!(
        delete_offset(client, "read").await,
        ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC
    );
    let unknown = JoinGroupRequest {
        group_id: "never".into(),
        member_id: "somebody".into(),
        ..join
    };
    assert_eq!(
        client.ask(&unknown, 4).await.error_code,
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    assert_eq!(
        delete_group(client, "never").await,
        ErrorCode::GROUP_ID_NOT_FOUND
    );
}

#[tokio::test]
async fn offsets_of_partitions_that_there_are_not_are_refused() {
    let cluster = cluster(1);
    cluster.create_topic("t", 2).unwrap();
    let mut client = Client::new(&cluster, 1);
    let partitions = [0, 1, 2, -1, i32::MAX];
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: partitions
                .map(|partition_index| OffsetCommitRequestPartition {
                    partition_index,
                    ..Default::default()
                })
                .to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.ask(&request, 8).await;
    let errors: Vec<_> = answer.topics[0]
        .partitions
        .iter()
        .map(|p| p.error_code)
        .collect();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let none = ErrorCode::NONE;
    assert_eq!(errors, [none, none, unknown, unknown, unknown]);
    assert_eq!(cluster.committed("g", "t", 1), Some(0));
    assert_eq!(cluster.committed("g", "t", 2), None);
}

#[tokio::test]
async fn a_heartbeat_that_is_refused_leaves_the_group_of_the_kind_that_it_is() {
    let cluster = cluster(1);
    cluster.create_topic("t", 1).unwrap();
    let mut client = Client::new(&cluster, 1);
    let client = &mut client;
    assert_eq!(commit(client, "t", -1, 8).await, ErrorCode::NONE);
    let refused = ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: "m".into(),
        rebalance_timeout_ms: 1000,
        subscribed_topic_regex: Some("(".into()),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    assert_eq!(
        client.ask(&refused, 1).await.error_code,
        ErrorCode::INVALID_REGULAR_EXPRESSION
    );
    assert_eq!(listed(client, "Empty", "classic").await, 1);
    assert_eq!(listed(client, "Empty", "consumer").await, 0);
}

#[tokio::test]
async fn a_request_of_which_nothing_comes_makes_no_group() {
    let cluster = cluster(1);
    cluster.create_topic("t", 1).unwrap();
    let mut client = Client::new(&cluster, 1);
    let client = &mut client;
    assert_eq!(
        commit(client, "unknown", -1, 8).await,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    let join = JoinGroupRequest {
        group_id: "h".into(),
        session_timeout_ms: 10_000,
        ..Default::default()
    };
    assert_eq!(
        client.ask(&join, 4).await.error_code,
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL
    );
    let unknown = TxnOffsetCommitRequest {
        transactional_id: "nobody".into(),
        group_id: "i".into(),
        generation_id: -1,
        topics: vec![TxnOffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![Default::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.ask(&unknown, 3).await;
    assert_eq!(
        answer.topics[0].partitions[0].error_code,
        ErrorCode::INVALID_PRODUCER_ID_MAPPING
    );
    let listed = client.ask(&ListGroupsRequest::default(), 5).await.groups;
    assert!(listed.is_empty(), "{listed:?}");
}
