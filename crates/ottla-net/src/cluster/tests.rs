//! Clusters of scripted brokers, with the clock paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ottla_wire::messages::find_coordinator::FindCoordinatorRequest;
use ottla_wire::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use ottla_wire::messages::metadata::{MetadataRequest, MetadataResponse, MetadataResponseBroker};
use ottla_wire::{ApiKey, ErrorCode, Uuid, VersionRange};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use crate::testing::{Reply, ScriptedBroker, ScriptedCluster};
use crate::transport::memory::MemoryNetwork;
use crate::{
    Address, CloseCause, Cluster, ClusterConfig, CoordinatorKind, Error, ForeignAnswer, Lane,
    LeaderHint, Sent, To,
};

const SECOND: Duration = Duration::from_secs(1);
const GROUP: CoordinatorKind = CoordinatorKind::Group;

fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// Answers heartbeats without error.
fn beat(broker: &ScriptedBroker) {
    broker.on::<HeartbeatRequest>(|_, _| HeartbeatResponse::default().into());
}

fn beating(brokers: &ScriptedCluster) -> Cluster {
    brokers.brokers().iter().for_each(beat);
    brokers.connect()
}

async fn heartbeat(cluster: &Cluster, to: To<'_>, deadline: Instant) -> Result<(), Error> {
    let request = |_| HeartbeatRequest::default();
    let response = cluster.call(to, Lane::Coordination, i16::MAX, request, deadline);
    response.await.map(drop)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_connected_before_something_is_asked() {
    let brokers = ScriptedCluster::start(3);
    let cluster = brokers.connect();
    sleep(600 * SECOND).await;
    assert!(
        brokers
            .brokers()
            .iter()
            .all(|broker| broker.connections() == 0)
    );
    let known = cluster.ready(within(1)).await.unwrap();
    assert_eq!(
        (known.brokers().len(), known.cluster_id()),
        (3, Some("scripted"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_party_has_the_lanes_of_its_own_on_which_brokers_keep_requests() {
    let brokers = ScriptedCluster::start(1);
    let cluster = brokers.connect();
    let known = cluster.ready(within(1)).await.unwrap();
    let node = known.brokers().next().unwrap().id;
    let (one, other) = (cluster.with_own_lanes(), cluster.with_own_lanes());
    for (lane, is_own) in [
        (Lane::Fetch, true),
        (Lane::Coordination, true),
        (Lane::Produce, false),
        (Lane::Control, false),
    ] {
        let on = async |cluster: &Cluster| cluster.connection(node, lane, within(1)).await.unwrap();
        let first = on(&one).await;
        assert_eq!(on(&one.clone()).await.id(), first.id(), "{lane:?}");
        assert_eq!(on(&other).await.id() != first.id(), is_own, "{lane:?}");
        assert_eq!(on(&cluster).await.id() != first.id(), is_own, "{lane:?}");
    }
    let own = one.connection(node, Lane::Fetch, within(1)).await.unwrap();
    let clone = one.clone();
    drop(one);
    assert!(own.is_usable(), "somebody has it still");
    drop(clone);
    own.ended().await;
    let shared = cluster.connection(node, Lane::Control, within(1)).await;
    assert!(shared.unwrap().is_usable());
    let others = other.connection(node, Lane::Fetch, within(1)).await;
    assert!(others.unwrap().is_usable());
}

#[tokio::test(start_paused = true)]
async fn a_topic_created_a_little_later_is_found() {
    let brokers = ScriptedCluster::start(3);
    let cluster = brokers.connect();
    let start = Instant::now();
    let creating = async {
        sleep(5 * SECOND).await;
        brokers.add_topic("t", 6);
    };
    let (found, ()) = tokio::join!(cluster.topic("t", within(60)), creating);
    assert_eq!(found.unwrap().partitions.len(), 6);
    assert!((5..8).contains(&start.elapsed().as_secs()));
    assert_eq!(cluster.metadata().leader("t", 4), Some((2, 0)));
    // Known from now on: asking costs nothing.
    let asked: usize = brokers
        .brokers()
        .iter()
        .map(|b| b.count(ApiKey::Metadata))
        .sum();
    cluster.topic("t", within(60)).await.unwrap();
    let again: usize = brokers
        .brokers()
        .iter()
        .map(|b| b.count(ApiKey::Metadata))
        .sum();
    assert_eq!(asked, again);
    assert!(asked < 20, "{asked} requests in five seconds");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_is_an_error_at_the_deadline() {
    let brokers = ScriptedCluster::start(1);
    let cluster = brokers.connect();
    let start = Instant::now();
    let error = cluster.topic("nope", within(10)).await.unwrap_err();
    assert_eq!(start.elapsed(), 10 * SECOND);
    let text = error.to_string();
    assert!(
        text.contains("\"nope\"") && text.contains("UNKNOWN_TOPIC_OR_PARTITION"),
        "{text}"
    );
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));

    brokers.add_topic("empty", 0);
    let text = cluster
        .topic("empty", within(10))
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("no partition yet"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_topic_is_an_error_at_once_each_time() {
    let brokers = ScriptedCluster::start(1);
    brokers.add_topic("t", 1);
    brokers.fail_topic("t", ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let cluster = brokers.connect();
    for _ in 0..2 {
        let start = Instant::now();
        let error = cluster.topic("t", within(60)).await.unwrap_err();
        assert!(
            matches!(error, Error::Topic { .. }) && !error.is_retriable(),
            "{error}"
        );
        assert!(start.elapsed() < SECOND);
    }
    brokers.fail_topic("t", ErrorCode::NONE);
    cluster.topic("t", within(60)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_for_topics_ask_together() {
    let brokers = ScriptedCluster::start(1);
    let cluster = brokers.connect();
    let mut waiting = Vec::new();
    for n in 0..100 {
        brokers.add_topic(&format!("t{n}"), 1);
        let cluster = cluster.clone();
        waiting.push(tokio::spawn(async move {
            cluster.topic(&format!("t{n}"), within(60)).await.map(drop)
        }));
    }
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    assert!(brokers.broker(1).count(ApiKey::Metadata) <= 3);
}

#[tokio::test(start_paused = true)]
async fn bootstrap_servers_that_are_down_or_silent_do_not_matter_while_one_is_up() {
    let brokers = ScriptedCluster::start(1);
    let silent = Address::new("silent", 9092);
    brokers.network().silence(silent.clone());
    for seed in 0..20 {
        fastrand::seed(seed);
        let mut config = brokers.config();
        config.bootstrap_servers.push(silent.clone());
        config.bootstrap_servers.push(Address::new("down", 9092));
        let cluster = brokers.connect_with(config);
        let start = Instant::now();
        cluster.ready(within(60)).await.unwrap();
        assert!(start.elapsed() < 3 * SECOND, "{:?}", start.elapsed());
        cluster.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn bootstrap_servers_all_down_are_an_error_at_the_deadline() {
    let network = MemoryNetwork::new();
    let config = ClusterConfig::new([Address::new("down", 9092), Address::new("off", 9092)]);
    network.silence(Address::new("off", 9092));
    let cluster = Cluster::new(config, network.connector()).unwrap();
    let start = Instant::now();
    let error = cluster.topic("t", within(30)).await.unwrap_err();
    assert_eq!(start.elapsed(), 30 * SECOND);
    let text = error.to_string();
    assert!(
        text.contains("cannot connect to bootstrap server"),
        "{text}"
    );
    assert!(error.is_retriable() && error.sent() == Sent::No);
    let start = Instant::now();
    cluster.close().await;
    assert!(start.elapsed() <= SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_port_is_told_at_once() {
    for (answer, expected) in [
        (&b"\x15\x03\x03\x00\x02\x02\x46"[..], ForeignAnswer::Tls),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ForeignAnswer::Http),
    ] {
        let network = MemoryNetwork::new();
        let mut listener = network.listen(Address::new("web", 443));
        let serving = tokio::spawn(async move {
            loop {
                let mut stream = listener.accept().await;
                let _ = stream.read(&mut [0; 100]).await;
                let _ = stream.write_all(answer).await;
            }
        });
        let config = ClusterConfig::new([Address::new("web", 443)]);
        let cluster = Cluster::new(config, network.connector()).unwrap();
        let start = Instant::now();
        for outcome in [
            cluster.topic("t", within(60)).await.map(drop),
            cluster.ready(within(60)).await.map(drop),
            heartbeat(&cluster, To::Any, within(60)).await,
            cluster.coordinator(GROUP, "g", within(60)).await.map(drop),
        ] {
            let error = outcome.unwrap_err();
            assert!(
                matches!(&error, Error::NotKafka { answer, .. } if *answer == expected),
                "{error}"
            );
        }
        assert!(start.elapsed() < 10 * SECOND, "{:?}", start.elapsed());
        serving.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_an_error_at_the_deadline() {
    let network = MemoryNetwork::new();
    let mut listener = network.listen(Address::new("mute", 9092));
    let serving = tokio::spawn(async move {
        let mut streams = Vec::new();
        loop {
            streams.push(listener.accept().await);
        }
    });
    let config = ClusterConfig::new([Address::new("mute", 9092)]);
    let cluster = Cluster::new(config, network.connector()).unwrap();
    let start = Instant::now();
    let error = cluster.ready(within(25)).await.unwrap_err();
    assert_eq!(start.elapsed(), 25 * SECOND);
    assert!(error.to_string().contains("did not answer"), "{error}");
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn callers_share_a_connection_and_lanes_do_not() {
    let brokers = ScriptedCluster::start(3);
    let cluster = beating(&brokers);
    cluster.ready(within(5)).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (a, b, c, d) = tokio::join!(
            cluster.connection(2, Lane::Produce, within(5)),
            cluster.connection(2, Lane::Produce, within(5)),
            cluster.connection(2, Lane::Fetch, within(5)),
            cluster.connection(3, Lane::Produce, within(5)),
        );
        ids.push([a, b, c, d].map(|connection| connection.unwrap().id()));
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0][0], ids[0][1]);
    assert!(ids[0][1] != ids[0][2] && ids[0][2] != ids[0][3] && ids[0][1] != ids[0][3]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_does_not_take_the_connection_from_the_others() {
    let brokers = ScriptedCluster::start(1);
    let cluster = beating(&brokers);
    cluster.ready(within(5)).await.unwrap();
    let before = brokers.broker(1).connections();
    // The handshake takes a second from now on.
    use ottla_wire::messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
    brokers.broker(1).on::<ApiVersionsRequest>(|_, _| {
        Reply::after(
            SECOND,
            ApiVersionsResponse {
                api_keys: [ApiKey::Heartbeat, ApiKey::Metadata]
                    .map(|api| ApiVersion {
                        api_key: api as i16,
                        min_version: api.versions().min,
                        max_version: api.versions().max,
                        ..Default::default()
                    })
                    .into(),
                ..Default::default()
            },
        )
    });
    let impatient = timeout(SECOND / 2, cluster.connection(1, Lane::Fetch, within(9)));
    let (impatient, patient) =
        tokio::join!(impatient, cluster.connection(1, Lane::Fetch, within(9)));
    assert!(impatient.is_err() && patient.is_ok());
    assert_eq!(brokers.broker(1).connections(), before + 1);

    // Even if all give up, what was begun serves whoever asks next.
    let start = Instant::now();
    let error = cluster
        .connection(1, Lane::Produce, start + SECOND / 2)
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Deadline { .. }) && error.to_string().contains("broker 1"));
    cluster
        .connection(1, Lane::Produce, within(9))
        .await
        .unwrap();
    assert_eq!(start.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_down_is_not_hammered() {
    let brokers = ScriptedCluster::start(2);
    let cluster = beating(&brokers);
    cluster.ready(within(5)).await.unwrap();
    brokers.broker(2).kill();
    let start = Instant::now();
    let mut attempts = 0;
    while start.elapsed() < 20 * SECOND {
        let error = cluster
            .connection(2, Lane::Produce, within(60))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        assert!(
            error.to_string().contains("advertised.listeners"),
            "{error}"
        );
        attempts += 1;
    }
    assert!((15..40).contains(&attempts), "{attempts} attempts in 20 s");
    // With less time than the rest lasts the answer is not worth waiting for.
    let now = Instant::now();
    let error = cluster.connection(2, Lane::Produce, now).await.unwrap_err();
    assert!(error.is_retriable() && now.elapsed() == Duration::ZERO);
    brokers.broker(2).restart();
    cluster
        .connection(2, Lane::Produce, within(60))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_outlives_the_restart_of_its_broker() {
    let brokers = ScriptedCluster::start(2);
    let cluster = beating(&brokers);
    heartbeat(&cluster, To::Node(2), within(5)).await.unwrap();
    brokers.broker(2).kill();
    let restarting = async {
        sleep(10 * SECOND).await;
        brokers.broker(2).restart();
    };
    let start = Instant::now();
    let (outcome, ()) = tokio::join!(heartbeat(&cluster, To::Node(2), within(60)), restarting);
    outcome.unwrap();
    assert!(start.elapsed() < 13 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_call_fails_at_its_deadline_with_the_last_error() {
    let brokers = ScriptedCluster::start(2);
    let cluster = beating(&brokers);
    cluster.ready(within(5)).await.unwrap();
    brokers.broker(2).kill();
    let start = Instant::now();
    let error = heartbeat(&cluster, To::Node(2), within(7))
        .await
        .unwrap_err();
    assert!(start.elapsed() <= 7 * SECOND && start.elapsed() > 5 * SECOND);
    assert!(error.is_timeout() && error.sent() == Sent::No, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");

    brokers.broker(2).restart();
    brokers
        .broker(2)
        .on::<HeartbeatRequest>(|_, _| Reply::Silence);
    let error = heartbeat(&cluster, To::Node(2), within(7))
        .await
        .unwrap_err();
    assert_eq!(error.sent(), Sent::Maybe, "{error}");
    assert!(error.is_timeout());
}

#[tokio::test(start_paused = true)]
async fn an_api_that_the_broker_lacks_is_told_at_once() {
    let brokers = ScriptedCluster::start(1);
    brokers.broker(1).speak(ApiKey::Heartbeat, None);
    let cluster = beating(&brokers);
    let error = heartbeat(&cluster, To::Any, within(60)).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn codes_that_pass_are_tried_again_and_others_returned() {
    let brokers = ScriptedCluster::start(1);
    let codes = [
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::ILLEGAL_GENERATION,
    ];
    brokers
        .broker(1)
        .queue::<HeartbeatRequest>(codes.map(|error_code| {
            Reply::from(HeartbeatResponse {
                error_code,
                ..Default::default()
            })
        }));
    let cluster = brokers.connect();
    let check = |response: &HeartbeatResponse| response.error_code;
    let request = |_| HeartbeatRequest::default();
    let response = cluster
        .call_checked(To::Any, Lane::Coordination, 9, request, check, within(9))
        .await
        .unwrap();
    assert_eq!(response.error_code, ErrorCode::ILLEGAL_GENERATION);

    // At the deadline a code is an answer all the same.
    brokers.broker(1).on::<HeartbeatRequest>(|_, _| {
        Reply::from(HeartbeatResponse {
            error_code: ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ..Default::default()
        })
    });
    let response = cluster
        .call_checked(To::Any, Lane::Coordination, 9, request, check, within(9))
        .await
        .unwrap();
    assert_eq!(response.error_code, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
}

#[tokio::test(start_paused = true)]
async fn a_throttle_longer_than_the_request_timeout_is_waited_for() {
    let brokers = ScriptedCluster::start(1);
    let throttled = HeartbeatResponse {
        throttle_time_ms: 100_000,
        ..Default::default()
    };
    let free = HeartbeatResponse::default();
    let replies = [Reply::from(throttled), Reply::from(free)];
    brokers.broker(1).queue::<HeartbeatRequest>(replies);
    let cluster = brokers.connect();
    let start = Instant::now();
    heartbeat(&cluster, To::Node(1), within(600)).await.unwrap();
    heartbeat(&cluster, To::Node(1), within(600)).await.unwrap();
    assert_eq!(start.elapsed(), 100 * SECOND);
    assert_eq!(brokers.broker(1).count(ApiKey::Heartbeat), 2);
}

#[tokio::test(start_paused = true)]
async fn two_callers_share_a_lookup_and_one_may_give_up() {
    let brokers = ScriptedCluster::start(3);
    let asked = Arc::new(AtomicUsize::new(0));
    for broker in brokers.brokers() {
        let asked = asked.clone();
        broker.on::<FindCoordinatorRequest>(move |request, _| {
            asked.fetch_add(1, Ordering::Relaxed);
            let coordinators = request.coordinator_keys.iter().map(|key| {
                ottla_wire::messages::find_coordinator::Coordinator {
                    key: key.clone(),
                    node_id: 3,
                    host: "broker-3".into(),
                    port: 9092,
                    ..Default::default()
                }
            });
            Reply::after(
                5 * SECOND,
                ottla_wire::messages::find_coordinator::FindCoordinatorResponse {
                    coordinators: coordinators.collect(),
                    ..Default::default()
                },
            )
        });
    }
    let cluster = brokers.connect();
    cluster.ready(within(5)).await.unwrap();
    let start = Instant::now();
    // The one that started the look-up leaves first.
    let impatient = timeout(2 * SECOND, cluster.coordinator(GROUP, "g", within(60)));
    let (impatient, patient) = tokio::join!(impatient, cluster.coordinator(GROUP, "g", within(60)));
    assert!(impatient.is_err());
    assert_eq!(patient.unwrap(), 3);
    assert_eq!(
        (asked.load(Ordering::Relaxed), start.elapsed()),
        (1, 5 * SECOND)
    );
    // Remembered.
    assert_eq!(
        cluster.coordinator(GROUP, "g", within(60)).await.unwrap(),
        3
    );
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moved_is_found_again() {
    let brokers = ScriptedCluster::start(3);
    let cluster = beating(&brokers);
    let to = To::Coordinator(GROUP, "g");
    brokers.set_coordinator("g", Ok(2));
    heartbeat(&cluster, to, within(9)).await.unwrap();
    brokers.set_coordinator("g", Ok(3));
    brokers.broker(2).on::<HeartbeatRequest>(|_, _| {
        Reply::from(HeartbeatResponse {
            error_code: ErrorCode::NOT_COORDINATOR,
            ..Default::default()
        })
    });
    let check = |response: &HeartbeatResponse| response.error_code;
    let request = |_| HeartbeatRequest::default();
    let response = cluster
        .call_checked(to, Lane::Coordination, 9, request, check, within(9))
        .await
        .unwrap();
    assert_eq!(response.error_code, ErrorCode::NONE);
    assert_eq!(brokers.broker(3).count(ApiKey::Heartbeat), 1);

    // A coordinator that died is found again as well.
    brokers.set_coordinator("g", Ok(1));
    brokers.broker(3).kill();
    heartbeat(&cluster, to, within(9)).await.unwrap();
    assert_eq!(brokers.broker(1).count(ApiKey::Heartbeat), 1);
}

#[tokio::test(start_paused = true)]
async fn coordinators_of_old_brokers_are_asked_for_one_by_one() {
    let brokers = ScriptedCluster::start(1);
    let old = Some(VersionRange::new(0, 2));
    brokers.broker(1).speak(ApiKey::FindCoordinator, old);
    brokers.set_coordinator("h", Err(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    let cluster = brokers.connect();
    let (g, h) = tokio::join!(
        cluster.coordinator(GROUP, "g", within(9)),
        cluster.coordinator(GROUP, "h", within(9)),
    );
    assert_eq!(g.unwrap(), 1);
    let error = h.unwrap_err();
    assert!(
        matches!(error, Error::Coordinator { .. }) && !error.is_retriable(),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_nobody_is_yet_is_waited_for() {
    let brokers = ScriptedCluster::start(1);
    brokers.set_coordinator("g", Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    let cluster = brokers.connect();
    let electing = async {
        sleep(4 * SECOND).await;
        brokers.set_coordinator("g", Ok(1));
    };
    let (found, ()) = tokio::join!(cluster.coordinator(GROUP, "g", within(9)), electing);
    assert_eq!(found.unwrap(), 1);
    brokers.set_coordinator("h", Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    let error = cluster
        .coordinator(GROUP, "h", within(9))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("COORDINATOR_NOT_AVAILABLE"),
        "{error}"
    );
    assert!(error.is_retriable());
}

/// Answers Metadata with these brokers, all at port 9092.
fn introduce(broker: &ScriptedBroker, nodes: &'static [(i32, &str)]) {
    broker.on::<MetadataRequest>(move |_, _| {
        Reply::from(MetadataResponse {
            brokers: nodes
                .iter()
                .map(|&(node_id, host)| MetadataResponseBroker {
                    node_id,
                    host: host.into(),
                    port: 9092,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        })
    });
}

#[tokio::test(start_paused = true)]
async fn brokers_that_all_moved_are_found_through_the_bootstrap_servers() {
    let network = MemoryNetwork::new();
    let start = |node, host| ScriptedBroker::start(&network, node, Address::new(host, 9092));
    let (door, old) = (start(-1, "door"), start(1, "old"));
    introduce(&door, &[(1, "old")]);
    introduce(&old, &[(1, "old")]);
    beat(&old);
    let config = ClusterConfig::new([Address::new("door", 9092)]);
    let cluster = Cluster::new(config, network.connector()).unwrap();
    heartbeat(&cluster, To::Node(1), within(9)).await.unwrap();
    assert_eq!(door.count(ApiKey::Metadata), 1);

    old.kill();
    let new = start(1, "new");
    beat(&new);
    introduce(&new, &[(1, "new")]);
    introduce(&door, &[(1, "new")]);
    heartbeat(&cluster, To::Node(1), within(9)).await.unwrap();
    assert_eq!(new.count(ApiKey::Heartbeat), 1);
    assert_eq!(cluster.metadata().broker(1).unwrap().address.host(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_broker_at_a_new_address_is_reached_there() {
    let network = MemoryNetwork::new();
    let start = |node, host| ScriptedBroker::start(&network, node, Address::new(host, 9092));
    let (door, here, there) = (start(9, "door"), start(1, "here"), start(1, "there"));
    introduce(&door, &[(9, "door"), (1, "here")]);
    introduce(&here, &[(9, "door"), (1, "here")]);
    beat(&there);
    here.on::<HeartbeatRequest>(|_, _| Reply::Silence);
    let config = ClusterConfig::new([Address::new("door", 9092)]);
    let cluster = Cluster::new(config, network.connector()).unwrap();
    cluster.ready(within(9)).await.unwrap();
    let old = cluster
        .connection(1, Lane::Coordination, within(9))
        .await
        .unwrap();
    let request = HeartbeatRequest::default();
    let pending = old.submit(&request, 4, within(30)).unwrap();

    for broker in [&door, &here] {
        introduce(broker, &[(9, "door"), (1, "there")]);
    }
    cluster.refresh_soon();
    let error = pending.await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Disconnected {
                cause: CloseCause::Moved,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.is_retriable());
    heartbeat(&cluster, To::Node(1), within(9)).await.unwrap();
    assert_eq!(there.count(ApiKey::Heartbeat), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_nobody_lists_any_more_still_answers() {
    let network = MemoryNetwork::new();
    let start = |node, host| ScriptedBroker::start(&network, node, Address::new(host, 9092));
    let (door, leaving) = (start(9, "door"), start(1, "leaving"));
    introduce(&door, &[(9, "door"), (1, "leaving")]);
    introduce(&leaving, &[(9, "door"), (1, "leaving")]);
    leaving.on::<HeartbeatRequest>(|_, _| Reply::after(5 * SECOND, HeartbeatResponse::default()));
    let config = ClusterConfig::new([Address::new("door", 9092)]);
    let cluster = Cluster::new(config, network.connector()).unwrap();
    cluster.ready(within(9)).await.unwrap();
    let connection = cluster
        .connection(1, Lane::Coordination, within(9))
        .await
        .unwrap();
    let pending = connection
        .submit(&HeartbeatRequest::default(), 4, within(30))
        .unwrap();
    introduce(&door, &[(9, "door")]);
    introduce(&leaving, &[(9, "door")]);
    let mut changes = cluster.changes();
    cluster.refresh_soon();
    changes.changed().await.unwrap();
    assert!(cluster.metadata().broker(1).is_none());
    pending.await.unwrap();
    let error = cluster
        .connection(1, Lane::Coordination, within(9))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::UnknownBroker { node: 1 }) && error.is_retriable());
}

/// An authenticator with a fault.
struct Panics(AtomicUsize);

impl crate::Authenticator for Panics {
    fn authenticate<'a>(
        &'a self,
        _: &'a mut crate::Handshake,
    ) -> crate::transport::BoxFuture<'a, Result<crate::Session, Error>> {
        let first = self.0.fetch_add(1, Ordering::Relaxed) == 0;
        assert!(!first, "the fault that this test is about");
        Box::pin(async { Ok(crate::Session::default()) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_authenticator_is_an_error_and_blocks_nothing() {
    let brokers = ScriptedCluster::start(1);
    let mut config = brokers.config();
    config.authenticator = Some(Arc::new(Panics(AtomicUsize::new(0))));
    let cluster = brokers.connect_with(config);
    let error = cluster.ready(within(9)).await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    cluster.ready(within(9)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_has_the_metadata_refreshed() {
    let brokers = ScriptedCluster::start(3);
    brokers.add_topic("t", 3);
    let cluster = beating(&brokers);
    cluster.track(["t"]);
    cluster.topic("t", within(9)).await.unwrap();
    let _connection = cluster
        .connection(2, Lane::Produce, within(9))
        .await
        .unwrap();
    brokers.move_leader("t", 1, 3);
    let mut changes = cluster.changes();
    brokers.broker(2).kill();
    changes.changed().await.unwrap();
    assert_eq!(cluster.metadata().leader("t", 1), Some((3, 1)));
}

#[tokio::test(start_paused = true)]
async fn leaders_told_by_error_replies_are_news_at_once() {
    let brokers = ScriptedCluster::start(3);
    brokers.add_topic("t", 1);
    let cluster = brokers.connect();
    cluster.topic("t", within(9)).await.unwrap();
    let before = *cluster.changes().borrow();
    let hint = |leader, leader_epoch| LeaderHint {
        topic: "t",
        partition: 0,
        leader,
        leader_epoch,
    };
    cluster.learn_leaders(&[hint(7, 1)], [(7, "broker-7", 9092, None)]);
    assert_eq!(cluster.metadata().leader("t", 0), Some((7, 1)));
    assert_eq!(*cluster.changes().borrow(), before + 1);
    cluster.learn_leaders(&[hint(2, 1)], []);
    assert_eq!(
        *cluster.changes().borrow(),
        before + 1,
        "not newer, no news"
    );
}

#[tokio::test(start_paused = true)]
async fn a_topic_created_anew_has_its_new_id() {
    let brokers = ScriptedCluster::start(3);
    let first = brokers.add_topic("t", 1);
    brokers.move_leader("t", 0, 2);
    let cluster = brokers.connect();
    cluster.track(["t"]);
    assert_eq!(cluster.topic("t", within(9)).await.unwrap().id, first);
    let second = brokers.add_topic("t", 2);
    assert_ne!((first, Uuid::ZERO), (second, first));
    let mut changes = cluster.changes();
    cluster.refresh_soon();
    changes.changed().await.unwrap();
    let topic = cluster.metadata().topic_by_id(second).cloned().unwrap();
    assert_eq!((&*topic.name, topic.partitions[0].leader_epoch), ("t", 0));
}

#[tokio::test(start_paused = true)]
async fn metadata_is_fetched_anew_at_its_age() {
    let brokers = ScriptedCluster::start(1);
    brokers.add_topic("t", 1);
    let cluster = brokers.connect();
    cluster.track(["t"]);
    cluster.topic("t", within(9)).await.unwrap();
    brokers.move_leader("t", 0, -1);
    sleep(cluster.config().metadata_max_age + SECOND).await;
    assert_eq!(cluster.metadata().leader("t", 0), None);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_and_made_again() {
    let brokers = ScriptedCluster::start(1);
    let cluster = beating(&brokers);
    heartbeat(&cluster, To::Node(1), within(9)).await.unwrap();
    let connection = cluster
        .connection(1, Lane::Coordination, within(9))
        .await
        .unwrap();
    assert!(!cluster.connections().is_empty());
    sleep(541 * SECOND).await;
    assert!(connection.has_ended());
    let error = connection
        .submit(&HeartbeatRequest::default(), 4, within(9))
        .unwrap_err();
    assert!(matches!(
        &error,
        Error::Disconnected {
            cause: CloseCause::Idle,
            sent: Sent::No,
            ..
        }
    ));
    heartbeat(&cluster, To::Node(1), within(9)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_aged_produce_connection_is_replaced_when_it_is_drained() {
    let brokers = ScriptedCluster::start(1);
    brokers
        .broker(1)
        .on::<HeartbeatRequest>(|_, _| Reply::after(15 * SECOND, HeartbeatResponse::default()));
    let mut config = brokers.config();
    config.connection_lifetime_max = Some(10 * SECOND);
    let cluster = brokers.connect_with(config);
    cluster.ready(within(9)).await.unwrap();
    let start = Instant::now();
    let old = cluster
        .connection(1, Lane::Produce, within(60))
        .await
        .unwrap();
    let pending = old
        .submit(&HeartbeatRequest::default(), 4, within(60))
        .unwrap();
    sleep(11 * SECOND).await;
    let (new, answered) = tokio::join!(cluster.connection(1, Lane::Produce, within(60)), pending);
    answered.unwrap();
    assert_ne!(new.unwrap().id(), old.id());
    assert_eq!(start.elapsed(), 15 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_is_replaced_and_the_others_go_on() {
    let brokers = ScriptedCluster::start(2);
    let cluster = beating(&brokers);
    heartbeat(&cluster, To::Node(1), within(9)).await.unwrap();
    heartbeat(&cluster, To::Node(2), within(9)).await.unwrap();
    brokers.broker(2).fall_silent();
    let silent = cluster.clone();
    let waiting = tokio::spawn(async move { heartbeat(&silent, To::Node(2), within(100)).await });
    for _ in 0..20 {
        heartbeat(&cluster, To::Node(1), within(9)).await.unwrap();
        sleep(SECOND).await;
    }
    brokers.broker(2).restart();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_ends_everything_that_waits() {
    let brokers = ScriptedCluster::start(2);
    brokers
        .broker(1)
        .on::<HeartbeatRequest>(|_, _| Reply::Silence);
    let off = Address::new("off", 9092);
    brokers.network().silence(off.clone());
    let cluster = brokers.connect();
    cluster.ready(within(9)).await.unwrap();
    let connection = cluster.connection(1, Lane::Fetch, within(9)).await.unwrap();
    let pending = connection
        .submit(&HeartbeatRequest::default(), 4, within(600))
        .unwrap();
    brokers.set_coordinator("g", Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    cluster.learn_leaders(&[], [(9, "off", 9092, None)]);

    let waiting = {
        let [a, b, c, d] = std::array::from_fn(|_| cluster.clone());
        [
            tokio::spawn(async move { a.topic("none", within(600)).await.map(drop) }),
            tokio::spawn(async move { b.coordinator(GROUP, "g", within(600)).await.map(drop) }),
            tokio::spawn(async move { c.connection(9, Lane::Fetch, within(600)).await.map(drop) }),
            tokio::spawn(async move { heartbeat(&d, To::Node(1), within(600)).await }),
        ]
    };
    sleep(SECOND).await;
    let start = Instant::now();
    cluster.close().await;
    assert!(start.elapsed() <= SECOND);
    for waiting in waiting {
        let error = waiting.await.unwrap().unwrap_err();
        let closed = matches!(
            &error,
            Error::Closed
                | Error::Disconnected {
                    cause: CloseCause::ByClient,
                    ..
                }
        );
        assert!(closed, "{error}");
    }
    assert!(matches!(
        pending.await,
        Err(Error::Disconnected {
            cause: CloseCause::ByClient,
            ..
        })
    ));
    assert!(start.elapsed() <= 2 * SECOND);
    assert!(matches!(
        cluster.topic("t", within(9)).await,
        Err(Error::Closed)
    ));
    assert!(matches!(
        cluster.ready(within(9)).await,
        Ok(_) | Err(Error::Closed)
    ));
    assert!(matches!(
        cluster.connection(1, Lane::Fetch, within(9)).await,
        Err(Error::Closed)
    ));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_ends_the_tasks() {
    let brokers = ScriptedCluster::start(1);
    let cluster = beating(&brokers);
    heartbeat(&cluster, To::Any, within(9)).await.unwrap();
    let connection = cluster.connection(1, Lane::Fetch, within(9)).await.unwrap();
    let tasks = cluster.inner().tasks.clone();
    let other = cluster.clone();
    drop(cluster);
    heartbeat(&other, To::Any, within(9)).await.unwrap();
    drop(other);
    timeout(2 * SECOND, tasks.wait()).await.unwrap();
    assert!(connection.has_ended());
}

/// Cut at any moment, a client still works.
#[tokio::test(start_paused = true)]
async fn calls_dropped_at_any_await_leave_the_client_usable() {
    let brokers = ScriptedCluster::start_on(&MemoryNetwork::with_stream_bytes(64), 3);
    brokers.add_topic("t", 3);
    for polls in 0..40 {
        let cluster = beating(&brokers);
        brokers.set_coordinator("g", Ok(2));
        let work = async {
            cluster.topic("t", within(9)).await.unwrap();
            heartbeat(&cluster, To::Coordinator(GROUP, "g"), within(9))
                .await
                .unwrap();
        };
        let mut work = Box::pin(work);
        let mut left = polls;
        let cut = std::future::poll_fn(|cx| {
            if left == 0 {
                return std::task::Poll::Ready(true);
            }
            left -= 1;
            work.as_mut().poll(cx).map(|()| false)
        });
        let was_cut = cut.await;
        drop(work);
        let start = Instant::now();
        cluster.topic("t", within(9)).await.unwrap();
        heartbeat(&cluster, To::Coordinator(GROUP, "g"), within(9))
            .await
            .unwrap();
        assert!(
            start.elapsed() < SECOND,
            "after {polls} polls, cut: {was_cut}"
        );
        cluster.close().await;
    }
}
