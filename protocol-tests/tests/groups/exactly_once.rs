//! Sessions that copy a topic in transactions, partition by partition, while members come, leave and die.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ottla::exactly_once::{ExactlyOnce, Outcome};
use ottla_consumer::{
    Consumer, ConsumerConfig, IsolationLevel, Offset, PartitionStream, TopicPartition,
};
use ottla_producer::{ProducerConfig, ProducerRecord, TransactionalProducer};
use ottla_protocol_tests::{Kafka, unique};
use tokio::task::JoinSet;

use crate::{
    client::{PATIENCE, busy_member, cluster, until, within, write},
    streams::{by_the_consumer_protocol, cooperative},
};

const PARTITIONS: i32 = 4;
const COUNT: u32 = 6_000;

#[test]
fn each_result_is_there_once_in_a_cooperative_group() {
    copies("exactly-cooperative", cooperative);
}

#[test]
fn each_result_is_there_once_by_the_consumer_protocol() {
    copies("exactly-consumer-protocol", by_the_consumer_protocol);
}

fn copies(name: &str, protocol: fn(&mut ConsumerConfig)) {
    let Some(kafka) = Kafka::shared() else { return };
    let (from, to) = (unique(name), unique(&format!("{name}-copy")));
    kafka.create_topic(&from, PARTITIONS, &[]);
    kafka.create_topic(&to, 1, &[]);
    within(PATIENCE * 3, async {
        // Some batches in each partition.
        for first in (0..COUNT).step_by(300) {
            write(kafka.bootstrap(), &from, PARTITIONS, first..first + 300).await;
        }
        let done = Arc::new(AtomicUsize::new(0));
        let join = || Member::join(kafka.bootstrap(), &from, &to, protocol, &done);
        let reached = |share: usize| {
            let done = &done;
            async move {
                let wanted = COUNT as usize * share / 10;
                until("enough is copied", || {
                    done.load(Ordering::Relaxed) >= wanted
                })
                .await;
            }
        };
        let first = join();
        reached(1).await;
        let second = join();
        reached(3).await;
        first.leave().await;
        reached(4).await;
        let third = join();
        reached(5).await;
        // It dies with whatever it is at.
        drop(second);
        // What it did not live to hear of is committed, and not counted.
        let all_copied = async {
            while group_is_at(&third.consumer, &from).await < i64::from(COUNT) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, all_copied).await;
        ended.expect("waited until all is copied");
        third.leave().await;

        let mut copied = committed(kafka.bootstrap(), &to).await;
        let count = copied.len();
        copied.sort_unstable();
        copied.dedup();
        assert_eq!(copied.len(), count, "some are there twice");
        assert!(copied.into_iter().eq(0..COUNT), "{count} are there");
    });
}

/// How many records lie before the offsets that the group has committed.
async fn group_is_at(consumer: &Consumer, from: &str) -> i64 {
    let partitions = (0..PARTITIONS).map(|index| TopicPartition::new(from, index));
    let committed = consumer.committed(&partitions.collect::<Vec<_>>()).await;
    let offsets = committed.unwrap().into_values().flatten();
    offsets.map(|committed| committed.offset).sum()
}

struct Member {
    consumer: Consumer,
    sessions: tokio::task::JoinHandle<()>,
}

impl Member {
    fn join(
        bootstrap: &str,
        from: &str,
        to: &str,
        protocol: fn(&mut ConsumerConfig),
        done: &Arc<AtomicUsize>,
    ) -> Self {
        let mut config = ConsumerConfig {
            enable_auto_commit: false,
            isolation_level: IsolationLevel::ReadCommitted,
            max_partition_fetch_bytes: 16 << 10,
            ..busy_member(from)
        };
        protocol(&mut config);
        let consumer = Consumer::new(cluster(bootstrap), config).unwrap();
        consumer.subscribe([from.to_owned()]).unwrap();
        let mut partitions = consumer.split().unwrap();
        let (bootstrap, to, done) = (bootstrap.to_owned(), to.to_owned(), done.clone());
        let sessions = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok(stream) = partitions.next_partition().await {
                tasks.spawn(copy(bootstrap.clone(), stream, to.clone(), done.clone()));
            }
            while tasks.join_next().await.is_some() {}
        });
        Self { consumer, sessions }
    }

    async fn leave(mut self) {
        self.consumer.close(PATIENCE).await.unwrap();
        (&mut self.sessions).await.unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.sessions.abort();
    }
}

/// Copies one partition; every fifth batch is dropped half-way, and comes again.
async fn copy(bootstrap: String, stream: PartitionStream, to: String, done: Arc<AtomicUsize>) {
    let config = ProducerConfig {
        transactional_id: Some(format!("copier-{}", stream.topic_partition())),
        linger: Duration::ZERO,
        ..ProducerConfig::default()
    };
    let producer = TransactionalProducer::init(cluster(&bootstrap), config).await;
    let Ok(producer) = producer else { return };
    let mut session = ExactlyOnce::new(stream, producer).unwrap();
    let mut steps = 0;
    while let Ok(Some(step)) = session.next().await {
        steps += 1;
        let mut count = 0;
        for record in step.batch() {
            let record = record.unwrap();
            // What is not sent is found at the commit.
            let copy = ProducerRecord::to(&to).value(record.value().unwrap());
            drop(step.send(copy).await);
            count += 1;
            if steps % 5 == 0 && count == 3 {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
        if steps % 5 == 0 {
            continue;
        }
        match step.commit().await {
            Ok(Outcome::Committed(_)) => {
                done.fetch_add(count, Ordering::Relaxed);
            }
            Ok(Outcome::Aborted) => {}
            Err(_) => break,
        }
    }
    let _ = session.close(Duration::from_secs(10)).await;
}

/// What readers of committed records see in a topic of one partition.
async fn committed(bootstrap: &str, topic: &str) -> Vec<u32> {
    let config = ConsumerConfig {
        isolation_level: IsolationLevel::ReadCommitted,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(cluster(bootstrap), config).unwrap();
    let at = TopicPartition::new(topic, 0);
    consumer.assign([(at, Offset::Beginning)]).unwrap();
    let mut values = Vec::new();
    // A coordinator writes the markers of a commit after it has answered. When all are there, nothing more comes.
    loop {
        let all = values.len() >= COUNT as usize;
        let batches = consumer.poll(Duration::from_secs(2)).await.unwrap();
        if all && batches.is_empty() {
            break;
        }
        for record in batches.into_iter().flatten() {
            let record = record.unwrap();
            let value = std::str::from_utf8(record.value().unwrap()).unwrap();
            values.push(value.parse().unwrap());
        }
    }
    consumer.close(PATIENCE).await.unwrap();
    values
}
