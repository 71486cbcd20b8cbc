//! The producer as programs see it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ottla_net::Cluster;
use ottla_wire::record::{BatchWriter, NewRecord};
use tokio::time::Instant;

use crate::accumulator::{Appended, HEADER_LEN};
use crate::budget::Reserved;
use crate::client::Client;
use crate::config::ProducerConfig;
use crate::delivery::{Delivery, RecordMetadata};
use crate::error::{ConfigError, FlushError, SendAllError, SendError};
use crate::interceptor::Interceptors;
use crate::keeper::{run_identity, run_keeper};
use crate::metrics::ProducerMetrics;
use crate::partitioner::Partitioning;
use crate::purge::Purge;
use crate::record::ProducerRecord;
use crate::topics::Topic;

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
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery, SendError> {
        self.send_as(record, Pace::Lingering).await
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
        self.send_as(record, Pace::AtOnce).await?.await
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

    fn try_send_past_interceptors(
        &self,
        record: ProducerRecord<'_>,
    ) -> Result<Delivery, SendError> {
        match self.attempt(&record, &mut Waited::default(), Pace::Lingering) {
            Attempt::Accepted(delivery) => Ok(delivery),
            Attempt::Refused(error) => Err(error),
            Attempt::NeedsMemory(_) => {
                self.client().hurry();
                Err(self.buffer_full(Duration::ZERO))
            }
            Attempt::NeedsPlace => {
                self.client().hurry();
                Err(self.queue_full(Duration::ZERO))
            }
            Attempt::NeedsTopic => {
                let client = self.client();
                let metadata = client.cluster.metadata();
                let known = metadata
                    .topic(record.topic)
                    .filter(|topic| topic.is_usable());
                if let Some(topic) = known {
                    client.learn_topics([topic]);
                    if client.topics.load().by_name.contains_key(record.topic) {
                        return self.try_send_past_interceptors(record);
                    }
                }
                client.cluster.prefetch_topic(record.topic);
                Err(SendError::TopicNotLoaded {
                    topic: record.topic.into(),
                })
            }
        }
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

    fn interceptors(&self) -> &Interceptors {
        &self.client().supplies.outstanding.interceptors
    }

    #[inline]
    async fn send_as(&self, record: ProducerRecord<'_>, pace: Pace) -> Result<Delivery, SendError> {
        if !self.interceptors().is_empty() {
            return self.send_intercepted(record, pace).await;
        }
        match self.attempt(&record, &mut Waited::default(), pace) {
            Attempt::Accepted(delivery) => Ok(delivery),
            Attempt::Refused(error) => Err(error),
            waits => self.send_slowly(record, waits, pace).await,
        }
    }

    #[cold]
    async fn send_intercepted(
        &self,
        record: ProducerRecord<'_>,
        pace: Pace,
    ) -> Result<Delivery, SendError> {
        let changed = self.interceptors().on_send(&record);
        let headers = changed.borrowed_headers();
        let record = changed.record(&headers);
        let sent = match self.attempt(&record, &mut Waited::default(), pace) {
            Attempt::Accepted(delivery) => Ok(delivery),
            Attempt::Refused(error) => Err(error),
            waits => self.send_slowly(record, waits, pace).await,
        };
        sent.inspect_err(|error| self.interceptors().on_refusal(&record, error))
    }

    /// The part of sending a record that never waits. `waited` is what was waited for.
    fn attempt(&self, record: &ProducerRecord<'_>, waited: &mut Waited, pace: Pace) -> Attempt {
        let client = self.client();
        let topics = client.topics.load();
        let Some(topic) = topics.by_name.get(record.topic) else {
            if client.is_closed() {
                return Attempt::Refused(SendError::Closed);
            }
            return Attempt::NeedsTopic;
        };
        let timestamp = record.timestamp.unwrap_or_else(now_ms);
        let new = NewRecord {
            timestamp,
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        let config = &client.config;
        let size = BatchWriter::max_encoded_len(&new);
        if size > (config.max_request_size - HEADER_LEN) as u64 {
            return Attempt::Refused(too_large(topic, size, config));
        }
        let size = size as usize;
        let limit = if topic.shared.settings.sealing.is_plain() {
            client.batch_size
        } else {
            topic.shared.ratio.plain_limit(client.batch_size)
        };
        let (index, sticks) = match self.choose(record, topic) {
            Ok(choice) => choice,
            Err(error) => return Attempt::Refused(error),
        };
        if timestamp < 0 {
            return Attempt::Refused(SendError::InvalidRecord {
                topic: topic.shared.name.clone(),
                problem: format!("its timestamp {timestamp} is negative").into(),
            });
        }
        let supplies = &client.supplies;
        let place = match &supplies.outstanding.places {
            None => None,
            Some(places) => match waited.place.take().or_else(|| places.try_reserve(1)) {
                None if client.is_closed() => return Attempt::Refused(SendError::Closed),
                None => return Attempt::NeedsPlace,
                place => place,
            },
        };
        let partition = &topic.partitions[index as usize];
        let mut front = partition.front.lock();
        if front.ended || client.is_closed() {
            drop(front);
            let fatal = client.core.lock().fatal().cloned();
            return Attempt::Refused(fatal.unwrap_or(SendError::Closed));
        }
        let memory = &mut waited.memory;
        let appended = front
            .queue
            .append(&partition.at, &new, size, limit, supplies, memory);
        let (outcome, event) = match appended {
            Ok(Appended::Record {
                ticket,
                index,
                event,
            }) => {
                if let Some(place) = place {
                    place.keep(); // Given back with the outcome.
                }
                if config.trace_records {
                    let batch = ticket.span();
                    let spans = &supplies.outstanding.spans;
                    spans.record(record, partition.at.partition, &batch);
                }
                let delivery = Delivery::new(ticket, index, timestamp);
                (Attempt::Accepted(delivery), event)
            }
            Ok(Appended::NoMemory { bytes, event }) => {
                waited.place = place;
                (Attempt::NeedsMemory(bytes), event)
            }
            Err(error) => {
                drop(front);
                let (topic, problem) = (topic.shared.name.clone(), error.to_string().into());
                return Attempt::Refused(SendError::InvalidRecord { topic, problem });
            }
        };
        if event != Default::default() {
            client.tell(partition, &mut front, event);
        }
        if pace == Pace::AtOnce {
            front.queue.hurry();
            client.tell_due(partition, &mut front);
        }
        drop(front);
        if sticks && matches!(outcome, Attempt::Accepted(_)) {
            topic.shared.sticky.sent(index, size, limit, |from| {
                topic.another(from, client.adapting())
            });
        }
        outcome
    }

    /// The record's partition, and whether it goes there only because records stick to it for now.
    fn choose(&self, record: &ProducerRecord<'_>, topic: &Topic) -> Result<(u32, bool), SendError> {
        let count = topic.partitions.len() as u32;
        let config = &self.client().config;
        let key = record.key.filter(|_| !config.partitioner_ignore_keys);
        let partitioner = &topic.shared.settings.partitioner;
        let chosen = match record.partition {
            Some(partition) => Some(partition as u32),
            None => partitioner.choose(record.topic, key, record.value, count),
        };
        match chosen {
            Some(index) if index < count => Ok((index, false)),
            None => match partitioner {
                Partitioning::RoundRobin => Ok((topic.next_in_turn().min(count - 1), false)),
                Partitioning::Explicit => Err(SendError::InvalidRecord {
                    topic: topic.shared.name.clone(),
                    problem: "it names no partition, and partitioner=explicit chooses none".into(),
                }),
                _ => Ok((topic.sticky(self.client().adapting()).min(count - 1), true)),
            },
            Some(index) => {
                self.client().cluster.refresh_soon();
                Err(SendError::UnknownPartition {
                    topic: topic.shared.name.clone(),
                    partition: index as i32,
                    count: count as i32,
                })
            }
        }
    }

    /// Waits for whatever is missing until the record is accepted.
    #[cold]
    async fn send_slowly(
        &self,
        record: ProducerRecord<'_>,
        mut attempt: Attempt,
        pace: Pace,
    ) -> Result<Delivery, SendError> {
        let client = self.client();
        let start = Instant::now();
        // A time too long to express is as good as none.
        let deadline = start
            .checked_add(client.config.max_block)
            .unwrap_or_else(|| start + LIFETIME);
        let mut had = Waited::default();
        loop {
            match attempt {
                Attempt::Accepted(delivery) => return Ok(delivery),
                Attempt::Refused(error) => return Err(error),
                Attempt::NeedsTopic => self.load_topic(record.topic, start, deadline).await?,
                Attempt::NeedsMemory(bytes) => {
                    // What was reserved for a batch that filled meanwhile must not keep this waiting.
                    drop(had.memory.take());
                    let reserving = client.supplies.budget.reserve(bytes);
                    tokio::pin!(reserving);
                    let reserved = self.wait_for(reserving, deadline).await;
                    let reserved = reserved.ok_or_else(|| self.buffer_full(start.elapsed()))?;
                    had.memory = Some(reserved.ok_or(SendError::Closed)?);
                }
                Attempt::NeedsPlace => {
                    let Some(places) = &client.supplies.outstanding.places else {
                        return Err(self.queue_full(Duration::ZERO)); // Nobody needs what is not bounded.
                    };
                    let reserving = places.reserve(1);
                    tokio::pin!(reserving);
                    let reserved = self.wait_for(reserving, deadline).await;
                    let reserved = reserved.ok_or_else(|| self.queue_full(start.elapsed()))?;
                    had.place = Some(reserved.ok_or(SendError::Closed)?);
                }
            }
            attempt = self.attempt(&record, &mut had, pace);
        }
    }

    /// Waits for room in the buffer; `None` at the deadline.
    async fn wait_for<T>(
        &self,
        mut reserving: Pin<&mut impl Future<Output = T>>,
        deadline: Instant,
    ) -> Option<T> {
        // Enter the queue first: a batch that is opened from now on does not linger.
        if let Some(reserved) = poll_once(reserving.as_mut()).await {
            return Some(reserved);
        }
        self.client().hurry();
        tokio::time::timeout_at(deadline, reserving).await.ok()
    }

    async fn load_topic(
        &self,
        name: &str,
        start: Instant,
        deadline: Instant,
    ) -> Result<(), SendError> {
        let client = self.client();
        let unavailable = |detail: String| SendError::TopicUnavailable {
            topic: name.into(),
            waited: start.elapsed(),
            detail: detail.into(),
        };
        let found = tokio::select! {
            biased;
            () = client.closing() => return Err(SendError::Closed),
            found = client.cluster.topic(name, deadline) => found,
        };
        let topic = found.map_err(|error| unavailable(error.to_string()))?;
        client.learn_topics([&topic]);
        Ok(())
    }

    fn queue_full(&self, waited: Duration) -> SendError {
        SendError::QueueFull {
            records_max: self.client().config.buffer_records_max,
            waited,
        }
    }

    fn buffer_full(&self, waited: Duration) -> SendError {
        SendError::BufferFull {
            capacity: self.client().supplies.budget.capacity(),
            waited,
        }
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

const LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How far a record got.
enum Attempt {
    Accepted(Delivery),
    Refused(SendError),
    NeedsTopic,
    /// So many bytes of it.
    NeedsMemory(usize),
    /// As many records as may be are under way.
    NeedsPlace,
}

/// What a record that could not be accepted at once has waited for.
#[derive(Default)]
struct Waited {
    memory: Option<Reserved>,
    /// Among the records under way.
    place: Option<Reserved>,
}

/// How much of a hurry a record is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Lingering,
    /// Somebody waits for the outcome and does nothing else.
    AtOnce,
}

#[cold]
fn too_large(topic: &Topic, size: u64, config: &ProducerConfig) -> SendError {
    SendError::RecordTooLarge {
        topic: topic.shared.name.clone(),
        size: usize::try_from(size)
            .unwrap_or(usize::MAX)
            .saturating_add(HEADER_LEN),
        limit: format!("max.request.size = {}", config.max_request_size).into(),
    }
}

fn now_ms() -> i64 {
    // A clock before 1970 counts as 1970; one after the year 292,000,000 cannot be told.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_millis() as i64
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
