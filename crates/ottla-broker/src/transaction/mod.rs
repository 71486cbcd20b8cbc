//! One transactional id: who may use it, and where its present transaction stands (KIP-98, KIP-360, KIP-890).
//!
//! Plain state: requests and the time come in, verdicts come out. Writing markers, committing offsets and keeping
//! the state on disk is [`coordinator`]'s business. Identities are pairs of producer id and epoch; a newer epoch
//! fences the older ones.

pub(crate) mod coordinator;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ottla_wire::ErrorCode;
use serde::{Deserialize, Serialize};

/// A producer's identity: its id and epoch.
pub(crate) type Identity = (i64, i16);

/// A transactional id and its newest transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Transaction {
    pub(crate) identity: Identity,
    /// The identity before, as long as its owner may not have heard of the newer one.
    previous: Option<Identity>,
    /// Who the markers of the transaction being completed are from.
    marker: Option<Identity>,
    pub(crate) state: State,
    pub(crate) timeout_ms: i32,
    /// When the transaction began, -1 if none is open.
    pub(crate) started_ms: i64,
    /// When anything changed last.
    pub(crate) updated_ms: i64,
    /// What was written to, as far as markers have to go there.
    pub(crate) partitions: BTreeSet<(String, i32)>,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) offsets: Vec<PendingOffset>,
}

/// Where a transactional id stands, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

/// An offset that takes effect with its transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingOffset {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

/// What is left to do after a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Nothing,
    /// The state is a `Prepare` state: markers are to be written, then [`Transaction::complete`] is due.
    Complete,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

