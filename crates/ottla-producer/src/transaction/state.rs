//! Where a transactional producer stands: which transaction is open, and what must happen before the next.
//!
//! A plain structure: what the program asks for and what coordinators answer go in, what to do next comes
//! out. Knows nothing of records and their partitions; those are the sender core's (`sender::core::gate`).
//!
//! ```text
//!   New ──init──▶ Idle ──begin──▶ Open ──commit, abort──▶ Idle (V2: under another epoch)
//!                  ▲                │ no answer             │ or Stale
//!                  │                ▼                       ▼
//!                  └──────init── Stale ◀──answer── Doubt    └─ any ──fenced, refused──▶ Dead
//! ```
//!
//! - *Doubt*: EndTxn left and no answer came. Only the same EndTxn may be sent until one comes: an abort
//!   after a lost commit could abort nothing or, worse, be believed. Whoever gives the
//!   transaction up leaves the question to the next `begin`. It is asked with EndTxn rather than with
//!   InitProducerId, because coordinators answer InitProducerId during an open transaction by fencing
//!   the very epoch that asks.
//! - *Stale*: under transactions V1 a request that was lost, or records that were, could still arrive in
//!   the next transaction, whose epoch is the same. So the epoch is bumped first, by InitProducerId with
//!   the current identity (KIP-360). V2 bumps it with every EndTxn (KIP-890).

use std::collections::BTreeSet;

use ottla_wire::Str;

use super::error::TransactionError;
use crate::identity::ProducerIdentity;
use crate::sender::Protocol;

#[derive(Debug)]
pub(super) struct State {
    phase: Phase,
    /// Numbers the transactions of this producer.
    serial: u64,
    identity: Option<ProducerIdentity>,
    protocol: Protocol,
    /// The coordinator may have partitions or offsets of the open transaction.
    enlisted: bool,
    /// Under V1, something may still arrive with the present epoch that belongs to the past.
    tainted: bool,
    /// A coordinator's reason why the open transaction must be aborted.
    must_abort: Option<TransactionError>,
    /// Groups whose offsets are being written, or were not in time.
    unwritten: BTreeSet<Str>,
}

#[derive(Debug, Clone)]
enum Phase {
    New,
    Idle,
    Open,
    Doubt { commit: bool },
    Stale,
    Dead(TransactionError),
}

/// What must happen before a transaction can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// InitProducerId, with the current identity if there is one.
    Init(Option<ProducerIdentity>),
    /// A transaction that was dropped is still open.
    Abort,
    /// EndTxn has no answer yet.
    Settle { commit: bool },
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The coordinator does not know of it.
    Silently,
    /// By EndTxn.
    Told(ProducerIdentity),
}

/// What came of EndTxn.
#[derive(Debug, Clone)]
pub(super) enum Ended {
    /// Carried out; with the identity for the next transaction, if the answer has one.
    Done(Option<ProducerIdentity>),
    /// There was nothing to abort.
    Nothing,
    /// Refused; the transaction is still open.
    MustAbort(TransactionError),
    /// Certainly not carried out by this call.
    NotReached(TransactionError),
    /// An attempt has no answer.
    Unknown(TransactionError),
    Dead(TransactionError),
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::New,
            serial: 0,
            identity: None,
            protocol: Protocol::V1,
            enlisted: false,
            tainted: false,
            must_abort: None,
            unwritten: BTreeSet::new(),
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn identity(&self) -> Option<ProducerIdentity> {
        self.identity
    }

    /// The first thing to do before a transaction can begin; `None` if it can.
    pub(super) fn before_begin(&self) -> Result<Option<Before>, TransactionError> {
        Ok(match &self.phase {
            Phase::New => Some(Before::Init(None)),
            Phase::Stale => Some(Before::Init(self.identity)),
            Phase::Open => Some(Before::Abort),
            Phase::Doubt { commit } => Some(Before::Settle { commit: *commit }),
            Phase::Idle => None,
            Phase::Dead(error) => return Err(error.clone()),
        })
    }

