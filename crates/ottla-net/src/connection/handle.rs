//! What the layers above hold of a connection: it, and the replies they wait for.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use ottla_wire::{Message, Request, decode_response, encode_request};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::connection::core::{Core, Outcome, Submission};
use crate::connection::versions::BrokerVersions;
use crate::error::{CloseCause, Error, Peer, Sent};
use crate::watch;

/// A connection to a broker, negotiated and ready. Cheap to clone; clones are the same connection.
///
/// Requests are pipelined: they are sent in the order of the calls of [`Connection::submit`], and
/// the broker answers them in that order. Get one anew from [`Cluster::connection`] for every batch of
/// requests rather than keeping it: a connection ends when the broker closes it, when it is idle, or
/// when it is due to be replaced.
///
/// [`Cluster::connection`]: crate::Cluster::connection
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

/// What handles, replies and the driver share.
pub(super) struct Shared {
    /// Tells connections of this process apart.
    pub(super) id: u64,
    pub(super) peer: Peer,
    pub(super) versions: BrokerVersions,
    pub(super) client_id: Arc<str>,
    pub(super) request_timeout: Duration,
    pub(super) correlation_id: AtomicI32,
    pub(super) counters: Counters,
    pub(super) state: Mutex<State>,
    /// Turns true when the connection has ended.
    pub(super) ended: watch::Sender<bool>,
}

pub(super) struct State {
    pub(super) core: Core<Waiter>,
    /// The driver, while it waits for something to do.
    pub(super) driver: Option<Waker>,
    /// Why the driver shall close the connection.
    pub(super) close_asked: Option<CloseCause>,
}

