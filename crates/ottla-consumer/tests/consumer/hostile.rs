//! Brokers that answer nonsense: contradictions, rubbish, answers without end. Each is asked at a bearable pace, is told to the
//! application as an error with a type if at all, costs no more memory than allowed, and is forgotten when it comes to its senses.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::support::*;
use ottla_consumer::{Bytes, ConsumerConfig, Error, GroupProtocol, Offset, Str};
use ottla_net::testing::{Call, Reply, ScriptedCluster};
use ottla_wire::{
    ErrorCode, Request, Uuid,
    messages::{
        consumer_group_heartbeat::{
            Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
            TopicPartitions,
        },
        fetch::{
            AbortedTransaction, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
        },
        find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse},
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember},
        list_offsets::ListOffsetsRequest,
        offset_commit::OffsetCommitRequest,
        offset_fetch::{
            OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup,
            OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
        },
        offset_for_leader_epoch::OffsetForLeaderEpochRequest,
        sync_group::{SyncGroupRequest, SyncGroupResponse},
    },
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Requests of a kind that are bearable in a minute: some a second, as by `retry.backoff.max.ms`.
pub(crate) const BEARABLE: usize = 240;
/// Where the broker answers at once what it is to wait with; in ten seconds, for the sake of the test's own time.
const UNPACED: usize = 1_100;

const RECORDS: usize = 12;

/// For a while the broker answers requests `R` like this; then it is as it should be, and all records are read.
pub(crate) async fn survives<R: Request + 'static>(
    what: &str,
    config: ConsumerConfig,
    bearable: usize,
    answer: impl Fn(&R, &Call, &Shared) -> Reply<R::Response> + Send + 'static,
) where
    R::Response: Send,
{
    survives_at(what, start(1, 2), config, bearable, answer).await;
}

/// As [`survives`], of a cluster that is prepared for it.
pub(crate) async fn survives_at<R: Request + 'static>(
    what: &str,
    (cluster, world): (ScriptedCluster, Shared),
    config: ConsumerConfig,
    bearable: usize,
    answer: impl Fn(&R, &Call, &Shared) -> Reply<R::Response> + Send + 'static,
) where
    R::Response: Send,
{
    serve_consumer_group(&cluster, &world);
    for partition in 0..2 {
        append(&world, partition, RECORDS as i64 / 2);
    }
    let count = Arc::<AtomicUsize>::default();
    let (counter, w) = (count.clone(), world.clone());
    cluster.broker(1).on::<R>(move |request, call| {
        counter.fetch_add(1, Relaxed);
        answer(&request, call, &w)
    });
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    let mut seen: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    let mut errors = 0;
    let lasts = match bearable {
        UNPACED => 10,
        _ => 60,
    };
    let until = Instant::now() + Duration::from_secs(lasts);
    while let Ok(next) = timeout_at(until, consumer.recv()).await {
        match next {
            Ok(record) => seen
                .entry(record.partition())
                .or_default()
                .push(record.offset()),
            Err(Error::Group { .. }) => {
                sleep(Duration::from_secs(1)).await;
                consumer.subscribe([TOPIC]).unwrap();
            }
            Err(Error::Fetch { .. } | Error::Unreadable { .. } | Error::Net(_)) => errors += 1,
            Err(other) => panic!("{what}: {other:?}"),
        }
    }
    let asked = count.load(Relaxed);
    println!("{what}: asked {asked} times, {errors} errors told");
    assert!(
        (1..=bearable).contains(&asked),
        "{what}: asked {asked} times"
    );
    // Of two partitions.
    assert!(errors <= 2 * asked + 2, "{what}: told {errors} times");
    // It comes to its senses.
    serve(&cluster, &world, 1);
    serve_coordinator(&cluster);
    serve_consumer_group(&cluster, &world);
    if consumer.assignment().is_empty() {
        world.lock().unwrap().heartbeat = ErrorCode::REBALANCE_IN_PROGRESS;
    }
    let until = Instant::now() + Duration::from_secs(120);
    while seen.values().map(Vec::len).sum::<usize>() < RECORDS {
        let next = timeout_at(until, consumer.recv()).await;
        match next.unwrap_or_else(|_| panic!("{what}: stuck after {seen:?}")) {
            Ok(record) => seen
                .entry(record.partition())
                .or_default()
                .push(record.offset()),
            Err(Error::Group { .. }) => {
                sleep(Duration::from_secs(1)).await;
                consumer.subscribe([TOPIC]).unwrap();
            }
            Err(_) => {}
        }
    }
    let all = Vec::from_iter(0..RECORDS as i64 / 2);
    let expected = BTreeMap::from([(0, all.clone()), (1, all)]);
    assert_eq!(seen, expected, "{what}");
    consumer.close(Duration::from_secs(10)).await.unwrap();
}

