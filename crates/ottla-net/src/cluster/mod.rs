//! A cluster as a client sees it.
//!
//! | module | concept |
//! | --- | --- |
//! | [`metadata`] | immutable snapshots of brokers, topics and leaders |
//! | [`cache`] | what to ask about them and what to believe: a plain state machine |
//! | [`refresh`] | the task that asks |
//! | [`coordinators`] | who coordinates a group or transaction: a plain state machine, and its task |
//! | [`call`] | one request, tried again until a deadline |

mod cache;
mod call;
mod coordinators;
mod lookup;
mod metadata;
mod refresh;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use ottla_wire::Str;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::cache::{Endpoint, MetadataCache, Policy};
use crate::cluster::coordinators::Coordinators;
use crate::config::{ClusterConfig, MetadataRecovery};
use crate::connection::Connection;
use crate::error::{Error, Sent};
use crate::pool::{Channel, Lane, Pool, SHARED};
use crate::transport::{Connector, TcpConnector, TcpOptions};
use crate::watch;

pub use call::To;
pub use coordinators::CoordinatorKind;
pub use metadata::{Broker, LeaderHint, Metadata, Partition, Topic};

/// A cluster: what is known of it, and the connections to its brokers.
///
/// Cheap to clone; clones are the same client of the cluster. Its tasks end with
/// [`Cluster::close`], or when the last clone is dropped.
#[derive(Clone)]
pub struct Cluster {
    owner: Arc<Owner>,
    /// Who has lanes of its own; nobody for a clone that shares them all.
    party: Option<Arc<Party>>,
}

/// A user of the cluster with lanes of its own, which close with its last handle.
struct Party {
    number: u64,
    pool: Arc<Pool>,
}

impl Drop for Party {
    fn drop(&mut self) {
        self.pool.close_party(self.number);
    }
}

/// Ends the tasks when the last handle goes. The tasks hold [`Inner`], never this.
struct Owner {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Arc<ClusterConfig>,
    pub(crate) pool: Arc<Pool>,
    snapshot: ArcSwap<Metadata>,
    cache: Mutex<MetadataCache>,
    /// Wakes the task that refreshes.
    refresh: Notify,
    /// The generation of the newest snapshot.
    changes: tokio::sync::watch::Sender<u64>,
    /// What came of the queries so far, for those who wait for one.
    progress: watch::Sender<Progress>,
    coordinators: Mutex<Coordinators>,
    /// Wakes the task that looks coordinators up.
    lookup: Notify,
    runtime: Handle,
    tasks: TaskTracker,
    closing: CancellationToken,
}

#[derive(Debug, Clone, Default)]
struct Progress {
    /// Answers and failures.
    answers: u64,
    /// Why the last query failed, if it did.
    failure: Option<Error>,
}

