//! The administration client: deadlines, and the loop that asks again.

use std::time::Duration;

use ottla_net::{Backoff, Cluster, Instant, Lane, To};
use ottla_wire::Request;

use crate::Error;
use crate::items::{Answer, Items, Results};

/// Administers a cluster. Cheap to clone; all clones and the [`Cluster`] share connections.
///
/// Every call ends within [`Admin::timeout`] and can be cancelled by dropping its future. A change
/// that is cancelled, or whose answer is lost, may have happened: look before repeating it.
#[derive(Debug, Clone)]
pub struct Admin {
    pub(crate) cluster: Cluster,
    timeout: Duration,
    backoff: Backoff,
}

impl Admin {
    /// A client over the connections of `cluster`. Calls take 60 seconds at most, see
    /// [`Admin::with_timeout`].
    pub fn new(cluster: Cluster) -> Admin {
        Admin {
            cluster,
            timeout: Duration::from_secs(60),
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
        }
    }

    /// The same client with another bound for how long a call may take, retries included
    /// (`default.api.timeout.ms`).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Admin {
        self.timeout = timeout;
        self
    }

    /// How long a call may take, retries included.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// What is left until the deadline, as requests carry it: how long the broker may work on it.
    pub(crate) fn timeout_ms(&self, deadline: Instant) -> i32 {
        let left = deadline.saturating_duration_since(Instant::now());
        i32::try_from(left.as_millis()).unwrap_or(i32::MAX)
    }

    /// One request, on the lane that bulk transfers never delay.
    pub(crate) async fn call<R: Request>(
        &self,
        to: To<'_>,
        deadline: Instant,
        request: impl Fn(i16) -> R,
    ) -> Result<R::Response, Error> {
        self.call_up_to(R::VERSIONS.max, to, deadline, request)
            .await
    }

    /// As [`Admin::call`], with no version above `cap`.
    pub(crate) async fn call_up_to<R: Request>(
        &self,
        cap: i16,
        to: To<'_>,
        deadline: Instant,
        request: impl Fn(i16) -> R,
    ) -> Result<R::Response, Error> {
        Ok(self
            .cluster
            .call(to, Lane::Control, cap, request, deadline)
            .await?)
    }

    /// Until when a topic that the brokers do not know may still be one that was just created.
    pub(crate) fn unknown_until(&self, deadline: Instant) -> Instant {
        deadline.min(Instant::now() + UNKNOWN_PATIENCE)
    }

    /// Asks about `names`, and again about those that fail for a reason that may pass. An unknown topic
    /// is asked about again for a moment only.
    ///
    /// Takes a closure that returns a future, and no async closure: the futures of those cannot be proved to be `Send`,
    /// and with them no call could be awaited in a task of its own.
    pub(crate) async fn each<T, F>(
        &self,
        kind: &'static str,
        names: impl IntoIterator<Item = String>,
        deadline: Instant,
        ask: impl Fn(Vec<String>) -> F,
    ) -> Results<T>
    where
        F: Future<Output = Result<Vec<Answer<T>>, Error>>,
    {
        let mut items = Items::new(kind, names);
        let unknown_until = self.unknown_until(deadline);
        let mut failures = 0;
        while items.open().next().is_some() {
            let open = items.open().map(str::to_owned).collect();
            failures += 1;
            let pause = self.backoff.random_delay(failures);
            let last = Instant::now() + pause >= deadline;
            match ask(open).await {
                Ok(mut answers) => {
                    if Instant::now() >= unknown_until {
                        answers.iter_mut().for_each(Answer::settle_if_unknown);
                    }
                    if !items.settle(answers, last) {
                        break;
                    }
                }
                // `call` has already tried again what is worth it.
                Err(error) => {
                    items.fail(&error);
                    break;
                }
            }
            self.cluster.refresh_soon();
            tokio::time::sleep(pause).await;
        }
        items.into_results()
    }
}

/// How long a topic takes to become known to every broker, amply.
const UNKNOWN_PATIENCE: Duration = Duration::from_secs(1);
