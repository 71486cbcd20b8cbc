//! Kafka's own tools on the embedded broker, of the newest version and of the oldest supported line.

use std::{collections::BTreeSet, fs, time::Duration};

use ottla_protocol_tests::{
    Distribution, Error, Output, Recording, Sample, Tool, Tools, Version, or_skip,
};
use serde_json::Value;

use crate::stage::{Offsets, Placed, Stage, assert_same};

#[test]
fn the_tools_of_kafka_4_3_administer_write_and_read() {
    tools_on_one_node_and_three(Version::V4_3_1);
}

#[test]
fn the_tools_of_kafka_3_9_administer_write_and_read() {
    tools_on_one_node_and_three(Version::V3_9);
}

#[test]
fn a_group_of_kafka_4_3_goes_on_when_a_leader_moves_and_a_node_stops() {
    group_under_failover(Version::V4_3_1);
}

#[test]
fn a_group_of_kafka_3_9_goes_on_when_a_leader_moves_and_a_node_stops() {
    group_under_failover(Version::V3_9);
}

fn tools_on_one_node_and_three(version: Version) {
    let Some(tools) = or_skip(tools(version)) else {
        return;
    };
    for nodes in [1, 3] {
        let stage = Stage::start(nodes);
        let tools = tools.at(&stage.bootstrap());
        topics_and_configs(&stage, &tools, nodes);
        records_of_every_codec(&stage, &tools);
        groups_and_offsets(&stage, &tools);
        deletions(&stage, &tools);
        performance(&stage, &tools);
        leaders_and_replicas(&stage, &tools, nodes);
    }
}

/// All in one JVM: there are some fifty.
fn tools(version: Version) -> Result<Tools, Error> {
    Tools::new(Distribution::get(version)?, String::new()).in_one_jvm()
}

fn topics_and_configs(stage: &Stage, tools: &Tools, nodes: u16) {
    let said = tools.run(Tool::BrokerApiVersions, &[]);
    for address in stage.bootstrap().split(',') {
        says(&said, &[&format!("{address} (id: ")]);
    }
    says(&said, &["Produce(0): 0 to ", "Fetch(1): 4 to "]);

    let replicas = nodes.to_string();
    let create = ["--create", "--topic", TOPIC, "--partitions", "2"];
    let more = [
        "--replication-factor",
        &replicas,
        "--config",
        "retention.ms=3600000",
    ];
    tools.run(Tool::Topics, &[&create[..], &more].concat());
    assert_eq!(stage.ends(TOPIC), Offsets::from([(0, 0), (1, 0)]));
    let again = tools
        .try_run(Tool::Topics, &[&create[..], &more].concat(), None, LIMIT)
        .unwrap();
    assert!(!again.status.success());
    assert!(
        format!("{}{}", again.text(), again.stderr).contains("already exists"),
        "{}",
        again.stderr
    );
    says(&tools.run(Tool::Topics, &["--list"]), &[TOPIC]);

    let of_topic = ["--entity-type", "topics", "--entity-name", TOPIC];
    let alter = [
        "--alter",
        "--add-config",
        "max.message.bytes=2000000,segment.bytes=1048576",
    ];
    tools.run(Tool::Configs, &[&of_topic[..], &alter].concat());
    let set = tools.run(Tool::Configs, &[&of_topic[..], &["--describe"]].concat());
    says(
        &set,
        &[
            "max.message.bytes=2000000",
            "segment.bytes=1048576",
            "retention.ms=3600000",
        ],
    );
    let alter = ["--alter", "--delete-config", "segment.bytes"];
    tools.run(Tool::Configs, &[&of_topic[..], &alter].concat());
    let set = tools.run(Tool::Configs, &[&of_topic[..], &["--describe"]].concat());
    assert!(!set.text().contains("segment.bytes"), "{}", set.text());
    says(&set, &["max.message.bytes=2000000"]);
    let all = [
        "--describe",
        "--all",
        "--entity-type",
        "brokers",
        "--entity-name",
        "1",
    ];
    says(&tools.run(Tool::Configs, &all), &["num.partitions="]);

    tools.run(
        Tool::Topics,
        &["--alter", "--topic", TOPIC, "--partitions", "3"],
    );
    assert_eq!(stage.ends(TOPIC), Offsets::from([(0, 0), (1, 0), (2, 0)]));
    let described = tools.run(Tool::Topics, &["--describe", "--topic", TOPIC]);
    says(
        &described,
        &["PartitionCount: 3", "max.message.bytes=2000000"],
    );
    for partition in 0..3 {
        let leader = stage.broker().leader(TOPIC, partition).unwrap();
        says(
            &described,
            &[&format!("Partition: {partition}\tLeader: {leader}\t")],
        );
    }
    let under = ["--describe", "--under-replicated-partitions"];
    assert_eq!(tools.run(Tool::Topics, &under).text().trim(), "");
}

