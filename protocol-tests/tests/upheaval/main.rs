//! Three nodes under load while everything about them changes: brokers are killed and shut down, leaders move, replicas are
//! missing, topics grow, and are deleted and made again. What was acknowledged is there once and in order, what was
//! refused is not there, and a transaction is there whole or not at all. Groups of each kind read along: they miss
//! nothing, and stand still for a minute at most.
//!
//! Each upheaval comes once; `OTTLA_UPHEAVAL_SECONDS=600` goes on with more of them, at random, for so long.
#![allow(clippy::unwrap_used)]

#[path = "../client/mod.rs"]
mod client;
mod groups;
mod ledger;
mod load;
mod strict;
mod transactions;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use groups::Groups;
use ledger::Stored;
use load::Load;
use ottla_producer::{Compression, ProducerConfig};
use ottla_protocol_tests::{KafkaCluster, NodeId, Options, Tool, Tools, Version, or_skip, unique};
use tokio::runtime::Runtime;
use transactions::Transfers;

#[test]
fn nothing_is_lost_whatever_becomes_of_the_newest_kafka() {
    survive(Version::default());
}

#[test]
fn nothing_is_lost_whatever_becomes_of_the_oldest_kafka() {
    survive(Version::V3_9);
}

/// Six JVMs would be too many for the machines that run this.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn survive(version: Version) {
    let _turn = ONE_AT_A_TIME.lock();
    let options = Options {
        version,
        nodes: 3,
        ..Options::default()
    };
    // A member of a share group is told of its partitions with its second heartbeat.
    let options = options.set("group.share.min.heartbeat.interval.ms", 500);
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    let Some(tools) = or_skip(kafka.tools().in_one_jvm()) else {
        return;
    };
    let runtime = client::runtime();
    let stage = Stage::start(&kafka, tools, &runtime);
    stage.once();
    if let Some(long) = long() {
        stage.at_random(long);
    }
    stage.finish();
}

fn long() -> Option<Duration> {
    let seconds = std::env::var("OTTLA_UPHEAVAL_SECONDS").ok()?;
    Some(Duration::from_secs(seconds.parse().unwrap()))
}

struct Stage<'a> {
    kafka: &'a KafkaCluster,
    tools: Tools,
    runtime: &'a Runtime,
    started: Instant,
    /// Partitions are added to this one.
    growing: Load,
    /// This one is deleted and made again.
    reborn: Load,
    transfers: Transfers,
    /// They read the growing one.
    groups: Groups,
}

impl<'a> Stage<'a> {
    fn start(kafka: &'a KafkaCluster, tools: Tools, runtime: &'a Runtime) -> Self {
        let _inside = runtime.enter();
        let bootstrap = kafka.bootstrap();
        let two = [("min.insync.replicas", "2")];
        let config = ProducerConfig {
            compression: Compression::Lz4,
            // Many small batches, several in flight when something happens.
            batch_size: 600,
            ..Default::default()
        };
        let load = |name: &str, partitions, per_second| {
            let topic = unique(name);
            kafka.create_topic(&topic, partitions, &two);
            Load::start(&bootstrap, topic, config.clone(), per_second)
        };
        // The internal topics are made by then, and so is what they do to the first seconds of a cluster.
        let transfers = Transfers::start(kafka, &two);
        let growing = load("growing", 4, if long().is_some() { 1_500 } else { 3_000 });
        let version = tools.version();
        let groups = runtime.block_on(Groups::start(&bootstrap, version, &growing));
        let stage = Self {
            kafka,
            tools,
            runtime,
            started: Instant::now(),
            growing,
            groups,
            reborn: load("reborn", 2, 300),
            transfers,
        };
        stage.all_goes_on("the beginning");
        stage
    }

    /// Every upheaval, once.
    fn once(&self) {
        let missing = 2;
        strict::fewer_replicas_than_asked_for(self.kafka, self.runtime, missing, || {
            self.all_goes_on("the loss of a node");
            self.more_partitions();
        });
        self.all_goes_on("its return");
        if self.tools.version() == Version::default() {
            self.kill_the_others_than(missing);
        }
        self.rolling_restart();
        self.preferred_leaders();
        self.made_anew();
    }

    fn at_random(&self, length: Duration) {
        let ends = Instant::now() + length;
        let (mut kills, mut upheavals) = (0, 0);
        while Instant::now() < ends {
            upheavals += 1;
            match fastrand::u32(..10) {
                0 => self.rolling_restart(),
                1 | 2 => self.preferred_leaders(),
                3 => self.made_anew(),
                4 => self.pause(),
                _ => {
                    kills += 1;
                    let id = fastrand::i32(1..=3);
                    self.kafka.kill(id);
                    std::thread::sleep(Duration::from_millis(fastrand::u64(..8_000)));
                    self.kafka.restart(id).unwrap();
                    self.say(&format!("node {id} killed and back"));
                }
            }
            // At times in the middle of what the last one left behind.
            if fastrand::bool() {
                self.all_goes_on("the last upheaval");
            }
        }
        self.say(&format!("{kills} kills among {upheavals} upheavals"));
    }

