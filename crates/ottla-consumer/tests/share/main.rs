//! Share consumers against a scripted broker, over a network in memory and with a paused clock.
#![allow(clippy::unwrap_used)]

mod broker;
mod hostile;

use std::{
    collections::BTreeSet,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use broker::{GROUP, Shared, TOPIC, start};
use futures_core::Stream;
use ottla_consumer::{
    AcknowledgeOutcome, AcknowledgeType, Error, ShareAcknowledgementMode, ShareConsumer,
    ShareConsumerConfig,
};
use ottla_net::testing::{Reply, ScriptedCluster};
use ottla_wire::{
    ErrorCode,
    messages::{
        share_acknowledge::ShareAcknowledgeRequest,
        share_fetch::{ShareFetchRequest, ShareFetchResponse},
    },
};
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

fn config(mode: ShareAcknowledgementMode) -> ShareConsumerConfig {
    ShareConsumerConfig {
        group_id: GROUP.into(),
        acknowledgement_mode: mode,
        ..Default::default()
    }
}

fn member(cluster: &ScriptedCluster, config: ShareConsumerConfig) -> ShareConsumer {
    let consumer = ShareConsumer::new(cluster.connect(), config).unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    consumer
}

const IMPLICIT: ShareAcknowledgementMode = ShareAcknowledgementMode::Implicit;
const EXPLICIT: ShareAcknowledgementMode = ShareAcknowledgementMode::Explicit;

#[tokio::test(start_paused = true)]
async fn dropped_calls_lose_no_record() {
    for mode in [IMPLICIT, EXPLICIT] {
        let (cluster, world) = start(40);
        let consumer = member(&cluster, config(mode));
        let (mut seen, mut dropped) = (Vec::new(), 0);
        while seen.len() < 40 {
            match timeout(Duration::from_millis(3), consumer.recv()).await {
                Ok(record) => {
                    let record = record.unwrap();
                    assert_eq!(record.delivery_count(), 1);
                    seen.push(record.offset());
                    if mode == EXPLICIT {
                        consumer
                            .acknowledge(&record, AcknowledgeType::Accept)
                            .unwrap();
                    }
                }
                Err(_) => dropped += 1,
            }
        }
        // A commit that nobody waits for is made all the same.
        drop(timeout(Duration::from_millis(1), consumer.commit()).await);
        assert!(dropped > 0);
        assert_eq!(seen, (0..40).collect::<Vec<_>>());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(accepted(&world), (0..40).collect());
        consumer.close(PATIENCE).await.unwrap();
    }
}

fn accepted(world: &Shared) -> BTreeSet<i64> {
    world.lock().unwrap().accepted.clone()
}

#[tokio::test(start_paused = true)]
async fn waiting_costs_a_request_per_long_poll_and_not_waiting_costs_none() {
    let (cluster, world) = start(0);
    let consumer = member(&cluster, config(IMPLICIT));
    assert!(consumer.poll(PATIENCE).await.unwrap().is_empty());
    let (fetches, beats) = {
        let world = world.lock().unwrap();
        (world.fetches, world.heartbeats)
    };
    assert!((110..=125).contains(&fetches), "{fetches}");
    assert!((12..=14).contains(&beats), "{beats}");
    tokio::time::sleep(PATIENCE).await;
    let fetches = world.lock().unwrap().fetches - fetches;
    assert!(fetches <= 2, "{fetches}");
    consumer.close(PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_refuses_all_is_asked_ever_less() {
    let codes = [
        ErrorCode::SHARE_SESSION_NOT_FOUND,
        ErrorCode::INVALID_SHARE_SESSION_EPOCH,
        ErrorCode::SHARE_SESSION_LIMIT_REACHED,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ];
    for code in codes {
        let (cluster, _world) = start(5);
        let asked = Arc::<AtomicUsize>::default();
        let count = asked.clone();
        cluster.broker(1).on::<ShareFetchRequest>(move |_, _| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Reply::from(ShareFetchResponse {
                error_code: code,
                ..Default::default()
            })
        });
        let consumer = member(&cluster, config(IMPLICIT));
        let until = Instant::now() + PATIENCE;
        let mut told = 0;
        while Instant::now() < until {
            told += usize::from(consumer.poll(PATIENCE).await.is_err());
        }
        let asked = asked.load(std::sync::atomic::Ordering::Relaxed);
        assert!((50..90).contains(&asked), "{code}: {asked} in a minute");
        assert!(told <= 1, "{code}: told {told} times");
        consumer.close(PATIENCE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_fenced_joins_again_and_reads_on() {
    let (cluster, world) = start(10);
    let consumer = member(&cluster, config(IMPLICIT));
    assert_eq!(consumer.recv().await.unwrap().offset(), 0);
    world.lock().unwrap().heartbeat = ErrorCode::FENCED_MEMBER_EPOCH;
    // Less than a lock lasts.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let mut last = 0;
    while last < 9 {
        let next = timeout(PATIENCE, consumer.recv()).await.unwrap();
        last = next.unwrap().offset();
    }
    assert_eq!(world.lock().unwrap().joins, 2);
    consumer.close(PATIENCE).await.unwrap();
    assert_eq!(world.lock().unwrap().leaves, 1);
}

#[tokio::test(start_paused = true)]
async fn closing_says_what_was_said_gives_the_rest_back_and_leaves() {
    let (cluster, world) = start(10);
    let consumer = member(&cluster, config(EXPLICIT));
    let records = consumer.poll(PATIENCE).await.unwrap();
    assert_eq!(records.len(), 10);
    for record in &records[..4] {
        consumer
            .acknowledge(record, AcknowledgeType::Accept)
            .unwrap();
    }
    consumer.close(PATIENCE).await.unwrap();
    assert_eq!(accepted(&world), (0..4).collect());
    assert_eq!(world.lock().unwrap().acquired.len(), 0);
    assert_eq!(world.lock().unwrap().leaves, 1);
    assert!(matches!(consumer.recv().await, Err(Error::Closed)));
    let late = consumer.acknowledge(&records[5], AcknowledgeType::Accept);
    assert!(matches!(late, Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_does_the_same_and_the_group_can_be_joined_again() {
    let (cluster, world) = start(10);
    let consumer = member(&cluster, config(EXPLICIT));
    let records = consumer.poll(PATIENCE).await.unwrap();
    consumer
        .acknowledge(&records[0], AcknowledgeType::Accept)
        .unwrap();
    consumer.unsubscribe().unwrap();
    assert!(
        consumer
            .poll(Duration::from_secs(2))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(accepted(&world), BTreeSet::from([0]));
    assert_eq!(world.lock().unwrap().leaves, 1);
    let late = consumer.acknowledge(&records[1], AcknowledgeType::Accept);
    assert!(matches!(late, Err(Error::NotHeld { .. })), "{late:?}");
    // At once after another one, too.
    world.lock().unwrap().leaves = 0;
    consumer.subscribe([TOPIC]).unwrap();
    let again = consumer.poll(PATIENCE).await.unwrap();
    assert_eq!((again[0].offset(), again[0].delivery_count()), (1, 2));
    consumer.unsubscribe().unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    assert_eq!(consumer.poll(PATIENCE).await.unwrap().len(), 9);
    consumer.close(PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_does_the_same() {
    let (cluster, world) = start(10);
    let consumer = member(&cluster, config(EXPLICIT));
    assert_eq!(consumer.poll(PATIENCE).await.unwrap().len(), 10);
    drop(consumer);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let world = world.lock().unwrap();
    assert_eq!((world.acquired.len(), world.leaves), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn closing_ends_at_its_deadline_when_a_broker_is_silent() {
    let (cluster, _world) = start(10);
    let consumer = member(&cluster, config(EXPLICIT));
    consumer.recv().await.unwrap();
    cluster
        .broker(1)
        .on::<ShareAcknowledgeRequest>(|_, _| Reply::Silence);
    let since = Instant::now();
    let closed = consumer.close(Duration::from_secs(2)).await;
    assert!(matches!(closed, Err(Error::Timeout { .. })), "{closed:?}");
    assert_eq!(since.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_whose_answer_is_lost_fail_and_are_told() {
    let (cluster, world) = start(10);
    let told = Arc::<Mutex<Vec<AcknowledgeOutcome>>>::default();
    let tell = told.clone();
    let consumer = member(
        &cluster,
        ShareConsumerConfig {
            acknowledge_listener: Some(Arc::new(move |outcome: &AcknowledgeOutcome| {
                tell.lock().unwrap().push(outcome.clone());
            })),
            ..config(EXPLICIT)
        },
    );
    let records = consumer.poll(PATIENCE).await.unwrap();
    cluster
        .broker(1)
        .on::<ShareAcknowledgeRequest>(|_, _| Reply::Close);
    consumer
        .acknowledge(&records[0], AcknowledgeType::Accept)
        .unwrap();
    let failed = consumer.commit_all().await;
    assert!(
        matches!(failed, Err(Error::AcknowledgeFailed { .. })),
        "{failed:?}"
    );
    assert!(
        told.lock()
            .unwrap()
            .iter()
            .all(|outcome| outcome.result.is_err())
    );
    // The broker has released the rest with the connection.
    let lost = consumer.acknowledge(&records[1], AcknowledgeType::Accept);
    assert!(matches!(lost, Err(Error::NotHeld { .. })), "{lost:?}");
    world.lock().unwrap().acquired.clear();
    let again = consumer.poll(PATIENCE).await.unwrap();
    assert_eq!(again[0].delivery_count(), 2);
    drop(consumer);
}

/// As with the other consumer: a task that waits for several things, and is busy with another one for long.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_put_aside_counts_as_waiting_until_there_is_a_record() {
    let (cluster, world) = start(0);
    let consumer = member(
        &cluster,
        ShareConsumerConfig {
            max_poll_interval: Duration::from_secs(30),
            ..config(EXPLICIT)
        },
    );
    let mut stream = consumer.stream();
    let next = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx));
    assert!(timeout(PATIENCE, next).await.is_err());
    tokio::time::sleep(PATIENCE).await;
    let leaves = || world.lock().unwrap().leaves;
    assert_eq!(leaves(), 0);
    world.lock().unwrap().records = 4;
    tokio::time::sleep(PATIENCE / 3).await;
    assert_eq!(leaves(), 0);
    tokio::time::sleep(PATIENCE / 3).await;
    assert_eq!(leaves(), 1, "there is one, and it does not come");
    world.lock().unwrap().leaves = 0;
    world.lock().unwrap().acquired.clear();
    let next = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx));
    let record = timeout(PATIENCE, next).await.unwrap().unwrap().unwrap();
    assert_eq!(record.offset(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_commit_ends_with_the_consumer() {
    let (cluster, _world) = start(3);
    let consumer = member(&cluster, config(IMPLICIT));
    consumer.recv().await.unwrap();
    cluster
        .broker(1)
        .on::<ShareAcknowledgeRequest>(|_, _| Reply::Silence);
    let other = consumer.clone();
    let commit = tokio::spawn(async move { other.commit().await });
    let second = Duration::from_secs(1);
    tokio::time::sleep(second).await;
    let closed = consumer.close(second).await;
    assert!(matches!(closed, Err(Error::Timeout { .. })), "{closed:?}");
    let outcome = timeout(second, commit).await.expect("it waits for ever");
    assert!(matches!(outcome.unwrap(), Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_costs_nothing() {
    let (cluster, world) = start(12);
    let consumer = member(
        &cluster,
        ShareConsumerConfig {
            acknowledge_listener: Some(Arc::new(|_: &AcknowledgeOutcome| panic!("not today"))),
            ..config(IMPLICIT)
        },
    );
    let mut seen = Vec::new();
    while seen.len() < 12 {
        let record = timeout(PATIENCE, consumer.recv()).await;
        seen.push(record.expect("it hangs").unwrap().offset());
        // Sent and told in the background.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(seen, (0..12).collect::<Vec<_>>());
    consumer.commit_all().await.unwrap();
    consumer.close(PATIENCE).await.unwrap();
    assert_eq!(accepted(&world), (0..12).collect());
}

#[tokio::test(start_paused = true)]
async fn a_listener_may_call_the_consumer() {
    let (cluster, _world) = start(3);
    let slot = Arc::<Mutex<Option<ShareConsumer>>>::default();
    let (inside, calls) = (slot.clone(), Arc::<AtomicUsize>::default());
    let count = calls.clone();
    let consumer = member(
        &cluster,
        ShareConsumerConfig {
            acknowledge_listener: Some(Arc::new(move |_: &AcknowledgeOutcome| {
                let consumer = inside.lock().unwrap().clone();
                if let Some(consumer) = consumer {
                    consumer.commit_async().unwrap();
                    assert_eq!(consumer.assignment().len(), 1);
                    count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            })),
            ..config(IMPLICIT)
        },
    );
    *slot.lock().unwrap() = Some(consumer.clone());
    for _ in 0..3 {
        consumer.recv().await.unwrap();
        consumer.commit().await.unwrap();
    }
    assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 3);
    *slot.lock().unwrap() = None;
    consumer.close(PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sizes_and_latencies_add_up() {
    let (cluster, world) = start(12);
    let consumer = member(&cluster, config(EXPLICIT));
    for _ in 0..12 {
        let record = timeout(PATIENCE, consumer.recv()).await;
        let record = record.expect("it hangs").unwrap();
        consumer
            .acknowledge(&record, AcknowledgeType::Accept)
            .unwrap();
    }
    let delay = Duration::from_millis(40);
    let of = world.clone();
    let acknowledged = Arc::<AtomicUsize>::default();
    let count = acknowledged.clone();
    cluster
        .broker(1)
        .on::<ShareAcknowledgeRequest>(move |request, _| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Reply::after(delay, of.lock().unwrap().acknowledge(&request))
        });
    let before = consumer.metrics().acknowledge_latency;
    consumer.commit_all().await.unwrap();
    // Long polls that bring nothing.
    assert!(consumer.poll(PATIENCE).await.unwrap().is_empty());
    let metrics = consumer.metrics();
    assert_eq!(metrics.accepted, 12);
    let latency = metrics.acknowledge_latency.since(&before);
    let requests = acknowledged.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((latency.count(), requests), (1, 1));
    assert!(
        latency.time(0.5) >= delay && latency.time(0.5) < delay * 2,
        "{latency:?}"
    );
    let sizes = &metrics.fetch_size;
    assert!(sizes.count() > 0 && sizes.count() < metrics.fetches);
    assert_eq!(sizes.sum(), metrics.fetched_bytes);
    assert_eq!(metrics.fetch_latency.count(), sizes.count());
    assert!(metrics.fetch_latency.time(1.0) < Duration::from_millis(500));
    assert!(metrics.fetch_time > Duration::from_secs(50), "{metrics:?}");
    consumer.close(PATIENCE).await.unwrap();
}
