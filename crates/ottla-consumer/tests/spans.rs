//! Spans under OpenTelemetry's names.

#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

#[path = "share/broker.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the other tests")]
mod broker;
#[path = "consumer/support.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the other tests")]
mod support;

use std::{sync::LazyLock, time::Duration};

use ottla_consumer::{
    AcknowledgeType, Consumer, ConsumerConfig, Error, Offset, ShareAcknowledgementMode,
    ShareConsumer, ShareConsumerConfig,
};
use ottla_net::testing::{ScriptedCluster, SeenSpan, SpanLog};
use ottla_wire::{
    ErrorCode,
    messages::{join_group::JoinGroupResponse, offset_commit::OffsetCommitRequest},
};
use support::{GROUP, TOPIC, append, consumer, damage, group_config, read, start, tp};

const PATIENCE: Duration = Duration::from_secs(60);

static SPANS: LazyLock<SpanLog> =
    LazyLock::new(|| SpanLog::install(&["ottla_consumer::", "test"]).unwrap());

/// What a group's consumer traced under this name; each test has a group of its own.
fn spans(group: &str, name: &str) -> Vec<SeenSpan> {
    let mut spans = SPANS.named(name);
    spans.retain(|span| {
        let of = span.fields.get("messaging.consumer.group.name");
        of.is_some_and(|of| of == group)
    });
    spans
}

/// Brokers that know this group, too.
fn start_for(group: &str) -> (ScriptedCluster, support::Shared) {
    LazyLock::force(&SPANS);
    let (cluster, world) = start(1, 2);
    cluster.set_coordinator(group, Ok(1));
    (cluster, world)
}

fn config_of(group: &str) -> ConsumerConfig {
    ConsumerConfig {
        group_id: Some(group.into()),
        enable_auto_commit: false,
        ..group_config()
    }
}

/// Without a subscription; it has read what there is.
async fn reader_of_three(
    cluster: &ScriptedCluster,
    world: &support::Shared,
    group: &str,
) -> Consumer {
    append(world, 0, 3);
    let consumer = consumer(cluster, config_of(group));
    consumer
        .assign([(tp(0), Offset::Beginning), (tp(1), Offset::Beginning)])
        .unwrap();
    assert_eq!(read(&consumer, 3).await.len(), 3);
    consumer
}

