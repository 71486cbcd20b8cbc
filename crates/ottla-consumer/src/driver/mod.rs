//! The shell around the plain state machines: one lock around each, and the tasks that carry requests
//! and answers between them and the cluster.
//!
//! | task | does |
//! | --- | --- |
//! | [`fetch`], one per broker | sends a fetch, splits the answer, sends the next |
//! | [`locate`] | finds out committed offsets and the offsets of places |
//! | [`membership`] | joins, heartbeats, gives up and adopts partitions, leaves; [`classic_group`] and [`consumer_group`] have its requests in either protocol, [`group`] what is known of the group, [`rebalance`] since when it rebalances |
//! | [`commit`] | sends commits one by one; commits automatically |
//! | [`metadata`] | tells the core of new leaders |
//! | [`decode`] | decompresses ahead of the application |
//!
//! Locks are taken in the order commits, reader, group, core; each for microseconds and never across an await.

mod classic_group;
pub(crate) mod commit;
pub(crate) mod consumer_group;
pub(crate) mod decode;
pub(crate) mod fetch;
pub(crate) mod group;
pub(crate) mod locate;
pub(crate) mod membership;
pub(crate) mod metadata;
pub(crate) mod offsets;
mod rebalance;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use ottla_net::Cluster;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Consumer, ConsumerConfig, Error, IsolationLevel, Offset, TopicPartition,
    consumer::Owner,
    core::{Core, CoreConfig, Effects, Leader, StreamEnd},
    driver::{commit::Commits, group::Group},
    listener::Told,
    metrics::Counters,
    payload::{DecodeLimits, Decompressors, Payload},
    reader::Reader,
    spans::Spans,
    waiting::Bell,
};

/// Everything a consumer's handles and tasks share.
pub(crate) struct Shared {
    pub(crate) config: ConsumerConfig,
    pub(crate) cluster: Cluster,
    pub(crate) reader: Mutex<Reader>,
    /// None without `group.id`.
    pub(crate) group: Option<Mutex<Group>>,
    pub(crate) commits: Mutex<Commits>,
    core: Mutex<Core<Payload>>,
    pub(crate) counters: Counters,
    pub(crate) spans: Spans,
    /// Whose turn it is to call the application's listener.
    pub(crate) listening: tokio::sync::Mutex<()>,
    /// Who may tell it of something new, or have it told of nothing new; comes before its turn.
    pub(crate) introducing: tokio::sync::Mutex<()>,
    /// What it was told.
    pub(crate) told: Mutex<Told>,
    /// What the application's handles keep, to make another of them for its listener.
    owner: OnceLock<Weak<Owner>>,
    /// Topics that the cluster keeps up to date on behalf of this consumer.
    tracked: Mutex<BTreeSet<crate::Str>>,
    /// Whether it looks after all topics there are.
    tracks_all: AtomicBool,
    /// There may be something to hand out.
    pub(crate) application: Bell,
    /// A question about positions may be due.
    positions: Notify,
    /// The membership may have something to do.
    pub(crate) membership: Notify,
    /// A commit may be due.
    pub(crate) committing: Notify,
    /// Batches wait that may be worth decoding ahead.
    decoding: Notify,
    /// Readers of single partitions let go of some.
    released: Notify,
    /// Of readers of single partitions, while they do not use them.
    pub(crate) decompressors: Decompressors,
    /// Of the fetch loops, by broker.
    loops: Mutex<HashMap<i32, Arc<Notify>>>,
    /// The group is left, or there is none.
    pub(crate) left: Notify,
    /// Ends all tasks but the membership, which may have to leave its group.
    pub(crate) closing: CancellationToken,
    /// Ends that, too.
    pub(crate) halting: CancellationToken,
    closed: AtomicBool,
    leaving: AtomicBool,
    pub(crate) tasks: TaskTracker,
    runtime: Handle,
}

