//! What an application may want to do when its group gives it partitions or takes them away.
//!
//! Owns the calls to the application's [`RebalanceListener`]: one at a time, in the order of what happened, and never so
//! that the group waits for a call that waits for the group.

use std::{collections::BTreeSet, fmt::Debug, pin::Pin, sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::{sync::MutexGuard, time::timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::{Consumer, Error, TopicPartition, driver::Shared};

/// What a [`RebalanceListener`] returns: `Box::pin(async move { … })`.
pub type ListenerFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Is told when the group gives partitions to a consumer or takes them away. Set it as
/// [`ConsumerConfig::rebalance_listener`](crate::ConsumerConfig::rebalance_listener).
///
/// Each partition is told once to be assigned, and once to be revoked or lost, whichever is true when the call is made.
/// (Where the future of `unsubscribe` is dropped after such a call has begun, the consumer goes on, and the call is made again.)
/// The calls come one at a time, in order, from a task of the consumer's. Heartbeats go on meanwhile. They may use
/// the consumer: commit, seek, pause, ask for offsets, and subscribe. What would wait for the very rebalance that
/// waits for the listener fails with [`Error::Usage`] instead: waiting for records, [`Consumer::unsubscribe`] and
/// [`Consumer::close`]. Should a call wait all the same, through another task of the application's, it is dropped
/// after `max.poll.interval.ms`, with an error in the log, and the rebalance goes on. So is one that panics.
///
/// ```
/// use ottla_consumer::{Consumer, ListenerFuture, RebalanceListener, TopicPartition};
///
/// #[derive(Debug)]
/// struct Flush;
///
/// impl RebalanceListener for Flush {
///     fn partitions_revoked<'a>(
///         &'a self,
///         consumer: &'a Consumer,
///         partitions: &'a [TopicPartition],
///     ) -> ListenerFuture<'a> {
///         Box::pin(async move {
///             // …write out what was gathered of these partitions, and then:
///             if let Err(error) = consumer.commit().await {
///                 eprintln!("{partitions:?} may be read again: {error}");
///             }
///         })
///     }
/// }
/// ```
pub trait RebalanceListener: Debug + Send + Sync + 'static {
    /// These partitions are this consumer's from now on; none of their records has been handed out. Where to start
    /// can still be changed with [`Consumer::seek`]. Called after each rebalance, with no partitions if it brought
    /// none; in a cooperative rebalance only with those that are new.
    fn partitions_assigned<'a>(
        &'a self,
        _consumer: &'a Consumer,
        _partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        Box::pin(std::future::ready(()))
    }

    /// These partitions are about to be given up; they are still this consumer's, so that it can commit. The
    /// application has come back for records, or is waiting for some, and gets no more of these. With automatic
    /// commit, what it was handed has been committed. Also called by [`Consumer::unsubscribe`] and
    /// [`Consumer::close`].
    fn partitions_revoked<'a>(
        &'a self,
        _consumer: &'a Consumer,
        _partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        Box::pin(std::future::ready(()))
    }

    /// These partitions are gone, and may be another consumer's by now: the application stayed away longer than
    /// `max.poll.interval.ms`, or the coordinator dropped this member. Nothing can be committed for them any more.
    /// Default: does what [`RebalanceListener::partitions_revoked`] does.
    fn partitions_lost<'a>(
        &'a self,
        consumer: &'a Consumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        self.partitions_revoked(consumer, partitions)
    }
}

/// What a listener is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    Assigned,
    Revoked,
    Lost,
}

/// What the listener was told. Whose turn it is to call it is another matter.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Has been assigned, and has not heard of the end.
    introduced: BTreeSet<TopicPartition>,
    /// Has heard of the end from an application that is leaving: still this consumer's if it does not leave after all.
    ended: BTreeSet<TopicPartition>,
}

impl Told {
    /// These are the consumer's.
    fn introduce(&mut self, partitions: &[TopicPartition]) {
        self.introduced.extend(partitions.iter().cloned());
    }

    /// Heard that these are not the consumer's any more.
    fn end(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.introduced.remove(partition);
        }
    }

    /// The consumer loses these, whether or not the application leaves.
    fn give_up(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.ended.remove(partition);
        }
    }

    /// Heard that these will not be the consumer's when the application has left.
    fn end_by_leaving(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.ended.extend(self.introduced.take(partition));
        }
    }

    /// The application has left, or has not: whoever stays hears of the end again.
    fn leave(&mut self, left: bool) {
        let ended = std::mem::take(&mut self.ended);
        if !left {
            self.introduced.extend(ended);
        }
    }
}

/// The application is leaving its group, and has heard the last of it; until this is dropped it is told of nothing new.
#[derive(Debug)]
#[must_use = "what comes while it is leaving is none of its business"]
pub(crate) struct Leaving<'a> {
    told: &'a Mutex<Told>,
    left: bool,
    /// None if a call of the listener did not end in time.
    introducing: Option<MutexGuard<'a, ()>>,
}

impl Leaving<'_> {
    /// Nothing is the group's any more.
    pub(crate) fn has_left(mut self) {
        self.left = true;
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.told.lock().leave(self.left);
    }
}