#[tokio::test(start_paused = true)]
async fn batches_are_traced_as_they_are_taken() {
    for split in [false, true] {
        let group = if split { "polls split" } else { "polls" };
        let (cluster, world) = start_for(group);
        append(&world, 0, 3);
        append(&world, 0, 5);
        append(&world, 0, 1);
        damage(&world, 0, 8);
        let consumer = consumer(&cluster, config_of(group));
        consumer.assign([(tp(0), Offset::At(1))]).unwrap();
        let caller = tracing::info_span!(target: "test", "caller");
        if split {
            let mut partitions = consumer.split().unwrap();
            let mut stream = partitions.next_partition().await.unwrap();
            for _ in 1..8 {
                stream.recv().await.unwrap().unwrap();
            }
            let error = stream.recv().await.unwrap_err();
            assert!(matches!(error, Error::Unreadable { .. }), "{error}");
        } else {
            consumer.recv().await.unwrap();
            caller.in_scope(|| {
                for _ in 2..8 {
                    consumer.try_recv().unwrap().unwrap();
                }
            });
            let error = consumer.recv().await.unwrap_err();
            assert!(matches!(error, Error::Unreadable { .. }), "{error}");
        }
        let polls = spans(group, "poll");
        assert!(polls.len() >= 3, "{polls:?}");
        polls[0].check(&[("messaging.kafka.offset", "1")]);
        // It begins before the position.
        let count = "messaging.batch.message_count";
        assert!(!polls[0].fields.contains_key(count));
        polls[1].check(&[
            ("otel.name", "poll clicks"),
            ("otel.kind", "client"),
            ("messaging.system", "kafka"),
            ("messaging.operation.name", "poll"),
            ("messaging.operation.type", "receive"),
            ("messaging.client.id", "ottla"),
            ("messaging.consumer.group.name", group),
            ("messaging.destination.name", TOPIC),
            ("messaging.destination.partition.id", "0"),
            ("messaging.kafka.offset", "3"),
            (count, "5"),
        ]);
        assert!(!polls[1].fields.contains_key("error.type"));
        if !split {
            assert_eq!(polls[1].parent, Some(caller.id().unwrap().into_u64()));
        }
        polls[2].check(&[("error.type", "UNREADABLE"), ("otel.status_code", "ERROR")]);
        assert!(polls.iter().all(|poll| poll.closed));
        assert!(caller.id().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn fetches_are_traced_with_what_they_brought() {
    let group = "fetches";
    let (cluster, world) = start_for(group);
    let _consumer = reader_of_three(&cluster, &world, group).await;
    cluster.broker(1).fall_silent();
    tokio::time::sleep(2 * PATIENCE).await;
    let fetches = spans(group, "fetch");
    let bytes: u64 = fetches
        .iter()
        .filter_map(|fetch| fetch.fields.get("bytes")?.parse::<u64>().ok())
        .sum();
    assert_eq!(bytes, world.lock().unwrap().fetched_bytes as u64);
    let brought = |fetch: &&SeenSpan| fetch.fields.get("bytes").is_some_and(|b| b != "0");
    let brought = fetches.iter().find(brought).unwrap();
    brought.check(&[("node", "1"), ("otel.name", "fetch")]);
    assert!(brought.closed && brought.parent.is_none());
    let failed = |fetch: &&SeenSpan| fetch.fields.contains_key("error.type");
    let failed = fetches.iter().find(failed).unwrap();
    failed.check(&[("error.type", "NO_ANSWER"), ("otel.status_code", "ERROR")]);
}

#[tokio::test(start_paused = true)]
async fn commits_are_traced_to_their_outcome() {
    let group = "commits";
    let (cluster, world) = start_for(group);
    let consumer = reader_of_three(&cluster, &world, group).await;
    let caller = tracing::info_span!(target: "test", "caller");
    let outcome = caller.in_scope(|| consumer.commit_async().unwrap());
    assert!(!spans(group, "commit")[0].closed);
    outcome.await.unwrap();
    let offset = |offset| ottla_consumer::CommittedOffset {
        offset,
        leader_epoch: None,
        metadata: "".into(),
    };
    consumer.commit_offsets([(tp(0), offset(2))]).await.unwrap();
    let error = ErrorCode::GROUP_AUTHORIZATION_FAILED;
    let refusing = world.clone();
    cluster
        .broker(1)
        .on::<OffsetCommitRequest>(move |request, _| {
            refusing.lock().unwrap().commit(&request, error).into()
        });
    consumer
        .commit_offsets([(tp(0), offset(1))])
        .await
        .unwrap_err();
    cluster.broker(1).fall_silent();
    consumer
        .commit_offsets([(tp(0), offset(1))])
        .await
        .unwrap_err();
    let commits = spans(group, "commit");
    let [all, one, refused, unknown] = &commits[..] else {
        panic!("{commits:?}")
    };
    assert_eq!(all.parent, Some(caller.id().unwrap().into_u64()));
    all.check(&[
        ("otel.name", "commit clicks"),
        ("messaging.operation.name", "commit"),
        ("messaging.operation.type", "settle"),
        ("messaging.destination.name", TOPIC),
        ("partitions", "2"),
    ]);
    let partition = "messaging.destination.partition.id";
    assert!(!all.fields.contains_key(partition) && !all.fields.contains_key("error.type"));
    one.check(&[(partition, "0"), ("messaging.kafka.offset", "2")]);
    refused.check(&[("error.type", "GROUP_AUTHORIZATION_FAILED")]);
    unknown.check(&[("error.type", "COMMIT_UNKNOWN")]);
    assert!(commits.iter().all(|commit| commit.closed));
}

#[tokio::test(start_paused = true)]
async fn rebalances_are_traced_from_the_first_revocation_to_the_assignment() {
    let (cluster, world) = start_for(GROUP);
    append(&world, 0, 3);
    let consumer = consumer(&cluster, config_of(GROUP));
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 1).await;
    world.lock().unwrap().heartbeat = ErrorCode::REBALANCE_IN_PROGRESS;
    tokio::time::sleep(Duration::from_secs(10)).await;
    read(&consumer, 1).await;
    // One whose outcome nobody waits for.
    cluster
        .broker(1)
        .on::<ottla_wire::messages::join_group::JoinGroupRequest>(|_, _| {
            JoinGroupResponse {
                error_code: ErrorCode::GROUP_AUTHORIZATION_FAILED,
                ..Default::default()
            }
            .into()
        });
    world.lock().unwrap().heartbeat = ErrorCode::REBALANCE_IN_PROGRESS;
    let error = loop {
        match tokio::time::timeout(PATIENCE, consumer.recv()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => break error,
            Err(_) => panic!("the refusal is not told"),
        }
    };
    assert!(matches!(error, Error::Group { .. }), "{error}");
    let rebalances = spans(GROUP, "rebalance");
    let [joined, again, refused] = &rebalances[..] else {
        panic!("{rebalances:?}")
    };
    joined.check(&[("otel.name", "rebalance"), ("partitions.assigned", "2")]);
    assert!(!joined.fields.contains_key("partitions.revoked"));
    again.check(&[("partitions.assigned", "2"), ("partitions.revoked", "2")]);
    refused.check(&[
        ("partitions.revoked", "2"),
        ("error.type", "GROUP_AUTHORIZATION_FAILED"),
    ]);
    assert!(rebalances.iter().all(|rebalance| rebalance.closed));
}

#[tokio::test(start_paused = true)]
async fn share_groups_are_traced_by_answer_and_by_acknowledging_request() {
    LazyLock::force(&SPANS);
    let group = broker::GROUP;
    let (cluster, world) = broker::start(5);
    let config = ShareConsumerConfig {
        group_id: group.into(),
        acknowledgement_mode: ShareAcknowledgementMode::Explicit,
        ..Default::default()
    };
    let consumer = ShareConsumer::new(cluster.connect(), config).unwrap();
    consumer.subscribe([broker::TOPIC]).unwrap();
    for _ in 0..5 {
        let record = consumer.recv().await.unwrap();
        consumer
            .acknowledge(&record, AcknowledgeType::Accept)
            .unwrap();
    }
    consumer.commit_all().await.unwrap();
    consumer.close(PATIENCE).await.unwrap();
    let polls = spans(group, "poll");
    let counted = |spans: &[SeenSpan]| -> u64 {
        let counts = spans.iter();
        let counts = counts.map(|span| span.fields["messaging.batch.message_count"].parse::<u64>());
        counts.map(Result::unwrap).sum()
    };
    assert_eq!(counted(&polls), 5);
    // One per answer and partition, not per record that was asked for.
    assert!(polls.len() < 5, "{polls:?}");
    polls[0].check(&[
        ("messaging.operation.type", "receive"),
        ("messaging.destination.name", broker::TOPIC),
        ("messaging.destination.partition.id", "0"),
        ("messaging.kafka.offset", "0"),
    ]);
    let acknowledged = spans(group, "acknowledge");
    assert_eq!(counted(&acknowledged), 5);
    acknowledged[0].check(&[
        ("otel.name", "acknowledge clicks"),
        ("messaging.operation.name", "acknowledge"),
        ("messaging.operation.type", "settle"),
        ("messaging.destination.partition.id", "0"),
        ("node", "1"),
    ]);
    let fetches = spans(group, "fetch");
    assert_eq!(fetches.len(), world.lock().unwrap().fetches);
    let all = [polls, acknowledged, fetches].concat();
    assert!(
        all.iter()
            .all(|span| span.closed && !span.fields.contains_key("error.type"))
    );
}
