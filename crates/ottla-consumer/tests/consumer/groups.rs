//! Reading as a member of a group, over scripted brokers and with a paused clock.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::*;
use futures_core::Stream;
use ottla_consumer::{CommittedOffset, ConsumerConfig, Error, Record, RecordStream, Str};
use ottla_net::testing::Reply;
use ottla_wire::{
    ErrorCode,
    messages::{
        find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse},
        heartbeat::{HeartbeatRequest, HeartbeatResponse},
        join_group::JoinGroupRequest,
        offset_commit::OffsetCommitRequest,
    },
};

fn events(world: &Shared) -> Vec<String> {
    std::mem::take(&mut world.lock().unwrap().events)
}

#[tokio::test(start_paused = true)]
async fn joins_reads_commits_what_is_done_and_leaves() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 5);
    append(&world, 1, 5);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    let first = read(&consumer, 3).await;
    assert_eq!(events(&world), ["member id", "join", "sync"]);
    assert_eq!(consumer.group_metadata().unwrap().generation_id, 1);
    tokio::time::sleep(Duration::from_secs(6)).await;
    // The third record may still be in the works.
    let partition = first[0].0;
    assert_eq!(events(&world), [format!("commit {partition}@2")]);
    read(&consumer, 7).await;
    consumer.close(Duration::from_secs(5)).await.unwrap();
    let mut last = events(&world);
    last.sort();
    assert_eq!(last, ["commit 0@5", "commit 1@5", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_waits_for_the_application_and_commits_first() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 10);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 4).await;
    events(&world);
    world.lock().unwrap().heartbeat = ErrorCode::REBALANCE_IN_PROGRESS;
    let beats = world.lock().unwrap().heartbeats;
    // The application works on a record for long: nothing is given up meanwhile, and heartbeats go on.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(
        events(&world)
            .iter()
            .all(|event| event.starts_with("commit 0@3"))
    );
    assert!(world.lock().unwrap().heartbeats >= beats + 18);
    assert_eq!(consumer.assignment(), [tp(0)]);
    // It comes back: what it is done with is committed, then the group is joined again.
    assert_eq!(
        read(&consumer, 6).await,
        (4..10).map(|o| (0, o)).collect::<Vec<_>>()
    );
    assert_eq!(events(&world), ["commit 0@4", "join", "sync"]);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_application_is_no_obstacle_to_a_rebalance() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 1);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 1).await;
    events(&world);
    let waiting = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.recv().await.unwrap().offset() }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    world.lock().unwrap().heartbeat = ErrorCode::REBALANCE_IN_PROGRESS;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(events(&world), ["commit 0@1", "join", "sync"]);
    append(&world, 0, 1);
    assert_eq!(waiting.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_stays_away_too_long_leaves_and_comes_back() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 10);
    let config = ConsumerConfig {
        max_poll_interval: Duration::from_secs(30),
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 4).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(consumer.assignment(), [tp(0)]);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(consumer.assignment().is_empty());
    assert_eq!(
        events(&world),
        ["member id", "join", "sync", "commit 0@3", "leave"]
    );
    // The record in the works when the place was lost is delivered again.
    assert_eq!(
        read(&consumer, 7).await,
        (3..10).map(|o| (0, o)).collect::<Vec<_>>()
    );
    assert_eq!(events(&world), ["member id", "join", "sync"]);
}