impl Cluster {
    /// A client of the cluster that `config` names, over the streams of `connector`.
    ///
    /// Connects to nothing yet. Must be called within a tokio runtime, whose tasks and timers it uses from
    /// then on.
    ///
    /// # Errors
    /// [`Error::Config`] if a setting cannot work.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(config: ClusterConfig, connector: Arc<dyn Connector>) -> Result<Self, Error> {
        config.validate()?;
        let config = Arc::new(config);
        let runtime = Handle::current();
        let tasks = TaskTracker::new();
        let closing = CancellationToken::new();
        let pool = Arc::new(Pool::new(
            config.clone(),
            connector,
            runtime.clone(),
            tasks.clone(),
            closing.clone(),
        ));
        let policy = Policy {
            max_age: config.metadata_max_age,
            max_idle: config.metadata_max_idle,
            retry: config.retry_policy(),
            rebootstrap_after: match config.metadata_recovery {
                MetadataRecovery::Rebootstrap => Some(config.rebootstrap_trigger),
                MetadataRecovery::None => None,
            },
            auto_create: config.allow_auto_create_topics,
        };
        let inner = Arc::new(Inner {
            coordinators: Mutex::new(Coordinators::new(config.retry_policy())),
            config,
            pool,
            snapshot: ArcSwap::default(),
            cache: Mutex::new(MetadataCache::new(policy)),
            refresh: Notify::new(),
            changes: tokio::sync::watch::Sender::new(0),
            progress: watch::Sender::default(),
            lookup: Notify::new(),
            runtime: runtime.clone(),
            tasks: tasks.clone(),
            closing,
        });
        tasks.spawn_on(refresh::run(inner.clone()), &runtime);
        tasks.spawn_on(lookup::run(inner.clone()), &runtime);
        Ok(Self {
            owner: Arc::new(Owner { inner }),
            party: None,
        })
    }

    /// [`Cluster::new`] over TCP, with the socket options of `config`.
    ///
    /// # Errors
    /// As [`Cluster::new`].
    ///
    /// # Panics
    /// As [`Cluster::new`].
    pub fn over_tcp(config: ClusterConfig) -> Result<Self, Error> {
        let connector = TcpConnector::new(TcpOptions::from(&config));
        Self::new(config, Arc::new(connector))
    }

    /// The same client, with connections of its own on [`Lane::Fetch`] and [`Lane::Coordination`], on which brokers
    /// keep requests until something happens: what several consumers of one client need, so that none waits
    /// behind another. Clones of what is returned share these; they close with the last of them.
    #[must_use]
    pub fn with_own_lanes(&self) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(SHARED + 1);
        Self {
            owner: self.owner.clone(),
            party: Some(Arc::new(Party {
                number: NEXT.fetch_add(1, Ordering::Relaxed),
                pool: self.inner().pool.clone(),
            })),
        }
    }

    /// The settings.
    pub fn config(&self) -> &ClusterConfig {
        &self.inner().config
    }

    /// What is known now. Takes no lock and waits for nothing.
    pub fn metadata(&self) -> Arc<Metadata> {
        self.inner().snapshot.load_full()
    }

    /// Tells of every new snapshot, by its generation.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner().changes.subscribe()
    }

    /// Keeps topics up to date until [`Cluster::untrack`] is called as often. Topics not known yet are
    /// asked for at once.
    pub fn track<'a>(&self, topics: impl IntoIterator<Item = &'a str>) {
        let now = Instant::now();
        let mut cache = self.inner().cache.lock();
        for topic in topics {
            cache.track(now, topic);
        }
        drop(cache);
        self.inner().refresh.notify_one();
    }

    /// Has a topic asked about soon that nobody can wait for: a later [`Metadata::topic`] finds it, if it
    /// exists. Any number of calls makes no more than one request per `retry.backoff.ms`.
    pub fn prefetch_topic(&self, name: &str) {
        self.inner().cache.lock().wish(Instant::now(), name);
        self.inner().refresh.notify_one();
    }

    /// Undoes [`Cluster::track`]. A topic nobody tracks is forgotten after `metadata.max.idle.ms`.
    pub fn untrack<'a>(&self, topics: impl IntoIterator<Item = &'a str>) {
        let now = Instant::now();
        let mut cache = self.inner().cache.lock();
        for topic in topics {
            cache.untrack(now, topic);
        }
    }

    /// Keeps *all* topics of the cluster up to date, also ones to come, until
    /// [`Cluster::untrack_all`] is called as often: for subscriptions by pattern.
    pub fn track_all(&self) {
        self.inner().cache.lock().track_all(Instant::now());
        self.inner().refresh.notify_one();
    }

    /// Undoes [`Cluster::track_all`].
    pub fn untrack_all(&self) {
        self.inner().cache.lock().untrack_all();
    }

    /// Has the metadata fetched anew soon, because something suggests that it is out of date. Any number
    /// of calls makes no more than one request per `retry.backoff.ms`, and fewer while nothing new comes.
    pub fn refresh_soon(&self) {
        self.inner().refresh_soon();
    }

    /// A topic that has partitions. Waits while the brokers do not know it, as they may not yet just
    /// after it was created. Its partitions may be without a leader.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Topic`] if the brokers refuse (no permission, an impossible name);
    /// [`Error::Deadline`], with what was last wrong; any error of connecting that trying again cannot
    /// mend; [`Error::Closed`].
    pub async fn topic(&self, name: &str, deadline: Instant) -> Result<Arc<Topic>, Error> {
        let inner = self.inner();
        if let Some(topic) = inner.snapshot.load().topic(name).filter(|t| t.is_usable()) {
            return Ok(topic.clone());
        }
        // In this order: an answer that comes in between is seen below.
        let mut progress = inner.progress.subscribe();
        let asked_at = progress.look(|progress| progress.answers);
        let _waiting = inner.begin_wait(name);
        let outcome = inner
            .wait_for_progress(&mut progress, deadline, |failure| {
                let snapshot = inner.snapshot.load();
                match snapshot.topic(name) {
                    Some(topic) if topic.is_usable() => return Some(Ok(topic.clone())),
                    // An error from before this call may be mended by now.
                    Some(topic)
                        if topic.error.is_err()
                            && !topic.error.is_retriable()
                            && inner.cache.lock().is_answered_since(name, asked_at) =>
                    {
                        return Some(Err(Error::Topic {
                            topic: name.to_owned(),
                            code: topic.error,
                        }));
                    }
                    _ => {}
                }
                failure
                    .filter(|failure| !failure.is_retriable())
                    .map(|failure| Err(failure.clone()))
            })
            .await;
        match outcome {
            Some(result) => result,
            None => Err(Error::Deadline {
                what: format!("finding topic {name:?}"),
                sent: Sent::No,
                last: inner.why_no_topic(name).map(Box::new),
            }),
        }
    }

    /// Waits until the cluster has been reached and its brokers are known. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Deadline`]; any error of connecting that trying again cannot mend; [`Error::Closed`].
    pub async fn ready(&self, deadline: Instant) -> Result<Arc<Metadata>, Error> {
        self.inner().ready(deadline).await
    }

    /// Takes in the leaders that an error reply told of (KIP-951), and the endpoints of brokers not known
    /// yet, as `(node, host, port, rack)`. Hints that are not newer than what is known change nothing.
    pub fn learn_leaders<'a>(
        &self,
        hints: &[LeaderHint<'_>],
        endpoints: impl IntoIterator<Item = (i32, &'a str, i32, Option<&'a str>)>,
    ) {
        let endpoints: Vec<_> = endpoints
            .into_iter()
            .map(|(node, host, port, rack)| Endpoint {
                node,
                host,
                port,
                rack,
            })
            .collect();
        self.inner().learn(hints, &endpoints);
    }

    /// The connection to a broker on a lane: shared, negotiated, made if there is none.
    ///
    /// Ask for it before every batch of requests rather than keeping it. Cancel-safe: an attempt to
    /// connect that was begun goes on for whoever asks next.
    ///
    /// # Errors
    /// [`Error::UnknownBroker`]; what the attempt failed with, after which the metadata is refreshed;
    /// [`Error::Deadline`]; [`Error::Closed`]. Nothing was sent in any case.
    pub async fn connection(
        &self,
        node: i32,
        lane: Lane,
        deadline: Instant,
    ) -> Result<Connection, Error> {
        let channel = self.channel(lane);
        self.inner().connection(node, channel, deadline).await
    }

    /// All connections that are open.
    pub fn connections(&self) -> Vec<Connection> {
        self.inner().pool.connections()
    }

    /// Ends all connections and tasks, and waits for these. Requests without an answer fail with
    /// [`Error::Disconnected`]. Always ends, after a second at the most; may be called more than once.
    pub async fn close(&self) {
        let inner = self.inner();
        inner.shut_down();
        inner.tasks.wait().await;
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.owner.inner
    }

    /// Which connection is meant by a lane.
    pub(crate) fn channel(&self, lane: Lane) -> Channel {
        let party = self.party.as_ref().map_or(SHARED, |party| party.number);
        Channel::of(lane, party)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("config", &self.inner().config)
            .field("generation", &self.metadata().generation())
            .finish_non_exhaustive()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.inner.shut_down();
    }
}

