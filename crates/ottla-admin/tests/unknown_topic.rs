//! A topic that does not exist is told soon, and one that was just created is waited for.

#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_admin::{Admin, AlterConfig, NewPartitions, OffsetSpec, Resource};
use ottla_net::testing::ScriptedCluster;
use ottla_wire::ErrorCode;
use ottla_wire::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use ottla_wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResponse, DescribeConfigsResult,
};
use ottla_wire::messages::incremental_alter_configs::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use tokio::time::Instant;

const UNKNOWN: ErrorCode = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;

/// A broker that knows no topic, until it was asked about its settings so many times.
fn forgetful(known_after: usize) -> (ScriptedCluster, Admin) {
    let brokers = ScriptedCluster::start(1);
    let mut asked = 0;
    brokers
        .broker(1)
        .on::<DescribeConfigsRequest>(move |request, _| {
            asked += 1;
            let error_code = if asked > known_after {
                ErrorCode::NONE
            } else {
                UNKNOWN
            };
            let results = request
                .resources
                .into_iter()
                .map(|resource| DescribeConfigsResult {
                    error_code,
                    resource_name: resource.resource_name,
                    ..Default::default()
                });
            DescribeConfigsResponse {
                results: results.collect(),
                ..Default::default()
            }
            .into()
        });
    brokers
        .broker(1)
        .on::<IncrementalAlterConfigsRequest>(|request, _| {
            let responses = request.resources.into_iter();
            let responses = responses.map(|resource| AlterConfigsResourceResponse {
                error_code: UNKNOWN,
                resource_name: resource.resource_name,
                ..Default::default()
            });
            IncrementalAlterConfigsResponse {
                responses: responses.collect(),
                ..Default::default()
            }
            .into()
        });
    brokers
        .broker(1)
        .on::<CreatePartitionsRequest>(|request, _| {
            let results = request
                .topics
                .into_iter()
                .map(|topic| CreatePartitionsTopicResult {
                    error_code: UNKNOWN,
                    name: topic.name,
                    ..Default::default()
                });
            CreatePartitionsResponse {
                results: results.collect(),
                ..Default::default()
            }
            .into()
        });
    let admin = Admin::new(brokers.connect());
    (brokers, admin)
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_is_told_soon() {
    let (_brokers, admin) = forgetful(usize::MAX);
    let resource = Resource::Topic("orders".into());
    let start = Instant::now();

    let error = admin.describe_configs(&resource).await.unwrap_err();
    assert_eq!(error.code(), Some(UNKNOWN));
    let changes = BTreeMap::from([("retention.ms".to_owned(), AlterConfig::Delete)]);
    let error = admin
        .alter_configs(&resource, &changes, false)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(UNKNOWN));
    let more = NewPartitions {
        topic: "orders".into(),
        count: 9,
        ..Default::default()
    };
    let results = admin.create_partitions(&[more], false).await;
    assert_eq!(results[0].1.as_ref().unwrap_err().code(), Some(UNKNOWN));
    let results = admin
        .list_offsets(&[("orders", 0, OffsetSpec::Latest)])
        .await;
    assert_eq!(results[0].1.as_ref().unwrap_err().code(), Some(UNKNOWN));

    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_just_created_is_waited_for() {
    let (_brokers, admin) = forgetful(2);
    let resource = Resource::Topic("orders".into());
    admin.describe_configs(&resource).await.unwrap();
}
