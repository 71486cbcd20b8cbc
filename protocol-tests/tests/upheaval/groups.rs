//! Groups that read what a load writes: a cooperative one, one by the consumer protocol (KIP-848), and a share group.
//!
//! What was acknowledged is read by each of them, what was accepted in the share group does not come again, and no
//! partition waits for long with records that a group has not read.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ottla_admin::{Admin, AlterConfig, Resource};
use ottla_consumer::assignor::CooperativeSticky;
use ottla_consumer::{
    AcknowledgeOutcome, AcknowledgeType, Consumer, ConsumerConfig, Error, ShareAcknowledgementMode,
    ShareConsumer, ShareConsumerConfig,
};
use ottla_protocol_tests::{Version, unique};
use tokio::task::JoinHandle;

use crate::client::{PATIENCE, busy_member, by_brokers, cluster, until};
use crate::ledger::{Fate, Ledger};
use crate::load::{Counts, Load, watchful_cluster};

/// For longer, records do not wait for a group, whatever has become of its brokers.
const STALL_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Groups {
    all: Vec<Group>,
    acknowledged: Counts,
    watch: JoinHandle<()>,
}

struct Group {
    name: &'static str,
    log: Arc<Mutex<Log>>,
    members: Vec<Member>,
}

enum Member {
    Consumer(Consumer, JoinHandle<()>),
    Share(ShareConsumer, JoinHandle<()>),
}

/// What the members of a group were handed.
#[derive(Default)]
struct Log {
    /// How often, by number.
    read: Vec<u32>,
    /// How many different records.
    by_partition: BTreeMap<i32, usize>,
    /// By place, the numbers of those that were not accepted yet.
    open: HashMap<(i32, i64), usize>,
    accepted: Vec<bool>,
    broken: Vec<String>,
    /// Until then a leader may hand out what it does not know to be accepted elsewhere.
    outdated_until: Option<Instant>,
    /// How often one did.
    outdated: usize,
    /// What members were told, and went on after.
    errors: BTreeMap<String, usize>,
    /// The longest that records of a partition waited, and which.
    stall: (Duration, i32),
    /// By partition: how many were read, and since when it is so many.
    since: BTreeMap<i32, (usize, Instant)>,
}

impl Groups {
    /// Each group has two members, which begin at the beginning.
    pub(crate) async fn start(bootstrap: &str, version: Version, load: &Load) -> Self {
        let topic = load.topic();
        let mut all = vec![Group::of_consumers(
            "cooperative",
            bootstrap,
            topic,
            |group| ConsumerConfig {
                assignors: vec![Arc::new(CooperativeSticky)],
                ..busy_member(group)
            },
        )];
        if version != Version::V3_9 {
            all.push(Group::of_consumers("KIP-848", bootstrap, topic, by_brokers));
            all.push(Group::of_sharers(bootstrap, topic).await);
        }
        let logs: Vec<_> = all.iter().map(|group| group.log.clone()).collect();
        let acknowledged = load.by_partition();
        Self {
            all,
            watch: tokio::spawn(watch(logs, acknowledged.clone())),
            acknowledged,
        }
    }

