//! A steady flow of numbered records from one idempotent producer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ottla_net::Cluster;
use ottla_producer::{Producer, ProducerConfig, ProducerRecord};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::client::cluster_config;
use crate::ledger::{Fate, Ledger};

pub(crate) struct Load {
    shared: Arc<Shared>,
    ledger: JoinHandle<Vec<Fate>>,
}

struct Shared {
    topic: String,
    stop: AtomicBool,
    /// The next number.
    next: AtomicUsize,
    since: AtomicUsize,
    acknowledged: AtomicUsize,
    by_partition: Counts,
}

/// How many records are acknowledged, by partition.
pub(crate) type Counts = Arc<Mutex<BTreeMap<i32, usize>>>;

impl Load {
    /// Inside a runtime.
    pub(crate) fn start(
        bootstrap: &str,
        topic: String,
        config: ProducerConfig,
        per_second: u32,
    ) -> Self {
        let cluster = watchful_cluster(bootstrap);
        let producer = Producer::new(cluster, config).unwrap();
        let shared = Arc::new(Shared {
            topic,
            stop: AtomicBool::new(false),
            next: AtomicUsize::new(0),
            since: AtomicUsize::new(0),
            acknowledged: AtomicUsize::new(0),
            by_partition: Counts::default(),
        });
        let ledger = tokio::spawn(run(producer, shared.clone(), per_second));
        Self { shared, ledger }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.shared.topic
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    pub(crate) fn partitions_written(&self) -> usize {
        self.shared.by_partition.lock().unwrap().len()
    }

    pub(crate) fn by_partition(&self) -> Counts {
        self.shared.by_partition.clone()
    }

    /// What was sent up to now went to a topic that is no more.
    pub(crate) fn forget_what_was(&self) {
        let next = self.shared.next.load(Ordering::SeqCst);
        self.shared.since.store(next + 1, Ordering::SeqCst);
    }

    /// Waits until all is settled.
    pub(crate) async fn end(self) -> Ledger {
        self.shared.stop.store(true, Ordering::Relaxed);
        Ledger {
            fates: self.ledger.await.unwrap(),
            since: self.shared.since.load(Ordering::SeqCst),
        }
    }
}

/// One that notices new partitions within a test's patience; inside a runtime.
pub(crate) fn watchful_cluster(bootstrap: &str) -> Cluster {
    let net = ottla_net::ClusterConfig {
        metadata_max_age: Duration::from_secs(3),
        ..cluster_config(bootstrap)
    };
    Cluster::over_tcp(net).unwrap()
}

/// Records come in bursts, so that several batches of a partition are in flight at a time.
const BURST: Duration = Duration::from_millis(50);

async fn run(producer: Producer, shared: Arc<Shared>, per_second: u32) -> Vec<Fate> {
    let (sender, mut sent) = mpsc::channel(100_000);
    let sending = async {
        let sender = sender;
        let start = Instant::now();
        let mut late = Duration::ZERO;
        while !shared.stop.load(Ordering::Relaxed) {
            let number = shared.next.fetch_add(1, Ordering::SeqCst);
            let value = number.to_string();
            let record = ProducerRecord::to(&shared.topic).value(&value);
            sender.send(producer.send(record).await).await.unwrap();
            // What an upheaval has held up is not made up for all at once.
            let due = start + late + Duration::from_secs(1) * number as u32 / per_second;
            let now = Instant::now();
            if now > due + Duration::from_secs(1) {
                late += now - due;
            } else if due > now + BURST {
                tokio::time::sleep(due - now).await;
            }
        }
    };
    let collecting = async {
        let mut fates = Vec::new();
        while let Some(sent) = sent.recv().await {
            let fate = match sent {
                Ok(delivery) => Fate::from(delivery.await),
                Err(error) => Fate::from(Err(error)),
            };
            if let Fate::At(partition, _) = fate {
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                *shared
                    .by_partition
                    .lock()
                    .unwrap()
                    .entry(partition)
                    .or_default() += 1;
            }
            fates.push(fate);
        }
        fates
    };
    let ((), fates) = tokio::join!(sending, collecting);
    assert_eq!(producer.buffered_bytes(), 0, "all memory is given back");
    producer.close(Duration::from_secs(60)).await.unwrap();
    fates
}
