//! Read, transform, write, for programs without tokio.

use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::producer::Delivery;
use super::runtime::{Held, Runtime};
use super::streams::PartitionStream;
use super::transaction::TransactionalProducer;
use crate::consumer::{Error as ConsumerError, RecordBatch, StreamEnd, TopicPartition};
use crate::exactly_once::{
    ExactlyOnce as AsyncExactlyOnce, Outcome, SessionError, Step as AsyncStep,
};
use crate::producer::ProducerRecord;

/// Reads one partition, and writes what comes of each batch in the transaction that also commits the batch, as
/// [`exactly_once::ExactlyOnce`](crate::exactly_once::ExactlyOnce), which says what the settings must be.
///
/// ```no_run
/// # use ottla::{blocking::ExactlyOnce, prelude::*, producer::ProducerConfig};
/// # fn example(client: ottla::blocking::Client) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let consumer = client.consumer()?; // enable.auto.commit=false
/// consumer.subscribe(["orders"])?;
/// let mut partitions = consumer.split()?;
/// loop {
///     let stream = partitions.next_partition()?;
///     let producer = client.transactional_producer_with(ProducerConfig {
///         transactional_id: Some(format!("billing-{}", stream.topic_partition())),
///         ..client.producer_config()
///     })?;
///     std::thread::spawn(move || {
///         let mut session = ExactlyOnce::new(stream, producer)?;
///         while let Some(step) = session.next()? {
///             for order in step.batch() {
///                 let order = order?;
///                 let invoice = ProducerRecord::to("invoices").value(order.value().unwrap_or_default());
///                 let _sent = step.send(invoice)?;
///             }
///             let _outcome = step.commit()?;
///         }
///         session.close(std::time::Duration::from_secs(10))?;
///         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
///     });
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct ExactlyOnce {
    held: Held<AsyncExactlyOnce>,
}

impl ExactlyOnce {
    /// Reads `stream` and writes with `producer`.
    ///
    /// # Errors
    /// As [`exactly_once::ExactlyOnce::new`](crate::exactly_once::ExactlyOnce::new).
    pub fn new(
        stream: PartitionStream,
        producer: TransactionalProducer,
    ) -> Result<Self, ConsumerError> {
        let (stream, runtime) = stream.into_parts();
        // What is dropped on the way has its runtime.
        let _here = runtime.enter();
        let inner = AsyncExactlyOnce::new(stream, producer.into_inner())?;
        Ok(Self {
            held: Held::new(inner, runtime.clone()),
        })
    }

    /// The next batch, and a transaction for what comes of it; `None` when the stream has ended: then close this, or drop
    /// it. Waits as long as it takes.
    ///
    /// # Errors
    /// [`Error::Consumer`] and [`Error::Transaction`], after which calling again goes on, unless a transaction's [is
    /// fatal](crate::producer::TransactionError::is_fatal); [`Error::InsideRuntime`].
    #[expect(clippy::should_implement_trait, reason = "a step borrows the session")]
    pub fn next(&mut self) -> Result<Option<Step<'_>>, Error> {
        let shared = self.held.runtime.clone();
        let (inner, runtime) = self.held.parts();
        let next = runtime.wait("blocking::ExactlyOnce::next", inner.next())?;
        let step = next.map_err(|error| match error {
            SessionError::Read(error) => Error::Consumer(error),
            SessionError::Transaction(error) => Error::Transaction(error),
        })?;
        Ok(step.map(|inner| Step {
            inner,
            runtime: shared,
        }))
    }

    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        self.held.get().topic_partition()
    }

    /// Why the stream has ended, or is about to.
    pub fn end(&self) -> Option<StreamEnd> {
        self.held.get().end()
    }

    /// Lets go of the partition, and ends the producer, within `timeout`.
    ///
    /// # Errors
    /// As [`TransactionalProducer::close`].
    pub fn close(self, timeout: Duration) -> Result<(), Error> {
        let (inner, runtime) = self.held.into_parts();
        Ok(runtime.wait("blocking::ExactlyOnce::close", inner.close(timeout))??)
    }
}

/// A batch, and the transaction that its results go into. Dropped, the transaction is aborted, and the batch comes again. It
/// must be committed before `transaction.timeout.ms`, and before `max.poll.interval.ms`, is over.
#[derive(Debug)]
#[must_use = "what is not committed comes again"]
pub struct Step<'a> {
    inner: AsyncStep<'a>,
    runtime: Arc<Runtime>,
}

impl Step<'_> {
    /// The records to be processed.
    pub fn batch(&self) -> &RecordBatch {
        self.inner.batch()
    }

    /// Sends a record as part of the transaction.
    ///
    /// # Errors
    /// [`Error::Send`]; [`Error::InsideRuntime`]. To have the batch again, commit all the same, which finds that it must
    /// abort, or drop this.
    pub fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery, Error> {
        let sent = self.inner.send(record);
        let sent = self.runtime.wait("blocking::Step::send", sent)??;
        Ok(Delivery::new(sent, self.runtime.clone()))
    }

    /// Commits what was sent, and that the batch is processed.
    ///
    /// # Errors
    /// [`Error::Transaction`], as [`exactly_once::Step::commit`](crate::exactly_once::Step::commit); [`Error::InsideRuntime`],
    /// and then the transaction is aborted.
    pub fn commit(self) -> Result<Outcome, Error> {
        let Self { inner, runtime } = self;
        Ok(runtime.wait("blocking::Step::commit", inner.commit())??)
    }
}
