//! One request, tried again until it is answered or its deadline passes.

use ottla_wire::{ErrorCode, Request};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::cluster::coordinators::CoordinatorKind;
use crate::cluster::{Cluster, Inner};
use crate::connection::Connection;
use crate::error::{Error, Sent};
use crate::pool::{Channel, Lane};

/// Whom a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To<'a> {
    /// Any broker; one that is connected, if there is one.
    Any,
    /// The broker with this id.
    Node(i32),
    /// The controller.
    Controller,
    /// The coordinator of a group or transaction.
    Coordinator(CoordinatorKind, &'a str),
}

impl Cluster {
    /// Makes a request, trying again after errors of the connection until `deadline`.
    ///
    /// `request` builds it for the version that both sides speak, at most `version_max`. Error codes in
    /// the response are the caller's business: see [`Cluster::call_checked`] to have them tried again.
    ///
    /// A request whose reply was lost is sent again: use this for what may be carried out twice.
    /// Cancel-safe in that nothing else suffers; the request may have been sent.
    ///
    /// # Errors
    /// The first error that trying again cannot mend; [`Error::Deadline`] with the last one.
    pub async fn call<R: Request>(
        &self,
        to: To<'_>,
        lane: Lane,
        version_max: i16,
        request: impl Fn(i16) -> R,
        deadline: Instant,
    ) -> Result<R::Response, Error> {
        let check = |_: &R::Response| ErrorCode::NONE;
        self.call_checked(to, lane, version_max, request, check, deadline)
            .await
    }

    /// [`Cluster::call`] that also tries again after retriable error codes. `check` finds in the
    /// response the code that decides ([`ErrorCode::NONE`] if there is none).
    ///
    /// A code that says that metadata or coordinator are out of date has these found out anew. At
    /// the deadline, and for a code that is not retriable, the response is returned as it is: `Ok`
    /// means that a broker answered.
    ///
    /// # Errors
    /// As [`Cluster::call`].
    pub async fn call_checked<R: Request>(
        &self,
        to: To<'_>,
        lane: Lane,
        version_max: i16,
        request: impl Fn(i16) -> R,
        check: impl Fn(&R::Response) -> ErrorCode,
        deadline: Instant,
    ) -> Result<R::Response, Error> {
        let inner = self.inner();
        let channel = self.channel(lane);
        let policy = inner.config.retry_policy();
        let mut failures = 0;
        let mut sent = Sent::No;
        loop {
            let attempt = inner.attempt(to, channel, version_max, &request, deadline);
            let outcome = match attempt.await {
                Ok((response, node)) => {
                    let code = check(&response);
                    if !code.is_retriable() {
                        return Ok(response);
                    }
                    tracing::debug!(api = %R::KEY, ?to, code = code.name(), "to be tried again");
                    inner.heed(to, node, code);
                    Ok(response)
                }
                Err(error) => {
                    if error.sent() == Sent::Maybe {
                        sent = Sent::Maybe;
                    }
                    if !error.is_retriable() && !error.is_timeout() {
                        return Err(error);
                    }
                    tracing::debug!(api = %R::KEY, ?to, %error, "to be tried again");
                    inner.heed_loss(to);
                    Err(error)
                }
            };
            failures += 1;
            let next_at = Instant::now() + policy.random_delay(failures);
            if next_at < deadline && !matches!(outcome, Err(Error::Deadline { .. })) {
                sleep_until(next_at).await;
                continue;
            }
            return outcome.map_err(|error| match error {
                Error::Deadline { what, last, .. } => Error::Deadline { what, sent, last },
                error => Error::Deadline {
                    what: format!("the {} request", R::KEY),
                    sent,
                    last: Some(Box::new(error)),
                },
            });
        }
    }
}

impl Inner {
    /// One attempt. Also says which broker answered, if its id is known.
    async fn attempt<R: Request>(
        &self,
        to: To<'_>,
        channel: Channel,
        version_max: i16,
        request: impl Fn(i16) -> R,
        deadline: Instant,
    ) -> Result<(R::Response, Option<i32>), Error> {
        let connection = match to {
            To::Any => self.any_connection(channel, deadline).await?,
            To::Node(node) => {
                self.ready(deadline).await?;
                self.connection(node, channel, deadline).await?
            }
            To::Controller => {
                let known = self.ready(deadline).await?;
                let controller = known.controller().ok_or(Error::NotKnownYet {
                    what: "the controller",
                })?;
                self.connection(controller, channel, deadline).await?
            }
            To::Coordinator(kind, key) => {
                let node = self.coordinator(kind, key, deadline).await?;
                let connected = self.connection(node, channel, deadline).await;
                if matches!(&connected, Err(error) if error.is_retriable()) {
                    self.coordinators.lock().forget(kind, key, node);
                }
                connected?
            }
        };
        let version = connection.version::<R>(version_max)?;
        let submitted_at = Instant::now();
        let patience = connection.request_deadline().min(deadline);
        let reply = connection.submit(&request(version), version, patience)?;
        // A throttle moves the request's own deadline back, but not the caller's.
        match timeout_at(deadline, reply).await {
            Ok(outcome) => Ok((outcome?, connection.peer().node)),
            Err(_) => Err(Error::TimedOut {
                peer: connection.peer().clone(),
                api: R::KEY,
                sent: Sent::Maybe,
                waited: submitted_at.elapsed(),
            }),
        }
    }

    /// A connection to some broker: one that is connected, if there is one.
    pub(super) async fn any_connection(
        &self,
        channel: impl Into<Channel>,
        deadline: Instant,
    ) -> Result<Connection, Error> {
        let known = self.ready(deadline).await?;
        let mut peers: Vec<_> = known.brokers().map(|broker| broker.peer()).collect();
        fastrand::shuffle(&mut peers);
        let best = peers.into_iter().min_by_key(|peer| {
            let connected = peer.node.is_some_and(|node| self.pool.is_connected(node));
            (self.pool.is_backing_off(peer), !connected)
        });
        let peer = best.ok_or(Error::NotKnownYet {
            what: "any broker of the cluster",
        })?;
        let outcome = self.pool.connection(&peer, channel, deadline).await;
        if matches!(&outcome, Err(error) if error.is_retriable()) {
            self.refresh_soon();
        }
        outcome
    }

    /// Does what an error code asks for.
    fn heed(&self, to: To<'_>, node: Option<i32>, code: ErrorCode) {
        if code.refreshes_metadata() {
            self.refresh_soon();
        }
        if let (To::Coordinator(kind, key), Some(node)) = (to, node)
            && code.rediscovers_coordinator()
        {
            self.coordinators.lock().forget(kind, key, node);
        }
    }

    /// The connection failed: what was known of whom to ask may be out of date.
    fn heed_loss(&self, to: To<'_>) {
        match to {
            To::Any => {}
            To::Node(_) | To::Controller | To::Coordinator(..) => self.refresh_soon(),
        }
    }
}
