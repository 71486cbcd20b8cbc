//! A steady flow of numbered records from one idempotent producer.

use std::collections::BTreeSet;
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
    partitions: Mutex<BTreeSet<i32>>,
}

impl Load {
    /// Inside a runtime.
    pub(crate) fn start(
        bootstrap: &str,
        topic: String,
        config: ProducerConfig,
        per_second: u32,
    ) -> Self {
        let net = ottla_net::ClusterConfig {
            // New partitions are to be noticed within a test's patience.
            metadata_max_age: Duration::from_secs(3),
            ..cluster_config(bootstrap)
        };
        let cluster = Cluster::over_tcp(net).unwrap();
        let producer = Producer::new(cluster, config).unwrap();
        let shared = Arc::new(Shared {
            topic,
            stop: AtomicBool::new(false),
            next: AtomicUsize::new(0),
            since: AtomicUsize::new(0),
            acknowledged: AtomicUsize::new(0),
            partitions: Mutex::default(),
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
        self.shared.partitions.lock().unwrap().len()
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
                shared.partitions.lock().unwrap().insert(partition);
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
