//! The connections of a client: one for each broker and [`Lane`], made when first asked for.
//!
//! Owns the connections, the attempts to make them and the waits between attempts. An attempt is a
//! task of its own that serves everyone who waits for that connection: a caller who gives up takes
//! nothing from the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::address::Address;
use crate::backoff::Backoff;
use crate::config::ClusterConfig;
use crate::connection::{Connection, Driver, Limits, Setup};
use crate::error::{CloseCause, Error, Peer, Sent};
use crate::transport::Connector;
use crate::watch;

/// What a connection is for. Each broker has one connection for each, so that no bulk transfer and no
/// long poll ever holds up a heartbeat: a broker works on one request of a connection at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Produce requests.
    Produce,
    /// Fetch requests.
    Fetch,
    /// Requests to a group or transaction coordinator.
    Coordination,
    /// Metadata, administration and everything else.
    Control,
}

/// A lane, and whose it is.
///
/// A broker works on one request of a connection at a time, and some it keeps: a Fetch until there are records, a
/// JoinGroup until all members have joined. Two consumers on one connection would wait for each other, so
/// that each is a party with lanes of its own for these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Channel {
    lane: Lane,
    /// [`SHARED`], or the party's number.
    party: u64,
}

impl Channel {
    /// The connection that `party` uses for `lane`: its own where a request may be kept, else everybody's.
    pub(crate) fn of(lane: Lane, party: u64) -> Self {
        let party = match lane {
            Lane::Fetch | Lane::Coordination => party,
            Lane::Produce | Lane::Control => SHARED,
        };
        Self { lane, party }
    }
}

impl From<Lane> for Channel {
    fn from(lane: Lane) -> Self {
        Self::of(lane, SHARED)
    }
}

/// The party of all who do not ask for lanes of their own.
pub(crate) const SHARED: u64 = 0;

/// All connections of one client.
#[derive(Debug)]
pub(crate) struct Pool {
    config: Arc<ClusterConfig>,
    client_id: Arc<str>,
    connector: Arc<dyn Connector>,
    runtime: Handle,
    tasks: TaskTracker,
    closing: CancellationToken,
    state: Mutex<State>,
    /// Told whenever a connection is lost for a reason that suggests that leaders have moved.
    pub(crate) lost: Notify,
}

#[derive(Debug, Default)]
struct State {
    targets: BTreeMap<Target, Reach>,
    /// Every connection that has not ended, also those no longer handed out.
    live: BTreeMap<u64, Connection>,
}

/// Whom a connection is to. A bootstrap server is not the broker that it turns out to be: its connection
/// is only for learning who the brokers are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Broker(i32),
    Bootstrap(Address),
}

/// How one broker is being reached.
#[derive(Debug)]
struct Reach {
    address: Address,
    lanes: BTreeMap<Channel, Slot>,
    /// Attempts that failed since one succeeded, on any lane.
    failures: u32,
    /// No attempt before this, and why.
    backing_off: Option<(Instant, Error)>,
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Vacant,
    Connecting(watch::Receiver<Option<Result<Connection, Error>>>),
    Ready(Connection),
}

/// What to do to get a connection.
enum Step {
    Done(Connection),
    Await(watch::Receiver<Option<Result<Connection, Error>>>),
    Drain(Connection),
    BackOff(Instant, Error),
}

impl Pool {
    pub(crate) fn new(
        config: Arc<ClusterConfig>,
        connector: Arc<dyn Connector>,
        runtime: Handle,
        tasks: TaskTracker,
        closing: CancellationToken,
    ) -> Self {
        Self {
            client_id: config.client_id.as_str().into(),
            config,
            connector,
            runtime,
            tasks,
            closing,
            state: Mutex::default(),
            lost: Notify::new(),
        }
    }

