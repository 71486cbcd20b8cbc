//! Read, transform, write: each record's results once, whatever happens to members, coordinators and brokers.
//!
//! Owns the order of the steps around one batch: its results and its offset are one transaction, in which the offset speaks
//! for the member that was handed the batch, and no other. docs/architecture.md says why that is enough.

use std::time::Duration;

use crate::consumer::{
    Error as ConsumerError, Offset, PartitionStream, RecordBatch, StreamEnd, TopicPartition,
};
use crate::net::Backoff;
use crate::producer::{
    CommitError, Delivery, ProducerRecord, SendError, Transaction, TransactionError,
    TransactionOffset, TransactionalProducer,
};

/// Reads one partition, and writes what comes of each batch in the transaction that also commits the batch: consumers with
/// `isolation.level=read_committed` see the results of each record once.
///
/// For each [`PartitionStream`] a producer of its own, with a `transactional.id` of its own (the group's name and the
/// partition make a good one): the transactions of one producer wait for each other. The consumer must not commit by
/// itself (`enable.auto.commit=false`), and should read with `isolation.level=read_committed` what was written in
/// transactions.
///
/// ```no_run
/// use ottla::{exactly_once::ExactlyOnce, prelude::*, producer::ProducerConfig};
///
/// type Failure = Box<dyn std::error::Error + Send + Sync>;
///
/// # async fn example(client: Client) -> Result<(), Failure> {
/// let consumer = client.consumer()?; // enable.auto.commit=false
/// consumer.subscribe(["orders"])?;
/// let mut partitions = consumer.split()?;
/// loop {
///     let stream = partitions.next_partition().await?;
///     let producer = client.transactional_producer_with(ProducerConfig {
///         transactional_id: Some(format!("billing-{}", stream.topic_partition())),
///         ..client.producer_config()
///     });
///     let mut session = ExactlyOnce::new(stream, producer.await?)?;
///     tokio::spawn(async move {
///         while let Some(step) = session.next().await? {
///             for order in step.batch() {
///                 let order = order?;
///                 let invoice = ProducerRecord::to("invoices").value(order.value().unwrap_or_default());
///                 let _sent = step.send(invoice).await?;
///             }
///             step.commit().await?;
///         }
///         session.close(std::time::Duration::from_secs(10)).await?;
///         Ok::<_, Failure>(())
///     });
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct ExactlyOnce {
    reader: Reader,
    producer: TransactionalProducer,
    /// Of a transaction that was aborted for certain: comes again from memory.
    again: Option<RecordBatch>,
    /// Transactions in a row that were aborted.
    failures: u32,
    backoff: Backoff,
}

impl ExactlyOnce {
    /// Reads `stream` and writes with `producer`.
    ///
    /// # Errors
    /// [`ConsumerError::Usage`] if the consumer has no `group.id`, or commits by itself.
    pub fn new(
        stream: PartitionStream,
        producer: TransactionalProducer,
    ) -> Result<Self, ConsumerError> {
        let config = stream.consumer().config();
        if config.group_id.is_none() {
            return Err(ConsumerError::Usage(
                "exactly once needs group.id: it is the group that keeps what is processed",
            ));
        }
        if config.enable_auto_commit {
            return Err(ConsumerError::Usage(
                "exactly once needs enable.auto.commit=false: offsets are committed in transactions",
            ));
        }
        let config = producer.config();
        Ok(Self {
            backoff: Backoff::new(config.retry_backoff, config.retry_backoff_max),
            reader: Reader {
                stream,
                unsettled: false,
            },
            producer,
            again: None,
            failures: 0,
        })
    }

    /// The next batch, and a transaction for what comes of it; `None` when the stream has ended: then close this, or drop
    /// it. Waits for as long as it takes.
    ///
    /// A batch comes again until it was committed: after [`Outcome::Aborted`] from memory, after a pause that grows, and after anything else
    /// from the log, when it is certain that its transaction was not committed.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`SessionError::Read`]: calling again goes on, as with [`PartitionStream::next_batch`].
    /// [`SessionError::Transaction`]: calling again goes on, unless that [is fatal](TransactionError::is_fatal).
    pub async fn next(&mut self) -> Result<Option<Step<'_>>, SessionError> {
        if self.again.is_some() {
            tokio::time::sleep(self.backoff.random_delay(self.failures)).await;
        }
        let held = self.again.take_if(|_| self.reader.stream.end().is_none());
        let batch = match held {
            Some(batch) => batch,
            None => {
                if self.reader.unsettled {
                    self.settle().await?;
                }
                match self.reader.stream.next_batch().await? {
                    Some(batch) => batch,
                    None => return Ok(None),
                }
            }
        };
        let Self {
            reader,
            producer,
            again,
            failures,
            ..
        } = self;
        reader.unsettled = true;
        Ok(Some(Step {
            transaction: producer.begin().await?,
            reader,
            again,
            failures,
            batch,
        }))
    }

    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        self.reader.stream.topic_partition()
    }

    /// Why the stream has ended, or is about to.
    pub fn end(&self) -> Option<StreamEnd> {
        self.reader.stream.end()
    }

    /// Lets go of the partition, and ends the producer, within `timeout`.
    ///
    /// # Errors
    /// As [`TransactionalProducer::close`].
    pub async fn close(self, timeout: Duration) -> Result<(), TransactionError> {
        drop(self.reader);
        self.producer.close(timeout).await
    }

    /// Finds out what became of the latest batch.
    async fn settle(&mut self) -> Result<(), TransactionError> {
        // It ends the transaction before, whose offset is not decided until then.
        self.producer.begin().await?.abort().await?;
        self.reader.go_back();
        Ok(())
    }
}

