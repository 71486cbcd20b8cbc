//! A consumer that is split into one stream per partition.
//!
//! [`PartitionStreams`] gives them out, [`PartitionStream`] is one. Both are thin: who has which partition, what is
//! fetched of it and when it is over is the core's business (`core::leases`). A stream takes its batches straight from the
//! queue that the fetcher fills, and decodes them where it runs; there is no task and no channel in between.

mod stream;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::{FusedStream, Stream};
use parking_lot::Mutex;

pub use self::stream::PartitionStream;
use crate::{
    Consumer, Error, TopicPartition,
    core::Core,
    driver::{Shared, group::Group, now},
    listener::check_not_in_listener,
};

/// The partitions of a consumer, each as a stream of its own, from [`Consumer::split`].
///
/// Gives out a stream for each partition that the consumer has, and for each that comes: from the group, assigned by hand,
/// or because a stream was dropped before its partition was given up. Hand each to a task. Take them as they come: one that
/// nobody takes for `max.poll.interval.ms` counts as one whose reader is stuck.
///
/// Dropping it ends all streams as [`StreamEnd::Closed`](crate::StreamEnd::Closed); when the last of them is dropped, too, the consumer is as it was before
/// the split, and goes on where they were.
///
/// ```no_run
/// # async fn handle(_: ottla_consumer::Record) -> Result<(), ottla_consumer::Error> { Ok(()) }
/// # async fn example(consumer: ottla_consumer::Consumer) -> Result<(), ottla_consumer::Error> {
/// consumer.subscribe(["orders"])?;
/// let mut partitions = consumer.split()?;
/// loop {
///     let mut stream = partitions.next_partition().await?;
///     tokio::spawn(async move {
///         while let Some(record) = stream.recv().await? {
///             handle(record).await?;
///         }
///         // The partition is to be given up; it is this task's until the stream is dropped.
///         stream.commit().await
///     });
/// }
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nobody reads the partitions before their streams are taken"]
pub struct PartitionStreams {
    consumer: Consumer,
    waiting: bool,
    ended: bool,
}

impl PartitionStreams {
    pub(crate) fn new(consumer: Consumer) -> Self {
        Self {
            consumer,
            waiting: false,
            ended: false,
        }
    }

    /// The next partition that nobody reads. Waits for as long as it takes.
    ///
    /// Cancel-safe: a stream is taken and returned in one go.
    ///
    /// # Errors
    /// What concerns no single partition: [`Error::Net`]; [`Error::Group`], which stays until the next subscription;
    /// [`Error::Closed`]; [`Error::Usage`] from within a rebalance listener.
    pub async fn next_partition(&mut self) -> Result<PartitionStream, Error> {
        let call = Taking(self);
        poll_fn(|cx| call.0.poll_partition(cx)).await
    }

    /// The consumer that was split.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    fn poll_partition(&mut self, cx: &mut Context<'_>) -> Poll<Result<PartitionStream, Error>> {
        let shared = self.consumer.shared();
        self.waiting = false;
        if let Some(leased) = shared.core(|core| core.take_lease(Some(cx.waker()), now()))? {
            return Poll::Ready(Ok(PartitionStream::new(self.consumer.clone(), leased)));
        }
        self.waiting = true;
        // Looked at last: what comes later wakes.
        shared.check_open()?;
        if let Some(error) = &shared.reader.lock().fatal {
            return Poll::Ready(Err(error.clone()));
        }
        check_not_in_listener()?;
        Poll::Pending
    }

    fn stop_waiting(&mut self) {
        if std::mem::take(&mut self.waiting) {
            self.consumer.shared().core(Core::forget_taker);
        }
    }
}

impl Stream for PartitionStreams {
    type Item = Result<PartitionStream, Error>;

    /// Ends when the consumer is closed; errors do not end it.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.poll_partition(cx).map(|next| match next {
            Err(Error::Closed) => {
                self.ended = true;
                None
            }
            next => Some(next),
        })
    }
}

impl FusedStream for PartitionStreams {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl Drop for PartitionStreams {
    fn drop(&mut self) {
        let shared = self.consumer.shared();
        shared.core(|core| {
            core.forget_taker();
            core.end_split();
        });
    }
}

/// A call that waits for a partition.
struct Taking<'a>(&'a mut PartitionStreams);

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.0.stop_waiting();
    }
}