    /// The connection to a broker on a lane, made if there is none. Cancel-safe: an attempt that was
    /// started goes on, for whoever asks next.
    ///
    /// # Errors
    /// What the attempt failed with; [`Error::Deadline`]; [`Error::Closed`]. While a broker that could
    /// not be reached is given a rest, the last failure, if the rest outlasts the deadline.
    pub(crate) async fn connection(
        self: &Arc<Self>,
        peer: &Peer,
        channel: impl Into<Channel>,
        deadline: Instant,
    ) -> Result<Connection, Error> {
        let channel = channel.into();
        let connecting = async {
            loop {
                match self.step(peer, channel)? {
                    Step::Done(connection) => return Ok(connection),
                    Step::Drain(connection) => connection.ended().await,
                    Step::BackOff(until, error) if until >= deadline => return Err(error),
                    Step::BackOff(until, _) => sleep_until(until).await,
                    Step::Await(mut attempt) => match attempt.wait_for(Option::clone).await {
                        Ok(Ok(connection)) if !connection.is_usable() => {}
                        Ok(outcome) => return outcome,
                        Err(watch::Gone) => return Err(self.abandoned(peer)),
                    },
                }
            }
        };
        match timeout_at(deadline, connecting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Deadline {
                what: format!("connecting to {peer}"),
                sent: Sent::No,
                last: self.last_failure(peer).map(Box::new),
            }),
        }
    }

    /// Whether a connection to the broker is ready on any lane.
    pub(crate) fn is_connected(&self, node: i32) -> bool {
        let state = self.state.lock();
        state
            .targets
            .get(&Target::Broker(node))
            .is_some_and(|reach| {
                reach
                    .lanes
                    .values()
                    .any(|slot| matches!(slot, Slot::Ready(connection) if connection.is_usable()))
            })
    }

    /// Whether the broker is being given a rest after failed attempts.
    pub(crate) fn is_backing_off(&self, peer: &Peer) -> bool {
        let state = self.state.lock();
        state
            .targets
            .get(&Target::of(peer))
            .and_then(|reach| reach.backing_off.as_ref())
            .is_some_and(|(until, _)| *until > Instant::now())
    }

    /// All connections that have not ended.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        self.state.lock().live.values().cloned().collect()
    }

    /// Closes the connections to bootstrap servers: their brokers are known by id now.
    pub(crate) fn close_bootstrap(&self) {
        self.retain(|target, _| matches!(target, Target::Broker(_)));
    }

    /// Closes the connections to brokers that are at another address now. Those to brokers not known
    /// (any more) stay: one that is shutting down, or that the broker asked does not see yet, still
    /// answers.
    pub(crate) fn close_moved(&self, address_of: impl Fn(i32) -> Option<Address>) {
        self.retain(|target, reach| match target {
            Target::Broker(node) => address_of(*node).is_none_or(|now| now == reach.address),
            Target::Bootstrap(_) => true,
        });
    }

    /// Closes the connections that are a party's own: it has gone.
    pub(crate) fn close_party(&self, party: u64) {
        let mut dropped = Vec::new();
        for reach in self.state.lock().targets.values_mut() {
            reach.lanes.retain(|channel, slot| {
                let kept = channel.party != party;
                if !kept {
                    dropped.extend(slot.take_ready());
                }
                kept
            });
        }
        for connection in dropped {
            connection.close(CloseCause::ByClient);
        }
    }

    /// Ends all connections and attempts. What waits for them gets [`Error::Closed`] or
    /// [`Error::Disconnected`].
    pub(crate) fn close(&self) {
        self.closing.cancel();
        let connections = self.connections();
        for connection in connections {
            connection.close(CloseCause::ByClient);
        }
    }

    fn retain(&self, keep: impl Fn(&Target, &Reach) -> bool) {
        let mut dropped = Vec::new();
        self.state.lock().targets.retain(|target, reach| {
            let kept = keep(target, reach);
            if !kept {
                dropped.extend(reach.lanes.values_mut().filter_map(Slot::take_ready));
            }
            kept
        });
        for connection in dropped {
            connection.close(CloseCause::Moved);
        }
    }

    /// Decides what is next on the way to a connection, and starts an attempt if that is it.
    fn step(self: &Arc<Self>, peer: &Peer, channel: Channel) -> Result<Step, Error> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if self.closing.is_cancelled() {
            return Err(Error::Closed);
        }
        let reach = state
            .targets
            .entry(Target::of(peer))
            .or_insert_with(|| Reach::new(peer.address.clone()));
        if reach.address != peer.address {
            let moved = std::mem::replace(reach, Reach::new(peer.address.clone()));
            for mut slot in moved.lanes.into_values() {
                if let Some(connection) = slot.take_ready() {
                    connection.close(CloseCause::Moved);
                }
            }
        }

        let slot = reach.lanes.entry(channel).or_default();
        match slot {
            Slot::Ready(connection) if connection.is_usable() => {
                return Ok(Step::Done(connection.clone()));
            }
            // Requests of an idempotent producer must not overtake each other on two connections.
            Slot::Ready(connection) if channel.lane == Lane::Produce && !connection.has_ended() => {
                return Ok(Step::Drain(connection.clone()));
            }
            // An attempt without a sender has panicked, in somebody's connector or authenticator.
            Slot::Connecting(attempt) if !attempt.is_gone() => {
                return Ok(Step::Await(attempt.clone()));
            }
            Slot::Connecting(_) | Slot::Ready(_) | Slot::Vacant => {}
        }
        if let Some((until, error)) = reach.backing_off.clone().filter(|(until, _)| *until > now) {
            return Ok(Step::BackOff(until, error));
        }
        let (outcome, attempt) = watch::channel(None);
        *slot = Slot::Connecting(attempt.clone());
        let failures = reach.failures;
        drop(state);

        let pool = self.clone();
        let peer = peer.clone();
        self.tasks.spawn_on(
            async move { pool.attempt(peer, channel, failures, outcome).await },
            &self.runtime,
        );
        Ok(Step::Await(attempt))
    }

    /// One attempt to make one connection, told to all who wait for it.
    async fn attempt(
        self: Arc<Self>,
        peer: Peer,
        channel: Channel,
        failures: u32,
        outcome: watch::Sender<Option<Result<Connection, Error>>>,
    ) {
        let opened = tokio::select! {
            biased;
            () = self.closing.cancelled() => Err(Error::Closed),
            opened = self.open(&peer, failures) => opened,
        };
        let mut state = self.state.lock();
        // A broker that moved meanwhile is being reached anew.
        let reach = state
            .targets
            .get_mut(&Target::of(&peer))
            .filter(|reach| reach.address == peer.address);
        let result = match opened {
            Ok((connection, driver)) => {
                let mut is_wanted = true;
                if let Some(reach) = reach {
                    reach.failures = 0;
                    reach.backing_off = None;
                    match reach.lanes.get_mut(&channel) {
                        Some(slot) => *slot = Slot::Ready(connection.clone()),
                        // Its party has gone meanwhile.
                        None => is_wanted = false,
                    }
                }
                state.live.insert(connection.id(), connection.clone());
                let pool = self.clone();
                let id = connection.id();
                self.tasks.spawn_on(
                    async move {
                        let cause = driver.run().await;
                        pool.forget(id, &cause);
                    },
                    &self.runtime,
                );
                // `close` may have collected the connections before this one was among them.
                if self.closing.is_cancelled() || !is_wanted {
                    connection.close(CloseCause::ByClient);
                }
                Ok(connection)
            }
            Err(error) => {
                tracing::debug!(%peer, lane = ?channel.lane, %error, "could not connect");
                if let Some(reach) = reach {
                    reach.failures = reach.failures.saturating_add(1);
                    let policy = self.config.reconnect_policy();
                    let until = Instant::now() + policy.random_delay(reach.failures);
                    reach.backing_off = Some((until, error.clone()));
                    reach.lanes.remove(&channel);
                }
                Err(error)
            }
        };
        drop(state);
        outcome.send_replace(Some(result));
    }

    async fn open(&self, peer: &Peer, failures: u32) -> Result<(Connection, Driver), Error> {
        let config = &self.config;
        let patience = Backoff::new(config.connect_timeout, config.connect_timeout_max)
            .random_delay(failures.saturating_add(1));
        let stream = self
            .connector
            .connect(&peer.address, patience)
            .await
            .map_err(|cause| Error::Connect {
                peer: peer.clone(),
                cause: cause.into(),
            })?;
        let setup = Setup {
            peer: peer.clone(),
            client_id: self.client_id.clone(),
            authenticator: config.authenticator.clone(),
            negotiation_timeout: patience,
            frame_bytes_max: config.receive_message_max_bytes,
            lifetime_max: config.connection_lifetime_max,
            limits: Limits {
                requests_max: config.connection_requests_max,
                queue_bytes_max: config.connection_queue_bytes_max,
                request_timeout: config.request_timeout,
                idle_max: config.connection_idle_max,
                retire_at: None,
            },
        };
        setup.handshake(stream).await
    }

    fn forget(&self, id: u64, cause: &CloseCause) {
        let mut state = self.state.lock();
        state.live.remove(&id);
        for reach in state.targets.values_mut() {
            reach.lanes.retain(
                |_, slot| !matches!(slot, Slot::Ready(connection) if connection.id() == id),
            );
        }
        drop(state);
        if cause.is_sudden() {
            self.lost.notify_one();
        }
    }

    /// Why an attempt ended without an outcome.
    fn abandoned(&self, peer: &Peer) -> Error {
        if self.closing.is_cancelled() {
            return Error::Closed;
        }
        Error::Handshake {
            peer: peer.clone(),
            reason: "the connector or authenticator panicked".into(),
            retriable: false,
        }
    }

    fn last_failure(&self, peer: &Peer) -> Option<Error> {
        let state = self.state.lock();
        let reach = state.targets.get(&Target::of(peer))?;
        reach.backing_off.as_ref().map(|(_, error)| error.clone())
    }
}

impl Target {
    fn of(peer: &Peer) -> Self {
        match peer.node {
            Some(node) => Self::Broker(node),
            None => Self::Bootstrap(peer.address.clone()),
        }
    }
}

impl Reach {
    fn new(address: Address) -> Self {
        Self {
            address,
            lanes: BTreeMap::new(),
            failures: 0,
            backing_off: None,
        }
    }
}

impl Slot {
    fn take_ready(&mut self) -> Option<Connection> {
        match std::mem::take(self) {
            Slot::Ready(connection) => Some(connection),
            Slot::Vacant | Slot::Connecting(_) => None,
        }
    }
}
