//! Rebalances, eager and cooperative, and what the application's listener hears of them.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_core::Stream;
use ottla_consumer::{
    Bytes, Consumer, ConsumerConfig, Error, ListenerFuture, Offset, RebalanceListener, RecordBatch,
    TopicPartition, assignor::CooperativeSticky,
};
use ottla_net::testing::{Reply, ScriptedCluster};
use ottla_wire::{
    ErrorCode, decode_versioned, encode_versioned,
    messages::{
        consumer_protocol_assignment::{self, ConsumerProtocolAssignment},
        consumer_protocol_subscription::ConsumerProtocolSubscription,
        join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember},
        offset_commit::OffsetCommitRequest,
        sync_group::{SyncGroupRequest, SyncGroupResponse},
    },
};

use crate::support::*;

fn cooperative() -> ConsumerConfig {
    ConsumerConfig {
        assignors: vec![Arc::new(CooperativeSticky)],
        ..group_config()
    }
}

/// From now on the group gives these to its only member, whatever that thinks.
pub(crate) fn assign(cluster: &ScriptedCluster, world: &Shared, partitions: &[i32]) {
    let w = world.clone();
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: vec![consumer_protocol_assignment::TopicPartition {
            topic: TOPIC.into(),
            partitions: partitions.to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let assignment = encode_versioned(&assignment, 1).unwrap();
    cluster.broker(1).on::<SyncGroupRequest>(move |_, _| {
        w.lock().unwrap().events.push("sync".into());
        SyncGroupResponse {
            assignment: assignment.clone(),
            ..Default::default()
        }
        .into()
    });
}

pub(crate) fn assigned(consumer: &Consumer) -> Vec<i32> {
    let mut partitions: Vec<_> = consumer.assignment().iter().map(|p| p.partition).collect();
    partitions.sort_unstable();
    partitions
}

/// The partitions that each join claimed.
fn owned(world: &Shared) -> Vec<Vec<i32>> {
    let claims = |metadata: &Bytes| {
        let told = decode_versioned::<ConsumerProtocolSubscription>(metadata.clone());
        let owned = told.unwrap().1.owned_partitions;
        let mut owned: Vec<i32> = owned.into_iter().flat_map(|o| o.partitions).collect();
        owned.sort_unstable();
        owned
    };
    world
        .lock()
        .unwrap()
        .subscriptions
        .iter()
        .map(claims)
        .collect()
}

pub(crate) fn rebalance(world: &Shared) {
    world.lock().unwrap().heartbeat = ErrorCode::REBALANCE_IN_PROGRESS;
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_read_on_in_a_cooperative_rebalance() {
    let (cluster, world) = start(1, 3);
    for partition in 0..3 {
        append(&world, partition, 10);
    }
    assign(&cluster, &world, &[0, 1]);
    let consumer = consumer(&cluster, cooperative());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 20).await;
    world.lock().unwrap().events.clear();

    // The application is busy with the last record of one of them while the group takes partition 1 away.
    assign(&cluster, &world, &[0, 2]);
    rebalance(&world);
    tokio::time::sleep(Duration::from_secs(4)).await;
    // It comes back, and reads what it kept and what it got while the other is handed over.
    append(&world, 0, 5);
    let mut next = by_partition(&read(&consumer, 15).await);
    assert_eq!(next.remove(&0), Some((10..15).collect()));
    assert_eq!(next.remove(&2), Some((0..10).collect()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(assigned(&consumer), [0, 2]);
    let claimed = [vec![], vec![0, 1], vec![0, 2]];
    assert_eq!(owned(&world), claimed, "joined with all, then without one");
    let events = std::mem::take(&mut world.lock().unwrap().events);
    let joins = events.iter().filter(|event| *event == "join").count();
    assert_eq!(joins, 2, "{events:?}");
    assert!(
        events.contains(&"commit 1@10".to_owned()),
        "what was given up was committed: {events:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_given_up_only_when_the_application_is_done_with_it() {
    let (cluster, world) = start(1, 2);
    append(&world, 1, 3);
    assign(&cluster, &world, &[0, 1]);
    let consumer = consumer(&cluster, cooperative());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    assign(&cluster, &world, &[0]);
    rebalance(&world);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(assigned(&consumer), [0, 1], "it may be at its records");
    assert!(
        consumer.try_recv().unwrap().is_none(),
        "but gets no more of it"
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(assigned(&consumer), [0]);
    assert_eq!(world.lock().unwrap().committed[&1], 2);
    // What the application has nothing of goes without it.
    assign(&cluster, &world, &[1]);
    rebalance(&world);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(assigned(&consumer), [1]);
    assert_eq!(read(&consumer, 1).await, [(1, 2)]);
}

/// Also in the middle of a batch of what it keeps.
#[tokio::test(start_paused = true)]
async fn who_comes_again_is_done_with_what_is_given_up() {
    for by_record in [true, false] {
        let (cluster, world) = start(1, 2);
        append(&world, 0, 1_000);
        append(&world, 1, 2);
        assign(&cluster, &world, &[0, 1]);
        let (config, scribe) = listening(cooperative(), Manner::Commits);
        let consumer = consumer(&cluster, config);
        consumer.subscribe([TOPIC]).unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let batches = consumer.poll_max(10, Duration::ZERO).await.unwrap();
        let of: Vec<_> = batches.iter().map(RecordBatch::partition).collect();
        assert_eq!(of, [1, 0]);
        assert_eq!(scribe.heard(), ["assigned [0, 1]"]);
        assign(&cluster, &world, &[0]);
        rebalance(&world);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(assigned(&consumer), [0, 1], "it may be at its records");
        let next = async || match by_record {
            true => consumer.recv().await.unwrap().partition(),
            false => {
                let batches = consumer.poll_max(1, Duration::ZERO).await.unwrap();
                batches[0].partition()
            }
        };
        assert_eq!(next().await, 0);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(assigned(&consumer), [0], "by record: {by_record}");
        assert_eq!(scribe.heard()[..2], ["assigned []", "revoked [1]"]);
        append(&world, 1, 2);
        for _ in 0..900 {
            assert_eq!(next().await, 0, "nothing behind the revocation");
        }
    }
}

/// Others may have been further in between.
#[tokio::test(start_paused = true)]
async fn what_was_read_before_a_partition_went_counts_no_more_when_it_is_back() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 9);
    let config = ConsumerConfig {
        enable_auto_offset_store: false,
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    let early = consumer.recv().await.unwrap();
    let early_batch = consumer
        .poll_max(1, Duration::ZERO)
        .await
        .unwrap()
        .remove(0);
    consumer.store_offset(&early).unwrap();
    consumer.commit_batch(&early_batch).await.unwrap();
    rebalance(&world);
    tokio::time::sleep(Duration::from_secs(4)).await;
    world.lock().unwrap().committed.insert(0, 5);
    let late = consumer.recv().await.unwrap();
    let committed = || world.lock().unwrap().committed[&0];
    assert_eq!((late.offset(), committed()), (5, 5));

    let refused = consumer.store_offset(&early);
    assert!(matches!(refused, Err(Error::NotAssigned(_))), "{refused:?}");
    for refused in [
        consumer.commit_record(&early).await,
        consumer.commit_batch(&early_batch).await,
    ] {
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, Error::CommitRefused { .. }),
            "{refused:?}"
        );
    }
    assert_eq!(committed(), 5);
    consumer.store_offset(&late).unwrap();
    consumer.commit_stored().await.unwrap();
    assert_eq!(committed(), 6);

    let mut partitions = consumer.split().unwrap();
    let mut stream = partitions.next_partition().await.unwrap();
    for refused in [
        stream.commit_record(&early).await,
        stream.commit_batch(&early_batch).await,
        stream.store_offset(&early),
    ] {
        assert!(matches!(refused, Err(Error::NotAssigned(_))), "{refused:?}");
    }
    stream.commit_record(&late).await.unwrap();
    drop((stream, partitions));

    // What is assigned by hand nobody takes away.
    consumer.unsubscribe().await.unwrap();
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    let early = consumer.recv().await.unwrap();
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    consumer.store_offset(&early).unwrap();
    consumer.commit_record(&early).await.unwrap();
}

/// Writes down what it hears, and does something about it.
#[derive(Debug, Default)]
struct Scribe {
    heard: Mutex<Vec<String>>,
    manner: Manner,
}

#[derive(Debug, Default, Clone, Copy)]
enum Manner {
    #[default]
    Commits,
    Waits,
    Streams,
    Hangs,
    Panics,
    Seeks,
    Dawdles,
}

impl Scribe {
    fn note(&self, what: &str, partitions: &[TopicPartition]) {
        let mut partitions: Vec<_> = partitions.iter().map(|p| p.partition).collect();
        partitions.sort_unstable();
        self.heard
            .lock()
            .unwrap()
            .push(format!("{what} {partitions:?}"));
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

impl RebalanceListener for Scribe {
    fn partitions_assigned<'a>(
        &'a self,
        consumer: &'a Consumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        self.note("assigned", partitions);
        Box::pin(async move {
            if matches!(self.manner, Manner::Seeks) {
                // Long enough for records to have been fetched.
                tokio::time::sleep(Duration::from_secs(2)).await;
                for partition in partitions {
                    consumer.seek(partition, Offset::At(2)).unwrap();
                }
            }
        })
    }

    fn partitions_revoked<'a>(
        &'a self,
        consumer: &'a Consumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        self.note("revoked", partitions);
        Box::pin(async move {
            match self.manner {
                Manner::Streams => {
                    let mut stream = consumer.stream();
                    let next = std::future::poll_fn(|cx| Pin::new(&mut stream).poll_next(cx));
                    let refused = next.await.unwrap();
                    assert!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
                    self.note("refused", &[]);
                }
                Manner::Commits => consumer.commit().await.unwrap(),
                Manner::Waits => {
                    for refused in [
                        consumer.recv().await.map(|_| ()),
                        consumer.poll(Duration::from_secs(1)).await.map(|_| ()),
                        consumer.unsubscribe().await,
                        consumer.close(Duration::from_secs(1)).await,
                    ] {
                        assert!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
                    }
                    self.note("refused", &[]);
                }
                Manner::Hangs => std::future::pending().await,
                Manner::Panics => panic!("not today"),
                Manner::Seeks => {}
                Manner::Dawdles => tokio::time::sleep(Duration::from_secs(10)).await,
            }
        })
    }

    fn partitions_lost<'a>(
        &'a self,
        _: &'a Consumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        self.note("lost", partitions);
        Box::pin(std::future::ready(()))
    }
}

fn listening(config: ConsumerConfig, manner: Manner) -> (ConsumerConfig, Arc<Scribe>) {
    let scribe = Arc::new(Scribe {
        manner,
        ..Default::default()
    });
    let config = ConsumerConfig {
        rebalance_listener: Some(scribe.clone()),
        ..config
    };
    (config, scribe)
}

#[tokio::test(start_paused = true)]
async fn the_listener_tells_assigned_revoked_and_lost_apart_and_may_commit() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 9);
    let config = ConsumerConfig {
        enable_auto_commit: false,
        max_poll_interval: Duration::from_secs(30),
        ..group_config()
    };
    let (config, scribe) = listening(config, Manner::Commits);
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 4).await;
    assert_eq!(scribe.heard(), ["assigned [0, 1]"]);
    rebalance(&world);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(read(&consumer, 1).await, [(0, 4)], "the commit held");
    assert_eq!(scribe.heard(), ["revoked [0, 1]", "assigned [0, 1]"]);
    // The coordinator drops it, and it stays away too long.
    world.lock().unwrap().heartbeat = ErrorCode::UNKNOWN_MEMBER_ID;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(scribe.heard(), ["lost [0, 1]", "assigned [0, 1]"]);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(scribe.heard(), ["lost [0, 1]"]);
    read(&consumer, 2).await;
    assert_eq!(scribe.heard(), ["assigned [0, 1]"]);
    consumer.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!(scribe.heard(), ["revoked [0, 1]"]);
    assert_eq!(
        world.lock().unwrap().committed[&0],
        6,
        "also when it closes"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cooperative_listener_hears_of_what_changes_only() {
    let (cluster, world) = start(1, 3);
    assign(&cluster, &world, &[0, 1]);
    let (config, scribe) = listening(cooperative(), Manner::Commits);
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assign(&cluster, &world, &[1, 2]);
    rebalance(&world);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(
        scribe.heard(),
        [
            "assigned [0, 1]",
            "assigned [2]",
            "revoked [0]",
            "assigned []"
        ]
    );
    consumer.unsubscribe().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(scribe.heard(), ["revoked [1, 2]"], "and lost nothing");
}

/// The commit before a revocation says that there is nothing left to be revoked.
#[tokio::test(start_paused = true)]
async fn what_is_lost_while_it_is_given_up_is_told_once_and_as_lost() {
    for cooperates in [false, true] {
        let (cluster, world) = start(1, 1);
        append(&world, 0, 9);
        assign(&cluster, &world, &[0]);
        let config = match cooperates {
            true => cooperative(),
            false => group_config(),
        };
        let (config, scribe) = listening(config, Manner::Commits);
        let consumer = consumer(&cluster, config);
        consumer.subscribe([TOPIC]).unwrap();
        read(&consumer, 4).await;
        assert_eq!(scribe.heard(), ["assigned [0]"]);
        let w = world.clone();
        cluster
            .broker(1)
            .on::<OffsetCommitRequest>(move |request, _| {
                let refused = ErrorCode::UNKNOWN_MEMBER_ID;
                w.lock().unwrap().commit(&request, refused).into()
            });
        if cooperates {
            assign(&cluster, &world, &[]);
        }
        rebalance(&world);
        tokio::time::sleep(Duration::from_secs(4)).await;
        let _ = consumer.try_recv();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let heard = scribe.heard();
        let ends: Vec<_> = heard
            .iter()
            .filter(|heard| heard.ends_with("[0]"))
            .collect();
        assert_eq!(ends[0], "lost [0]", "{heard:?}");
        assert!(!heard.contains(&"revoked [0]".to_owned()), "{heard:?}");
    }
}

/// What arrives while the application unsubscribes, it is not told of: it would never hear of the end of it.
#[tokio::test(start_paused = true)]
async fn nothing_is_assigned_behind_the_last_revocation() {
    let (cluster, world) = start(1, 2);
    assign(&cluster, &world, &[0]);
    let (config, scribe) = listening(cooperative(), Manner::Dawdles);
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(scribe.heard(), ["assigned [0]"]);
    assign(&cluster, &world, &[0, 1]);
    rebalance(&world);
    consumer.unsubscribe().await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(scribe.heard(), ["revoked [0]"]);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_was_cut_short_is_told_again() {
    let (cluster, _world) = start(1, 1);
    let (config, scribe) = listening(group_config(), Manner::Dawdles);
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let dropped = tokio::time::timeout(Duration::from_secs(1), consumer.unsubscribe());
    dropped.await.unwrap_err();
    consumer.unsubscribe().await.unwrap();
    let revoked = "revoked [0]";
    assert_eq!(scribe.heard(), ["assigned [0]", revoked, revoked]);
}

#[tokio::test(start_paused = true)]
async fn no_listener_keeps_the_group_waiting_for_ever() {
    for (manner, slow) in [
        (Manner::Waits, false),
        (Manner::Streams, false),
        (Manner::Hangs, true),
        (Manner::Panics, false),
    ] {
        let (cluster, world) = start(1, 1);
        append(&world, 0, 2);
        let config = ConsumerConfig {
            max_poll_interval: Duration::from_secs(30),
            ..group_config()
        };
        let (config, scribe) = listening(config, manner);
        let consumer = consumer(&cluster, config);
        consumer.subscribe([TOPIC]).unwrap();
        read(&consumer, 1).await;
        rebalance(&world);
        tokio::time::sleep(Duration::from_secs(4)).await;
        let started = tokio::time::Instant::now();
        assert_eq!(read(&consumer, 1).await, [(0, 1)]);
        let took = started.elapsed();
        assert_eq!(
            took >= Duration::from_secs(30),
            slow,
            "{manner:?}: {took:?}"
        );
        assert!(took < Duration::from_secs(40), "{manner:?}: {took:?}");
        let heard = scribe.heard();
        assert_eq!(heard[..2], ["assigned [0]", "revoked [0]"]);
        assert_eq!(
            heard.contains(&"refused []".into()),
            matches!(manner, Manner::Waits | Manner::Streams)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_ends_in_time_whoever_does_not() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 4);
    let config = ConsumerConfig {
        default_api_timeout: Duration::from_secs(10),
        ..group_config()
    };
    let (config, scribe) = listening(config, Manner::Hangs);
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    let mut partitions = consumer.split().unwrap();
    let stream = partitions.next_partition().await.unwrap();
    cluster
        .broker(1)
        .on::<OffsetCommitRequest>(|_, _| Reply::Silence);
    let started = tokio::time::Instant::now();
    consumer.unsubscribe().await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    assert_eq!(scribe.heard(), ["assigned [0]", "revoked [0]"]);
    assert!(consumer.assignment().is_empty());
    // What was cut short is over: the next membership is told from its beginning.
    drop((stream, partitions));
    serve(&cluster, &world, 1);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    assert_eq!(scribe.heard(), ["assigned [0]"]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_and_goes_while_the_listener_is_busy_is_not_told_or_told_to_its_end() {
    let (cluster, world) = start(1, 2);
    let config = ConsumerConfig {
        heartbeat_interval: Duration::from_millis(500),
        ..cooperative()
    };
    let (config, scribe) = listening(config, Manner::Seeks);
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    // It is told of partition 0 for two seconds. Meanwhile the other one comes and goes.
    for partitions in [&[0][..], &[0, 1], &[0]] {
        assign(&cluster, &world, partitions);
        rebalance(&world);
        tokio::time::sleep(Duration::from_millis(600)).await;
        consumer.try_recv().unwrap();
    }
    assert_eq!(assigned(&consumer), [0, 1], "the listener is waited for");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(assigned(&consumer), [0]);
    consumer.unsubscribe().await.unwrap();
    let mut heard = scribe.heard();
    heard.retain(|heard| heard != "assigned []");
    assert_eq!(heard, ["assigned [0]", "revoked [0]"]);
}

/// A consumer that has been unsubscribing for 25 seconds: it waits for a commit that is answered after 29, and its listener
/// was told of the end.
async fn unsubscribing() -> (
    ScriptedCluster,
    Shared,
    Consumer,
    Arc<Scribe>,
    tokio::task::JoinHandle<Result<(), Error>>,
) {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 4);
    let config = ConsumerConfig {
        default_api_timeout: Duration::from_secs(32),
        ..group_config()
    };
    let (config, scribe) = listening(config, Manner::Seeks);
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    let (loading, begun) = (world.clone(), tokio::time::Instant::now());
    cluster
        .broker(1)
        .on::<OffsetCommitRequest>(move |request, _| {
            let error = match begun.elapsed() < Duration::from_secs(29) {
                true => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                false => ErrorCode::NONE,
            };
            loading.lock().unwrap().commit(&request, error).into()
        });
    drop(consumer.commit_async().unwrap());
    let leaving = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.unsubscribe().await }
    });
    // The end is told when three quarters of the time are over.
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(scribe.heard(), ["assigned [0]", "revoked [0]"]);
    (cluster, world, consumer, scribe, leaving)
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_application_leaves_is_told_to_who_subscribes_next() {
    let (cluster, world, consumer, scribe, leaving) = unsubscribing().await;
    // Its coordinator forgets it, and it joins again.
    world.lock().unwrap().heartbeat = ErrorCode::UNKNOWN_MEMBER_ID;
    leaving.await.unwrap().unwrap();
    assert!(consumer.assignment().is_empty());
    assert_eq!(scribe.heard(), Vec::<String>::new(), "it has left");
    serve(&cluster, &world, 1);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    assert_eq!(scribe.heard(), ["assigned [0]"]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_listener_hears_of_the_end_for_too_long_is_not_told() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 4);
    let (config, scribe) = listening(group_config(), Manner::Hangs);
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    let loading = world.clone();
    cluster
        .broker(1)
        .on::<OffsetCommitRequest>(move |request, _| {
            let error = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
            loading.lock().unwrap().commit(&request, error).into()
        });
    drop(consumer.commit_async().unwrap());
    let closing = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.close(Duration::from_secs(20)).await }
    });
    tokio::time::sleep(Duration::from_millis(11_500)).await;
    world.lock().unwrap().heartbeat = ErrorCode::UNKNOWN_MEMBER_ID;
    closing.await.unwrap().unwrap_err();
    assert_eq!(scribe.heard(), ["assigned [0]", "revoked [0]"]);
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_application_leaves_is_told_when_it_stays() {
    let (_cluster, world, consumer, scribe, leaving) = unsubscribing().await;
    world.lock().unwrap().heartbeat = ErrorCode::UNKNOWN_MEMBER_ID;
    // Time to join again.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(assigned(&consumer), [0]);
    assert_eq!(scribe.heard(), Vec::<String>::new());
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    assert_eq!(read(&consumer, 2).await, [(0, 2), (0, 3)]);
    assert_eq!(scribe.heard(), ["assigned [0]"], "and it may seek there");
    consumer.unsubscribe().await.unwrap();
    assert_eq!(scribe.heard(), ["revoked [0]"]);
}

