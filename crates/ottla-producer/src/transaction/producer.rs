//! The handle of a transactional producer.

use std::sync::Arc;
use std::time::Duration;

use ottla_net::Cluster;
use tokio::time::{Instant, timeout_at};

use super::attempts::Attempts;
use super::error::{RunError, TransactionError};
use super::handle::Transaction;
use crate::client::Client;
use crate::config::ProducerConfig;
use crate::error::ConfigError;
use crate::metrics::ProducerMetrics;
use crate::producer::Producer;

/// Writes records, and positions of consumer groups, in transactions: all of one become visible
/// together, or none does.
///
/// Each is known to the cluster by its `transactional.id`. A new instance with the same id fences the
/// older ones off, and ends what they left open: so a program that was replaced, and is not
/// dead after all, cannot write any more.
///
/// Reading, transforming and writing exactly once: positions are part of the transaction, and the consumers of the
/// results read with `isolation.level=read_committed`.
///
/// ```no_run
/// use std::time::Duration;
/// use ottla_net::GroupMetadata;
/// use ottla_producer::{ProducerConfig, ProducerRecord, TransactionalProducer};
///
/// # async fn example(
/// #     cluster: ottla_net::Cluster,
/// #     group: GroupMetadata,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let config = ProducerConfig {
///     transactional_id: Some("billing-1".into()),
///     ..ProducerConfig::default()
/// };
/// let mut producer = TransactionalProducer::init(cluster, config).await?;
///
/// let transaction = producer.begin().await?;
/// for invoice in ["17", "18"] {
///     let _sent = transaction.send(ProducerRecord::to("invoices").value(invoice)).await?;
/// }
/// transaction.send_offsets([("orders", 0, 1042)], &group).await?;
/// if let Err(failed) = transaction.commit().await {
///     eprintln!("{failed}");
///     match failed.transaction {
///         Some(transaction) if failed.error.requires_abort() => transaction.abort().await?,
///         Some(transaction) => transaction.commit().await.map_err(|failed| failed.error)?,
///         None => return Err(failed.error.into()), // Fenced, or refused: close.
///     }
/// }
/// producer.close(Duration::from_secs(30)).await?;
/// # Ok(())
/// # }
/// ```
///
/// [`run`](Self::run) does the retrying, and [`attempts`](Self::attempts) does it in a loop.
///
/// Dropping it without [`close`](Self::close) leaves a transaction that is still being aborted to the background.
#[derive(Debug)]
pub struct TransactionalProducer {
    pub(super) producer: Producer,
}

impl TransactionalProducer {
    /// A producer for the `transactional.id` in `config`. Fences older instances off, and has the transaction
    /// that one of them may have left open completed or aborted.
    ///
    /// Takes `max.block.ms` at most. Must be called inside a tokio runtime, as
    /// [`Producer::new`](crate::Producer::new).
    ///
    /// Cancel safe, in that nothing is left behind; older instances may be fenced off.
    ///
    /// # Errors
    /// [`TransactionError::Config`] for settings that cannot work, or without `transactional.id`;
    /// [`TransactionError::NotReached`]; or a fatal one.
    pub async fn init(cluster: Cluster, config: ProducerConfig) -> Result<Self, TransactionError> {
        if config.transactional_id.is_none() {
            return Err(TransactionError::Config(ConfigError {
                setting: "transactional.id",
                problem: "is missing: name the producer, differently from all others that are to write at the same time",
            }));
        }
        let producer = Producer::start(cluster, config)?;
        let client = producer.client().clone();
        let task = client.runtime.spawn(client.clone().run_enlisting());
        client.tasks.lock().push(task);
        // Not on a task of its own: what is dropped here must not ask again, and fence its successor off.
        client.initialise().await?;
        Ok(Self { producer })
    }

    /// The `transactional.id`.
    pub fn transactional_id(&self) -> &str {
        let id = self.producer.config().transactional_id.as_deref();
        id.unwrap_or_default()
    }

    /// The settings.
    pub fn config(&self) -> &ProducerConfig {
        self.producer.config()
    }

    /// What the producer has done so far, in figures; as [`Producer::metrics`].
    pub fn metrics(&self) -> ProducerMetrics {
        self.producer.metrics()
    }

