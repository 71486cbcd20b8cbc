//! The outcome of a record: one [`Ticket`] per batch, one [`Delivery`] per record.
//!
//! A delivery is a share of its batch's ticket and the record's index: no allocation per record.
//! The side that sends holds the ticket's [`Resolver`], which settles it exactly once, even by
//! being dropped, so no delivery waits for ever.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::Span;

use crate::error::{SendError, TopicPartition};
use crate::outstanding::Outstanding;
use crate::reports::Callback;
use crate::spans;

/// The pending outcome of one sent record: a future of its [`RecordMetadata`].
///
/// Dropping it cancels nothing: the record is on its way. Await as many as convenient, in any
/// order; the records of one batch resolve together. Instead of awaiting it, give it a
/// [callback](Self::on_outcome), or put it into a [stream](crate::delivery_stream).
///
/// # Errors
/// See [`SendError`]; [`SendError::possibly_written`] tells whether the record can be in the log.
#[must_use = "dropping a delivery is allowed, and ignores whether the record was written"]
pub struct Delivery {
    /// `None` once the outcome was handed out.
    ticket: Option<Arc<Ticket>>,
    index: u32,
    /// Where this delivery's waker sits among the ticket's, plus one; 0 before the first wait.
    seat: u32,
    timestamp: i64,
}

impl Delivery {
    #[inline]
    pub(crate) fn new(ticket: Arc<Ticket>, index: u32, timestamp: i64) -> Self {
        Self {
            ticket: Some(ticket),
            index,
            seat: 0,
            timestamp,
        }
    }

    /// Calls `callback` with the outcome, on the producer's tasks or, if it is known already, right here: keep it
    /// short, and never block in it. A panic in it is logged. Costs an allocation, which awaiting does not.
    ///
    /// A `flush` that returns has seen the callbacks of what it waited for return.
    ///
    /// ```no_run
    /// # use ottla_producer::{Producer, ProducerRecord, SendError};
    /// # async fn example(producer: Producer) -> Result<(), SendError> {
    /// let delivery = producer.send(ProducerRecord::to("clicks").value("{}")).await?;
    /// delivery.on_outcome(|outcome| match outcome {
    ///     Ok(written) => println!("written at {:?}", written.offset()),
    ///     Err(error) => eprintln!("{error}"),
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_outcome(
        self,
        callback: impl FnOnce(Result<RecordMetadata, SendError>) + Send + 'static,
    ) {
        Callback::start(self, callback);
    }

    /// Tells the batches of one moment apart.
    pub(crate) fn batch_address(&self) -> Option<usize> {
        self.ticket
            .as_ref()
            .map(|ticket| Arc::as_ptr(ticket).addr())
    }

    /// Has `waker` woken when the outcome, or the next piece of it, is known. False if it is already.
    pub(crate) fn wait_with(&mut self, waker: &Waker) -> bool {
        let Some(ticket) = &self.ticket else {
            return false;
        };
        let mut waiting = ticket.waiting.lock();
        // Settled between the look before and the lock: the resolver wakes only whom it finds seated.
        if ticket.outcome.get().is_some() {
            return false;
        }
        match waiting.get_mut((self.seat as usize).wrapping_sub(1)) {
            Some(seated) => seated.clone_from(waker),
            None => {
                waiting.push(waker.clone());
                self.seat = waiting.len() as u32;
            }
        }
        true
    }

    /// The partition the record went to; `None` after the outcome was taken.
    pub fn partition(&self) -> Option<i32> {
        self.ticket.as_ref().map(|ticket| ticket.at.partition)
    }

