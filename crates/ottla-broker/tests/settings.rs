//! What operators set while the cluster runs, and that it outlives a restart.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::path::Path;

use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_wire::ErrorCode;
use ottla_wire::messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasRequestEntryData, EntityData, OpData,
};
use ottla_wire::messages::api_versions::ApiVersionsRequest;
use ottla_wire::messages::create_acls::{AclCreation, CreateAclsRequest};
use ottla_wire::messages::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use ottla_wire::messages::describe_client_quotas::{ComponentData, DescribeClientQuotasRequest};
use ottla_wire::messages::describe_cluster::DescribeClusterRequest;
use ottla_wire::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_wire::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumRequestPartitionData, DescribeQuorumRequestTopicData,
};
use ottla_wire::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_wire::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_wire::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use ottla_wire::messages::list_groups::ListGroupsRequest;
use ottla_wire::messages::list_transactions::ListTransactionsRequest;
use ottla_wire::messages::metadata::MetadataRequest;
use ottla_wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_wire::messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use tokio::io::DuplexStream;

mod support;
use support::Client;

fn start(dir: Option<&Path>) -> (EmbeddedCluster, Client<DuplexStream>) {
    let options = BrokerOptions {
        data_dir: dir.map(Path::to_owned),
        topics: vec![("t".into(), 1)],
        ..Default::default()
    };
    let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
    let client = Client::new(cluster.connect(1).unwrap());
    (cluster, client)
}