pub(crate) fn by_brokers() -> ConsumerConfig {
    ConsumerConfig {
        group_protocol: GroupProtocol::Consumer,
        ..group_config()
    }
}

/// A frame for this call that holds these bytes instead of an answer.
pub(crate) fn rubbish<T>(call: &Call, body: &[u8]) -> Reply<T> {
    let mut frame = (body.len() as i32 + 4).to_be_bytes().to_vec();
    frame.extend(call.correlation_id.to_be_bytes());
    frame.extend(body);
    Reply::Raw(frame.into())
}

/// Bytes that are no message: too few, counts beyond all bounds, and varints without end.
pub(crate) const RUBBISH: [&[u8]; 4] = [&[], &[0; 3], &[0x7f; 64], &[0xff; 64]];

/// Says that broker 1 coordinates every group.
fn serve_coordinator(cluster: &ScriptedCluster) {
    let broker = cluster.broker(1);
    let address = broker.address().clone();
    broker.on::<FindCoordinatorRequest>(move |request, _| {
        let found = |key: &Str| Coordinator {
            key: key.clone(),
            node_id: 1,
            host: address.host().to_owned().into(),
            port: address.port().into(),
            ..Default::default()
        };
        FindCoordinatorResponse {
            coordinators: request.coordinator_keys.iter().map(found).collect(),
            ..Default::default()
        }
        .into()
    });
}

/// The coordinator of a group of the consumer protocol, whose only member gets both partitions.
pub(crate) fn serve_consumer_group(cluster: &ScriptedCluster, world: &Shared) {
    let (id, mut joined) = (world.lock().unwrap().topic_id, false);
    cluster
        .broker(1)
        .on::<ConsumerGroupHeartbeatRequest>(move |request, _| {
            let joins = request.member_epoch == 0;
            joined |= joins;
            if !joined {
                // Whoever let it join, it was not this one.
                return ConsumerGroupHeartbeatResponse {
                    error_code: ErrorCode::UNKNOWN_MEMBER_ID,
                    ..Default::default()
                }
                .into();
            }
            ConsumerGroupHeartbeatResponse {
                member_id: Some(request.member_id.clone()),
                assignment: joins.then(|| assignment(&[(id, &[0, 1])])),
                ..accepted(request.member_epoch.max(1))
            }
            .into()
        });
}

fn accepted(epoch: i32) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        member_epoch: epoch,
        heartbeat_interval_ms: 3_000,
        ..Default::default()
    }
}