pub(super) type Waiter = oneshot::Sender<Result<Bytes, Error>>;

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) replies: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) bytes_in: AtomicU64,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The highest version of `R` that this library and the broker both speak, at most `cap`
    /// (`i16::MAX` for no cap).
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there is none.
    pub fn version<R: Request>(&self, cap: i16) -> Result<i16, Error> {
        self.shared.versions.choose::<R>(cap, &self.shared.peer)
    }

    /// What the broker can do.
    pub fn versions(&self) -> &BrokerVersions {
        &self.shared.versions
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.shared.peer
    }

    /// A number that no other connection of this process has. Two connections to one broker differ.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Queues a request, behind all that were submitted before, and returns without waiting.
    ///
    /// `deadline` is the request's patience: when it passes without a reply, the reply is
    /// [`Error::TimedOut`]. Mostly [`Connection::request_deadline`]. It moves back by the time for which
    /// the broker throttles this client (KIP-219); a caller with a time limit of its own puts that
    /// around the [`Pending`].
    ///
    /// # Errors
    /// Nothing was queued: [`Error::Disconnected`] if the connection has ended or is due to be
    /// replaced (get another one), [`Error::ConnectionFull`] at its bounds, [`Error::Encode`] if
    /// `version` cannot carry the request.
    pub fn submit<R: Request>(
        &self,
        request: &R,
        version: i16,
        deadline: Instant,
    ) -> Result<Pending<R>, Error> {
        let reply = self.enqueue(request, version, deadline, true)?;
        Ok(Pending {
            connection: self.clone(),
            reply,
            version,
            response: PhantomData,
        })
    }

    /// Queues a request that the broker does not answer: Produce with `acks=0`.
    ///
    /// # Errors
    /// As [`Connection::submit`].
    pub fn submit_no_reply<R: Request>(
        &self,
        request: &R,
        version: i16,
        deadline: Instant,
    ) -> Result<Written, Error> {
        let written = self.enqueue(request, version, deadline, false)?;
        Ok(Written {
            connection: self.clone(),
            written,
        })
    }

    /// `request.timeout.ms` from now, later while the broker has this client wait.
    pub fn request_deadline(&self) -> Instant {
        Instant::now() + self.shared.request_timeout
    }

    /// Whether a request submitted now would be taken, its bounds aside.
    pub fn is_usable(&self) -> bool {
        let state = self.shared.state.lock();
        state.close_asked.is_none() && state.core.is_usable(Instant::now())
    }

    /// How much longer the broker has this client wait before it may send (KIP-219).
    pub fn muted_for(&self) -> Duration {
        self.shared.state.lock().core.muted_for(Instant::now())
    }

    /// Requests submitted and not answered.
    pub fn in_flight(&self) -> usize {
        self.shared.state.lock().core.len()
    }

    /// What the connection has carried so far.
    pub fn stats(&self) -> ConnectionStats {
        let counters = &self.shared.counters;
        ConnectionStats {
            requests: counters.requests.load(Ordering::Relaxed),
            replies: counters.replies.load(Ordering::Relaxed),
            bytes_out: counters.bytes_out.load(Ordering::Relaxed),
            bytes_in: counters.bytes_in.load(Ordering::Relaxed),
        }
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.look(|ended| *ended)
    }

    /// Waits for the end of the connection. Cancel-safe.
    pub async fn ended(&self) {
        let mut ended = self.shared.ended.subscribe();
        // An error means that the sender is gone, and it lives as long as `self`.
        let _ = ended.wait_for(|ended| ended.then_some(())).await;
    }

    /// Ends the connection soon; its unanswered requests fail with `cause`.
    pub(crate) fn close(&self, cause: CloseCause) {
        let driver = {
            let mut state = self.shared.state.lock();
            state.close_asked.get_or_insert(cause);
            state.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    fn enqueue<R: Request>(
        &self,
        request: &R,
        version: i16,
        deadline: Instant,
        answered: bool,
    ) -> Result<oneshot::Receiver<Result<Bytes, Error>>, Error> {
        let shared = &*self.shared;
        let correlation_id = shared.next_correlation_id();
        let frame = encode_request(request, version, correlation_id, Some(&shared.client_id))
            .map_err(|source| Error::Encode {
                peer: shared.peer.clone(),
                source,
            })?;
        let (waiter, reply) = oneshot::channel();
        let submission = Submission {
            api: R::KEY,
            correlation_id,
            frame,
            deadline,
            answered,
            waiter,
        };
        let driver = {
            let mut state = shared.state.lock();
            if let Some(cause) = &state.close_asked {
                return Err(shared.unsent(R::KEY, cause.clone()));
            }
            state.core.submit(Instant::now(), submission)?;
            state.driver.take()
        };
        shared.counters.requests.fetch_add(1, Ordering::Relaxed);
        // Only the first of a batch of requests finds the driver waiting.
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(reply)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.shared.id)
            .field("peer", &self.shared.peer)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn next_correlation_id(&self) -> i32 {
        // Ids repeat after 2^31 requests; no connection holds that many at once.
        self.correlation_id.fetch_add(1, Ordering::Relaxed) & i32::MAX
    }

    fn unsent(&self, api: ottla_wire::ApiKey, cause: CloseCause) -> Error {
        Error::Disconnected {
            peer: self.peer.clone(),
            api: Some(api),
            sent: Sent::No,
            cause,
        }
    }

    /// Mutes the connection for as long as a reply says.
    fn throttle(&self, throttle_time_ms: i32) {
        let Ok(ms @ 1..) = u64::try_from(throttle_time_ms) else {
            return;
        };
        tracing::debug!(peer = %self.peer, throttle_time_ms, "throttled by the broker");
        let driver = {
            let mut state = self.state.lock();
            state.core.mute(Instant::now(), Duration::from_millis(ms));
            state.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

/// Tells the waiters; they wake once each, outside the connection's lock.
pub(super) fn deliver(outcomes: &mut Vec<Outcome<Waiter>>) {
    for (waiter, outcome) in outcomes.drain(..) {
        // Nobody may be waiting any more: dropping a `Pending` drops the reply.
        let _ = waiter.send(outcome);
    }
}

/// A reply to come: a future of the response.
///
/// Dropping it drops the reply and nothing else; the request is still sent. Cancel-safe: may be polled
/// from anywhere, as often as wanted, until it is ready.
///
/// The response is decoded by whoever polls this, not by the connection's task.
///
/// # Errors
/// [`Error::TimedOut`], [`Error::Disconnected`], [`Error::Decode`], [`Error::ResponseTooLarge`].
/// [`Error::sent`] says whether the broker may have carried the request out. Error codes *in* the
/// response are the caller's.
#[must_use = "a reply arrives only at who awaits it"]
pub struct Pending<R> {
    connection: Connection,
    reply: oneshot::Receiver<Result<Bytes, Error>>,
    version: i16,
    response: PhantomData<fn() -> R>,
}

impl<R> Pending<R> {
    /// The connection that the request went to.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The version of the request, and so of the response.
    pub fn version(&self) -> i16 {
        self.version
    }
}

impl<R: Request> Future for Pending<R> {
    type Output = Result<R::Response, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.reply).poll(cx));
        let shared = &*self.connection.shared;
        let body = outcome.unwrap_or_else(|_| Err(driver_gone::<R>(shared)))?;
        let response =
            decode_response::<R>(self.version, body).map_err(|source| Error::Decode {
                peer: shared.peer.clone(),
                api: R::KEY,
                source,
            })?;
        shared.throttle(response.throttle_time_ms());
        Poll::Ready(Ok(response))
    }
}

impl<R> fmt::Debug for Pending<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("peer", &self.connection.shared.peer)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A request without a reply on its way: a future of its having been given to the socket.
///
/// Dropping it changes nothing.
#[must_use = "whether the request was written is told only to who awaits it"]
pub struct Written {
    connection: Connection,
    written: oneshot::Receiver<Result<Bytes, Error>>,
}

impl Future for Written {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.written).poll(cx));
        let shared = &*self.connection.shared;
        Poll::Ready(match outcome {
            Ok(outcome) => outcome.map(drop),
            Err(_) => Err(Error::Disconnected {
                peer: shared.peer.clone(),
                api: None,
                sent: Sent::Maybe,
                cause: CloseCause::ByClient,
            }),
        })
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written")
            .field("peer", &self.connection.shared.peer)
            .finish_non_exhaustive()
    }
}

/// The waiter was dropped unanswered. Only a runtime that is shut down does that to a driver.
fn driver_gone<R: Request>(shared: &Shared) -> Error {
    Error::Disconnected {
        peer: shared.peer.clone(),
        api: Some(R::KEY),
        sent: Sent::Maybe,
        cause: CloseCause::ByClient,
    }
}

/// What a connection has carried since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionStats {
    /// Requests submitted.
    pub requests: u64,
    /// Responses received.
    pub replies: u64,
    /// Bytes given to the socket.
    pub bytes_out: u64,
    /// Bytes taken from the socket.
    pub bytes_in: u64,
}
