//! Ottla's clients as these tests use them.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod transactions;

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ottla_consumer::{
    Consumer, ConsumerConfig, GroupProtocol, Offset, OffsetReset, TopicPartition,
};
use ottla_net::{Address, Cluster, ClusterConfig};
use ottla_producer::{Delivery, Header, Producer, ProducerConfig, ProducerRecord, SendError};
use ottla_protocol_tests::Sample;

/// Long enough for a busy machine, short enough for a test that hangs to be noticed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test's future on a runtime of its own, and ends the test if it takes more than `limit`.
pub(crate) fn within<T>(limit: Duration, test: impl Future<Output = T>) -> T {
    runtime().block_on(async {
        tokio::time::timeout(limit, test)
            .await
            .unwrap_or_else(|_| panic!("took over {limit:?}"))
    })
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// A connection to the cluster at `bootstrap`; inside a runtime.
pub(crate) fn cluster(bootstrap: &str) -> Cluster {
    Cluster::over_tcp(cluster_config(bootstrap)).unwrap()
}

pub(crate) fn cluster_config(bootstrap: &str) -> ClusterConfig {
    ClusterConfig::new(Address::parse_list(bootstrap).unwrap())
}

pub(crate) fn producer(bootstrap: &str, config: ProducerConfig) -> Producer {
    Producer::new(cluster(bootstrap), config).unwrap()
}

/// Sends `sample`, to `partition` if there is one.
pub(crate) async fn send(
    producer: &Producer,
    topic: &str,
    partition: Option<i32>,
    sample: &Sample,
) -> Result<Delivery, SendError> {
    let headers: Vec<_> = sample
        .headers
        .iter()
        .map(|(key, value)| Header {
            key,
            value: value.as_deref(),
        })
        .collect();
    let record = ProducerRecord {
        topic,
        partition,
        key: sample.key.as_deref(),
        value: sample.value.as_deref(),
        headers: &headers,
        timestamp: Some(sample.timestamp),
    };
    producer.send(record).await
}

/// Writes each number to partition number mod `partitions`.
pub(crate) async fn write(bootstrap: &str, topic: &str, partitions: i32, numbers: Range<u32>) {
    let producer = producer(bootstrap, ProducerConfig::default());
    for number in numbers {
        let value = number.to_string();
        let record = ProducerRecord::to(topic)
            .partition(number as i32 % partitions)
            .value(&value);
        drop(producer.send(record).await.unwrap());
    }
    // Says whether all of it was written.
    producer.flush(PATIENCE).await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

/// A consumer that reads `partitions` of `topic` from the beginning, in no group.
pub(crate) fn reader(bootstrap: &str, topic: &str, partitions: i32) -> Consumer {
    let consumer = Consumer::new(cluster(bootstrap), ConsumerConfig::default()).unwrap();
    consumer
        .assign((0..partitions).map(|index| ((topic.to_owned(), index), Offset::Beginning)))
        .unwrap();
    consumer
}

/// A member of `group`, subscribed to `topic`; starts at the beginning, commits when told to.
pub(crate) fn member(bootstrap: &str, group: &str, topic: &str) -> Consumer {
    let config = ConsumerConfig {
        group_id: Some(group.to_owned()),
        auto_offset_reset: OffsetReset::Earliest,
        enable_auto_commit: false,
        ..Default::default()
    };
    let consumer = Consumer::new(cluster(bootstrap), config).unwrap();
    consumer.subscribe([topic.to_owned()]).unwrap();
    consumer
}

/// A member of `group` that commits by itself, often, and looks after its group often.
pub(crate) fn committing(bootstrap: &str, group: &str, topic: &str) -> Consumer {
    let consumer = Consumer::new(cluster(bootstrap), busy_member(group)).unwrap();
    consumer.subscribe([topic.to_owned()]).unwrap();
    consumer
}

pub(crate) fn busy_member(group: &str) -> ConsumerConfig {
    ConsumerConfig {
        group_id: Some(group.to_owned()),
        auto_offset_reset: OffsetReset::Earliest,
        auto_commit_interval: Duration::from_millis(200),
        heartbeat_interval: Duration::from_millis(500),
        session_timeout: Duration::from_secs(10),
        ..Default::default()
    }
}

/// [`busy_member`] by the consumer protocol (KIP-848), where the broker says how often it is looked after.
pub(crate) fn by_brokers(group: &str) -> ConsumerConfig {
    let defaults = ConsumerConfig::default();
    ConsumerConfig {
        group_protocol: GroupProtocol::Consumer,
        session_timeout: defaults.session_timeout,
        heartbeat_interval: defaults.heartbeat_interval,
        ..busy_member(group)
    }
}

/// A member that reads `topic` in the background.
pub(crate) fn reading(bootstrap: &str, config: ConsumerConfig, topic: &str) -> Reading {
    let consumer = Consumer::new(cluster(bootstrap), config).unwrap();
    consumer.subscribe([topic.to_owned()]).unwrap();
    Reading::start(consumer)
}

/// The next `count` records of `consumer`, and where each lay.
pub(crate) async fn read(consumer: &Consumer, count: usize) -> Vec<(TopicPartition, i64, Sample)> {
    let mut samples = Vec::with_capacity(count);
    while samples.len() < count {
        let record = consumer
            .recv()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let owned = |bytes: &[u8]| bytes.to_vec();
        let sample = Sample {
            timestamp: record.timestamp(),
            key: record.key().map(owned),
            value: record.value().map(owned),
            headers: record
                .headers()
                .map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), value.map(owned)))
                .collect(),
        };
        samples.push((record.topic_partition().clone(), record.offset(), sample));
    }
    samples
}

