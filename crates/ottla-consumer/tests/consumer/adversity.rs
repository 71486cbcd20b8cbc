//! What goes wrong around a consumer, over scripted brokers and with a paused clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::*;
use ottla_consumer::{
    Consumer, ConsumerConfig, Error, Offset, Str, TopicPartition,
    assignor::{Assignor, GroupTopics, Member},
};
use ottla_net::{ClusterConfig, testing::Reply};
use ottla_wire::{
    ErrorCode,
    messages::{
        heartbeat::{HeartbeatRequest, HeartbeatResponse},
        offset_commit::OffsetCommitRequest,
        offset_fetch::{
            OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup,
            OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
        },
    },
};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_lost_heartbeat_costs_no_place() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    let beats = Arc::new(AtomicUsize::new(0));
    let count = beats.clone();
    cluster.broker(1).on::<HeartbeatRequest>(move |_, _| {
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::Close,
            _ => HeartbeatResponse::default().into(),
        }
    });
    let waiting = tokio::spawn(async move { consumer.recv().await.map(|_| ()) });
    sleep(Duration::from_secs(60)).await;
    // One every three seconds.
    assert!(beats.load(Ordering::Relaxed) >= 15, "{beats:?}");
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_comes_back_is_noticed() {
    let (cluster, world) = start(2, 1);
    append(&world, 0, 2);
    let consumer = consumer(&cluster, config());
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    read(&consumer, 2).await;
    cluster.move_leader(TOPIC, 0, -1);
    cluster.broker(1).kill();
    sleep(Duration::from_secs(20)).await;
    append(&world, 0, 1);
    cluster.broker(1).restart();
    cluster.move_leader(TOPIC, 0, 1);
    let start = Instant::now();
    read(&consumer, 1).await;
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_in_a_rack_reads_from_the_follower_it_is_sent_to() {
    let (cluster, world) = start(2, 1);
    append(&world, 0, 3);
    world.lock().unwrap().follower = Some(2);
    let config = ConsumerConfig {
        client_rack: "here".into(),
        ..config()
    };
    let consumer = consumer(&cluster, config);
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    read(&consumer, 3).await;
    // The leader reads for it again when the follower is gone.
    cluster.broker(2).kill();
    world.lock().unwrap().follower = None;
    append(&world, 0, 2);
    read(&consumer, 2).await;
    let fetches = world.lock().unwrap().fetches.clone();
    assert!(
        fetches
            .iter()
            .any(|(node, _, offset)| (*node, *offset) == (2, 0))
    );
    // An unknown follower is no reason to hammer the leader.
    world.lock().unwrap().follower = Some(9);
    let before = world.lock().unwrap().fetches.len();
    sleep(Duration::from_secs(10)).await;
    let fetches = world.lock().unwrap().fetches.len() - before;
    assert!(fetches < 150, "{fetches}");
}

#[tokio::test(start_paused = true)]
async fn what_is_assigned_after_unsubscribing_stays() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 2);
    append(&world, 1, 2);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 4).await;
    consumer.unsubscribe().await.unwrap();
    consumer.assign([(tp(1), Offset::Beginning)]).unwrap();
    assert_eq!(read(&consumer, 2).await, [(1, 0), (1, 1)]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(consumer.assignment(), [tp(1)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_assigned_during_a_rebalance_stays() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 2);
    append(&world, 1, 2);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 4).await;
    // A rebalance waits for the application, which is done with the group instead.
    world.lock().unwrap().heartbeat = ErrorCode::REBALANCE_IN_PROGRESS;
    sleep(Duration::from_secs(4)).await;
    consumer.unsubscribe().await.unwrap();
    consumer.assign([(tp(1), Offset::Beginning)]).unwrap();
    assert_eq!(read(&consumer, 2).await, [(1, 0), (1, 1)]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(consumer.assignment(), [tp(1)]);
}

/// Panics the first time.
#[derive(Debug, Default)]
struct Moody(AtomicUsize);

impl Assignor for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn assign(&self, topics: &GroupTopics, members: &[Member]) -> Vec<Vec<TopicPartition>> {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "not today");
        let mut assigned = vec![Vec::new(); members.len()];
        assigned[0] = topics.partitions().collect();
        assigned
    }
}

