//! Ottla's clients as these tests use them.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::time::Duration;

use ottla_consumer::{Consumer, ConsumerConfig, Offset, OffsetReset, TopicPartition};
use ottla_net::{Address, Cluster, ClusterConfig};
use ottla_producer::{Delivery, Header, Producer, ProducerConfig, ProducerRecord, SendError};
use ottla_protocol_tests::Sample;

/// Long enough for a busy machine, short enough for a test that hangs to be noticed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test's future on a runtime of its own, and ends the test if it takes more than `limit`.
pub(crate) fn within<T>(limit: Duration, test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(limit, test)
            .await
            .unwrap_or_else(|_| panic!("took over {limit:?}"))
    })
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
