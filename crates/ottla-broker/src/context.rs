//! What every request handler sees: the cluster, its groups, the time, and the node that was asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ottla_wire::ErrorCode;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};

use crate::cluster::Cluster;
use crate::fetch_session::FetchSessions;
use crate::group::Groups;
use crate::group::classic::{Action, Waiter};
use crate::group::keeping::Keeper;
use crate::options::BrokerOptions;
use crate::script::Script;
use crate::settings::ClusterSettings;
use crate::share_session::{Key, ShareSessions};
use crate::storage::DataDir;
use crate::transaction::coordinator::Transactions;

/// The state that all nodes of an embedded cluster share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: BrokerOptions,
    pub(crate) cluster: RwLock<Cluster>,
    pub(crate) groups: Mutex<Groups>,
    pub(crate) keeper: Keeper,
    pub(crate) sessions: Mutex<FetchSessions>,
    pub(crate) share_sessions: Mutex<ShareSessions>,
    /// Records of some share group are there for others.
    pub(crate) share_freed: Notify,
    /// Records were given back by somebody who waits for nobody to keep that.
    shares_released: Notify,
    pub(crate) script: Script,
    pub(crate) settings: Mutex<ClusterSettings>,
    pub(crate) transactions: Mutex<Transactions>,
    pub(crate) data_dir: Option<DataDir>,
    /// Parked JoinGroup and SyncGroup requests.
    parked: Mutex<HashMap<Waiter, oneshot::Sender<Action>>>,
    next_waiter: AtomicU64,
    next_connection: AtomicU64,
    /// Tells the clock task that a group's next timeout may have come nearer.
    pub(crate) groups_changed: Notify,
    clock: Clock,
}

/// Milliseconds since 1970 that advance with tokio's clock, so that a paused clock pauses them too.
#[derive(Debug)]
struct Clock {
    started: tokio::time::Instant,
    started_ms: i64,
}

/// One request's surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: i32,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) version: i16,
    /// Tells connections apart.
    pub(crate) connection: u64,
}

impl Shared {
    pub(crate) fn new(
        options: BrokerOptions,
        cluster: Cluster,
        groups: Groups,
        data_dir: Option<DataDir>,
    ) -> Self {
        Self {
            options,
            cluster: RwLock::new(cluster),
            groups: Mutex::new(groups),
            keeper: Keeper::default(),
            sessions: Mutex::default(),
            share_sessions: Mutex::default(),
            share_freed: Notify::new(),
            shares_released: Notify::new(),
            next_connection: AtomicU64::new(0),
            script: Script::default(),
            settings: Mutex::default(),
            transactions: Mutex::default(),
            data_dir,
            parked: Mutex::default(),
            next_waiter: AtomicU64::new(0),
            groups_changed: Notify::new(),
            clock: Clock::start(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// A number that no other connection has.
    pub(crate) fn connection(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// A connection is gone, and with it the share sessions that it opened.
    pub(crate) fn disconnected(&self, connection: u64) {
        let gone = self.share_sessions.lock().disconnected(connection);
        for key in gone {
            self.release_shares(&key);
        }
    }

    /// A share session is over: what was acquired in it is there for others.
    pub(crate) fn release_shares(&self, key: &Key) {
        let mut groups = self.groups.lock();
        let group = groups.get_mut(&key.group);
        if let Some(group) = group.and_then(|group| group.share.as_mut())
            && group.release(&key.member, key.node)
        {
            drop(groups);
            self.share_freed.notify_waiters();
            self.shares_released.notify_one();
        }
    }

    /// A place to wait for a group's answer.
    pub(crate) fn park(&self) -> (Waiter, oneshot::Receiver<Action>) {
        let waiter = self.next_waiter.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.parked.lock().insert(waiter, sender);
        (waiter, receiver)
    }

    /// The request that waited is gone.
    pub(crate) fn unpark(&self, waiter: Waiter) -> bool {
        self.parked.lock().remove(&waiter).is_some()
    }

    /// Hands replies to the requests that wait for them.
    pub(crate) fn deliver(&self, actions: Vec<Action>) {
        let mut parked = self.parked.lock();
        for action in actions {
            let (Action::Joined(waiter, _) | Action::Synced(waiter, _)) = &action;
            if let Some(sender) = parked.remove(waiter) {
                // The connection may have closed meanwhile; the member's session then runs out.
                let _ = sender.send(action);
            }
        }
    }

    /// Drives what only time moves: sessions that lapse and rebalances that waited long enough.
    pub(crate) async fn run_group_clock(self: Arc<Self>) {
        loop {
            let next = self.groups.lock().next_timeout();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = due => {
                    let mut actions = Vec::new();
                    let view = self.cluster.read().topics_view();
                    let changed = self.groups.lock().advance(&view, self.now(), &mut actions);
                    self.deliver(actions);
                    // Locks of acquired records may have timed out.
                    self.share_freed.notify_waiters();
                    self.groups_kept(changed).await;
                }
                () = self.shares_released.notified() => {
                    let changed = self.groups.lock().unkept_shares();
                    self.groups_kept(changed).await;
                }
                () = self.groups_changed.notified() => {}
            }
        }
    }
}

impl Shared {
    /// Keeps groups that nobody waits for.
    async fn groups_kept(self: &Arc<Self>, ids: Vec<String>) {
        for id in ids {
            if let Err(error) = self.group_kept(&id).await {
                tracing::error!(group = id, %error, "cannot write a group");
            }
        }
    }
}

impl Context {
    /// Whether this node coordinates the group.
    pub(crate) fn check_coordinator(&self, group: &str) -> Result<(), ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        match self.shared.cluster.read().coordinator(group) {
            Some(node) if node.id == self.node => Ok(()),
            _ => Err(ErrorCode::NOT_COORDINATOR),
        }
    }
}

impl Context {
    /// Whether this node coordinates the transactional id.
    pub(crate) fn check_transaction_coordinator(&self, id: &str) -> Result<(), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        self.check_coordinator(id)
    }

    /// `error`, or what it was called before the version from which a client knows PRODUCER_FENCED.
    pub(crate) fn fenced(&self, error: ErrorCode, known_from: i16) -> ErrorCode {
        if error == ErrorCode::PRODUCER_FENCED && self.version < known_from {
            return ErrorCode::INVALID_PRODUCER_EPOCH;
        }
        error
    }
}

impl Clock {
    fn start() -> Self {
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Self {
            started: tokio::time::Instant::now(),
            started_ms: i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX),
        }
    }

    fn now_ms(&self) -> i64 {
        self.started_ms + i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}
