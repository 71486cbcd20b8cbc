//! The share consumer as applications see it.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ottla_net::Cluster;

use super::{
    acknowledge::AcknowledgeType,
    config::{ShareAcknowledgementMode, ShareConsumerConfig},
    driver::Shared,
    metrics::ShareConsumerMetrics,
    outcome::AcknowledgeOutcome,
    record::ShareRecord,
    stream::ShareRecordStream,
};
use crate::{
    Error, Str, TopicPartition,
    driver::{deadline, now},
    topics::topic_names,
};

/// Reads records as a member of a share group (KIP-932): the members share partitions, each record is for one of them, and
/// is acknowledged by itself. What is not acknowledged comes again, to whichever member is first.
///
/// Cheap to clone; clones are the same consumer. With implicit acknowledgement one task reads at a time: coming for records
/// accepts those handed out before, to whomever. With explicit acknowledgement, records may be handed to any number of
/// tasks, which acknowledge them in any order.
///
/// When the last clone is dropped, the consumer gives back what was not acknowledged and leaves its group, in the
/// background; [`ShareConsumer::close`] waits for that.
///
/// ```no_run
/// use ottla_consumer::{AcknowledgeType, ShareAcknowledgementMode, ShareConsumer, ShareConsumerConfig};
///
/// # fn work(_: &[u8]) -> Result<(), ()> { Ok(()) }
/// # async fn example(cluster: ottla_net::Cluster) -> Result<(), ottla_consumer::Error> {
/// let consumer = ShareConsumer::new(cluster, ShareConsumerConfig {
///     group_id: "thumbnails".into(),
///     acknowledgement_mode: ShareAcknowledgementMode::Explicit,
///     ..Default::default()
/// })?;
/// consumer.subscribe(["pictures"])?;
/// loop {
///     let record = consumer.recv().await?;
///     let kind = match work(record.value().unwrap_or_default()) {
///         Ok(()) => AcknowledgeType::Accept,
///         Err(()) if record.delivery_count() < 3 => AcknowledgeType::Release,
///         Err(()) => AcknowledgeType::Reject,
///     };
///     consumer.acknowledge(&record, kind)?;
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ShareConsumer {
    owner: Arc<Owner>,
}

/// Ends the tasks when the last handle goes. The tasks hold [`Shared`], never this.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.begin_close();
    }
}

impl ShareConsumer {
    /// A share consumer that reads nothing yet. Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`] if settings do not fit together.
    ///
    /// # Panics
    /// Outside of a tokio runtime, whose tasks and timers it uses from then on.
    pub fn new(cluster: Cluster, config: ShareConsumerConfig) -> Result<Self, Error> {
        config.validate()?;
        // A broker keeps a ShareFetch until there are records, and ends a share session with its connection: nobody else's
        // requests belong there.
        let shared = Shared::new(cluster.with_own_lanes(), config);
        Ok(Self {
            owner: Arc::new(Owner { shared }),
        })
    }

