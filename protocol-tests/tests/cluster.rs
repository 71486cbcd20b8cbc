//! Connections and metadata of `ottla-net` against live brokers that die, stall and come back.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::time::Duration;

use ottla_net::{Address, Cluster, ClusterConfig, CoordinatorKind, Error, Instant, Lane, Sent, To};
use ottla_protocol_tests::{KafkaCluster, Options, Version, or_skip, unique};
use ottla_wire::Uuid;
use ottla_wire::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_wire::messages::list_groups::ListGroupsRequest;
use ottla_wire::messages::metadata::MetadataRequest;

#[test]
fn a_cluster_that_loses_nodes_and_gets_them_back() {
    let options = Options {
        nodes: 3,
        ..Options::default()
    };
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    run(async {
        learns_cluster_topics_and_coordinators(&kafka).await;
        pipelines_on_every_lane(&kafka).await;
        a_stalled_broker_costs_its_own_requests_only(&kafka).await;
        finds_the_new_leader_when_the_old_one_dies(&kafka).await;
        outlives_the_death_of_all_brokers(&kafka).await;
    });
}

#[test]
fn the_oldest_supported_line() {
    let options = Options {
        version: Version::V3_9,
        ..Options::default()
    };
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    run(async {
        learns_cluster_topics_and_coordinators(&kafka).await;
        pipelines_on_every_lane(&kafka).await;
    });
}

