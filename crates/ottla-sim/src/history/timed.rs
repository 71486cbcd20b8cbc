//! Calls whose time is taken.

use std::time::Duration;

use tokio::time::Instant;

use super::{History, Member, What};

/// How long a call is waited for beyond its deadline.
const OVERTIME: Duration = Duration::from_secs(30);

impl History {
    /// Waits for a call, somewhat longer than it is allowed to take, and tells how long it took. None if it was not over then.
    pub(crate) async fn timed<T>(
        &self,
        member: Member,
        name: &'static str,
        allowed: Duration,
        call: impl Future<Output = T>,
    ) -> Option<T> {
        let started = Instant::now();
        let outcome = tokio::time::timeout(allowed + OVERTIME, call).await;
        self.record(What::Called {
            member,
            name,
            took_ms: started.elapsed().as_millis() as u64,
            allowed_ms: allowed.as_millis() as u64,
        });
        outcome.ok()
    }
}
