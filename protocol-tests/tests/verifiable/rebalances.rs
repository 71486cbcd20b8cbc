//! Two members of a group, both ours or both Kafka's: the same is told when one comes, leaves, or dies.

use std::collections::BTreeSet;

use ottla_protocol_tests::{Kafka, Process, Recording, Tool, unique};
use serde_json::Value;

use crate::{properties, twin};

const PARTITIONS: i32 = 4;

#[test]
fn who_comes_leaves_or_dies_is_told_as_by_kafkas_own() {
    let Some(kafka) = Kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let quick = properties(dir.path(), "quick", "heartbeat.interval.ms=500\n");
    let quick = ["--command-config", &quick];
    let eager = [&quick[..], &["--session-timeout", "6000"]].concat();
    let cooperative = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
    let cooperative = [&quick[..], &["--assignment-strategy", cooperative]].concat();
    let cases: [(&str, &[&str], bool); 3] = [
        ("eager", &eager, true),
        ("cooperative", &cooperative, false),
        ("by-brokers", &["--group-protocol", "consumer"], false),
    ];
    for (name, options, dies) in cases {
        let topic = unique(name);
        kafka.create_topic(&topic, PARTITIONS, &[]);
        let course = |whose: &str| {
            let group = unique(whose);
            let options = [&["--topic", &topic, "--group-id", &group], options].concat();
            let start = || match whose {
                "theirs" => kafka.tools().spawn(Tool::VerifiableConsumer, &options),
                _ => {
                    let binary = env!("CARGO_BIN_EXE_verifiable-consumer");
                    Process::spawn("ours", &mut twin(binary, &kafka, &options)).unwrap()
                }
            };
            course_of(start, dies)
        };
        let (theirs, ours) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| course("theirs"));
            let ours = course("ours");
            (theirs.join().unwrap(), ours)
        });
        assert_eq!(ours, theirs, "{name}");
    }
}

/// What the first member tells: a second one comes and goes, then the first is told to end. Last, how both end.
fn course_of(start: impl Fn() -> Process, second_dies: bool) -> Vec<String> {
    let mut first = start().record();
    first.wait_until("the first has all", |out| has(out).len() == 4);
    let mut second = start().record();
    second.wait_until("the second has half", |out| has(out).len() == 2);
    first.wait_until("the first has half", |out| has(out).len() == 2);
    let ends = match second_dies {
        // With -9.
        true => {
            drop(second);
            "killed".to_owned()
        }
        false => format!("{:?}", second.terminate().code()),
    };
    first.wait_until("the first has all again", |out| has(out).len() == 4);
    let ended = first.terminate();
    let mut course = told(&first);
    course.push(ends);
    course.push(format!("{:?}", ended.code()));
    course
}

/// The partitions that a member has by what it told.
fn has(printed: &str) -> BTreeSet<i64> {
    let mut has = BTreeSet::new();
    // The last line may not be whole yet.
    let whole = printed.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for event in whole.lines().map(parse) {
        let partitions = event["partitions"].as_array().into_iter().flatten();
        let partitions = partitions.map(|of| of["partition"].as_i64().unwrap());
        match event["name"].as_str().unwrap() {
            "partitions_assigned" => has.extend(partitions),
            "partitions_revoked" => partitions.for_each(|of| {
                assert!(has.remove(&of), "it had {of}: {printed}");
            }),
            _ => {}
        }
    }
    has
}

/// The events, with how many partitions they are about. That nothing is new is told by some and not by others.
fn told(member: &Recording) -> Vec<String> {
    let events = member.stdout();
    let events = events.lines().map(parse).map(|event| {
        let name = event["name"].as_str().unwrap();
        match event["partitions"].as_array() {
            Some(partitions) => format!("{name} {}", partitions.len()),
            None => name.to_owned(),
        }
    });
    events
        .filter(|event| event != "partitions_assigned 0")
        .collect()
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