    /// With it, each node was killed once: each coordinator, and each leader.
    fn kill_the_others_than(&self, dead_before: NodeId) {
        for id in self.kafka.nodes().filter(|&id| id != dead_before) {
            self.kafka.kill(id);
            self.kafka.restart(id).unwrap();
        }
        self.all_goes_on("the death of each node");
    }

    /// Each node shuts down in order, which moves its leaderships away first.
    fn rolling_restart(&self) {
        for id in self.kafka.nodes() {
            self.groups.expect_an_outdated_leader();
            self.kafka.stop(id);
            self.kafka.restart(id).unwrap();
        }
        self.all_goes_on("a rolling restart");
    }

    /// A node falls silent, for longer than the upheavals wait for it.
    fn pause(&self) {
        let id: NodeId = fastrand::i32(1..=3);
        self.groups.expect_an_outdated_leader();
        self.kafka.pause(id);
        std::thread::sleep(Duration::from_millis(fastrand::u64(500..8_000)));
        self.kafka.resume(id);
        self.kafka.wait_until_ready().unwrap();
        self.say(&format!("node {id} paused and resumed"));
    }

    fn preferred_leaders(&self) {
        let args = ["--election-type", "preferred", "--all-topic-partitions"];
        let limit = Duration::from_secs(60);
        self.groups.expect_an_outdated_leader();
        let elected = self
            .tools
            .try_run(Tool::LeaderElection, &args, None, limit)
            .unwrap();
        // It says what it could not move, as a failure: a replica that is not in sync yet stays follower.
        let moved = elected.text().matches("Successfully completed").count();
        self.say(&format!("preferred leaders elected ({moved})"));
        self.all_goes_on("an election of leaders");
    }

    fn more_partitions(&self) {
        let (topic, count) = (self.growing.topic(), "7");
        let args = ["--alter", "--topic", topic, "--partitions", count];
        self.tools.run(Tool::Topics, &args);
        self.until("the new partitions are written to", || {
            self.growing.partitions_written() == 7
        });
    }

    fn made_anew(&self) {
        let topic = self.reborn.topic();
        self.tools
            .run(Tool::Topics, &["--delete", "--topic", topic]);
        // A while in which there is no such topic.
        std::thread::sleep(Duration::from_millis(1_500));
        self.kafka
            .create_topic(topic, 2, &[("min.insync.replicas", "2")]);
        // Until every broker knows, an old one may still take records into the old topic.
        std::thread::sleep(Duration::from_millis(500));
        self.reborn.forget_what_was();
        self.all_goes_on("a topic made anew");
    }

    fn all_goes_on(&self, after: &str) {
        let before = (
            self.growing.acknowledged(),
            self.reborn.acknowledged(),
            self.transfers.committed(),
        );
        let written = self.groups.acknowledged();
        self.until(&format!("all goes on after {after}"), || {
            self.growing.acknowledged() >= before.0 + 2_000
                && self.reborn.acknowledged() >= before.1 + 100
                && self.transfers.committed() >= before.2 + 5
                && self.groups.behind(&written).is_empty()
        });
        self.say(&format!("all goes on after {after}"));
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(100);
        while !holds() {
            assert!(
                Instant::now() < deadline,
                "waited until {what}: {} acknowledged, {} of the other, {} transactions; {}",
                self.growing.acknowledged(),
                self.reborn.acknowledged(),
                self.transfers.committed(),
                self.groups.standing()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn say(&self, what: &str) {
        println!(
            "{:6.1} s {what}: {} + {} records, {} transactions",
            self.started.elapsed().as_secs_f64(),
            self.growing.acknowledged(),
            self.reborn.acknowledged(),
            self.transfers.committed()
        );
    }

    fn finish(self) {
        let Self {
            kafka,
            runtime,
            growing,
            reborn,
            transfers,
            groups,
            ..
        } = self;
        let (growing_topic, reborn_topic) = (growing.topic().to_owned(), reborn.topic().to_owned());
        let (growing, reborn) =
            runtime.block_on(async { (growing.end().await, reborn.end().await) });
        // A JVM that keeps what a tool prints has no room for so much: the slower the machine, the more there is.
        let tools = kafka.tools();
        assert_eq!(growing.failures(), Vec::<String>::new());
        runtime.block_on(groups.end(&growing));
        growing.check(&stored(&tools, &growing_topic));
        reborn.check(&stored(&tools, &reborn_topic));
        runtime.block_on(transfers.end(&tools));
    }
}

/// All that is in a topic without transactions, read by Kafka's own consumer, so that no fault of ours can hide another.
fn stored(tools: &Tools, topic: &str) -> Vec<Stored> {
    let ends = tools.run(Tool::GetOffsets, &["--topic", topic]);
    let ends = ends.text().lines().map(|line| {
        let end = line.rsplit(':').next().unwrap();
        end.parse::<usize>().unwrap_or_else(|_| panic!("{line}"))
    });
    let count = ends.sum();
    let seen = tools.consume(topic, count, &[]);
    assert_eq!(seen.len(), count, "{topic} is read to its end");
    let stored = seen.into_iter().map(|seen| Stored {
        partition: seen.partition,
        offset: seen.offset,
        value: String::from_utf8(seen.sample.value.unwrap()).unwrap(),
    });
    stored.collect()
}
