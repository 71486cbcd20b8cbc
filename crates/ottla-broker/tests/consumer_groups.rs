//! Consumer groups of KIP-848 as clients and tools meet them: requests in, answers out, and a restart between them.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::path::Path;

use bytes::Bytes;
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_wire::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use ottla_wire::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use ottla_wire::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use ottla_wire::messages::delete_groups::DeleteGroupsRequest;
use ottla_wire::messages::describe_groups::DescribeGroupsRequest;
use ottla_wire::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use ottla_wire::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use ottla_wire::messages::list_groups::ListGroupsRequest;
use ottla_wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_wire::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use ottla_wire::messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use ottla_wire::{ErrorCode, Request, encode_versioned};
use tokio::io::DuplexStream;

mod support;
use support::Client;

struct Stage {
    cluster: EmbeddedCluster,
    client: Client<DuplexStream>,
}

impl Stage {
    fn start(dir: Option<&Path>) -> Self {
        let options = BrokerOptions {
            data_dir: dir.map(Path::to_owned),
            topics: vec![("t".into(), 4), ("u".into(), 1)],
            ..Default::default()
        };
        let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
        let client = Client::new(cluster.connect(1).unwrap());
        Self { cluster, client }
    }

    async fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.client.ask(request, version).await.unwrap()
    }

    async fn beat(&mut self, member: &str, epoch: i32) -> ConsumerGroupHeartbeatResponse {
        let request = ConsumerGroupHeartbeatRequest {
            member_epoch: epoch,
            ..join(member)
        };
        let request = match epoch {
            0 => request,
            _ => ConsumerGroupHeartbeatRequest {
                subscribed_topic_names: None,
                topic_partitions: None,
                rebalance_timeout_ms: -1,
                ..request
            },
        };
        self.ask(&request, 1).await
    }

    async fn commit(&mut self, member: &str, epoch: i32, version: i16) -> ErrorCode {
        let commit = OffsetCommitRequest {
            group_id: "g".into(),
            member_id: member.into(),
            generation_id_or_member_epoch: epoch,
            topics: vec![OffsetCommitRequestTopic {
                name: "t".into(),
                partitions: vec![OffsetCommitRequestPartition {
                    committed_offset: 5,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.ask(&commit, version).await;
        answer.topics[0].partitions[0].error_code
    }

    async fn join_classic(&mut self, metadata: Bytes) -> JoinGroupResponse {
        let join = JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata,
                ..Default::default()
            }],
            ..Default::default()
        };
        self.ask(&join, 3).await
    }

    /// An administrator removes a member.
    async fn remove(&mut self, member: &str) {
        let leave = LeaveGroupRequest {
            group_id: "g".into(),
            members: vec![MemberIdentity {
                member_id: member.to_owned().into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let left = self.ask(&leave, 5).await;
        assert_eq!(left.members[0].error_code, ErrorCode::NONE);
    }

    /// Type and state of the group, as lists show them.
    async fn listed(&mut self) -> (String, String) {
        let listed = self.ask(&ListGroupsRequest::default(), 5).await;
        let [group] = &listed.groups[..] else {
            panic!("{listed:?}");
        };
        (group.group_type.to_string(), group.group_state.to_string())
    }
}

fn join(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member.into(),
        rebalance_timeout_ms: 1000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

fn partitions(answer: &ConsumerGroupHeartbeatResponse) -> Vec<i32> {
    let assignment = answer.assignment.as_ref().unwrap();
    let topics = assignment.topic_partitions.iter();
    topics.flat_map(|topic| topic.partitions.clone()).collect()
}

#[tokio::test]
async fn a_member_joins_commits_is_seen_and_leaves() {
    let mut stage = Stage::start(None);
    let joined = stage.beat("one", 0).await;
    assert_eq!(
        (joined.error_code, joined.member_epoch),
        (ErrorCode::NONE, 1)
    );
    assert_eq!(partitions(&joined), [0, 1, 2, 3]);
    assert_eq!(joined.heartbeat_interval_ms, 5000);
    assert_eq!(stage.commit("one", 1, 9).await, ErrorCode::NONE);
    assert_eq!(
        stage.commit("one", 2, 9).await,
        ErrorCode::STALE_MEMBER_EPOCH
    );
    assert_eq!(
        stage.commit("two", 1, 9).await,
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    let unsupported = stage.commit("one", 1, 8).await;
    assert_eq!(unsupported, ErrorCode::UNSUPPORTED_VERSION);
    for (epoch, expected) in [(1, ErrorCode::NONE), (9, ErrorCode::STALE_MEMBER_EPOCH)] {
        let fetch = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: "g".into(),
                member_id: Some("one".into()),
                member_epoch: epoch,
                topics: None,
                ..Default::default()
            }],
            ..Default::default()
        };
        let fetched = stage.ask(&fetch, 9).await;
        assert_eq!(fetched.groups[0].error_code, expected);
    }
    let describe = ConsumerGroupDescribeRequest {
        group_ids: vec!["g".into(), "nobody".into()],
        include_authorized_operations: true,
        ..Default::default()
    };
    let described = stage.ask(&describe, 1).await;
    let group = &described.groups[0];
    assert_eq!(&*group.group_state, "Stable");
    assert_eq!((&*group.assignor_name, group.group_epoch), ("uniform", 1));
    assert_eq!(group.authorized_operations, 3400);
    let member = &group.members[0];
    assert_eq!(&*member.assignment.topic_partitions[0].topic_name, "t");
    assert_eq!(member.assignment, member.target_assignment);
    assert_eq!(
        described.groups[1].error_code,
        ErrorCode::GROUP_ID_NOT_FOUND
    );
    let classic = DescribeGroupsRequest {
        groups: vec!["g".into()],
        ..Default::default()
    };
    let classic = stage.ask(&classic, 6).await;
    assert_eq!(classic.groups[0].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(stage.listed().await, ("consumer".into(), "Stable".into()));
    let left = stage.beat("one", -1).await;
    assert_eq!((left.error_code, left.member_epoch), (ErrorCode::NONE, -1));
    assert_eq!(stage.listed().await, ("consumer".into(), "Empty".into()));
}

#[tokio::test]
async fn a_group_without_members_becomes_one_of_the_other_kind_and_keeps_its_offsets() {
    let mut stage = Stage::start(None);
    assert_eq!(stage.commit("", -1, 8).await, ErrorCode::NONE);
    stage.beat("one", 0).await;
    assert_eq!(stage.listed().await.0, "consumer");
    // Of what it reads the group has to know something.
    let refused = stage.join_classic(Bytes::new()).await.error_code;
    assert_eq!(refused, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let delete = DeleteGroupsRequest {
        groups_names: vec!["g".into()],
        ..Default::default()
    };
    let deleted = stage.ask(&delete, 2).await;
    assert_eq!(deleted.results[0].error_code, ErrorCode::NON_EMPTY_GROUP);
    stage.remove("one").await;
    let joined = stage.join_classic(Bytes::new()).await.error_code;
    assert_eq!(joined, ErrorCode::NONE);
    assert_eq!(stage.listed().await.0, "classic");
    let refused = stage.beat("one", 0).await;
    assert_eq!(refused.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(stage.cluster.committed("g", "t", 0), Some(5));
}

#[tokio::test]
async fn members_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = Stage::start(Some(dir.path()));
    stage.beat("one", 0).await;
    assert_eq!(stage.beat("two", 0).await.member_epoch, 2);
    stage.cluster.stop().await;
    let mut stage = Stage::start(Some(dir.path()));
    let known = stage.beat("two", 2).await;
    assert_eq!((known.error_code, known.member_epoch), (ErrorCode::NONE, 2));
    let told = stage.beat("one", 1).await;
    assert_eq!((told.member_epoch, partitions(&told).len()), (1, 2));
    stage.cluster.stop().await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let mut stage = Stage::start(None);
    let wrong = [
        ConsumerGroupHeartbeatRequest {
            group_id: "".into(),
            ..join("one")
        },
        join(""),
        ConsumerGroupHeartbeatRequest {
            instance_id: Some("".into()),
            ..join("one")
        },
        ConsumerGroupHeartbeatRequest {
            rebalance_timeout_ms: -1,
            ..join("one")
        },
        ConsumerGroupHeartbeatRequest {
            subscribed_topic_names: Some(Vec::new()),
            ..join("one")
        },
        ConsumerGroupHeartbeatRequest {
            topic_partitions: None,
            ..join("one")
        },
        ConsumerGroupHeartbeatRequest {
            member_epoch: -2,
            ..join("one")
        },
        ConsumerGroupHeartbeatRequest {
            member_epoch: -3,
            ..join("one")
        },
    ];
    for request in wrong {
        let answer = stage.ask(&request, 1).await;
        assert_eq!(answer.error_code, ErrorCode::INVALID_REQUEST, "{request:?}");
    }
    let assignor = ConsumerGroupHeartbeatRequest {
        server_assignor: Some("chance".into()),
        ..join("one")
    };
    let refused = stage.ask(&assignor, 1).await;
    assert_eq!(refused.error_code, ErrorCode::UNSUPPORTED_ASSIGNOR);
    let pattern = ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some("(".into()),
        ..join("one")
    };
    let refused = stage.ask(&pattern, 1).await;
    assert_eq!(refused.error_code, ErrorCode::INVALID_REGULAR_EXPRESSION);
    let unknown = stage.beat("one", 3).await;
    assert_eq!(unknown.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    // Before version 1 the broker makes the id.
    let named = stage.ask(&join(""), 0).await;
    assert!(named.error_code.is_ok() && !named.member_id.unwrap().is_empty());
}

#[tokio::test]
async fn where_the_feature_is_off_there_are_no_such_groups() {
    let mut stage = Stage::start(None);
    let off = UpdateFeaturesRequest {
        feature_updates: vec![FeatureUpdateKey {
            feature: "group.version".into(),
            max_version_level: 0,
            upgrade_type: 2,
            ..Default::default()
        }],
        ..Default::default()
    };
    assert!(stage.ask(&off, 2).await.error_code.is_ok());
    let refused = stage.beat("one", 0).await;
    assert_eq!(refused.error_code, ErrorCode::UNSUPPORTED_VERSION);
}

#[tokio::test]
async fn a_group_that_became_a_classic_one_is_that_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = Stage::start(Some(dir.path()));
    assert_eq!(stage.beat("m", 0).await.error_code, ErrorCode::NONE);
    assert_eq!(stage.beat("m", -1).await.error_code, ErrorCode::NONE);
    let joined = stage.join_classic(Bytes::new()).await.error_code;
    assert_eq!(joined, ErrorCode::NONE);
    drop(stage.client);
    stage.cluster.stop().await;
    let mut stage = Stage::start(Some(dir.path()));
    let listed = stage.ask(&ListGroupsRequest::default(), 5).await.groups;
    assert_eq!(&*listed[0].group_type, "classic");
}

#[tokio::test]
async fn a_group_that_turns_back_is_a_classic_one_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut stage = Stage::start(Some(dir.path()));
    stage.beat("two", 0).await;
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["t".into()],
        ..Default::default()
    };
    let metadata = encode_versioned(&subscription, 3).unwrap();
    let joined = stage.join_classic(metadata).await;
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let describe = ConsumerGroupDescribeRequest {
        group_ids: vec!["g".into()],
        ..Default::default()
    };
    let described = stage.ask(&describe, 1).await;
    let members = described.groups[0].members.iter();
    let types: Vec<_> = members
        .map(|member| (member.member_id == joined.member_id, member.member_type))
        .collect();
    assert_eq!(types.len(), 2);
    assert!(
        types
            .iter()
            .all(|(is_classic, kind)| *is_classic == (*kind == 0))
    );
    stage.remove("two").await;
    assert_eq!(stage.listed().await.0, "classic");
    drop(stage.client);
    stage.cluster.stop().await;
    let mut stage = Stage::start(Some(dir.path()));
    assert_eq!(stage.listed().await.0, "classic");
}
