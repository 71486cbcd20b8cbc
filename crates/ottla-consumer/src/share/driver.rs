//! The shell around the plain state machines: one lock around each, and the tasks between them and the cluster.
//!
//! Locks are taken in the order reader, leaving, membership, core, and never across an await.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ottla_net::Cluster;
use ottla_wire::{Str, Uuid};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    config::{ShareAcknowledgementMode, ShareAcquireMode, ShareConsumerConfig},
    core::{Core, CoreConfig, Effects, Plan},
    exchange, heartbeat,
    membership::{Assignment, Membership},
    metrics::Counters,
    outcome::AcknowledgeOutcome,
    reader::Reader,
};
use crate::{Error, driver::now, payload::DecodeLimits, spans::Spans, waiting::Bell};

/// How a group is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    Unsubscribed,
    Closed,
}

type Committed = oneshot::Sender<Vec<AcknowledgeOutcome>>;

/// Everything a share consumer's handles and tasks share.
pub(super) struct Shared {
    pub(super) config: ShareConsumerConfig,
    pub(super) cluster: Cluster,
    /// This member's own name, for as long as it lives.
    pub(super) member_id: Str,
    pub(super) reader: Mutex<Reader>,
    pub(super) membership: Mutex<Membership>,
    core: Mutex<Core>,
    pub(super) counters: Counters,
    pub(super) spans: Spans,
    /// What the coordinator assigned.
    pub(super) assigned: Mutex<Assignment>,
    /// Of topics that were assigned at some time.
    pub(super) names: Mutex<HashMap<Uuid, Str>>,
    pub(super) tracked: Mutex<Vec<Str>>,
    commits: Mutex<HashMap<u64, Committed>>,
    /// There may be something to hand out.
    pub(super) application: Bell,
    /// The membership may have something to do.
    pub(super) heartbeats: Notify,
    /// Of the brokers' loops.
    loops: Mutex<HashMap<i32, Arc<Notify>>>,
    /// Ends the task that follows the metadata.
    pub(super) closing: CancellationToken,
    /// Ends all others, whatever they still have to say.
    pub(super) halting: CancellationToken,
    closed: AtomicBool,
    /// How the group is to be left once the share sessions are closed: not before, for its coordinator has the brokers
    /// release what a member has that leaves.
    leaving: Mutex<Option<Leaving>>,
    pub(super) tasks: TaskTracker,
    runtime: Handle,
    this: OnceLock<Weak<Self>>,
}