/// A batch, and the transaction that its results go into.
///
/// Dropped, the transaction is aborted, and the batch comes again. It must be committed before `transaction.timeout.ms`,
/// and before `max.poll.interval.ms`, is over.
#[derive(Debug)]
#[must_use = "what is not committed comes again"]
pub struct Step<'a> {
    transaction: Transaction<'a>,
    reader: &'a mut Reader,
    again: &'a mut Option<RecordBatch>,
    failures: &'a mut u32,
    batch: RecordBatch,
}

impl<'a> Step<'a> {
    /// The records to be processed.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Sends a record as part of the transaction, as [`Transaction::send`].
    ///
    /// # Errors
    /// As there. To have the batch again, commit all the same, which finds that it must abort, or drop this.
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery, SendError> {
        self.transaction.send(record).await
    }

    /// The transaction, for all else that can be done in one.
    pub fn transaction(&self) -> &Transaction<'a> {
        &self.transaction
    }

    /// Commits what was sent, and that the batch is processed. Also when the stream has been told to end since, unless its
    /// partition was lost.
    ///
    /// When dropped, it is committed as a whole or not at all, and the next batch is what is not committed.
    ///
    /// # Errors
    /// One that [is retriable](TransactionError::is_retriable) after ten attempts, each of `max.block.ms`: the session may
    /// be asked for the next batch, and finds out what became of this one. A fatal one otherwise.
    pub async fn commit(self) -> Result<Outcome, TransactionError> {
        let Self {
            mut transaction,
            reader,
            again,
            failures,
            batch,
        } = self;
        // Not as the member of now, but as the one that was handed the batch and has its partition still.
        let Some(group) = reader.stream.group_metadata() else {
            transaction.abort().await?;
            return Ok(Outcome::Aborted);
        };
        let place = (
            batch.topic().clone(),
            batch.partition(),
            batch.next_offset(),
        );
        let offset = TransactionOffset {
            leader_epoch: batch.leader_epoch(),
            ..place.into()
        };
        let mut outcome = transaction.send_offsets([offset], &group).await;
        let mut attempts = 0;
        while outcome.is_ok() {
            let Err(CommitError {
                error,
                transaction: open,
            }) = transaction.commit().await
            else {
                reader.unsettled = false;
                reader.stream.mark_processed();
                *failures = 0;
                return Ok(Outcome::Committed(batch.next_offset()));
            };
            attempts += 1;
            match open {
                None => return Err(error),
                Some(open) => transaction = open,
            }
            if error.requires_abort() {
                outcome = Err(error);
            } else if attempts == ATTEMPTS {
                return Err(error);
            }
        }
        if let Err(error) = outcome {
            if error.is_fatal() {
                return Err(error);
            }
            tracing::debug!(%error, partition = %batch.topic_partition(), "aborted; the batch comes again");
        }
        match transaction.abort().await {
            // Whether or not the coordinator was told: it is not committed any more.
            Ok(()) | Err(TransactionError::NotReached { .. }) => {
                *failures += 1;
                *again = Some(batch);
                Ok(Outcome::Aborted)
            }
            Err(error) => Err(error),
        }
    }
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an aborted batch comes again"]
pub enum Outcome {
    /// It is processed; the offset behind it.
    Committed(i64),
    /// Its transaction had to be aborted, for instance because the group rebalanced, or a record was not delivered. The
    /// session's next batch is the same, if the partition is still this consumer's.
    Aborted,
}

/// The partition, and where it goes on.
#[derive(Debug)]
struct Reader {
    stream: PartitionStream,
    /// What became of the latest batch is not known: what is committed says.
    unsettled: bool,
}

impl Reader {
    /// Has the partition go on from what is committed, in this stream or another; the coordinator tells it
    /// only when no transaction is open that would change it.
    fn go_back(&mut self) {
        if std::mem::take(&mut self.unsettled) {
            // Without the partition there is nothing to go on with.
            let _ = self.stream.seek(Offset::Committed);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.go_back();
    }
}

/// Why there is no next batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The partition could not be read.
    #[error(transparent)]
    Read(#[from] ConsumerError),
    /// The next transaction could not be begun.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
}

const ATTEMPTS: u32 = 10;
