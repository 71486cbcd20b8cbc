//! What a program awaits may be awaited in a task of its own: every future can move between threads.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use ottla::ErrorCode;
use ottla::admin::{AlterConfig, NewPartitions, NewTopic, OffsetSpec, Resource};
use ottla::prelude::*;
use ottla::producer::SendError;
use ottla::testing::{ApiKey, Fault, Rule, TestCluster};

#[tokio::test]
async fn administration_works_in_tasks() {
    let cluster = TestCluster::in_memory().unwrap();
    let admin = cluster.client().unwrap().admin();
    let all = tokio::spawn(async move {
        let topics = [NewTopic::new("t").partitions(1)];
        admin.create_topics(&topics, false).await[0]
            .1
            .as_ref()
            .unwrap();
        let more = [NewPartitions {
            topic: "t".into(),
            count: 2,
            assignments: Vec::new(),
        }];
        admin.create_partitions(&more, false).await[0]
            .1
            .as_ref()
            .unwrap();
        assert_eq!(admin.list_topics().await.unwrap().len(), 1);
        let described = admin.describe_topics(&["t"]).await;
        assert_eq!(described[0].1.as_ref().unwrap().partitions.len(), 2);
        let resource = Resource::Topic("t".into());
        let change = AlterConfig::Set("1234567".into());
        let changes = BTreeMap::from([("retention.ms".to_owned(), change)]);
        admin
            .alter_configs(&resource, &changes, false)
            .await
            .unwrap();
        let configs = admin.describe_configs(&resource).await.unwrap();
        let value = configs.iter().find(|entry| entry.name == "retention.ms");
        assert_eq!(value.unwrap().value.as_deref(), Some("1234567"));
        assert_eq!(admin.describe_cluster().await.unwrap().brokers.len(), 1);
        let asked = [("t", 0, OffsetSpec::Latest)];
        let listed = admin.list_offsets(&asked).await;
        assert_eq!(listed[0].1.as_ref().unwrap().offset, Some(0));
        assert!(admin.list_groups().await.unwrap().is_empty());
        assert!(admin.describe_groups(&["none"]).await[0].1.is_err());
        assert!(admin.group_offsets("none").await.unwrap().is_empty());
        assert!(admin.share_group_offsets("none").await.unwrap().is_empty());
        let starts = [("t", 0, 0)];
        let set = admin.alter_share_group_offsets("shared", &starts).await;
        set[0].1.as_ref().unwrap();
        let forgotten = admin.delete_share_group_offsets("shared", &["t"]).await;
        forgotten[0].1.as_ref().unwrap();
        admin.delete_topics(&["t"]).await[0].1.as_ref().unwrap();
    });
    all.await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_transaction_is_run_in_a_task() {
    let cluster = TestCluster::builder().topic("t", 1).in_memory().unwrap();
    let client = cluster
        .client_builder()
        .set("transactional.id", "x")
        .build()
        .unwrap();
    let task = tokio::spawn(async move {
        let mut producer = client.transactional_producer().await.unwrap();
        producer
            .run(3, async |transaction: &Transaction<'_>| {
                let values = vec!["a".to_owned(), "b".to_owned()];
                for value in &values {
                    let _sent = transaction
                        .send(ProducerRecord::to("t").value(value))
                        .await?;
                }
                Ok::<_, SendError>(())
            })
            .await
            .unwrap();
        producer.close(Duration::from_secs(10)).await.unwrap();
    });
    task.await.unwrap();
    assert_eq!(cluster.values("t"), [b"a".to_vec(), b"b".to_vec()]);
    cluster.stop().await;
}

#[tokio::test]
async fn attempts_at_a_transaction_borrow_from_their_task() {
    let cluster = TestCluster::builder().topic("t", 1).in_memory().unwrap();
    let client = cluster
        .client_builder()
        .set("transactional.id", "x")
        .build()
        .unwrap();
    // The first record is refused, so that its transaction must be aborted.
    cluster.inject(Rule {
        api: ApiKey::Produce,
        node: None,
        skip: 0,
        times: 1,
        fault: Fault::Answer(ErrorCode::TRANSACTION_ABORTABLE),
    });
    let task = tokio::spawn(async move {
        let mut producer = client.transactional_producer().await.unwrap();
        let values = vec!["a".to_owned(), "b".to_owned()];
        let mut tried = Vec::new();
        let mut attempts = producer.attempts(3);
        let count = loop {
            let transaction = attempts.begin().await.unwrap();
            tried.push(transaction.number());
            let work = async {
                for value in &values {
                    let _sent = transaction
                        .send(ProducerRecord::to("t").value(value))
                        .await?;
                }
                tried.push(0);
                Ok::<_, SendError>(values.len())
            };
            let done = work.await;
            if let Some(count) = transaction.finish(done).await.unwrap() {
                break count;
            }
        };
        assert_eq!((count, tried.contains(&2)), (2, true), "{tried:?}");
        producer.close(Duration::from_secs(10)).await.unwrap();
    });
    task.await.unwrap();
    assert_eq!(cluster.values("t"), [b"a".to_vec(), b"b".to_vec()]);
    cluster.stop().await;
}
