//! Transactions, for programs without tokio.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::producer::Delivery;
use super::runtime::{Held, Runtime};
use crate::consumer::GroupMetadata;
use crate::net::Backoff;
use crate::producer::{
    ProducerConfig, ProducerMetrics, ProducerRecord, SendError, Transaction as AsyncTransaction,
    TransactionError, TransactionOffset, TransactionalProducer as AsyncProducer,
};

/// Writes records, and positions of consumer groups, in transactions, as
/// [`producer::TransactionalProducer`](crate::producer::TransactionalProducer).
///
/// ```no_run
/// # use ottla::prelude::*;
/// # fn example(client: ottla::blocking::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let mut producer = client.transactional_producer()?;
/// let transaction = producer.begin()?;
/// for invoice in ["17", "18"] {
///     let _sent = transaction.send(ProducerRecord::to("invoices").value(invoice))?;
/// }
/// transaction.commit().map_err(|failed| failed.error)?;
/// producer.close(std::time::Duration::from_secs(30))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TransactionalProducer {
    held: Held<AsyncProducer>,
}

impl TransactionalProducer {
    pub(super) fn new(inner: AsyncProducer, runtime: Arc<Runtime>) -> Self {
        Self {
            held: Held::new(inner, runtime),
        }
    }

    /// The `transactional.id`.
    pub fn transactional_id(&self) -> &str {
        self.held.get().transactional_id()
    }

    /// The settings.
    pub fn config(&self) -> &ProducerConfig {
        self.held.get().config()
    }

    /// What the producer has done so far, in figures.
    pub fn metrics(&self) -> ProducerMetrics {
        self.held.get().metrics()
    }

    /// Begins a transaction. Waits, `max.block.ms` at most, for the end of one that was dropped or whose outcome is
    /// unknown.
    ///
    /// # Errors
    /// [`Error::Transaction`]; [`Error::InsideRuntime`].
    pub fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        let shared = self.held.runtime.clone();
        let (inner, runtime) = self.held.parts();
        let inner = runtime.wait("blocking::TransactionalProducer::begin", inner.begin())??;
        Ok(Transaction {
            inner,
            runtime: shared,
        })
    }

    /// Runs `work` as a transaction, and runs all of it again, up to `attempts` times in all, while the transaction fails for a
    /// reason that the next may not have; as [`producer::TransactionalProducer::run`](crate::producer::TransactionalProducer::run).
    ///
    /// `work` must do everything anew when it is called anew. A commit without an answer is repeated, as often.
    ///
    /// ```no_run
    /// # use ottla::prelude::*;
    /// # fn example(mut producer: ottla::blocking::TransactionalProducer) -> Result<(), Box<dyn std::error::Error>> {
    /// producer.run(3, |transaction| {
    ///     let _sent = transaction.send(ProducerRecord::to("debits").key("7").value("-100"))?;
    ///     let _sent = transaction.send(ProducerRecord::to("credits").key("8").value("100"))?;
    ///     Ok::<_, ottla::blocking::Error>(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RunError::Work`] if `work` fails while the transaction is sound; [`RunError::Transaction`] with the last error after
    /// `attempts`, a fatal one, or [`Error::InsideRuntime`].
    pub fn run<T, E>(
        &mut self,
        attempts: u32,
        mut work: impl FnMut(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, RunError<E>> {
        let config = self.config();
        let backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
        let mut attempt = 1;
        loop {
            let transaction = self.begin().map_err(RunError::Transaction)?;
            let error = match work(&transaction) {
                Ok(value) => match commit_repeatedly(transaction, attempts) {
                    Ok(()) => return Ok(value),
                    Err(error) => error,
                },
                Err(failure) => {
                    let doom = transaction.failure();
                    let aborted = transaction.abort();
                    let Some(doom) = doom else {
                        if let Err(error) = aborted {
                            tracing::warn!(%error, "the transaction of work that failed was not aborted yet");
                        }
                        return Err(RunError::Work(failure));
                    };
                    doom.into()
                }
            };
            let again = matches!(&error, Error::Transaction(error) if error.requires_abort());
            if !again || attempt >= attempts {
                return Err(RunError::Transaction(error));
            }
            std::thread::sleep(backoff.random_delay(attempt));
            attempt += 1;
        }
    }

    /// Whatever is done with it must be done within its runtime.
    pub(super) fn into_inner(self) -> AsyncProducer {
        self.held.into_parts().0
    }

    /// Ends the producer, within `timeout`.
    ///
    /// # Errors
    /// [`Error::Transaction`] if a transaction was not ended in time; [`Error::InsideRuntime`], and then it is dropped.
    pub fn close(self, timeout: Duration) -> Result<(), Error> {
        let (inner, runtime) = self.held.into_parts();
        let close = inner.close(timeout);
        Ok(runtime.wait("blocking::TransactionalProducer::close", close)??)
    }
}

/// An open transaction, as [`producer::Transaction`](crate::producer::Transaction). Dropped, it is aborted.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction<'a> {
    inner: AsyncTransaction<'a>,
    runtime: Arc<Runtime>,
}