    /// Which groups have not read what is acknowledged in `so_far`.
    pub(crate) fn behind(&self, so_far: &BTreeMap<i32, usize>) -> Vec<&'static str> {
        let behind = self.all.iter().filter(|group| {
            let log = group.log.lock().unwrap();
            let read = |partition| log.by_partition.get(partition).copied().unwrap_or(0);
            so_far
                .iter()
                .any(|(partition, &count)| read(partition) < count)
        });
        behind.map(|group| group.name).collect()
    }

    /// Leaders move, and a node that lives does not know at once, or not before it wakes, that others lead what it led: what it
    /// remembers it hands out, though it was accepted elsewhere (docs/kafka-facts.md). A member that knows better gives it
    /// back; one that does not either, of several that share the partition, has no way to tell.
    pub(crate) fn expect_an_outdated_leader(&self) {
        for group in &self.all {
            let until = Instant::now() + Duration::from_secs(20);
            group.log.lock().unwrap().outdated_until = Some(until);
        }
    }

    /// Where each group stands, for a person.
    pub(crate) fn standing(&self) -> String {
        let mut all = format!("written: {:?}", self.acknowledged());
        for group in &self.all {
            let log = group.log.lock().unwrap();
            let (stall, partition) = log.stall;
            all += &format!(
                "\n{}: {:?}; records of partition {partition} have waited {stall:.1?}; told {:?}; assigned {:?}",
                group.name,
                log.by_partition,
                log.errors,
                group.members.iter().map(Member::has).collect::<Vec<_>>()
            );
        }
        all
    }

    pub(crate) fn acknowledged(&self) -> BTreeMap<i32, usize> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// Waits until all that `ledger` says was written is read, and checks how.
    pub(crate) async fn end(self, ledger: &Ledger) {
        let so_far = self.acknowledged();
        until("the groups have read all", || {
            self.behind(&so_far).is_empty()
        })
        .await;
        self.watch.abort();
        for group in self.all {
            for member in group.members {
                member.end().await;
            }
            let log = group.log.lock().unwrap();
            let name = group.name;
            let missing = ledger.fates.iter().enumerate().filter(|(number, fate)| {
                matches!(fate, Fate::At(..))
                    && log.read.get(*number).is_none_or(|&times| times == 0)
            });
            let missing: Vec<_> = missing.map(|(number, _)| number).take(20).collect();
            assert!(missing.is_empty(), "{name} has not read {missing:?}");
            assert_eq!(log.broken, [""; 0], "{name}");
            let again = log.read.iter().filter(|&&times| times > 1).count();
            let (longest, partition) = log.stall;
            println!(
                "{name}: {} records read, {again} of them again ({} accepted before, from an outdated leader); at the longest, records of partition {partition} waited \
                 {longest:.1?}; told {:?}",
                log.by_partition.values().sum::<usize>(),
                log.outdated,
                log.errors
            );
            assert!(longest <= STALL_MAX, "{name}: {longest:?}");
        }
    }
}

impl Group {
    fn of_consumers(
        name: &'static str,
        bootstrap: &str,
        topic: &str,
        config: impl Fn(&str) -> ConsumerConfig,
    ) -> Self {
        let (group, log) = (unique("reads"), Arc::<Mutex<Log>>::default());
        let members = (0..2).map(|_| {
            let consumer = Consumer::new(watchful_cluster(bootstrap), config(&group)).unwrap();
            consumer.subscribe([topic.to_owned()]).unwrap();
            let task = tokio::spawn(read(consumer.clone(), log.clone()));
            Member::Consumer(consumer, task)
        });
        Self {
            name,
            members: members.collect(),
            log,
        }
    }

    async fn of_sharers(bootstrap: &str, topic: &str) -> Self {
        let (group, log) = (unique("shares"), Arc::<Mutex<Log>>::default());
        let settings = [
            ("share.auto.offset.reset", "earliest"),
            ("share.heartbeat.interval.ms", "500"),
        ];
        let settings =
            settings.map(|(key, value)| (key.to_owned(), AlterConfig::Set(value.into())));
        let admin = Admin::new(cluster(bootstrap));
        admin
            .alter_configs(&Resource::Group(group.clone()), &settings.into(), false)
            .await
            .unwrap();
        let members = (0..2).map(|_| {
            let hears = log.clone();
            let config = ShareConsumerConfig {
                group_id: group.clone(),
                acknowledgement_mode: ShareAcknowledgementMode::Explicit,
                acknowledge_listener: Some(Arc::new(move |outcome: &AcknowledgeOutcome| {
                    hears.lock().unwrap().hear(outcome);
                })),
                ..ShareConsumerConfig::default()
            };
            let consumer = ShareConsumer::new(watchful_cluster(bootstrap), config).unwrap();
            consumer.subscribe([topic.to_owned()]).unwrap();
            let task = tokio::spawn(accept(consumer.clone(), log.clone()));
            Member::Share(consumer, task)
        });
        Self {
            name: "share",
            members: members.collect(),
            log,
        }
    }
}