impl Shared {
    /// Tells the application's listener, if it has one, and waits until it has dealt with it. What is no news any more
    /// when the call's turn comes is left out.
    pub(crate) async fn tell_listener(
        self: &Arc<Self>,
        news: News,
        mut partitions: Vec<TopicPartition>,
    ) {
        // What comes to an application that is leaving is told if it stays after all.
        let _introducing = match news {
            News::Assigned => Some(self.introducing.lock().await),
            News::Revoked | News::Lost => None,
        };
        let _turn = self.listening.lock().await;
        match news {
            // Whoever closes, or has left, is told of nothing new: there will be no record of it.
            News::Assigned if self.is_closed() || !self.is_subscribed() => return,
            News::Assigned => {
                self.tell_in_turn(news, partitions).await;
                return;
            }
            // While it was not its turn they may have been lost, and given back since: that is no revocation.
            News::Revoked => partitions.retain(|partition| self.revokes(partition)),
            News::Lost => {}
        }
        self.told.lock().give_up(&partitions);
        let heard = self.tell_in_turn(news, partitions).await;
        self.told.lock().end(&heard);
    }

    /// Tells it by this time that it has nothing any more, because the application leaves the group.
    pub(crate) async fn tell_listener_of_the_end(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Leaving<'_> {
        let mut leaving = Leaving {
            told: &self.told,
            left: false,
            introducing: None,
        };
        if !self.is_subscribed() {
            return leaving;
        }
        // Nobody waits for ever for the application's listener, which cannot be trusted to end.
        let deadline = deadline.into();
        let introducing = timeout_at(deadline, self.introducing.lock()).await;
        leaving.introducing = introducing.ok();
        let telling = async {
            let _turn = self.listening.lock().await;
            // What was lost in this very moment is lost; nobody would say so later.
            for news in [News::Revoked, News::Lost] {
                let all = self.told.lock().introduced.iter().cloned().collect();
                let heard = self.tell_in_turn(news, all).await;
                // Not before: who drops the future of `unsubscribe` still has them, and hears of their end again.
                self.told.lock().end_by_leaving(&heard);
            }
        };
        if leaving.introducing.is_none() || timeout_at(deadline, telling).await.is_err() {
            *self.told.lock() = Told::default();
            tracing::error!(
                "the rebalance listener did not end in time for the consumer to leave its group"
            );
        }
        leaving
    }

    /// Tells what of it is still true and was not told: meanwhile partitions may have been lost, and may even be back.
    /// What was told.
    async fn tell_in_turn(
        self: &Arc<Self>,
        news: News,
        mut partitions: Vec<TopicPartition>,
    ) -> Vec<TopicPartition> {
        if self.config.rebalance_listener.is_none() {
            return Vec::new();
        }
        let nothing = partitions.is_empty();
        partitions.retain(|partition| {
            let introduced = self.told.lock().introduced.contains(partition);
            match news {
                // Perhaps it goes already, and its end, which is told without waiting for this, has been left out.
                News::Assigned => !introduced && self.owns(partition) && !self.revokes(partition),
                News::Revoked => introduced && self.owns(partition),
                News::Lost => introduced,
            }
        });
        if partitions.is_empty() && !(nothing && news == News::Assigned) {
            return partitions;
        }
        if news == News::Assigned {
            self.told.lock().introduce(&partitions);
        }
        self.call_listener(news, partitions.clone()).await;
        partitions
    }

    /// Whether this is being given up.
    fn revokes(&self, partition: &TopicPartition) -> bool {
        let group = self.group.as_ref();
        group.is_some_and(|group| group.lock().membership.revokes(partition))
    }

    /// Whether the group has given this, and nobody has taken it back.
    fn owns(&self, partition: &TopicPartition) -> bool {
        let group = self.group.as_ref();
        group.is_some_and(|group| group.lock().membership.owns(partition))
    }

    async fn call_listener(self: &Arc<Self>, news: News, partitions: Vec<TopicPartition>) {
        let Some(listener) = self.config.rebalance_listener.clone() else {
            return;
        };
        // Not kept by this consumer's tasks, or it would never go.
        let Some(consumer) = self.handle() else {
            return;
        };
        // A task of its own, so that a panic in it ends nothing else.
        let call = AbortOnDropHandle::new(tokio::spawn(IN_LISTENER.scope((), async move {
            match news {
                News::Assigned => listener.partitions_assigned(&consumer, &partitions).await,
                News::Revoked => listener.partitions_revoked(&consumer, &partitions).await,
                News::Lost => listener.partitions_lost(&consumer, &partitions).await,
            }
        })));
        match tokio::time::timeout(self.config.max_poll_interval, call).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(?news, %error, "the rebalance listener panicked; going on without");
            }
            Err(_) => tracing::error!(
                ?news,
                "the rebalance listener did not end within max.poll.interval.ms = {} ms; going on \
                 without: does it wait for records, through another task?",
                self.config.max_poll_interval.as_millis()
            ),
        }
    }
}

/// Runs a listener's call on a thread that blocks, for a facade without async: what would wait for the rebalance that waits
/// for the call is refused there, too.
#[doc(hidden)]
pub fn in_listener<T>(call: impl FnOnce() -> T) -> T {
    IN_LISTENER.sync_scope((), call)
}

/// Refuses what would wait for a rebalance that waits for the listener that asks.
pub(crate) fn check_not_in_listener() -> Result<(), Error> {
    match IN_LISTENER.try_with(|()| ()) {
        Ok(()) => Err(Error::Usage(
            "a rebalance listener cannot wait for records, unsubscribe or close: the rebalance waits \
             for it",
        )),
        Err(_) => Ok(()),
    }
}

tokio::task_local! {
    /// Set while a listener runs.
    static IN_LISTENER: ();
}
