//! What an error code means for each step of a transaction.

use ottla_wire::ErrorCode;

/// A request to a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Init,
    AddPartitions,
    AddOffsets,
    CommitOffsets,
    Commit,
    Abort,
}

/// What to do about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Done,
    /// Ask again, after the usual pause, and where the coordinator is by then.
    Again,
    /// Ask again soon: the transaction before this one is being completed, which takes milliseconds.
    AgainSoon,
    /// Another part of the request was refused, and says why.
    Skipped,
    /// The transaction can only be aborted.
    MustAbort,
    /// There is nothing to abort, or no more; what the coordinator holds has to be found out anew.
    Nothing,
    Fenced,
    Fatal,
}

impl Reply {
    pub(super) fn of(step: Step, code: ErrorCode) -> Self {
        match code {
            ErrorCode::NONE => Self::Done,
            ErrorCode::CONCURRENT_TRANSACTIONS => Self::AgainSoon,
            ErrorCode::OPERATION_NOT_ATTEMPTED => Self::Skipped,
            // Coordinators before KIP-588 have no other code for it.
            ErrorCode::PRODUCER_FENCED | ErrorCode::INVALID_PRODUCER_EPOCH => Self::Fenced,
            // Nothing says that it was not carried out; every step may be repeated.
            ErrorCode::UNKNOWN_SERVER_ERROR if step != Step::CommitOffsets => Self::Again,
            _ if code.is_retriable() => Self::Again,
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
            | ErrorCode::UNSUPPORTED_VERSION => Self::Fatal,
            _ => match step {
                Step::Init => Self::Fatal,
                // Says nothing of what became of the transaction.
                Step::Commit
                    if matches!(
                        code,
                        ErrorCode::UNKNOWN_PRODUCER_ID | ErrorCode::INVALID_PRODUCER_ID_MAPPING
                    ) =>
                {
                    Self::Fatal
                }
                // The coordinator never heard of the transaction, or has forgotten it.
                Step::Abort => match code {
                    ErrorCode::INVALID_TXN_STATE
                    | ErrorCode::UNKNOWN_PRODUCER_ID
                    | ErrorCode::INVALID_PRODUCER_ID_MAPPING => Self::Nothing,
                    _ => Self::Fatal,
                },
                // Topics, groups and members that are refused, a generation that is over
                // (KIP-447), TRANSACTION_ABORTABLE (KIP-890), and codes yet unknown.
                Step::AddPartitions | Step::AddOffsets | Step::CommitOffsets | Step::Commit => {
                    Self::MustAbort
                }
            },
        }
    }
}

impl Step {
    /// For messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Init => "initialising the transactional producer (InitProducerId)",
            Self::AddPartitions => "adding partitions to the transaction (AddPartitionsToTxn)",
            Self::AddOffsets => "adding a group's offsets to the transaction (AddOffsetsToTxn)",
            Self::CommitOffsets => "writing offsets in the transaction (TxnOffsetCommit)",
            Self::Commit => "commit (EndTxn)",
            Self::Abort => "abort (EndTxn)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Step; 6] = [
        Step::Init,
        Step::AddPartitions,
        Step::AddOffsets,
        Step::CommitOffsets,
        Step::Commit,
        Step::Abort,
    ];

    #[test]
    fn fencing_is_fatal_at_every_step() {
        for step in ALL {
            for code in [
                ErrorCode::PRODUCER_FENCED,
                ErrorCode::INVALID_PRODUCER_EPOCH,
            ] {
                assert_eq!(Reply::of(step, code), Reply::Fenced);
            }
        }
    }

    #[test]
    fn coordinators_that_move_or_load_are_asked_again_at_every_step() {
        for step in ALL {
            for code in [
                ErrorCode::NOT_COORDINATOR,
                ErrorCode::COORDINATOR_NOT_AVAILABLE,
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                ErrorCode::REQUEST_TIMED_OUT,
            ] {
                assert_eq!(Reply::of(step, code), Reply::Again, "{step:?} {code}");
            }
            let code = ErrorCode::CONCURRENT_TRANSACTIONS;
            assert_eq!(Reply::of(step, code), Reply::AgainSoon);
        }
    }

    #[test]
    fn what_ends_a_transaction_does_not_end_the_producer() {
        for (step, code) in [
            (Step::AddPartitions, ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            (Step::AddOffsets, ErrorCode::GROUP_AUTHORIZATION_FAILED),
            (Step::CommitOffsets, ErrorCode::ILLEGAL_GENERATION),
            (Step::CommitOffsets, ErrorCode::UNKNOWN_MEMBER_ID),
            (Step::CommitOffsets, ErrorCode::FENCED_INSTANCE_ID),
            (Step::CommitOffsets, ErrorCode::TRANSACTION_ABORTABLE),
            (Step::Commit, ErrorCode::TRANSACTION_ABORTABLE),
            (Step::Commit, ErrorCode::INVALID_TXN_STATE),
        ] {
            assert_eq!(Reply::of(step, code), Reply::MustAbort, "{step:?} {code}");
        }
        let code = ErrorCode::INVALID_TXN_STATE;
        assert_eq!(Reply::of(Step::Abort, code), Reply::Nothing);
    }

    #[test]
    fn no_known_code_is_taken_for_success() {
        for code in ErrorCode::all().filter(|code| code.is_err()) {
            for step in ALL {
                assert_ne!(Reply::of(step, code), Reply::Done, "{step:?} {code}");
            }
        }
    }
}
