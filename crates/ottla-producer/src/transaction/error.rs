//! What can go wrong with a transaction, and what that asks for.

use std::sync::Arc;
use std::time::Duration;

use ottla_wire::ErrorCode;

use super::handle::Transaction;
use crate::error::{ConfigError, SendError};

/// Why a step of a transaction failed.
///
/// Three questions decide what to do: [`requires_abort`](Self::requires_abort) (this transaction is lost,
/// the next may succeed), [`is_retriable`](Self::is_retriable) (the same step may be called again) and
/// [`is_fatal`](Self::is_fatal) (close this producer). At most one of them is true.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// A record was not delivered, or possibly not. The transaction can only be aborted: it would
    /// be committed without that record.
    #[error("a record of the transaction was not delivered, so it can only be aborted: {0}")]
    Delivery(#[source] SendError),

    /// A coordinator refused something that the transaction needs. It can only be aborted.
    #[error("{step}: {reason}; the transaction can only be aborted")]
    MustAbort {
        /// What was refused.
        step: &'static str,
        /// Kafka's error code, when a broker answered with one.
        code: Option<ErrorCode>,
        /// Why, for a person.
        reason: Arc<str>,
    },

    /// The coordinator was not reached, or not ready, within `max.block.ms`. The step may be repeated.
    #[error("{step}: no success within {waited:?} (max.block.ms): {last}")]
    NotReached {
        /// What was tried.
        step: &'static str,
        /// For how long.
        waited: Duration,
        /// What went wrong last.
        last: Arc<str>,
    },

    /// The request to commit left, and no answer came: the transaction may be committed or not.
    ///
    /// It can be committed again, which finds out, and changes nothing if it was committed already. It
    /// cannot be aborted any more. If it is given up, the next
    /// [`begin`](crate::TransactionalProducer::begin) completes the commit first.
    #[error(
        "commit: sent, and no answer within {waited:?} (max.block.ms), so the transaction may be committed or not: {last}; commit it again to find out"
    )]
    UnknownOutcome {
        /// How long an answer was waited for.
        waited: Duration,
        /// What went wrong last.
        last: Arc<str>,
    },

    /// This producer may write no more. Either a younger instance with the same `transactional.id` has
    /// taken over, or the coordinator has aborted the transaction because it was open for longer than
    /// `transaction.timeout.ms`.
    #[error(
        "{step}: producer {transactional_id} is fenced ({}){}: another instance with the same transactional.id has started since, or the transaction was open for longer than transaction.timeout.ms; close this producer, and start a new one only if it was the timeout",
        code.name(),
        doubt(*possibly_committed)
    )]
    Fenced {
        /// What was refused.
        step: &'static str,
        /// The producer's `transactional.id`.
        transactional_id: Arc<str>,
        /// Kafka's error code.
        code: ErrorCode,
        /// An earlier request to commit had no answer: the transaction may be committed.
        possibly_committed: bool,
    },

    /// A broker refused for good.
    #[error("{step}: {reason}{}", doubt(*possibly_committed))]
    Refused {
        /// What was refused.
        step: &'static str,
        /// Kafka's error code, when a broker answered with one.
        code: Option<ErrorCode>,
        /// Why, and what to try.
        reason: Arc<str>,
        /// An earlier request to commit had no answer: the transaction may be committed.
        possibly_committed: bool,
    },

    /// The producer is closed.
    #[error("the producer is closed")]
    Closed,
}

impl TransactionError {
    /// Whether this transaction cannot be committed any more, and the next one can after an abort.
    pub fn requires_abort(&self) -> bool {
        matches!(self, Self::Delivery(_) | Self::MustAbort { .. })
    }

    /// Whether the step that failed may simply be called again.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::NotReached { .. } | Self::UnknownOutcome { .. })
    }

    /// Whether this producer can do nothing any more but be closed.
    pub fn is_fatal(&self) -> bool {
        !self.requires_abort() && !self.is_retriable()
    }

    /// This, said of a commit of which an earlier request had no answer.
    pub(super) fn in_doubt(mut self, doubt: bool) -> Self {
        if let Self::Fenced {
            possibly_committed, ..
        }
        | Self::Refused {
            possibly_committed, ..
        } = &mut self
        {
            *possibly_committed |= doubt;
        }
        self
    }

    /// Whether the transaction may be committed in spite of the error. If not, it is not, and never will be.
    pub fn possibly_committed(&self) -> bool {
        match self {
            Self::UnknownOutcome { .. } => true,
            Self::Fenced {
                possibly_committed, ..
            }
            | Self::Refused {
                possibly_committed, ..
            } => *possibly_committed,
            _ => false,
        }
    }

    /// Kafka's error code, when a broker answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Delivery(SendError::Refused { code, .. }) | Self::Fenced { code, .. } => {
                Some(*code)
            }
            Self::MustAbort { code, .. } | Self::Refused { code, .. } => *code,
            _ => None,
        }
    }
}

fn doubt(possibly_committed: bool) -> &'static str {
    match possibly_committed {
        true => " (the transaction may be committed: an earlier request to commit had no answer)",
        false => "",
    }
}

/// A commit that failed, with its transaction where that is still open.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct CommitError<'a> {
    /// Why. Its source is told as this error's own.
    pub error: TransactionError,
    /// The transaction: to be [committed](Transaction::commit) again if the error
    /// [is retriable](TransactionError::is_retriable), to be [aborted](Transaction::abort) if it
    /// [must be](TransactionError::requires_abort). `None` if the error is fatal.
    pub transaction: Option<Transaction<'a>>,
}

impl<'a> CommitError<'a> {
    /// The transaction, where it is still open.
    pub fn into_transaction(self) -> Option<Transaction<'a>> {
        self.transaction
    }

    /// The error alone. A transaction that is still open is dropped, and so aborted unless the commit is in
    /// doubt.
    pub fn into_error(self) -> TransactionError {
        self.error
    }
}

/// Why [`TransactionalProducer::run`](crate::TransactionalProducer::run), or the last of
/// [`attempts`](crate::TransactionalProducer::attempts), gave up.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E> {
    /// The closure failed while its transaction was sound. The transaction was aborted.
    #[error("the work of the transaction failed, and it was aborted: {0}")]
    Work(E),
    /// The transaction could not be begun or committed.
    ///
    /// With [`TransactionError::UnknownOutcome`] it may be committed all the same; after any other
    /// error it is not.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
}