fn records_of_every_codec(stage: &Stage, tools: &Tools) {
    let samples = [
        Sample::new(Some(b"key"), Some(b"value"))
            .header("h", Some(b"1"))
            .header("h", Some(b"2")),
        Sample::new(None, Some("\u{20ac}".as_bytes())),
        Sample::new(Some(b""), Some(b"")),
        Sample::new(Some(b"tombstone"), None).header("n", None),
        Sample::new(
            Some(b"long"),
            Some("0123456789abcdef".repeat(2_000).as_bytes()),
        ),
    ];
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        tools.produce(TOPIC, codec, &samples);
    }
    let stored = stage.everything(TOPIC);
    let mut left: Vec<_> = stored.iter().map(|placed| placed.sample.clone()).collect();
    for sample in samples.iter().flat_map(|sample| [sample; 5]) {
        let sample = sample.clone().at(0);
        let at = left.iter().position(|stored| *stored == sample);
        left.swap_remove(at.unwrap_or_else(|| panic!("{sample:?} is not there: {left:?}")));
    }
    assert_eq!(left, [], "and nothing else");

    let read = tools.consume(TOPIC, stored.len(), &["--group", GROUP]);
    let mut read: Vec<_> = read
        .into_iter()
        .map(|seen| Placed {
            partition: seen.partition,
            offset: seen.offset,
            sample: seen.sample.at(0),
        })
        .collect();
    read.sort_by_key(|placed| (placed.partition, placed.offset));
    assert_same("what the console consumer read", &read, &stored);
    assert_eq!(
        stage.committed(GROUP, TOPIC),
        stage.ends(TOPIC),
        "it commits as it closes"
    );
}

fn groups_and_offsets(stage: &Stage, tools: &Tools) {
    says(&tools.run(Tool::ConsumerGroups, &["--list"]), &[GROUP]);
    let before = stage.ends(TOPIC);
    let news: Vec<_> = (0..6)
        .map(|number| (Some(number % 3), Sample::new(None, Some(b"new"))))
        .collect();
    stage.write(TOPIC, &news);
    let ends = stage.ends(TOPIC);
    let described = tools.run(Tool::ConsumerGroups, &["--describe", "--group", GROUP]);
    for (partition, end) in &ends {
        let row = row(&described, partition);
        let numbers: Vec<i64> = row[3..6]
            .iter()
            .map(|field| field.parse().unwrap())
            .collect();
        assert_eq!(numbers, [before[partition], *end, 2], "{row:?}");
    }
    let state = tools.run(
        Tool::ConsumerGroups,
        &["--describe", "--state", "--group", GROUP],
    );
    says(&state, &["Empty"]);

    // What is new, and nothing else, for who comes back.
    let read = tools.consume(TOPIC, 6, &["--group", GROUP]);
    assert!(
        read.iter()
            .all(|seen| seen.sample.value.as_deref() == Some(b"new"))
    );
    assert_eq!(stage.committed(GROUP, TOPIC), ends);

    let reset = |to: &[&str]| {
        let of_group = [
            "--reset-offsets",
            "--group",
            GROUP,
            "--topic",
            TOPIC,
            "--execute",
        ];
        tools.run(Tool::ConsumerGroups, &[&of_group[..], to].concat());
        stage.committed(GROUP, TOPIC)
    };
    assert_eq!(
        reset(&["--to-offset", "1"]),
        Offsets::from([(0, 1), (1, 1), (2, 1)])
    );
    assert_eq!(
        reset(&["--shift-by", "1"]),
        Offsets::from([(0, 2), (1, 2), (2, 2)])
    );
    assert_eq!(reset(&["--to-latest"]), ends);
    assert_eq!(
        reset(&["--to-earliest"]),
        Offsets::from([(0, 0), (1, 0), (2, 0)])
    );
    assert_eq!(
        reset(&["--to-datetime", "2001-01-01T00:00:00.000"]).len(),
        3
    );
    let of_one = format!("{TOPIC}:2");
    let delete = ["--delete-offsets", "--group", GROUP, "--topic", &of_one];
    tools.run(Tool::ConsumerGroups, &delete);
    let left: Vec<_> = stage.committed(GROUP, TOPIC).into_keys().collect();
    assert_eq!(left, [0, 1]);
}

