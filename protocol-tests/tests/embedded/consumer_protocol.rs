//! Groups of the new protocol (KIP-848) on the embedded broker: Java and librdkafka in one, and Kafka's tools look on.

use std::time::Duration;

use ottla_protocol_tests::{
    Distribution, Output, Python, Recording, Sample, Tool, Tools, Version, or_skip,
};
use serde_json::Value;

use crate::java::says;
use crate::stage::Stage;

const PARTITIONS: i32 = 4;
const TOPIC: &str = "shared-out";
const GROUP: &str = "of-the-new-protocol";
const PROTOCOL: &str = "group.protocol=consumer";
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn java_and_confluent_kafka_share_a_group() {
    let (Some(kafka), Some(python)) = (
        or_skip(Distribution::get(Version::V4_3_1)),
        or_skip(Python::get()),
    ) else {
        return;
    };
    let stage = Stage::start(3);
    let tools = Tools::new(kafka, stage.bootstrap());
    stage.broker().create_topic(TOPIC, PARTITIONS).unwrap();
    write(&stage, 0..40);

    let args = ["--topic", TOPIC, "--group", GROUP, "--from-beginning"];
    let protocol = ["--command-property", PROTOCOL];
    let mut java = tools
        .spawn(Tool::ConsoleConsumer, &[&args[..], &protocol].concat())
        .record();
    java.wait_until("Java reads all", |out| out.lines().count() == 40);
    let described = describe(&tools, &["--state"]);
    says(&described, &["uniform", "Stable"]);
    let listed = tools.run(Tool::ConsumerGroups, &["--list", "--type", "consumer"]);
    says(&listed, &[GROUP]);

    let args = ["join", &stage.bootstrap(), GROUP, TOPIC, PROTOCOL];
    let mut guest = python.guest("confluent_kafka", &args);
    let said = guest.expect("joined");
    assert!(!said["partitions"].as_array().unwrap().is_empty(), "{said}");
    let shared_out = || describe(&tools, &["--members"]);
    wait_until("each has two", || {
        let rows = shared_out();
        let rows = rows.text().lines().filter(|line| line.starts_with(GROUP));
        let twos = rows.filter(|row| row.split_whitespace().last() == Some("2"));
        twos.count() == 2
    });
    write(&stage, 40..80);
    java.wait_until("Java reads its half", |out| out.lines().count() >= 60);
    guest.go_on();
    let said = guest.expect("left");
    guest.finish();
    let theirs = said["records"].as_array().unwrap();
    let mut all = lines(&java);
    all.extend(theirs.iter().map(number));
    all.sort_unstable();
    assert_eq!(
        all,
        (0..80).collect::<Vec<_>>(),
        "each record went to one of them"
    );

    // Whoever stays has all again, and commits all.
    write(&stage, 80..120);
    java.wait_until("Java has all again", |out| out.lines().count() == 100);
    java.terminate();
    assert_eq!(stage.committed(GROUP, TOPIC), stage.ends(TOPIC));
    let described = describe(&tools, &["--state"]);
    says(&described, &["Empty"]);
    tools.run(Tool::ConsumerGroups, &["--delete", "--group", GROUP]);
    assert!(!stage.has_group(GROUP));
}

#[test]
fn a_group_goes_from_the_classic_protocol_to_the_new_one_and_back() {
    let Some(kafka) = or_skip(Distribution::get(Version::V4_3_1)) else {
        return;
    };
    let stage = Stage::start(1);
    let tools = Tools::new(kafka, stage.bootstrap());
    stage.broker().create_topic(TOPIC, PARTITIONS).unwrap();
    for (round, protocol) in ["classic", "consumer", "classic"].into_iter().enumerate() {
        let first = round as i64 * 20;
        write(&stage, first..first + 20);
        let protocol = format!("group.protocol={protocol}");
        let args = ["--group", GROUP, "--command-property", &protocol];
        let read = tools.consume(TOPIC, 20, &args);
        let mut read: Vec<i64> = read
            .into_iter()
            .map(|seen| text(&seen.sample.value.unwrap()))
            .collect();
        read.sort_unstable();
        let expected: Vec<i64> = (first..first + 20).collect();
        assert_eq!(read, expected, "it goes on where the group was");
    }
}

fn write(stage: &Stage, numbers: std::ops::Range<i64>) {
    let samples: Vec<_> = numbers
        .map(|number| {
            let value = number.to_string();
            let partition = (number % i64::from(PARTITIONS)) as i32;
            (Some(partition), Sample::new(None, Some(value.as_bytes())))
        })
        .collect();
    stage.write(TOPIC, &samples);
}

fn describe(tools: &Tools, what: &[&str]) -> Output {
    let of_group = ["--describe", "--group", GROUP];
    tools.run(Tool::ConsumerGroups, &[&of_group[..], what].concat())
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < LIMIT, "{what} did not come");
    }
}

fn lines(java: &Recording) -> Vec<i64> {
    let out = java.stdout();
    out.lines().map(|line| line.parse().unwrap()).collect()
}

fn text(value: &[u8]) -> i64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

/// The digits in a record's value, which is told in hexadecimal.
fn number(record: &Value) -> i64 {
    let hex = record["value"].as_str().unwrap();
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let digits: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
    text(&digits)
}
