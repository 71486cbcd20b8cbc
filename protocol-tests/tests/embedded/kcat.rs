//! kcat on the embedded broker. It has no administration of its own.

use std::{io::Write as _, thread, time::Duration};

use ottla_protocol_tests::{Kcat, Sample, or_skip};
use serde_json::Value;

use crate::stage::{Placed, Stage, assert_same};

#[test]
fn kcat_writes_reads_and_asks() {
    let Some(kcat) = or_skip(Kcat::find()) else {
        return;
    };
    let stage = Stage::start(3);
    let (topic, bootstrap) = ("kcat", stage.bootstrap());
    stage.broker().create_topic(topic, 3).unwrap();

    let metadata = json(kcat.run(&["-b", &bootstrap, "-L", "-J"], None).text());
    assert_eq!(
        metadata["brokers"].as_array().unwrap().len(),
        3,
        "{metadata}"
    );
    assert_eq!(metadata["topics"][0]["topic"], topic, "{metadata}");
    let partitions = metadata["topics"][0]["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 3, "{metadata}");
    assert!(partitions.iter().all(|partition| {
        partition["replicas"].as_array().unwrap().len() == 3
            && partition["isrs"].as_array().unwrap().len() == 3
    }));

    let mut written = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for partition in 0..3 {
            let at = partition.to_string();
            let to = ["-P", "-b", &bootstrap, "-t", topic, "-p", &at, "-z", codec];
            let shape = ["-K:", "-Z", "-H", "a=1", "-H", "b=2"];
            let long = "0123456789abcdef".repeat(1_000);
            let input = format!("key:{codec}\nempty:\nlong:{long}\n");
            kcat.run(&[&to[..], &shape].concat(), Some(input.as_bytes()));
            let values = [
                ("key", Some(codec)),
                ("empty", None),
                ("long", Some(long.as_str())),
            ];
            for (key, value) in values {
                let sample = Sample::new(Some(key.as_bytes()), value.map(str::as_bytes))
                    .header("a", Some(b"1"))
                    .header("b", Some(b"2"))
                    .at(0);
                written.push(Placed {
                    partition,
                    offset: next_offset(&written, partition),
                    sample,
                });
            }
        }
    }
    written.sort_by_key(|placed| (placed.partition, placed.offset));
    assert_same("what kcat wrote", &stage.everything(topic), &written);

    let read = kcat.run(
        &["-C", "-b", &bootstrap, "-t", topic, "-e", "-q", "-J"],
        None,
    );
    assert_same("what kcat read", &records(read.text()), &written);
    let asked = ["-b", &bootstrap, "-Q", "-t", "kcat:1:-1", "-t", "kcat:2:-2"];
    let told = kcat.run(&asked, None);
    assert!(
        told.text().contains("kcat [1] offset 15"),
        "{}",
        told.text()
    );
    assert!(told.text().contains("kcat [2] offset 0"), "{}", told.text());
    let tail = kcat.run(
        &[
            "-C", "-b", &bootstrap, "-t", topic, "-p1", "-o-2", "-e", "-q", "-J",
        ],
        None,
    );
    assert_same("the last two", &records(tail.text()), &written[28..30]);
}

