//! What `send` does with a record, from its topic's name to a place in a batch.
//!
//! Owns the future of a `send`. Decides nothing about batches: whether there is room is the accumulator's to say, and
//! when they leave the sender's.
//!
//! There are two ways. The *quick* one takes a record into a batch that is open and has room, which is the way of nearly all.
//! It must stay small and hand its results over in registers: an outcome that may also be an error is larger than
//! a cache line, and copying one from function to function cost as much as copying the record. It is inlined into the program's own
//! loop. The *full* one does everything else, from waiting for metadata to saying what is wrong.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ottla_wire::record::{BatchWriter, NewRecord};
use tokio::time::Instant;

use crate::accumulator::{Appended, Event, HEADER_LEN};
use crate::budget::Reserved;
use crate::config::ProducerConfig;
use crate::delivery::{Delivery, Ticket};
use crate::error::SendError;
use crate::partitioner::Partitioning;
use crate::producer::Producer;
use crate::recent;
use crate::record::ProducerRecord;
use crate::record_clock::now_ms;
use crate::topics::Topic;

/// The future of a [`Producer::send`]: the record's [`Delivery`], once it is in a batch.
///
/// Nothing happens before it is polled. Cancel safe: dropped before it is ready, the record was not accepted.
#[must_use = "the record is sent when this is awaited"]
pub struct Sending<'a> {
    producer: &'a Producer,
    record: ProducerRecord<'a>,
    pace: Pace,
    stage: Stage<'a>,
}

enum Stage<'a> {
    New,
    Waiting(Pin<Box<dyn Future<Output = Result<Delivery, SendError>> + Send + 'a>>),
    Done,
}

impl<'a> Sending<'a> {
    #[inline]
    pub(crate) fn new(producer: &'a Producer, record: ProducerRecord<'a>, pace: Pace) -> Self {
        Self {
            producer,
            record,
            pace,
            stage: Stage::New,
        }
    }

    /// Whatever the quick way did not do.
    #[cold]
    #[inline(never)]
    fn go_on(
        &mut self,
        chosen: Option<Chosen>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Delivery, SendError>> {
        let Self {
            producer,
            record,
            pace,
            ..
        } = *self;
        let outcome = match &mut self.stage {
            Stage::Waiting(waiting) => waiting.as_mut().poll(cx),
            Stage::New => {
                let mut waiting = if producer.interceptors().is_empty() {
                    match producer.attempt(&record, chosen, &mut Waited::default(), pace) {
                        Attempt::Accepted(delivery) => return self.done(Ok(delivery)),
                        Attempt::Refused(error) => return self.done(Err(error)),
                        waits => Box::pin(producer.send_slowly(record, waits, pace)) as Pin<Box<_>>,
                    }
                } else {
                    Box::pin(producer.send_intercepted(record, pace))
                        as Pin<Box<dyn Future<Output = _> + Send>>
                };
                let outcome = waiting.as_mut().poll(cx);
                self.stage = Stage::Waiting(waiting);
                outcome
            }
            Stage::Done => panic!("a `send` was polled after it was ready"),
        };
        match outcome {
            Poll::Ready(outcome) => self.done(outcome),
            Poll::Pending => Poll::Pending,
        }
    }

    fn done(&mut self, outcome: Result<Delivery, SendError>) -> Poll<Result<Delivery, SendError>> {
        self.stage = Stage::Done;
        Poll::Ready(outcome)
    }
}

impl Future for Sending<'_> {
    type Output = Result<Delivery, SendError>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut chosen = None;
        if let Stage::New = this.stage {
            match this.producer.quick(&this.record, this.pace) {
                Ok(delivery) => {
                    this.stage = Stage::Done;
                    return Poll::Ready(Ok(delivery));
                }
                Err(choice) => chosen = choice,
            }
        }
        this.go_on(chosen, cx)
    }
}

impl fmt::Debug for Sending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending")
            .field("topic", &self.record.topic)
            .finish_non_exhaustive()
    }
}

/// Where a record goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chosen {
    index: u32,
    /// It goes there only because records stick to it for now.
    sticks: bool,
}

impl Chosen {
    /// No place was chosen.
    const NOT: u64 = u64::MAX;

    #[inline]
    fn packed(self) -> u64 {
        u64::from(self.index) << 1 | u64::from(self.sticks)
    }

    #[inline]
    fn unpacked(packed: u64) -> Option<Self> {
        (packed != Self::NOT).then_some(Self {
            index: (packed >> 1) as u32,
            sticks: packed & 1 == 1,
        })
    }
}