impl<'a> Transaction<'a> {
    /// Sends a record as part of the transaction.
    ///
    /// # Errors
    /// [`Error::Send`]; [`Error::InsideRuntime`].
    pub fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery, Error> {
        let sent = self.inner.send(record);
        let sent = self.runtime.wait("blocking::Transaction::send", sent)??;
        Ok(Delivery::new(sent, self.runtime.clone()))
    }

    /// As [`send`](Self::send), without waiting, and on any thread.
    ///
    /// # Errors
    /// As [`producer::Transaction::try_send`](crate::producer::Transaction::try_send).
    pub fn try_send(&self, record: ProducerRecord<'_>) -> Result<Delivery, SendError> {
        let _here = self.runtime.enter();
        let sent = self.inner.try_send(record)?;
        Ok(Delivery::new(sent, self.runtime.clone()))
    }

    /// Makes positions of a consumer group part of the transaction.
    ///
    /// # Errors
    /// [`Error::Transaction`]; [`Error::InsideRuntime`].
    pub fn send_offsets<O: Into<TransactionOffset>>(
        &self,
        offsets: impl IntoIterator<Item = O>,
        group: &GroupMetadata,
    ) -> Result<(), Error> {
        let sent = self.inner.send_offsets(offsets, group);
        let call = "blocking::Transaction::send_offsets";
        Ok(self.runtime.wait(call, sent)??)
    }

    /// Why the transaction can no longer be committed, if something failed so far.
    pub fn failure(&self) -> Option<TransactionError> {
        self.inner.failure()
    }

    /// Waits until all records are delivered, and commits.
    ///
    /// # Errors
    /// [`CommitError`], with the transaction where it can be committed again or must be aborted.
    pub fn commit(self) -> Result<(), CommitError<'a>> {
        let call = "blocking::Transaction::commit";
        if let Err(error) = self.runtime.check(call) {
            let transaction = Some(Box::new(self));
            return Err(CommitError { error, transaction });
        }
        let Self { inner, runtime } = self;
        match runtime.wait(call, inner.commit()) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failed)) => Err(CommitError {
                error: failed.error.into(),
                transaction: failed
                    .transaction
                    .map(|inner| Box::new(Self { inner, runtime })),
            }),
            Err(error) => Err(CommitError {
                error,
                transaction: None,
            }),
        }
    }

    /// Aborts.
    ///
    /// # Errors
    /// [`Error::Transaction`]; [`Error::InsideRuntime`], and then it is aborted in the background.
    pub fn abort(self) -> Result<(), Error> {
        let call = "blocking::Transaction::abort";
        self.runtime.check(call)?;
        Ok(self.runtime.wait(call, self.inner.abort())??)
    }
}

fn commit_repeatedly(mut transaction: Transaction<'_>, attempts: u32) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        let Err(CommitError {
            error,
            transaction: open,
        }) = transaction.commit()
        else {
            return Ok(());
        };
        let (retriable, requires_abort) = match &error {
            Error::Transaction(error) => (error.is_retriable(), error.requires_abort()),
            _ => (false, false),
        };
        match open {
            Some(open) if retriable && attempt < attempts => transaction = *open,
            Some(open) if requires_abort => {
                open.abort()?;
                return Err(error);
            }
            _ => return Err(error),
        }
        attempt += 1;
    }
}

/// Why [`TransactionalProducer::run`] gave up.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E> {
    /// The closure failed while its transaction was sound. The transaction was aborted.
    #[error("the work of the transaction failed, and it was aborted: {0}")]
    Work(E),
    /// The transaction could not be begun or committed; as with
    /// [`producer::RunError::Transaction`](crate::producer::RunError::Transaction).
    #[error(transparent)]
    Transaction(Error),
}

/// A commit that failed, as [`producer::CommitError`](crate::producer::CommitError).
#[derive(Debug)]
pub struct CommitError<'a> {
    /// Why.
    pub error: Error,
    /// The transaction, if it can be committed again, or must be aborted.
    pub transaction: Option<Box<Transaction<'a>>>,
}

impl fmt::Display for CommitError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for CommitError<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
