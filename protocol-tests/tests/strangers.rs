//! What listens is no broker: each ends within the deadline, in an error that says what to change.
//!
//! Needs no Kafka.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use ottla_net::{Address, Cluster, ClusterConfig};
use ottla_protocol_tests::{Impostor, Manner};

/// What a user waits at most; how far beyond is a fault.
const DEADLINE: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(1);

#[test]
fn a_tls_listener_is_recognised() {
    let error = ask(&Impostor::start(Manner::Tls).unwrap());
    assert!(
        error.contains("TLS") && error.contains("security.protocol"),
        "{error}"
    );
}

#[test]
fn an_http_server_is_recognised() {
    let error = ask(&Impostor::start(Manner::Http).unwrap());
    assert!(error.contains("HTTP") && error.contains("port"), "{error}");
}

#[test]
fn a_server_that_never_answers_ends_at_the_deadline() {
    let error = ask(&Impostor::start(Manner::Silent).unwrap());
    assert!(
        error.contains("longer than allowed") && error.contains("no broker has answered"),
        "{error}"
    );
}

#[test]
fn a_server_that_closes_is_tried_again_but_not_in_a_hurry() {
    for manner in [Manner::Closing, Manner::Refusing] {
        let server = Impostor::start(manner).unwrap();
        let error = ask(&server);
        assert!(error.contains("closed"), "{error}");
        // With a backoff from 50 ms to 1 s.
        assert!(
            (2..40).contains(&server.connections()),
            "{} connections",
            server.connections()
        );
    }
}

#[test]
fn an_answer_that_claims_2_gib_is_refused() {
    let error = ask(&Impostor::start(Manner::Huge).unwrap());
    assert!(error.contains("2147483647"), "{error}");
    assert!(error.contains("Kafka broker?"), "{error}");
}

#[test]
fn noise_is_not_understood() {
    let error = ask(&Impostor::start(Manner::Noise).unwrap());
    assert!(error.contains("ApiVersions"), "{error}");
}

#[test]
fn a_port_where_nobody_listens() {
    let gone = Impostor::start(Manner::Closing).unwrap().address();
    std::thread::sleep(Duration::from_millis(100)); // until the listener is closed
    let error = ask_at(&gone.to_string());
    assert!(
        error.contains("refused") && error.contains(&gone.to_string()),
        "{error}"
    );
}

#[test]
fn a_name_that_does_not_resolve() {
    let error = ask_at("no-such-broker.invalid:9092");
    assert!(error.contains("no-such-broker.invalid:9092"), "{error}");
}

#[test]
fn one_good_address_among_bad_ones_is_found() {
    use ottla_protocol_tests::Kafka;
    let Some(kafka) = Kafka::shared() else { return };
    let silent = Impostor::start(Manner::Silent).unwrap();
    let closing = Impostor::start(Manner::Closing).unwrap();
    let list = format!(
        "no-such-broker.invalid:9092,{},{},{}",
        silent.address(),
        closing.address(),
        kafka.bootstrap()
    );
    let brokers = runtime().block_on(async {
        let mut config = ClusterConfig::new(Address::parse_list(&list).unwrap());
        config.request_timeout = Duration::from_secs(1);
        let cluster = Cluster::over_tcp(config).unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let metadata = cluster.ready(deadline).await.unwrap();
        let brokers = metadata.brokers().count();
        cluster.close().await;
        brokers
    });
    assert!(brokers >= 1);
}

fn ask(server: &Impostor) -> String {
    let error = ask_at(&server.address().to_string());
    assert!(
        error.contains(&server.address().to_string()),
        "it says where: {error}"
    );
    error
}

/// Asks `address` for a topic, and returns the error that comes of it in time.
fn ask_at(address: &str) -> String {
    runtime().block_on(async {
        let mut config = ClusterConfig::new(Address::parse_list(address).unwrap());
        config.request_timeout = Duration::from_secs(10);
        let cluster = Cluster::over_tcp(config).unwrap();
        let start = Instant::now();
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let error = cluster.topic("clicks", deadline).await.unwrap_err();
        let took = start.elapsed();
        assert!(took < DEADLINE + GRACE, "{took:?}: {error}");
        cluster.close().await;
        println!("{error}");
        error.to_string()
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