fn quota(user: Option<&str>, key: &str, value: f64) -> AlterClientQuotasRequest {
    AlterClientQuotasRequest {
        entries: vec![AlterClientQuotasRequestEntryData {
            entity: vec![EntityData {
                entity_type: "user".into(),
                entity_name: user.map(Into::into),
                ..Default::default()
            }],
            ops: vec![OpData {
                key: key.into(),
                value,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn all_quotas() -> DescribeClientQuotasRequest {
    DescribeClientQuotasRequest {
        components: vec![ComponentData {
            entity_type: "user".into(),
            match_type: 2,
            r#match: None,
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn levels_throttles_and_quotas_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, mut client) = start(Some(dir.path()));
    let downgrade = UpdateFeaturesRequest {
        feature_updates: vec![FeatureUpdateKey {
            feature: "transaction.version".into(),
            max_version_level: 1,
            upgrade_type: 2,
            ..Default::default()
        }],
        ..Default::default()
    };
    let updated = client.ask(&downgrade, 2).await.unwrap();
    assert_eq!(updated.error_code, ErrorCode::NONE);
    let throttle = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 4,
            resource_name: "1".into(),
            configs: vec![AlterableConfig {
                name: "leader.replication.throttled.rate".into(),
                config_operation: 0,
                value: Some("12345".into()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let altered = client.ask(&throttle, 1).await.unwrap();
    assert_eq!(altered.responses[0].error_code, ErrorCode::NONE);
    for (user, value) in [(Some("alice"), 10.0), (None, 20.0)] {
        let altered = client
            .ask(&quota(user, "producer_byte_rate", value), 1)
            .await
            .unwrap();
        assert_eq!(altered.entries[0].error_code, ErrorCode::NONE);
    }
    cluster.stop().await;

    let (cluster, mut client) = start(Some(dir.path()));
    let versions = client
        .ask(
            &ApiVersionsRequest {
                client_software_name: "test".into(),
                client_software_version: "1".into(),
                ..Default::default()
            },
            3,
        )
        .await
        .unwrap();
    let level = |name: &str| {
        let features = &versions.finalized_features;
        let found = features.iter().find(|feature| *feature.name == *name);
        found.map(|feature| feature.max_version_level)
    };
    assert_eq!(level("transaction.version"), Some(1));
    assert_eq!(versions.finalized_features_epoch, 1);
    let described = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 4,
            resource_name: "1".into(),
            configuration_keys: None,
            ..Default::default()
        }],
        ..Default::default()
    };
    let described = client.ask(&described, 4).await.unwrap();
    let found = described.results[0]
        .configs
        .iter()
        .find(|config| &*config.name == "leader.replication.throttled.rate");
    assert_eq!(found.unwrap().value.as_deref(), Some("12345"));
    let quotas = client.ask(&all_quotas(), 1).await.unwrap();
    let found: Vec<_> = quotas.entries.unwrap();
    let named: Vec<_> = found
        .iter()
        .map(|entry| {
            (
                entry.entity[0].entity_name.as_deref(),
                entry.values[0].value,
            )
        })
        .collect();
    assert_eq!(named, [(None, 20.0), (Some("alice"), 10.0)]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_setting_that_cannot_be_kept_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, mut client) = start(Some(dir.path()));
    cluster.limit_disk(Some(3));
    let request = quota(Some("alice"), "producer_byte_rate", 1.0);
    let refused = client.ask(&request, 1).await.unwrap();
    assert_eq!(
        refused.entries[0].error_code,
        ErrorCode::KAFKA_STORAGE_ERROR
    );
    let none = client.ask(&all_quotas(), 1).await.unwrap();
    assert_eq!(none.entries.unwrap(), []);
    cluster.limit_disk(None);
    let set = client.ask(&request, 1).await.unwrap();
    assert_eq!(set.entries[0].error_code, ErrorCode::NONE);
    // What is only tried changes nothing.
    let tried = AlterClientQuotasRequest {
        validate_only: true,
        ..quota(Some("alice"), "producer_byte_rate", 2.0)
    };
    client.ask(&tried, 1).await.unwrap();
    let still = client.ask(&all_quotas(), 1).await.unwrap();
    assert_eq!(still.entries.unwrap()[0].values[0].value, 1.0);
    cluster.stop().await;
}

#[tokio::test]
async fn what_kind_of_group_it_was_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, mut client) = start(Some(dir.path()));
    let join = JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "connect".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "any".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let joined = client.ask(&join, 3).await.unwrap();
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let leave = LeaveGroupRequest {
        group_id: "g".into(),
        members: vec![MemberIdentity {
            member_id: joined.member_id,
            ..Default::default()
        }],
        ..Default::default()
    };
    client.ask(&leave, 3).await.unwrap();
    let commit = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
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
    let committed = client.ask(&commit, 8).await.unwrap();
    assert_eq!(
        committed.topics[0].partitions[0].error_code,
        ErrorCode::NONE
    );
    cluster.stop().await;

    let (cluster, mut client) = start(Some(dir.path()));
    let listed = client.ask(&ListGroupsRequest::default(), 5).await.unwrap();
    let [group] = &listed.groups[..] else {
        panic!("{listed:?}");
    };
    assert_eq!(&*group.protocol_type, "connect");
    assert_eq!(cluster.committed("g", "t", 0), Some(5));
    cluster.stop().await;
}

#[tokio::test]
async fn acls_are_answered_as_where_there_is_no_authorizer() {
    let (_cluster, mut client) = start(None);
    let create = CreateAclsRequest {
        creations: vec![AclCreation::default(), AclCreation::default()],
        ..Default::default()
    };
    let created = client.ask(&create, 3).await.unwrap();
    assert_eq!(created.results.len(), 2);
    let delete = DeleteAclsRequest {
        filters: vec![DeleteAclsFilter::default()],
        ..Default::default()
    };
    let deleted = client.ask(&delete, 3).await.unwrap();
    for (error, message) in [
        (
            created.results[1].error_code,
            &created.results[1].error_message,
        ),
        (
            deleted.filter_results[0].error_code,
            &deleted.filter_results[0].error_message,
        ),
    ] {
        assert_eq!(error, ErrorCode::SECURITY_DISABLED);
        assert_eq!(message.as_deref(), Some("No Authorizer is configured."));
    }
}

#[tokio::test]
async fn what_may_be_done_is_told_to_those_who_ask() {
    let (_cluster, mut client) = start(None);
    for (asked, cluster, topic) in [(true, 8096, 3576), (false, i32::MIN, i32::MIN)] {
        let described = DescribeClusterRequest {
            include_cluster_authorized_operations: asked,
            ..Default::default()
        };
        let described = client.ask(&described, 1).await.unwrap();
        assert_eq!(described.cluster_authorized_operations, cluster);
        let metadata = MetadataRequest {
            topics: None,
            include_topic_authorized_operations: asked,
            ..Default::default()
        };
        let metadata = client.ask(&metadata, 12).await.unwrap();
        assert_eq!(metadata.topics[0].topic_authorized_operations, topic);
    }
}

#[tokio::test]
async fn the_quorum_is_all_nodes() {
    let options = BrokerOptions {
        nodes: 3,
        ..Default::default()
    };
    let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
    cluster.stop_node(1).await.unwrap();
    let mut client = Client::new(cluster.connect(2).unwrap());
    let ask = |topic: &str| DescribeQuorumRequest {
        topics: vec![DescribeQuorumRequestTopicData {
            topic_name: topic.into(),
            partitions: vec![DescribeQuorumRequestPartitionData::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let described = client.ask(&ask("__cluster_metadata"), 2).await.unwrap();
    let partition = &described.topics[0].partitions[0];
    assert_eq!(
        (described.error_code, partition.leader_id),
        (ErrorCode::NONE, 2)
    );
    let voters: Vec<_> = partition
        .current_voters
        .iter()
        .map(|v| v.replica_id)
        .collect();
    assert_eq!(voters, [1, 2, 3]);
    let other = client.ask(&ask("t"), 2).await.unwrap();
    assert_eq!(
        other.topics[0].partitions[0].error_code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
}

#[tokio::test]
async fn transactions_are_listed_by_a_pattern_of_their_ids() {
    let (_cluster, mut client) = start(None);
    for id in ["orders-1", "orders-2", "refunds"] {
        let init = ottla_wire::messages::init_producer_id::InitProducerIdRequest {
            transactional_id: Some(id.into()),
            transaction_timeout_ms: 1000,
            ..Default::default()
        };
        client.ask(&init, 4).await.unwrap();
    }
    let mut list = async |pattern: &str| {
        let list = ListTransactionsRequest {
            transactional_id_pattern: Some(pattern.into()),
            ..Default::default()
        };
        client.ask(&list, 2).await.unwrap()
    };
    assert_eq!(list("orders-.*").await.transaction_states.len(), 2);
    assert_eq!(list("orders").await.transaction_states.len(), 0);
    assert_eq!(list("").await.transaction_states.len(), 3);
    assert_eq!(
        list("(").await.error_code,
        ErrorCode::INVALID_REGULAR_EXPRESSION
    );
}