fn assignment(topics: &[(Uuid, &[i32])]) -> Assignment {
    let topics = topics.iter();
    Assignment {
        topic_partitions: topics
            .map(|(topic_id, partitions)| TopicPartitions {
                topic_id: *topic_id,
                partitions: partitions.to_vec(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn rubbish_in_place_of_any_answer() {
    for body in RUBBISH {
        let what = |of: &str| format!("{of} of {} bytes of rubbish", body.len());
        let (classic, by_brokers) = (group_config, by_brokers);
        survives::<JoinGroupRequest>(&what("JoinGroup"), classic(), BEARABLE, |_, call, _| {
            rubbish(call, body)
        })
        .await;
        survives::<SyncGroupRequest>(&what("SyncGroup"), classic(), BEARABLE, |_, call, _| {
            rubbish(call, body)
        })
        .await;
        survives::<OffsetFetchRequest>(&what("OffsetFetch"), classic(), BEARABLE, |_, call, _| {
            rubbish(call, body)
        })
        .await;
        survives::<FetchRequest>(&what("Fetch"), classic(), BEARABLE, |_, call, _| {
            rubbish(call, body)
        })
        .await;
        survives::<ConsumerGroupHeartbeatRequest>(
            &what("ConsumerGroupHeartbeat"),
            by_brokers(),
            BEARABLE,
            |_, call, _| rubbish(call, body),
        )
        .await;
        survives::<HeartbeatRequest>(&what("Heartbeat"), classic(), BEARABLE, |_, call, _| {
            rubbish(call, body)
        })
        .await;
        survives::<FindCoordinatorRequest>(
            &what("FindCoordinator"),
            classic(),
            BEARABLE,
            |_, call, _| rubbish(call, body),
        )
        .await;
        survives::<ListOffsetsRequest>(&what("ListOffsets"), classic(), BEARABLE, |_, call, _| {
            rubbish(call, body)
        })
        .await;
        survives_at::<OffsetForLeaderEpochRequest>(
            &what("OffsetForLeaderEpoch"),
            doubtful(),
            classic(),
            BEARABLE,
            |_, call, _| rubbish(call, body),
        )
        .await;
    }
}

/// The group has committed offsets of an epoch before: the leaders have to be asked if their logs are the ones that those are
/// from.
pub(crate) fn doubtful() -> (ScriptedCluster, Shared) {
    let (cluster, world) = start(1, 2);
    for partition in 0..2 {
        cluster.move_leader(TOPIC, partition, 1);
    }
    cluster.broker(1).on::<OffsetFetchRequest>(|_, _| {
        OffsetFetchResponse {
            groups: vec![committed(GROUP, 0, 0)],
            ..Default::default()
        }
        .into()
    });
    (cluster, world)
}

/// Of both partitions.
fn committed(group_id: &str, offset: i64, epoch: i32) -> OffsetFetchResponseGroup {
    OffsetFetchResponseGroup {
        group_id: group_id.to_owned().into(),
        topics: vec![OffsetFetchResponseTopics {
            name: TOPIC.into(),
            partitions: (0..2)
                .map(|partition_index| OffsetFetchResponsePartitions {
                    partition_index,
                    committed_offset: offset,
                    committed_leader_epoch: epoch,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_cannot_be() {
    let joined = |generation, id: &str| JoinGroupResponse {
        generation_id: generation,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        member_id: id.to_owned().into(),
        leader: "somebody".into(),
        ..Default::default()
    };
    let refused = |error_code, id: &str| JoinGroupResponse {
        error_code,
        ..joined(-1, id)
    };
    let answers = [
        ("no generation", joined(-1, "me")),
        ("the least generation", joined(i32::MIN, "me")),
        ("no name", joined(3, "")),
        (
            "a name that is none",
            refused(ErrorCode::MEMBER_ID_REQUIRED, ""),
        ),
        (
            "another name each time",
            refused(ErrorCode::MEMBER_ID_REQUIRED, "you"),
        ),
        (
            "unknown all the time",
            refused(ErrorCode::UNKNOWN_MEMBER_ID, "me"),
        ),
        (
            "over all the time",
            refused(ErrorCode::ILLEGAL_GENERATION, "me"),
        ),
        ("an error nobody knows", refused(ErrorCode(30_000), "me")),
        (
            "a protocol nobody offered",
            JoinGroupResponse {
                leader: "me".into(),
                protocol_name: Some("dice".into()),
                members: vec![JoinGroupResponseMember::default(); 1_000],
                ..joined(3, "me")
            },
        ),
    ];
    for (what, answer) in answers {
        survives::<JoinGroupRequest>(what, group_config(), BEARABLE, move |_, _, _| {
            answer.clone().into()
        })
        .await;
    }
    for (what, bytes) in [
        ("a count beyond the bytes", &b"\0\x03\x7f\xff\xff\xff"[..]),
        ("a version only", b"\0\x03"),
        ("an odd byte", b"\0"),
        (
            "partitions below zero, and twice",
            b"\0\x01\0\0\0\x01\0\x06clicks\0\0\0\x03\xff\xff\xff\xff\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
        ),
    ] {
        let assignment = Bytes::from_static(bytes);
        // What was taken for an assignment holds until there is another: so the group begins anew then.
        survives::<SyncGroupRequest>(what, group_config(), BEARABLE, move |_, _, world| {
            world.lock().unwrap().heartbeat = ErrorCode::REBALANCE_IN_PROGRESS;
            SyncGroupResponse {
                assignment: assignment.clone(),
                ..Default::default()
            }
            .into()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_of_brokers_that_cannot_be() {
    let nowhere = Uuid([9; 16]);
    let many: Vec<i32> = (0..50_000).chain(0..50_000).collect();
    let given = |epoch, assigned| ConsumerGroupHeartbeatResponse {
        assignment: Some(assigned),
        ..accepted(epoch)
    };
    let cases = [
        ("epoch 0", accepted(0), BEARABLE),
        ("an epoch below zero", accepted(-7), BEARABLE),
        ("the least epoch", accepted(i32::MIN), BEARABLE),
        (
            "a topic nobody knows",
            given(1, assignment(&[(nowhere, &[0, 1])])),
            BEARABLE,
        ),
        (
            "partitions below zero",
            given(1, assignment(&[(nowhere, &[-1, i32::MIN])])),
            BEARABLE,
        ),
        (
            "very many partitions, twice",
            given(1, assignment(&[(nowhere, &many)])),
            BEARABLE,
        ),
        (
            "no pause",
            ConsumerGroupHeartbeatResponse {
                heartbeat_interval_ms: 0,
                ..accepted(1)
            },
            620,
        ),
        (
            "a pause below zero",
            ConsumerGroupHeartbeatResponse {
                heartbeat_interval_ms: -1,
                ..accepted(1)
            },
            620,
        ),
        (
            "a pause for weeks",
            ConsumerGroupHeartbeatResponse {
                heartbeat_interval_ms: i32::MAX,
                ..accepted(1)
            },
            BEARABLE,
        ),
        (
            "an error nobody knows",
            ConsumerGroupHeartbeatResponse {
                error_code: ErrorCode(30_000),
                ..accepted(1)
            },
            BEARABLE,
        ),
        (
            "fenced all the time",
            ConsumerGroupHeartbeatResponse {
                error_code: ErrorCode::FENCED_MEMBER_EPOCH,
                ..accepted(1)
            },
            BEARABLE,
        ),
    ];
    for (what, answer, bearable) in cases {
        survives::<ConsumerGroupHeartbeatRequest>(what, by_brokers(), bearable, move |_, _, _| {
            answer.clone().into()
        })
        .await;
    }
}

/// Another name in each answer: what was begun under the first is ended under it.
#[tokio::test(start_paused = true)]
async fn a_member_is_not_named_anew() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 6);
    let (id, names) = (world.lock().unwrap().topic_id, AtomicUsize::new(0));
    cluster
        .broker(1)
        .on::<ConsumerGroupHeartbeatRequest>(move |request, _| {
            let joins = request.member_epoch == 0;
            ConsumerGroupHeartbeatResponse {
                member_id: Some(format!("name-{}", names.fetch_add(1, Relaxed)).into()),
                assignment: joins.then(|| assignment(&[(id, &[0, 1])])),
                ..accepted(request.member_epoch.max(1))
            }
            .into()
        });
    let consumer = consumer(&cluster, by_brokers());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 3).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(consumer.group_metadata().unwrap().member_id, "name-0");
    consumer.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn offsets_that_cannot_be() {
    let nothing = OffsetFetchResponseGroup {
        group_id: GROUP.into(),
        ..Default::default()
    };
    for (what, groups) in [
        ("no group", vec![]),
        ("no partition", vec![nothing]),
        ("an epoch below zero", vec![committed(GROUP, 0, i32::MIN)]),
        ("the largest epoch", vec![committed(GROUP, 0, i32::MAX)]),
        ("an offset below zero", vec![committed(GROUP, i64::MIN, -1)]),
    ] {
        survives::<OffsetFetchRequest>(what, group_config(), BEARABLE, move |_, _, _| {
            OffsetFetchResponse {
                groups: groups.clone(),
                ..Default::default()
            }
            .into()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn commits_that_are_answered_with_nonsense() {
    for body in RUBBISH {
        let (cluster, world) = start(1, 1);
        append(&world, 0, 6);
        let count = Arc::<AtomicUsize>::default();
        let counter = count.clone();
        cluster.broker(1).on::<OffsetCommitRequest>(move |_, call| {
            counter.fetch_add(1, Relaxed);
            rubbish(call, body)
        });
        let config = ConsumerConfig {
            enable_auto_commit: false,
            ..group_config()
        };
        let consumer = consumer(&cluster, config);
        consumer.subscribe([TOPIC]).unwrap();
        read(&consumer, 3).await;
        let error = consumer.commit().await.unwrap_err();
        assert!(matches!(error, Error::CommitUnknown { .. }), "{error:?}");
        let asked = count.load(Relaxed);
        assert!((1..BEARABLE).contains(&asked), "{asked}");
        consumer.close(Duration::from_secs(5)).await.unwrap();
    }
}

/// One partition of the topic, with what the answer says of it.
fn fetched(world: &Shared, data: Vec<PartitionData>) -> FetchResponse {
    FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: TOPIC.into(),
            topic_id: world.lock().unwrap().topic_id,
            partitions: data,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn data(partition: i32, records: &'static [u8]) -> PartitionData {
    PartitionData {
        partition_index: partition,
        records: Some(Bytes::from_static(records)),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn fetches_that_are_answered_with_nonsense() {
    type Answer = fn(&Shared) -> FetchResponse;
    let cases: [(&str, usize, Answer); 11] = [
        ("nothing, at once", UNPACED, |_| FetchResponse::default()),
        ("empty partitions, at once", UNPACED, |world| {
            fetched(world, vec![data(0, b""), data(1, b"")])
        }),
        ("a topic nobody knows", BEARABLE, |world| {
            let mut answer = fetched(world, vec![data(0, b"x")]);
            answer.responses[0].topic_id = Uuid([9; 16]);
            answer
        }),
        ("partitions nobody asked for", BEARABLE, |world| {
            fetched(
                world,
                vec![data(-1, b""), data(7, b""), data(i32::MAX, b"x")],
            )
        }),
        ("the same partition very often", UNPACED, |world| {
            fetched(world, vec![data(0, b""); 100])
        }),
        ("records that are none", BEARABLE, |world| {
            fetched(world, vec![data(0, &[0xff; 200]), data(1, &[0x7f; 200])])
        }),
        ("less than a batch", BEARABLE, |world| {
            fetched(world, vec![data(0, &[0; 11]), data(1, &[0; 30])])
        }),
        ("very many aborted transactions", UNPACED, |world| {
            let aborted = AbortedTransaction {
                producer_id: -1,
                first_offset: i64::MIN,
                ..Default::default()
            };
            let data = PartitionData {
                aborted_transactions: Some(vec![aborted; 100]),
                ..data(0, b"")
            };
            fetched(world, vec![data; 1])
        }),
        ("sent to itself", 700, |world| {
            let data = |partition| PartitionData {
                preferred_read_replica: 1,
                ..data(partition, b"")
            };
            fetched(world, vec![data(0), data(1)])
        }),
        ("a session below zero", UNPACED, |_| FetchResponse {
            session_id: -5,
            ..Default::default()
        }),
        ("an error nobody knows", BEARABLE, |world| {
            let data = |partition| PartitionData {
                error_code: ErrorCode(30_000),
                ..data(partition, b"")
            };
            fetched(world, vec![data(0), data(1)])
        }),
    ];
    for (what, bearable, answer) in cases {
        survives::<FetchRequest>(what, group_config(), bearable, move |_, _, world| {
            answer(world).into()
        })
        .await;
    }
}

/// Two brokers that send a reader to each other.
#[tokio::test(start_paused = true)]
async fn a_reader_is_not_sent_to_and_fro() {
    let (cluster, world) = start(2, 1);
    append(&world, 0, 3);
    let count = Arc::<AtomicUsize>::default();
    for node in 1..=2 {
        let (counter, w) = (count.clone(), world.clone());
        cluster.broker(node).on::<FetchRequest>(move |_, _| {
            counter.fetch_add(1, Relaxed);
            let data = PartitionData {
                preferred_read_replica: 3 - node,
                ..data(0, b"")
            };
            fetched(&w, vec![data]).into()
        });
    }
    let config = ConsumerConfig {
        client_rack: "here".into(),
        ..config()
    };
    let consumer = consumer(&cluster, config);
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    let none = timeout(Duration::from_secs(60), consumer.recv()).await;
    assert!(none.is_err(), "{none:?}");
    let asked = count.load(Relaxed);
    // After a pause each time that the leader's advice led nowhere.
    assert!((2..1_300).contains(&asked), "{asked}");
    for node in 1..=2 {
        serve_fetches(&cluster, &world, node);
    }
    read(&consumer, 3).await;
}

/// A broker that sends all it has, whatever it is asked for: what there is room for is kept.
#[tokio::test(start_paused = true)]
async fn more_than_was_asked_for_is_not_kept() {
    const BUDGET: usize = 1 << 20;
    let (cluster, world) = start(1, 1);
    for _ in 0..400 {
        append_with(
            &world,
            0,
            10,
            ottla_wire::compress::Compression::None,
            1_000,
        );
    }
    let all: Vec<u8> = {
        let world = world.lock().unwrap();
        world.logs[&0]
            .iter()
            .flat_map(|(_, _, bytes)| bytes.to_vec())
            .collect()
    };
    let size = all.len();
    let (count, w, all) = (
        Arc::<AtomicUsize>::default(),
        world.clone(),
        Bytes::from(all),
    );
    let counter = count.clone();
    cluster.broker(1).on::<FetchRequest>(move |request, _| {
        counter.fetch_add(1, Relaxed);
        let asked = request.topics.iter().flat_map(|topic| &topic.partitions);
        let more = asked.into_iter().any(|asked| asked.fetch_offset < 4_000);
        let data = PartitionData {
            partition_index: 0,
            records: Some(all.clone()).filter(|_| more),
            ..Default::default()
        };
        Reply::after(Duration::from_millis(20), fetched(&w, vec![data]))
    });
    let config = ConsumerConfig {
        queued_bytes_max: BUDGET,
        ..config()
    };
    let consumer = consumer(&cluster, config);
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    sleep(Duration::from_secs(60)).await;
    let queued: usize = consumer
        .metrics()
        .partitions
        .iter()
        .map(|p| p.queued_bytes)
        .sum();
    assert!(
        (BUDGET / 2..=BUDGET).contains(&queued),
        "{queued} of {size}"
    );
    assert_eq!(count.load(Relaxed), 2, "each is to fill half of it");
    read(&consumer, 4_000).await;
    // Each brings half of the budget at the least, once half of it is free.
    let asked = count.load(Relaxed);
    assert!(asked <= 2 * size.div_ceil(BUDGET / 2), "{asked}");
}
