//! Running a transaction again while it fails for a reason that the next attempt may not have.
//!
//! Owns the rules of [`TransactionalProducer::run`], as steps that a program takes itself: when to try again, after what pause, and what
//! to do with a commit without an answer. What a transaction is, and what its errors ask for, is [`super::handle`]'s and
//! [`super::error`]'s.

use std::ops::Deref;

use ottla_net::Backoff;
use tokio::time::sleep;

use super::error::{CommitError, RunError, TransactionError};
use super::handle::Transaction;
use super::producer::TransactionalProducer;

/// Attempts at one transaction, one after the other; from [`TransactionalProducer::attempts`].
#[derive(Debug)]
pub struct Attempts<'a> {
    producer: &'a mut TransactionalProducer,
    attempts_max: u32,
    /// How many were begun since the last commit.
    begun: u32,
    backoff: Backoff,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(producer: &'a mut TransactionalProducer, attempts_max: u32) -> Self {
        let config = producer.config();
        Self {
            backoff: Backoff::new(config.retry_backoff, config.retry_backoff_max),
            producer,
            attempts_max,
            begun: 0,
        }
    }

    /// Begins the next attempt, after a pause if there was one before: `retry.backoff.ms`, which grows up to
    /// `retry.backoff.max.ms`.
    ///
    /// After an attempt that was committed it begins another transaction, with as many attempts.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// As [`TransactionalProducer::begin`]. Such a call is no attempt.
    pub async fn begin(&mut self) -> Result<Attempt<'_>, TransactionError> {
        if self.begun > 0 {
            sleep(self.backoff.random_delay(self.begun)).await;
        }
        let transaction = self.producer.begin().await?;
        self.begun = self.begun.saturating_add(1);
        Ok(Attempt {
            transaction,
            attempts_max: self.attempts_max,
            begun: &mut self.begun,
        })
    }
}

/// One attempt at a transaction, to be [finished](Self::finish) with what came of the work.
///
/// Dropped without that, the transaction is aborted in the background, and counts as an attempt.
#[derive(Debug)]
#[must_use = "an attempt that is dropped is aborted"]
pub struct Attempt<'a> {
    transaction: Transaction<'a>,
    attempts_max: u32,
    begun: &'a mut u32,
}

impl<'a> Deref for Attempt<'a> {
    type Target = Transaction<'a>;

    fn deref(&self) -> &Transaction<'a> {
        &self.transaction
    }
}

impl Attempt<'_> {
    /// Which attempt this is, from 1.
    pub fn number(&self) -> u32 {
        *self.begun
    }

    /// Commits if the work succeeded, and aborts if not. `None` if all of it is to be done again in the next attempt.
    ///
    /// A commit without an answer is repeated, as often as there are attempts. Work that failed is done again where its transaction
    /// could not have been committed either: a record was refused, or lost.
    ///
    /// Cancel safe as [`Transaction::commit`] is.
    ///
    /// # Errors
    /// [`RunError::Work`] if the work failed while the transaction was sound; [`RunError::Transaction`] if this was the
    /// last attempt, or with an error that no other attempt would mend.
    pub async fn finish<T, E>(self, work: Result<T, E>) -> Result<Option<T>, RunError<E>> {
        let Self {
            transaction,
            attempts_max,
            begun,
        } = self;
        let attempt = *begun;
        let error = match work {
            Ok(value) => match commit_repeatedly(transaction, attempts_max).await {
                Ok(()) => {
                    *begun = 0;
                    return Ok(Some(value));
                }
                Err(error) => error,
            },
            Err(failure) => {
                let doom = transaction.failure();
                let aborted = transaction.abort().await;
                let Some(doom) = doom else {
                    if let Err(error) = aborted {
                        tracing::warn!(%error, "the transaction of work that failed was not aborted yet");
                    }
                    return Err(RunError::Work(failure));
                };
                doom
            }
        };
        if !error.requires_abort() || attempt >= attempts_max {
            return Err(RunError::Transaction(error));
        }
        tracing::debug!(%error, attempt, "transaction to be run again");
        Ok(None)
    }
}

async fn commit_repeatedly(
    mut transaction: Transaction<'_>,
    attempts: u32,
) -> Result<(), TransactionError> {
    let mut attempt = 1;
    loop {
        let Err(CommitError {
            error,
            transaction: open,
        }) = transaction.commit().await
        else {
            return Ok(());
        };
        match open {
            Some(open) if error.is_retriable() && attempt < attempts => transaction = open,
            Some(open) if error.requires_abort() => {
                return match open.abort().await {
                    // The next attempt tells the coordinator, if it was not told.
                    Ok(()) | Err(TransactionError::NotReached { .. }) => Err(error),
                    Err(fatal) => Err(fatal),
                };
            }
            _ => return Err(error),
        }
        attempt += 1;
    }
}
