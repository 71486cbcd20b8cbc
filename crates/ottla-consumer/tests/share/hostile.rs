//! Brokers that answer share groups with nonsense: asked at a bearable pace, told as an error with a type if at all, and
//! forgotten when they come to their senses.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use ottla_consumer::{AcknowledgeType, Bytes, Error, ShareConsumerConfig};
use ottla_net::testing::{Call, Reply};
use ottla_wire::{
    ErrorCode, Request, Uuid,
    messages::{
        share_acknowledge::{
            PartitionData as Acknowledged, ShareAcknowledgeRequest, ShareAcknowledgeResponse,
            ShareAcknowledgeTopicResponse,
        },
        share_fetch::{
            AcquiredRecords, PartitionData, ShareFetchRequest, ShareFetchResponse,
            ShareFetchableTopicResponse,
        },
        share_group_heartbeat::{
            Assignment, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, TopicPartitions,
        },
    },
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{EXPLICIT, IMPLICIT, PATIENCE, TOPIC, config, member};
use crate::broker::{Shared, batch, serve, start};

/// Requests of a kind that are bearable in a minute: some a second, as by `retry.backoff.max.ms`.
const BEARABLE: usize = 240;
/// Where the broker answers at once what it is to wait with; in ten seconds, for the sake of the test's own time.
const UNPACED: usize = 1_100;

const RECORDS: i64 = 10;

/// For a while the broker answers requests `R` like this; then it is as it should be, and all records are read.
async fn survives<R: Request + 'static>(
    what: &str,
    bearable: usize,
    answer: impl Fn(&R, &Call, &Shared) -> Reply<R::Response> + Send + 'static,
) where
    R::Response: Send,
{
    let (cluster, world) = start(RECORDS);
    let count = Arc::<AtomicUsize>::default();
    // What is said of records that there are not is nobody's business here.
    let w = world.clone();
    cluster
        .broker(1)
        .on::<ShareAcknowledgeRequest>(move |request, _| {
            w.lock().unwrap().epoch = request.share_session_epoch + 1;
            ShareAcknowledgeResponse::default().into()
        });
    let (counter, w) = (count.clone(), world.clone());
    cluster.broker(1).on::<R>(move |request, call| {
        counter.fetch_add(1, Relaxed);
        answer(&request, call, &w)
    });
    let consumer = member(&cluster, config(IMPLICIT));
    let (mut seen, mut errors) = (BTreeSet::new(), 0);
    let lasts = match bearable {
        UNPACED => 10,
        _ => 60,
    };
    let until = Instant::now() + Duration::from_secs(lasts);
    while let Ok(next) = timeout_at(until, consumer.recv()).await {
        match next {
            Ok(record) => {
                seen.insert(record.offset());
                assert!(record.delivery_count() >= 1, "{what}");
            }
            Err(Error::ShareGroup { .. }) => {
                sleep(Duration::from_secs(1)).await;
                consumer.subscribe([TOPIC]).unwrap();
            }
            Err(Error::ShareFetch { .. } | Error::Unreadable { .. } | Error::Net(_)) => errors += 1,
            Err(other) => panic!("{what}: {other:?}"),
        }
    }
    let asked = count.load(Relaxed);
    println!("{what}: asked {asked} times, {errors} errors told");
    assert!(
        (1..=bearable).contains(&asked),
        "{what}: asked {asked} times"
    );
    assert!(errors <= asked + 1, "{what}: told {errors} times");
    // It comes to its senses, and has released everything.
    {
        let mut world = world.lock().unwrap();
        world.acquired.clear();
        world.leaves = 0;
        world.talked_nonsense = true;
    }
    cluster.broker(1).drop_connections();
    serve(&cluster, &world);
    world.lock().unwrap().heartbeat = ErrorCode::UNKNOWN_MEMBER_ID;
    let until = Instant::now() + Duration::from_secs(240);
    while seen.len() < RECORDS as usize {
        let next = timeout_at(until, consumer.recv()).await;
        match next.unwrap_or_else(|_| panic!("{what}: stuck after {seen:?}")) {
            Ok(record) => {
                seen.insert(record.offset());
            }
            Err(Error::ShareGroup { .. }) => {
                sleep(Duration::from_secs(1)).await;
                consumer.subscribe([TOPIC]).unwrap();
            }
            Err(_) => {}
        }
    }
    assert_eq!(seen, (0..RECORDS).collect(), "{what}");
    consumer.close(PATIENCE).await.unwrap();
}

