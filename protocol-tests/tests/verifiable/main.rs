//! Our twins of Kafka's verifiable clients beside the originals: the same options, events, fields, exit statuses, and what
//! they do to records.
#![allow(clippy::unwrap_used)]

mod consumer;
mod events;
mod producer;
mod rebalances;
mod share_consumer;

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use ottla_protocol_tests::{Kafka, Output, Process, Tool, unique};

/// One of ours, ready to be run.
fn twin(binary: &str, kafka: &Kafka, options: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command
        .args(["--bootstrap-server", kafka.bootstrap()])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What both print, theirs and ours, with the same options but for what each has for itself. They run side by side.
fn both(
    kafka: &Kafka,
    (tool, binary): (Tool, &str),
    options: &[&str],
    own: impl Fn(&'static str) -> Vec<String>,
) -> (Output, Output) {
    let with = |whose| {
        let all = options.iter().map(|option| (*option).to_owned());
        all.chain(own(whose)).collect::<Vec<_>>()
    };
    let (for_them, for_us) = (with("theirs"), with("ours"));
    let theirs = kafka.tools().spawn(tool, &borrowed(&for_them));
    let mut ours = twin(binary, kafka, &borrowed(&for_us));
    let ours = Process::spawn("ours", &mut ours).unwrap();
    let ours = ours.collect(LIMIT).unwrap();
    (theirs.collect(LIMIT).unwrap(), ours)
}

fn borrowed(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

/// A topic with `count` records, which have keys, in some order over `partitions`.
fn filled(kafka: &Kafka, name: &str, partitions: i32, count: u32) -> String {
    let topic = unique(name);
    kafka.create_topic(&topic, partitions, &[]);
    if count > 0 {
        let count = count.to_string();
        let options = ["--topic", &topic, "--max-messages", &count];
        let options = [&options[..], &["--repeating-keys", "9"]].concat();
        let mut producer = twin(env!("CARGO_BIN_EXE_verifiable-producer"), kafka, &options);
        let output = Process::run("a producer", &mut producer, None, LIMIT).unwrap();
        let output = output.expect_success("filling a topic");
        let printed = output.text();
        // It sends once, and ends well whatever became of that.
        let all = format!("\"acked\":{count},");
        assert!(printed.contains(&all), "filling {topic}: {printed}");
    }
    topic
}

fn properties(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const LIMIT: Duration = Duration::from_secs(120);
