//! What all parts of one producer share, and the ways between them.
//!
//! Owns topics, lines, the sender core and the tasks. Lock order, where two are held: a partition's
//! front before the core; neither while a caller is woken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arc_swap::ArcSwap;
use ottla_net::Cluster;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::accumulator::{Event, Line, PartitionQueue, Pulled, Ratio, Supplies};
use crate::batch::Batch;
use crate::budget::Budget;
use crate::buffers::Buffers;
use crate::config::ProducerConfig;
use crate::error::{FlushError, SendError, TopicPartition};
use crate::outstanding::Outstanding;
use crate::partitioner::{BrokerHealth, Sticky};
use crate::recent::TableVersion;
use crate::sealer::Sealer;
use crate::sender::{Effect, SenderCore, Settings, Slot, run_broker};
use crate::topic_config::TopicSettings;
use crate::topics::{Front, Partition, Topic, TopicShared, Topics};
use crate::transaction::Transactions;

pub(crate) type PartitionLine = Line<Arc<Partition>>;

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) config: ProducerConfig,
    pub(crate) cluster: Cluster,
    /// A record needs nothing but a place in a batch: no interceptor wants it, nobody counts or traces it.
    pub(crate) sends_plainly: bool,
    /// A batch is full at so many bytes: `batch.size`, and no more than a request may hold.
    pub(crate) batch_size: usize,
    pub(crate) supplies: Supplies,
    pub(crate) sealer: Sealer,
    pub(crate) topics: ArcSwap<Topics>,
    /// Of `topics`.
    pub(crate) topics_version: TableVersion,
    /// Held while the table of topics is replaced.
    topics_change: Mutex<()>,
    /// By slot.
    pub(crate) partitions: RwLock<Vec<Arc<Partition>>>,
    pub(crate) core: Mutex<SenderCore>,
    lines: Mutex<BTreeMap<i32, Arc<PartitionLine>>>,
    /// By broker, as far as it leads partitions.
    pub(crate) health: Mutex<BTreeMap<i32, Arc<BrokerHealth>>>,
    /// For partitions that never had a leader; the keeper reads it.
    pub(crate) nowhere: Arc<PartitionLine>,
    /// Partitions with unsettled records, by the time at which the first may run out of time.
    pub(crate) deadlines: Mutex<BinaryHeap<Reverse<(Instant, Slot)>>>,
    pub(crate) deadlines_changed: Notify,
    pub(crate) identity_wanted: Notify,
    pub(crate) transactions: Transactions,
    pub(crate) tasks: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) runtime: Handle,
    pub(crate) closed: AtomicBool,
    /// Tells those who wait for a topic that it was closed.
    closing: Notify,
}

