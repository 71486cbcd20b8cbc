//! The consumer as applications see it.

mod closing;
pub(crate) mod committing;
mod positions;

use std::{collections::HashSet, sync::Arc, time::Duration};

use ottla_net::{Cluster, GroupMetadata};
use parking_lot::{Mutex, MutexGuard};

use self::closing::AtLast;
use crate::{
    ConsumerConfig, ConsumerMetrics, Error, Offset, PartitionMetrics, Record, RecordBatch,
    RecordStream, Str, TopicPartition, TopicPattern,
    core::StreamEnd,
    driver::{
        Shared, deadline,
        group::{Group, Subscribed},
        now, unassign_all,
    },
    listener::check_not_in_listener,
    topics::topic_names,
    waiting::Waiting,
};

/// Reads records from topics, alone or as a member of a group.
///
/// Cheap to clone; clones are the same consumer, so that one task can read while others commit, seek or
/// pause. Reading itself is for one task at a time: a call for records says that the application is done
/// with all that were handed out before, to whomever.
///
/// When the last clone is dropped, the consumer leaves its group without committing; [`Consumer::close`]
/// commits first and waits.
///
/// ```no_run
/// use ottla_consumer::{Consumer, ConsumerConfig, OffsetReset};
///
/// # async fn example(cluster: ottla_net::Cluster) -> Result<(), ottla_consumer::Error> {
/// let consumer = Consumer::new(cluster, ConsumerConfig {
///     group_id: Some("billing".into()),
///     auto_offset_reset: OffsetReset::Earliest,
///     ..Default::default()
/// })?;
/// consumer.subscribe(["orders"])?;
/// loop {
///     let record = consumer.recv().await?;
///     println!("{} {:?}", record.offset(), record.value());
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Consumer {
    owner: Arc<Owner>,
}

/// Ends the tasks when the last handle goes. The tasks hold [`Shared`], never this.
#[derive(Debug)]
pub(crate) struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

impl Consumer {
    /// A consumer that reads nothing yet. Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`] if settings do not fit together.
    ///
    /// # Panics
    /// Outside of a tokio runtime, whose tasks and timers it uses from then on.
    pub fn new(cluster: Cluster, config: ConsumerConfig) -> Result<Self, Error> {
        config.validate()?;
        // A broker keeps a Fetch or JoinGroup until something happens, and answers nothing else on
        // that connection meanwhile: not the heartbeat of another consumer for which it waits.
        let shared = Shared::new(cluster.with_own_lanes(), config);
        let owner = Arc::new(Owner { shared });
        owner.shared.set_owner(&owner);
        Ok(Self { owner })
    }

    pub(crate) fn from_owner(owner: Arc<Owner>) -> Self {
        Self { owner }
    }

