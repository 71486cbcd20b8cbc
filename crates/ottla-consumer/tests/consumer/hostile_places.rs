//! Brokers that answer nonsense when they are asked for a place: where a log begins, ends or parts, who coordinates a group;
//! and coordinators that answer nonsense to who leaves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    hostile::{
        BEARABLE, RUBBISH, by_brokers, doubtful, rubbish, serve_consumer_group, survives,
        survives_at,
    },
    support::*,
};
use ottla_consumer::{Consumer, ConsumerConfig, Error, Offset};
use ottla_net::testing::{Call, Reply};
use ottla_wire::{
    ErrorCode, Request,
    messages::{
        consumer_group_heartbeat::ConsumerGroupHeartbeatRequest,
        find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse},
        leave_group::LeaveGroupRequest,
        list_offsets::{
            ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
            ListOffsetsTopicResponse,
        },
        offset_for_leader_epoch::{
            EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
            OffsetForLeaderTopicResult,
        },
    },
};
use tokio::time::{Instant, timeout, timeout_at};

/// What a leader lists: topic, partition, offset, epoch, error.
type Listing = (&'static str, i32, i64, i32, ErrorCode);

fn listed(listings: &[Listing]) -> ListOffsetsResponse {
    let topic = |(topic, partition, offset, epoch, error): &Listing| ListOffsetsTopicResponse {
        name: (*topic).into(),
        partitions: vec![ListOffsetsPartitionResponse {
            partition_index: *partition,
            error_code: *error,
            offset: *offset,
            leader_epoch: *epoch,
            ..Default::default()
        }],
        ..Default::default()
    };
    ListOffsetsResponse {
        topics: listings.iter().map(topic).collect(),
        ..Default::default()
    }
}

/// The same of both partitions.
fn of_both(offset: i64, epoch: i32, error: ErrorCode) -> Vec<Listing> {
    let of = |partition| (TOPIC, partition, offset, epoch, error);
    vec![of(0), of(1)]
}

fn nonsense() -> Vec<(&'static str, Vec<Listing>)> {
    let none = ErrorCode::NONE;
    vec![
        ("nothing", vec![]),
        ("an offset below zero", of_both(-1, 0, none)),
        ("the least offset", of_both(i64::MIN, i32::MIN, none)),
        (
            "partitions nobody asked for",
            vec![
                (TOPIC, -1, 0, 0, none),
                (TOPIC, 7, 0, 0, none),
                (TOPIC, i32::MAX, 0, 0, none),
                ("else", 0, 0, 0, none),
                ("", i32::MIN, 0, 0, none),
            ],
        ),
        ("an error nobody knows", of_both(0, 0, ErrorCode(30_000))),
        (
            "very much, and nothing of use",
            vec![(TOPIC, 0, -1, -1, none); 1_000],
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn offsets_listed_that_cannot_be() {
    let beyond = [
        ("beyond the log", of_both(1_000, 0, ErrorCode::NONE)),
        ("the largest offset", of_both(i64::MAX, 0, ErrorCode::NONE)),
        (
            "the largest of all epochs",
            of_both(0, i32::MAX, ErrorCode::NONE),
        ),
    ];
    for (what, listings) in nonsense().into_iter().chain(beyond) {
        survives::<ListOffsetsRequest>(what, group_config(), BEARABLE, move |_, _, _| {
            listed(&listings).into()
        })
        .await;
    }
}

/// What the application asks itself ends with an error that says what it is, in its time; never with an offset that no log has.
#[tokio::test(start_paused = true)]
async fn questions_of_the_application_that_are_answered_with_nonsense() {
    type Answer = Box<dyn Fn(&Call) -> Reply<ListOffsetsResponse> + Send>;
    let nonsense = nonsense().into_iter().map(|(what, listings)| {
        let answer: Answer = Box::new(move |_| listed(&listings).into());
        (what, answer)
    });
    let rubbish = RUBBISH.into_iter().map(|body| {
        let answer: Answer = Box::new(move |call| rubbish(call, body));
        ("rubbish", answer)
    });
    for (what, answer) in nonsense.chain(rubbish) {
        let (cluster, _world) = start(1, 2);
        cluster
            .broker(1)
            .on::<ListOffsetsRequest>(move |_, call| answer(call));
        let config = ConsumerConfig {
            default_api_timeout: Duration::from_secs(20),
            ..config()
        };
        let consumer = consumer(&cluster, config);
        let both = [tp(0), tp(1)];
        let begun = Instant::now();
        for error in [
            consumer.beginning_offsets(&both).await.map(|_| ()),
            consumer.end_offsets(&both).await.map(|_| ()),
            consumer.query_watermarks(&tp(0)).await.map(|_| ()),
        ] {
            let error = error.expect_err(what);
            assert!(
                matches!(error, Error::Net(_) | Error::Timeout { .. }),
                "{what}: {error:?}"
            );
        }
        assert!(begun.elapsed() <= Duration::from_secs(61), "{what}");
        // No record of that time or later: there is an answer below zero that is none of nonsense.
        match consumer.offsets_for_times([(tp(0), 5)]).await {
            Ok(found) => assert_eq!(found[&tp(0)], None, "{what}"),
            Err(error) => assert!(
                matches!(error, Error::Net(_) | Error::Timeout { .. }),
                "{what}: {error:?}"
            ),
        }
        let asked = cluster.broker(1).count(ListOffsetsRequest::KEY);
        println!("{what}: asked {asked} times");
        assert!((4..=2 * BEARABLE).contains(&asked), "{what}: {asked}");
    }
}

/// Of partitions nobody asked about, beside those that somebody did.
#[tokio::test(start_paused = true)]
async fn offsets_of_other_partitions_are_not_told() {
    let (cluster, _world) = start(1, 2);
    cluster.broker(1).on::<ListOffsetsRequest>(move |_, _| {
        let none = ErrorCode::NONE;
        listed(&[
            (TOPIC, 0, 3, 0, none),
            (TOPIC, 1, 4, 0, none),
            ("else", 0, 5, 0, none),
        ])
        .into()
    });
    let consumer = consumer(&cluster, config());
    let ends = consumer.end_offsets(&[tp(0)]).await.unwrap();
    assert_eq!(ends, [(tp(0), 3)].into());
}

/// A leader that does not know where its log begins has not said that nothing of it is to be read.
#[tokio::test(start_paused = true)]
async fn a_beginning_that_is_not_known_is_not_the_end() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 6);
    cluster.broker(1).on::<ListOffsetsRequest>(|request, _| {
        let earliest = request.topics[0].partitions[0].timestamp == -2;
        let offset = if earliest { -1 } else { 6 };
        listed(&[(TOPIC, 0, offset, 0, ErrorCode::NONE)]).into()
    });
    let consumer = consumer(&cluster, config());
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    let none = timeout(Duration::from_secs(5), consumer.recv()).await;
    assert!(none.is_err(), "{none:?}");
    assert_eq!(consumer.position(&tp(0)).unwrap(), None);
    serve(&cluster, &world, 1);
    read(&consumer, 6).await;
}

#[tokio::test(start_paused = true)]
async fn ends_of_epochs_that_cannot_be() {
    // Partition, epoch, end, error.
    let both = |epoch, end, error| vec![(0, epoch, end, error), (1, epoch, end, error)];
    let none = ErrorCode::NONE;
    let cases = [
        ("nothing", vec![]),
        ("neither epoch nor end", both(-1, -1, none)),
        ("an end below zero", both(0, i64::MIN, none)),
        ("an epoch below zero", both(i32::MIN, 3, none)),
        ("the largest of all", both(i32::MAX, i64::MAX, none)),
        ("an error nobody knows", both(0, 0, ErrorCode(30_000))),
        (
            "partitions nobody asked for",
            vec![
                (-1, 0, 0, none),
                (7, 0, 0, none),
                (i32::MAX, 0, i64::MAX, none),
            ],
        ),
    ];
    for (what, ends) in cases {
        survives_at::<OffsetForLeaderEpochRequest>(
            what,
            doubtful(),
            group_config(),
            BEARABLE,
            move |_, _, _| {
                let end = |(partition, leader_epoch, end_offset, error_code): &(
                    i32,
                    i32,
                    i64,
                    ErrorCode,
                )| EpochEndOffset {
                    partition: *partition,
                    leader_epoch: *leader_epoch,
                    end_offset: *end_offset,
                    error_code: *error_code,
                    ..Default::default()
                };
                OffsetForLeaderEpochResponse {
                    topics: vec![OffsetForLeaderTopicResult {
                        topic: TOPIC.into(),
                        partitions: ends.iter().map(end).collect(),
                        ..Default::default()
                    }],
                    ..Default::default()
                }
                .into()
            },
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn coordinators_that_cannot_be() {
    let found = |key: &str, node, host: &str, port, error| Coordinator {
        key: key.to_owned().into(),
        node_id: node,
        host: host.to_owned().into(),
        port,
        error_code: error,
        ..Default::default()
    };
    let none = ErrorCode::NONE;
    let cases = [
        ("nobody", vec![]),
        (
            "somebody else's",
            vec![found("others", 1, "broker-1", 9092, none)],
        ),
        ("a node below zero", vec![found(GROUP, -1, "", -1, none)]),
        (
            "the least node",
            vec![found(GROUP, i32::MIN, "broker-1", 9092, none)],
        ),
        (
            "a broker nobody knows",
            vec![found(GROUP, 99, "nowhere", 9092, none)],
        ),
        (
            "a port that is none",
            vec![found(GROUP, 99, "broker-1", i32::MAX, none)],
        ),
        (
            "an error nobody knows",
            vec![found(GROUP, 1, "broker-1", 9092, ErrorCode(30_000))],
        ),
        (
            "very many",
            vec![found("others", 1, "broker-1", 9092, none); 1_000],
        ),
    ];
    for (what, coordinators) in cases {
        survives::<FindCoordinatorRequest>(what, group_config(), BEARABLE, move |_, _, _| {
            FindCoordinatorResponse {
                coordinators: coordinators.clone(),
                ..Default::default()
            }
            .into()
        })
        .await;
    }
}

/// Leaving takes no longer than it may, and who is back is a member as before.
#[tokio::test(start_paused = true)]
async fn rubbish_in_place_of_an_answer_to_who_leaves() {
    for body in RUBBISH {
        let what = format!("{} bytes of rubbish", body.len());
        // By unsubscribing, and by closing.
        for closes in [false, true] {
            let (cluster, world) = start(1, 1);
            append(&world, 0, 6);
            cluster
                .broker(1)
                .on::<LeaveGroupRequest>(move |_, call| rubbish(call, body));
            let consumer = consumer(&cluster, group_config());
            consumer.subscribe([TOPIC]).unwrap();
            read(&consumer, 3).await;
            leaves(&consumer, closes, &what).await;
            let asked = cluster.broker(1).count(LeaveGroupRequest::KEY);
            assert!((1..=BEARABLE).contains(&asked), "{what}: {asked}");
            if !closes {
                append(&world, 0, 3);
                consumer.subscribe([TOPIC]).unwrap();
                read(&consumer, 3).await;
                serve(&cluster, &world, 1);
                consumer.close(Duration::from_secs(5)).await.unwrap();
            }
        }
        for closes in [false, true] {
            let (cluster, world) = start(1, 2);
            append(&world, 0, 6);
            serve_consumer_group(&cluster, &world);
            let consumer = consumer(&cluster, by_brokers());
            consumer.subscribe([TOPIC]).unwrap();
            read(&consumer, 3).await;
            let count = Arc::<AtomicUsize>::default();
            let counter = count.clone();
            cluster
                .broker(1)
                .on::<ConsumerGroupHeartbeatRequest>(move |_, call| {
                    counter.fetch_add(1, Relaxed);
                    rubbish(call, body)
                });
            leaves(&consumer, closes, &what).await;
            let asked = count.load(Relaxed);
            assert!((1..=BEARABLE).contains(&asked), "{what}: {asked}");
            if !closes {
                consumer.subscribe([TOPIC]).unwrap();
                tokio::time::sleep(Duration::from_secs(30)).await;
                assert!(count.load(Relaxed) < BEARABLE, "{what}: {count:?}");
                serve_consumer_group(&cluster, &world);
                append(&world, 0, 3);
                let until = Instant::now() + Duration::from_secs(60);
                let mut left = 3;
                while left > 0 {
                    match timeout_at(until, consumer.recv()).await.expect(&what) {
                        Ok(_) => left -= 1,
                        // Of the rubbish.
                        Err(error) => assert!(matches!(error, Error::Net(_)), "{error:?}"),
                    }
                }
                consumer.close(Duration::from_secs(5)).await.unwrap();
            }
        }
    }
}

async fn leaves(consumer: &Consumer, closes: bool, what: &str) {
    let begun = Instant::now();
    if closes {
        // Whatever becomes of it.
        let closed = consumer.close(Duration::from_secs(5)).await;
        println!("{what}: {closed:?}");
    } else {
        let left = consumer.unsubscribe().await;
        println!("{what}: {left:?}");
        assert!(consumer.assignment().is_empty(), "{what}");
        // And is nobody in the group.
        consumer.assign([(tp(0), Offset::At(5))]).unwrap();
        assert_eq!(read(consumer, 1).await, [(0, 5)], "{what}");
        consumer.unsubscribe().await.unwrap();
    }
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(12), "{what}: {took:?}");
}
