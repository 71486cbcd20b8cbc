//! The harness itself: the Kafka it starts serves, obeys, and leaves nothing behind.
#![allow(clippy::unwrap_used)]

use std::{net::TcpStream, time::Duration};

use ottla_protocol_tests::{Kafka, KafkaCluster, Options, Tool, Version, or_skip, unique};

#[test]
fn kafkas_own_producer_and_consumer_work() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("harness");
    let tools = kafka.tools();
    tools.run(Tool::Topics, &["--create", "--topic", &topic]);
    tools.feed(
        Tool::ConsoleProducer,
        &["--topic", &topic],
        b"one\ntwo\nthree\n",
    );
    let read = tools.run(
        Tool::ConsoleConsumer,
        &["--topic", &topic, "--from-beginning", "--max-messages", "3"],
    );
    assert_eq!(read.text(), "one\ntwo\nthree\n");
}

#[test]
fn a_node_can_be_killed_restarted_paused_and_stopped() {
    let options = Options {
        version: Version::V3_9,
        ..Options::default()
    };
    let Some(cluster) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    let address = cluster.address(1);
    let topic = unique("harness");
    cluster
        .tools()
        .run(Tool::Topics, &["--create", "--topic", &topic]);

    cluster.kill(1);
    assert!(!cluster.is_running(1));
    TcpStream::connect(address).expect_err("a killed node listens on nothing");

    cluster.restart(1).unwrap();
    assert_eq!(cluster.address(1), address, "on the port it had");
    let topics = cluster.tools().run(Tool::Topics, &["--list"]);
    assert!(
        topics.text().contains(&topic),
        "with the data it had: {}",
        topics.text()
    );

    cluster.pause(1);
    let list = ["--list"];
    let limit = Duration::from_secs(3);
    cluster
        .tools()
        .try_run(Tool::Topics, &list, None, limit)
        .expect_err("a paused node is silent");
    cluster.resume(1);
    cluster.tools().run(Tool::Topics, &list);

    let data = cluster.log_dir(1);
    assert!(data.exists());
    cluster.stop(1);
    drop(cluster);
    assert!(!data.exists(), "nothing is left behind");
}