    /// The outcome if it is known already. `None` while it is open, and after it was taken.
    pub fn try_outcome(&mut self) -> Option<Result<RecordMetadata, SendError>> {
        loop {
            let ticket = self.ticket.as_ref()?;
            match ticket.outcome.get()? {
                Outcome::Written(_) => {
                    let ticket = self.ticket.take()?;
                    let (index, timestamp) = (self.index, self.timestamp);
                    return Some(Ok(RecordMetadata {
                        ticket,
                        index,
                        timestamp,
                    }));
                }
                Outcome::Failed { error, records } => {
                    let own = records.iter().find(|(index, _)| *index == self.index);
                    let error = own.map_or(error, |(_, error)| error).clone();
                    self.ticket = None;
                    return Some(Err(error));
                }
                Outcome::Split(pieces) => {
                    let at = pieces.partition_point(|(first, _)| *first <= self.index) - 1;
                    let (first, piece) = (pieces[at].0, pieces[at].1.clone());
                    self.index -= first;
                    self.seat = 0;
                    self.ticket = Some(piece);
                }
            }
        }
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some(outcome) = self.try_outcome() {
                return Poll::Ready(outcome);
            }
            // Polled after it was ready: as a fused future, silent.
            if self.ticket.is_none() || self.wait_with(cx.waker()) {
                return Poll::Pending;
            }
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("at", &self.ticket.as_ref().map(|ticket| &ticket.at))
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// Where a record was written.
#[derive(Clone)]
pub struct RecordMetadata {
    /// Its outcome is [`Outcome::Written`].
    ticket: Arc<Ticket>,
    index: u32,
    timestamp: i64,
}

impl RecordMetadata {
    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.ticket.at.topic
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.ticket.at.partition
    }

    /// The record's offset. `None` where the broker does not tell: with `acks=0`, and for a retry of
    /// records that it had written longer ago than it remembers where.
    pub fn offset(&self) -> Option<i64> {
        let base = self.written().base_offset;
        base.checked_add(i64::from(self.index))
            .filter(|_| base >= 0)
    }

    /// The record's timestamp in milliseconds since 1970: the broker's where the topic has
    /// `message.timestamp.type=LogAppendTime`, else the record's own.
    pub fn timestamp(&self) -> i64 {
        let appended = self.written().append_time;
        if appended >= 0 {
            appended
        } else {
            self.timestamp
        }
    }

    /// From the opening of the record's batch to its acknowledgement.
    pub fn latency(&self) -> Duration {
        self.written().latency
    }

    /// From the opening of the record's batch until it was first sent: lingering, and waiting for the broker.
    pub fn queued(&self) -> Duration {
        self.written().queued
    }

    /// How many times the batch was sent.
    pub fn attempts(&self) -> u32 {
        self.written().attempts
    }

    fn written(&self) -> Written {
        match self.ticket.outcome.get() {
            Some(Outcome::Written(written)) => *written,
            // A RecordMetadata is made of a written ticket only, and an outcome never changes.
            _ => unreachable!("metadata of a record that was not written"),
        }
    }
}

impl fmt::Debug for RecordMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordMetadata")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp())
            .finish_non_exhaustive()
    }
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Outcome {
    Written(Written),
    Failed {
        error: SendError,
        /// Records the broker blamed one by one; the others get `error`.
        records: Vec<(u32, SendError)>,
    },
    /// The batch was too large and lives on in pieces: the index of each one's first record, ascending
    /// from 0.
    Split(Vec<(u32, Arc<Ticket>)>),
}