    /// Reads these topics as a member of the group. Replaces an earlier subscription. Returns at once; joining happens in
    /// the background. A topic that does not exist (yet) is waited for.
    ///
    /// A group that is new begins where its setting `share.auto.offset.reset` says, which is `latest` unless it was changed.
    ///
    /// # Errors
    /// [`Error::Usage`] without a topic, or for a name that none can have; [`Error::Closed`].
    pub fn subscribe<T: Into<Str>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_open()?;
        let topics = topic_names(topics)?;
        shared.reader.lock().fatal = None;
        shared.track(topics.clone());
        shared.leave_for_another();
        shared.membership.lock().subscribe(topics, now());
        shared.heartbeats.notify_one();
        Ok(())
    }

    /// Leaves the group. Acknowledgements that were made are sent; records that were not acknowledged are given back.
    /// Returns at once.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn unsubscribe(&self) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_open()?;
        let mut reader = shared.reader.lock();
        reader.fatal = None;
        reader.clear();
        shared.give_back();
        drop(reader);
        shared.track(Vec::new());
        Ok(())
    }

    /// The topics subscribed to.
    pub fn subscription(&self) -> Vec<Str> {
        self.shared().membership.lock().topics().to_vec()
    }

    /// The partitions that this member is to read now, in no order. Others may read them, too.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared()
            .core(|core| core.assignment().cloned().collect())
    }

    /// The next record. Waits for as long as it takes.
    ///
    /// Cancel-safe: a record is taken and returned in one go; dropping the future loses none.
    ///
    /// # Errors
    /// What concerns a partition or a broker is reported and tried again ([`Error::Unreadable`], [`Error::ShareFetch`],
    /// [`Error::Net`]): calling again goes on. [`Error::ShareGroup`] stays until the next subscription.
    /// [`Error::Closed`].
    pub async fn recv(&self) -> Result<ShareRecord, Error> {
        loop {
            // The clock of a lifetime; `poll` returns before that only with a record or an error.
            let mut records = self.take(1, Duration::MAX).await?;
            if let Some(record) = records.pop() {
                return Ok(record);
            }
        }
    }

    /// The next record, if one is there; otherwise some are asked for. With implicit acknowledgement this accepts the records
    /// handed out before.
    ///
    /// # Errors
    /// As [`ShareConsumer::recv`].
    pub fn try_recv(&self) -> Result<Option<ShareRecord>, Error> {
        self.begin_call()?;
        Ok(self.shared().reader.lock().take(self.shared(), 1)?.pop())
    }

    /// The records, as a stream. It ends when the consumer is closed; errors do not end it. Each call for the next record is
    /// a call of [`ShareConsumer::recv`]. While it waits for records the application counts as there, until there is something
    /// to be had; with a stream that is not asked any more after that, it does not.
    pub fn stream(&self) -> ShareRecordStream {
        ShareRecordStream::new(self.clone())
    }

    /// The next records, at most `max.poll.records`. Waits for the first for up to `timeout`; empty if none came.
    ///
    /// With implicit acknowledgement this accepts the records handed out before; that is sent with the next fetch, or half
    /// a second later. With explicit acknowledgement, those that are not acknowledged yet stay this member's until their
    /// locks time out.
    ///
    /// Records are asked for only while a call waits for some, so that none lies here while its lock runs out.
    ///
    /// Cancel-safe: dropping the future loses no record.
    ///
    /// # Errors
    /// As [`ShareConsumer::recv`].
    pub async fn poll(&self, timeout: Duration) -> Result<Vec<ShareRecord>, Error> {
        self.take(self.shared().config.max_poll_records, timeout)
            .await
    }

    /// Says what becomes of a record. It is sent with the next fetch, or half a second later, or with the next commit; what
    /// comes of it [`ShareConsumer::commit`] tells, and the listener of
    /// [`ShareConsumerConfig::acknowledge_listener`].
    ///
    /// [`AcknowledgeType::Renew`] has the record's lock begin anew; it still has to be acknowledged afterwards. Any other
    /// is final.
    ///
    /// # Errors
    /// [`Error::Usage`] with implicit acknowledgement; [`Error::NotHeld`] if the record was acknowledged before, or is not
    /// this member's any more; [`Error::Closed`].
    pub fn acknowledge(&self, record: &ShareRecord, kind: AcknowledgeType) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_open()?;
        if shared.config.acknowledgement_mode == ShareAcknowledgementMode::Implicit {
            return Err(Error::Usage(
                "records are accepted by coming for more: set share.acknowledgement.mode to explicit to acknowledge them \
                 one by one",
            ));
        }
        let (lender, offset) = (record.lender(), record.offset());
        match shared.core(|core| core.acknowledge(lender.node, lender.id, offset, kind, now())) {
            true => Ok(()),
            false => Err(Error::NotHeld {
                partition: record.topic_partition().clone(),
                offset,
            }),
        }
    }

    /// Sends all acknowledgements made so far, and waits for what becomes of them. With implicit acknowledgement this
    /// accepts the records handed out so far. A fetch that is under way is waited for (`fetch.max.wait.ms`).
    ///
    /// Returns one outcome for each partition and request; empty if there was nothing to acknowledge. An outcome that is an
    /// error means that those records come again.
    ///
    /// Cancel-safe: when dropped, the acknowledgements are sent all the same, and the listener is told.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `default.api.timeout.ms`; the listener is told of what comes later. [`Error::Closed`], also if
    /// the consumer is closed before the outcome is known.
    pub async fn commit(&self) -> Result<Vec<AcknowledgeOutcome>, Error> {
        let shared = self.shared();
        shared.check_open()?;
        let commit = shared.commit();
        shared.tell_outcomes();
        let Some((number, outcome)) = commit else {
            return Ok(Vec::new());
        };
        let _forgets = Forgets { shared, number };
        let timeout = shared.config.default_api_timeout;
        let outcome = async {
            tokio::select! {
                biased;
                outcome = outcome => outcome.map_err(|_| Error::Closed),
                // Nobody will tell it any more.
                () = shared.halting.cancelled() => Err(Error::Closed),
            }
        };
        match tokio::time::timeout(timeout, outcome).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout {
                what: "acknowledging records",
                waited: timeout,
                last: "the brokers they were acquired from have not answered".into(),
            }),
        }
    }

    /// [`ShareConsumer::commit`] for those who only want to know that all is stored.
    ///
    /// # Errors
    /// As [`ShareConsumer::commit`], and [`Error::AcknowledgeFailed`] for the first partition whose acknowledgements are not
    /// stored.
    pub async fn commit_all(&self) -> Result<(), Error> {
        for outcome in self.commit().await? {
            if let Err(fault) = outcome.result {
                return Err(Error::AcknowledgeFailed {
                    group: self.shared().group_id(),
                    partition: outcome.partition,
                    fault,
                });
            }
        }
        Ok(())
    }

    /// Sends all acknowledgements made so far, without waiting; the listener is told what becomes of them. With implicit
    /// acknowledgement this accepts the records handed out so far.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn commit_async(&self) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_open()?;
        if let Some((number, _)) = shared.commit() {
            shared.forget_commit(number);
        }
        shared.tell_outcomes();
        Ok(())
    }

    /// How long records are locked for the member that acquired them, as the brokers said last; none before the first
    /// answer. `share.record.lock.duration.ms` of the group, else `group.share.record.lock.duration.ms` of the brokers.
    pub fn acquisition_lock_timeout(&self) -> Option<Duration> {
        self.shared().core(|core| core.lock_timeout())
    }

    /// What this consumer has done so far and where it stands. Asks nobody.
    pub fn metrics(&self) -> ShareConsumerMetrics {
        let shared = self.shared();
        let (tally, held, mut partitions) = shared.core(|core| {
            let partitions: Vec<_> = core.assignment().cloned().collect();
            (core.tally.clone(), core.held(), partitions)
        });
        partitions.sort_unstable();
        shared.counters.snapshot(tally, held, partitions)
    }

    /// The settings.
    pub fn config(&self) -> &ShareConsumerConfig {
        &self.shared().config
    }

    /// Sends the acknowledgements that were made, gives back what was not acknowledged, leaves the group and ends all tasks.
    /// Calls that wait for records end with [`Error::Closed`].
    ///
    /// With implicit acknowledgement, the records of the latest call are given back, too: commit to accept them.
    ///
    /// Always ends, at the deadline at the latest; calling it again does nothing. When dropped, the consumer closes in the
    /// background.
    ///
    /// # Errors
    /// [`Error::Timeout`] if the deadline cut it short: what was not given back comes again when its lock times out.
    pub async fn close(&self, timeout: Duration) -> Result<(), Error> {
        let shared = self.shared();
        shared.begin_close();
        let deadline = deadline(timeout);
        let done = tokio::time::timeout_at(deadline.into(), shared.tasks.wait()).await;
        shared.halting.cancel();
        shared.tasks.wait().await;
        shared.tell_outcomes();
        done.map_err(|_| Error::Timeout {
            what: "closing the share consumer",
            waited: timeout,
            last: "a broker did not answer; records that were not given back come again when their locks time out"
                .into(),
        })
    }

    async fn take(&self, max: usize, timeout: Duration) -> Result<Vec<ShareRecord>, Error> {
        let shared = self.shared();
        self.begin_call()?;
        let take = || {
            shared.check_open()?;
            shared.reader.lock().take(shared, max)
        };
        let records = take()?;
        if !records.is_empty() || timeout.is_zero() {
            return Ok(records);
        }
        let deadline = deadline(timeout);
        loop {
            let news = shared.application.listen();
            tokio::pin!(news);
            news.as_mut().enable();
            let rings = shared.application.rings();
            let records = take()?;
            if !records.is_empty() {
                return Ok(records);
            }
            let _waiting = Waiting::begin(self, rings);
            if tokio::time::timeout_at(deadline.into(), news)
                .await
                .is_err()
            {
                return Ok(Vec::new());
            }
        }
    }

    /// The application comes for records.
    fn begin_call(&self) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_open()?;
        shared.counters.polls.fetch_add(1, Relaxed);
        shared.core(|core| core.begin_poll(now()));
        shared.tell_outcomes();
        self.comes(false);
        Ok(())
    }

    /// The application is there.
    fn comes(&self, waits: bool) {
        let shared = self.shared();
        if shared.membership.lock().application_polls(waits, now()) {
            shared.heartbeats.notify_one();
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }
}

/// A call that waits for records. Whatever ends it ends the waiting.
struct Waiting<'a> {
    consumer: &'a ShareConsumer,
    rings: u64,
}

impl<'a> Waiting<'a> {
    /// `rings`: of before it was seen that there are none.
    fn begin(consumer: &'a ShareConsumer, rings: u64) -> Self {
        let waits = consumer.shared().core(|core| {
            core.begin_waiting(rings);
            core.is_waited_for()
        });
        consumer.comes(waits);
        Self { consumer, rings }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waits = self.consumer.shared().core(|core| {
            core.end_waiting(self.rings);
            core.is_waited_for()
        });
        self.consumer.comes(waits);
    }
}

/// Whatever ends a commit's waiting forgets it.
struct Forgets<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        self.shared.forget_commit(self.number);
    }
}
