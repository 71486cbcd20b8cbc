//! The producer as programs see it.

use std::sync::Arc;
use std::time::Duration;

use ottla_net::Cluster;

use crate::client::Client;
use crate::config::ProducerConfig;
use crate::delivery::{Delivery, RecordMetadata};
use crate::error::{ConfigError, FlushError, SendAllError, SendError};
use crate::interceptor::Interceptors;
use crate::keeper::{run_identity, run_keeper};
use crate::metrics::ProducerMetrics;
use crate::purge::Purge;
use crate::record::ProducerRecord;
use crate::sending::{Pace, Sending};

/// Sends records to Kafka. Cheap to clone; clones are the same producer, to be used from any number of tasks and
/// threads.
///
/// [`send`](Self::send) copies the record into its partition's open batch and returns a [`Delivery`], a
/// future of the outcome. Background tasks send batches, several per request and several requests at a
/// time per broker, and repeat them until the outcome is definite.
///
/// Records of one partition are written in the order in which their `send` calls returned. With
/// [idempotence](ProducerConfig::enable_idempotence), on by default, each is written exactly once as far as
/// one producer can tell: after a failure that leaves a doubt, its delivery says so.
///
/// End it with [`close`](Self::close). Dropping the last clone sends nothing more: records not yet sent fail with
/// [`SendError::Closed`], those in flight with [`SendError::PossiblyWritten`], and the log has a
/// warning with their number.
///
/// ```no_run
/// use std::time::Duration;
/// use ottla_producer::{Producer, ProducerConfig, ProducerRecord};
///
/// # async fn example(cluster: ottla_net::Cluster) -> Result<(), Box<dyn std::error::Error>> {
/// let producer = Producer::new(cluster, ProducerConfig::default())?;
/// let delivery = producer.send(ProducerRecord::to("clicks").key("user-7").value("{}")).await?;
/// let written = delivery.await?;
/// println!("{}[{}]@{:?}", written.topic(), written.partition(), written.offset());
/// producer.close(Duration::from_secs(30)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Producer {
    owner: Arc<Owner>,
}

/// Ends the producer with its last handle.
#[derive(Debug)]
struct Owner {
    client: Arc<Client>,
}

