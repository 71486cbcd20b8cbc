//! Transactions one after the other, with a consumer that reads what is committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ottla_admin::Admin;
use ottla_consumer::{Consumer, ConsumerConfig, IsolationLevel, Offset};
use ottla_net::GroupMetadata;
use ottla_producer::{
    CommitError, ProducerConfig, ProducerRecord, Transaction, TransactionError,
    TransactionalProducer,
};
use ottla_protocol_tests::{KafkaCluster, Tools, unique};
use tokio::task::JoinHandle;

use crate::client::{PATIENCE, Reading, cluster, until};

const PARTITIONS: i32 = 3;
/// Records of one transaction.
const RECORDS: i32 = 12;

pub(crate) struct Transfers {
    shared: Arc<Shared>,
    rounds: JoinHandle<Vec<Fate>>,
    reading: Reading,
}

struct Shared {
    bootstrap: String,
    topic: String,
    group: String,
    id: String,
    stop: AtomicBool,
    committed: AtomicUsize,
}

/// What became of a transaction, by its producer's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Committed,
    Aborted,
    Unknown,
}

impl Transfers {
    /// Inside a runtime.
    pub(crate) fn start(kafka: &KafkaCluster, configs: &[(&str, &str)]) -> Self {
        let topic = unique("transfers");
        kafka.create_topic(&topic, PARTITIONS, configs);
        let bootstrap = kafka.bootstrap();
        let config = ConsumerConfig {
            isolation_level: IsolationLevel::ReadCommitted,
            ..Default::default()
        };
        let consumer = Consumer::new(cluster(&bootstrap), config).unwrap();
        let from = (0..PARTITIONS).map(|index| ((topic.clone(), index), Offset::Beginning));
        consumer.assign(from).unwrap();
        let shared = Arc::new(Shared {
            bootstrap,
            topic,
            group: unique("transferred"),
            id: unique("transferrer"),
            stop: AtomicBool::new(false),
            committed: AtomicUsize::new(0),
        });
        Self {
            rounds: tokio::spawn(shared.clone().run()),
            reading: Reading::start(consumer),
            shared,
        }
    }

    pub(crate) fn committed(&self) -> usize {
        self.shared.committed.load(Ordering::Relaxed)
    }

    /// Whole transactions and nothing else were read, by our consumer all the while, and by Kafka's now.
    pub(crate) async fn end(self, tools: &Tools) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let fates = self.rounds.await.unwrap();
        let last = fates.len() - 1;
        let of = |fate| fates.iter().filter(|is| **is == fate).count();
        let unknown = of(Fate::Unknown);
        println!(
            "{} transactions committed, {} aborted, {unknown} unknown",
            of(Fate::Committed),
            of(Fate::Aborted)
        );
        assert_eq!(fates[last], Fate::Committed);
        // The last one has a record in every partition.
        until("the last transaction is read", || {
            let seen = self.reading.seen();
            let last = seen.iter().filter(|seen| round(&seen.2) == last);
            last.count() == RECORDS as usize
        })
        .await;
        let mut seen = self.reading.end().await;
        seen.sort();
        check(&fates, &seen);

        let (topic, level) = (&self.shared.topic, "read_committed");
        let args = ["--isolation-level", level];
        let theirs = tokio::task::block_in_place(|| tools.consume(topic, seen.len(), &args));
        let mut theirs: Vec<_> = theirs
            .into_iter()
            .map(|seen| {
                let value = String::from_utf8(seen.sample.value.unwrap()).unwrap();
                (seen.partition, seen.offset, value)
            })
            .collect();
        theirs.sort();
        assert!(theirs == seen, "Kafka's consumer reads what ours reads");

        let admin = Admin::new(cluster(&self.shared.bootstrap));
        let offsets = admin.group_offsets(&self.shared.group).await.unwrap();
        let offset = offsets[0].offset;
        assert_eq!(offset, last as i64, "the offset of the last one committed");
    }
}