#[tokio::test(start_paused = true)]
async fn an_assignor_that_panics_is_told_to_the_application() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let config = ConsumerConfig {
        assignors: vec![Arc::new(Moody::default())],
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    let told = tokio::time::timeout(Duration::from_secs(10), consumer.recv()).await;
    let error = told.expect("must not hang").unwrap_err();
    assert!(error.to_string().contains("assignor"), "{error}");
    // The same subscription is a new try.
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_subscription_after_a_fatal_error_is_a_new_try() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 3);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 1).await;
    world.lock().unwrap().heartbeat = ErrorCode::GROUP_AUTHORIZATION_FAILED;
    sleep(Duration::from_secs(4)).await;
    assert!(matches!(consumer.recv().await, Err(Error::Group { .. })));
    world.lock().unwrap().heartbeat = ErrorCode::NONE;
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
}

/// Of every partition that was asked for, unless an error goes for all of them.
fn nothing_committed(
    request: OffsetFetchRequest,
    of_all: ErrorCode,
    of_partition: impl Fn(i32) -> ErrorCode,
) -> Reply<OffsetFetchResponse> {
    let partition = |index: &i32| OffsetFetchResponsePartitions {
        partition_index: *index,
        committed_offset: -1,
        error_code: of_partition(*index),
        ..Default::default()
    };
    let group = request.groups.into_iter().next().unwrap();
    let topics = group.topics.into_iter().flatten();
    let topics = topics.filter(|_| of_all.is_ok());
    let topics = topics.map(|topic| OffsetFetchResponseTopics {
        partitions: topic.partition_indexes.iter().map(partition).collect(),
        name: topic.name,
        ..Default::default()
    });
    OffsetFetchResponse {
        groups: vec![OffsetFetchResponseGroup {
            group_id: group.group_id,
            topics: topics.collect(),
            error_code: of_all,
            ..Default::default()
        }],
        ..Default::default()
    }
    .into()
}

#[tokio::test(start_paused = true)]
async fn an_offset_in_an_open_transaction_holds_up_no_other_partition() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 2);
    append(&world, 1, 2);
    cluster
        .broker(1)
        .on::<OffsetFetchRequest>(move |request, _| {
            nothing_committed(request, ErrorCode::NONE, |index| match index {
                0 => ErrorCode::UNSTABLE_OFFSET_COMMIT,
                _ => ErrorCode::NONE,
            })
        });
    let consumer = consumer(&cluster, group_config());
    let start = Instant::now();
    consumer.subscribe([TOPIC]).unwrap();
    assert_eq!(read(&consumer, 2).await, [(1, 0), (1, 1)]);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

