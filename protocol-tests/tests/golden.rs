//! What Kafka's own tools and their brokers say to each other, read by our codec and written again bit for bit.
//!
//! With `OTTLA_CAPTURE_GOLDEN=1` it also stores one frame of each kind under `crates/ottla-wire/tests/golden/`, where a
//! test reads them without any Kafka.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use ottla_protocol_tests::{
    Direction, Fate, KafkaCluster, Kcat, Options, Passing, Tool, Tools, Version, or_skip,
};
use ottla_wire::introspect::{echo_request, echo_response};
use ottla_wire::{ApiKey, Bytes};

#[test]
fn frames_of_the_newest_tools_survive_our_codec() {
    let Some(cluster) = start(Version::V4_3_1) else {
        return;
    };
    let frames = Frames::recorded_from(&cluster);
    let tools = cluster.proxied_tools();
    topics_and_records(&tools);
    for (class, args) in ADMIN_4 {
        tools.run(Tool::Other(class), args);
    }
    // Transactions, the new group protocol and share groups are spoken by these only.
    let perf = "org.apache.kafka.tools.ProducerPerformance";
    let transaction = [
        "--topic",
        "golden",
        "--num-records",
        "3",
        "--record-size",
        "20",
    ];
    let transaction = [
        &transaction[..],
        &["--throughput", "-1", "--transactional-id", "golden"],
    ]
    .concat();
    tools.run(Tool::Other(perf), &transaction);
    let new_group = [
        "--topic",
        "golden",
        "--group",
        "golden-848",
        "--from-beginning",
        "--max-messages",
        "3",
    ];
    let new_group = [
        &new_group[..],
        &["--command-property", "group.protocol=consumer"],
    ]
    .concat();
    tools.run(Tool::ConsoleConsumer, &new_group);
    tools.run(
        Tool::ConsumerGroups,
        &["--describe", "--group", "golden-848"],
    );
    frames.check_and_store("kafka-4.3.1", 70);
}

#[test]
fn frames_of_the_oldest_tools_survive_our_codec() {
    let Some(cluster) = start(Version::V3_9) else {
        return;
    };
    let frames = Frames::recorded_from(&cluster);
    topics_and_records(&cluster.proxied_tools());
    frames.check_and_store("kafka-3.9", 40);
}

#[test]
fn frames_of_kcat_survive_our_codec() {
    let Some(kcat) = or_skip(Kcat::find()) else {
        return;
    };
    let Some(cluster) = start(Version::V4_3_1) else {
        return;
    };
    cluster.create_topic("golden", 1, &[]);
    let frames = Frames::recorded_from(&cluster);
    let bootstrap = cluster.proxied_bootstrap();
    kcat.run(
        &[
            "-b", &bootstrap, "-P", "-t", "golden", "-K", ":", "-z", "gzip",
        ],
        Some(b"k:v\nk:w\n"),
    );
    kcat.run(&["-b", &bootstrap, "-C", "-t", "golden", "-e", "-q"], None);
    kcat.run(&["-b", &bootstrap, "-Q", "-t", "golden:0:-1"], None);
    kcat.run(&["-b", &bootstrap, "-L"], None);
    frames.check_and_store("kcat", 10);
}

/// Runs that touch what most clients touch.
fn topics_and_records(tools: &Tools) {
    tools.run(
        Tool::Topics,
        &["--create", "--topic", "golden", "--partitions", "2"],
    );
    tools.run(Tool::Topics, &["--describe", "--topic", "golden"]);
    let produce = [
        "--topic",
        "golden",
        "--property",
        "parse.key=true",
        "--property",
        "key.separator=:",
    ];
    tools.feed(Tool::ConsoleProducer, &produce, b"a:one\nb:two\nc:three\n");
    let read = [
        "--topic",
        "golden",
        "--group",
        "golden",
        "--from-beginning",
        "--max-messages",
        "3",
    ];
    tools.run(Tool::ConsoleConsumer, &read);
    tools.run(Tool::ConsumerGroups, &["--describe", "--group", "golden"]);
    tools.run(
        Tool::ConsumerGroups,
        &["--describe", "--group", "golden", "--members", "--verbose"],
    );
    tools.run(Tool::ConsumerGroups, &["--list", "--state"]);
    let reset = [
        "--group",
        "golden",
        "--topic",
        "golden",
        "--reset-offsets",
        "--to-earliest",
        "--execute",
    ];
    tools.run(Tool::ConsumerGroups, &reset);
    tools.run(
        Tool::ConsumerGroups,
        &["--delete-offsets", "--group", "golden", "--topic", "golden"],
    );
    tools.run(Tool::ConsumerGroups, &["--delete", "--group", "golden"]);
    tools.run(Tool::GetOffsets, &["--topic", "golden"]);
    tools.run(
        Tool::Topics,
        &["--alter", "--topic", "golden", "--partitions", "3"],
    );
    tools.run(Tool::Topics, &["--create", "--topic", "gone"]);
    tools.run(Tool::Topics, &["--delete", "--topic", "gone"]);
}