#[tokio::test(start_paused = true)]
async fn who_stays_hears_of_the_end_again() {
    let (_cluster, _world, consumer, scribe, leaving) = unsubscribing().await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(assigned(&consumer), [0]);
    consumer.unsubscribe().await.unwrap();
    assert_eq!(scribe.heard(), ["revoked [0]"]);
}

#[tokio::test(start_paused = true)]
async fn a_listener_may_seek_before_the_first_record_is_handed_out() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 4);
    let (config, _) = listening(group_config(), Manner::Seeks);
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    assert_eq!(read(&consumer, 2).await, [(0, 2), (0, 3)]);
}

#[tokio::test(start_paused = true)]
async fn partitions_are_assigned_and_unassigned_one_by_one() {
    let (cluster, world) = start(1, 3);
    for partition in 0..3 {
        append(&world, partition, 4);
    }
    let consumer = consumer(&cluster, config());
    consumer
        .assign([(tp(0), Offset::Beginning), (tp(1), Offset::At(2))])
        .unwrap();
    read(&consumer, 6).await;
    consumer
        .incremental_assign([(tp(2), Offset::At(1))])
        .unwrap();
    assert_eq!(consumer.position(&tp(0)).unwrap(), Some(4), "undisturbed");
    assert_eq!(read(&consumer, 3).await, [(2, 1), (2, 2), (2, 3)]);
    let again = consumer.incremental_assign([(tp(2), Offset::Beginning)]);
    assert!(matches!(again, Err(Error::Usage(_))));
    consumer.incremental_unassign(&[tp(0)]).unwrap();
    assert!(matches!(
        consumer.incremental_unassign(&[tp(1), tp(0)]),
        Err(Error::NotAssigned(_))
    ));
    assert_eq!(assigned(&consumer), [1, 2], "all or nothing");
    for partition in 0..3 {
        append(&world, partition, 1);
    }
    let mut more = read(&consumer, 2).await;
    more.sort_unstable();
    assert_eq!(more, [(1, 4), (2, 4)]);

    let member = crate::support::consumer(&cluster, group_config());
    member.subscribe([TOPIC]).unwrap();
    let by_hand = [(tp(0), Offset::End)];
    assert!(matches!(
        member.incremental_assign(by_hand),
        Err(Error::Usage(_))
    ));
    assert!(matches!(
        member.incremental_unassign(&[]),
        Err(Error::Usage(_))
    ));
}