impl Client {
    /// Must be called inside a tokio runtime.
    pub(crate) fn new(cluster: Cluster, config: ProducerConfig) -> Arc<Self> {
        let idempotent = config.idempotent();
        let settings = Settings {
            idempotent,
            transactional: config.transactional_id.is_some(),
            in_flight_max: config.max_in_flight,
            request_bytes_max: config.max_request_size,
            retries: config.retries,
            backoff: ottla_net::Backoff::new(config.retry_backoff, config.retry_backoff_max),
            gapless: config.gapless,
        };
        let supplies = Supplies {
            budget: Budget::new(config.buffer_memory),
            buffers: Buffers::new(config.buffer_memory / 4),
            outstanding: Arc::new(Outstanding::new(
                &config,
                cluster.config().client_id.as_str(),
            )),
            linger: config.linger,
            batch_records_max: config.batch_records_max,
        };
        Arc::new(Self {
            sealer: Sealer::new(),
            sends_plainly: supplies.outstanding.interceptors.is_empty()
                && supplies.outstanding.places.is_none()
                && !config.trace_records,
            batch_size: config.batch_size.min(config.max_request_size),
            cluster,
            supplies,
            topics: ArcSwap::default(),
            topics_version: TableVersion::new(),
            topics_change: Mutex::new(()),
            partitions: RwLock::default(),
            core: Mutex::new(SenderCore::new(settings)),
            lines: Mutex::default(),
            health: Mutex::default(),
            nowhere: Arc::new(Line::new()),
            deadlines: Mutex::default(),
            deadlines_changed: Notify::new(),
            identity_wanted: Notify::new(),
            transactions: Transactions::new(&config),
            tasks: Mutex::default(),
            runtime: Handle::current(),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            config,
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Accepts no more records, and turns away those who wait to be accepted.
    pub(crate) fn begin_close(&self) {
        self.closed.store(true, Ordering::Release);
        self.supplies.budget.close();
        if let Some(places) = &self.supplies.outstanding.places {
            places.close();
        }
        self.closing.notify_waiters();
    }

    /// Waits until it is closed. Cancel safe.
    pub(crate) async fn closing(&self) {
        let closing = self.closing.notified();
        tokio::pin!(closing);
        closing.as_mut().enable();
        if !self.is_closed() {
            closing.await;
        }
    }

    /// Takes in what the cluster says of topics, as far as it is news.
    pub(crate) fn learn_topics<'a>(
        self: &Arc<Self>,
        seen: impl IntoIterator<Item = &'a Arc<ottla_net::Topic>>,
    ) {
        let _change = self.topics_change.lock();
        let current = self.topics.load();
        let is_news = |seen: &&Arc<ottla_net::Topic>| {
            // Without partitions it is being created or deleted: what was known is the better guess.
            let old = current.by_name.get(&*seen.name);
            !seen.partitions.is_empty() && old.is_none_or(|old| !Arc::ptr_eq(&old.seen, seen))
        };
        let mut news = seen.into_iter().filter(is_news).peekable();
        if news.peek().is_none() {
            return;
        }
        let mut topics = Topics::clone(&current);
        let mut effects = Vec::new();
        for seen in news {
            let topic = self.take_in(topics.by_name.get(&*seen.name), seen, &mut effects);
            topics.by_name.insert(topic.shared.name.clone(), topic);
        }
        self.topics.store(Arc::new(topics));
        self.topics_version.replaced();
        self.carry_out(effects, None);
    }

    /// A topic as it is seen now, `old` being what it was.
    fn take_in(
        self: &Arc<Self>,
        old: Option<&Arc<Topic>>,
        seen: &Arc<ottla_net::Topic>,
        effects: &mut Vec<Effect>,
    ) -> Arc<Topic> {
        let name: &str = &seen.name;
        let shared = match old {
            Some(old) => old.shared.clone(),
            None => {
                self.cluster.track([name]);
                Arc::new(TopicShared {
                    name: name.into(),
                    wire_name: seen.name.clone(),
                    id: Mutex::new(seen.id),
                    settings: TopicSettings::new(&self.config, name),
                    ratio: Ratio::new(),
                    sticky: Sticky::new(fastrand::u32(..seen.partitions.len() as u32)),
                    turn: AtomicU32::new(fastrand::u32(..seen.partitions.len() as u32)),
                })
            }
        };
        let made_anew = std::mem::replace(&mut *shared.id.lock(), seen.id) != seen.id;
        // A topic made anew may have fewer partitions than it had; its sealed batches stay where they are.
        let count = seen
            .partitions
            .last()
            .map_or(0, |last| last.index as usize + 1);
        let mut ever = old.map(|old| old.ever.clone()).unwrap_or_default();
        for index in ever.len()..count {
            ever.push(self.add_partition(&shared, index as i32));
        }
        let mut core = self.core.lock();
        if made_anew {
            ever.iter()
                .for_each(|partition| core.forget_log(partition.slot));
        }
        for known in &seen.partitions {
            let slot = ever[known.index as usize].slot;
            core.set_leader(slot, known.leader, known.leader_epoch);
        }
        effects.append(&mut core.take_effects());
        drop(core);
        for known in &seen.partitions {
            if let Some(leader) = known.leader {
                let line = self.line(leader);
                ever[known.index as usize].front.lock().line = line;
            }
        }
        let with_leader = seen
            .partitions
            .iter()
            .filter(|known| known.leader.is_some());
        let mut available: Vec<u32> = with_leader.map(|known| known.index as u32).collect();
        if available.is_empty() {
            available = seen
                .partitions
                .iter()
                .map(|known| known.index as u32)
                .collect();
        }
        let near = self.near(seen);
        if !near.is_empty() {
            available = near;
        }
        let leader = |index: &u32| seen.partition(*index as i32)?.leader;
        let health = available
            .iter()
            .map(|index| leader(index).map(|leader| self.health(leader)))
            .collect();
        Arc::new(Topic {
            shared,
            seen: seen.clone(),
            partitions: ever[..count].to_vec(),
            ever,
            available,
            health,
        })
    }

    fn add_partition(&self, topic: &Arc<TopicShared>, index: i32) -> Arc<Partition> {
        let at = TopicPartition {
            topic: topic.name.clone(),
            partition: index,
        };
        let mut partitions = self.partitions.write();
        let (slot, ended) = {
            let mut core = self.core.lock();
            let settings = &topic.settings;
            let slot = core.add_partition(at.clone(), settings.acks, settings.delivery_timeout);
            (slot, core.fatal().is_some())
        };
        let load = Arc::<AtomicU32>::default();
        let front = Front {
            queue: PartitionQueue::new(load.clone()),
            line: self.nowhere.clone(),
            told: false,
            watched: false,
            ended,
        };
        let topic = topic.clone();
        let partition = Arc::new(Partition {
            topic,
            at,
            slot,
            load,
            front: Mutex::new(front),
        });
        debug_assert_eq!(partitions.len(), slot);
        partitions.push(partition.clone());
        partition
    }

    pub(crate) fn partition(&self, slot: Slot) -> Arc<Partition> {
        self.partitions.read()[slot].clone()
    }

    /// The line to a broker's sender, which is started when it is first needed.
    pub(crate) fn line(self: &Arc<Self>, broker: i32) -> Arc<PartitionLine> {
        let mut lines = self.lines.lock();
        if let Some(line) = lines.get(&broker) {
            return line.clone();
        }
        let line = Arc::new(Line::new());
        lines.insert(broker, line.clone());
        let mut tasks = self.tasks.lock();
        // Under the lock: who closes takes the tasks out after this one is among them, or before this look.
        if !self.is_closed() {
            let task = run_broker(self.clone(), broker, line.clone());
            tasks.push(self.runtime.spawn(task));
        }
        line
    }

    /// Sends what lingers, everywhere.
    pub(crate) fn hurry(&self) {
        for line in self.lines.lock().values() {
            line.hurry();
        }
        self.nowhere.hurry();
    }

    /// Tells the sender what appending a record to `partition` changed. `front` is the partition's, locked.
    pub(crate) fn tell(
        self: &Arc<Self>,
        partition: &Arc<Partition>,
        front: &mut Front,
        event: Event,
    ) {
        if let Some(linger_end) = event.opened {
            if !front.watched {
                front.watched = true;
                self.watch(
                    partition.slot,
                    Instant::now() + partition.topic.settings.delivery_timeout,
                );
            }
            if self.config.linger.is_zero() || self.is_short() {
                front.queue.hurry();
                self.tell_due(partition, front);
            } else {
                front.line.lingers(linger_end, partition.clone());
            }
        }
        if event.filled {
            if partition.topic.settings.sealing.is_plain() {
                self.tell_due(partition, front);
            } else {
                self.sealer.submit(self, partition.clone());
            }
        }
    }

    /// Whether a caller waits for room in the buffer.
    fn is_short(&self) -> bool {
        let places = &self.supplies.outstanding.places;
        self.supplies.budget.is_short() || places.as_ref().is_some_and(|places| places.is_short())
    }

    /// The partition's open batch shall leave without lingering.
    pub(crate) fn hurry_one(&self, partition: &Arc<Partition>, front: &mut Front) {
        front.queue.hurry();
        self.tell_due(partition, front);
    }

    pub(crate) fn tell_due(&self, partition: &Arc<Partition>, front: &mut Front) {
        if !std::mem::replace(&mut front.told, true) {
            front.line.due(partition.clone());
        }
    }

    /// Takes the partition's oldest batch if it is due, and seals it unless that is a worker's job.
    /// Also says whether there is more.
    pub(crate) fn pull(
        self: &Arc<Self>,
        partition: &Arc<Partition>,
        now: Instant,
    ) -> (Option<Box<Batch>>, bool) {
        let linger = self.config.linger;
        let in_passing = partition.topic.settings.sealing.in_passing();
        let mut front = partition.front.lock();
        let pulled = front.queue.pull(now, linger, in_passing);
        let more = front.queue.is_due(now, linger);
        front.told = false;
        drop(front);
        let batch = match pulled {
            Pulled::Nothing | Pulled::Lingering | Pulled::Sealing => None,
            Pulled::Sealed(batch) => Some(batch),
            Pulled::Plain(open) => {
                let sealed = self.sealer.seal(self, &partition.topic, open);
                if sealed.is_none() {
                    self.keep_gapless("a batch could not be sealed");
                }
                sealed
            }
            Pulled::PlainLarge(number, open) => {
                self.sealer
                    .submit_batch(self, partition.clone(), number, open);
                None
            }
        };
        (batch, more)
    }

    /// Watches over the partition's deadlines from `at` on.
    pub(crate) fn watch(&self, slot: Slot, at: Instant) {
        let mut deadlines = self.deadlines.lock();
        let sooner = deadlines
            .peek()
            .is_none_or(|Reverse((first, _))| at < *first);
        deadlines.push(Reverse((at, slot)));
        drop(deadlines);
        if sooner {
            self.deadlines_changed.notify_one();
        }
    }

    /// Does what the core asks for. `own` is the broker whose sender calls, which need not be woken.
    pub(crate) fn carry_out(self: &Arc<Self>, effects: Vec<Effect>, own: Option<i32>) {
        for effect in effects {
            match effect {
                Effect::Settle(batch, outcome) => batch.settle(outcome, &self.supplies.buffers),
                Effect::Tell(resolver, outcome) => resolver.resolve(outcome),
                Effect::Fail(error) => self.fail(&error),
                Effect::Wake(broker) if Some(broker) == own => {}
                Effect::Wake(broker) => self.line(broker).wake(),
                Effect::NeedIdentity => self.identity_wanted.notify_one(),
                Effect::SeekLeaders => self.deadlines_changed.notify_one(),
                Effect::AddPartitions => self.transactions.outside.notify_one(),
                Effect::Drained => self.transactions.drained.notify_one(),
                Effect::Split(slot, batch) => {
                    let partition = self.partition(slot);
                    let pieces = self.sealer.split(self, &partition.topic, batch);
                    if pieces.is_empty() {
                        self.keep_gapless("a batch that was too large could not be cut");
                    }
                    let mut core = self.core.lock();
                    core.split_done(slot, pieces);
                    let effects = core.take_effects();
                    drop(core);
                    self.carry_out(effects, own);
                }
            }
        }
    }

    /// Records whose outcome is open, per partition.
    pub(crate) fn undelivered(&self) -> Vec<(TopicPartition, u64)> {
        let partitions = self.partitions.read().clone();
        let counts = partitions.iter().map(|partition| {
            let waiting = partition.front.lock().queue.records();
            (
                partition.at.clone(),
                waiting + self.core.lock().records(partition.slot),
            )
        });
        counts
            .filter(|(_, count)| *count > 0)
            .take(PARTITIONS_TOLD)
            .collect()
    }

    /// Waits until everything sent before is settled, or `timeout` is over.
    pub(crate) async fn flush(&self, timeout: std::time::Duration) -> Result<(), FlushError> {
        let settled = self.supplies.outstanding.settled();
        tokio::pin!(settled);
        // First the list of what to wait for, then the hurry: what opens in between is not waited for.
        let first =
            std::future::poll_fn(|cx| std::task::Poll::Ready(settled.as_mut().poll(cx))).await;
        if first.is_ready() {
            return Ok(());
        }
        self.hurry();
        match tokio::time::timeout(timeout, settled).await {
            Ok(()) => Ok(()),
            Err(_) => Err(FlushError {
                waited: timeout,
                undelivered: self.undelivered(),
            }),
        }
    }

    /// Ends the producer: refuses new records, settles all others as what they are, stops the tasks.
    pub(crate) fn abandon(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        self.begin_close();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.iter().for_each(JoinHandle::abort);
        self.fail(&SendError::Closed);
        self.core.lock().forget_in_flight();
        self.transactions.drained.notify_one();
        let names: Vec<_> = self.topics.load().by_name.keys().cloned().collect();
        self.cluster.untrack(names.iter().map(|name| &**name));
        tasks
    }

    /// Settles with `error` what the sender has not taken yet, but for batches that a worker is sealing.
    pub(crate) fn purge(&self, error: &SendError) {
        let now = Instant::now();
        let partitions = self.partitions.read().clone();
        for partition in &partitions {
            let mut front = partition.front.lock();
            let given_up = front.queue.give_up(now);
            if front.queue.oldest().is_none() {
                // What the sender was told of is gone: the next record must be told of anew, to a lane
                // that may have to wait for its transaction again.
                front.told = false;
                self.core.lock().front_emptied(partition.slot);
            }
            drop(front);
            for batch in given_up {
                batch.settle(error.clone().into(), &self.supplies.buffers);
            }
        }
    }

    /// Settles everything that waits with `error`, and what is in flight as possibly written.
    pub(crate) fn fail(self: &Arc<Self>, error: &SendError) {
        let mut core = self.core.lock();
        core.fail(error.clone(), Instant::now());
        let effects = core.take_effects();
        drop(core);
        self.carry_out(effects, None);
        // Partitions added from here on are added as ended.
        let partitions = self.partitions.read().clone();
        for partition in &partitions {
            let mut front = partition.front.lock();
            front.ended = true;
            let left = front.queue.end();
            drop(front);
            for batch in left {
                batch.settle(error.clone().into(), &self.supplies.buffers);
            }
        }
    }
}

/// How many partitions a [`FlushError`] lists.
const PARTITIONS_TOLD: usize = 100;
