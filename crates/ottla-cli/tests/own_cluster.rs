//! `ottla broker` and `ottla demo`, as somebody without any Kafka has them.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

mod support;
use support::{command, run, text};

/// A command that runs until it is told to end.
struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    fn start(arguments: &[&str]) -> Running {
        let mut child = command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        Running { child, stdout }
    }

    /// The next line of its standard output.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Its lines up to one that begins with `start`.
    fn lines_to(&mut self, start: &str) -> Vec<String> {
        let mut lines = vec![self.line()];
        while !lines.last().unwrap().starts_with(start) {
            let next = self.line();
            lines.push(next);
            assert!(
                lines.len() < 200,
                "no line begins with {start:?}: {lines:?}"
            );
        }
        lines
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Its exit status and what it said on standard error. It must end by itself.
    fn ended(mut self) -> (Option<i32>, String) {
        let status = ended_in_time(&mut self.child);
        let mut errors = String::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        (status, errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended_in_time(child: &mut Child) -> Option<i32> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(started.elapsed() < LIMIT, "did not end within {LIMIT:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Fails with `status` and says each of `words`.
#[track_caller]
fn fails(arguments: &[&str], status: i32, words: &[&str]) {
    let running = Running::start(arguments);
    let (code, errors) = running.ended();
    assert_eq!(code, Some(status), "{arguments:?}: {errors}");
    for word in words {
        assert!(
            errors.contains(word),
            "{arguments:?} does not say {word:?}: {errors}"
        );
    }
}

#[test]
fn the_demo_adds_up() {
    let output = run(&["demo", "-n", "3000", "-q", "--json"], b"");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(report["topics"]["user_clicks"], 3000);
    assert_eq!(report["topics"]["enriched_clicks"], 2940);
    assert_eq!(report["topics"]["user_clicks_dlq"], 60);
    let workers = report["workers"].as_array().unwrap();
    let sum = |field: &str| {
        workers
            .iter()
            .map(|w| w[field].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((workers.len(), sum("partitions")), (3, 12));
    assert_eq!(
        (sum("consumed"), sum("enriched"), sum("dead_lettered")),
        (3000, 2940, 60)
    );
    assert!(workers.iter().all(|w| w["consumed"].as_u64() > Some(0)));
    let kinds = report["dead_letters"].as_object().unwrap();
    assert_eq!(kinds.values().filter_map(Value::as_u64).sum::<u64>(), 60);
    for load in report["loads"].as_array().unwrap() {
        let at = |name: &str| load["end_to_end_us"][name].as_u64().unwrap();
        assert!(0 < at("p50") && at("p50") <= at("p95") && at("p95") <= at("p99"));
        assert!(load["clicks_per_second"].as_f64().unwrap() > 1.0);
    }
}

#[test]
fn the_smallest_demo() {
    let report = text(&["demo", "-n", "1", "-q"], b"");
    assert!(report.contains("counts add up"), "{report}");
}

#[test]
fn a_demo_that_does_not_add_up_says_so() {
    let output = run(&["demo", "-n", "200", "-q", "--tamper"], b"");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}{errors}");
    assert!(told.contains("records in enriched_clicks"), "{told}");
    assert!(!told.contains("counts add up"), "{told}");
    assert!(errors.contains("2 counts do not add up"), "{errors}");
}

#[test]
fn what_does_not_add_up_is_told_when_nobody_reads_the_report_too() {
    let mut demo = Running::start(&["demo", "-n", "200", "-q", "--tamper"]);
    drop(demo.stdout.take());
    let (status, errors) = demo.ended();
    assert_eq!(status, Some(1), "{errors}");
}

#[test]
fn a_demo_is_interrupted_in_order() {
    for (signal, arguments) in [
        (Signal::INT, &["demo", "-n", "9000000"][..]),
        (Signal::TERM, &["demo", "-n", "9000000", "-q"]),
    ] {
        let demo = Running::start(arguments);
        thread::sleep(Duration::from_millis(1500));
        demo.signal(signal);
        let (status, errors) = demo.ended();
        assert_eq!(status, Some(130), "{errors}");
        assert!(!errors.contains("error"), "{errors}");
    }
}

#[test]
fn the_workers_of_a_demo_that_is_interrupted_finish_and_leave() {
    let mut demo = Running::start(&["demo", "-n", "9000000"]);
    let mut stderr = BufReader::new(demo.child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let bootstrap = line.rsplit(' ').next().unwrap().trim_end();
    let first = bootstrap.split(',').next().unwrap();
    let describe = ["groups", "describe", "-b", first, "clickstream", "--json"];
    let started = Instant::now();
    while !String::from_utf8_lossy(&run(&describe, b"").stdout).contains("Stable") {
        assert!(started.elapsed() < LIMIT, "no group");
    }
    demo.signal(Signal::INT);
    let mut errors = String::new();
    stderr.read_to_string(&mut errors).unwrap();
    assert!(errors.contains("the workers have left"), "{errors}");
    assert!(errors.ends_with("interrupted\n"), "{errors}");
    assert_eq!(ended_in_time(&mut demo.child), Some(130));
}

#[test]
fn a_second_signal_ends_at_once_and_says_so() {
    let mut broker = Running::start(&["broker", "-l", "127.0.0.1:0", "-q", "-t", "t"]);
    let bootstrap = broker.line();
    let mut child = command(&["produce", "-b", &bootstrap, "-t", "t"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let stdout = child.stdout.take().map(BufReader::new);
    let mut produce = Running { child, stdout };
    stdin.write_all(b"one\n").unwrap();
    let read = ["consume", "-b", &bootstrap, "-t", "t", "-c", "1", "-q"];
    assert_eq!(text(&read, b""), "one\n");
    // What it has sent is not acknowledged any more, and it waits for that for some time.
    broker.signal(Signal::STOP);
    stdin.write_all(b"two\n").unwrap();
    thread::sleep(Duration::from_millis(500));
    produce.signal(Signal::INT);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(produce.child.try_wait().unwrap(), None, "it waits");
    produce.signal(Signal::TERM);
    let (status, errors) = produce.ended();
    broker.signal(Signal::CONT);
    assert_eq!(status, Some(143), "{errors}");
    assert!(errors.contains("told to stop again"), "{errors}");
}

#[test]
fn a_demo_that_is_kept_can_be_looked_into() {
    let mut demo = Running::start(&["demo", "-n", "500", "--keep"]);
    let lines = demo.lines_to("Ctrl-C");
    let line = lines.iter().find(|l| l.contains("goes on at")).unwrap();
    let bootstrap = line
        .split_whitespace()
        .find(|word| word.contains(':'))
        .unwrap();
    let bootstrap = bootstrap.split(',').next().unwrap().trim_end_matches('.');
    let read = |topic| {
        text(
            &["consume", "-b", bootstrap, "-t", topic, "-e", "-q", "-J"],
            b"",
        )
    };
    assert_eq!(read("enriched_clicks").lines().count(), 490);
    for letter in read("user_clicks_dlq").lines() {
        let letter: Value = serde_json::from_str(letter).unwrap();
        let headers: Vec<_> = letter["headers"].as_array().unwrap().iter().collect();
        let header = |name: &str| {
            let at = headers.iter().position(|h| **h == name).unwrap();
            headers[at + 1].as_str().unwrap().to_owned()
        };
        assert_eq!(header("source.topic"), "user_clicks");
        assert!(!header("error.message").is_empty());
        // The original is there, byte for byte.
        let (partition, offset) = (header("source.partition"), header("source.offset"));
        let original = text(
            &[
                "consume",
                "-b",
                bootstrap,
                "-t",
                "user_clicks",
                "-p",
                &partition,
                "-o",
                &offset,
                "-c",
                "1",
                "-q",
                "-J",
            ],
            b"",
        );
        let original: Value = serde_json::from_str(&original).unwrap();
        for field in ["key", "payload", "payload_base64", "ts"] {
            assert_eq!(letter[field], original[field], "{field}");
        }
    }
    let group = text(
        &[
            "groups",
            "describe",
            "-b",
            bootstrap,
            "clickstream",
            "--json",
        ],
        b"",
    );
    assert!(group.contains("Empty"), "the workers left: {group}");
    demo.signal(Signal::INT);
    assert_eq!(demo.ended().0, Some(0));
}

#[test]
fn a_broker_ends_on_sigterm_and_its_data_is_there_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let arguments = ["broker", "-l", "0", "-d", dir, "-t", "numbers:3", "-n", "2"];
    let mut first = Running::start(&arguments);
    let bootstrap = first.line();
    let input: String = (0..1000).map(|i| format!("{i}\n")).collect();
    text(
        &["produce", "-b", &bootstrap, "-t", "numbers"],
        input.as_bytes(),
    );
    let group = ["-G", "g", "numbers", "-q", "-c", "400"];
    let consume = |bootstrap: &str| {
        let all = [&["consume", "-b", bootstrap][..], &group].concat();
        text(&all, b"")
            .lines()
            .map(|l| l.parse().unwrap())
            .collect::<Vec<u32>>()
    };
    let mut read = consume(&bootstrap);
    fails(
        &["broker", "-l", "0", "-d", dir],
        1,
        &[dir, "in use by another broker"],
    );
    first.signal(Signal::TERM);
    let (status, errors) = first.ended();
    assert_eq!((status, errors.as_str()), (Some(0), "stopping\n"));

    let mut second = Running::start(&["broker", "-l", "0", "-d", dir, "-t", "numbers:5", "--json"]);
    let told: Value = serde_json::from_str(&second.line()).unwrap();
    let bootstrap = told["bootstrap_servers"].as_str().unwrap();
    read.extend(consume(bootstrap));
    let all = text(
        &["consume", "-b", bootstrap, "-t", "numbers", "-e", "-q"],
        b"",
    );
    assert_eq!(all.lines().count(), 1000, "nothing is lost");
    read.sort_unstable();
    read.dedup();
    assert_eq!(read.len(), 800, "the group went on where it was");
    second.signal(Signal::INT);
    let (status, errors) = second.ended();
    assert_eq!(status, Some(0));
    assert!(
        errors.contains("`numbers` was there already, with 3 partitions"),
        "{errors}"
    );
}

#[test]
fn a_broker_goes_on_when_nobody_reads_what_it_says() {
    let mut broker = Running::start(&["broker", "-l", "127.0.0.1:0", "-q"]);
    let bootstrap = broker.line();
    drop(broker.stdout.take());
    let cluster = text(&["cluster", "-b", &bootstrap, "--json"], b"");
    assert!(cluster.contains("127.0.0.1"), "{cluster}");
    broker.signal(Signal::TERM);
    assert_eq!(broker.ended(), (Some(0), String::new()));
}

#[test]
fn settings_of_the_broker_reach_topics() {
    let settings = [
        "--set",
        "num.partitions=4",
        "-X",
        "log.retention.ms=1234567",
    ];
    let mut broker = Running::start(&[&["broker", "-l", "0", "-t", "t"][..], &settings].concat());
    let bootstrap = broker.line();
    let described = text(
        &[
            "topics", "describe", "-b", &bootstrap, "t", "--all", "--json",
        ],
        b"",
    );
    let described: Value = serde_json::from_str(&described).unwrap();
    let topic = &described["topics"][0];
    assert_eq!(topic["partitions"].as_array().unwrap().len(), 4);
    let configs = topic["configs"].to_string();
    assert!(configs.contains("1234567"), "{configs}");
    let listed = text(&["broker", "-X", "list"], b"");
    assert!(listed.contains("num.partitions\n") && listed.contains("also: log.retention.ms\n"));
}

#[test]
fn mistakes_are_said_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Running::start(&["broker", "-l", "0", "-q"]);
    let taken = broker.line();
    fails(&["broker", "-l", &taken], 1, &["cannot listen on", &taken]);
    fails(&["demo", "-l", &taken], 1, &["cannot listen on", &taken]);
    fails(
        &["broker", "-l", "127.0.0.1:99999"],
        2,
        &["99999", "no port"],
    );
    fails(
        &["broker", "-l", "127.0.0.1:65535", "-n", "2"],
        2,
        &["above 65535"],
    );
    fails(&["broker", "-l", "0", "-n", "0"], 2, &["1..=100"]);
    fails(
        &["broker", "-l", "0", "-t", "clicks:many"],
        2,
        &["`many`", "1, or more"],
    );
    fails(
        &["broker", "-l", "0", "-t", "clicks:20001"],
        2,
        &["clicks", "at most 20000 partitions"],
    );
    fails(
        &["broker", "-l", "0", "-t", "no spaces:1"],
        2,
        &["no spaces", "invalid"],
    );
    fails(
        &["broker", "-l", "0", "-t", "a:1", "-t", "a:2"],
        2,
        &["`a`", "twice"],
    );
    fails(
        &["broker", "-l", "0", "--set", "num.partition=2"],
        2,
        &["did you mean `num.partitions`"],
    );
    fails(
        &["broker", "-l", "0", "--set", "num.partitions=x"],
        2,
        &["num.partitions=x", "whole number"],
    );
    fails(
        &["broker", "-l", "0", "--set", "num.partitions"],
        2,
        &["KEY=VALUE"],
    );
    fails(&["broker", "-l", "0", "-b", &taken], 2, &["--listen"]);
    fails(&["demo", "-b", &taken], 2, &["brings its own broker"]);
    fails(&["demo", "-n", "0"], 2, &["1..=10000000"]);
    fails(
        &["demo", "-X", "lingre.ms=1"],
        2,
        &["did you mean `linger.ms`"],
    );
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    fails(&["broker", "-l", "0", "-d", file], 1, &[file]);
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    let version = r#"{"version":77,"cluster_id":"x"}"#;
    std::fs::write(foreign.join("broker.json"), version).unwrap();
    let foreign = foreign.to_str().unwrap();
    fails(&["broker", "-l", "0", "-d", foreign], 1, &[foreign]);
    broker.signal(Signal::TERM);
    assert_eq!(broker.ended().0, Some(0));
}

/// A debug build on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(60);