impl Consumer {
    /// Splits the consumer into one stream per partition, to be handed to tasks.
    ///
    /// Each stream is read in order, and on its own: a slow one holds up no other, and what is fetched ahead of it stays
    /// within its share of `queued.max.messages.kbytes` (an equal one of its broker's, which has an equal one of all), and
    /// within 8 MiB ([`ConsumerConfig::queued_partition_bytes_max`](crate::ConsumerConfig::queued_partition_bytes_max)).
    /// Where the budget has less room for each partition than one batch takes, a batch comes through all the same.
    ///
    /// Until the [`PartitionStreams`] and all of its streams are dropped, this consumer's own calls for records fail with
    /// [`Error::Usage`]. Everything else goes on: subscribing, seeking, pausing, figures. What was fetched before is
    /// handed out by the streams; this call says that the application is done with what it was handed before.
    ///
    /// # Progress
    /// Asking a stream for more says that the application is done with what *that stream* handed out before: automatic
    /// commit goes by it, partition by partition. A stream makes progress whenever it is asked for more, while it is being
    /// waited on, and when an offset is committed or stored through it. If one stream makes none for
    /// `max.poll.interval.ms`, or nobody takes one for so long, the consumer leaves its group, since its partitions are better
    /// off with a member that reads them: all streams end as [`StreamEnd::Lost`](crate::StreamEnd::Lost). The group is joined
    /// again as soon as those that stood still were asked for more, or dropped.
    ///
    /// # Rebalances
    /// A stream whose partition the group takes away ends as [`StreamEnd::Revoked`](crate::StreamEnd::Revoked), at once: records that were fetched and
    /// not handed out are for the next owner. The partition is given up when the stream is dropped; until then what it commits
    /// counts. The group waits for that, for up to `max.poll.interval.ms`. What the group is taking away already when the
    /// consumer is split is given up at once, and no stream of it comes. In an eager rebalance (`range` and
    /// others) that is so with all streams, in a cooperative one only with those whose partition goes elsewhere.
    ///
    /// [`Consumer::close`] and [`Consumer::unsubscribe`] end all streams the same way, and wait for them as long as they may.
    ///
    /// [`Consumer::commit`] commits what the streams are done with.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is split already; [`Error::Closed`].
    pub fn split(&self) -> Result<PartitionStreams, Error> {
        let shared = self.shared();
        shared.check_open()?;
        let mut reader = shared.reader.lock();
        // Under the group's lock: what it begins to take back after this, it finds split.
        let group = shared.group.as_ref().map(Mutex::lock);
        let going = |name: &TopicPartition| going(group.as_deref(), name);
        shared.core(|core| {
            if !core.is_split() {
                reader.finish();
                reader.sync(core, true);
                core.mark_processed();
                reader.give_back_current(core);
            }
            core.split(going, now())
        })?;
        drop((group, reader));
        let streams = PartitionStreams::new(self.clone());
        // Whoever waits for records finds that it cannot.
        shared.application.ring();
        shared.membership.notify_one();
        Ok(streams)
    }
}

/// Whether the group is taking this away.
fn going(group: Option<&Group>, name: &TopicPartition) -> bool {
    group.is_some_and(|group| group.membership.revokes(name))
}

impl Shared {
    /// What [`Shared::end_streams`] told all streams is not so, after all: other streams of their partitions come when they
    /// are dropped.
    pub(crate) fn resume_streams(self: &Arc<Self>) {
        // As in `split`.
        let group = self.group.as_ref().map(Mutex::lock);
        self.core(|core| {
            // Whoever closes ends them under the core's lock, too, and later.
            if core.is_split() && !self.is_closed() {
                core.resume_leases(|name| going(group.as_deref(), name), now());
            }
        });
    }

    /// No call for records can succeed until there is another subscription.
    pub(crate) fn fail(self: &Arc<Self>, error: Error) {
        self.reader.lock().fatal = Some(error);
        self.wake_for_error();
    }

    /// Whoever waits for records, or for a stream of them, looks again.
    pub(crate) fn wake_for_error(self: &Arc<Self>) {
        self.application.ring();
        self.core(Core::wake_taker);
    }
}
