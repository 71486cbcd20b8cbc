//! Outcomes without a future per record: as one stream, or by a callback.
//!
//! Both look at a batch's ticket when it wakes them, once per batch and not once per record.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;
use parking_lot::Mutex;

use crate::delivery::{Delivery, RecordMetadata};
use crate::error::SendError;
use crate::interceptor::contain;

/// A sink for deliveries, and the stream of their outcomes in the order in which they become known: the
/// alternative to awaiting each for programs that send from one place and account for records in another.
///
/// Each delivery goes in with a `tag` of the program's choice, which comes out with its outcome. The stream ends when
/// the last clone of the sink is gone and every outcome was told. What is open is bounded by
/// `buffer.memory`; outcomes that are known wait until they are read, so read them. Once the stream is dropped, the sink
/// drops what it is given.
///
/// ```no_run
/// use ottla_producer::{Producer, ProducerRecord, delivery_stream};
///
/// # async fn example(producer: Producer) -> Result<(), Box<dyn std::error::Error>> {
/// let (sink, mut reports) = delivery_stream();
/// tokio::spawn(async move {
///     for number in 0..1_000_000_u64 {
///         let value = number.to_string();
///         let delivery = producer.send(ProducerRecord::to("clicks").value(&value)).await?;
///         sink.add(delivery, number);
///     }
///     Ok::<_, ottla_producer::SendError>(())
/// });
/// while let Some((number, outcome)) = reports.next().await {
///     if let Err(error) = outcome {
///         eprintln!("record {number}: {error}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub fn delivery_stream<T: Send + 'static>() -> (DeliverySink<T>, DeliveryStream<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            open: HashMap::new(),
            ready: VecDeque::new(),
            reader: None,
            sinks: 1,
            unread: false,
        }),
    });
    let sink = DeliverySink {
        shared: shared.clone(),
    };
    (sink, DeliveryStream { shared })
}

/// Where deliveries go in; see [`delivery_stream`]. Cheap to clone.
pub struct DeliverySink<T: Send + 'static> {
    shared: Arc<Shared<T>>,
}

impl<T: Send + 'static> DeliverySink<T> {
    /// Has the outcome of `delivery` told with `tag`.
    pub fn add(&self, delivery: Delivery, tag: T) {
        let mut state = self.shared.state.lock();
        if state.unread {
            drop(state); // Before the tag, whose drop is the program's.
            return;
        }
        self.shared.watch(&mut state, delivery, tag);
        state.wake_reader();
    }
}

impl<T: Send + 'static> Clone for DeliverySink<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock().sinks += 1;
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<T: Send + 'static> Drop for DeliverySink<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.sinks -= 1;
        if state.sinks == 0
            && let Some(reader) = state.reader.take()
        {
            drop(state);
            reader.wake();
        }
    }
}

impl<T: Send + 'static> fmt::Debug for DeliverySink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliverySink").finish_non_exhaustive()
    }
}

/// Where outcomes come out; see [`delivery_stream`]. Also a [`Stream`].
pub struct DeliveryStream<T: Send + 'static> {
    shared: Arc<Shared<T>>,
}

impl<T: Send + 'static> DeliveryStream<T> {
    /// The next outcome, or `None` when there will be no more. Cancel safe.
    pub async fn next(&mut self) -> Option<(T, Result<RecordMetadata, SendError>)> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The next outcome if there is one now.
    pub fn try_next(&mut self) -> Option<(T, Result<RecordMetadata, SendError>)> {
        self.shared.state.lock().ready.pop_front()
    }

    /// Deliveries whose outcome is not known yet.
    pub fn open(&self) -> usize {
        self.shared.state.lock().open.values().map(Vec::len).sum()
    }
}

impl<T: Send + 'static> Drop for DeliveryStream<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.unread = true;
        let left = (
            std::mem::take(&mut state.open),
            std::mem::take(&mut state.ready),
        );
        drop(state);
        // The program's tags may do anything when they are dropped.
        drop(left);
    }
}

impl<T: Send + 'static> Stream for DeliveryStream<T> {
    type Item = (T, Result<RecordMetadata, SendError>);

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.shared.state.lock();
        if let Some(outcome) = state.ready.pop_front() {
            return Poll::Ready(Some(outcome));
        }
        if state.sinks == 0 && state.open.is_empty() {
            return Poll::Ready(None);
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            reader => *reader = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl<T: Send + 'static> fmt::Debug for DeliveryStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryStream")
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// By the address of the ticket, which lives at least as long as the deliveries here.
    open: HashMap<usize, Vec<(Delivery, T)>>,
    ready: VecDeque<(T, Result<RecordMetadata, SendError>)>,
    reader: Option<Waker>,
    sinks: usize,
    /// The stream is gone: nothing is kept any more.
    unread: bool,
}

impl<T: Send + 'static> Shared<T> {
    /// Enters a delivery under its batch, and has the batch wake us if it is the first.
    fn watch(self: &Arc<Self>, state: &mut State<T>, mut delivery: Delivery, tag: T) {
        loop {
            if let Some(outcome) = delivery.try_outcome() {
                state.ready.push_back((tag, outcome));
                return;
            }
            let Some(batch) = delivery.batch_address() else {
                return; // Its outcome was taken before it came here.
            };
            if let Some(others) = state.open.get_mut(&batch) {
                others.push((delivery, tag));
                return;
            }
            let waker = Waker::from(Arc::new(Batch {
                batch,
                shared: self.clone(),
            }));
            if delivery.wait_with(&waker) {
                state.open.insert(batch, vec![(delivery, tag)]);
                return;
            }
            // Settled just now: look again.
        }
    }
}

impl<T> State<T> {
    fn wake_reader(&mut self) {
        if !self.ready.is_empty()
            && let Some(reader) = self.reader.take()
        {
            // Under the lock: a reader that runs on another thread waits a moment for it.
            reader.wake();
        }
    }
}

/// What a batch's ticket wakes when it is settled.
struct Batch<T> {
    batch: usize,
    shared: Arc<Shared<T>>,
}

impl<T: Send + 'static> Wake for Batch<T> {
    fn wake(self: Arc<Self>) {
        let mut state = self.shared.state.lock();
        for (delivery, tag) in state.open.remove(&self.batch).unwrap_or_default() {
            // Those of a batch that was split go on to the pieces.
            self.shared.watch(&mut state, delivery, tag);
        }
        state.wake_reader();
    }
}

/// A delivery that calls back. Waits in its batch's ticket and nowhere else.
pub(crate) struct Callback<F> {
    waiting: Mutex<Option<(Delivery, F)>>,
}

impl<F: FnOnce(Result<RecordMetadata, SendError>) + Send + 'static> Callback<F> {
    pub(crate) fn start(delivery: Delivery, call: F) {
        Arc::new(Self {
            waiting: Mutex::new(Some((delivery, call))),
        })
        .look();
    }

    fn look(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        // Held while the delivery takes its seat: a wake-up in between waits for it.
        let mut waiting = self.waiting.lock();
        let Some((mut delivery, call)) = waiting.take() else {
            return;
        };
        match Pin::new(&mut delivery).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => {
                drop(waiting);
                contain("on_outcome", || call(outcome));
            }
            Poll::Pending => *waiting = Some((delivery, call)),
        }
    }
}

impl<F: FnOnce(Result<RecordMetadata, SendError>) + Send + 'static> Wake for Callback<F> {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}