impl Inner {
    pub(crate) fn refresh_soon(&self) {
        self.cache.lock().request_refresh(Instant::now());
        self.refresh.notify_one();
    }

    async fn ready(&self, deadline: Instant) -> Result<Arc<Metadata>, Error> {
        let known = || {
            let snapshot = self.snapshot.load_full();
            let reached = snapshot.brokers().len() > 0;
            reached.then_some(snapshot)
        };
        if let Some(snapshot) = known() {
            return Ok(snapshot);
        }
        let mut progress = self.progress.subscribe();
        self.refresh_soon();
        let outcome = self
            .wait_for_progress(&mut progress, deadline, |failure| {
                known().map(Ok).or_else(|| {
                    failure
                        .filter(|failure| !failure.is_retriable())
                        .map(|failure| Err(failure.clone()))
                })
            })
            .await;
        match outcome {
            Some(result) => result,
            None => Err(Error::Deadline {
                what: "reaching the cluster".into(),
                sent: Sent::No,
                last: self.why_not_reached().map(Box::new),
            }),
        }
    }

    pub(crate) async fn connection(
        &self,
        node: i32,
        channel: Channel,
        deadline: Instant,
    ) -> Result<Connection, Error> {
        let snapshot = self.snapshot.load_full();
        let Some(broker) = snapshot.broker(node) else {
            self.refresh_soon();
            return Err(Error::UnknownBroker { node });
        };
        let outcome = self
            .pool
            .connection(&broker.peer(), channel, deadline)
            .await;
        if matches!(&outcome, Err(error) if error.is_retriable()) {
            self.refresh_soon();
        }
        outcome
    }

