//! APIs that administration tools call, asked as those tools ask.

#![allow(clippy::unwrap_used, reason = "a test fails where its tools do")]

mod in_memory;
mod support;

use in_memory::{Client, batch, cluster, sealed};
use ottla_wire::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use ottla_wire::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use ottla_wire::messages::describe_acls::DescribeAclsRequest;
use ottla_wire::messages::describe_client_quotas::DescribeClientQuotasRequest;
use ottla_wire::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_wire::messages::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use ottla_wire::messages::describe_producers::{DescribeProducersRequest, TopicRequest};
use ottla_wire::messages::describe_topic_partitions::{
    self as pages, Cursor, DescribeTopicPartitionsRequest,
};
use ottla_wire::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, UserName,
};
use ottla_wire::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use ottla_wire::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_wire::messages::list_config_resources::ListConfigResourcesRequest;
use ottla_wire::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use ottla_wire::messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use ottla_wire::{ErrorCode, Str};

#[tokio::test]
async fn topics_are_described_a_page_at_a_time() {
    let cluster = cluster(3);
    for (name, partitions) in [("a", 3), ("b", 2), ("c", 4)] {
        cluster.create_topic(name, partitions).unwrap();
    }
    let mut client = Client::new(&cluster, 1);
    let mut seen: Vec<(String, i32)> = Vec::new();
    let mut cursor = None;
    let mut pages_read = 0;
    loop {
        let request = DescribeTopicPartitionsRequest {
            response_partition_limit: 2,
            cursor: cursor.take(),
            ..Default::default()
        };
        let page = client.ask(&request, 0).await;
        pages_read += 1;
        for topic in &page.topics {
            assert!(topic.error_code.is_ok());
            for partition in &topic.partitions {
                assert_eq!(partition.replica_nodes.len(), 3);
                assert!(partition.replica_nodes.contains(&partition.leader_id));
                let name = topic.name.as_ref().unwrap().to_string();
                seen.push((name, partition.partition_index));
            }
        }
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let all = [("a", 3), ("b", 2), ("c", 4)];
    let expected: Vec<(String, i32)> = all
        .iter()
        .flat_map(|(name, count)| (0..*count).map(|index| ((*name).to_owned(), index)))
        .collect();
    assert_eq!((seen, pages_read), (expected, 5));
    let request = DescribeTopicPartitionsRequest {
        topics: ["c", "nobody", "a", "no way"]
            .map(|name| pages::TopicRequest {
                name: name.into(),
                ..Default::default()
            })
            .to_vec(),
        cursor: Some(Cursor {
            topic_name: "c".into(),
            partition_index: 3,
            ..Default::default()
        }),
        ..Default::default()
    };
    let page = client.ask(&request, 0).await;
    let found: Vec<(&str, ErrorCode, usize)> = page
        .topics
        .iter()
        .map(|topic| {
            (
                topic.name.as_deref().unwrap(),
                topic.error_code,
                topic.partitions.len(),
            )
        })
        .collect();
    let expected = [
        ("c", ErrorCode::NONE, 1),
        ("no way", ErrorCode::INVALID_TOPIC_EXCEPTION, 0),
        ("nobody", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 0),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn leaders_go_back_to_the_preferred_replica() {
    let cluster = cluster(3);
    cluster.create_topic("t", 3).unwrap();
    let preferred: Vec<i32> = (0..3).map(|i| cluster.leader("t", i).unwrap()).collect();
    cluster.stop_node(preferred[0]).await.unwrap();
    let asked_of = preferred[1];
    let mut client = Client::new(&cluster, asked_of);
    let mut elect = async |election_type, partitions: Option<Vec<i32>>| {
        let request = ElectLeadersRequest {
            election_type,
            topic_partitions: partitions.map(|partitions| {
                vec![TopicPartitions {
                    topic: "t".into(),
                    partitions,
                    ..Default::default()
                }]
            }),
            ..Default::default()
        };
        let answer = client.ask(&request, 2).await;
        assert!(answer.error_code.is_ok());
        let results = answer.replica_election_results;
        results
            .iter()
            .flat_map(|topic| &topic.partition_result)
            .map(|partition| (partition.partition_id, partition.error_code))
            .collect::<Vec<_>>()
    };
    let down = ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE;
    let not_needed = ErrorCode::ELECTION_NOT_NEEDED;
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(
        elect(0, Some(vec![0, 1, 9])).await,
        [(0, down), (1, not_needed), (9, unknown)]
    );
    assert_eq!(
        elect(1, Some(vec![0])).await,
        [(0, not_needed)],
        "it has a leader"
    );
    cluster.start_node(preferred[0]).await.unwrap();
    assert_ne!(cluster.leader("t", 0), Some(preferred[0]));
    assert_eq!(
        elect(0, None).await,
        [(0, ErrorCode::NONE)],
        "the only one that needed it"
    );
    assert_eq!(cluster.leader("t", 0), Some(preferred[0]));
}

#[tokio::test]
async fn partitions_move_to_other_nodes_at_once_and_keep_their_records() {
    let cluster = cluster(3);
    let mut client = Client::new(&cluster, 1);
    cluster.create_topic("t", 1).unwrap();
    let first = cluster.leader("t", 0).unwrap();
    Client::new(&cluster, first)
        .produce("t", 0, batch(&[(None, Some("v"))]))
        .await;
    let mut reassign = async |replicas: Option<Vec<i32>>, may_change_count| {
        let request = AlterPartitionReassignmentsRequest {
            allow_replication_factor_change: may_change_count,
            topics: vec![ReassignableTopic {
                name: "t".into(),
                partitions: vec![ReassignablePartition {
                    replicas,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = client.ask(&request, 1).await;
        answer.responses[0].partitions[0].error_code
    };
    let invalid = ErrorCode::INVALID_REPLICA_ASSIGNMENT;
    for wrong in [vec![], vec![1, 1], vec![4]] {
        assert_eq!(reassign(Some(wrong), true).await, invalid);
    }
    assert_eq!(
        reassign(None, true).await,
        ErrorCode::NO_REASSIGNMENT_IN_PROGRESS
    );
    assert_eq!(
        reassign(Some(vec![1]), false).await,
        ErrorCode::INVALID_REPLICATION_FACTOR
    );
    let other = if first == 3 { 2 } else { 3 };
    assert_eq!(reassign(Some(vec![other]), true).await, ErrorCode::NONE);
    assert_eq!(cluster.leader("t", 0), Some(other));
    let data = Client::new(&cluster, other).fetch("t", 0, 0).await;
    assert_eq!(in_memory::records(&data).len(), 1);
    let moved = Client::new(&cluster, first).fetch("t", 0, 0).await;
    assert_eq!(moved.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let mut client = Client::new(&cluster, 1);
    let under_way = client
        .ask(&ListPartitionReassignmentsRequest::default(), 0)
        .await;
    assert!(under_way.error_code.is_ok() && under_way.topics.is_empty());
}

#[tokio::test]
async fn log_dirs_and_producers_are_shown_as_they_are() {
    let cluster = cluster(1);
    cluster.create_topic("t", 2).unwrap();
    let mut client = Client::new(&cluster, 1);
    let mut sealed = sealed(&[(None, Some("a")), (None, Some("b"))], 1000);
    sealed.stamp(77, 3, 0, false);
    let bytes = sealed.freeze();
    client.produce("t", 1, bytes.clone()).await;
    let all = DescribeLogDirsRequest {
        topics: None,
        ..Default::default()
    };
    let answer = client.ask(&all, 4).await;
    let sizes: Vec<i64> = answer.results[0].topics[0]
        .partitions
        .iter()
        .map(|partition| partition.partition_size)
        .collect();
    assert_eq!(sizes, [0, bytes.len() as i64]);
    let one = DescribeLogDirsRequest {
        topics: Some(vec![DescribableLogDirTopic {
            topic: "t".into(),
            partitions: vec![1],
            ..Default::default()
        }]),
        ..Default::default()
    };
    let answer = client.ask(&one, 1).await;
    assert_eq!(answer.results[0].topics[0].partitions.len(), 1);
    let request = DescribeProducersRequest {
        topics: vec![TopicRequest {
            name: "t".into(),
            partition_indexes: vec![0, 1, 2],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.ask(&request, 0).await;
    let [none, one, unknown] = &answer.topics[0].partitions[..] else {
        panic!("{answer:?}")
    };
    assert!(none.active_producers.is_empty());
    assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let producer = &one.active_producers[0];
    assert_eq!(
        (
            producer.producer_id,
            producer.producer_epoch,
            producer.last_sequence
        ),
        (77, 3, 1)
    );
    assert_eq!(producer.current_txn_start_offset, -1);
}

#[tokio::test]
async fn what_there_is_none_of_is_answered_as_kafka_does() {
    let cluster = cluster(1);
    cluster.create_topic("t", 1).unwrap();
    let mut client = Client::new(&cluster, 1);
    let acls = client.ask(&DescribeAclsRequest::default(), 3).await;
    assert_eq!(acls.error_code, ErrorCode::SECURITY_DISABLED);
    assert_eq!(
        acls.error_message.as_deref(),
        Some("No Authorizer is configured.")
    );
    let quotas = client.ask(&DescribeClientQuotasRequest::default(), 1).await;
    assert_eq!(
        (quotas.error_code, quotas.entries),
        (ErrorCode::NONE, Some(Vec::new()))
    );
    let everybody = DescribeUserScramCredentialsRequest {
        users: None,
        ..Default::default()
    };
    assert!(client.ask(&everybody, 0).await.results.is_empty());
    let alice = DescribeUserScramCredentialsRequest {
        users: Some(vec![UserName {
            name: "alice".into(),
            ..Default::default()
        }]),
        ..Default::default()
    };
    let found = &client.ask(&alice, 0).await.results[0];
    assert_eq!(found.error_code, ErrorCode::RESOURCE_NOT_FOUND);
    let update = UpdateFeaturesRequest {
        feature_updates: vec![FeatureUpdateKey {
            feature: "no.such.feature".into(),
            max_version_level: 1,
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.ask(&update, 2).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_UPDATE_VERSION);
    let group = ConsumerGroupDescribeRequest {
        group_ids: vec![Str::from("g")],
        ..Default::default()
    };
    let described = &client.ask(&group, 1).await.groups[0];
    assert_eq!(described.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(
        described.error_message.as_deref(),
        Some("Group g not found.")
    );
    for (version, types, expected) in [(0, vec![], 0), (1, vec![2], 1), (1, vec![2, 4], 2)] {
        let request = ListConfigResourcesRequest {
            resource_types: types,
            ..Default::default()
        };
        let answer = client.ask(&request, version).await;
        assert_eq!(answer.config_resources.len(), expected);
    }
}

/// kafka-reassign-partitions sets these with --throttle, and unsets them with --verify.
#[tokio::test]
async fn throttles_of_a_node_can_be_set_and_unset_and_nothing_else_can() {
    let cluster = cluster(2);
    let mut client = Client::new(&cluster, 1);
    let mut alter = async |node: &str, name: &str, operation, value: Option<&str>| {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: 4,
                resource_name: node.into(),
                configs: vec![AlterableConfig {
                    name: name.into(),
                    config_operation: operation,
                    value: value.map(Into::into),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        client.ask(&request, 1).await.responses[0].error_code
    };
    let rate = "leader.replication.throttled.rate";
    assert_eq!(
        alter("2", rate, 1, None).await,
        ErrorCode::NONE,
        "it was not set"
    );
    assert_eq!(alter("2", rate, 0, Some("1000")).await, ErrorCode::NONE);
    let invalid = ErrorCode::INVALID_REQUEST;
    assert_eq!(alter("2", rate, 0, Some("fast")).await, invalid);
    assert_eq!(alter("9", rate, 0, Some("1000")).await, invalid);
    assert_eq!(alter("2", "num.partitions", 0, Some("7")).await, invalid);
    let mut client = Client::new(&cluster, 1);
    for (node, expected) in [("1", None), ("2", Some("1000"))] {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: 4,
                resource_name: node.into(),
                configuration_keys: Some(vec![rate.into()]),
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = client.ask(&request, 4).await;
        let found = answer.results[0].configs.first();
        assert_eq!(found.and_then(|found| found.value.as_deref()), expected);
    }
}
