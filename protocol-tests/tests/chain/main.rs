//! A chain: numbered keys are written to a topic, a group copies them to the next topic, another group to the one after, and
//! so on, while members of all groups come, leave and die. Each group divides its partitions in another way: by every
//! assignor, and by the brokers (KIP-848).
//!
//! A plain chain loses no key. In a transactional one (`ottla::exactly_once`) each topic has each key once, in order.
//!
//! `OTTLA_CHAIN_KEYS=1000000` has so many keys pass, as fast as they can, `OTTLA_CHAIN_NODES=3` starts so many nodes; by name a
//! test can be run alone.
#![allow(clippy::unwrap_used)]

#[path = "../client/mod.rs"]
mod client;
mod company;
mod copier;
mod judge;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use client::{PATIENCE, producer, until, within};
use company::Company;
use copier::{Division, Job, Way};
use judge::Judge;
use ottla_consumer::{
    ConsumerConfig, GroupProtocol,
    assignor::{CooperativeSticky, Range, RoundRobin, Sticky},
};
use ottla_producer::{ProducerConfig, ProducerRecord};
use ottla_protocol_tests::{KafkaCluster, Options, Version, or_skip, unique};

#[test]
fn newest_plain() {
    pass_on(&NEWEST, Version::V4_3_1, Way::Plain);
}

#[test]
fn newest_transactional() {
    pass_on(&NEWEST, Version::V4_3_1, Way::Transactional);
}

#[test]
fn oldest_plain() {
    pass_on(&OLDEST, Version::V3_9, Way::Plain);
}

#[test]
fn oldest_transactional() {
    pass_on(&OLDEST, Version::V3_9, Way::Transactional);
}

/// What two tests share; it goes with the process.
type Shared = OnceLock<Option<KafkaCluster>>;
static NEWEST: Shared = OnceLock::new();
static OLDEST: Shared = OnceLock::new();

fn start(version: Version) -> Option<KafkaCluster> {
    let asked = std::env::var("OTTLA_CHAIN_NODES").ok();
    let nodes = asked.map(|nodes| nodes.parse().unwrap());
    let options = Options {
        version,
        nodes: nodes.unwrap_or(if version == Version::V3_9 { 1 } else { 3 }),
        ..Options::default()
    };
    // The dead are missed while a test can wait.
    let options = options
        .set("group.min.session.timeout.ms", 1_000)
        .set("group.consumer.session.timeout.ms", SESSION.as_millis());
    or_skip(KafkaCluster::start(options))
}

const SESSION: Duration = Duration::from_secs(3);
const PARTITIONS: i32 = 6;
/// Enough for members to come and go meanwhile.
const KEYS: usize = 4_000;
const PER_SECOND: u32 = 1_000;

fn divisions(version: Version) -> Vec<Division> {
    let mut all: Vec<Division> = vec![
        ("range", |config| config.assignors = vec![Arc::new(Range)]),
        ("roundrobin", |config| {
            config.assignors = vec![Arc::new(RoundRobin)];
        }),
        ("sticky", |config| config.assignors = vec![Arc::new(Sticky)]),
        ("cooperative-sticky", |config| {
            config.assignors = vec![Arc::new(CooperativeSticky)];
        }),
    ];
    if version != Version::V3_9 {
        all.push(("uniform by the brokers", |config| {
            by_brokers(config, "uniform");
        }));
        all.push(("range by the brokers", |config| by_brokers(config, "range")));
    }
    all
}

fn by_brokers(config: &mut ConsumerConfig, assignor: &str) {
    let default = ConsumerConfig::default();
    config.group_protocol = GroupProtocol::Consumer;
    config.group_remote_assignor = Some(assignor.to_owned());
    config.session_timeout = default.session_timeout;
    config.heartbeat_interval = default.heartbeat_interval;
}

fn pass_on(shared: &'static Shared, version: Version, way: Way) {
    let Some(kafka) = shared.get_or_init(|| start(version)) else {
        return;
    };
    let long = std::env::var("OTTLA_CHAIN_KEYS").ok();
    let keys = long.as_ref().map_or(KEYS, |keys| keys.parse().unwrap());
    let pace = long.is_none().then_some(PER_SECOND);
    let limit = PATIENCE * if long.is_some() { 60 } else { 4 };
    let failed = std::panic::catch_unwind(|| within(limit, run(kafka, version, way, keys, pace)));
    if let Err(failed) = failed {
        kafka.keep_logs();
        std::panic::resume_unwind(failed);
    }
}

