//! Our verifiable producer beside Kafka's own.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::Command,
};

use ottla_protocol_tests::{Kafka, Output, Process, Tool, or_skip, unique};
use rustix::process::Signal;
use serde_json::Value;

use crate::{LIMIT, properties, twin};

#[test]
fn events_and_records_are_those_of_kafkas_own() {
    let Some(kafka) = Kafka::shared() else { return };
    // The producer ends its JVM, so that each run needs one of its own.
    let tools = kafka.tools();
    let Some(consumers) = or_skip(kafka.tools().in_one_jvm()) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let impatient = properties(dir.path(), "impatient", "max.block.ms=1000\n");
    let sturdy = properties(
        dir.path(),
        "sturdy",
        "retries=10\nenable.idempotence=true\nlinger.ms=1\ncompression.type=gzip\n",
    );
    let cases: [Case<'_>; 6] = [
        ("plain", 1, &[], &["--max-messages", "50"]),
        (
            "every-option",
            3,
            &[("retention.ms", "-1")],
            &[
                "--max-messages",
                "40",
                "--repeating-keys",
                "7",
                "--value-prefix",
                "12",
                "--message-create-time",
                "1000",
                "--throughput",
                "400",
                "--acks",
                "1",
            ],
        ),
        (
            "unacknowledged",
            1,
            &[],
            &["--max-messages", "3", "--acks", "0"],
        ),
        (
            "configured",
            1,
            &[],
            &["--max-messages", "20", "--command-config", &sturdy],
        ),
        (
            "not-there",
            0,
            &[],
            &["--max-messages", "2", "--producer.config", &impatient],
        ),
        (
            "refused",
            1,
            &[("message.timestamp.before.max.ms", "1000")],
            &[
                "--max-messages",
                "4",
                "--repeating-keys",
                "2",
                "--message-create-time",
                "1000",
            ],
        ),
    ];
    for (name, partitions, configs, options) in cases {
        let [their_topic, our_topic] = ["theirs", "ours"].map(|whose| {
            let topic = unique(&format!("{name}-{whose}"));
            if partitions > 0 {
                kafka.create_topic(&topic, partitions, configs);
            }
            topic
        });
        let run = |topic: &str, run: &dyn Fn(&[&str]) -> Output| {
            let output = run(&[&["--topic", topic], options].concat());
            assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
            events(output.text(), topic)
        };
        let theirs = run(&their_topic, &|options| {
            tools.run(Tool::VerifiableProducer, options)
        });
        let ours = run(&our_topic, &|options| our_run(&kafka, options));
        assert_eq!(ours, theirs, "{name}");
        let acknowledged = ours.iter().filter(|e| e.contains("_success")).count();
        let records = |topic: &str| {
            let mut seen = consumers.consume(topic, acknowledged, &[]);
            seen.sort_by_key(|seen| (seen.partition, seen.offset));
            seen
        };
        if acknowledged > 0 {
            let (ours, theirs) = (records(&our_topic), records(&their_topic));
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(
                    (ours.partition, &ours.sample.key, &ours.sample.value),
                    (theirs.partition, &theirs.sample.key, &theirs.sample.value),
                    "{name}"
                );
            }
            if name == "every-option" {
                for seen in [&ours, &theirs] {
                    let times = || seen.iter().map(|seen| seen.sample.timestamp);
                    let first = times().min().unwrap();
                    assert!((1_000..2_000).contains(&first), "{name}: starts there");
                    assert!(times().max() > Some(1000), "{name}: runs on");
                }
            }
        }
    }
}

/// What makes no sense is said on standard error, and in the exit status.
#[test]
fn wrong_options_end_it_as_they_end_kafkas_own() {
    let Some(kafka) = Kafka::shared() else { return };
    let tools = kafka.tools();
    let dir = tempfile::tempdir().unwrap();
    let some = properties(dir.path(), "some", "linger.ms=1\n");
    let wrong = properties(dir.path(), "wrong", "linger.ms=soon\n");
    let (status, said) = (|o: &Output| o.status.code(), |o: &Output| o.stderr.clone());
    for options in [
        &["--topic", "t", "--max-messages", "many"] as &[&str],
        &["--topic", "t", "--command-config", "/not/there"],
        &[
            "--topic",
            "t",
            "--command-config",
            &some,
            "--producer.config",
            &some,
        ],
    ] {
        let theirs = tools
            .try_run(Tool::VerifiableProducer, options, None, LIMIT)
            .unwrap();
        let ours = our_run(&kafka, options);
        assert_eq!(status(&ours), Some(1), "{options:?}: {ours:?}");
        assert_eq!(status(&theirs), Some(1), "{options:?}: {theirs:?}");
        assert_eq!(ours.text(), "", "{options:?}");
        assert!(said(&ours).contains("error:"), "{}", said(&ours));
    }
    for options in [
        &["--max-messages", "1"] as &[&str],
        &["--topic", "t", "--command-config", &wrong],
    ] {
        let ours = our_run(&kafka, options);
        assert_eq!(status(&ours), Some(1), "{options:?}: {ours:?}");
        assert!(said(&ours).contains("error:"), "{}", said(&ours));
    }
}

