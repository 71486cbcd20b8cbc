//! Leaders that move and die under a share group.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ottla_admin::Admin;
use ottla_consumer::{
    AcknowledgeOutcome, AcknowledgeType, ShareAcknowledgementMode, ShareConsumer,
    ShareConsumerConfig,
};
use ottla_net::{Cluster, ClusterConfig};
use ottla_protocol_tests::{KafkaCluster, Options, Tool, or_skip, unique};
use tokio::task::block_in_place;

use crate::{
    Accepting,
    client::{PATIENCE, cluster, cluster_config, until, within, write},
    group, number,
};

const PARTITIONS: i32 = 3;

#[test]
fn nothing_is_lost_when_leaders_are_killed_and_come_back() {
    let options = Options {
        nodes: 3,
        ..Options::default()
    };
    let options = options
        .set("group.share.min.record.lock.duration.ms", 1_000)
        .set("group.share.min.heartbeat.interval.ms", 500);
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    within(PATIENCE * 4, async {
        let bootstrap = &kafka.bootstrap();
        let (topic, group) = (created(&kafka), group(bootstrap, "moves", &[]).await);
        let members: Vec<_> = (0..2)
            .map(|_| Accepting::start(bootstrap, &group, &topic))
            .collect();
        let seen = || -> BTreeSet<u32> {
            let all = members.iter().flat_map(Accepting::seen);
            all.map(|(number, _)| number).collect()
        };
        let mut written = 0;
        for round in 0..3 {
            write(bootstrap, &topic, PARTITIONS, written..written + 300).await;
            written += 300;
            if round > 0 {
                until("all is read", || seen().len() == written as usize).await;
            }
            let node = kafka.nodes().nth(round).unwrap();
            block_in_place(|| kafka.kill(node));
            write(bootstrap, &topic, PARTITIONS, written..written + 300).await;
            written += 300;
            until("all is read without it", || {
                seen().len() == written as usize
            })
            .await;
            block_in_place(|| kafka.restart(node).unwrap());
            block_in_place(|| kafka.wait_until_ready().unwrap());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for member in members {
            member.end().await;
        }
    });
}

/// A node that falls silent with a request in its hands answers it when it goes on, from what it remembers, and hands out what
/// another leader has handed out meanwhile and has had accepted (docs/kafka-facts.md).
#[test]
fn what_a_leader_hands_out_that_was_replaced_in_its_sleep_is_handed_to_nobody() {
    let options = Options {
        nodes: 3,
        ..Options::default()
    };
    // So few that there is a node that leads none of the coordinators'.
    let options = options
        .set("offsets.topic.num.partitions", 1)
        .set("share.coordinator.state.topic.num.partitions", 1)
        .set("group.share.min.record.lock.duration.ms", 1_000)
        .set("group.share.min.heartbeat.interval.ms", 500);
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    within(PATIENCE * 4, async {
        let bootstrap = &kafka.bootstrap();
        let (topic, group) = (created(&kafka), group(bootstrap, "sleeps", &[]).await);
        let member = Member::start(bootstrap, &group, &topic);
        write(bootstrap, &topic, PARTITIONS, 0..30).await;
        let mut written = 30;
        member.accept_up_to(written).await;
        let coordinators = leaders(bootstrap, &["__consumer_offsets", "__share_group_state"]).await;
        let node = kafka.nodes().find(|node| !coordinators.contains(node));
        let node = node.expect("two partitions have two leaders at most");
        for _ in 0..2 {
            assert!(leaders(bootstrap, &[&topic]).await.contains(&node));
            // Until no fetch is under way any more: the next one finds the node silent.
            tokio::time::sleep(Duration::from_secs(2)).await;
            write(bootstrap, &topic, PARTITIONS, written..written + 300).await;
            written += 300;
            block_in_place(|| kafka.pause(node));
            member.accept_up_to(written).await;
            block_in_place(|| kafka.resume(node));
            block_in_place(|| kafka.wait_until_ready().unwrap());
            let again = member.poll_for(Duration::from_secs(5)).await;
            assert_eq!(again, [0; 0], "accepted before");
            // Refused while it is not in sync.
            while !leaders(bootstrap, &[&topic]).await.contains(&node) {
                let args = ["--election-type", "preferred", "--all-topic-partitions"];
                let run = || {
                    let tools = kafka.tools();
                    tools.try_run(Tool::LeaderElection, &args, None, PATIENCE)
                };
                block_in_place(run).unwrap();
            }
        }
        member.consumer.close(PATIENCE).await.unwrap();
    });
}

/// Who leads partitions of these.
async fn leaders(bootstrap: &str, topics: &[&str]) -> BTreeSet<i32> {
    let described = Admin::new(cluster(bootstrap)).describe_topics(topics).await;
    let described = described.iter().map(|(_, topic)| topic.as_ref().unwrap());
    let partitions = described.flat_map(|topic| &topic.partitions);
    partitions
        .filter_map(|partition| partition.leader)
        .collect()
}

/// One that remembers what it was confirmed to have accepted.
struct Member {
    consumer: ShareConsumer,
    accepted: Arc<Mutex<BTreeSet<(i32, i64)>>>,
}

impl Member {
    fn start(bootstrap: &str, group: &str, topic: &str) -> Self {
        // It hears of another leader before a request to the silent one times out.
        let net = ClusterConfig {
            metadata_max_age: Duration::from_secs(1),
            ..cluster_config(bootstrap)
        };
        let accepted = Arc::<Mutex<BTreeSet<(i32, i64)>>>::default();
        let tell = accepted.clone();
        let config = ShareConsumerConfig {
            group_id: group.to_owned(),
            acknowledgement_mode: ShareAcknowledgementMode::Explicit,
            acknowledge_listener: Some(Arc::new(move |outcome: &AcknowledgeOutcome| {
                if outcome.result.is_ok() {
                    let offsets = outcome.offsets.iter().cloned().flatten();
                    let places = offsets.map(|offset| (outcome.partition.partition, offset));
                    tell.lock().unwrap().extend(places);
                }
            })),
            ..Default::default()
        };
        let consumer = ShareConsumer::new(Cluster::over_tcp(net).unwrap(), config).unwrap();
        consumer.subscribe([topic.to_owned()]).unwrap();
        Self { consumer, accepted }
    }

    /// Until so many are accepted for certain.
    async fn accept_up_to(&self, count: u32) {
        let deadline = Instant::now() + PATIENCE;
        while self.accepted.lock().unwrap().len() < count as usize {
            assert!(Instant::now() < deadline, "not all is accepted");
            // Without a commit, which would wait for what is on its way to the silent node.
            self.poll_for(Duration::ZERO).await;
        }
    }

    /// Accepts whatever comes; which of it was accepted before.
    async fn poll_for(&self, time: Duration) -> Vec<u32> {
        let (until, mut again) = (Instant::now() + time, Vec::new());
        loop {
            let limit = Duration::from_millis(200);
            for record in self.consumer.poll(limit).await.unwrap() {
                let place = (record.partition(), record.offset());
                if self.accepted.lock().unwrap().contains(&place) {
                    again.push(number(record.value()));
                }
                // One of a leader that is asleep comes again.
                let _ = self.consumer.acknowledge(&record, AcknowledgeType::Accept);
            }
            if Instant::now() >= until {
                return again;
            }
        }
    }
}

fn created(kafka: &KafkaCluster) -> String {
    let topic = unique("moves");
    block_in_place(|| kafka.create_topic(&topic, PARTITIONS, &[]));
    topic
}