async fn run(
    kafka: &KafkaCluster,
    version: Version,
    way: Way,
    keys: usize,
    per_second: Option<u32>,
) {
    let bootstrap = kafka.bootstrap();
    let divisions = divisions(version);
    let name = format!("{way:?}").to_lowercase();
    let topics: Vec<_> = (0..=divisions.len())
        .map(|level| {
            let topic = unique(&format!("{name}-{level}"));
            kafka.create_topic(&topic, PARTITIONS, &[]);
            topic
        })
        .collect();
    let started = Instant::now();
    let judges: Vec<_> = topics
        .iter()
        .map(|topic| Judge::start(&bootstrap, topic, PARTITIONS, way, keys))
        .collect();
    let companies: Vec<_> = divisions
        .into_iter()
        .zip(topics.windows(2))
        .map(|(division, topics)| {
            let [from, to] = topics else { unreachable!() };
            Company::start(Job::new(&bootstrap, from, to, division, way))
        })
        .collect();
    let last = judges.last().unwrap();
    let calming = async {
        // Until then they come and go.
        let share = if per_second.is_some() { 2 } else { 9 };
        wait_for(&judges, || last.distinct() >= keys / 10 * share).await;
        companies.iter().for_each(Company::calm);
        wait_for(&judges, || {
            judges.iter().all(|judge| judge.distinct() == keys)
        })
        .await;
    };
    tokio::join!(produce(&bootstrap, &topics[0], keys, per_second), calming);
    let took = started.elapsed();
    let mut stories = vec!["written by one producer".to_owned()];
    for company in companies {
        // They live on runtimes of their own.
        stories.push(tokio::task::block_in_place(|| company.end()));
    }
    println!(
        "{name}: {keys} keys through {} groups of Kafka {} in {took:.1?}",
        topics.len() - 1,
        version.number()
    );
    for (judge, story) in judges.into_iter().zip(stories) {
        let (again, course) = judge.end().await;
        println!("  {story}: {again} keys there more than once; {course}");
        if way == Way::Transactional {
            assert_eq!(again, 0, "{story}");
        }
    }
    if per_second.is_some() {
        read_by_kafka(kafka, topics.last().unwrap(), way, keys);
    }
}

/// Waits for as long as anything arrives anywhere.
async fn wait_for(judges: &[Judge], holds: impl Fn() -> bool) {
    let mut before = (Instant::now(), Vec::new());
    while !holds() {
        let now: Vec<_> = judges.iter().map(Judge::distinct).collect();
        if now != before.1 {
            before = (Instant::now(), now);
        }
        let (since, counts) = &before;
        assert!(since.elapsed() < PATIENCE, "stuck at {counts:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn produce(bootstrap: &str, topic: &str, keys: usize, per_second: Option<u32>) {
    let config = ProducerConfig {
        // For many batches, but of some size: each of them is a transaction on its way.
        linger: Duration::from_millis(200),
        batch_size: 16_000,
        ..Default::default()
    };
    let producer = producer(bootstrap, config);
    for number in 0..keys {
        let text = number.to_string();
        let record = ProducerRecord::to(topic).key(&text).value(&text);
        drop(producer.send(record).await.unwrap());
        if let Some(rate) = per_second
            && number % 20 == 19
        {
            // Not made up for when it was held up: batches are to stay small.
            tokio::time::sleep(Duration::from_secs(20) / rate).await;
        }
    }
    // Says whether all of it was written.
    producer.flush(PATIENCE).await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

/// In the eyes of Kafka's own consumer each key is there; of those that were written in transactions none comes twice
/// before the last one came.
fn read_by_kafka(kafka: &KafkaCluster, topic: &str, way: Way, keys: usize) {
    if way == Way::Plain {
        return;
    }
    let args = ["--isolation-level", "read_committed"];
    let seen = tokio::task::block_in_place(|| kafka.tools().consume(topic, keys, &args));
    let numbers: BTreeSet<usize> = seen
        .into_iter()
        .map(|seen| String::from_utf8(seen.sample.key.unwrap()).unwrap())
        .map(|key| key.parse().unwrap())
        .collect();
    assert!(numbers.into_iter().eq(0..keys), "read by Kafka's consumer");
}