impl From<SendError> for Outcome {
    fn from(error: SendError) -> Self {
        Self::Failed {
            error,
            records: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// -1: not told.
    pub(crate) base_offset: i64,
    /// Milliseconds; -1 when the records keep their own timestamps.
    pub(crate) append_time: i64,
    pub(crate) latency: Duration,
    /// The part of it before the batch was first sent.
    pub(crate) queued: Duration,
    pub(crate) attempts: u32,
}

/// The place where a batch's records look for their outcome.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) at: TopicPartition,
    outcome: OnceLock<Outcome>,
    waiting: Mutex<Vec<Waker>>,
    /// Open until the outcome is known.
    span: Mutex<Span>,
}

impl Ticket {
    /// What the batch is traced as.
    pub(crate) fn span(&self) -> Span {
        self.span.lock().clone()
    }
}

/// The one right to settle a [`Ticket`]. Dropping it unused says that the producer is closed.
#[derive(Debug)]
pub(crate) struct Resolver {
    ticket: Arc<Ticket>,
    outstanding: Arc<Outstanding>,
    /// The flush generation the batch counts in.
    generation: u64,
    /// An attempt left: when dropped, the records may have been written.
    pub(crate) maybe_sent: bool,
    /// Batches of the partition whose outcome is open; this is one of them.
    load: Arc<AtomicU32>,
    /// How many records share the ticket, from the moment when no more are added.
    pub(crate) records: u32,
    /// Their bytes on the wire, once they are sealed.
    pub(crate) bytes: usize,
}

impl Resolver {
    pub(crate) fn new(
        at: TopicPartition,
        load: &Arc<AtomicU32>,
        outstanding: &Arc<Outstanding>,
    ) -> Self {
        let generation = outstanding.opened();
        Self::in_generation(at, load.clone(), outstanding.clone(), generation)
    }

    fn in_generation(
        at: TopicPartition,
        load: Arc<AtomicU32>,
        outstanding: Arc<Outstanding>,
        generation: u64,
    ) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        let ticket = Arc::new(Ticket {
            span: Mutex::new(outstanding.spans.batch(&at)),
            at,
            outcome: OnceLock::new(),
            waiting: Mutex::default(),
        });
        Self {
            ticket,
            outstanding,
            generation,
            maybe_sent: false,
            load,
            records: 0,
            bytes: 0,
        }
    }

    /// Another ticket for the same partition that a flush waits for as it would for this one.
    pub(crate) fn sibling(&self) -> Self {
        self.outstanding.opened_in(self.generation);
        let sibling = Self::in_generation(
            self.ticket.at.clone(),
            self.load.clone(),
            self.outstanding.clone(),
            self.generation,
        );
        sibling.ticket.span().follows_from(self.ticket.span());
        sibling
    }

    pub(crate) fn ticket(&self) -> &Arc<Ticket> {
        &self.ticket
    }

    pub(crate) fn resolve(self, outcome: Outcome) {
        self.settle(outcome);
    }