/// A coordinator that has dropped the member, which does not know of it yet.
#[tokio::test(start_paused = true)]
async fn that_the_member_is_unknown_is_not_told_as_an_answer_about_offsets() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 1);
    let mut refusals = 0;
    cluster
        .broker(1)
        .on::<OffsetFetchRequest>(move |request, _| {
            refusals += 1;
            let of_all = match refusals < 4 {
                true => ErrorCode::UNKNOWN_MEMBER_ID,
                false => ErrorCode::NONE,
            };
            nothing_committed(request, of_all, |_| ErrorCode::NONE)
        });
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    assert_eq!(consumer.recv().await.unwrap().offset(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_record_behind_the_end_of_its_batch_is_not_read() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 10);
    {
        let mut world = world.lock().unwrap();
        let batch = &mut world.logs.get_mut(&0).unwrap()[0];
        let mut bytes = batch.2.to_vec();
        // The last offset delta: the batch claims to end at offset 4, and holds records up to 9.
        bytes[23..27].copy_from_slice(&4_i32.to_be_bytes());
        batch.2 = bytes.into();
        batch.1 = 5;
    }
    let config = ConsumerConfig {
        check_crcs: false,
        ..config()
    };
    let by_record = consumer(&cluster, config.clone());
    by_record.assign([(tp(0), Offset::Beginning)]).unwrap();
    assert_eq!(read(&by_record, 5).await.len(), 5);
    let error = by_record.recv().await.unwrap_err();
    assert!(
        matches!(error, Error::Unreadable { offset: 5, .. }),
        "{error}"
    );
    assert_eq!(by_record.position(&tp(0)).unwrap(), Some(5));

    let by_batch = consumer(&cluster, config);
    by_batch.assign([(tp(0), Offset::Beginning)]).unwrap();
    let batches = by_batch.poll(Duration::from_secs(5)).await.unwrap();
    let read: Vec<_> = batches[0].records().collect();
    assert_eq!(read.iter().filter(|record| record.is_ok()).count(), 5);
    let beyond = |item: &Error| matches!(item, Error::Unreadable { offset: 5, .. });
    assert!(read.last().unwrap().as_ref().is_err_and(beyond), "{read:?}");
    let owned: Vec<_> = batches[0].clone().into_records().collect();
    assert_eq!(owned.len(), 6);
    assert!(owned[5].as_ref().is_err_and(beyond), "{:?}", owned[5]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_cannot_be_made_does_not_keep_a_member_from_leaving() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    // The topic is deleted.
    let refuser = world.clone();
    cluster
        .broker(1)
        .on::<OffsetCommitRequest>(move |request, _| {
            let mut world = refuser.lock().unwrap();
            world
                .commit(&request, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
                .into()
        });
    let start = Instant::now();
    let closed = consumer.close(Duration::from_secs(4)).await;
    assert!(matches!(closed, Err(Error::Timeout { .. })), "{closed:?}");
    assert!(
        start.elapsed() <= Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    assert!(world.lock().unwrap().events.contains(&"leave".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_ends_of_an_unknown_topic_are_an_unknown_topic() {
    let (cluster, _world) = start(1, 1);
    let consumer = consumer(&cluster, config());
    let error = consumer
        .end_offsets(&[TopicPartition::new("orders", 0)])
        .await;
    match error.unwrap_err() {
        Error::UnknownTopic { topic, .. } => assert_eq!(topic, Str::from("orders")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_beyond_the_consumers_patience_is_refused() {
    let (cluster, _world) = start(1, 1);
    let config = ConsumerConfig {
        request_timeout: Duration::from_secs(5),
        fetch_max_wait: Duration::from_secs(6),
        ..config()
    };
    match Consumer::new(cluster.connect(), config) {
        Err(Error::Config { setting, .. }) => assert_eq!(setting, "fetch.max.wait.ms"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_ever_is_allowed() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 1);
    let consumer = consumer(&cluster, config());
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    assert_eq!(consumer.poll(Duration::MAX).await.unwrap().len(), 1);
    consumer.close(Duration::MAX).await.unwrap();
}

/// That of the cluster is a shorter one.
#[tokio::test(start_paused = true)]
async fn how_long_a_request_may_take_is_the_consumers_own_setting() {
    let (cluster, world) = start(1, 1);
    let net = cluster.connect_with(ClusterConfig {
        request_timeout: Duration::from_secs(5),
        ..cluster.config()
    });
    let config = ConsumerConfig {
        fetch_max_wait: Duration::from_secs(8),
        enable_auto_commit: false,
        ..group_config()
    };
    let consumer = Consumer::new(net, config).unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    sleep(Duration::from_secs(2)).await;
    let broker = cluster.broker(1);
    let connections = broker.connections();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(broker.connections(), connections, "no fetch timed out");
    append(&world, 0, 4);
    read(&consumer, 4).await;
    let w = world.clone();
    broker.on::<OffsetCommitRequest>(move |request, _| {
        let response = w.lock().unwrap().commit(&request, ErrorCode::NONE);
        Reply::after(Duration::from_secs(10), response)
    });
    consumer.commit().await.unwrap();
    let events = std::mem::take(&mut world.lock().unwrap().events);
    let commits = events.iter().filter(|event| event.starts_with("commit"));
    assert_eq!(commits.count(), 1, "{events:?}");
}