    /// InitProducerId succeeded.
    pub(super) fn initialised(&mut self, identity: ProducerIdentity) {
        if !matches!(self.phase, Phase::Dead(_)) {
            self.identity = Some(identity);
            self.tainted = false;
            self.phase = Phase::Idle;
        }
    }

    /// Nothing can go on.
    pub(super) fn die(&mut self, error: TransactionError) {
        if !matches!(self.phase, Phase::Dead(_)) {
            self.phase = Phase::Dead(error);
        }
    }

    pub(super) fn death(&self) -> Option<&TransactionError> {
        match &self.phase {
            Phase::Dead(error) => Some(error),
            _ => None,
        }
    }

    /// A transaction begins; gives its number. Nothing is [to be done before](Self::before_begin).
    pub(super) fn begin(&mut self, protocol: Protocol) -> u64 {
        debug_assert!(matches!(self.phase, Phase::Idle), "{:?}", self.phase);
        self.phase = Phase::Open;
        self.protocol = protocol;
        self.enlisted = false;
        self.must_abort = None;
        self.unwritten.clear();
        self.serial += 1;
        self.serial
    }

    /// Whether transaction `serial` is open and nobody has asked to end it without an answer.
    pub(super) fn is_open(&self, serial: u64) -> bool {
        self.serial == serial && matches!(self.phase, Phase::Open)
    }

    /// Whether transaction `serial` is the last that began.
    pub(super) fn is_current(&self, serial: u64) -> bool {
        self.serial == serial
    }

    /// Something is about to be sent that tells a coordinator of the open transaction. Gives the
    /// identity to send it under.
    pub(super) fn enlist(&mut self) -> Result<ProducerIdentity, TransactionError> {
        match (&self.phase, self.identity, &self.must_abort) {
            (Phase::Dead(error), ..) => Err(error.clone()),
            (Phase::Open, _, Some(error)) => Err(error.clone()),
            (Phase::Open, Some(identity), None) => {
                self.enlisted = true;
                Ok(identity)
            }
            _ => Err(TransactionError::Closed),
        }
    }

    /// Offsets of `group` are about to be written in the open transaction.
    pub(super) fn write_offsets(&mut self, group: &Str) {
        self.unwritten.insert(group.clone());
    }

    /// The offsets of `group` are written.
    pub(super) fn offsets_written(&mut self, group: &Str) {
        self.unwritten.remove(group);
    }

    /// A coordinator refused what the open transaction needs.
    pub(super) fn doom(&mut self, error: TransactionError) {
        if matches!(self.phase, Phase::Open) {
            self.must_abort.get_or_insert(error);
        }
    }

    pub(super) fn must_abort(&self) -> Option<&TransactionError> {
        self.must_abort.as_ref()
    }

    /// Whether a request to commit has no answer.
    pub(super) fn is_in_doubt(&self) -> bool {
        matches!(self.phase, Phase::Doubt { commit: true })
    }

    /// A request of the open transaction has no answer: it may still be carried out.
    pub(super) fn taint(&mut self) {
        self.tainted = true;
    }

    /// The open transaction is to be committed. `sent`: records of it left.
    pub(super) fn commit(&mut self, sent: bool) -> Result<End, TransactionError> {
        match &self.phase {
            Phase::Dead(error) => return Err(error.clone()),
            Phase::Open | Phase::Doubt { commit: true } => {}
            _ => return Err(TransactionError::Closed),
        }
        if let Some(error) = &self.must_abort {
            return Err(error.clone());
        }
        if let Some(group) = self.unwritten.first() {
            // Whether they are part of the transaction is not known: not to be committed like that.
            return Err(TransactionError::MustAbort {
                step: "commit",
                code: None,
                reason: format!(
                    "offsets of group {group} were not written in time; send them again, or abort"
                )
                .into(),
            });
        }
        Ok(self.end(sent))
    }

