//! Servers that are down, silent, something else, or elsewhere by now.

use super::*;

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