    /// Reads these topics as a member of the group, which distributes their partitions over its members.
    /// Replaces an earlier subscription. Returns at once; joining happens in the background.
    ///
    /// A topic that does not exist (yet) is waited for, with a warning in the log.
    ///
    /// # Errors
    /// [`Error::Usage`] without `group.id`, without a topic, for a name that none can have, or while partitions are assigned by hand;
    /// [`Error::Closed`].
    pub fn subscribe<T: Into<Str>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_open()?;
        let Some(group) = &shared.group else {
            return Err(Error::Usage(
                "subscribing needs group.id; without a group, assign",
            ));
        };
        let topics = topic_names(topics)?;
        if topics.iter().any(|topic| topic.starts_with('^')) {
            return Err(Error::Usage(
                "a topic's name does not begin with ^; to subscribe by pattern, use subscribe_pattern",
            ));
        }
        let mut group = group.lock();
        self.check_none_by_hand(&group)?;
        let changed = group.topics != topics || group.is_by_brokers();
        group.subscription = Some(Subscribed::Names);
        group.topics.clone_from(&topics);
        // After an error that ended the membership, the same subscription is a new try.
        if changed || group.membership.is_idle() {
            group.membership.subscribe(topics.iter().cloned(), now());
        }
        drop(group);
        shared.reader.lock().fatal = None;
        shared.track(topics);
        shared.follow_assigned();
        shared.track_all(false);
        shared.membership.notify_one();
        Ok(())
    }

    /// Reads the topics whose names match a pattern, as a member of the group, also ones to come: new topics, and
    /// new partitions, are noticed when the metadata is refreshed (`metadata.max.age.ms`), as are topics that are gone.
    /// Replaces an earlier subscription; what both are for is read on undisturbed if the group rebalances
    /// cooperatively. Returns at once. While no topic matches, the group is not joined.
    ///
    /// With `group.protocol` = `consumer` the brokers match the pattern, as long as they can: they know no exceptions
    /// ([`TopicPattern::except`]), and with `exclude.internal.topics` would not leave internal topics out. Otherwise the
    /// client does. Brokers understand the syntax of RE2/J; a pattern that is none there makes the next call for records
    /// fail with [`Error::Group`].
    ///
    /// # Errors
    /// [`Error::Usage`] without `group.id`, or while partitions are assigned by hand; [`Error::Closed`].
    pub fn subscribe_pattern(&self, pattern: TopicPattern) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_open()?;
        let Some(group) = &shared.group else {
            return Err(Error::Usage(
                "subscribing needs group.id; without a group, assign",
            ));
        };
        let mut group = group.lock();
        self.check_none_by_hand(&group)?;
        if group.membership.is_idle() {
            // After an error that ended the membership, the same topics are a new try.
            group.topics.clear();
        }
        let matches_itself = group.subscribe_pattern(pattern);
        drop(group);
        shared.reader.lock().fatal = None;
        shared.track_all(matches_itself);
        shared.match_topics();
        shared.membership.notify_one();
        Ok(())
    }

    /// Reads these partitions, from where each says. Replaces an earlier assignment. There is no group to
    /// share them with; with `group.id`, offsets can be committed all the same.
    ///
    /// # Errors
    /// [`Error::Usage`] while there is a subscription, or for a negative offset; [`Error::Closed`].
    pub fn assign<P: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = (P, Offset)>,
    ) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_open()?;
        // The application's own code, which may call this consumer: before any lock.
        let partitions = places(partitions)?;
        let mut reader = shared.reader.lock();
        let _group = self.lock_unsubscribed()?;
        shared.core(|core| unassign_all(&mut reader, core));
        let topics: HashSet<Str> = partitions.iter().map(|(p, _)| p.topic.clone()).collect();
        shared.retain_tracked(&topics);
        shared.assign(partitions, None);
        Ok(())
    }

    /// Reads these partitions beside those assigned by hand before, which are read on undisturbed.
    ///
    /// # Errors
    /// [`Error::Usage`] while there is a subscription, for a negative offset, or for a partition that is assigned
    /// already, to which [`Consumer::seek`] gives another position; nothing has changed then. [`Error::Closed`].
    pub fn incremental_assign<P: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = (P, Offset)>,
    ) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_open()?;
        let partitions = places(partitions)?;
        let _group = self.lock_unsubscribed()?;
        let assigned = |name| shared.core(|core| core.assignment().any(|other| other == name));
        if partitions.iter().any(|(name, _)| assigned(name)) {
            return Err(Error::Usage(
                "a partition is assigned already: to read it from elsewhere, seek",
            ));
        }
        shared.assign(partitions, None);
        Ok(())
    }

    /// Gives these partitions up; the others that were assigned by hand are read on undisturbed. Commits nothing,
    /// also with automatic commit: commit before what should not be read again.
    ///
    /// # Errors
    /// [`Error::Usage`] while there is a subscription; [`Error::NotAssigned`] for a partition that is not assigned;
    /// nothing has changed then. [`Error::Closed`].
    pub fn incremental_unassign(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_open()?;
        let mut reader = shared.reader.lock();
        let _group = self.lock_unsubscribed()?;
        let keep = shared.core(|core| {
            for partition in partitions {
                core.position(partition)?;
            }
            for partition in partitions {
                reader.drop_partition(partition);
                core.unassign(partition);
            }
            let kept = core.assignment().map(|kept| kept.topic.clone());
            Ok::<_, Error>(kept.collect())
        })?;
        shared.retain_tracked(&keep);
        Ok(())
    }

    /// Leaves the group, or gives up what was assigned by hand. Streams of single partitions end, and are waited for; with
    /// automatic commit, what the application is done with is committed; commits that are under way are waited for; the
    /// rebalance listener is told before partitions of
    /// the group are given up. All that takes `default.api.timeout.ms` at most: streams that are not dropped, a
    /// coordinator that does not answer, and a listener that does not end are then left behind, with a line in the log.
    ///
    /// Cancel-safe: when dropped, the group may or may not have been left. If not, streams that have ended meanwhile come again
    /// from the [`PartitionStreams`](crate::PartitionStreams).
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Usage`] from within a rebalance listener.
    pub async fn unsubscribe(&self) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_open()?;
        check_not_in_listener()?;
        let deadline = deadline(shared.config.default_api_timeout);
        // Once all is given up there is nothing to resume.
        let _resumed = AtLast(|| shared.resume_streams());
        let (_, leaving) = self.wind_up(StreamEnd::Revoked, deadline).await;
        if let Some(group) = &shared.group {
            let mut group = group.lock();
            group.subscription = None;
            group.topics.clear();
            group.membership.leave("unsubscribed");
        }
        shared.unassign_all();
        leaving.has_left();
        shared.forget_topics();
        shared.reader.lock().fatal = None;
        shared.membership.notify_one();
        Ok(())
    }

    /// Has the group distribute its partitions anew, by its leader's assignor: for an assignor of one's own that goes by
    /// something that has changed. Returns at once; while the group rebalances already, or is not joined yet, there is nothing to
    /// do.
    ///
    /// # Errors
    /// [`Error::Usage`] without a subscription, and for a member by the consumer protocol (KIP-848), whose coordinator
    /// distributes; [`Error::Closed`].
    pub fn enforce_rebalance(&self) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_open()?;
        let Some(group) = &shared.group else {
            return Err(Error::Usage("there is no rebalance without group.id"));
        };
        let mut group = group.lock();
        if group.subscription.is_none() {
            return Err(Error::Usage("there is no rebalance without a subscription"));
        }
        if group.membership.consumer().is_some() {
            return Err(Error::Usage(
                "by the consumer protocol the group's coordinator decides when to rebalance",
            ));
        }
        if let Some(classic) = group.membership.classic() {
            classic.enforce_rebalance(now());
        }
        drop(group);
        shared.membership.notify_one();
        Ok(())
    }

    /// The partitions that are read now, in no order.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared()
            .core(|core| core.assignment().cloned().collect())
    }

    /// The topics subscribed to; with a pattern those that match by now, or where the brokers match it those that
    /// partitions are assigned of.
    pub fn subscription(&self) -> Vec<Str> {
        self.shared()
            .group
            .as_ref()
            .map(|group| group.lock().topics.clone())
            .unwrap_or_default()
    }

    /// The next record. Waits for as long as it takes.
    ///
    /// Cancel-safe: a record is taken and returned in one go; dropping the future loses none.
    ///
    /// # Errors
    /// What concerns a partition is reported once and tried again ([`Error::Unreadable`],
    /// [`Error::Fetch`], [`Error::UnknownTopic`]), or waits for a seek ([`Error::NoOffset`],
    /// [`Error::OffsetOutOfRange`], [`Error::LogTruncated`]): calling again goes on with the others.
    /// [`Error::Group`] stays until the next subscription. [`Error::Closed`].
    pub async fn recv(&self) -> Result<Record, Error> {
        let shared = self.shared();
        loop {
            if let Some(record) = self.try_recv()? {
                return Ok(record);
            }
            let news = shared.application.listen();
            tokio::pin!(news);
            news.as_mut().enable();
            let rings = shared.application.rings();
            // What came in between would wake nobody.
            if let Some(record) = self.try_recv()? {
                return Ok(record);
            }
            check_not_in_listener()?;
            let _waiting = Waiting::begin(shared, rings);
            news.await;
        }
    }

    /// The next record, if one is there.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    #[inline]
    pub fn try_recv(&self) -> Result<Option<Record>, Error> {
        let shared = self.shared();
        shared.check_open()?;
        shared.reader.lock().next_record(shared)
    }

    /// The next records, at most `max.poll.records`, in batches as they lie in the log. Waits for the first
    /// for up to `timeout`; empty if none came.
    ///
    /// A batch that turns out to be damaged within says so with its last item, an [`Error::Unreadable`]. The
    /// position is behind the batch by then: to read it again, seek to the offset that the error names.
    ///
    /// Cancel-safe: dropping the future loses no record.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    pub async fn poll(&self, timeout: Duration) -> Result<Vec<RecordBatch>, Error> {
        self.poll_max(self.shared().config.max_poll_records, timeout)
            .await
    }

    /// [`Consumer::poll`] with a limit of its own. `usize::MAX` hands out all that has been fetched.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    pub async fn poll_max(
        &self,
        max_records: usize,
        timeout: Duration,
    ) -> Result<Vec<RecordBatch>, Error> {
        let shared = self.shared();
        let take = || {
            shared.check_open()?;
            shared.reader.lock().next_batches(shared, max_records)
        };
        let batches = take()?;
        if !batches.is_empty() || timeout.is_zero() {
            return Ok(batches);
        }
        let deadline = deadline(timeout);
        loop {
            let news = shared.application.listen();
            tokio::pin!(news);
            news.as_mut().enable();
            let rings = shared.application.rings();
            let batches = take()?;
            if !batches.is_empty() {
                return Ok(batches);
            }
            check_not_in_listener()?;
            let _waiting = Waiting::begin(shared, rings);
            if tokio::time::timeout_at(deadline.into(), news)
                .await
                .is_err()
            {
                return Ok(Vec::new());
            }
        }
    }

    /// The records, as a stream. It ends when the consumer is closed; errors do not end it. While it waits for records the
    /// application counts as there, and as done with what it was handed, until there is something to be had; with a stream
    /// that is not asked any more after that, it does not.
    ///
    /// From within a rebalance listener, waiting is an [`Error::Usage`].
    pub fn stream(&self) -> RecordStream {
        RecordStream::new(self.clone())
    }

    /// What this consumer has done so far and where it stands. Asks nobody, and takes time with the number of
    /// partitions.
    pub fn metrics(&self) -> ConsumerMetrics {
        let shared = self.shared();
        let polls = shared.reader.lock().polls;
        let queues: Vec<_> = shared.core(|core| {
            let queues = core.queues();
            queues
                .map(|(name, bytes, paused)| (name.clone(), bytes, paused))
                .collect()
        });
        let partitions =
            queues
                .into_iter()
                .map(|(partition, queued_bytes, paused)| PartitionMetrics {
                    // It may be given up this moment.
                    position: self.position(&partition).ok().flatten(),
                    lag: self.lag(&partition).ok().flatten(),
                    watermarks: self.watermarks(&partition).ok().flatten(),
                    partition,
                    queued_bytes,
                    paused,
                });
        shared.counters.snapshot(polls, partitions.collect())
    }

    /// The settings.
    pub fn config(&self) -> &ConsumerConfig {
        &self.shared().config
    }

    /// Who this consumer is in its group now, to commit its offsets in a transaction (KIP-447); none without `group.id`.
    ///
    /// While it subscribes and has no place in the group (it has not joined yet, or lost its place), this is somebody
    /// whom every coordinator refuses, so that nothing is committed for partitions that may be another member's. Without a
    /// subscription it is nobody in particular, whose offsets a group takes that has no members.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        let shared = self.shared();
        let identity = shared.group.as_ref()?.lock().membership.spokesman();
        shared.metadata_of(identity)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    fn group_id(&self) -> Result<Str, Error> {
        let id = self.shared().config.group_id.clone();
        Ok(id
            .ok_or(Error::Usage(
                "committed offsets belong to a group: set group.id",
            ))?
            .into())
    }

    fn check_none_by_hand(&self, group: &Group) -> Result<(), Error> {
        let assigned = || {
            self.shared()
                .core(|core| core.assignment().next().is_some())
        };
        match group.subscription.is_none() && assigned() {
            true => Err(Error::Usage(
                "partitions are assigned by hand: unsubscribe first",
            )),
            false => Ok(()),
        }
    }

    /// What is held stays without a subscription for as long.
    fn lock_unsubscribed(&self) -> Result<Option<MutexGuard<'_, Group>>, Error> {
        let group = self.shared().group.as_ref().map(Mutex::lock);
        match group
            .as_ref()
            .is_some_and(|group| group.subscription.is_some())
        {
            true => Err(Error::Usage("there is a subscription: unsubscribe first")),
            false => Ok(group),
        }
    }
}

/// What is to be assigned, if each place is one.
fn places<P: Into<TopicPartition>>(
    partitions: impl IntoIterator<Item = (P, Offset)>,
) -> Result<Vec<(TopicPartition, Offset)>, Error> {
    let places = partitions.into_iter().map(|(partition, at)| {
        check(at)?;
        Ok((partition.into(), at))
    });
    places.collect()
}

fn check(place: Offset) -> Result<(), Error> {
    match place {
        Offset::At(offset) if offset < 0 => Err(Error::Usage("offsets are not negative")),
        Offset::Timestamp(time) if time < 0 => Err(Error::Usage(
            "timestamps are milliseconds since 1970, not negative",
        )),
        _ => Ok(()),
    }
}