#[tokio::test(start_paused = true)]
async fn who_has_no_place_does_not_speak_as_nobody() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 4);
    let config = ConsumerConfig {
        max_poll_interval: Duration::from_secs(30),
        group_instance_id: Some("a".into()),
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    let told = || {
        let told = consumer.group_metadata().unwrap();
        (told.member_id, told.generation_id, told.group_instance_id)
    };
    // Of partitions assigned by hand it may say what it likes.
    assert_eq!(told(), (Str::new(), -1, None));
    let stranger = (Str::new(), 0, None);
    consumer.subscribe([TOPIC]).unwrap();
    assert_eq!(told(), stranger, "it has not joined yet");
    read(&consumer, 2).await;
    assert_eq!(told(), ("member-1".into(), 1, Some("a".into())));
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(told(), stranger, "it stayed away for too long");
    read(&consumer, 1).await;
    assert_eq!(told(), ("member-1".into(), 2, Some("a".into())));
    let broker = cluster.broker(1);
    broker.on::<JoinGroupRequest>(|_, _| Reply::Close);
    world.lock().unwrap().heartbeat = ErrorCode::UNKNOWN_MEMBER_ID;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(told(), stranger, "the coordinator dropped it");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_member_joins_anew() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 4);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    consumer.commit().await.unwrap();
    events(&world);
    for error in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::ILLEGAL_GENERATION] {
        world.lock().unwrap().heartbeat = error;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(consumer.assignment(), [tp(0)], "after {error}");
    }
    assert_eq!(
        events(&world),
        ["member id", "join", "sync", "join", "sync"]
    );
    assert_eq!(read(&consumer, 2).await, [(0, 2), (0, 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_member_is_told_until_it_subscribes_anew() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 4);
    let config = ConsumerConfig {
        group_instance_id: Some("a".into()),
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 1).await;
    world.lock().unwrap().heartbeat = ErrorCode::FENCED_INSTANCE_ID;
    tokio::time::sleep(Duration::from_secs(4)).await;
    for _ in 0..2 {
        match consumer.recv().await {
            Err(Error::Group { error, .. }) => assert_eq!(error, ErrorCode::FENCED_INSTANCE_ID),
            other => panic!("{other:?}"),
        }
    }
    // A static member does not leave.
    consumer.close(Duration::from_secs(5)).await.unwrap();
    assert!(!events(&world).contains(&"leave".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_commit_follows_the_coordinator() {
    let (cluster, world) = start(2, 1);
    append(&world, 0, 4);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    cluster.set_coordinator(GROUP, Ok(2));
    let refuser = world.clone();
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    cluster
        .broker(1)
        .on::<OffsetCommitRequest>(move |request, _| {
            count.fetch_add(1, Ordering::Relaxed);
            refuser
                .lock()
                .unwrap()
                .commit(&request, ErrorCode::NOT_COORDINATOR)
                .into()
        });
    consumer.commit().await.unwrap();
    assert!(refused.load(Ordering::Relaxed) >= 1);
    assert_eq!(world.lock().unwrap().committed[&0], 2);
    let committed = consumer.committed(&[tp(0)]).await.unwrap();
    assert_eq!(committed[&tp(0)].as_ref().unwrap().offset, 2);
}

#[tokio::test(start_paused = true)]
async fn who_lost_its_place_does_not_commit_as_nobody() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 4);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    let generations = Arc::new(Mutex::new(Vec::new()));
    let seen = generations.clone();
    cluster
        .broker(1)
        .on::<OffsetCommitRequest>(move |request, _| {
            let generation = request.generation_id_or_member_epoch;
            seen.lock().unwrap().push(generation);
            let error = match generation {
                // An empty group takes it.
                -1 => ErrorCode::NONE,
                _ => ErrorCode::UNKNOWN_MEMBER_ID,
            };
            world.lock().unwrap().commit(&request, error).into()
        });
    for _ in 0..3 {
        let offsets = [(tp(0), CommittedOffset::from(1))];
        match consumer.commit_offsets(offsets).await {
            Err(Error::CommitRefused { error, .. }) => {
                assert_eq!(error, ErrorCode::UNKNOWN_MEMBER_ID);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(*generations.lock().unwrap(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_lost_is_repeated_or_called_unknown() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 4);
    let config = ConsumerConfig {
        enable_auto_commit: false,
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    // Applied, and the answer lost, once.
    let applied = world.clone();
    let mut losing = true;
    cluster
        .broker(1)
        .on::<OffsetCommitRequest>(move |request, _| {
            let answer = applied.lock().unwrap().commit(&request, ErrorCode::NONE);
            if std::mem::take(&mut losing) {
                Reply::Close
            } else {
                answer.into()
            }
        });
    consumer.commit().await.unwrap();
    assert_eq!(world.lock().unwrap().committed[&0], 2);
    cluster
        .broker(1)
        .on::<OffsetCommitRequest>(|_, _| Reply::Close);
    read(&consumer, 1).await;
    match consumer.commit().await {
        Err(Error::CommitUnknown { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_poll_is_committed_by_itself_before_the_application_comes_back() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 3);
    append(&world, 0, 3);
    let config = ConsumerConfig {
        max_poll_records: 4,
        auto_commit_interval: Duration::from_secs(1),
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    let patience = Duration::from_secs(10);
    let mut polled = 0;
    // A whole batch and the beginning of the next: then neither is done.
    while polled < 4 {
        polled = 0;
        for batch in consumer.poll(patience).await.unwrap() {
            polled += batch.records().count();
        }
        assert!(polled == 0 || polled == 4, "both batches at once: {polled}");
    }
    tokio::time::sleep(patience).await;
    let committed = world.lock().unwrap().committed.get(&0).copied();
    assert_eq!(
        committed.unwrap_or(0),
        0,
        "the application may still be at it"
    );
    assert_eq!(consumer.poll(patience).await.unwrap().len(), 1);
    tokio::time::sleep(patience).await;
    assert_eq!(world.lock().unwrap().committed[&0], 4);
}

#[tokio::test(start_paused = true)]
async fn a_long_search_for_the_coordinator_leaves_it_time_to_answer() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let config = ConsumerConfig {
        request_timeout: Duration::from_secs(4),
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 1).await;
    events(&world);
    // From now on it takes three seconds to find the coordinator, and two until it answers.
    let broker = cluster.broker(1);
    broker.on::<FindCoordinatorRequest>(|request, _| {
        let coordinator = |key: &Str| Coordinator {
            key: key.clone(),
            node_id: 1,
            host: "broker-1".into(),
            port: 9092,
            ..Default::default()
        };
        let response = FindCoordinatorResponse {
            coordinators: request.coordinator_keys.iter().map(coordinator).collect(),
            ..Default::default()
        };
        Reply::after(Duration::from_secs(3), response)
    });
    let beats = AtomicUsize::new(0);
    broker.on::<HeartbeatRequest>(move |_, _| {
        let (pause, error_code) = match beats.fetch_add(1, Ordering::Relaxed) {
            0 => (0, ErrorCode::NOT_COORDINATOR),
            1 => (2, ErrorCode::REBALANCE_IN_PROGRESS),
            _ => (2, ErrorCode::NONE),
        };
        let response = HeartbeatResponse {
            error_code,
            ..Default::default()
        };
        Reply::after(Duration::from_secs(pause), response)
    });
    let _ = tokio::time::timeout(Duration::from_secs(20), read(&consumer, 2)).await;
    assert_eq!(events(&world), ["commit 0@2", "join", "sync"]);
}

#[tokio::test(start_paused = true)]
async fn close_ends_in_time_though_nobody_answers() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 4);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    cluster.broker(1).fall_silent();
    let started = tokio::time::Instant::now();
    assert!(matches!(
        consumer.close(Duration::from_secs(3)).await,
        Err(Error::Timeout { .. })
    ));
    assert_eq!(started.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn misuse_is_explained() {
    let (cluster, _) = start(1, 1);
    let alone = consumer(&cluster, config());
    assert!(matches!(alone.subscribe([TOPIC]), Err(Error::Usage(_))));
    assert!(matches!(alone.commit().await, Err(Error::Usage(_))));
    assert!(matches!(alone.position(&tp(0)), Err(Error::NotAssigned(_))));
    let member = consumer(&cluster, group_config());
    member.subscribe([TOPIC]).unwrap();
    let by_hand = [(tp(0), ottla_consumer::Offset::End)];
    assert!(matches!(member.assign(by_hand), Err(Error::Usage(_))));
}

/// The next record of a stream; what waits is the stream, also when this is dropped.
async fn next_of(stream: &mut RecordStream) -> Record {
    let next = std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx));
    next.await.expect("it has ended").unwrap()
}

/// A task that waits for several things, and is busy with another one for long.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_put_aside_counts_as_waiting_until_there_is_a_record() {
    let (cluster, world) = start(1, 1);
    let config = ConsumerConfig {
        max_poll_interval: Duration::from_secs(30),
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    let mut stream = consumer.stream();
    let patience = Duration::from_secs(60);
    let waited = tokio::time::timeout(patience, next_of(&mut stream)).await;
    assert!(waited.is_err());
    tokio::time::sleep(patience).await;
    assert_eq!(events(&world), ["member id", "join", "sync"]);
    append(&world, 0, 4);
    tokio::time::sleep(patience / 3).await;
    assert_eq!(events(&world), [""; 0]);
    tokio::time::sleep(patience / 3).await;
    assert_eq!(
        events(&world),
        ["leave"],
        "there is one, and it does not come"
    );
    assert_eq!(next_of(&mut stream).await.offset(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_put_aside_does_not_say_that_the_others_are_done() {
    for streams in [false, true] {
        let (cluster, world) = start(1, 1);
        let consumer = consumer(&cluster, group_config());
        consumer.subscribe([TOPIC]).unwrap();
        let mut stream = consumer.stream();
        let mut call = Box::pin(consumer.recv());
        let patience = Duration::from_secs(5);
        let waited = match streams {
            true => tokio::time::timeout(patience, next_of(&mut stream))
                .await
                .is_err(),
            false => tokio::time::timeout(patience, &mut call).await.is_err(),
        };
        assert!(waited);
        append(&world, 0, 4);
        read(&consumer, 3).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        let committed = world.lock().unwrap().committed[&0];
        assert_eq!(committed, 2, "the third may still be in the works");
    }
}
