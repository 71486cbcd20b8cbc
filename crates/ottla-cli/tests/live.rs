//! The tool as a user has it, on a live Apache Kafka. Without Java these tests say that they were skipped.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::process::{Command, Output, Stdio};

use ottla_protocol_tests::{Kafka, unique};

mod support;

struct Tool<'a> {
    bootstrap: &'a str,
}

impl Tool<'_> {
    /// Runs `ottla` with `input` on its standard input.
    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        support::run(&self.on_the_cluster(arguments), input)
    }

    /// Runs `ottla`, which must succeed, and returns what it printed.
    fn text(&self, arguments: &[&str], input: &[u8]) -> String {
        support::text(&self.on_the_cluster(arguments), input)
    }

    fn on_the_cluster<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [arguments, &["-b", self.bootstrap]].concat()
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.text(arguments, b"");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }
}

#[test]
fn records_come_back_as_they_went_in_with_every_codec() {
    let Some(kafka) = Kafka::shared() else { return };
    let ottla = Tool {
        bootstrap: kafka.bootstrap(),
    };
    let topic = unique("tool-codecs");
    ottla.text(&["topics", "create", &topic, "-p", "3"], b"");
    let mut expected = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let lines: Vec<String> = (0..2_000)
            .map(|i| format!("{codec}-{i}:value {i} of {codec}"))
            .collect();
        let arguments = [
            "produce",
            "-t",
            &topic,
            "-K",
            ":",
            "-z",
            codec,
            "-H",
            "origin=test",
        ];
        ottla.text(&arguments, lines.join("\n").as_bytes());
        expected.extend(lines.into_iter().map(|line| format!("{line}:origin=test")));
    }
    let read = ottla.text(
        &["consume", "-t", &topic, "-e", "-q", "-f", "%k:%s:%h\\n"],
        b"",
    );
    let mut read: Vec<&str> = read.lines().collect();
    read.sort_unstable();
    expected.sort_unstable();
    assert_eq!(read, expected);
}

#[test]
fn a_group_goes_on_where_it_stopped() {
    let Some(kafka) = Kafka::shared() else { return };
    let ottla = Tool {
        bootstrap: kafka.bootstrap(),
    };
    let topic = unique("tool-group");
    ottla.text(&["topics", "create", &topic, "-p", "1"], b"");
    ottla.text(&["produce", "-t", &topic], b"one\ntwo\nthree\nfour\nfive\n");
    let first = [
        "consume",
        "-G",
        &topic,
        &topic,
        "-c",
        "2",
        "-q",
        "-X",
        "auto.offset.reset=earliest",
    ];
    assert_eq!(ottla.text(&first, b""), "one\ntwo\n");
    let rest = ["consume", "-G", &topic, &topic, "-c", "3", "-q"];
    assert_eq!(ottla.text(&rest, b""), "three\nfour\nfive\n");
}

#[test]
fn offsets_counts_and_json_lines_select_records() {
    let Some(kafka) = Kafka::shared() else { return };
    let ottla = Tool {
        bootstrap: kafka.bootstrap(),
    };
    let topic = unique("tool-offsets");
    ottla.text(&["topics", "create", &topic, "-p", "1"], b"");
    let lines: String = (0..100).map(|i| format!("{i}\n")).collect();
    ottla.text(&["produce", "-t", &topic], lines.as_bytes());
    let consume = |options: &[&str]| {
        let arguments = [&["consume", "-t", &topic, "-e", "-q"], options].concat();
        ottla.text(&arguments, b"")
    };
    assert_eq!(consume(&["-o", "-3"]), "97\n98\n99\n");
    assert_eq!(consume(&["-o", "50", "-c", "2"]), "50\n51\n");
    assert_eq!(consume(&["-o", "end"]), "");
    let envelope: serde_json::Value =
        serde_json::from_str(consume(&["-o", "7", "-c", "1", "-J"]).trim()).unwrap();
    assert_eq!(envelope["offset"], 7);
    assert_eq!(envelope["payload"], "7");
    assert_eq!(envelope["topic"], topic);
}

#[test]
fn topics_are_created_described_altered_and_deleted() {
    let Some(kafka) = Kafka::shared() else { return };
    let ottla = Tool {
        bootstrap: kafka.bootstrap(),
    };
    let topic = unique("tool-topics");
    ottla.text(&["topics", "create", &topic, "-p", "2"], b"");
    let again = ottla.run(&["topics", "create", &topic, "-p", "2"], b"");
    assert!(!again.status.success());
    let message = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        message.contains(&topic) && message.contains("exists"),
        "{message}"
    );
    let listed = ottla.json(&["topics", "list", "--json"]);
    assert!(listed.to_string().contains(&topic), "{listed}");
    let described = ottla.json(&["topics", "describe", &topic, "--json"]);
    assert!(described.to_string().contains(&topic), "{described}");
    ottla.text(&["topics", "delete", &topic], b"");
    let gone = ottla.run(&["topics", "delete", &topic], b"");
    assert!(!gone.status.success(), "a topic is deleted once");
}

#[test]
fn an_unknown_topic_is_an_error_that_names_it_and_loses_no_time() {
    let Some(kafka) = Kafka::shared() else { return };
    let ottla = Tool {
        bootstrap: kafka.bootstrap(),
    };
    let topic = unique("tool-nowhere");
    let started = std::time::Instant::now();
    for arguments in [
        &["produce", "-t", &topic][..],
        &["consume", "-t", &topic, "-e"],
    ] {
        let output = ottla.run(arguments, b"lost\n");
        assert!(!output.status.success(), "{arguments:?}");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains(&topic), "{message}");
    }
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn a_reader_that_goes_away_ends_the_tool_quietly() {
    let Some(kafka) = Kafka::shared() else { return };
    let ottla = Tool {
        bootstrap: kafka.bootstrap(),
    };
    let topic = unique("tool-pipe");
    ottla.text(&["topics", "create", &topic, "-p", "1"], b"");
    let lines: String = (0..200_000).map(|i| format!("line {i}\n")).collect();
    ottla.text(&["produce", "-t", &topic], lines.as_bytes());
    let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(["consume", "-t", &topic, "-e", "-q", "-b", kafka.bootstrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Dropping the pipe's end is what `| head -0` does.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn perf_reports_one_line_of_json() {
    let Some(kafka) = Kafka::shared() else { return };
    let ottla = Tool {
        bootstrap: kafka.bootstrap(),
    };
    let topic = unique("tool-perf");
    ottla.text(&["topics", "create", &topic, "-p", "3"], b"");
    let produced = ottla.json(&["perf", "produce", "-t", &topic, "-n", "20000", "--json"]);
    assert_eq!(produced["records"], 20_000, "{produced}");
    let consumed = ottla.json(&["perf", "consume", "-t", &topic, "-n", "20000", "--json"]);
    assert_eq!(consumed["records"], 20_000, "{consumed}");
}