/// What no listener hears of any more does not keep the consumer.
#[tokio::test(start_paused = true)]
async fn a_consumer_with_a_listener_goes_when_its_last_handle_does() {
    let (cluster, world) = start(1, 1);
    let (config, scribe) = listening(group_config(), Manner::Commits);
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(consumer);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.lock().unwrap().events.last().unwrap(), "leave");
    assert_eq!(Arc::strong_count(&scribe), 1);
}

/// A member that asks about topics every second.
fn attentive(cluster: &ScriptedCluster, config: ConsumerConfig) -> Consumer {
    let mut quick = cluster.config();
    quick.metadata_max_age = Duration::from_secs(1);
    Consumer::new(cluster.connect_with(quick), config).unwrap()
}

fn joins(world: &Shared) -> usize {
    let events = std::mem::take(&mut world.lock().unwrap().events);
    events.iter().filter(|event| *event == "join").count()
}

/// KIP-814: the coordinator has it distribute nothing, and goes by what was distributed before it restarted.
#[tokio::test(start_paused = true)]
async fn a_static_leader_that_is_back_notices_that_a_topic_grows() {
    let (cluster, world) = start(1, 1);
    cluster.add_topic("others", 1);
    assign(&cluster, &world, &[0]);
    let w = world.clone();
    // The other member reads something else.
    let others = ConsumerProtocolSubscription {
        topics: vec!["others".into()],
        ..Default::default()
    };
    let others = encode_versioned(&others, 1).unwrap();
    cluster.broker(1).on::<JoinGroupRequest>(move |request, _| {
        let mut world = w.lock().unwrap();
        world.events.push("join".into());
        world.heartbeat = ErrorCode::NONE;
        let member = |id: &'static str, metadata: &Bytes| JoinGroupResponseMember {
            member_id: id.into(),
            metadata: metadata.clone(),
            ..Default::default()
        };
        JoinGroupResponse {
            generation_id: 7,
            protocol_type: Some("consumer".into()),
            protocol_name: Some(request.protocols[0].name.clone()),
            leader: "member-1".into(),
            member_id: "member-1".into(),
            members: vec![
                member("member-1", &request.protocols[0].metadata),
                member("member-2", &others),
            ],
            skip_assignment: true,
            ..Default::default()
        }
        .into()
    });
    let config = ConsumerConfig {
        group_instance_id: Some("a".into()),
        ..group_config()
    };
    let consumer = attentive(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    let waiting = tokio::spawn(async move { consumer.recv().await });
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(joins(&world), 1);
    for topic in [TOPIC, "others"] {
        cluster.grow_topic(topic, 2);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(joins(&world), 1, "{topic}");
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(joins(&world), 0);
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_grows_while_its_partitions_are_distributed_is_distributed_again() {
    let (cluster, world) = start(1, 1);
    let w = world.clone();
    cluster.broker(1).on::<SyncGroupRequest>(move |request, _| {
        w.lock().unwrap().events.push("sync".into());
        let response = SyncGroupResponse {
            assignment: request.assignments[0].assignment.clone(),
            ..Default::default()
        };
        Reply::after(Duration::from_secs(5), response)
    });
    let consumer = attentive(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    let waiting = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.recv().await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.lock().unwrap().events.last().unwrap(), "sync");
    cluster.grow_topic(TOPIC, 3);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(assigned(&consumer), [0, 1, 2]);
    assert_eq!(joins(&world), 2);
    waiting.abort();
}

/// The application's own code runs while partitions are assigned by hand.
#[tokio::test(start_paused = true)]
async fn a_subscription_and_partitions_by_hand_exclude_each_other_whichever_comes_in_between() {
    let (cluster, _) = start(1, 2);
    let by_hand = |consumer: &Consumer| {
        let consumer = consumer.clone();
        std::iter::once_with(move || {
            consumer.subscribe([TOPIC]).unwrap();
            (tp(0), Offset::Beginning)
        })
    };
    for one_by_one in [false, true] {
        let consumer = consumer(&cluster, group_config());
        let refused = match one_by_one {
            false => consumer.assign(by_hand(&consumer)),
            true => consumer.incremental_assign(by_hand(&consumer)),
        };
        assert!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
        assert_eq!(consumer.assignment(), []);
        assert_eq!(consumer.subscription(), [TOPIC]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_may_have_its_group_rebalance() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let consumer = consumer(&cluster, group_config());
    let joins = || {
        let events = std::mem::take(&mut world.lock().unwrap().events);
        events.iter().filter(|event| *event == "join").count()
    };
    let refused = consumer.enforce_rebalance().unwrap_err();
    assert!(matches!(refused, Error::Usage(_)), "{refused}");
    consumer.subscribe([TOPIC]).unwrap();
    // It is about to join: that will do.
    consumer.enforce_rebalance().unwrap();
    read(&consumer, 2).await;
    assert_eq!(joins(), 1);
    consumer.enforce_rebalance().unwrap();
    // Partitions are given up when the application comes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(joins(), 0);
    assert!(consumer.try_recv().unwrap().is_none());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(joins(), 1);
    assert_eq!(assigned(&consumer), [0]);
    consumer.close(Duration::from_secs(5)).await.unwrap();
    let refused = consumer.enforce_rebalance().unwrap_err();
    assert!(matches!(refused, Error::Closed), "{refused}");
}
