//! An open transaction.

use std::sync::Arc;

use ottla_net::GroupMetadata;
use ottla_wire::Str;

use super::error::{CommitError, TransactionError};
use super::producer::{TransactionalProducer, on_own_task};
use crate::delivery::Delivery;
use crate::error::SendError;
use crate::record::ProducerRecord;

/// An open transaction: what is sent through it becomes visible to `read_committed` consumers with
/// [`commit`](Self::commit), all at once, or never.
///
/// Dropped without either it is aborted in the background, before the next one begins. A
/// transaction that is open for longer than `transaction.timeout.ms` is aborted by the coordinator, which
/// fences the producer.
///
/// What makes no sense does not compile: two transactions of one producer at a time,
///
/// ```compile_fail,E0499
/// # async fn example(mut producer: ottla_producer::TransactionalProducer) -> Result<(), ottla_producer::TransactionError> {
/// let first = producer.begin().await?;
/// let second = producer.begin().await?;
/// first.abort().await?;
/// # Ok(())
/// # }
/// ```
///
/// an abort after a commit,
///
/// ```compile_fail,E0382
/// # async fn example(mut producer: ottla_producer::TransactionalProducer) -> Result<(), Box<dyn std::error::Error>> {
/// let transaction = producer.begin().await?;
/// transaction.commit().await.map_err(|failed| failed.error)?;
/// transaction.abort().await?;
/// # Ok(())
/// # }
/// ```
///
/// and a record outside of a transaction.
///
/// ```compile_fail,E0599
/// # use ottla_producer::{ProducerRecord, TransactionalProducer};
/// # async fn example(producer: TransactionalProducer) -> Result<(), Box<dyn std::error::Error>> {
/// producer.send(ProducerRecord::to("clicks").value("{}")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction<'a> {
    producer: &'a mut TransactionalProducer,
    serial: u64,
    /// A request to commit left and has no answer.
    in_doubt: bool,
    ended: bool,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(producer: &'a mut TransactionalProducer, serial: u64) -> Self {
        Self {
            producer,
            serial,
            in_doubt: false,
            ended: false,
        }
    }

    /// Sends a record as part of the transaction; as [`Producer::send`](crate::Producer::send).
    ///
    /// Deliveries need not be awaited one by one: a commit waits for all, and fails if one did. A
    /// record that this call refuses is not part of the transaction and does not stop a commit.
    ///
    /// Cancel safe: dropped before it is ready, the record was not accepted.
    ///
    /// # Errors
    /// As [`Producer::send`](crate::Producer::send); [`SendError::TransactionEnded`] once a record of the
    /// transaction failed, or its commit is in doubt.
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery, SendError> {
        self.check_open()?;
        self.producer.producer.send(record).await
    }

    /// As [`send`](Self::send), without waiting; as [`Producer::try_send`](crate::Producer::try_send).
    ///
    /// # Errors
    /// As [`Producer::try_send`](crate::Producer::try_send); [`SendError::TransactionEnded`] as
    /// [`send`](Self::send).
    pub fn try_send(&self, record: ProducerRecord<'_>) -> Result<Delivery, SendError> {
        self.check_open()?;
        self.producer.producer.try_send(record)
    }

    /// Makes positions of a consumer group part of the transaction (KIP-447): they are committed with it. For
    /// each partition the offset of the next record to be read, and `group` as
    /// `Consumer::group_metadata` tells it *after* those records were read.
    ///
    /// The consumer must not commit these partitions itself (`enable.auto.commit=false`). After an abort its
    /// positions are ahead of what is committed, and must be sought back.
    ///
    /// Takes `max.block.ms` at most. Once begun, goes on when cancelled; a commit waits for it.
    ///
    /// # Errors
    /// One that [requires an abort](TransactionError::requires_abort) if the group's coordinator refuses, above all
    /// because the group has given the partitions to another member; [`TransactionError::NotReached`],
    /// after which the call must be repeated until it succeeds, or the transaction aborted; or a fatal one.
    pub async fn send_offsets<O: Into<TransactionOffset>>(
        &self,
        offsets: impl IntoIterator<Item = O>,
        group: &GroupMetadata,
    ) -> Result<(), TransactionError> {
        let offsets: Vec<_> = offsets.into_iter().map(Into::into).collect();
        if offsets.is_empty() {
            return Ok(());
        }
        let client = self.producer.producer.client().clone();
        let shared = Arc::clone(&client.transactions.busy).read_owned().await;
        let work = client
            .clone()
            .send_offsets(shared, self.serial, offsets, group.clone());
        on_own_task(&client, work).await
    }

    /// Why the transaction can no longer be committed, if something failed so far.
    pub fn failure(&self) -> Option<TransactionError> {
        self.producer.producer.client().doom()
    }

    /// Waits until all records are delivered, and commits.
    ///
    /// Takes as long as the deliveries, at most `delivery.timeout.ms`, and then `max.block.ms` at
    /// most. Dropped while records are on their way, the transaction is aborted; dropped later, it may be
    /// committed or not, and the next [`begin`](TransactionalProducer::begin) waits until that is known.
    ///
    /// # Errors
    /// [`CommitError`], with the transaction where it can be committed again or must be aborted.
    pub async fn commit(mut self) -> Result<(), CommitError<'a>> {
        let client = self.producer.producer.client().clone();
        tokio::select! {
            biased;
            _ = client.flush(FOREVER) => {}
            // One failure decides: the others' fates need not be waited for.
            () = client.supplies.outstanding.failed() => {}
        }
        let outcome = on_own_task(&client, client.clone().commit_transaction(self.serial)).await;
        let Err(error) = outcome else {
            self.ended = true;
            return Ok(());
        };
        self.in_doubt = error.possibly_committed();
        let transaction = if error.is_fatal() {
            self.ended = true;
            None
        } else {
            Some(self)
        };
        Err(CommitError { error, transaction })
    }

    /// Aborts: records not sent yet are not sent, and their deliveries fail with
    /// [`SendError::TransactionEnded`]; those that were sent are never seen by `read_committed` consumers.
    ///
    /// Waits for what is in flight, `request.timeout.ms` at most, and then `max.block.ms` at most for
    /// the coordinator. Once begun, goes on when cancelled.
    ///
    /// # Errors
    /// [`TransactionError::NotReached`] if the coordinator could not be told in time: the transaction will
    /// not be committed, and the next [`begin`](TransactionalProducer::begin) tells it.
    /// [`TransactionError::UnknownOutcome`] after a commit with that outcome: too late to abort. Or a fatal one.
    pub async fn abort(mut self) -> Result<(), TransactionError> {
        self.ended = true;
        let client = self.producer.producer.client().clone();
        on_own_task(&client, client.clone().abort_transaction(self.serial)).await
    }

    fn check_open(&self) -> Result<(), SendError> {
        let reason = if self.in_doubt {
            "the request to commit its transaction left already; commit again to find out the outcome"
        } else if self
            .producer
            .producer
            .client()
            .supplies
            .outstanding
            .has_failed()
        {
            "another record of its transaction failed, so it can only be aborted"
        } else {
            return Ok(());
        };
        match self.producer.producer.client().core.lock().fatal() {
            Some(fatal) => Err(fatal.clone()),
            None => Err(SendError::TransactionEnded {
                reason: reason.into(),
            }),
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let client = self.producer.producer.client();
            // Detached; the next begin waits for it.
            client
                .runtime
                .spawn(client.clone().abort_transaction(self.serial));
        }
    }
}

/// The position of a consumer group in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionOffset {
    /// The topic.
    pub topic: Str,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to be read.
    pub offset: i64,
    /// The leader epoch of the last record read, if it is known: guards against a truncated log (KIP-320).
    pub leader_epoch: Option<i32>,
    /// A text kept beside the offset.
    pub metadata: Str,
}

impl<T: Into<Str>> From<(T, i32, i64)> for TransactionOffset {
    fn from((topic, partition, offset): (T, i32, i64)) -> Self {
        Self {
            topic: topic.into(),
            partition,
            offset,
            leader_epoch: None,
            metadata: Str::default(),
        }
    }
}

/// Deliveries end by themselves, with `delivery.timeout.ms`.
const FOREVER: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 24 * 3600);