impl Member {
    fn has(&self) -> Vec<i32> {
        let has = match self {
            Self::Consumer(consumer, _) => consumer.assignment(),
            Self::Share(consumer, _) => consumer.assignment(),
        };
        has.into_iter().map(|at| at.partition).collect()
    }

    async fn end(self) {
        let task = match self {
            Self::Consumer(consumer, task) => {
                consumer.close(PATIENCE).await.unwrap();
                task
            }
            Self::Share(consumer, task) => {
                consumer.close(PATIENCE).await.unwrap();
                task
            }
        };
        task.await.unwrap();
    }
}

async fn read(consumer: Consumer, log: Arc<Mutex<Log>>) {
    loop {
        match consumer.poll(Duration::from_secs(1)).await {
            Ok(batches) => {
                let mut log = log.lock().unwrap();
                for batch in &batches {
                    for record in batch {
                        let record = record.unwrap();
                        log.take(batch.partition(), record.value());
                    }
                }
            }
            Err(error) => {
                if log.lock().unwrap().ends_with(error) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn accept(consumer: ShareConsumer, log: Arc<Mutex<Log>>) {
    loop {
        match consumer.poll(Duration::from_secs(1)).await {
            Ok(records) => {
                {
                    let mut log = log.lock().unwrap();
                    for record in &records {
                        let number = log.take(record.partition(), record.value());
                        log.open
                            .insert((record.partition(), record.offset()), number);
                        if log.accepted.get(number) == Some(&true) {
                            log.comes_again(number, record.delivery_count());
                        }
                    }
                }
                for record in &records {
                    // One that is not this member's any more comes again.
                    let _ = consumer.acknowledge(record, AcknowledgeType::Accept);
                }
            }
            Err(error) => {
                if log.lock().unwrap().ends_with(error) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Log {
    fn take(&mut self, partition: i32, value: Option<&[u8]>) -> usize {
        let number: usize = std::str::from_utf8(value.unwrap())
            .unwrap()
            .parse()
            .unwrap();
        if self.read.len() <= number {
            self.read.resize(number + 1, 0);
        }
        self.read[number] += 1;
        if self.read[number] == 1 {
            *self.by_partition.entry(partition).or_default() += 1;
        }
        number
    }

    fn comes_again(&mut self, number: usize, count: i16) {
        if self
            .outdated_until
            .is_some_and(|until| Instant::now() < until)
        {
            self.outdated += 1;
            return;
        }
        let again = format!("{number} was accepted and came again ({count})");
        self.broken.push(again);
    }

    /// Whether that is the end of the member.
    fn ends_with(&mut self, error: Error) -> bool {
        if matches!(error, Error::Closed) {
            return true;
        }
        *self.errors.entry(error.to_string()).or_default() += 1;
        false
    }

    fn hear(&mut self, outcome: &AcknowledgeOutcome) {
        if let Err(fault) = &outcome.result {
            *self.errors.entry(fault.to_string()).or_default() += 1;
            return;
        }
        for offset in outcome.offsets.iter().cloned().flatten() {
            let place = (outcome.partition.partition, offset);
            let Some(number) = self.open.remove(&place) else {
                self.broken.push(format!("{place:?} is acknowledged twice"));
                continue;
            };
            if self.accepted.len() <= number {
                self.accepted.resize(number + 1, false);
            }
            self.accepted[number] = true;
        }
    }

    /// Looks how long each partition has waited by `now`.
    fn look(&mut self, acknowledged: &BTreeMap<i32, usize>, now: Instant) {
        for (&partition, &count) in acknowledged {
            let read = self.by_partition.get(&partition).copied().unwrap_or(0);
            let since = self.since.entry(partition).or_insert((read, now));
            if read >= count || read != since.0 {
                *since = (read, now);
            }
            self.stall = self.stall.max((now - since.1, partition));
        }
    }
}

async fn watch(logs: Vec<Arc<Mutex<Log>>>, acknowledged: Counts) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let so_far = acknowledged.lock().unwrap().clone();
        for log in &logs {
            log.lock().unwrap().look(&so_far, Instant::now());
        }
    }
}