    fn learn(&self, hints: &[LeaderHint<'_>], endpoints: &[Endpoint<'_>]) {
        let mut cache = self.cache.lock();
        if cache.learn(hints, endpoints) {
            self.publish(cache.snapshot().clone());
        }
    }

    /// Shows a new snapshot. Called with the cache locked, so that snapshots appear in order.
    fn publish(&self, snapshot: Arc<Metadata>) {
        let generation = snapshot.generation();
        self.snapshot.store(snapshot);
        self.changes.send_replace(generation);
    }

    fn begin_wait(&self, name: &str) -> Waiting<'_> {
        self.cache.lock().begin_wait(Instant::now(), name);
        self.refresh.notify_one();
        Waiting {
            inner: self,
            name: name.into(),
        }
    }

    /// Waits until `look` finds something, looking after every answer and failure from now on. `None`
    /// at the deadline.
    async fn wait_for_progress<T>(
        &self,
        progress: &mut watch::Receiver<Progress>,
        deadline: Instant,
        mut look: impl FnMut(Option<&Error>) -> Option<Result<T, Error>>,
    ) -> Option<Result<T, Error>> {
        let looking = async {
            loop {
                tokio::select! {
                    biased;
                    () = self.closing.cancelled() => return Err(Error::Closed),
                    changed = progress.changed() => {
                        if changed.is_err() {
                            return Err(Error::Closed);
                        }
                    }
                }
                let failure = progress.look(|progress| progress.failure.clone());
                if let Some(found) = look(failure.as_ref()) {
                    return found;
                }
            }
        };
        timeout_at(deadline, looking).await.ok()
    }

    pub(crate) fn why_not_reached(&self) -> Option<Error> {
        if let Some(failure) = self.progress.look(|progress| progress.failure.clone()) {
            return Some(failure);
        }
        let reached = self.snapshot.load().brokers().len() > 0;
        (!reached).then(|| {
            let servers = self.config.bootstrap_servers.iter();
            let servers: Vec<_> = servers.map(ToString::to_string).collect();
            Error::NoAnswerYet {
                servers: servers.join(","),
            }
        })
    }

    fn why_no_topic(&self, name: &str) -> Option<Error> {
        if let Some(failure) = self.why_not_reached() {
            return Some(failure);
        }
        let snapshot = self.snapshot.load();
        let topic = snapshot.topic(name)?;
        Some(if topic.error.is_err() {
            Error::Topic {
                topic: name.to_owned(),
                code: topic.error,
            }
        } else {
            Error::NoPartitions {
                topic: name.to_owned(),
            }
        })
    }

    fn shut_down(&self) {
        self.tasks.close();
        self.pool.close();
    }
}

/// Somebody waits for a topic; nobody does any more when this is dropped.
struct Waiting<'a> {
    inner: &'a Inner,
    name: Str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut cache = self.inner.cache.lock();
        cache.end_wait(Instant::now(), &self.name);
    }
}