/// Whether this process, and with it those that it starts, ignores a signal.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    ignored.is_some_and(|bits| bits >> (signal.as_raw() - 1) & 1 == 1)
}

/// Told to end, both finish what they began and say so.
#[test]
fn a_signal_ends_it_as_it_ends_kafkas_own() {
    let Some(kafka) = Kafka::shared() else { return };
    let tools = kafka.tools();
    for signal in [Signal::TERM, Signal::INT] {
        if is_ignored(signal) {
            // As in what a shell starts in the background: Java keeps to that, and would never end.
            eprintln!("{signal:?} is ignored here; nobody can be ended by it");
            continue;
        }
        let topic = unique("ended");
        kafka.create_topic(&topic, 1, &[]);
        let options = ["--topic", &topic, "--throughput", "100"];
        let theirs = || tools.spawn(Tool::VerifiableProducer, &options);
        let ours = || Process::spawn("our producer", &mut command(&kafka, &options)).unwrap();
        let (mut first, mut second) = (theirs(), ours());
        let ended: Vec<_> = [&mut first, &mut second]
            .map(|process| {
                let mut printed = BufReader::new(process.take_stdout().unwrap());
                let mut line = String::new();
                while !line.contains("producer_send_success") {
                    line.clear();
                    assert_ne!(printed.read_line(&mut line).unwrap(), 0, "ended early");
                }
                process.signal(signal);
                let mut rest = String::new();
                printed.read_to_string(&mut rest).unwrap();
                let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap();
                let rest: Vec<_> = rest.lines().map(parse).collect();
                let [.., shutdown, data] = &rest[..] else {
                    panic!("{rest:?}");
                };
                assert_eq!(shutdown["name"], "shutdown_complete");
                assert_eq!(data["name"], "tool_data");
                assert_eq!(data["sent"], data["acked"], "{data}");
                process.exits(LIMIT).unwrap().code()
            })
            .into_iter()
            .collect();
        let expected = Some(128 + signal.as_raw());
        assert_eq!(ended, [expected, expected], "after {signal:?}");
    }
}

fn our_run(kafka: &Kafka, options: &[&str]) -> Output {
    Process::run("our producer", &mut command(kafka, options), None, LIMIT).unwrap()
}

fn command(kafka: &Kafka, options: &[&str]) -> Command {
    twin(env!("CARGO_BIN_EXE_verifiable-producer"), kafka, options)
}

/// The events, each as its fields in their order, with what must differ between two runs replaced by its kind.
/// Acknowledgements come in any order, and are sorted.
fn events(printed: &str, topic: &str) -> Vec<String> {
    let mut events: Vec<_> = printed.lines().map(|line| event(line, topic)).collect();
    if let [start, sends @ .., shutdown, data] = &mut events[..] {
        let names = [
            ("startup", &*start),
            ("shutdown", shutdown),
            ("tool_data", data),
        ];
        for (name, event) in names {
            // The old option's line comes first of all.
            assert!(
                event.contains(name) || event.contains("deprecated"),
                "{event}"
            );
        }
        sends.sort();
    }
    events
}

fn event(line: &str, topic: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(line) else {
        return line.to_owned();
    };
    let mut names: Vec<_> = fields.keys().collect();
    // In the order in which they stand there; no value of ours contains a quoted name.
    names.sort_by_key(|name| line.find(&format!("\"{name}\":")));
    let shown = names.into_iter().map(|name| {
        let value = &fields[name];
        let shown = match (name.as_str(), value) {
            ("topic", Value::String(is)) => (is == topic).to_string(),
            ("timestamp", Value::Number(at)) if at.is_i64() => "a time".to_owned(),
            ("avg_throughput", Value::Number(mean)) if mean.is_f64() => "a number".to_owned(),
            ("exception" | "message", Value::String(text)) if !text.is_empty() => "text".to_owned(),
            _ => value.to_string(),
        };
        format!("{name}: {shown}")
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Its name, the partitions of its topic (none: no topic) and their settings, and the producer's options.
type Case<'a> = (&'a str, i32, &'a [(&'a str, &'a str)], &'a [&'a str]);
