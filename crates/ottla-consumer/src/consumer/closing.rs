//! The end of a consumer, and of its subscription.

use std::time::{Duration, Instant};

use super::Consumer;
use crate::{
    Error,
    core::StreamEnd,
    driver::{deadline, now},
    listener::{Leaving, check_not_in_listener},
};

impl Consumer {
    /// Ends streams of single partitions and waits until they are dropped, commits what was handed out (with automatic
    /// commit), waits for commits that are under way, tells the rebalance listener, leaves the group (unless this is a static
    /// member), ends all tasks. Calls that wait for records end with [`Error::Closed`].
    ///
    /// Always ends, at the deadline at the latest; calling it again does nothing. Not cancel-safe: when dropped
    /// the consumer is closed and leaves the group in the background, but the commit may be missing.
    ///
    /// # Errors
    /// [`Error::Timeout`] if the deadline cut the commit or the leaving short; [`Error::Usage`] from within a
    /// rebalance listener.
    pub async fn close(&self, timeout: Duration) -> Result<(), Error> {
        let shared = self.shared();
        check_not_in_listener()?;
        if !shared.begin_close() {
            return Ok(());
        }
        let deadline = deadline(timeout);
        let leaving = async {
            // A commit that cannot be made must not keep the group waiting for this member.
            let commit_by = deadline - deadline.saturating_duration_since(now()) / 4;
            let (committed, leaving) = self.wind_up(StreamEnd::Closed, commit_by).await;
            shared.leave_now();
            leaving.has_left();
            shared.tasks.close();
            shared.left.notified().await;
            committed
        };
        let abandoned = AtLast(|| shared.abandon());
        let outcome = tokio::time::timeout_at(deadline.into(), leaving).await;
        drop(abandoned);
        shared.halting.cancel();
        shared.tasks.wait().await;
        let last = match outcome {
            Ok(true) => return Ok(()),
            Ok(false) => "the commit was not answered: records may be delivered again",
            Err(_) => "the coordinator did not answer; it will notice at the end of the session",
        };
        Err(Error::Timeout {
            what: "closing the consumer",
            waited: timeout,
            last: last.into(),
        })
    }

    /// What comes before all partitions are given up: ends streams of single ones, commits, tells the rebalance listener;
    /// by the deadline. Whether there was time to commit.
    pub(super) async fn wind_up(&self, end: StreamEnd, deadline: Instant) -> (bool, Leaving<'_>) {
        let shared = self.shared();
        // What their readers still do, they do as the partitions' owners.
        let streams_by = deadline - deadline.saturating_duration_since(now()) / 4;
        if !shared.end_streams(end, streams_by).await {
            tracing::warn!(
                "streams of single partitions were not dropped in time: going on without"
            );
        }
        let commit_by = deadline - deadline.saturating_duration_since(now()) / 4;
        // Whoever calls this is done with what it was handed.
        let committed = shared.finish_commits(true, commit_by).await;
        let leaving = shared.tell_listener_of_the_end(deadline).await;
        // What the listener began to commit, too.
        (shared.settled(deadline).await && committed, leaving)
    }
}

/// Does this when a call ends, also where its future is dropped.
pub(super) struct AtLast<F: FnMut()>(pub(super) F);

impl<F: FnMut()> Drop for AtLast<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
