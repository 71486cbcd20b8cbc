//! Our verifiable share consumer beside Kafka's own, each alone in its group.

use std::collections::BTreeSet;

use ottla_protocol_tests::{Kafka, Process, Tool, unique};
use serde_json::Value;

use crate::{both, events::Told, filled, properties, twin};

const CLASS: Tool = Tool::Other("org.apache.kafka.tools.VerifiableShareConsumer");
const BINARY: &str = env!("CARGO_BIN_EXE_verifiable-share-consumer");
const COUNT: u32 = 30;

#[test]
fn events_are_those_of_kafkas_own() {
    let Some(kafka) = Kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let small = properties(
        dir.path(),
        "small",
        "max.poll.records=10\ngroup.id=overridden\n",
    );
    let topic = filled(&kafka, "shared", 2, COUNT);
    let all = [
        "--max-messages",
        "30",
        "--offset-reset-strategy",
        "EARLIEST",
    ];
    let more: [(&str, &[&str]); 3] = [
        ("auto", &["--verbose", "--command-config", &small]),
        ("sync", &["--acknowledgement-mode", "sync"]),
        ("async", &["--acknowledgement-mode", "ASYNC"]),
    ];
    let check = |name: &str, options: &[&str]| {
        let group = unique(name);
        let own = |whose| {
            let group = format!("{group}-{whose}");
            ["--topic", &topic, "--group-id", &group].map(str::to_owned)
        };
        let (theirs, ours) = both(&kafka, (CLASS, BINARY), options, |whose| own(whose).into());
        assert_eq!(theirs.status.code(), Some(0), "{name}: {theirs:?}");
        assert_eq!(ours.status.code(), Some(0), "{name}: {ours:?}");
        let (theirs, ours) = (
            Told::of(theirs.text(), &topic),
            Told::of(ours.text(), &topic),
        );
        assert_eq!(ours, theirs, "{name}");
        ours
    };
    // Most of their time they wait for the next heartbeat.
    std::thread::scope(|scope| {
        for (name, options) in more {
            let options = [&all[..], options].concat();
            let check = &check;
            scope.spawn(move || {
                let told = check(name, &options);
                let acknowledged = told.acknowledged.values().map(BTreeSet::len);
                assert_eq!(acknowledged.sum::<usize>(), COUNT as usize, "{name}");
            });
        }
        // Both fail after they have started, and end in peace.
        let wrong = check("wrong", &["--offset-reset-strategy", "sometimes"]);
        assert_eq!(wrong.course, ["startup_complete", "shutdown_complete"]);
    });
}

#[test]
fn wrong_options_end_it_as_they_end_kafkas_own() {
    let Some(kafka) = Kafka::shared() else { return };
    let whole = ["--topic", "t", "--group-id", "g"];
    for options in [
        vec!["--topic", "t"],
        [&whole[..], &["--acknowledgement-mode", "later"]].concat(),
        [&whole[..], &["--command-config", "/not/there"]].concat(),
    ] {
        let (theirs, ours) = both(&kafka, (CLASS, BINARY), &options, |_| Vec::new());
        assert_eq!(theirs.status.code(), Some(1), "{options:?}: {theirs:?}");
        assert_eq!(ours.status.code(), Some(1), "{options:?}: {ours:?}");
        assert_eq!(ours.text(), "", "{options:?}");
        assert!(ours.stderr.contains("error:"), "{}", ours.stderr);
    }
}

#[test]
fn a_signal_ends_it_as_it_ends_kafkas_own() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = filled(&kafka, "shared", 1, COUNT);
    let ended = |whose: &str| {
        let group = unique(whose);
        let options = ["--topic", &topic, "--group-id", &group];
        let how = ["--acknowledgement-mode", "sync"];
        let from = ["--offset-reset-strategy", "earliest"];
        let options = [&options[..], &how, &from].concat();
        let process = match whose {
            "theirs" => kafka.tools().spawn(CLASS, &options),
            _ => Process::spawn("ours", &mut twin(BINARY, &kafka, &options)).unwrap(),
        };
        let mut running = process.record();
        running.wait_until("all is acknowledged", |out| {
            let lines = out
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            let acknowledged = lines.filter(|event: &Value| event["name"] == ACKNOWLEDGED);
            let counts = acknowledged.map(|event| event["count"].as_u64().unwrap());
            counts.sum::<u64>() == u64::from(COUNT)
        });
        let status = running.terminate().code();
        (status, Told::of(&running.stdout(), &topic))
    };
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| ended("theirs"));
        let ours = ended("ours");
        (theirs.join().unwrap(), ours)
    });
    assert_eq!(ours, theirs);
    assert_eq!(ours.0, Some(143));
}

const ACKNOWLEDGED: &str = "offsets_acknowledged";