/// Tools of Kafka 4.3.1 by class, with their arguments.
const ADMIN_4: &[(&str, &[&str])] = &[
    (
        "kafka.admin.ConfigCommand",
        &[
            "--alter",
            "--topic",
            "golden",
            "--add-config",
            "retention.ms=3600000",
        ],
    ),
    (
        "kafka.admin.ConfigCommand",
        &["--describe", "--topic", "golden", "--all"],
    ),
    (
        "kafka.admin.ConfigCommand",
        &[
            "--alter",
            "--entity-type",
            "clients",
            "--entity-default",
            "--add-config",
            "producer_byte_rate=99999999",
        ],
    ),
    (
        "kafka.admin.ConfigCommand",
        &["--describe", "--entity-type", "clients", "--entity-default"],
    ),
    (
        "kafka.admin.ConfigCommand",
        &[
            "--alter",
            "--entity-type",
            "users",
            "--entity-name",
            "u",
            "--add-config",
            "SCRAM-SHA-256=[password=p]",
        ],
    ),
    (
        "kafka.admin.ConfigCommand",
        &["--describe", "--entity-type", "users", "--entity-name", "u"],
    ),
    (
        "org.apache.kafka.tools.LogDirsCommand",
        &["--describe", "--topic-list", "golden"],
    ),
    (
        "org.apache.kafka.tools.MetadataQuorumCommand",
        &["describe", "--status"],
    ),
    ("org.apache.kafka.tools.FeatureCommand", &["describe"]),
    ("org.apache.kafka.tools.TransactionsCommand", &["list"]),
    (
        "org.apache.kafka.tools.TransactionsCommand",
        &[
            "describe-producers",
            "--topic",
            "golden",
            "--partition",
            "0",
        ],
    ),
    ("org.apache.kafka.tools.GroupsCommand", &["--list"]),
    ("org.apache.kafka.tools.ClientMetricsCommand", &["--list"]),
];

fn start(version: Version) -> Option<KafkaCluster> {
    or_skip(KafkaCluster::start(Options {
        version,
        proxied: true,
        ..Options::default()
    }))
}

/// API number, version and direction of a frame.
type Kind = (i16, i16, bool);

/// What passed a cluster's proxies.
struct Frames(Arc<Mutex<Vec<Frame>>>);

type Frame = (Kind, Vec<u8>);

impl Frames {
    fn recorded_from(cluster: &KafkaCluster) -> Self {
        let frames = Arc::new(Mutex::new(Vec::new()));
        for id in cluster.nodes() {
            let frames = Arc::clone(&frames);
            cluster.proxy(id).rule(move |passing: Passing<'_>| {
                let kind = (
                    passing.api_key,
                    passing.api_version,
                    passing.direction == Direction::Request,
                );
                frames.lock().unwrap().push((kind, passing.frame.clone()));
                Fate::Pass
            });
        }
        Self(frames)
    }

    /// Every frame comes back from our codec as it went in, and there were at least so many kinds.
    fn check_and_store(&self, source: &str, least_kinds: usize) {
        let mut kinds: BTreeMap<Kind, Vec<u8>> = BTreeMap::new();
        for (kind, frame) in self.0.lock().unwrap().iter() {
            let (api, version, is_request) = *kind;
            let place = format!("{source}: API {api} version {version}, request: {is_request}");
            let key = ApiKey::try_from(api).unwrap_or_else(|error| panic!("{place}: {error}"));
            let bytes = Bytes::copy_from_slice(frame);
            let echo = if is_request {
                echo_request(bytes)
            } else {
                echo_response(key, version, bytes)
            };
            let echo = echo.unwrap_or_else(|error| panic!("{place}: {error}\n{frame:02x?}"));
            assert_eq!(echo, frame, "{place}");
            // The longest that is still small says most.
            let kept = kinds.entry(*kind).or_default();
            if kept.is_empty() || (frame.len() > kept.len() && frame.len() <= 1500) {
                kept.clone_from(frame);
            }
        }
        eprintln!("{source}: {} kinds of frames", kinds.len());
        assert!(
            kinds.len() >= least_kinds,
            "only {} kinds of frames: {:?}",
            kinds.len(),
            kinds.keys()
        );
        if std::env::var_os("OTTLA_CAPTURE_GOLDEN").is_some_and(|value| value == "1") {
            store(source, &kinds);
        }
    }
}

fn store(source: &str, kinds: &BTreeMap<Kind, Vec<u8>>) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/ottla-wire/tests/golden");
    let directory = golden.join(source);
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(&directory).unwrap();
    for ((api, version, is_request), frame) in kinds {
        let name = ApiKey::try_from(*api).unwrap();
        let what = if *is_request { "request" } else { "response" };
        let mut text = String::new();
        for line in frame.chunks(48) {
            for byte in line {
                write!(text, "{byte:02x}").unwrap();
            }
            text.push('\n');
        }
        fs::write(directory.join(format!("{name}-{version}-{what}.hex")), text).unwrap();
    }
}