fn check(fates: &[Fate], seen: &[(i32, i64, String)]) {
    let mut rounds: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    let mut before = None;
    for (partition, _, value) in seen {
        rounds.entry(round(value)).or_default().push(value);
        let now = Some((*partition, value.as_str()));
        assert!(before < now, "{now:?} after {before:?}");
        before = now;
    }
    for (round, fate) in fates.iter().enumerate() {
        let mut values = rounds.remove(&round).unwrap_or_default();
        values.sort_unstable();
        let all: Vec<_> = (0..RECORDS).map(|n| value(round, n)).collect();
        match fate {
            Fate::Committed => assert_eq!(values, all, "{round} was committed"),
            Fate::Aborted => assert!(values.is_empty(), "{round} was aborted: {values:?}"),
            Fate::Unknown => assert!(
                values.is_empty() || values == all,
                "half of {round}: {values:?}"
            ),
        }
    }
    assert!(rounds.is_empty(), "none from elsewhere");
}

/// Sorts as its number does.
fn value(round: usize, n: i32) -> String {
    format!("{round:07}-{n:02}")
}

fn round(value: &str) -> usize {
    value[..7].parse().unwrap()
}

impl Shared {
    /// Goes on until it is stopped and one more transaction was committed.
    async fn run(self: Arc<Self>) -> Vec<Fate> {
        let mut fates = Vec::new();
        let mut producer = self.producer().await;
        loop {
            let stop = self.stop.load(Ordering::Relaxed);
            match self.transfer(&mut producer, fates.len(), stop).await {
                Ok(fate) => {
                    fates.push(fate);
                    if fate == Fate::Committed {
                        self.committed.fetch_add(1, Ordering::Relaxed);
                        if stop {
                            break;
                        }
                    }
                }
                Err(error) => {
                    println!("a producer ended: {error}");
                    fates.push(match error.possibly_committed() {
                        true => Fate::Unknown,
                        false => Fate::Aborted,
                    });
                    let _ = producer.close(PATIENCE).await;
                    producer = self.producer().await;
                }
            }
        }
        producer.close(PATIENCE).await.unwrap();
        fates
    }

    async fn producer(&self) -> TransactionalProducer {
        let config = ProducerConfig {
            transactional_id: Some(self.id.clone()),
            ..Default::default()
        };
        loop {
            match TransactionalProducer::init(cluster(&self.bootstrap), config.clone()).await {
                Ok(producer) => return producer,
                Err(error) if error.is_retriable() => println!("init: {error}"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// One transaction, to its end; an error is one that ends the producer.
    async fn transfer(
        &self,
        producer: &mut TransactionalProducer,
        round: usize,
        last: bool,
    ) -> Result<Fate, TransactionError> {
        let transaction = loop {
            match producer.begin().await {
                Ok(transaction) => break transaction,
                Err(error) if error.is_retriable() => println!("begin: {error}"),
                Err(error) => return Err(error),
            }
        };
        let filled = self.fill(&transaction, round).await;
        // Some are given up for no reason.
        if filled.is_err() || (round % 5 == 3 && !last) {
            return abort(transaction).await;
        }
        let mut committing = transaction;
        loop {
            match committing.commit().await {
                Ok(()) => return Ok(Fate::Committed),
                Err(CommitError {
                    error,
                    transaction: Some(transaction),
                }) if error.requires_abort() => {
                    println!("commit: {error}");
                    return abort(transaction).await;
                }
                Err(CommitError {
                    error,
                    transaction: Some(transaction),
                }) => {
                    println!("commit: {error}");
                    committing = transaction;
                }
                Err(failed) => return Err(failed.into_error()),
            }
        }
    }

    async fn fill(&self, transaction: &Transaction<'_>, round: usize) -> Result<(), String> {
        for n in 0..RECORDS {
            let value = value(round, n);
            let record = ProducerRecord::to(&self.topic)
                .partition(n % PARTITIONS)
                .value(&value);
            let sent = transaction.send(record).await;
            drop(sent.map_err(|error| error.to_string())?);
            if n == RECORDS / 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let group = GroupMetadata {
            group_id: self.group.as_str().into(),
            generation_id: -1,
            member_id: "".into(),
            group_instance_id: None,
        };
        let offsets = [(self.topic.clone(), 0, round as i64)];
        let sent = transaction.send_offsets(offsets, &group).await;
        sent.map_err(|error| error.to_string())
    }
}

async fn abort(transaction: Transaction<'_>) -> Result<Fate, TransactionError> {
    match transaction.abort().await {
        // The next begin tells the coordinator.
        Err(error) if error.is_retriable() && !error.possibly_committed() => {
            println!("abort: {error}");
            Ok(Fate::Aborted)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(Fate::Aborted),
    }
}
