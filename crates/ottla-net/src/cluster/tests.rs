//! Clusters of scripted brokers, with the clock paused.

mod calls;
mod connections;
mod coordinators;
mod servers;
mod topics;

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
