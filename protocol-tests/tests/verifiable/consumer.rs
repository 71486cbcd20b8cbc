//! Our verifiable consumer beside Kafka's own, each alone in its group.

use ottla_protocol_tests::{Kafka, Tool, unique};

use crate::{both, events::Told, filled, properties};

const CONSUMERS: (Tool, &str) = (
    Tool::VerifiableConsumer,
    env!("CARGO_BIN_EXE_verifiable-consumer"),
);
const COUNT: u32 = 60;

#[test]
fn events_are_those_of_kafkas_own() {
    let Some(kafka) = Kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let small = properties(
        dir.path(),
        "small",
        "max.poll.records=7\ngroup.id=overridden\nauto.offset.reset=latest\n",
    );
    let one = filled(&kafka, "one", 1, COUNT);
    let three = filled(&kafka, "three", 3, COUNT);
    let round_robin = "org.apache.kafka.clients.consumer.RoundRobinAssignor";
    let cases: [(&str, &str, &[&str]); 8] = [
        ("plain", &three, &["--max-messages", "60"]),
        // More come with the call than are wanted.
        ("cut", &one, &["--max-messages", "40"]),
        (
            "every-option",
            &three,
            &[
                "--max-messages",
                "60",
                "--verbose",
                "--group-protocol",
                "CLASSIC",
                "--assignment-strategy",
                round_robin,
                "--session-timeout",
                "10000",
                "--reset-policy",
                "earliest",
                "--group-instance-id",
                "named",
            ],
        ),
        (
            "by-brokers",
            &three,
            &[
                "--max-messages",
                "60",
                "--enable-autocommit",
                "--group-protocol",
                "consumer",
                "--group-remote-assignor",
                "range",
            ],
        ),
        (
            "configured",
            &one,
            &["--max-messages", "60", "--command-config", &small],
        ),
        (
            "configured-the-old-way",
            &one,
            &["--max-messages", "60", "--consumer.config", &small],
        ),
        ("nowhere", &one, &["--reset-policy", "none"]),
        ("nothing", &one, &["--max-messages", "0"]),
    ];
    for (name, topic, options) in cases {
        let group = unique(name);
        let own = |whose| {
            let group = format!("{group}-{whose}");
            ["--topic", topic, "--group-id", &group].map(str::to_owned)
        };
        let (theirs, ours) = both(&kafka, CONSUMERS, options, |whose| own(whose).into());
        assert_eq!(theirs.status.code(), Some(0), "{name}: {theirs:?}");
        assert_eq!(ours.status.code(), Some(0), "{name}: {ours:?}");
        for output in [&theirs, &ours] {
            let calls: Vec<u64> = output
                .text()
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
                .filter_map(|event| event["count"].as_u64())
                .collect();
            match name {
                "cut" => assert_eq!(calls, [60], "the whole call counts"),
                "configured" => assert_eq!(calls, [7, 7, 7, 7, 7, 7, 7, 7, 4]),
                _ => {}
            }
        }
        let (theirs, ours) = (Told::of(theirs.text(), topic), Told::of(ours.text(), topic));
        assert_eq!(ours, theirs, "{name}");
        let read: i64 = ours.consumed.values().map(|of| of.count).sum();
        let expected = match name {
            "cut" => 40,
            "nowhere" | "nothing" => 0,
            _ => COUNT.into(),
        };
        assert_eq!(read, expected, "{name}: {ours:?}");
        let committed: i64 = ours.committed.values().sum();
        let commits = !["by-brokers"].contains(&name);
        assert_eq!(committed, if commits { expected } else { 0 }, "{name}");
    }
}

/// What makes no sense is said on standard error, and in the exit status.
#[test]
fn wrong_options_end_it_as_they_end_kafkas_own() {
    let Some(kafka) = Kafka::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let some = properties(dir.path(), "some", "max.poll.records=7\n");
    let whole = ["--topic", "t", "--group-id", "g"];
    let with = |more: &[&'static str]| [&whole[..], more].concat();
    let both_files = ["--command-config", &some, "--consumer.config", &some];
    for options in [
        vec!["--topic", "t"],
        with(&["--max-messages", "many"]),
        with(&["--command-config", "/not/there"]),
        with(&["--group-protocol", "none-such"]),
        with(&["--reset-policy", "sometimes"]),
        with(&["--group-protocol", "consumer", "--session-timeout", "6000"]),
        [&whole[..], &both_files[..]].concat(),
    ] {
        let (theirs, ours) = both(&kafka, CONSUMERS, &options, |_| Vec::new());
        assert_eq!(theirs.status.code(), Some(1), "{options:?}: {theirs:?}");
        assert_eq!(ours.status.code(), Some(1), "{options:?}: {ours:?}");
        assert_eq!(ours.text(), "", "{options:?}");
        assert!(ours.stderr.contains("error:"), "{}", ours.stderr);
    }
}