    fn settle(&self, outcome: Outcome) {
        if self.ticket.outcome.set(outcome).is_err() {
            return; // The drop that follows `resolve`.
        }
        self.load.fetch_sub(1, Ordering::Relaxed);
        let span = std::mem::replace(&mut *self.ticket.span.lock(), Span::none());
        if let Some(outcome) = self.ticket.outcome.get() {
            if let Outcome::Failed { error, .. } = outcome {
                self.outstanding.note_failure(error);
            }
            spans::end(&span, self.records, outcome);
            let (at, records, bytes) = (&self.ticket.at, self.records, self.bytes);
            self.outstanding.outcome(at, records, bytes, outcome);
        }
        drop(span);
        let waiting = std::mem::take(&mut *self.ticket.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
        self.outstanding.resolved(self.generation);
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        if self.ticket.outcome.get().is_none() {
            self.settle(match self.maybe_sent {
                false => SendError::Closed.into(),
                true => SendError::PossiblyWritten {
                    at: self.ticket.at.clone(),
                    after: Duration::ZERO,
                    stuck: "the producer was dropped before the answer came".into(),
                }
                .into(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn resolver() -> Resolver {
        let at = TopicPartition {
            topic: "clicks".into(),
            partition: 2,
        };
        Resolver::new(at, &Arc::default(), &Arc::default())
    }

    fn delivery(resolver: &Resolver, index: u32) -> Delivery {
        Delivery::new(resolver.ticket().clone(), index, 1000 + i64::from(index))
    }

    fn written(base_offset: i64, append_time: i64) -> Outcome {
        let latency = Duration::from_millis(3);
        Outcome::Written(Written {
            base_offset,
            append_time,
            latency,
            queued: Duration::ZERO,
            attempts: 1,
        })
    }

    #[test]
    fn the_records_of_a_batch_resolve_together() {
        let resolver = resolver();
        let (mut first, mut third) = (delivery(&resolver, 0), delivery(&resolver, 2));
        assert!(first.try_outcome().is_none());
        resolver.resolve(written(40, -1));
        let metadata = third.try_outcome().unwrap().unwrap();
        assert_eq!((metadata.offset(), metadata.timestamp()), (Some(42), 1002));
        assert_eq!((metadata.topic(), metadata.partition()), ("clicks", 2));
        assert_eq!(first.try_outcome().unwrap().unwrap().offset(), Some(40));
        assert!(first.try_outcome().is_none(), "handed out once");
    }

    #[test]
    fn an_offset_that_cannot_be_is_none() {
        for base in [i64::MAX, -2, i64::MIN] {
            let resolver = resolver();
            let mut one = delivery(&resolver, 1);
            resolver.resolve(written(base, -1));
            assert_eq!(one.try_outcome().unwrap().unwrap().offset(), None);
        }
    }

    #[test]
    fn a_waiting_delivery_takes_one_seat_and_is_woken_once() {
        let resolver = resolver();
        let mut one = delivery(&resolver, 0);
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        for _ in 0..3 {
            assert!(
                Pin::new(&mut one)
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
        }
        assert_eq!(resolver.ticket().waiting.lock().len(), 1);
        resolver.resolve(written(7, 99));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        let Poll::Ready(Ok(metadata)) = Pin::new(&mut one).poll(&mut Context::from_waker(&waker))
        else {
            panic!("settled")
        };
        assert_eq!(metadata.timestamp(), 99, "the broker's own time wins");
    }

    #[test]
    fn a_dropped_resolver_says_what_may_have_happened() {
        let unsent = resolver();
        let mut one = delivery(&unsent, 0);
        drop(unsent);
        assert!(matches!(one.try_outcome(), Some(Err(SendError::Closed))));

        let mut sent = resolver();
        sent.maybe_sent = true;
        let mut two = delivery(&sent, 0);
        drop(sent);
        assert!(two.try_outcome().unwrap().unwrap_err().possibly_written());
    }

    #[test]
    fn deliveries_follow_their_record_into_the_pieces_of_a_split_batch() {
        let whole = resolver();
        let (mut a, mut b) = (delivery(&whole, 1), delivery(&whole, 5));
        let (left, right) = (whole.sibling(), whole.sibling());
        whole.resolve(Outcome::Split(vec![
            (0, left.ticket().clone()),
            (3, right.ticket().clone()),
        ]));
        assert!(a.try_outcome().is_none());
        left.resolve(written(10, -1));
        right.resolve(written(20, -1));
        assert_eq!(a.try_outcome().unwrap().unwrap().offset(), Some(11));
        assert_eq!(b.try_outcome().unwrap().unwrap().offset(), Some(22));
    }

    #[test]
    fn blamed_records_get_their_own_error() {
        let resolver = resolver();
        let (mut bad, mut bystander) = (delivery(&resolver, 1), delivery(&resolver, 0));
        let invalid = |problem: &str| SendError::InvalidRecord {
            topic: "clicks".into(),
            problem: problem.into(),
        };
        resolver.resolve(Outcome::Failed {
            error: invalid("another record of its batch"),
            records: vec![(1, invalid("null key"))],
        });
        assert!(
            bad.try_outcome()
                .unwrap()
                .unwrap_err()
                .to_string()
                .contains("null key")
        );
        assert!(
            bystander
                .try_outcome()
                .unwrap()
                .unwrap_err()
                .to_string()
                .contains("another")
        );
    }
}