impl Transaction {
    pub(crate) fn new(identity: Identity, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            identity,
            previous: None,
            marker: None,
            state: State::Empty,
            timeout_ms,
            started_ms: -1,
            updated_ms: now_ms,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            offsets: Vec::new(),
        }
    }

    /// A producer starts, or starts over (InitProducerId): it gets an identity that fences all before it.
    /// `expected` is who it was, if it says so. With [`Next::Complete`], the open transaction is to be aborted
    /// first, and this to be asked again without `expected`.
    pub(crate) fn init(
        &mut self,
        expected: Option<Identity>,
        timeout_ms: i32,
        fresh_id: impl FnOnce() -> Result<i64, ErrorCode>,
        now_ms: i64,
    ) -> Result<Next, ErrorCode> {
        if let Some(expected) = expected
            && expected != self.identity
        {
            // Its answer may have been lost; but nobody else may have worked under the new identity since.
            let repeated = self.previous == Some(expected) && self.state != State::Ongoing;
            return if repeated {
                Ok(Next::Nothing)
            } else {
                Err(ErrorCode::PRODUCER_FENCED)
            };
        }
        match self.state {
            State::PrepareCommit | State::PrepareAbort => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            State::Ongoing => {
                self.fence(now_ms);
                Ok(Next::Complete)
            }
            State::Empty | State::CompleteCommit | State::CompleteAbort => {
                let before = self.identity;
                self.bump(fresh_id)?;
                self.previous = expected.map(|_| before);
                self.state = State::Empty;
                self.timeout_ms = timeout_ms;
                self.updated_ms = now_ms;
                Ok(Next::Nothing)
            }
        }
    }

    /// Whether `identity` owns the transactional id and may write or add to its transaction now.
    pub(crate) fn check(&self, identity: Identity) -> Result<(), ErrorCode> {
        if identity.0 != self.identity.0 {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if identity.1 != self.identity.1 {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        if self.state.is_prepared() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        Ok(())
    }

    /// Opens a transaction unless one is open. [`Self::check`] was asked before.
    pub(crate) fn begin(&mut self, now_ms: i64) {
        self.updated_ms = now_ms;
        if self.state != State::Ongoing {
            self.state = State::Ongoing;
            self.started_ms = now_ms;
            self.previous = None;
        }
    }

    /// Whether the open transaction writes to the partition.
    pub(crate) fn writes_to(&self, topic: &str, partition: i32) -> bool {
        self.state == State::Ongoing && self.partitions.contains(&(topic.to_owned(), partition))
    }

    /// Adds offsets, in the place of those for the same partitions; of several for one, the last counts.
    pub(crate) fn put_offsets(&mut self, new: Vec<PendingOffset>) {
        let place = |offset: &PendingOffset| {
            let PendingOffset { group, topic, .. } = offset;
            (group.clone(), topic.clone(), offset.partition)
        };
        let all = std::mem::take(&mut self.offsets).into_iter().chain(new);
        let by_place: BTreeMap<_, _> = all.map(|offset| (place(&offset), offset)).collect();
        self.offsets = by_place.into_values().collect();
    }

    /// The producer ends its transaction. With `bumps` (KIP-890) every transaction has an epoch of its own: the next
    /// identity is the answer, and an abort of nothing is fine.
    pub(crate) fn end(
        &mut self,
        identity: Identity,
        commit: bool,
        bumps: bool,
        fresh_id: impl FnOnce() -> Result<i64, ErrorCode>,
        now_ms: i64,
    ) -> Result<Next, ErrorCode> {
        let (prepared, completed) = if commit {
            (State::PrepareCommit, State::CompleteCommit)
        } else {
            (State::PrepareAbort, State::CompleteAbort)
        };
        if bumps && self.previous == Some(identity) {
            // Its answer was lost, or completing was interrupted.
            return match self.state {
                state if state == completed => Ok(Next::Nothing),
                state if state == prepared => Ok(Next::Complete),
                _ => Err(ErrorCode::PRODUCER_FENCED),
            };
        }
        if identity.0 != self.identity.0 {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if identity.1 != self.identity.1 {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match self.state {
            State::Ongoing => {}
            state if state == prepared => return Ok(Next::Complete),
            state if state == completed && !bumps => return Ok(Next::Nothing),
            State::Empty | State::CompleteCommit | State::CompleteAbort if bumps && !commit => {}
            _ => return Err(ErrorCode::INVALID_TXN_STATE),
        }
        self.marker = Some(identity);
        if bumps {
            // The marker carries the new epoch, so that nothing late of the old one can follow it.
            self.marker = Some((identity.0, identity.1.saturating_add(1)));
            self.bump(fresh_id)?;
            self.previous = Some(identity);
        }
        self.state = prepared;
        self.updated_ms = now_ms;
        Ok(Next::Complete)
    }

    /// The transaction has been open for longer than its producer allowed.
    pub(crate) fn is_overdue(&self, now_ms: i64) -> bool {
        self.state == State::Ongoing
            && now_ms.saturating_sub(self.started_ms) >= i64::from(self.timeout_ms)
    }

    /// Aborts the open transaction under an epoch that fences its owner.
    pub(crate) fn fence(&mut self, now_ms: i64) {
        self.identity.1 = self.identity.1.saturating_add(1);
        self.previous = None;
        self.marker = Some(self.identity);
        self.state = State::PrepareAbort;
        self.updated_ms = now_ms;
    }

    /// Who the markers to be written are from, and whether they commit; `None` unless the end is prepared.
    pub(crate) fn marker(&self) -> Option<(Identity, bool)> {
        let commit = self.state == State::PrepareCommit;
        let identity = self.marker.filter(|_| self.state.is_prepared())?;
        Some((identity, commit))
    }

    /// Every marker has been written.
    pub(crate) fn complete(&mut self) {
        self.state = match self.state {
            State::PrepareCommit => State::CompleteCommit,
            _ => State::CompleteAbort,
        };
        self.marker = None;
        self.started_ms = -1;
        self.partitions.clear();
        self.groups.clear();
        self.offsets.clear();
    }

    fn bump(&mut self, fresh_id: impl FnOnce() -> Result<i64, ErrorCode>) -> Result<(), ErrorCode> {
        let (id, epoch) = self.identity;
        // The last epoch is kept for fencing.
        self.identity = if epoch >= i16::MAX - 1 {
            (fresh_id()?, 0)
        } else {
            (id, epoch + 1)
        };
        Ok(())
    }
}
