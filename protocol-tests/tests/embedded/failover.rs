//! A leader moves, a node stops and comes back while a client produces and consumes: nothing acknowledged is missing.

use std::{collections::HashMap, thread, time::Duration};

use ottla_protocol_tests::{FranzGo, Guest, Python, or_skip};
use serde_json::Value;

use crate::stage::Stage;

const PARTITIONS: i32 = 6;
const RECORDS: usize = 4_000;
const SECONDS: u32 = 4;

#[test]
fn confluent_kafka_goes_on_when_a_leader_moves_and_a_node_stops() {
    python("confluent_kafka");
}

#[test]
fn kafka_python_goes_on_when_a_leader_moves_and_a_node_stops() {
    python("kafka_python");
}

#[test]
fn aiokafka_goes_on_when_a_leader_moves_and_a_node_stops() {
    python("aiokafka");
}

#[test]
fn franz_go_goes_on_when_a_leader_moves_and_a_node_stops() {
    let Some(franz_go) = or_skip(FranzGo::get()) else {
        return;
    };
    run("franz-go", |args| franz_go.guest(args));
}

fn python(client: &str) {
    let Some(python) = or_skip(Python::get()) else {
        return;
    };
    run(client, |args| python.guest(client, args));
}

fn run(client: &str, start: impl Fn(&[&str]) -> Guest) {
    let stage = Stage::start(3);
    let topic = format!("run-{}", client.replace('_', "-"));
    stage.broker().create_topic(&topic, PARTITIONS).unwrap();
    // The node that stops coordinates the group too.
    stage
        .broker()
        .move_coordinator(&format!("{topic}-group"), 2);
    let mut guest = start(&[
        "run",
        &stage.bootstrap(),
        &topic,
        &PARTITIONS.to_string(),
        &RECORDS.to_string(),
        &SECONDS.to_string(),
    ]);
    guest.expect("under way");
    disturb(&stage, &topic);
    let said = guest.expect("done");
    guest.finish();

    assert_eq!(
        said["failed"].as_array().unwrap().len(),
        0,
        "{}",
        said["failed"]
    );
    let acknowledged = triples(&said["acknowledged"]);
    assert_eq!(acknowledged.len(), RECORDS, "every record was acknowledged");
    let mut stored = HashMap::new();
    for partition in 0..PARTITIONS {
        for (offset, value) in stage.broker().records(&topic, partition).unwrap() {
            let number: i64 = String::from_utf8(value.unwrap()).unwrap().parse().unwrap();
            let before = stored.insert(number, (i64::from(partition), offset));
            assert_eq!(before, None, "record {number} is there twice");
        }
    }
    assert_eq!(stored.len(), RECORDS);
    for (number, partition, offset) in &acknowledged {
        let (in_partition, at) = stored[number];
        assert_eq!(in_partition, *partition, "record {number}");
        // A client whose batch was repeated may not be told where it was put.
        assert!(
            *offset < 0 || *offset == at,
            "record {number}: {offset}, not {at}"
        );
    }
    let mut read: HashMap<i64, (i64, i64)> = HashMap::new();
    for (number, partition, offset) in triples(&said["read"]) {
        read.insert(number, (partition, offset));
    }
    assert!(
        read == stored,
        "all that is stored was read, and where it is"
    );
}

/// Does `work` while a leader moves and a node stops.
pub(crate) fn disturb_while(stage: &Stage, topic: &str, work: impl FnOnce()) {
    thread::scope(|scope| {
        let disturbing = scope.spawn(|| disturb(stage, topic));
        work();
        disturbing.join().unwrap();
    });
}

/// A leader moves to another node, then node 2 stops for a second.
pub(crate) fn disturb(stage: &Stage, topic: &str) {
    let broker = stage.broker();
    let leader = broker.leader(topic, 0).unwrap();
    broker.move_leader(topic, 0, leader % 3 + 1).unwrap();
    thread::sleep(Duration::from_millis(500));
    stage.run(broker.stop_node(2)).unwrap();
    thread::sleep(Duration::from_millis(1_000));
    stage.run(broker.start_node(2)).unwrap();
}

fn triples(told: &Value) -> Vec<(i64, i64, i64)> {
    let number = |value: &Value| value.as_i64().unwrap();
    let triples = told.as_array().unwrap().iter();
    triples
        .map(|triple| (number(&triple[0]), number(&triple[1]), number(&triple[2])))
        .collect()
}
