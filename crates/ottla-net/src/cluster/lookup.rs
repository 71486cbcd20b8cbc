//! The task that looks coordinators up, for all who wait for one.

use std::sync::Arc;

use ottla_wire::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::cluster::cache::Endpoint;
use crate::cluster::coordinators::{Answer, CoordinatorKind, Lookup, Sighting};
use crate::cluster::{Cluster, Inner};
use crate::error::{Error, Sent};
use crate::pool::Lane;

impl Cluster {
    /// The broker that coordinates a group or transaction. Callers that ask for the same share one
    /// look-up; the answer is remembered until [`Cluster::forget_coordinator`].
    ///
    /// Cancel-safe: a caller that gives up takes the look-up from nobody.
    ///
    /// # Errors
    /// [`Error::Coordinator`] if the brokers refuse; [`Error::Deadline`], with what was last wrong;
    /// [`Error::Closed`].
    pub async fn coordinator(
        &self,
        kind: CoordinatorKind,
        key: &str,
        deadline: Instant,
    ) -> Result<i32, Error> {
        self.inner().coordinator(kind, key, deadline).await
    }

    /// Has the coordinator looked up anew by the next who asks: `node` said that it is not the
    /// coordinator (any more), or cannot be reached. Changes nothing if another one is known by now.
    pub fn forget_coordinator(&self, kind: CoordinatorKind, key: &str, node: i32) {
        self.inner().coordinators.lock().forget(kind, key, node);
    }
}

impl Inner {
    pub(super) async fn coordinator(
        &self,
        kind: CoordinatorKind,
        key: &str,
        deadline: Instant,
    ) -> Result<i32, Error> {
        let wanted = self.coordinators.lock().want(Instant::now(), kind, key);
        let mut found = match wanted {
            Ok(node) => return Ok(node),
            Err(found) => found,
        };
        self.lookup.notify_one();
        let waiting = async {
            let sighting = found.wait_for(|sighting| match sighting {
                Sighting::Found(node) => Some(Ok(*node)),
                Sighting::Refused(error) => Some(Err(error.clone())),
                Sighting::Looking(_) => None,
            });
            sighting.await.unwrap_or(Err(Error::Closed))
        };
        let outcome = tokio::select! {
            biased;
            () = self.closing.cancelled() => return Err(Error::Closed),
            outcome = timeout_at(deadline, waiting) => outcome,
        };
        outcome.unwrap_or_else(|_| {
            let last = found.look(|sighting| match sighting {
                Sighting::Looking(Some(error)) => Some(error.clone()),
                _ => None,
            });
            let last = last.or_else(|| self.why_not_reached());
            Err(Error::Deadline {
                what: format!("finding the coordinator of {key:?}"),
                sent: Sent::No,
                last: last.map(Box::new),
            })
        })
    }
}

pub(super) async fn run(inner: Arc<Inner>) {
    let work = async {
        loop {
            let (lookups, next) = {
                let mut coordinators = inner.coordinators.lock();
                let lookups = coordinators.poll_lookups(Instant::now());
                (lookups, coordinators.next_lookup_at())
            };
            for lookup in lookups {
                // Each by itself: one that waits for a silent broker delays no other.
                let inner_of_task = inner.clone();
                inner.tasks.spawn_on(
                    async move { look_up(&inner_of_task, lookup).await },
                    &inner.runtime,
                );
            }
            tokio::select! {
                biased;
                () = inner.lookup.notified() => {}
                () = async {
                    match next {
                        Some(at) => sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    };
    tokio::select! {
        biased;
        () = inner.closing.cancelled() => {}
        () = work => {}
    }
}

/// Makes one look-up and tells those who wait.
async fn look_up(inner: &Inner, lookup: Lookup) {
    tokio::select! {
        biased;
        () = inner.closing.cancelled() => {}
        outcome = ask(inner, &lookup) => {
            let failure = outcome.err();
            if let Some(error) = &failure {
                tracing::debug!(?lookup, %error, "no answer about coordinators");
            }
            // Keys that were answered are not in flight any more; this is about the others.
            let mut coordinators = inner.coordinators.lock();
            let random = fastrand::f64();
            coordinators.handle_failure(Instant::now(), &lookup, failure.as_ref(), random);
        }
    }
    inner.lookup.notify_one();
}

async fn ask(inner: &Inner, lookup: &Lookup) -> Result<(), Error> {
    let deadline = Instant::now() + inner.config.request_timeout;
    let connection = inner.any_connection(Lane::Control, deadline).await?;
    let version = connection.version::<FindCoordinatorRequest>(i16::MAX)?;
    let request_deadline = connection.request_deadline();
    if version >= FIRST_VERSION_WITH_SEVERAL_KEYS {
        let request = FindCoordinatorRequest {
            key_type: lookup.kind as i8,
            coordinator_keys: lookup.keys.clone(),
            ..Default::default()
        };
        let response = connection
            .submit(&request, version, request_deadline)?
            .await?;
        settle(inner, lookup.kind, &response, &lookup.keys[0]);
        return Ok(());
    }
    // Pipelined: sent together, answered one by one.
    let mut pending = Vec::with_capacity(lookup.keys.len());
    for key in &lookup.keys {
        let request = FindCoordinatorRequest {
            key: key.clone(),
            key_type: lookup.kind as i8,
            ..Default::default()
        };
        pending.push((key, connection.submit(&request, version, request_deadline)?));
    }
    for (key, pending) in pending {
        settle(inner, lookup.kind, &pending.await?, key);
    }
    Ok(())
}

fn settle(inner: &Inner, kind: CoordinatorKind, response: &FindCoordinatorResponse, only: &str) {
    let answers = Answer::all_of(response, only);
    // The coordinator may be a broker that the metadata does not list yet.
    let endpoints: Vec<_> = answers
        .iter()
        .filter(|answer| answer.is_found())
        .filter(|answer| inner.snapshot.load().broker(answer.node).is_none())
        .map(|answer| Endpoint {
            node: answer.node,
            host: answer.host,
            port: answer.port,
            rack: None,
        })
        .collect();
    inner.learn(&[], &endpoints);
    let mut coordinators = inner.coordinators.lock();
    for answer in &answers {
        coordinators.handle_answer(Instant::now(), kind, answer, fastrand::f64());
    }
}

/// From here on one request asks for any number of keys (KIP-699).
const FIRST_VERSION_WITH_SEVERAL_KEYS: i16 = 4;
