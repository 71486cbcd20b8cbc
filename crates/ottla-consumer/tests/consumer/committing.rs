//! What becomes of commits that are still under way when something ends, over scripted brokers and with a paused clock.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ottla_consumer::{
    CommitOutcome, CommittedOffset, Consumer, ConsumerConfig, Error, ListenerFuture, Offset,
    RebalanceListener, TopicPartition,
};
use ottla_net::testing::{Reply, ScriptedCluster};
use ottla_wire::{
    ErrorCode,
    messages::offset_commit::{OffsetCommitRequest, OffsetCommitResponse},
};
use tokio::time::{Instant, sleep, timeout};

use crate::support::*;

const SOON: Duration = Duration::from_secs(1);

fn events(world: &Shared) -> Vec<String> {
    std::mem::take(&mut world.lock().unwrap().events)
}

fn by_hand() -> ConsumerConfig {
    ConsumerConfig {
        enable_auto_commit: false,
        ..group_config()
    }
}

/// The coordinator loads its offsets for as long, and takes no commit meanwhile.
fn load(cluster: &ScriptedCluster, world: &Shared, time: Duration) {
    let (until, world) = (Instant::now() + time, world.clone());
    let broker = cluster.broker(1);
    broker.on::<OffsetCommitRequest>(move |request, _| {
        let error = match Instant::now() < until {
            true => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            false => ErrorCode::NONE,
        };
        world.lock().unwrap().commit(&request, error).into()
    });
}

