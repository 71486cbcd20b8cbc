//! Counts what went wrong in a run, so that a fault that never happens is seen to be missing.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// Bytes came some milliseconds late.
    Delay,
    /// Nothing moved on a connection for seconds.
    Stall,
    /// A read or write moved only part of what it could.
    Split,
    /// A connection broke in the middle of a frame.
    CutInFrame,
    /// Nobody answered an attempt to connect.
    ConnectIgnored,
    /// A node could not be reached for a while, though it was up.
    Partition,
    /// A broker handled a request late.
    RequestDelayed,
    /// A broker neither handled nor answered a request.
    RequestDropped,
    /// A broker closed the connection instead of handling a request.
    RequestRefused,
    /// A request was handled, and the connection closed before the answer.
    ReplyLost,
    /// A request was handled, and the connection closed in the middle of the answer.
    ReplyTorn,
    /// A broker answered with an error that passes.
    ErrorAnswered,
    /// A partition got another leader.
    LeaderMoved,
    /// A group got another coordinator.
    CoordinatorMoved,
    /// A node crashed.
    NodeCrashed,
    /// A node came back.
    NodeRestarted,
    /// The first records of a partition were deleted.
    RecordsDeleted,
    /// A caller dropped a future before it was done.
    CallerCancelled,
    /// A client vanished with all its tasks and connections.
    ClientCrashed,
    /// A consumer was dropped without being closed.
    ClientDropped,
    /// An application stayed away for longer than `max.poll.interval.ms`.
    ApplicationStalled,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Delay,
        Self::Stall,
        Self::Split,
        Self::CutInFrame,
        Self::ConnectIgnored,
        Self::Partition,
        Self::RequestDelayed,
        Self::RequestDropped,
        Self::RequestRefused,
        Self::ReplyLost,
        Self::ReplyTorn,
        Self::ErrorAnswered,
        Self::LeaderMoved,
        Self::CoordinatorMoved,
        Self::NodeCrashed,
        Self::NodeRestarted,
        Self::RecordsDeleted,
        Self::CallerCancelled,
        Self::ClientCrashed,
        Self::ClientDropped,
        Self::ApplicationStalled,
    ];
}

/// How often each kind of fault happened.
pub type FaultCounts = BTreeMap<FaultKind, u64>;

/// The counter of a run.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    counts: Mutex<FaultCounts>,
}

impl Faults {
    pub(crate) fn note(&self, kind: FaultKind) {
        self.add(kind, 1);
    }

    pub(crate) fn add(&self, kind: FaultKind, count: u64) {
        if count > 0 {
            *self.lock().entry(kind).or_default() += count;
        }
    }

    pub(crate) fn counts(&self) -> FaultCounts {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FaultCounts> {
        // A panic while it was held would have ended the run.
        self.counts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