async fn learns_cluster_topics_and_coordinators(kafka: &KafkaCluster) {
    // A server that is down, before the others.
    let mut config = config(kafka);
    config
        .bootstrap_servers
        .insert(0, Address::new("127.0.0.1", 1));
    let cluster = Cluster::over_tcp(config).unwrap();
    let nodes = kafka.nodes().count();

    let known = cluster.ready(within(30)).await.unwrap();
    assert_eq!(known.brokers().len(), nodes);
    assert!(known.cluster_id().is_some_and(|id| id.len() == 22));

    // Waited for before it is there.
    let name = unique("net");
    let found = cluster.topic(&name, within(30));
    let creating = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        tokio::task::block_in_place(|| kafka.create_topic(&name, 6, &[]));
    };
    let (topic, ()) = tokio::join!(found, creating);
    let topic = topic.unwrap();
    assert_eq!((topic.partitions.len(), topic.id != Uuid::ZERO), (6, true));
    let known = cluster.metadata();
    assert_eq!(known.topic_by_id(topic.id).unwrap().name, name);

    for kind in [CoordinatorKind::Group, CoordinatorKind::Transaction] {
        let (a, b) = tokio::join!(
            cluster.coordinator(kind, "a", within(30)),
            cluster.coordinator(kind, "b", within(30)),
        );
        assert!(cluster.metadata().broker(a.unwrap()).is_some());
        assert!(cluster.metadata().broker(b.unwrap()).is_some());
    }
    for to in [
        To::Any,
        To::Controller,
        To::Coordinator(CoordinatorKind::Group, "a"),
    ] {
        let deadline = within(30);
        loop {
            let request = |_| ListGroupsRequest::default();
            let response = cluster
                .call(to, Lane::Coordination, i16::MAX, request, deadline)
                .await
                .unwrap();
            if response.error_code.is_ok() {
                break;
            }
            // A broker that has just become a coordinator still loads what it is to know.
            let code = response.error_code;
            let waits = code.is_retriable() && Instant::now() < deadline;
            assert!(waits, "{to:?}: {code}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    let impossible = cluster.topic("no spaces in names", within(30)).await;
    assert!(
        matches!(impossible, Err(Error::Topic { .. })),
        "{impossible:?}"
    );
    close(cluster).await;
}

async fn pipelines_on_every_lane(kafka: &KafkaCluster) {
    let cluster = Cluster::over_tcp(config(kafka)).unwrap();
    let known = cluster.ready(within(30)).await.unwrap();
    for broker in known.brokers() {
        for lane in [
            Lane::Produce,
            Lane::Fetch,
            Lane::Coordination,
            Lane::Control,
        ] {
            let connection = cluster
                .connection(broker.id, lane, within(30))
                .await
                .unwrap();
            let deadline = connection.request_deadline();
            let pending: Vec<_> = (0..500)
                .map(|_| {
                    let request = MetadataRequest {
                        topics: Some(Vec::new()),
                        ..Default::default()
                    };
                    let version = connection.version::<MetadataRequest>(i16::MAX).unwrap();
                    connection.submit(&request, version, deadline).unwrap()
                })
                .collect();
            for pending in pending {
                assert_eq!(pending.await.unwrap().brokers.len(), known.brokers().len());
            }
        }
    }
    assert_eq!(cluster.connections().len(), 4 * known.brokers().len());
    close(cluster).await;
}

/// SIGSTOP: connections stay, answers do not come.
async fn a_stalled_broker_costs_its_own_requests_only(kafka: &KafkaCluster) {
    let mut config = config(kafka);
    config.request_timeout = Duration::from_secs(2);
    let cluster = Cluster::over_tcp(config).unwrap();
    let known = cluster.ready(within(30)).await.unwrap();
    let ids: Vec<i32> = known.brokers().map(|broker| broker.id).collect();
    for id in &ids {
        ask(&cluster, *id, within(30)).await.unwrap();
    }

    let stalled = kafka.nodes().next().unwrap();
    let stalled_id = broker_at(&cluster, kafka.address(stalled).port());
    kafka.pause(stalled);
    let start = Instant::now();
    let connection = cluster
        .connection(stalled_id, Lane::Control, within(30))
        .await
        .unwrap();
    let request = ListGroupsRequest::default();
    let version = connection.version::<ListGroupsRequest>(4).unwrap();
    let pending = connection
        .submit(&request, version, connection.request_deadline())
        .unwrap();
    for id in ids.iter().filter(|id| **id != stalled_id) {
        ask(&cluster, *id, within(10)).await.unwrap();
    }
    let error = pending.await.unwrap_err();
    assert_eq!((error.sent(), error.is_retriable()), (Sent::Maybe, true));
    let waited = start.elapsed().as_secs_f64();
    assert!((2.0..4.0).contains(&waited), "{waited} s: {error}");
    connection.ended().await;

    kafka.resume(stalled);
    ask(&cluster, stalled_id, within(30)).await.unwrap();
    close(cluster).await;
}

/// SIGKILL: the metadata tells the next leader, in a newer epoch.
async fn finds_the_new_leader_when_the_old_one_dies(kafka: &KafkaCluster) {
    let cluster = Cluster::over_tcp(config(kafka)).unwrap();
    let name = unique("net");
    kafka.create_topic(&name, 1, &[]);
    cluster.track([name.as_str()]);
    let topic = cluster.topic(&name, within(30)).await.unwrap();
    let (leader, epoch) = (
        topic.partitions[0].leader.unwrap(),
        topic.partitions[0].leader_epoch,
    );
    let connection = cluster
        .connection(leader, Lane::Produce, within(30))
        .await
        .unwrap();
    let port = connection.peer().address.port();
    let node = kafka
        .nodes()
        .find(|id| kafka.address(*id).port() == port)
        .unwrap();

    let mut changes = cluster.changes();
    kafka.kill(node);
    connection.ended().await;
    let deadline = within(60);
    loop {
        match cluster.metadata().leader(&name, 0) {
            Some((now, newer)) if now != leader => {
                assert!(newer > epoch, "epoch {newer} after {epoch}");
                break;
            }
            _ => {}
        }
        // Nobody asks for the topic here, so ask that somebody does: as a producer would.
        cluster.refresh_soon();
        let changed = tokio::time::timeout(Duration::from_millis(500), changes.changed()).await;
        assert!(
            Instant::now() < deadline,
            "no new leader; last change {changed:?}"
        );
    }
    let error = cluster
        .connection(leader, Lane::Produce, within(5))
        .await
        .unwrap_err();
    assert!(error.is_retriable(), "{error}");

    tokio::task::block_in_place(|| kafka.restart(node)).unwrap();
    ask(&cluster, leader, within(60)).await.unwrap();
    close(cluster).await;
}

/// Every connection dies at once, and every broker comes back.
async fn outlives_the_death_of_all_brokers(kafka: &KafkaCluster) {
    let cluster = Cluster::over_tcp(config(kafka)).unwrap();
    cluster.ready(within(30)).await.unwrap();
    tokio::task::block_in_place(|| {
        for id in kafka.nodes() {
            kafka.kill(id);
        }
        // Together: none can serve without the others.
        std::thread::scope(|scope| {
            for id in kafka.nodes() {
                scope.spawn(move || kafka.restart(id).unwrap());
            }
        });
        kafka.wait_until_ready().unwrap();
    });
    let request = |_| ListGroupsRequest::default();
    cluster
        .call(To::Any, Lane::Control, i16::MAX, request, within(60))
        .await
        .unwrap();
    close(cluster).await;
}

async fn ask(
    cluster: &Cluster,
    node: i32,
    deadline: Instant,
) -> Result<ApiVersionsResponse, Error> {
    let request = |_| ApiVersionsRequest {
        client_software_name: "ottla".into(),
        client_software_version: "1".into(),
        ..Default::default()
    };
    cluster
        .call(To::Node(node), Lane::Control, i16::MAX, request, deadline)
        .await
}

fn broker_at(cluster: &Cluster, port: u16) -> i32 {
    let known = cluster.metadata();
    let broker = known.brokers().find(|broker| broker.address.port() == port);
    broker.unwrap().id
}

fn config(kafka: &KafkaCluster) -> ClusterConfig {
    ClusterConfig::new(Address::parse_list(&kafka.bootstrap()).unwrap())
}

async fn close(cluster: Cluster) {
    let closing = tokio::time::timeout(Duration::from_secs(3), cluster.close());
    closing.await.expect("close always ends");
    assert!(cluster.connections().is_empty());
}

fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}