/// A consumer of ours that reads in the background, inside a runtime.
pub(crate) struct Reading {
    consumer: Consumer,
    told: Arc<Mutex<Told>>,
    task: tokio::task::JoinHandle<()>,
}

/// Partition, offset and value.
pub(crate) type Seen = (i32, i64, String);

#[derive(Default)]
struct Told {
    seen: Vec<Seen>,
    errors: Vec<String>,
}

impl Reading {
    pub(crate) fn start(consumer: Consumer) -> Self {
        let told = Arc::new(Mutex::new(Told::default()));
        let (reader, tell) = (consumer.clone(), Arc::clone(&told));
        let task = tokio::spawn(async move {
            loop {
                match reader.recv().await {
                    Ok(record) => {
                        let value = record.value().unwrap_or_default();
                        let value = String::from_utf8_lossy(value).into_owned();
                        let partition = record.topic_partition().partition;
                        let seen = (partition, record.offset(), value);
                        tell.lock().unwrap().seen.push(seen);
                    }
                    Err(ottla_consumer::Error::Closed) => return,
                    Err(error) => {
                        tell.lock().unwrap().errors.push(error.to_string());
                        // Some stay until the application does something about them.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Self {
            consumer,
            told,
            task,
        }
    }

    /// What it has read so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.told.lock().unwrap().seen.clone()
    }

    /// What it was told of, and went on after.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.told.lock().unwrap().errors.clone()
    }

    /// The partitions it has.
    pub(crate) fn has(&self) -> Vec<i32> {
        let assignment = self.consumer.assignment();
        let mut has: Vec<_> = assignment.iter().map(|at| at.partition).collect();
        has.sort_unstable();
        has
    }

    /// Commits what it has read, leaves and closes.
    pub(crate) async fn leave(mut self) -> Vec<Seen> {
        self.stop().await;
        self.consumer.commit().await.unwrap();
        self.end().await
    }

    /// Closes, without a commit.
    pub(crate) async fn end(mut self) -> Vec<Seen> {
        self.stop().await;
        self.consumer.close(PATIENCE).await.unwrap();
        let told = self.told.lock().unwrap();
        told.seen.clone()
    }

    /// Calls for no more records; the consumer stays what it is. Returns what it was told of.
    pub(crate) async fn pause(mut self) -> Vec<String> {
        self.stop().await;
        self.errors()
    }

    async fn stop(&mut self) {
        self.task.abort();
        if !self.task.is_finished() {
            let _ = (&mut self.task).await;
        }
    }
}

/// Waits until `holds`, for a minute at most.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} until {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