impl Shared {
    pub(crate) fn new(cluster: Cluster, config: ConsumerConfig) -> Arc<Self> {
        let backoff = config.backoff();
        let core = Core::new(CoreConfig {
            fetch_max_bytes: config.fetch_max_bytes as usize,
            max_partition_fetch_bytes: config.max_partition_fetch_bytes as usize,
            queued_bytes_max: config.queued_bytes_max,
            queued_partition_bytes_max: config.queued_partition_bytes_max,
            reset: config.auto_offset_reset,
            tells_ends: config.enable_partition_eof,
            committed_only: config.isolation_level == IsolationLevel::ReadCommitted,
            stores_handed_out: config.enable_auto_offset_store,
            backoff,
            seed: fastrand::u64(..),
        });
        let group = Group::new(&config, backoff).map(Mutex::new);
        let limits = DecodeLimits::of(&config);
        let application = Bell::default();
        let shared = Arc::new(Self {
            reader: Mutex::new(Reader::new(limits, application.waiters())),
            group,
            commits: Mutex::new(Commits::new(backoff)),
            core: Mutex::new(core),
            counters: Counters::default(),
            spans: Spans::new(&cluster, config.group_id.as_deref()),
            listening: tokio::sync::Mutex::default(),
            introducing: tokio::sync::Mutex::default(),
            told: Mutex::default(),
            owner: OnceLock::new(),
            tracked: Mutex::default(),
            tracks_all: AtomicBool::new(false),
            application,
            positions: Notify::new(),
            membership: Notify::new(),
            committing: Notify::new(),
            decoding: Notify::new(),
            released: Notify::new(),
            decompressors: Decompressors::default(),
            loops: Mutex::default(),
            left: Notify::new(),
            leaving: AtomicBool::new(false),
            closing: CancellationToken::new(),
            halting: CancellationToken::new(),
            closed: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            config,
            cluster,
        });
        shared.spawn(locate::run(shared.clone()));
        shared.spawn(metadata::run(shared.clone()));
        shared.spawn(decode::run(shared.clone()));
        if shared.group.is_some() {
            shared.spawn(commit::run(shared.clone()));
            // Ends by itself, when it has left the group.
            shared
                .tasks
                .spawn_on(membership::run(shared.clone()), &shared.runtime);
        }
        shared
    }

    /// Who is to end the tasks when the application has no handle any more.
    pub(crate) fn set_owner(&self, owner: &Arc<Owner>) {
        // Set once, by whoever made this.
        let _ = self.owner.set(Arc::downgrade(owner));
    }

    /// A handle as the application has them; none if it has none any more.
    pub(crate) fn handle(&self) -> Option<Consumer> {
        self.owner.get()?.upgrade().map(Consumer::from_owner)
    }

    /// Calls into the core, then wakes whom the call concerns.
    pub(crate) fn core<T>(self: &Arc<Self>, call: impl FnOnce(&mut Core<Payload>) -> T) -> T {
        let mut core = self.core.lock();
        let result = call(&mut core);
        let mut effects = std::mem::take(&mut core.effects);
        let new = if effects.new_broker {
            core.new_brokers()
        } else {
            Vec::new()
        };
        // Most calls have no effects and keep the vector's allocation.
        if effects.brokers.is_empty() {
            core.effects.brokers = std::mem::take(&mut effects.brokers);
        }
        drop(core);
        self.fire(&effects, new);
        result
    }

