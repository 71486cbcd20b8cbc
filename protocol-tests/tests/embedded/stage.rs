//! The embedded cluster a test runs on, and what can be said of it from our side.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use ottla_admin::Admin;
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_producer::ProducerConfig;
use ottla_protocol_tests::Sample;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::client::{PATIENCE, cluster, producer, read, reader, send};

/// A cluster of its own for one test.
pub(crate) struct Stage {
    cluster: EmbeddedCluster,
}

/// A record, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Its timestamp is always 0: the clients choose it.
    pub(crate) sample: Sample,
}

pub(crate) type Offsets = BTreeMap<i32, i64>;

impl Stage {
    /// A cluster of so many nodes on free ports, in memory.
    pub(crate) fn start(nodes: u16) -> Self {
        let options = BrokerOptions {
            nodes,
            // A test says which topics it means.
            auto_create_topics: false,
            // Members of consumer groups hear of each other at heartbeats.
            consumer_heartbeat_interval: Duration::from_millis(200),
            ..BrokerOptions::default()
        };
        let cluster = RUNTIME.block_on(EmbeddedCluster::start(options)).unwrap();
        Self { cluster }
    }

    pub(crate) fn broker(&self) -> &EmbeddedCluster {
        &self.cluster
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Runs what our side does, bounded.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        RUNTIME.block_on(async {
            tokio::time::timeout(PATIENCE, future)
                .await
                .unwrap_or_else(|_| panic!("our side took over {PATIENCE:?}"))
        })
    }

    /// The first and the next offset of each partition, from the logs.
    pub(crate) fn ends(&self, topic: &str) -> Offsets {
        (0..)
            .map_while(|partition| {
                let (_, end) = self.cluster.offsets(topic, partition)?;
                Some((partition, end))
            })
            .collect()
    }

    /// Every record of a topic as our consumer reads it, held against the broker's logs.
    pub(crate) fn everything(&self, topic: &str) -> Vec<Placed> {
        let mut logged = Vec::new();
        for &partition in self.ends(topic).keys() {
            let records = self.cluster.records(topic, partition).unwrap();
            logged.extend(
                records
                    .into_iter()
                    .map(|(offset, value)| (partition, offset, value)),
            );
        }
        let partitions = self.ends(topic).len() as i32;
        let mut read = self.run(async {
            let consumer = reader(&self.bootstrap(), topic, partitions);
            let read = read(&consumer, logged.len()).await;
            consumer.close(PATIENCE).await.unwrap();
            read.into_iter()
                .map(|(at, offset, sample)| Placed {
                    partition: at.partition,
                    offset,
                    sample: sample.at(0),
                })
                .collect::<Vec<_>>()
        });
        read.sort_by_key(|placed| (placed.partition, placed.offset));
        let values: Vec<_> = read
            .iter()
            .map(|placed| (placed.partition, placed.offset, placed.sample.value.clone()))
            .collect();
        assert!(
            values == logged,
            "our consumer reads what the logs of {topic} hold"
        );
        read
    }

    /// Writes with our producer, and says where it went.
    pub(crate) fn write(&self, topic: &str, samples: &[(Option<i32>, Sample)]) -> Vec<Placed> {
        self.run(async {
            let producer = producer(&self.bootstrap(), ProducerConfig::default());
            let mut placed = Vec::new();
            for (partition, sample) in samples {
                let sent = send(&producer, topic, *partition, sample).await.unwrap();
                let at = sent.await.unwrap();
                placed.push(Placed {
                    partition: at.partition(),
                    offset: at.offset().unwrap(),
                    sample: sample.clone().at(0),
                });
            }
            producer.close(PATIENCE).await.unwrap();
            placed
        })
    }

    /// What a group has committed in a topic, as our admin client says.
    pub(crate) fn committed(&self, group: &str, topic: &str) -> Offsets {
        self.run(async {
            let cluster = cluster(&self.bootstrap());
            let offsets = Admin::new(cluster.clone()).group_offsets(group).await;
            cluster.close().await;
            let of_topic = offsets.unwrap().into_iter().filter(|at| at.topic == topic);
            of_topic.map(|at| (at.partition, at.offset)).collect()
        })
    }

    /// Whether our admin client lists a group.
    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.run(async {
            let cluster = cluster(&self.bootstrap());
            let groups = Admin::new(cluster.clone()).list_groups().await;
            cluster.close().await;
            groups.unwrap().iter().any(|listed| listed.id == group)
        })
    }
}

impl Placed {
    /// As the programs of `python/guest` and `go` tell it, bytes in hex.
    pub(crate) fn from_json(record: &Value) -> Self {
        let headers = record["headers"].as_array().unwrap().iter();
        Self {
            partition: record["partition"].as_i64().unwrap() as i32,
            offset: record["offset"].as_i64().unwrap(),
            sample: Sample {
                timestamp: 0,
                key: unhexed(&record["key"]),
                value: unhexed(&record["value"]),
                headers: headers
                    .map(|header| (header[0].as_str().unwrap().to_owned(), unhexed(&header[1])))
                    .collect(),
            },
        }
    }

    /// All of `records`, in the order of partition and offset.
    pub(crate) fn all_from_json(records: &Value) -> Vec<Self> {
        let records = records.as_array().unwrap().iter();
        let mut all: Vec<_> = records.map(Self::from_json).collect();
        all.sort_by_key(|placed| (placed.partition, placed.offset));
        all
    }
}

/// Compares records by place and content, and shows the first difference.
pub(crate) fn assert_same(what: &str, came: &[Placed], went: &[Placed]) {
    for (came, went) in came.iter().zip(went) {
        assert!(came == went, "{what}:\n{went:?}\ncame as\n{came:?}");
    }
    assert_eq!(came.len(), went.len(), "{what}: as many");
}

/// `{"0": 1, "1": null}` without what is null.
pub(crate) fn offsets(told: &Value) -> Offsets {
    let told = told.as_object().unwrap().iter();
    told.filter_map(|(partition, offset)| Some((partition.parse().unwrap(), offset.as_i64()?)))
        .collect()
}

fn unhexed(value: &Value) -> Option<Vec<u8>> {
    let digits = value.as_str()?;
    let bytes = (0..digits.len()).step_by(2);
    Some(
        bytes
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect(),
    )
}

/// The brokers' and our clients' runtime, for all tests of this binary.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
});