#[test]
fn two_kcats_share_a_group_the_first_leaves_and_the_next_resumes() {
    let Some(kcat) = or_skip(Kcat::find()) else {
        return;
    };
    let stage = Stage::start(3);
    let (topic, group, bootstrap) = ("shared", "kcats", stage.bootstrap());
    stage.broker().create_topic(topic, 4).unwrap();
    let member = || {
        let to = ["-b", &bootstrap, "-G", group, topic, "-J", "-u"];
        let settings = [
            "-X",
            "auto.offset.reset=earliest",
            "-X",
            "heartbeat.interval.ms=200",
        ];
        kcat.spawn(&[&to[..], &settings].concat()).record()
    };
    let count = |text: &str| text.lines().count();
    // What each has been told it owns, as kcat prints it on a rebalance.
    let write = |name: &str| {
        let news: Vec<_> = (0..40)
            .map(|number| {
                let value = format!("{name} {number}");
                (Some(number % 4), Sample::new(None, Some(value.as_bytes())))
            })
            .collect();
        stage.write(topic, &news)
    };

    let mut all = write("alone");
    let mut first = member();
    first.wait_until("the first read everything", |out| count(out) == 40);
    let mut second = member();
    wait_for_assignment(&second);
    all.extend(write("together"));
    let both = |first: &str, second: &str| count(first) + count(second);
    second.wait_until("both read the rest", |out| both(&first.stdout(), out) == 80);
    assert!(count(&second.stdout()) > 0, "the second has a share");
    assert!(first.terminate().success());
    all.extend(write("left"));
    second.wait_until("the second reads all of it", |out| {
        both(&first.stdout(), out) == 120
    });
    assert!(second.terminate().success());
    assert_eq!(
        stage.committed(group, topic),
        stage.ends(topic),
        "kcat commits as it leaves"
    );

    all.extend(write("resumed"));
    let mut third = member();
    third.wait_until("the next reads what is new", |out| count(out) == 40);
    assert!(third.terminate().success());
    let printed = [first.stdout(), second.stdout(), third.stdout()].concat();
    all.sort_by_key(|placed| (placed.partition, placed.offset));
    assert_same("what the group read", &records(&printed), &all);
}

#[test]
fn kcat_goes_on_when_a_leader_moves_and_a_node_stops() {
    let Some(kcat) = or_skip(Kcat::find()) else {
        return;
    };
    let stage = Stage::start(3);
    let (topic, bootstrap) = ("poured", stage.bootstrap());
    stage.broker().create_topic(topic, 6).unwrap();
    let settings = ["-X", "enable.idempotence=true", "-X", "linger.ms=5"];
    let to = ["-P", "-b", &bootstrap, "-t", topic];
    let mut pouring = kcat.spawn(&[&to[..], &settings].concat()).record();
    let mut input = pouring.take_stdin().unwrap();
    let pour = |input: &mut std::process::ChildStdin, numbers: std::ops::Range<u32>| {
        for number in numbers {
            writeln!(input, "{number}").unwrap();
            thread::sleep(Duration::from_micros(500));
        }
    };
    pour(&mut input, 0..1_000);
    crate::failover::disturb_while(&stage, topic, || pour(&mut input, 1_000..4_000));
    drop(input);
    assert!(pouring.wait_for_end().success(), "{}", pouring.stderr());
    let mut values: Vec<u32> = stage
        .everything(topic)
        .into_iter()
        .map(|placed| {
            String::from_utf8(placed.sample.value.unwrap())
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    values.sort_unstable();
    assert!(
        values == (0..4_000).collect::<Vec<_>>(),
        "every line is there once"
    );
}

fn next_offset(written: &[Placed], partition: i32) -> i64 {
    written
        .iter()
        .filter(|placed| placed.partition == partition)
        .count() as i64
}

/// A member that kcat has told of partitions.
fn wait_for_assignment(member: &ottla_protocol_tests::Recording) {
    for _ in 0..1_000 {
        if member.stderr().contains("rebalanced") && member.stderr().contains("assigned:") {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("no assignment: {}", member.stderr());
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What `kcat -J` printed, in order of partition and offset.
fn records(text: &str) -> Vec<Placed> {
    let bytes = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
    let parse = |line| {
        let record: Value = json(line);
        let headers = record["headers"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        Placed {
            partition: record["partition"].as_i64().unwrap() as i32,
            offset: record["offset"].as_i64().unwrap(),
            sample: Sample {
                timestamp: 0,
                key: bytes(&record["key"]),
                value: bytes(&record["payload"]),
                headers: headers
                    .chunks(2)
                    .map(|pair| (pair[0].as_str().unwrap().to_owned(), bytes(&pair[1])))
                    .collect(),
            },
        }
    };
    let mut all: Vec<_> = text.lines().map(parse).collect();
    all.sort_by_key(|placed| (placed.partition, placed.offset));
    all
}