    /// The open transaction is to be aborted.
    ///
    /// # Errors
    /// Refused in doubt about a commit; `doubt` says so.
    pub(super) fn abort(
        &mut self,
        sent: bool,
        doubt: impl FnOnce() -> TransactionError,
    ) -> Result<End, TransactionError> {
        match &self.phase {
            Phase::Dead(error) => Err(error.clone()),
            Phase::Open | Phase::Doubt { commit: false } => Ok(self.end(sent)),
            Phase::Doubt { commit: true } => Err(doubt()),
            Phase::New | Phase::Idle | Phase::Stale => Ok(End::Silently),
        }
    }

    fn end(&mut self, sent: bool) -> End {
        match self.identity {
            Some(identity) if sent || self.enlisted => End::Told(identity),
            _ => {
                self.phase = Phase::Idle;
                End::Silently
            }
        }
    }

    /// EndTxn was answered, or not. `gaps`: records that had sequences were given up.
    pub(super) fn ended(
        &mut self,
        commit: bool,
        gaps: bool,
        outcome: Ended,
    ) -> Result<(), TransactionError> {
        match outcome {
            Ended::Done(next) => {
                self.phase = match (self.protocol, next) {
                    (Protocol::V2, Some(next)) => {
                        self.identity = Some(next);
                        self.tainted = false;
                        Phase::Idle
                    }
                    (Protocol::V2, None) => Phase::Stale,
                    (Protocol::V1, _) if gaps || self.tainted => Phase::Stale,
                    (Protocol::V1, _) => Phase::Idle,
                };
                Ok(())
            }
            Ended::Nothing => {
                self.phase = Phase::Stale;
                Ok(())
            }
            Ended::MustAbort(error) => {
                // What was in doubt is certain now: it is not committed.
                self.phase = Phase::Open;
                self.must_abort.get_or_insert(error.clone());
                Err(error)
            }
            Ended::NotReached(error) => {
                // A commit that is not in doubt may be turned into an abort. An abort may not be
                // turned into anything, and is not in doubt for the program: it is never committed.
                if !commit {
                    self.phase = Phase::Doubt { commit: false };
                }
                Err(error)
            }
            Ended::Unknown(error) => {
                self.phase = Phase::Doubt { commit };
                Err(error)
            }
            Ended::Dead(error) => {
                self.die(error.clone());
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ProducerIdentity = ProducerIdentity { id: 9, epoch: 0 };
    const SECOND: ProducerIdentity = ProducerIdentity { id: 9, epoch: 1 };

    fn refused() -> TransactionError {
        TransactionError::MustAbort {
            step: "a test",
            code: None,
            reason: "refused".into(),
        }
    }

    fn late() -> TransactionError {
        TransactionError::NotReached {
            step: "a test",
            waited: std::time::Duration::ZERO,
            last: "silence".into(),
        }
    }

    fn open(protocol: Protocol) -> State {
        let mut state = State::new();
        assert_eq!(state.before_begin().unwrap(), Some(Before::Init(None)));
        state.initialised(FIRST);
        assert_eq!(state.before_begin().unwrap(), None);
        state.begin(protocol);
        state
    }

    #[test]
    fn v2_goes_on_under_the_epoch_of_the_answer() {
        let mut state = open(Protocol::V2);
        assert_eq!(state.commit(true).unwrap(), End::Told(FIRST));
        state.ended(true, false, Ended::Done(Some(SECOND))).unwrap();
        assert_eq!(state.before_begin().unwrap(), None);
        assert_eq!(state.identity(), Some(SECOND));
        state.begin(Protocol::V2);
        assert_eq!(state.abort(true, late).unwrap(), End::Told(SECOND));
        // An answer without one leaves the epoch to be asked for.
        state.ended(false, false, Ended::Done(None)).unwrap();
        assert_eq!(
            state.before_begin().unwrap(),
            Some(Before::Init(Some(SECOND)))
        );
    }

    #[test]
    fn v1_keeps_its_epoch_while_nothing_can_arrive_late() {
        for (gaps, lost) in [(false, false), (true, false), (false, true)] {
            let mut state = open(Protocol::V1);
            assert_eq!(state.enlist().unwrap(), FIRST);
            if lost {
                state.taint();
            }
            assert_eq!(state.abort(false, late).unwrap(), End::Told(FIRST));
            state.ended(false, gaps, Ended::Done(None)).unwrap();
            let bump = (gaps || lost).then_some(Before::Init(Some(FIRST)));
            assert_eq!(state.before_begin().unwrap(), bump);
            if bump.is_some() {
                state.initialised(SECOND);
                assert_eq!(state.before_begin().unwrap(), None);
            }
        }
    }

    #[test]
    fn what_the_coordinator_never_heard_of_ends_silently() {
        for protocol in [Protocol::V1, Protocol::V2] {
            let mut state = open(protocol);
            assert_eq!(state.commit(false).unwrap(), End::Silently);
            state.begin(protocol);
            assert_eq!(state.abort(false, late).unwrap(), End::Silently);
            assert_eq!(state.before_begin().unwrap(), None);
        }
    }

    #[test]
    fn a_commit_in_doubt_can_be_repeated_and_not_be_aborted() {
        let mut state = open(Protocol::V1);
        let serial = 1;
        state.commit(true).unwrap();
        state
            .ended(true, false, Ended::Unknown(late()))
            .unwrap_err();
        state.taint();
        assert!(state.is_in_doubt() && !state.is_open(serial));
        state.abort(true, late).unwrap_err();
        assert!(state.enlist().is_err());
        // A repetition that does not get through changes nothing.
        state.commit(true).unwrap();
        state
            .ended(true, false, Ended::NotReached(late()))
            .unwrap_err();
        assert_eq!(
            state.before_begin().unwrap(),
            Some(Before::Settle { commit: true })
        );
        state.commit(true).unwrap();
        state.ended(true, false, Ended::Done(None)).unwrap();
        assert_eq!(
            state.before_begin().unwrap(),
            Some(Before::Init(Some(FIRST)))
        );
    }

    #[test]
    fn an_abort_without_an_answer_is_repeated_before_the_next_begin() {
        for outcome in [Ended::Unknown(late()), Ended::NotReached(late())] {
            let mut state = open(Protocol::V2);
            state.abort(true, late).unwrap();
            state.ended(false, false, outcome).unwrap_err();
            assert!(!state.is_in_doubt(), "it is never committed");
            assert_eq!(
                state.before_begin().unwrap(),
                Some(Before::Settle { commit: false })
            );
            state.ended(false, false, Ended::Nothing).unwrap();
            assert_eq!(
                state.before_begin().unwrap(),
                Some(Before::Init(Some(FIRST)))
            );
        }
    }

    #[test]
    fn a_refusal_allows_only_an_abort() {
        let mut state = open(Protocol::V2);
        state.doom(refused());
        assert!(state.commit(true).unwrap_err().requires_abort());
        assert!(state.enlist().unwrap_err().requires_abort());
        state.abort(true, late).unwrap();
        state.ended(false, true, Ended::Done(Some(SECOND))).unwrap();
        state.begin(Protocol::V2);
        state.commit(true).unwrap();
        // Refused by EndTxn itself.
        state
            .ended(true, false, Ended::MustAbort(refused()))
            .unwrap_err();
        assert!(state.commit(true).unwrap_err().requires_abort());
        assert_eq!(state.before_begin().unwrap(), Some(Before::Abort));
    }

    #[test]
    fn offsets_that_were_not_written_stop_a_commit_until_they_are() {
        let mut state = open(Protocol::V1);
        let (tellers, clerks) = (Str::from("tellers"), Str::from("clerks"));
        state.enlist().unwrap();
        state.write_offsets(&tellers);
        state.write_offsets(&clerks);
        state.offsets_written(&clerks);
        let error = state.commit(true).unwrap_err();
        assert!(
            error.requires_abort() && error.to_string().contains("tellers"),
            "{error}"
        );
        state.offsets_written(&tellers);
        assert_eq!(state.commit(true).unwrap(), End::Told(FIRST));
    }

    #[test]
    fn the_dead_stay_dead() {
        let mut state = open(Protocol::V1);
        state.die(TransactionError::Closed);
        state.initialised(SECOND);
        assert!(state.before_begin().is_err() && state.commit(true).is_err());
        assert!(state.abort(true, late).is_err() && state.enlist().is_err());
    }
}
