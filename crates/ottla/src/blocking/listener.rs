//! Rebalance listeners that block, for programs without tokio.
//!
//! Each call runs on a thread of its own: the client's threads never wait for the application.

use std::any::Any;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Weak};

use super::consumer::Consumer;
use super::runtime::Runtime;
use crate::consumer::{
    Consumer as AsyncConsumer, ListenerFuture, RebalanceListener as AsyncListener, TopicPartition,
    in_listener,
};

/// Is told when the group gives partitions to a consumer or takes them away; as
/// [`consumer::RebalanceListener`](crate::consumer::RebalanceListener), whose rules hold here, with calls that may block. For
/// [`Client::consumer_with_listener`](super::Client::consumer_with_listener).
///
/// The calls come one at a time, each on a thread of its own, while the program's threads read on or wait. They may use the consumer:
/// commit, seek, pause, ask for offsets, and subscribe. What would wait for the rebalance that waits for the listener fails
/// with [`consumer::Error::Usage`](crate::consumer::Error::Usage). One that takes longer than `max.poll.interval.ms` is not
/// waited for any longer; its thread goes on by itself.
///
/// ```
/// use ottla::blocking::{Consumer, RebalanceListener};
/// use ottla::consumer::TopicPartition;
///
/// #[derive(Debug)]
/// struct Flush;
///
/// impl RebalanceListener for Flush {
///     fn partitions_revoked(&self, consumer: &Consumer, partitions: &[TopicPartition]) {
///         // …write out what was gathered of these partitions, and then:
///         if let Err(error) = consumer.commit() {
///             eprintln!("{partitions:?} may be read again: {error}");
///         }
///     }
/// }
/// ```
pub trait RebalanceListener: Debug + Send + Sync + 'static {
    /// These partitions are this consumer's from now on; none of their records has been handed out.
    fn partitions_assigned(&self, _consumer: &Consumer, _partitions: &[TopicPartition]) {}

    /// These partitions are about to be given up; they are still this consumer's, so that it can commit.
    fn partitions_revoked(&self, _consumer: &Consumer, _partitions: &[TopicPartition]) {}

    /// These partitions are gone, and may be another consumer's by now. Default: does what
    /// [`RebalanceListener::partitions_revoked`] does.
    fn partitions_lost(&self, consumer: &Consumer, partitions: &[TopicPartition]) {
        self.partitions_revoked(consumer, partitions);
    }
}

/// Takes the calls to a thread.
#[derive(Debug)]
pub(super) struct OnThread<L> {
    listener: Arc<L>,
    /// Not held: the runtime's own tasks keep this.
    runtime: Weak<Runtime>,
}

type Call<L> = fn(&L, &Consumer, &[TopicPartition]);

impl<L: RebalanceListener> OnThread<L> {
    pub(super) fn new(listener: L, runtime: &Arc<Runtime>) -> Self {
        Self {
            listener: Arc::new(listener),
            runtime: Arc::downgrade(runtime),
        }
    }

    fn call<'a>(
        &'a self,
        consumer: &'a AsyncConsumer,
        partitions: &'a [TopicPartition],
        call: Call<L>,
    ) -> ListenerFuture<'a> {
        Box::pin(async move {
            // Without a runtime the program is about to end the consumer.
            let Some(runtime) = self.runtime.upgrade() else {
                return;
            };
            let consumer = Consumer::new(consumer.clone(), runtime);
            let (listener, partitions) = (self.listener.clone(), partitions.to_vec());
            let (done, outcome) =
                tokio::sync::oneshot::channel::<Result<(), Box<dyn Any + Send>>>();
            let thread = std::thread::Builder::new().name("ottla-listener".into());
            let spawned = thread.spawn(move || {
                let call = || in_listener(|| call(&listener, &consumer, &partitions));
                let outcome = catch_unwind(AssertUnwindSafe(call));
                // Nobody waits any more who has waited for too long.
                let _ = done.send(outcome);
            });
            if let Err(error) = spawned {
                tracing::error!(%error, "there is no thread for the rebalance listener; going on without");
                return;
            }
            if let Ok(Err(panic)) = outcome.await {
                resume_unwind(panic);
            }
        })
    }
}

impl<L: RebalanceListener> AsyncListener for OnThread<L> {
    fn partitions_assigned<'a>(
        &'a self,
        consumer: &'a AsyncConsumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        self.call(consumer, partitions, L::partitions_assigned)
    }

    fn partitions_revoked<'a>(
        &'a self,
        consumer: &'a AsyncConsumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        self.call(consumer, partitions, L::partitions_revoked)
    }

    fn partitions_lost<'a>(
        &'a self,
        consumer: &'a AsyncConsumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        self.call(consumer, partitions, L::partitions_lost)
    }
}
