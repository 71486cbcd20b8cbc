//! The processor through what happens to clusters: nothing is lost, and what repeats can be told.
//!
//! All in memory and with a paused clock: minutes of timeouts take no time.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use clickstream::{ERROR_KIND, Generator, Kind, Source, Topics, Worker};
use ottla::prelude::*;
use ottla::testing::{ApiKey, Fault, Rule, TestCluster};
use tokio::sync::watch;
use tokio::task::JoinSet;

const PARTITIONS: i32 = 12;

struct World {
    kafka: TestCluster,
    client: Client,
    topics: Topics,
}

impl World {
    fn new() -> World {
        let topics = Topics::default();
        let kafka = TestCluster::builder()
            .nodes(3)
            .topic(&topics.clicks, PARTITIONS)
            .topic(&topics.enriched, PARTITIONS)
            .topic(&topics.dead_letters, PARTITIONS)
            .in_memory()
            .unwrap();
        let client = kafka.client().unwrap();
        World {
            kafka,
            client,
            topics,
        }
    }

    /// Writes so many clicks; how many of which mistake.
    async fn generate(&self, count: usize) -> BTreeMap<Option<Kind>, usize> {
        let producer = self.client.producer().unwrap();
        let mut generator = Generator::new(1);
        let mut mistakes = BTreeMap::new();
        let mut deliveries = Vec::new();
        for _ in 0..count {
            let made = generator.click(now_ms());
            let record = ProducerRecord {
                key: Some(made.key.as_bytes()),
                value: made.value.as_deref(),
                ..ProducerRecord::to(&self.topics.clicks)
            };
            deliveries.push(producer.send(record).await.unwrap());
            *mistakes.entry(made.mistake).or_insert(0) += 1;
        }
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        producer.close(Duration::from_secs(60)).await.unwrap();
        mistakes
    }

    /// Every output: its source, and its mistake if it is a dead letter. Read once there are `at_least` of them,
    /// and nothing more comes.
    async fn outputs(&self, at_least: usize) -> Vec<(Source, Option<String>)> {
        let consumer = self.client.consumer().unwrap();
        let mut partitions = consumer.partitions_of(&self.topics.enriched).await.unwrap();
        partitions.extend(
            consumer
                .partitions_of(&self.topics.dead_letters)
                .await
                .unwrap(),
        );
        consumer
            .assign(partitions.into_iter().map(|p| (p, Offset::Beginning)))
            .unwrap();
        let mut outputs = Vec::new();
        let mut silent = 0;
        while outputs.len() < at_least || silent < 3 {
            let batches = consumer.poll(Duration::from_secs(20)).await.unwrap();
            silent = if batches.is_empty() { silent + 1 } else { 0 };
            assert!(silent < 30, "only {} of {at_least} came", outputs.len());
            for record in batches.into_iter().flatten() {
                let record = record.unwrap();
                let source = Source::read(record.headers()).unwrap();
                let error = record
                    .headers()
                    .find(|(name, _)| *name == ERROR_KIND.as_bytes())
                    .map(|(_, kind)| String::from_utf8(kind.unwrap().to_vec()).unwrap());
                assert_eq!(
                    **record.topic() == *self.topics.dead_letters,
                    error.is_some()
                );
                outputs.push((source, error));
            }
        }
        consumer.close(Duration::from_secs(10)).await.unwrap();
        outputs
    }

    fn worker(&self, producer: &Producer) -> Worker {
        let topics = self.topics.clone();
        Worker::new(&self.client, producer.clone(), "clickstream", topics).unwrap()
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(now.unwrap().as_millis()).unwrap()
}

/// Nothing was lost, and each mistake ended up where it belongs.
#[track_caller]
fn all_are_there(
    mut outputs: Vec<(Source, Option<String>)>,
    expected: &BTreeMap<Option<Kind>, usize>,
) {
    outputs.sort();
    outputs.dedup();
    let mut found = BTreeMap::new();
    for (_, error) in outputs {
        *found.entry(error).or_insert(0) += 1;
    }
    let expected = expected
        .iter()
        .map(|(kind, count)| (kind.map(|kind| kind.name().to_owned()), *count))
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test(start_paused = true)]
async fn every_click_goes_where_it_belongs_once() {
    let world = World::new();
    let expected = world.generate(4_000).await;
    let producer = world.client.producer().unwrap();
    let (stop, stopped) = watch::channel(false);
    let mut workers = JoinSet::new();
    for _ in 0..3 {
        let worker = world.worker(&producer);
        let mut stopped = stopped.clone();
        workers.spawn(worker.run(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
    }
    let outputs = world.outputs(4_000).await;
    assert_eq!(outputs.len(), 4_000, "without faults nothing repeats");
    all_are_there(outputs, &expected);
    stop.send(true).unwrap();
    while let Some(ended) = workers.join_next().await {
        ended.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_before_it_commits_loses_nothing() {
    let world = World::new();
    let expected = world.generate(4_000).await;
    let producer = world.client.producer().unwrap();
    // Its outputs are written, its commits are not: the worst moment to die.
    world.kafka.inject(Rule {
        api: ApiKey::OffsetCommit,
        node: None,
        skip: 0,
        times: u64::MAX,
        fault: Fault::Drop,
    });
    let first = tokio::spawn(world.worker(&producer).run(std::future::pending()));
    tokio::time::sleep(Duration::from_secs(20)).await;
    first.abort();
    let _ = first.await;
    world.kafka.clear_faults();

    let second = tokio::spawn(world.worker(&producer).run(std::future::pending()));
    let outputs = world.outputs(4_001).await;
    assert!(
        outputs.len() > 4_000,
        "what was not committed is done again"
    );
    all_are_there(outputs, &expected);
    second.abort();
}

#[tokio::test(start_paused = true)]
async fn a_cluster_in_trouble_delays_and_loses_nothing() {
    let world = World::new();
    let mut expected = BTreeMap::new();
    let producer = world.client.producer().unwrap();
    for (api, skip, fault) in [
        (ApiKey::Produce, 1, Fault::LoseReply),
        (ApiKey::Fetch, 3, Fault::Disconnect),
        (ApiKey::OffsetCommit, 1, Fault::LoseReply),
        (ApiKey::Produce, 4, Fault::Delay(Duration::from_secs(3))),
    ] {
        world.kafka.inject(Rule {
            api,
            node: None,
            skip,
            times: 2,
            fault,
        });
    }
    let workers: Vec<_> = (0..3)
        .map(|_| tokio::spawn(world.worker(&producer).run(std::future::pending())))
        .collect();
    for node in 1..=3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.kafka.stop_node(node).await.unwrap();
        world.kafka.move_coordinator("clickstream", node % 3 + 1);
        // There is something to do while it is down, and while it comes back.
        for (kind, count) in world.generate(1_000).await {
            *expected.entry(kind).or_insert(0) += count;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.kafka.start_node(node).await.unwrap();
    }
    all_are_there(world.outputs(3_000).await, &expected);
    for worker in &workers {
        assert!(!worker.is_finished(), "faults that pass end no worker");
        worker.abort();
    }
}