impl Producer {
    /// A producer for `cluster`. Does no I/O; must be called inside a tokio runtime, which must have its time
    /// and, for the cluster, I/O drivers enabled, and runs the producer's tasks.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn new(cluster: Cluster, config: ProducerConfig) -> Result<Self, ConfigError> {
        if config.transactional_id.is_some() {
            return Err(ConfigError {
                setting: "transactional.id",
                problem: "is for a TransactionalProducer",
            });
        }
        let producer = Self::start(cluster, config)?;
        let client = producer.client();
        let task = client.runtime.spawn(run_identity(client.clone()));
        client.tasks.lock().push(task);
        Ok(producer)
    }

    /// As [`new`](Self::new), without a task that gets producer ids.
    pub(crate) fn start(cluster: Cluster, config: ProducerConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        if config.request_timeout < cluster.config().request_timeout {
            // A silent broker's connection would be kept, and tried again on, long after it should be
            // replaced.
            return Err(ConfigError {
                setting: "request.timeout.ms",
                problem: "must not be below the cluster's own (ClusterConfig::request_timeout)",
            });
        }
        let client = Client::new(cluster, config);
        let task = client.runtime.spawn(run_keeper(client.clone()));
        client.tasks.lock().push(task);
        Ok(Self {
            owner: Arc::new(Owner { client }),
        })
    }

    /// The settings.
    pub fn config(&self) -> &ProducerConfig {
        &self.client().config
    }

    /// Copies `record` into a batch, and returns the future of its outcome.
    ///
    /// Waits only for the metadata of a topic that is new to this producer, and for buffer space, in the
    /// order of calls; together at most `max.block.ms`.
    ///
    /// Cancel safe: dropped before it is ready, the record was not accepted.
    ///
    /// # Errors
    /// [`TopicUnavailable`](SendError::TopicUnavailable), [`UnknownPartition`](SendError::UnknownPartition),
    /// [`RecordTooLarge`](SendError::RecordTooLarge), [`InvalidRecord`](SendError::InvalidRecord),
    /// [`BufferFull`](SendError::BufferFull), [`Fatal`](SendError::Fatal) and
    /// [`Closed`](SendError::Closed); the record was not accepted.
    #[inline]
    pub fn send<'a>(&'a self, record: ProducerRecord<'a>) -> Sending<'a> {
        Sending::new(self, record, Pace::Lingering)
    }

    /// Copies `records` into batches, one after the other, and returns the futures of their outcomes, in the same order. Waits as
    /// [`send`](Self::send) for each.
    ///
    /// ```no_run
    /// # use ottla_producer::{Producer, ProducerRecord};
    /// # async fn example(producer: Producer) -> Result<(), Box<dyn std::error::Error>> {
    /// let lines = ["one", "two", "three"];
    /// let records = lines.iter().map(|line| ProducerRecord::to("lines").value(line));
    /// for delivery in producer.send_all(records).await? {
    ///     delivery.await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// If cancelled, the records accepted so far are on their way without a delivery.
    ///
    /// # Errors
    /// [`SendAllError`] at the first record that is not accepted, with the deliveries of those before it. Later records are
    /// not looked at.
    pub async fn send_all<'a>(
        &self,
        records: impl IntoIterator<Item = ProducerRecord<'a>>,
    ) -> Result<Vec<Delivery>, SendAllError> {
        let records = records.into_iter();
        let mut accepted = Vec::with_capacity(records.size_hint().0);
        for record in records {
            match self.send(record).await {
                Ok(delivery) => accepted.push(delivery),
                Err(error) => return Err(SendAllError { accepted, error }),
            }
        }
        Ok(accepted)
    }

    /// Sends `record` and waits for its outcome. As somebody waits, its batch does not linger: it leaves, with what is in
    /// it, as soon as the broker has room for a request.
    ///
    /// Many of these at once, on tasks of their own, share batches; one after the other, each record pays for a
    /// request.
    ///
    /// Dropped while it waits for the outcome, the record is on its way; before, it was not accepted.
    ///
    /// # Errors
    /// [`SendError`], of the `send` or of the delivery.
    pub async fn produce_and_wait(
        &self,
        record: ProducerRecord<'_>,
    ) -> Result<RecordMetadata, SendError> {
        Sending::new(self, record, Pace::AtOnce).await?.await
    }

    /// As [`send`](Self::send), without waiting. The record is only borrowed: after an error the caller has it as
    /// before, to try again or to put it elsewhere.
    ///
    /// # Errors
    /// As [`send`](Self::send); [`BufferFull`](SendError::BufferFull) and
    /// [`TopicNotLoaded`](SendError::TopicNotLoaded) at once. Metadata of an unknown topic is then asked
    /// for, so that a later call finds it.
    pub fn try_send(&self, record: ProducerRecord<'_>) -> Result<Delivery, SendError> {
        let interceptors = self.interceptors();
        if interceptors.is_empty() {
            return self.try_send_past_interceptors(record);
        }
        let changed = interceptors.on_send(&record);
        let headers = changed.borrowed_headers();
        let record = changed.record(&headers);
        let sent = self.try_send_past_interceptors(record);
        sent.inspect_err(|error| interceptors.on_refusal(&record, error))
    }

    /// Sends what lingers, and waits until every record accepted before the call is settled, or `timeout`
    /// is over. Outcomes are told by the deliveries, not here.
    ///
    /// Cancel safe: cancelling takes back nothing but the waiting.
    ///
    /// # Errors
    /// [`FlushError`] at the timeout, with what is still open; it stays on its way.
    pub async fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        self.client().flush(timeout).await
    }

    /// Ends the producer: accepts no more records, flushes for at most `timeout`, settles what is left
    /// as in a drop of the last handle, and stops the tasks. Later calls on clones fail with [`SendError::Closed`].
    ///
    /// If cancelled, the producer is closed to new records, and ends with its last handle.
    ///
    /// # Errors
    /// [`FlushError`] if records were left at the timeout: how many, and of which partitions.
    pub async fn close(&self, timeout: Duration) -> Result<(), FlushError> {
        let client = self.client();
        client.begin_close();
        let flushed = client.flush(timeout).await;
        for task in client.abandon() {
            // Aborted just now: an error is what is expected.
            let _ = task.await;
        }
        flushed
    }

    /// Gives up on records: those that wait to be sent fail with [`SendError::Purged`], or as possibly written if they
    /// are being sent again; those in flight are reported as possibly written, and still may be written or
    /// not. Waits for nothing. A batch that is being compressed meanwhile fails when that is done.
    ///
    /// The producer goes on: later records are sent as if the purged ones had never been. To end it without
    /// waiting, purge and then [`close`](Self::close).
    ///
    /// ```no_run
    /// # use ottla_producer::{Producer, Purge};
    /// # async fn example(producer: Producer) -> Result<(), ottla_producer::FlushError> {
    /// // Nobody is interested any more in what did not make it so far.
    /// producer.purge(Purge::QUEUED);
    /// producer.close(std::time::Duration::from_secs(5)).await
    /// # }
    /// ```
    pub fn purge(&self, which: Purge) {
        self.client().purge_now(which.queued, which.in_flight);
    }

    /// Records that were accepted and whose outcome is not known yet. Costs a look at every partition that was sent
    /// to.
    pub fn len(&self) -> u64 {
        self.client().records_outstanding()
    }

    /// Whether the outcome of every accepted record is known. Costs as [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the producer has done so far, in figures. Costs a look at every partition that was sent to.
    pub fn metrics(&self) -> ProducerMetrics {
        self.client().metrics()
    }

    /// Bytes of `buffer.memory` in use.
    pub fn buffered_bytes(&self) -> usize {
        self.client().supplies.budget.used()
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.owner.client
    }

    pub(crate) fn interceptors(&self) -> &Interceptors {
        &self.client().supplies.outstanding.interceptors
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let left: u64 = self
            .client
            .undelivered()
            .iter()
            .map(|(_, count)| count)
            .sum();
        if left > 0 {
            tracing::warn!(
                records = left,
                "producer dropped with undelivered records; close it to wait for them"
            );
        }
        self.client.abandon();
    }
}