impl Producer {
    /// Takes the record into its open batch, if it has one with room and nothing special is asked for. Otherwise says where the record
    /// goes, as far as that was decided.
    #[inline(always)]
    fn quick(&self, record: &ProducerRecord<'_>, pace: Pace) -> Result<Delivery, Option<Chosen>> {
        let client = self.client();
        if !client.sends_plainly {
            return Err(None);
        }
        let recent = recent::borrow(client, record.topic).ok_or(None)?;
        let timestamp = record.timestamp.unwrap_or_else(now_ms);
        let taken_in = self.take_in(&recent.topic, record, timestamp, pace);
        recent::give_back(recent, record.topic);
        match taken_in {
            (Some(ticket), index) => Ok(Delivery::new(ticket, index as u32, timestamp)),
            (None, chosen) => Err(Chosen::unpacked(chosen)),
        }
    }

    /// As [`quick`](Self::quick): gives the ticket and the record's index, or no ticket and where the record goes. Both fit registers.
    #[inline(never)]
    fn take_in(
        &self,
        topic: &Topic,
        record: &ProducerRecord<'_>,
        timestamp: i64,
        pace: Pace,
    ) -> (Option<Arc<Ticket>>, u64) {
        let client = self.client();
        let new = NewRecord {
            timestamp,
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        let size = BatchWriter::max_encoded_len(&new);
        if size > (client.config.max_request_size - HEADER_LEN) as u64 {
            return (None, Chosen::NOT);
        }
        let size = size as usize;
        let limit = self.limit(topic);
        let Ok(chosen) = self.choose_quickly(record, topic) else {
            return (None, Chosen::NOT);
        };
        let partition = &topic.partitions[chosen.index as usize];
        let mut front = partition.front.lock();
        if timestamp < 0 || front.ended || client.is_closed() {
            return (None, chosen.packed());
        }
        let counted = client.supplies.batch_records_max;
        let appended = front.queue.append_to_open(&new, size, limit, counted);
        let Some((ticket, index, full)) = appended else {
            return (None, chosen.packed());
        };
        if full {
            client.tell(partition, &mut front, Event::FILLED);
        }
        if pace == Pace::AtOnce {
            client.hurry_one(partition, &mut front);
        }
        drop(front);
        if chosen.sticks {
            self.stuck(topic, chosen.index, size, limit);
        }
        (Some(ticket), u64::from(index))
    }

    /// Plain bytes that a batch of `topic` may have.
    #[inline]
    fn limit(&self, topic: &Topic) -> usize {
        let batch_size = self.client().batch_size;
        match topic.shared.settings.sealing.is_plain() {
            true => batch_size,
            false => topic.shared.ratio.plain_limit(batch_size),
        }
    }

    /// The record's partition, if it takes no more than its key or the place where records stick; else what the record or the
    /// partitioner named.
    #[inline]
    fn choose_quickly(
        &self,
        record: &ProducerRecord<'_>,
        topic: &Topic,
    ) -> Result<Chosen, Option<u32>> {
        let count = topic.partitions.len() as u32;
        let client = self.client();
        let partitioner = &topic.shared.settings.partitioner;
        let key = match client.config.partitioner_ignore_keys {
            false => record.key,
            true => None,
        };
        let index = match record.partition {
            Some(partition) => Some(partition as u32),
            None => partitioner.choose(record.topic, key, record.value, count),
        };
        match (index, partitioner) {
            (Some(index), _) if index < count => Ok(Chosen {
                index,
                sticks: false,
            }),
            (Some(_), _) | (None, Partitioning::RoundRobin | Partitioning::Explicit) => Err(index),
            (None, _) => Ok(Chosen {
                index: topic.sticky(client.adapting()).min(count - 1),
                sticks: true,
            }),
        }
    }

    /// The part of sending a record that never waits. `chosen` is where it goes, if that was decided before, and `waited` what was
    /// waited for.
    #[cold]
    #[inline(never)]
    fn attempt(
        &self,
        record: &ProducerRecord<'_>,
        chosen: Option<Chosen>,
        waited: &mut Waited,
        pace: Pace,
    ) -> Attempt {
        match recent::borrow(self.client(), record.topic) {
            Some(recent) => {
                let attempt = self.attempt_on(&recent.topic, record, chosen, waited, pace);
                recent::give_back(recent, record.topic);
                attempt
            }
            None if self.client().is_closed() => Attempt::Refused(SendError::Closed),
            None => Attempt::NeedsTopic,
        }
    }

    fn attempt_on(
        &self,
        topic: &Topic,
        record: &ProducerRecord<'_>,
        chosen: Option<Chosen>,
        waited: &mut Waited,
        pace: Pace,
    ) -> Attempt {
        let client = self.client();
        let supplies = &client.supplies;
        let new = NewRecord {
            timestamp: record.timestamp.unwrap_or_else(now_ms),
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        let size = BatchWriter::max_encoded_len(&new);
        if size > (client.config.max_request_size - HEADER_LEN) as u64 {
            return Attempt::Refused(too_large(topic, size, &client.config));
        }
        let size = size as usize;
        let limit = self.limit(topic);
        // The topic may have become another one meanwhile, with fewer partitions.
        let chosen = chosen.filter(|chosen| (chosen.index as usize) < topic.partitions.len());
        let chosen = match chosen.map_or_else(|| self.choose(record, topic), Ok) {
            Ok(chosen) => chosen,
            Err(error) => return Attempt::Refused(error),
        };
        if new.timestamp < 0 {
            return Attempt::Refused(negative_timestamp(topic, new.timestamp));
        }
        let place = match &supplies.outstanding.places {
            None => None,
            Some(places) => match waited.place.take().or_else(|| places.try_reserve(1)) {
                None if client.is_closed() => return Attempt::Refused(SendError::Closed),
                None => return Attempt::NeedsPlace,
                place => place,
            },
        };
        let partition = &topic.partitions[chosen.index as usize];
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
                if client.config.trace_records {
                    let batch = ticket.span();
                    let spans = &supplies.outstanding.spans;
                    spans.record(record, partition.at.partition, &batch);
                }
                let delivery = Delivery::new(ticket, index, new.timestamp);
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
        if event != Event::default() {
            client.tell(partition, &mut front, event);
        }
        if pace == Pace::AtOnce {
            client.hurry_one(partition, &mut front);
        }
        drop(front);
        if chosen.sticks && matches!(outcome, Attempt::Accepted(_)) {
            self.stuck(topic, chosen.index, size, limit);
        }
        outcome
    }

    fn choose(&self, record: &ProducerRecord<'_>, topic: &Topic) -> Result<Chosen, SendError> {
        let index = match self.choose_quickly(record, topic) {
            Ok(chosen) => return Ok(chosen),
            Err(index) => index,
        };
        let count = topic.partitions.len() as u32;
        let partitioner = &topic.shared.settings.partitioner;
        match (index, partitioner) {
            (None, Partitioning::Explicit) => Err(SendError::InvalidRecord {
                topic: topic.shared.name.clone(),
                problem: "it names no partition, and partitioner=explicit chooses none".into(),
            }),
            (None, _) => Ok(Chosen {
                index: topic.next_in_turn().min(count - 1),
                sticks: false,
            }),
            (Some(index), _) => {
                self.client().cluster.refresh_soon();
                Err(SendError::UnknownPartition {
                    topic: topic.shared.name.clone(),
                    partition: index as i32,
                    count: count as i32,
                })
            }
        }
    }

    /// Counts a record that went where records stick to.
    fn stuck(&self, topic: &Topic, partition: u32, size: usize, limit: usize) {
        let adapting = self.client().adapting();
        topic
            .shared
            .sticky
            .sent(partition, size, limit, |from| topic.another(from, adapting));
    }

    /// [`Producer::try_send`], but for interceptors.
    pub(crate) fn try_send_past_interceptors(
        &self,
        record: ProducerRecord<'_>,
    ) -> Result<Delivery, SendError> {
        let chosen = match self.quick(&record, Pace::Lingering) {
            Ok(delivery) => return Ok(delivery),
            Err(chosen) => chosen,
        };
        match self.attempt(&record, chosen, &mut Waited::default(), Pace::Lingering) {
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

    async fn send_intercepted(
        &self,
        record: ProducerRecord<'_>,
        pace: Pace,
    ) -> Result<Delivery, SendError> {
        let changed = self.interceptors().on_send(&record);
        let headers = changed.borrowed_headers();
        let record = changed.record(&headers);
        let sent = match self.attempt(&record, None, &mut Waited::default(), pace) {
            Attempt::Accepted(delivery) => Ok(delivery),
            Attempt::Refused(error) => Err(error),
            waits => self.send_slowly(record, waits, pace).await,
        };
        sent.inspect_err(|error| self.interceptors().on_refusal(&record, error))
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
            attempt = self.attempt(&record, None, &mut had, pace);
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
pub(crate) enum Pace {
    Lingering,
    /// Somebody waits for the outcome and does nothing else.
    AtOnce,
}

#[cold]
fn negative_timestamp(topic: &Topic, timestamp: i64) -> SendError {
    SendError::InvalidRecord {
        topic: topic.shared.name.clone(),
        problem: format!("its timestamp {timestamp} is negative").into(),
    }
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

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}