    /// Begins a transaction. Waits, `max.block.ms` at most, for the end of one that was dropped or whose
    /// outcome is unknown; otherwise asks nobody.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`TransactionError::NotReached`] or [`TransactionError::UnknownOutcome`] if the previous transaction
    /// could not be ended in time: call again. A fatal one otherwise.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, TransactionError> {
        let client = self.producer.client().clone();
        let serial = on_own_task(&client, client.clone().begin_transaction()).await?;
        Ok(Transaction::new(self, serial))
    }

    /// Runs `work` as a transaction, and runs all of it again, up to `attempts` times in all, while the
    /// transaction fails for a reason that the next may not have.
    ///
    /// `work` must do everything anew when it is called anew: also seek its consumer back to what is
    /// committed. A commit without an answer is repeated, as often.
    ///
    /// Cancel safe as [`Transaction::commit`] is.
    ///
    /// In a task of its own (`tokio::spawn`) `work` may own and make what it needs, and not borrow from around it: the
    /// compiler cannot prove the future of such an async closure to be `Send`. Where it has to borrow,
    /// [`attempts`](Self::attempts) does the same in a loop of the program's own.
    ///
    /// # Errors
    /// [`RunError::Work`] if `work` fails while the transaction is sound; [`RunError::Transaction`] with
    /// the last error after `attempts`, or a fatal one.
    pub async fn run<T, E>(
        &mut self,
        attempts: u32,
        mut work: impl AsyncFnMut(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, RunError<E>> {
        let mut attempts = self.attempts(attempts);
        loop {
            let attempt = attempts.begin().await?;
            let done = work(&attempt).await;
            if let Some(value) = attempt.finish(done).await? {
                return Ok(value);
            }
        }
    }

    /// [`run`](Self::run) as a loop: its work may borrow whatever is around it, also in a task of its own.
    ///
    /// `attempts_max` is how often the transaction is begun while it fails for a reason that the next attempt may not have, and
    /// how often a commit without an answer is repeated; from 1. Everything must be done anew in each attempt: also a consumer
    /// sought back to what is committed.
    ///
    /// ```no_run
    /// use ottla_producer::{ProducerRecord, RunError, SendError, TransactionalProducer};
    ///
    /// /// Writes all of them or none. How many.
    /// async fn bill(
    ///     producer: &mut TransactionalProducer,
    ///     invoices: &[String],
    /// ) -> Result<usize, RunError<SendError>> {
    ///     let mut attempts = producer.attempts(3);
    ///     loop {
    ///         let transaction = attempts.begin().await?;
    ///         let work = async {
    ///             for invoice in invoices {
    ///                 let record = ProducerRecord::to("invoices").value(invoice);
    ///                 let _sent = transaction.send(record).await?;
    ///             }
    ///             Ok(invoices.len())
    ///         };
    ///         let done = work.await;
    ///         if let Some(count) = transaction.finish(done).await? {
    ///             return Ok(count);
    ///         }
    ///     }
    /// }
    ///
    /// # fn example(mut producer: TransactionalProducer, invoices: Vec<String>) {
    /// tokio::spawn(async move { bill(&mut producer, &invoices).await });
    /// # }
    /// ```
    pub fn attempts(&mut self, attempts_max: u32) -> Attempts<'_> {
        Attempts::new(self, attempts_max)
    }

    /// Ends the producer: waits, `timeout` at most, until a transaction that was dropped is aborted and one
    /// in doubt is decided, and stops the tasks.
    ///
    /// If cancelled, the producer ends all the same.
    ///
    /// # Errors
    /// [`TransactionError::NotReached`] or [`TransactionError::UnknownOutcome`] if that took longer. The coordinator
    /// aborts what is open after `transaction.timeout.ms`, or when the next instance starts.
    pub async fn close(self, timeout: Duration) -> Result<(), TransactionError> {
        let client = self.producer.client().clone();
        let started = Instant::now();
        let deadline = started
            .checked_add(timeout)
            .unwrap_or_else(|| started + Duration::from_secs(u64::from(u32::MAX)));
        let finished = on_own_task(&client, client.clone().finish(deadline));
        let finished = timeout_at(deadline, finished).await;
        // Nothing can be sent any more, so there is nothing to flush.
        let _ = self.producer.close(Duration::ZERO).await;
        finished.unwrap_or_else(|_| {
            Err(TransactionError::NotReached {
                step: "close",
                waited: timeout,
                last: "the last transaction is still being ended".into(),
            })
        })
    }
}

/// Runs a step to its end, whether or not the caller waits for it.
pub(super) async fn on_own_task<T: Send + 'static>(
    client: &Arc<Client>,
    step: impl Future<Output = Result<T, TransactionError>> + Send + 'static,
) -> Result<T, TransactionError> {
    match client.runtime.spawn(step).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is being shut down.
        Err(_) => Err(TransactionError::Closed),
    }
}