    /// Starts a task that ends with the consumer.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        let task = async move {
            tokio::select! {
                biased;
                () = closing.cancelled() => {}
                () = task => {}
            }
        };
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// Adds partitions to the assignment, with the leaders known by now; nothing of them is handed out while they
    /// are held.
    pub(crate) fn assign(
        self: &Arc<Self>,
        partitions: impl IntoIterator<Item = (TopicPartition, Offset)>,
        hold: Option<u64>,
    ) {
        let partitions: Vec<_> = partitions.into_iter().collect();
        self.track(
            partitions
                .iter()
                .map(|(partition, _)| partition.topic.clone()),
        );
        let metadata = self.cluster.metadata();
        self.core(|core| {
            for (partition, start) in partitions {
                let leader = leader_of(&metadata, &partition);
                core.assign(partition.clone(), start, leader);
                if hold.is_some() {
                    core.hold(&partition, hold);
                }
            }
            core.offer_leases(now());
        });
        // In case that metadata moved on in between.
        self.tell_leaders();
    }

    /// Takes all partitions away. What was read of them counts as far as the application got.
    pub(crate) fn unassign_all(self: &Arc<Self>) {
        let mut reader = self.reader.lock();
        self.core(|core| unassign_all(&mut reader, core));
    }

    /// Tells the core who leads its partitions now.
    pub(crate) fn tell_leaders(self: &Arc<Self>) {
        // Under the core's lock, so that of two callers the one with older news does not come last.
        self.core(|core| {
            let metadata = self.cluster.metadata();
            core.update_leaders(|name| leader_of(&metadata, name));
        });
    }

    /// Has the cluster keep these topics up to date, too.
    pub(crate) fn track(&self, topics: impl IntoIterator<Item = crate::Str>) {
        let mut tracked = self.tracked.lock();
        let new: Vec<_> = topics
            .into_iter()
            .filter(|topic| tracked.insert(topic.clone()))
            .collect();
        if !new.is_empty() {
            self.cluster.track(new.iter().map(|topic| &**topic));
        }
    }

    /// Has the cluster forget all topics but these.
    pub(crate) fn retain_tracked(&self, keep: &HashSet<crate::Str>) {
        let mut tracked = self.tracked.lock();
        let gone: Vec<_> = tracked
            .extract_if(.., |topic| !keep.contains(topic))
            .collect();
        self.cluster.untrack(gone.iter().map(|topic| &**topic));
    }

    /// Has the cluster forget all topics that it looked after for this consumer.
    pub(crate) fn forget_topics(&self) {
        self.retain_tracked(&HashSet::new());
        self.track_all(false);
    }

    /// Tells the readers of single partitions that it is over, and waits until they have let go of them. False if time
    /// ran out.
    pub(crate) async fn end_streams(self: &Arc<Self>, end: StreamEnd, deadline: Instant) -> bool {
        self.core(|core| core.end_leases(None, end));
        let gone = async {
            loop {
                let released = self.released.notified();
                tokio::pin!(released);
                released.as_mut().enable();
                if self.core(|core| core.leases_gone(None)) {
                    return;
                }
                released.await;
            }
        };
        tokio::time::timeout_at(deadline.into(), gone).await.is_ok()
    }

    /// Whether the cluster is to look after all topics there are, for a subscription by pattern.
    pub(crate) fn track_all(&self, wanted: bool) {
        match (self.tracks_all.swap(wanted, Ordering::AcqRel), wanted) {
            (false, true) => self.cluster.track_all(),
            (true, false) => self.cluster.untrack_all(),
            _ => {}
        }
    }

    pub(crate) fn tracked(&self) -> Vec<crate::Str> {
        self.tracked.lock().iter().cloned().collect()
    }

    /// Whether a group gives partitions to this consumer, and takes them away.
    pub(crate) fn is_subscribed(&self) -> bool {
        let group = self.group.as_ref();
        group.is_some_and(|group| group.lock().subscription.is_some())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// No call hands out anything from now on. Whether this was the first call.
    pub(crate) fn begin_close(self: &Arc<Self>) -> bool {
        let first = !self.closed.swap(true, Ordering::AcqRel);
        self.application.ring();
        self.core(Core::wake_taker);
        first
    }

    /// Has the membership leave the group and end.
    pub(crate) fn leave_now(&self) {
        self.leaving.store(true, Ordering::Release);
        self.membership.notify_one();
        if self.group.is_none() {
            self.left.notify_one();
        }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Nobody waits any more: leaves the group if that works at once, and ends all other tasks.
    pub(crate) fn abandon(self: &Arc<Self>) {
        self.begin_close();
        self.forget_topics();
        self.leave_now();
        self.tasks.close();
        self.closing.cancel();
    }

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.is_closed() {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    fn fire(self: &Arc<Self>, effects: &Effects, new_brokers: Vec<i32>) {
        if effects.application {
            self.application.ring();
        }
        if effects.decode {
            self.decoding.notify_one();
        }
        if effects.positions {
            self.positions.notify_one();
        }
        if effects.refresh_metadata {
            self.cluster.refresh_soon();
        }
        if effects.leases {
            self.membership.notify_one();
            self.released.notify_waiters();
        }
        effects.wakers.iter().for_each(Waker::wake_by_ref);
        if effects.brokers.is_empty() && new_brokers.is_empty() {
            return;
        }
        let mut loops = self.loops.lock();
        for node in &effects.brokers {
            if let Some(wake) = loops.get(node) {
                wake.notify_one();
            }
        }
        for node in new_brokers {
            let wake = Arc::new(Notify::new());
            loops.insert(node, wake.clone());
            self.spawn(fetch::run(self.clone(), node, wake));
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Takes all partitions away. What was read of them counts as far as the application got.
pub(crate) fn unassign_all(reader: &mut Reader, core: &mut Core<Payload>) {
    reader.settle(core);
    let names: Vec<_> = core.assignment().cloned().collect();
    for name in &names {
        core.unassign(name);
    }
}

/// The time, by the clock that tests can pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// When a call that may take `timeout` must end. One too long to express is as good as a lifetime.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    let now = now();
    now.checked_add(timeout).unwrap_or_else(|| now + LIFETIME)
}

const LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Waits for a wake-up, but no longer than until then.
pub(crate) async fn wait(wake: &Notify, until: Option<Instant>) {
    match until {
        None => wake.notified().await,
        Some(until) => {
            // Both outcomes mean: look again.
            let _ = tokio::time::timeout_at(until.into(), wake.notified()).await;
        }
    }
}

fn leader_of(metadata: &ottla_net::Metadata, name: &TopicPartition) -> Option<Leader> {
    let topic = metadata.topic(&name.topic)?;
    let partition = topic.partition(name.partition)?;
    Some(Leader {
        node: partition.leader?,
        epoch: partition.leader_epoch,
        topic_id: topic.id,
    })
}