/// Reads both records there are, comes back for more, and lets automatic commit begin to write that while the coordinator
/// loads for as long.
async fn begin_to_commit(cluster: &ScriptedCluster, world: &Shared, time: Duration) -> Consumer {
    append(world, 0, 2);
    let consumer = consumer(cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    assert!(consumer.poll(SOON).await.unwrap().is_empty());
    load(cluster, world, time);
    sleep(Duration::from_secs(6)).await;
    assert!(!events(world).iter().any(|e| e.starts_with("commit")));
    consumer
}

#[tokio::test(start_paused = true)]
async fn a_commit_ends_with_the_consumer() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    let broker = cluster.broker(1);
    broker.on::<OffsetCommitRequest>(|_, _| Reply::Silence);
    let other = consumer.clone();
    let waiting = tokio::spawn(async move { other.commit().await });
    let nobody_waits = consumer.commit_async().unwrap();
    sleep(SOON).await;
    let closed = consumer.close(Duration::from_secs(5)).await;
    assert!(matches!(closed, Err(Error::Timeout { .. })), "{closed:?}");
    let outcome = timeout(SOON, waiting).await.expect("it waits for ever");
    assert!(matches!(outcome.unwrap(), Err(Error::Closed)));
    let outcome = timeout(SOON, nobody_waits).await;
    assert!(matches!(outcome, Ok(Err(Error::Closed))));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_outlives_the_consumer_commits_nothing() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let consumer = consumer(&cluster, by_hand());
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    let mut partitions = consumer.split().unwrap();
    let mut stream = partitions.next_partition().await.unwrap();
    assert!(stream.recv().await.unwrap().is_some());
    consumer.close(SOON).await.unwrap();
    let outcome = timeout(SOON, stream.commit()).await;
    let outcome = outcome.expect("it waits for ever");
    assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
    assert!(events(&world).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_close_waits_for_the_commit_that_is_under_way() {
    let (cluster, world) = start(1, 1);
    let consumer = begin_to_commit(&cluster, &world, Duration::from_secs(12)).await;
    consumer.close(Duration::from_secs(20)).await.unwrap();
    assert_eq!(events(&world), ["commit 0@2", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn a_close_says_that_the_commit_under_way_was_not_answered() {
    let (cluster, world) = start(1, 1);
    let consumer = begin_to_commit(&cluster, &world, Duration::from_secs(60)).await;
    let closed = consumer.close(Duration::from_secs(4)).await;
    assert!(matches!(closed, Err(Error::Timeout { .. })), "{closed:?}");
    assert_eq!(events(&world), ["leave"]);
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_waits_for_the_commit_that_is_under_way() {
    let (cluster, world) = start(1, 1);
    let consumer = begin_to_commit(&cluster, &world, Duration::from_secs(12)).await;
    events(&world);
    world.lock().unwrap().heartbeat = ErrorCode::REBALANCE_IN_PROGRESS;
    assert!(
        timeout(Duration::from_secs(20), consumer.recv())
            .await
            .is_err()
    );
    assert_eq!(events(&world), ["commit 0@2", "join", "sync"]);
}

#[tokio::test(start_paused = true)]
async fn commits_of_the_applications_own_come_before_the_end() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let consumer = consumer(&cluster, by_hand());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 1).await;
    events(&world);
    load(&cluster, &world, Duration::from_secs(6));
    drop(consumer.commit_async().unwrap());
    world.lock().unwrap().heartbeat = ErrorCode::REBALANCE_IN_PROGRESS;
    sleep(Duration::from_secs(4)).await;
    read(&consumer, 1).await;
    assert_eq!(events(&world), ["commit 0@1", "join", "sync"]);

    load(&cluster, &world, Duration::from_secs(2));
    drop(consumer.commit_async().unwrap());
    consumer.unsubscribe().await.unwrap();
    assert_eq!(events(&world), ["commit 0@2"]);
    sleep(SOON).await;
    assert_eq!(events(&world), ["leave"]);

    append(&world, 0, 2);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    events(&world);
    load(&cluster, &world, Duration::from_secs(2));
    drop(consumer.commit_async().unwrap());
    consumer.close(Duration::from_secs(20)).await.unwrap();
    assert_eq!(events(&world), ["commit 0@4", "leave"]);
}

/// The coordinator says of these topics, to which commits are made, that it does not know them.
fn forget(cluster: &ScriptedCluster, world: &Shared, forgotten: &'static [&'static str]) {
    let world = world.clone();
    let broker = cluster.broker(1);
    broker.on::<OffsetCommitRequest>(move |request, _| {
        let mut world = world.lock().unwrap();
        let mut topics = Vec::new();
        for topic in request.topics {
            let error = match forgotten.contains(&&*topic.name) {
                true => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                false => ErrorCode::NONE,
            };
            let alone = OffsetCommitRequest {
                topics: vec![topic],
                ..Default::default()
            };
            topics.extend(world.commit(&alone, error).topics);
        }
        OffsetCommitResponse {
            topics,
            ..Default::default()
        }
        .into()
    });
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_a_topic_that_does_not_exist_holds_up_no_other() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let consumer = consumer(&cluster, by_hand());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 1).await;
    forget(&cluster, &world, &["gone"]);
    let started = Instant::now();
    let gone = TopicPartition::new("gone", 0);
    let vain = consumer
        .commit_offsets_async([(gone.clone(), 7.into())])
        .unwrap();
    for _ in 0..3 {
        sleep(SOON / 10).await;
        let before = Instant::now();
        consumer.commit().await.unwrap();
        assert!(before.elapsed() < SOON / 10, "{:?}", before.elapsed());
    }
    let error = timeout(SOON * 5, vain)
        .await
        .expect("it goes on")
        .unwrap_err();
    let Error::CommitRefused {
        partition: Some(partition),
        error: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(*partition, gone);
    assert!(!error.is_retriable());
    assert!(error.to_string().contains("deleted"), "{error}");
    assert!(
        started.elapsed() >= SOON,
        "it may have been created just now"
    );

    // The cluster knows it, and the coordinator will.
    cluster.add_topic("gone", 1);
    let patient = consumer.commit_offsets_async([(gone, 7.into())]).unwrap();
    sleep(SOON * 10).await;
    forget(&cluster, &world, &[]);
    timeout(SOON * 5, patient).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_deleted_delays_neither_a_rebalance_nor_a_close() {
    for closes in [true, false] {
        let (cluster, world) = start(1, 1);
        append(&world, 0, 2);
        let consumer = consumer(&cluster, group_config());
        consumer.subscribe([TOPIC]).unwrap();
        read(&consumer, 2).await;
        events(&world);
        cluster.remove_topic(TOPIC);
        forget(&cluster, &world, &[TOPIC]);
        let started = Instant::now();
        if closes {
            consumer.close(SOON * 60).await.unwrap();
        } else {
            world.lock().unwrap().heartbeat = ErrorCode::REBALANCE_IN_PROGRESS;
            while !world.lock().unwrap().events.contains(&"sync".to_owned()) {
                // It is there, and may be told that the topic is not.
                drop(consumer.poll(SOON / 10).await);
                assert!(started.elapsed() < SOON * 20, "it still waits");
            }
        }
        assert!(started.elapsed() < SOON * 10, "{:?}", started.elapsed());
    }
}

/// Begins to commit, and does not wait for it.
#[derive(Debug)]
struct Hasty;

impl RebalanceListener for Hasty {
    fn partitions_revoked<'a>(
        &'a self,
        consumer: &'a Consumer,
        _: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        Box::pin(async { drop(consumer.commit_async().unwrap()) })
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_listener_begins_to_commit_comes_before_the_end() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let config = ConsumerConfig {
        rebalance_listener: Some(Arc::new(Hasty)),
        ..by_hand()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 1).await;
    events(&world);
    load(&cluster, &world, Duration::from_secs(6));
    world.lock().unwrap().heartbeat = ErrorCode::REBALANCE_IN_PROGRESS;
    sleep(Duration::from_secs(4)).await;
    read(&consumer, 1).await;
    assert_eq!(events(&world), ["commit 0@1", "join", "sync"]);
    load(&cluster, &world, Duration::from_secs(2));
    consumer.close(Duration::from_secs(20)).await.unwrap();
    assert_eq!(events(&world), ["commit 0@2", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_behind_its_callers_back_is_made_again() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let config = ConsumerConfig {
        enable_auto_offset_store: false,
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    let record = consumer.recv().await.unwrap();
    consumer.store_offset(&record).unwrap();
    let (w, mut first) = (world.clone(), true);
    let broker = cluster.broker(1);
    broker.on::<OffsetCommitRequest>(move |request, _| {
        let error = match std::mem::take(&mut first) {
            true => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            false => ErrorCode::NONE,
        };
        Reply::after(SOON, w.lock().unwrap().commit(&request, error))
    });
    let given_up = timeout(SOON / 10, consumer.commit_stored()).await;
    assert!(given_up.is_err());
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.lock().unwrap().committed.get(&0), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn what_is_read_again_up_to_where_it_was_is_committed_again() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 4);
    let config = ConsumerConfig {
        auto_commit_interval: Duration::from_secs(5),
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 4).await;
    let done = async || assert!(consumer.poll(SOON).await.unwrap().is_empty());
    done().await;
    sleep(Duration::from_secs(6)).await;
    let committed = || world.lock().unwrap().committed.get(&0).copied();
    assert_eq!(committed(), Some(4));
    consumer.seek(&tp(0), Offset::At(2)).unwrap();
    consumer.commit().await.unwrap();
    assert_eq!(committed(), Some(2));
    read(&consumer, 2).await;
    done().await;
    sleep(Duration::from_secs(6)).await;
    assert_eq!(committed(), Some(4), "by the timer");

    consumer.seek(&tp(0), Offset::At(3)).unwrap();
    consumer.commit().await.unwrap();
    read(&consumer, 1).await;
    consumer.close(SOON).await.unwrap();
    assert_eq!(committed(), Some(4), "on close");
}

/// What a listener heard: whether automatic, the offsets by partition, and the outcome.
type Heard = Arc<Mutex<Vec<String>>>;

fn listening(config: ConsumerConfig) -> (ConsumerConfig, Heard) {
    let heard = Heard::default();
    let notes = heard.clone();
    let listener = move |outcome: &CommitOutcome| {
        let offsets = outcome.offsets.iter();
        let offsets: Vec<_> = offsets
            .map(|(name, committed)| (name.partition, committed.offset))
            .collect();
        let result = match &outcome.result {
            Ok(()) => "stored",
            Err(Error::CommitRefused { .. }) => "refused",
            Err(Error::Timeout { .. }) => "not sent",
            Err(Error::CommitUnknown { .. }) => "unknown",
            Err(Error::Closed) => "closed",
            Err(error) => panic!("{error}"),
        };
        let by = if outcome.automatic {
            "timer"
        } else {
            "application"
        };
        let mut notes = notes.lock().unwrap();
        notes.push(format!("{by} {offsets:?} {result}"));
        if outcome.automatic && matches!(outcome.result, Err(Error::CommitRefused { .. })) {
            drop(notes);
            panic!("the listener is not up to that");
        }
    };
    let config = ConsumerConfig {
        commit_listener: Some(Arc::new(listener)),
        ..config
    };
    (config, heard)
}

fn take(heard: &Heard) -> Vec<String> {
    std::mem::take(&mut heard.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_listener_hears_what_becomes_of_every_commit_whoever_began_it() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 2);
    let (config, heard) = listening(group_config());
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    let done = async || assert!(consumer.poll(SOON).await.unwrap().is_empty());
    done().await;
    sleep(Duration::from_secs(6)).await;
    assert_eq!(take(&heard), ["timer [(0, 2)] stored"]);
    // Nobody waits for this one; that one has both partitions, of which one was never read.
    drop(consumer.commit_async().unwrap());
    sleep(SOON).await;
    let all = take(&heard);
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].starts_with("application [(0, 2)"), "{all:?}");
    assert!(all[0].ends_with("stored"), "{all:?}");

    // The coordinator refuses; the listener panics, and goes on to hear.
    append(&world, 0, 1);
    let w = world.clone();
    let broker = cluster.broker(1);
    broker.on::<OffsetCommitRequest>(move |request, _| {
        let error = ErrorCode::GROUP_AUTHORIZATION_FAILED;
        w.lock().unwrap().commit(&request, error).into()
    });
    read(&consumer, 1).await;
    done().await;
    sleep(Duration::from_secs(6)).await;
    let heard_of = take(&heard);
    assert_eq!(heard_of.first().unwrap(), "timer [(0, 3)] refused");
    consumer
        .commit_offsets([(
            tp(0),
            CommittedOffset {
                offset: 1,
                ..CommittedOffset::default()
            },
        )])
        .await
        .unwrap_err();
    sleep(SOON).await;
    let heard_of = take(&heard);
    assert_eq!(heard_of.first().unwrap(), "application [(0, 1)] refused");
}

#[tokio::test(start_paused = true)]
async fn a_listener_hears_of_commits_that_end_with_their_time_or_the_consumer() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let (config, heard) = listening(by_hand());
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    let record = consumer.recv().await.unwrap();
    load(&cluster, &world, Duration::from_secs(600));
    drop(consumer.commit_async().unwrap());
    sleep(SOON).await;
    assert_eq!(take(&heard), Vec::<String>::new());
    // A second one waits behind the first, and is not answered in time; the first one may be stored.
    let late = consumer.commit_record(&record).await.unwrap_err();
    assert!(
        matches!(late, Error::Timeout { .. } | Error::CommitUnknown { .. }),
        "{late}"
    );
    assert_eq!(take(&heard).len(), 2);
    drop(consumer.commit_async().unwrap());
    consumer.close(SOON).await.unwrap_err();
    assert_eq!(take(&heard), ["application [(0, 1)] closed"]);
}