fn deletions(stage: &Stage, tools: &Tools) {
    let listed = tools.run(Tool::GetOffsets, &["--topic", TOPIC]);
    for (partition, end) in stage.ends(TOPIC) {
        says(&listed, &[&format!("{TOPIC}:{partition}:{end}\n")]);
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("delete.json");
    let before = format!(
        r#"{{"version": 1, "partitions": [{{"topic": "{TOPIC}", "partition": 0, "offset": 2}}]}}"#
    );
    fs::write(&file, before).unwrap();
    let deleted = tools.run(
        Tool::DeleteRecords,
        &["--offset-json-file", file.to_str().unwrap()],
    );
    says(&deleted, &["low_watermark: 2"]);
    assert_eq!(stage.broker().offsets(TOPIC, 0).unwrap().0, 2);
    let earliest = tools.run(Tool::GetOffsets, &["--topic", TOPIC, "--time", "earliest"]);
    says(
        &earliest,
        &[&format!("{TOPIC}:0:2\n"), &format!("{TOPIC}:1:0\n")],
    );

    tools.run(Tool::ConsumerGroups, &["--delete", "--group", GROUP]);
    assert!(!stage.has_group(GROUP));
    tools.run(Tool::Topics, &["--delete", "--topic", TOPIC]);
    assert_eq!(stage.broker().offsets(TOPIC, 0), None);
    let listed = tools.run(Tool::Topics, &["--list"]);
    assert!(!listed.text().contains(TOPIC), "{}", listed.text());
}

fn performance(stage: &Stage, tools: &Tools) {
    const RECORDS: i64 = 20_000;
    stage.broker().create_topic("perf", 3).unwrap();
    let bootstrap = format!("bootstrap.servers={}", stage.bootstrap());
    let count = RECORDS.to_string();
    let work = [
        "--topic",
        "perf",
        "--num-records",
        &count,
        "--record-size",
        "100",
    ];
    let how = ["--throughput", "-1", "--producer-props", &bootstrap];
    let with = ["acks=all", "compression.type=lz4"];
    let said = tools.run(
        Tool::ProducerPerformance,
        &[&work[..], &how, &with].concat(),
    );
    says(&said, &["20000 records sent"]);
    assert_eq!(stage.ends("perf").values().sum::<i64>(), RECORDS);
    let work = [
        "--topic",
        "perf",
        "--messages",
        &count,
        "--group",
        "perf-group",
    ];
    let more = ["--timeout", "20000", "--hide-header"];
    let said = tools.run(Tool::ConsumerPerformance, &[&work[..], &more].concat());
    // start, end, MB, MB/s, records, records/s, ...
    let last = said.text().lines().last().unwrap_or_default();
    let read: Vec<&str> = last.split(',').map(str::trim).collect();
    assert_eq!(read.get(4), Some(&"20000"), "{}", said.text());
}

/// Elections, reassignments and log directories, of the topic that the performance tools filled.
fn leaders_and_replicas(stage: &Stage, tools: &Tools, nodes: u16) {
    let broker = stage.broker();
    let dirs = tools.run(Tool::LogDirs, &["--describe", "--topic-list", "perf"]);
    let last = dirs.text().lines().last().unwrap_or_default();
    let told: Value = serde_json::from_str(last).unwrap();
    let told = told["brokers"].as_array().unwrap();
    assert_eq!(told.len(), usize::from(nodes), "{}", dirs.text());
    for of_node in told {
        let partitions = of_node["logDirs"][0]["partitions"].as_array().unwrap();
        assert_eq!(
            partitions.len(),
            3,
            "every node has a replica: {}",
            dirs.text()
        );
        assert!(partitions.iter().all(|of| of["size"].as_i64() > Some(0)));
    }

    let by_hand = |electing: &str| {
        let of_one = ["--topic", "perf", "--partition", "0"];
        let how = ["--election-type", electing];
        tools.try_run(
            Tool::LeaderElection,
            &[&how[..], &of_one].concat(),
            None,
            LIMIT,
        )
    };
    let preferred = broker.leader("perf", 0).unwrap();
    if nodes == 3 {
        broker.move_leader("perf", 0, preferred % 3 + 1).unwrap();
    }
    let elected = by_hand("preferred")
        .unwrap()
        .expect_success("preferred election");
    let said = if nodes == 3 {
        "Successfully completed leader election (PREFERRED)"
    } else {
        "Valid replica already elected"
    };
    says(&elected, &[said]);
    assert_eq!(broker.leader("perf", 0), Some(preferred));

    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan.json");
    let replicas = if nodes == 3 { "[3, 1]" } else { "[1]" };
    let text = format!(
        r#"{{"version": 1, "partitions": [{{"topic": "perf", "partition": 0, "replicas": {replicas}}}]}}"#
    );
    fs::write(&plan, text).unwrap();
    let file = ["--reassignment-json-file", plan.to_str().unwrap()];
    let moved = tools.run(
        Tool::ReassignPartitions,
        &[&file[..], &["--execute"]].concat(),
    );
    says(
        &moved,
        &["Successfully started partition reassignment for perf-0"],
    );
    let moved = tools.run(
        Tool::ReassignPartitions,
        &[&file[..], &["--verify"]].concat(),
    );
    says(&moved, &["Reassignment of partition perf-0 is completed."]);
    let described = tools.run(Tool::Topics, &["--describe", "--topic", "perf"]);
    let replicas = if nodes == 3 {
        "Replicas: 3,1\t"
    } else {
        "Replicas: 1\t"
    };
    let line = described
        .text()
        .lines()
        .find(|line| line.contains("Partition: 0\t"));
    assert!(line.unwrap().contains(replicas), "{}", described.text());
    let (_, end) = broker.offsets("perf", 0).unwrap();
    assert_eq!(
        broker.records("perf", 0).unwrap().len() as i64,
        end,
        "nothing was lost"
    );
}

/// A verifiable producer writes, two verifiable consumers share a group; meanwhile a leader moves and the node that
/// coordinates stops.
fn group_under_failover(version: Version) {
    const RECORDS: usize = 3_000;
    const MORE: usize = 600;
    let Some(kafka) = or_skip(Distribution::get(version)) else {
        return;
    };
    let stage = Stage::start(3);
    let tools = Tools::new(kafka, stage.bootstrap());
    let (topic, group) = ("verified", "verifiers");
    stage.broker().create_topic(topic, 4).unwrap();
    stage.broker().move_coordinator(group, 2);
    let member = || {
        let args = ["--topic", topic, "--group-id", group];
        Member(tools.spawn(Tool::VerifiableConsumer, &args).record())
    };
    let mut first = member();
    first.wait_until("the first member has all", |it| it.has().len() == 4);
    let count = RECORDS.to_string();
    let args = [
        "--topic",
        topic,
        "--max-messages",
        &count,
        "--throughput",
        "500",
    ];
    let mut producer = tools.spawn(Tool::VerifiableProducer, &args).record();
    let mut second = member();
    second.wait_until("the second member has a share", |it| !it.has().is_empty());
    producer.wait_until("a fifth is acknowledged", |out| {
        acknowledged(out).len() >= RECORDS / 5
    });
    crate::failover::disturb(&stage, topic);
    assert!(producer.wait_for_end().success(), "{}", producer.stderr());
    let told = acknowledged(&producer.stdout());
    // It never retries, and says what failed when the leader moved.
    let failed = events(&producer.stdout())
        .iter()
        .filter(|event| event["name"] == "producer_send_error")
        .count();
    assert_eq!(told.len() + failed, RECORDS, "every record has an outcome");
    assert!(told.len() > RECORDS / 2, "{failed} failed");
    let stored: BTreeSet<_> = stage.everything(topic).iter().map(place).collect();
    assert!(told.is_subset(&stored), "what is acknowledged is there");
    second.wait_until("everything is read", |it| {
        &it.read() | &first.read() == stored
    });

    first.0.terminate();
    second.wait_until("the one that stays has all", |it| it.has().len() == 4);
    let count = MORE.to_string();
    let said = tools.run(
        Tool::VerifiableProducer,
        &[
            "--topic",
            topic,
            "--max-messages",
            &count,
            "--throughput",
            "-1",
        ],
    );
    assert_eq!(acknowledged(said.text()).len(), MORE);
    let stored: BTreeSet<_> = stage.everything(topic).iter().map(place).collect();
    second.wait_until("it reads what came", |it| {
        &it.read() | &first.read() == stored
    });
    second.0.terminate();
    let mut ends = stage.ends(topic);
    ends.retain(|_, end| *end > 0); // nothing is committed where nothing was read
    assert_eq!(stage.committed(group, topic), ends);
}

/// A verifiable consumer, and what its events say.
struct Member(Recording);

impl Member {
    fn wait_until(&mut self, what: &str, holds: impl Fn(&Told) -> bool) {
        self.0.wait_until(what, |out| holds(&Told(events(out))));
    }

    fn read(&self) -> BTreeSet<(i32, i64)> {
        Told(events(&self.0.stdout())).read()
    }
}

struct Told(Vec<Value>);

impl Told {
    /// The partitions it has.
    fn has(&self) -> BTreeSet<i64> {
        let mut has = BTreeSet::new();
        for event in &self.0 {
            let partitions = event["partitions"].as_array().into_iter().flatten();
            let partitions: BTreeSet<i64> = partitions
                .filter_map(|partition| partition["partition"].as_i64())
                .collect();
            match event["name"].as_str() {
                Some("partitions_assigned") => has.extend(partitions),
                Some("partitions_revoked") => has.retain(|held| !partitions.contains(held)),
                _ => {}
            }
        }
        has
    }

    /// Where everything lies that it has read.
    fn read(&self) -> BTreeSet<(i32, i64)> {
        let mut read = BTreeSet::new();
        let consumed = |event: &&Value| event["name"] == "records_consumed";
        for event in self.0.iter().filter(consumed) {
            for part in event["partitions"].as_array().into_iter().flatten() {
                let number = |name: &str| part[name].as_i64().unwrap();
                let offsets = number("minOffset")..=number("maxOffset");
                read.extend(offsets.map(|offset| (number("partition") as i32, offset)));
            }
        }
        read
    }
}

/// Where the verifiable producer was told its records are.
fn acknowledged(out: &str) -> BTreeSet<(i32, i64)> {
    events(out)
        .iter()
        .filter(|event| event["name"] == "producer_send_success")
        .map(|event| {
            let partition = event["partition"].as_i64().unwrap() as i32;
            (partition, event["offset"].as_i64().unwrap())
        })
        .collect()
}

fn events(out: &str) -> Vec<Value> {
    let whole = out.rfind('\n').map_or("", |end| &out[..end]);
    let lines = whole.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn place(placed: &Placed) -> (i32, i64) {
    (placed.partition, placed.offset)
}

/// The row of a partition in a description of the group.
fn row<'a>(described: &'a Output, partition: &i32) -> Vec<&'a str> {
    let partition = partition.to_string();
    let rows = described
        .text()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut of_partition = rows.filter(|row| row.first() == Some(&GROUP) && row[2] == partition);
    of_partition
        .next()
        .unwrap_or_else(|| panic!("no partition {partition}: {}", described.text()))
}

pub(crate) fn says(output: &Output, all: &[&str]) {
    for part in all {
        assert!(
            output.text().contains(part),
            "no {part:?} in\n{}",
            output.text()
        );
    }
}

const TOPIC: &str = "tooled";
const GROUP: &str = "tooled-group";
const LIMIT: Duration = Duration::from_secs(60);
