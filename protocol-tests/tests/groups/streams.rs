//! Members that are split into one stream per partition, each read by a task, while members come and go.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ottla_consumer::{
    Consumer, ConsumerConfig, GroupProtocol, PartitionStream, StreamEnd,
    assignor::{CooperativeSticky, Range},
};
use ottla_protocol_tests::{Kafka, unique};
use tokio::task::JoinSet;

use crate::client::{PATIENCE, busy_member, cluster, until, within, write};

const PARTITIONS: i32 = 6;
const COUNT: u32 = 12_000;

#[test]
fn members_with_a_task_per_partition_come_and_go_eagerly() {
    let eager = |config: &mut ConsumerConfig| config.assignors = vec![Arc::new(Range)];
    come_and_go("eager", eager, Duration::from_millis(5));
}

#[test]
fn members_with_a_task_per_partition_come_and_go_cooperatively() {
    come_and_go("cooperative", cooperative, Duration::from_millis(5));
}

#[test]
fn members_with_a_task_per_partition_come_and_go_by_the_consumer_protocol() {
    // Members hear of a rebalance with their next heartbeat, in five seconds.
    let pace = Duration::from_millis(100);
    come_and_go("consumer-protocol", by_the_consumer_protocol, pace);
}

pub(crate) fn cooperative(config: &mut ConsumerConfig) {
    config.assignors = vec![Arc::new(CooperativeSticky)];
}

pub(crate) fn by_the_consumer_protocol(config: &mut ConsumerConfig) {
    let default = ConsumerConfig::default();
    config.group_protocol = GroupProtocol::Consumer;
    // The brokers' to say.
    config.session_timeout = default.session_timeout;
    config.heartbeat_interval = default.heartbeat_interval;
}

/// What all members of the group have done.
#[derive(Default)]
struct Ledger {
    /// Who reads each partition.
    owners: BTreeMap<i32, usize>,
    /// The offsets each was read at, in order.
    read: BTreeMap<i32, Vec<i64>>,
    ends: Vec<StreamEnd>,
}

impl Ledger {
    fn count(&self) -> usize {
        self.read.values().map(Vec::len).sum()
    }
}

/// Each record is read once, in order, by one owner at a time: whoever gives a partition up has committed by then.
fn come_and_go(name: &str, protocol: fn(&mut ConsumerConfig), pace: Duration) {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (unique(name), unique(name));
    kafka.create_topic(&topic, PARTITIONS, &[]);
    within(PATIENCE * 3, async {
        write(kafka.bootstrap(), &topic, PARTITIONS, 0..COUNT).await;
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let join = |number| {
            Member::join(
                number,
                kafka.bootstrap(),
                &group,
                &topic,
                protocol,
                pace,
                &ledger,
            )
        };
        let read = |share: usize| {
            let ledger = &ledger;
            async move {
                let wanted = COUNT as usize * share / 10;
                until("enough is read", || {
                    ledger.lock().unwrap().count() >= wanted
                })
                .await;
            }
        };
        let first = join(1);
        read(1).await;
        let second = join(2);
        read(3).await;
        let third = join(3);
        read(5).await;
        first.leave().await;
        read(6).await;
        let fourth = join(4);
        third.leave().await;
        read(10).await;
        second.leave().await;
        fourth.leave().await;
        let ledger = std::mem::take(&mut *ledger.lock().unwrap());
        for (partition, offsets) in &ledger.read {
            let count = i64::from(COUNT) / i64::from(PARTITIONS);
            assert_eq!(
                *offsets,
                (0..count).collect::<Vec<_>>(),
                "partition {partition}"
            );
        }
        assert!(
            ledger.ends.contains(&StreamEnd::Revoked),
            "{:?}",
            ledger.ends
        );
        assert!(!ledger.ends.contains(&StreamEnd::Lost), "{:?}", ledger.ends);
        assert!(ledger.owners.is_empty());
    });
}

struct Member {
    consumer: Consumer,
    tasks: tokio::task::JoinHandle<()>,
}

impl Member {
    fn join(
        number: usize,
        bootstrap: &str,
        group: &str,
        topic: &str,
        protocol: fn(&mut ConsumerConfig),
        pace: Duration,
        ledger: &Arc<Mutex<Ledger>>,
    ) -> Self {
        let mut config = ConsumerConfig {
            enable_auto_commit: false,
            ..busy_member(group)
        };
        protocol(&mut config);
        let consumer = Consumer::new(cluster(bootstrap), config).unwrap();
        consumer.subscribe([topic.to_owned()]).unwrap();
        let mut partitions = consumer.split().unwrap();
        let ledger = ledger.clone();
        let tasks = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok(stream) = partitions.next_partition().await {
                tasks.spawn(work(number, stream, pace, ledger.clone()));
            }
            while let Some(task) = tasks.join_next().await {
                task.unwrap();
            }
        });
        Self { consumer, tasks }
    }

    async fn leave(self) {
        self.consumer.close(PATIENCE).await.unwrap();
        self.tasks.await.unwrap();
    }
}

/// Reads a partition, some records at a time, and commits when it is told to end.
async fn work(
    number: usize,
    mut stream: PartitionStream,
    pace: Duration,
    ledger: Arc<Mutex<Ledger>>,
) {
    let partition = stream.partition();
    let before = ledger.lock().unwrap().owners.insert(partition, number);
    assert_eq!(
        before, None,
        "{number} got partition {partition} while another has it"
    );
    while let Some(record) = stream.recv().await.unwrap() {
        let value = std::str::from_utf8(record.value().unwrap()).unwrap();
        let value: i32 = value.parse().unwrap();
        assert_eq!(value % PARTITIONS, partition);
        {
            let mut ledger = ledger.lock().unwrap();
            ledger
                .read
                .entry(partition)
                .or_default()
                .push(record.offset());
        }
        if record.offset() % 10 == 0 {
            tokio::time::sleep(pace).await;
        }
        if record.offset() % 300 == 299 {
            stream.commit_record(&record).await.unwrap();
        }
    }
    stream.commit().await.unwrap();
    let mut ledger = ledger.lock().unwrap();
    ledger.ends.extend(stream.end());
    ledger.owners.remove(&partition);
}