/// A frame for this call that holds these bytes instead of an answer.
fn rubbish<T>(call: &Call, body: &[u8]) -> Reply<T> {
    let mut frame = (body.len() as i32 + 4).to_be_bytes().to_vec();
    frame.extend(call.correlation_id.to_be_bytes());
    frame.extend(body);
    Reply::Raw(frame.into())
}

const RUBBISH: [&[u8]; 4] = [&[], &[0; 3], &[0x7f; 64], &[0xff; 64]];

#[tokio::test(start_paused = true)]
async fn rubbish_in_place_of_any_answer() {
    for body in RUBBISH {
        let what = |of: &str| format!("{of} of {} bytes of rubbish", body.len());
        let name = what("ShareGroupHeartbeat");
        survives::<ShareGroupHeartbeatRequest>(&name, BEARABLE, |_, call, _| rubbish(call, body))
            .await;
        let name = what("ShareFetch");
        survives::<ShareFetchRequest>(&name, BEARABLE, |_, call, _| rubbish(call, body)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_cannot_be() {
    let accepted = |epoch, interval| ShareGroupHeartbeatResponse {
        member_epoch: epoch,
        heartbeat_interval_ms: interval,
        ..Default::default()
    };
    let given = |topic_id, partitions: Vec<i32>| ShareGroupHeartbeatResponse {
        assignment: Some(Assignment {
            topic_partitions: vec![
                TopicPartitions {
                    topic_id,
                    partitions,
                    ..Default::default()
                };
                3
            ],
            ..Default::default()
        }),
        ..accepted(1, 5_000)
    };
    for (what, answer, bearable) in [
        ("epoch 0", accepted(0, 5_000), BEARABLE),
        ("an epoch below zero", accepted(-7, 5_000), BEARABLE),
        ("the least epoch", accepted(i32::MIN, 5_000), BEARABLE),
        ("no pause", accepted(1, 0), 620),
        ("a pause below zero", accepted(1, i32::MIN), 620),
        ("a pause for weeks", accepted(1, i32::MAX), BEARABLE),
        (
            "a topic nobody knows",
            given(Uuid([9; 16]), vec![0, 1]),
            BEARABLE,
        ),
        (
            "partitions that are none",
            given(Uuid([9; 16]), vec![-1, i32::MIN, i32::MAX]),
            BEARABLE,
        ),
        (
            "very many partitions",
            given(Uuid([9; 16]), (0..50_000).collect()),
            BEARABLE,
        ),
    ] {
        survives::<ShareGroupHeartbeatRequest>(what, bearable, move |_, _, _| {
            answer.clone().into()
        })
        .await;
    }
}

fn fetched(world: &Shared, data: Vec<PartitionData>) -> ShareFetchResponse {
    ShareFetchResponse {
        acquisition_lock_timeout_ms: 30_000,
        responses: vec![ShareFetchableTopicResponse {
            topic_id: world.lock().unwrap().topic_id,
            partitions: data,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn acquired(ranges: &[(i64, i64)], records: Bytes) -> PartitionData {
    let ranges = ranges.iter();
    PartitionData {
        records,
        acquired_records: ranges
            .map(|&(first_offset, last_offset)| AcquiredRecords {
                first_offset,
                last_offset,
                delivery_count: -3,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn fetches_that_are_answered_with_nonsense() {
    type Answer = fn(&Shared) -> ShareFetchResponse;
    let cases: [(&str, usize, Answer); 12] = [
        ("nothing, at once", UNPACED, |_| {
            ShareFetchResponse::default()
        }),
        ("empty partitions, at once", UNPACED, |world| {
            fetched(world, vec![PartitionData::default(); 3])
        }),
        ("a topic nobody knows", UNPACED, |world| {
            let mut answer = fetched(world, vec![acquired(&[(0, 3)], batch(0, 4))]);
            answer.responses[0].topic_id = Uuid([9; 16]);
            answer
        }),
        ("partitions nobody asked for", UNPACED, |world| {
            let of = |partition_index| PartitionData {
                partition_index,
                ..acquired(&[(0, 3)], batch(0, 4))
            };
            fetched(world, vec![of(-1), of(7), of(i32::MAX)])
        }),
        ("errors of partitions nobody asked for", UNPACED, |world| {
            let of = |partition_index| PartitionData {
                partition_index,
                error_code: ErrorCode::NOT_LEADER_OR_FOLLOWER,
                ..PartitionData::default()
            };
            fetched(world, vec![of(-1), of(7)])
        }),
        ("acquired backwards", UNPACED, |world| {
            fetched(
                world,
                vec![acquired(
                    &[(3, 0), (0, -1), (i64::MAX, i64::MIN)],
                    batch(0, 4),
                )],
            )
        }),
        ("acquired below zero", UNPACED, |world| {
            fetched(world, vec![acquired(&[(i64::MIN, -1)], batch(0, 4))])
        }),
        (
            "acquired without end, and nothing sent",
            BEARABLE,
            |world| {
                let ranges = [(0, i64::MAX - 1), (5, i64::MAX - 1), (0, i64::MAX)];
                fetched(world, vec![acquired(&ranges, Bytes::new())])
            },
        ),
        ("records that are none", BEARABLE, |world| {
            fetched(
                world,
                vec![acquired(&[(0, 3)], Bytes::from_static(&[0xff; 200]))],
            )
        }),
        ("less than a batch", BEARABLE, |world| {
            fetched(
                world,
                vec![acquired(&[(0, 3)], Bytes::from_static(&[0; 11]))],
            )
        }),
        ("an error nobody knows", BEARABLE, |world| {
            let data = PartitionData {
                error_code: ErrorCode(30_000),
                ..PartitionData::default()
            };
            fetched(world, vec![data])
        }),
        ("locks that are over at once", BEARABLE, |_| {
            ShareFetchResponse {
                acquisition_lock_timeout_ms: i32::MIN,
                error_code: ErrorCode(30_000),
                ..Default::default()
            }
        }),
    ];
    for (what, bearable, answer) in cases {
        survives::<ShareFetchRequest>(what, bearable, move |request, _, world| {
            world.lock().unwrap().epoch = request.share_session_epoch + 1;
            answer(world).into()
        })
        .await;
    }
}

/// The same records again and again in one answer, and in ranges that overlap: each is handed out once.
#[tokio::test(start_paused = true)]
async fn what_is_acquired_twice_is_handed_out_once() {
    let (cluster, world) = start(4);
    let (w, mut first) = (world.clone(), true);
    cluster.broker(1).on::<ShareFetchRequest>(move |_, _| {
        let ranges = [(0, 2), (1, 3), (0, 3), (2, 2), (3, 3)];
        let data = match std::mem::take(&mut first) {
            true => vec![acquired(&ranges, batch(0, 4)); 3],
            false => Vec::new(),
        };
        Reply::after(Duration::from_millis(100), fetched(&w, data))
    });
    let consumer = member(&cluster, config(EXPLICIT));
    let mut seen = Vec::new();
    let until = Instant::now() + PATIENCE;
    while let Ok(record) = timeout_at(until, consumer.recv()).await {
        let record = record.unwrap();
        seen.push(record.offset());
        consumer
            .acknowledge(&record, AcknowledgeType::Release)
            .unwrap();
        let again = consumer.acknowledge(&record, AcknowledgeType::Accept);
        assert!(matches!(again, Err(Error::NotHeld { .. })), "{again:?}");
    }
    assert_eq!(seen, [0, 1, 2, 3]);
    world.lock().unwrap().acquired.extend(0..4);
    let _ = consumer.close(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_are_answered_with_nonsense() {
    let answered = |partition_index, topic_id, error_code| ShareAcknowledgeResponse {
        responses: vec![ShareAcknowledgeTopicResponse {
            topic_id,
            partitions: vec![Acknowledged {
                partition_index,
                error_code,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    type Answer = Box<dyn Fn(&Call, Uuid) -> Reply<ShareAcknowledgeResponse> + Send>;
    let mut cases: Vec<(&str, Answer)> = vec![
        (
            "no word of them",
            Box::new(|_, _| ShareAcknowledgeResponse::default().into()),
        ),
        (
            "of another topic",
            Box::new(move |_, _| answered(0, Uuid([9; 16]), ErrorCode::NONE).into()),
        ),
        (
            "of another partition",
            Box::new(move |_, id| answered(-1, id, ErrorCode::NONE).into()),
        ),
        (
            "an error nobody knows",
            Box::new(move |_, id| answered(0, id, ErrorCode(30_000)).into()),
        ),
    ];
    for body in RUBBISH {
        cases.push(("rubbish", Box::new(|call, _| rubbish(call, body))));
    }
    for (what, answer) in cases {
        let (cluster, world) = start(RECORDS);
        let (count, id) = (
            Arc::<AtomicUsize>::default(),
            world.lock().unwrap().topic_id,
        );
        let counter = count.clone();
        cluster
            .broker(1)
            .on::<ShareAcknowledgeRequest>(move |_, call| {
                counter.fetch_add(1, Relaxed);
                answer(call, id)
            });
        let consumer = member(&cluster, config(EXPLICIT));
        let record = consumer.recv().await.unwrap();
        consumer
            .acknowledge(&record, AcknowledgeType::Accept)
            .unwrap();
        let error = consumer.commit_all().await.unwrap_err();
        assert!(
            matches!(error, Error::AcknowledgeFailed { .. }),
            "{what}: {error:?}"
        );
        assert_eq!(consumer.metrics().acknowledge_failures, 1, "{what}");
        sleep(Duration::from_secs(60)).await;
        let asked = count.load(Relaxed);
        assert!((1..BEARABLE).contains(&asked), "{what}: {asked}");
        let _ = consumer.close(Duration::from_secs(10)).await;
    }
}

/// A batch that decompresses to more than it may is told, and given back each time, until the broker gives it up. The others are
/// read.
#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_once_decompressed() {
    let (cluster, world) = start(RECORDS);
    {
        let mut world = world.lock().unwrap();
        (world.large, world.deliveries_max) = (Some(4), 5);
    }
    let config = ShareConsumerConfig {
        batch_bytes_max: 64 << 10,
        ..config(IMPLICIT)
    };
    let consumer = member(&cluster, config);
    let (mut seen, mut told) = (Vec::new(), 0);
    let until = Instant::now() + Duration::from_secs(60);
    while let Ok(next) = timeout_at(until, consumer.recv()).await {
        match next {
            Ok(record) => seen.push(record.offset()),
            Err(error) => {
                assert!(
                    matches!(error, Error::Unreadable { offset: 4, .. }),
                    "{error:?}"
                );
                assert!(error.to_string().contains("65536"), "{error}");
                told += 1;
            }
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 8, 9]);
    assert_eq!(told, 5, "as often as it was delivered");
    consumer.close(PATIENCE).await.unwrap();
    assert_eq!(super::accepted(&world), seen.into_iter().collect());
}
