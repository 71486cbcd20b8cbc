//! Three nodes in three racks: a member reads from the replica in its own rack, from the leaders while that is gone, and
//! from its rack again when it is back. By both group protocols.
#![allow(clippy::unwrap_used)]

mod client;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use client::{PATIENCE, Reading, busy_member, by_brokers, producer, reading, until, within};
use ottla_consumer::ConsumerConfig;
use ottla_producer::{ProducerConfig, ProducerRecord};
use ottla_protocol_tests::{Direction, Fate, KafkaCluster, NodeId, Options, or_skip, unique};
use tokio::task::block_in_place;

const PARTITIONS: i32 = 3;
/// Written at a time, each of a KiB.
const COUNT: usize = 120;
/// Where the member is.
const OWN: NodeId = 2;

#[test]
fn members_read_in_their_own_rack_as_long_as_they_can() {
    let options = Options {
        nodes: 3,
        proxied: true,
        racked: true,
        ..Options::default()
    };
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    let fetched = Fetched::watch(&kafka);
    for config in [busy_member, by_brokers] {
        reads_nearby(&kafka, &fetched, config);
    }
}

fn reads_nearby(kafka: &KafkaCluster, fetched: &Fetched, config: fn(&str) -> ConsumerConfig) {
    let (topic, group) = (unique("nearby"), unique("nearby"));
    // Each node leads one.
    kafka.create_topic(&topic, PARTITIONS, &[("min.insync.replicas", "2")]);
    within(PATIENCE * 4, async {
        let config = ConsumerConfig {
            client_rack: format!("rack-{OWN}"),
            ..config(&group)
        };
        let protocol = config.group_protocol;
        let member = reading(&kafka.proxied_bootstrap(), config, &topic);
        let began = Instant::now();
        let mut written = 0;
        fetched
            .until_only(&[OWN], kafka, &topic, &member, &mut written)
            .await;
        println!(
            "{protocol:?}: reads in its rack {:.1?} after it began",
            began.elapsed()
        );

        block_in_place(|| kafka.kill(OWN));
        let died = Instant::now();
        write(kafka, &topic, &mut written).await;
        until("all is read from the others", || {
            member.seen().len() == written
        })
        .await;
        println!(
            "{protocol:?}: reads from leaders {:.1?} after its rack was gone",
            died.elapsed()
        );

        block_in_place(|| kafka.restart(OWN).unwrap());
        let back = Instant::now();
        fetched
            .until_only(&[OWN], kafka, &topic, &member, &mut written)
            .await;
        println!(
            "{protocol:?}: reads in its rack {:.1?} after that was back",
            back.elapsed()
        );
        assert_eq!(member.errors(), [""; 0]);
        let mut seen = member.leave().await;
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), written, "each record once");
    });
}

/// Bytes of answers to fetches, by node.
struct Fetched {
    by_node: [Arc<AtomicUsize>; 3],
}

impl Fetched {
    fn watch(kafka: &KafkaCluster) -> Self {
        let by_node = [1, 2, 3].map(|node| {
            let bytes = Arc::<AtomicUsize>::default();
            let count = bytes.clone();
            kafka.proxy(node).rule(move |passing| {
                if passing.direction == Direction::Reply && passing.api_key == FETCH {
                    count.fetch_add(passing.frame.len(), Ordering::Relaxed);
                }
                Fate::Pass
            });
            bytes
        });
        Self { by_node }
    }

    /// Writes, until what is written is fetched from `nodes` alone.
    async fn until_only(
        &self,
        nodes: &[NodeId],
        kafka: &KafkaCluster,
        topic: &str,
        member: &Reading,
        written: &mut usize,
    ) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = self.bytes();
            write(kafka, topic, written).await;
            until("all is read", || member.seen().len() >= *written).await;
            let after = self.bytes();
            let from = |node: NodeId| {
                let index = usize::try_from(node - 1).unwrap();
                after[index] - before[index]
            };
            // An answer without records takes a hundred bytes.
            let near = nodes.iter().map(|&node| from(node)).sum::<usize>();
            let far: usize = (1..=3).filter(|node| !nodes.contains(node)).map(from).sum();
            if near > COUNT * SIZE && far < 10 * SIZE {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{near} bytes nearby, {far} others"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn bytes(&self) -> [usize; 3] {
        [0, 1, 2].map(|index| self.by_node[index].load(Ordering::Relaxed))
    }
}

async fn write(kafka: &KafkaCluster, topic: &str, written: &mut usize) {
    let producer = producer(&kafka.bootstrap(), ProducerConfig::default());
    for number in 0..COUNT {
        let value = format!("{number:0SIZE$}");
        let record = ProducerRecord::to(topic)
            .partition(number as i32 % PARTITIONS)
            .value(&value);
        drop(producer.send(record).await.unwrap());
    }
    producer.flush(PATIENCE).await.unwrap();
    producer.close(PATIENCE).await.unwrap();
    *written += COUNT;
}

const SIZE: usize = 1024;
const FETCH: i16 = 1;