impl Shared {
    pub(super) fn new(cluster: Cluster, config: ShareConsumerConfig) -> Arc<Self> {
        let backoff = config.backoff();
        let core = CoreConfig {
            implicit: config.acknowledgement_mode == ShareAcknowledgementMode::Implicit,
            record_limit: config.acquire_mode == ShareAcquireMode::RecordLimit,
            backoff,
            seed: fastrand::u64(..),
        };
        let application = Bell::default();
        let core = Core::new(core, application.waiters());
        let limits = DecodeLimits {
            check_crcs: config.check_crcs,
            batch_bytes_max: config.batch_bytes_max,
        };
        let membership = Membership::new(config.max_poll_interval, backoff, fastrand::u64(..));
        let shared = Arc::new(Self {
            member_id: Uuid(fastrand::u128(..).to_be_bytes()).to_string().into(),
            reader: Mutex::new(Reader::new(limits)),
            membership: Mutex::new(membership),
            core: Mutex::new(core),
            counters: Counters::default(),
            spans: Spans::new(&cluster, Some(&config.group_id)),
            assigned: Mutex::default(),
            names: Mutex::default(),
            tracked: Mutex::default(),
            commits: Mutex::default(),
            application,
            heartbeats: Notify::new(),
            loops: Mutex::default(),
            closing: CancellationToken::new(),
            halting: CancellationToken::new(),
            closed: AtomicBool::new(false),
            leaving: Mutex::default(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            this: OnceLock::new(),
            config,
            cluster,
        });
        // Set once, here.
        let _ = shared.this.set(Arc::downgrade(&shared));
        shared
            .tasks
            .spawn_on(heartbeat::run(shared.clone()), &shared.runtime);
        let closing = shared.closing.clone();
        let watching = heartbeat::watch_metadata(shared.clone());
        let watching = async move {
            tokio::select! {
                biased;
                () = closing.cancelled() => {}
                () = watching => {}
            }
        };
        shared.tasks.spawn_on(watching, &shared.runtime);
        shared
    }

    /// Calls into the core, then wakes and tells whom the call concerns.
    pub(super) fn core<T>(&self, call: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.core.lock();
        let result = call(&mut core);
        let mut effects = std::mem::take(&mut core.effects);
        // Those are told where no lock is held: see `tell_outcomes`.
        core.effects.outcomes = std::mem::take(&mut effects.outcomes);
        if !effects.brokers.is_empty() {
            self.wake(&core, &effects);
        }
        drop(core);
        self.tell(effects);
        result
    }

    /// What a broker's loop is to do. It ends when there is nothing.
    pub(super) fn plan(&self, node: i32) -> Plan {
        let plan = self.core(|core| {
            let plan = core.plan(node, now());
            if matches!(plan, Plan::Gone) {
                // With the core locked: whoever brings the broker back starts another one.
                self.loops.lock().remove(&node);
            }
            plan
        });
        if matches!(plan, Plan::Gone) {
            self.leave_if_done();
        }
        plan
    }

    /// The subscription ended: closes the share sessions, then leaves the group.
    pub(super) fn give_back(&self) {
        self.leaving.lock().get_or_insert(Leaving::Unsubscribed);
        self.assigned.lock().clear();
        self.core(Core::give_back);
        self.leave_if_done();
    }

    /// Takes in what the coordinator assigned; too late if the group is about to be left.
    pub(super) fn set_assigned(&self, assignment: Assignment) {
        let leaving = self.leaving.lock();
        if leaving.is_none() || assignment.is_empty() {
            *self.assigned.lock() = assignment;
        }
    }

    /// There is another subscription: the group is left without waiting any longer, and joined anew.
    pub(super) fn leave_for_another(&self) {
        let waits = self.leaving.lock().take();
        if waits == Some(Leaving::Unsubscribed) {
            self.membership.lock().unsubscribe();
        }
    }

    /// Leaves the group if that is wanted and nothing is left to be said to its brokers.
    fn leave_if_done(&self) {
        let mut leaving = self.leaving.lock();
        if leaving.is_none() || self.core(|core| core.brokers().next().is_some()) {
            return;
        }
        match leaving.take() {
            Some(Leaving::Unsubscribed) => self.membership.lock().unsubscribe(),
            Some(Leaving::Closed) => self.membership.lock().close(),
            None => {}
        }
        self.heartbeats.notify_one();
    }

    pub(super) fn group_id(&self) -> Str {
        self.config.group_id.clone().into()
    }

    /// Tells the application's listener what became of acknowledgements. Called with no lock held: it may do anything.
    pub(super) fn tell_outcomes(&self) {
        let outcomes = std::mem::take(&mut self.core.lock().effects.outcomes);
        let Some(listener) = &self.config.acknowledge_listener else {
            return;
        };
        for outcome in &outcomes {
            // A panic in it must not end the loop of a broker, nor keep the other outcomes from being told.
            let told = catch_unwind(AssertUnwindSafe(|| listener.acknowledged(outcome)));
            if told.is_err() {
                tracing::error!(
                    partition = %outcome.partition,
                    "the acknowledgement listener panicked; going on without"
                );
            }
        }
    }

    /// Where the outcome of a commit goes.
    pub(super) fn commit(&self) -> Option<(u64, oneshot::Receiver<Vec<AcknowledgeOutcome>>)> {
        let (sender, outcome) = oneshot::channel();
        let number = self.core(|core| {
            let number = core.commit(now())?;
            // With the core locked, so that the outcome finds it.
            self.commits.lock().insert(number, sender);
            Some(number)
        })?;
        Some((number, outcome))
    }

    pub(super) fn forget_commit(&self, number: u64) {
        self.commits.lock().remove(&number);
        self.core(|core| core.forget_commit(number));
    }

    pub(super) fn check_open(&self) -> Result<(), Error> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::Closed),
            false => Ok(()),
        }
    }

    /// Has everything said that is still to be said: the sessions are closed, the group is left, all tasks end. Whether this
    /// was the first call.
    pub(super) fn begin_close(&self) -> bool {
        if self.closed.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.closing.cancel();
        *self.leaving.lock() = Some(Leaving::Closed);
        self.core(Core::close);
        self.leave_if_done();
        self.track(Vec::new());
        self.tasks.close();
        self.application.ring();
        true
    }

    /// Has the cluster keep these topics up to date, and no others.
    pub(super) fn track(&self, topics: Vec<Str>) {
        let mut tracked = self.tracked.lock();
        self.cluster.track(topics.iter().map(|topic| &**topic));
        self.cluster.untrack(tracked.iter().map(|topic| &**topic));
        *tracked = topics;
    }

    /// Starts the loops that are missing.
    fn wake(&self, core: &Core, effects: &Effects) {
        let mut loops = self.loops.lock();
        for node in core.brokers() {
            if let Some(wake) = loops.get(&node) {
                if effects.brokers.contains(&node) {
                    wake.notify_one();
                }
                continue;
            }
            let Some(this) = self.this.get().and_then(Weak::upgrade) else {
                return;
            };
            let wake = Arc::new(Notify::new());
            loops.insert(node, wake.clone());
            let halting = self.halting.clone();
            let task = exchange::run(this, node, wake);
            let task = async move {
                tokio::select! {
                    biased;
                    () = halting.cancelled() => {}
                    () = task => {}
                }
            };
            self.tasks.spawn_on(task, &self.runtime);
        }
    }

    fn tell(&self, effects: Effects) {
        for (number, outcomes) in effects.commits {
            if let Some(waits) = self.commits.lock().remove(&number) {
                // Nobody may wait any more.
                let _ = waits.send(outcomes);
            }
        }
        if effects.application {
            self.application.ring();
            // Who waited has to come now.
            self.membership.lock().application_is_told(now());
        }
        if effects.refresh_metadata {
            self.cluster.refresh_soon();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .field("member_id", &self.member_id)
            .finish_non_exhaustive()
    }
}

pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
