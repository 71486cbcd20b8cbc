//! The consumer as applications see it.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use ottla_net::{Cluster, GroupMetadata};
use parking_lot::{Mutex, MutexGuard};

use crate::{
    CommittedOffset, ConsumerConfig, ConsumerMetrics, Error, Offset, OffsetForTime,
    PartitionMetrics, Record, RecordBatch, RecordStream, Str, TopicPartition, TopicPattern,
    Watermarks,
    core::{Position, StreamEnd},
    driver::{
        Shared,
        commit::{CommitBy, committed},
        deadline,
        group::{Group, Subscribed},
        now,
        offsets::{self, EARLIEST, LATEST, Stragglers::AreWaitedFor},
    },
    group::commit::{Offsets, Outcome},
    listener::check_not_in_listener,
    reader::Waiting,
    topics::topic_names,
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
        if config.fetch_max_wait >= cluster.config().request_timeout {
            return Err(Error::Config {
                setting: "fetch.max.wait.ms",
                reason: "must be below the cluster's request timeout \
                         (ClusterConfig::request_timeout), or every fetch from an idle broker times \
                         out and costs its connection"
                    .into(),
            });
        }
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
        drop(self.lock_unsubscribed()?);
        let partitions = places(partitions)?;
        shared.unassign_all();
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
        let _group = self.lock_unsubscribed()?;
        let partitions = places(partitions)?;
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
    /// automatic commit, what the application is done with is committed; the rebalance listener is told before partitions of
    /// the group are given up. All that takes `default.api.timeout.ms` at most: streams that are not dropped, a
    /// coordinator that does not answer, and a listener that does not end are then left behind, with a line in the log.
    ///
    /// Cancel-safe: when dropped, the group may or may not have been left.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Usage`] from within a rebalance listener.
    pub async fn unsubscribe(&self) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_open()?;
        check_not_in_listener()?;
        let deadline = deadline(shared.config.default_api_timeout);
        self.wind_up(StreamEnd::Revoked, deadline).await;
        if let Some(group) = &shared.group {
            let mut group = group.lock();
            group.subscription = None;
            group.topics.clear();
            group.membership.leave("unsubscribed");
        }
        shared.unassign_all();
        shared.forget_topics();
        shared.reader.lock().fatal = None;
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
            let news = shared.application.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            // What came in between would wake nobody.
            if let Some(record) = self.try_recv()? {
                return Ok(record);
            }
            check_not_in_listener()?;
            let _waiting = Waiting::begin(shared);
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
            let news = shared.application.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let batches = take()?;
            if !batches.is_empty() {
                return Ok(batches);
            }
            check_not_in_listener()?;
            let _waiting = Waiting::begin(shared);
            if tokio::time::timeout_at(deadline.into(), news)
                .await
                .is_err()
            {
                return Ok(Vec::new());
            }
        }
    }

    /// The records, as a stream. It ends when the consumer is closed; errors do not end it.
    pub fn stream(&self) -> RecordStream {
        RecordStream::new(self.clone())
    }

    /// Goes on reading a partition at `to`. What was fetched of it is dropped, and what is being fetched
    /// will be.
    ///
    /// # Errors
    /// [`Error::NotAssigned`]; [`Error::Usage`] for a negative offset.
    pub fn seek(&self, partition: &TopicPartition, to: Offset) -> Result<(), Error> {
        check(to)?;
        let shared = self.shared();
        let mut reader = shared.reader.lock();
        reader.drop_partition(partition);
        shared.core(|core| core.seek(partition, to))
    }

    /// Stops handing out and fetching these partitions; what was fetched of them is kept.
    ///
    /// # Errors
    /// [`Error::NotAssigned`] for the first that is not; those before it are paused.
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let shared = self.shared();
        let mut reader = shared.reader.lock();
        shared.core(|core| {
            for partition in partitions {
                reader.give_back(partition, core);
                core.pause(partition, true)?;
            }
            Ok(())
        })
    }

    /// Undoes [`Consumer::pause`].
    ///
    /// # Errors
    /// [`Error::NotAssigned`] for the first that is not; those before it are resumed.
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.shared().core(|core| {
            partitions
                .iter()
                .try_for_each(|partition| core.pause(partition, false))
        })
    }

    /// The partitions that are paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.shared().core(|core| core.paused().cloned().collect())
    }

    /// The offset of the next record to be handed out, if it is known already.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn position(&self, partition: &TopicPartition) -> Result<Option<i64>, Error> {
        let shared = self.shared();
        let reader = shared.reader.lock();
        if let Some(position) = reader.position(partition) {
            return Ok(Some(position));
        }
        shared.core(|core| Ok(core.position(partition)?.map(|position| position.offset)))
    }

    /// The ends of a partition's log, as the latest fetch told them; none before the first.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn watermarks(&self, partition: &TopicPartition) -> Result<Option<Watermarks>, Error> {
        self.shared().core(|core| core.watermarks(partition))
    }

    /// How many offsets the position is behind the end of the log, or for a reader of committed records
    /// behind the last stable offset; none while either is unknown.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub fn lag(&self, partition: &TopicPartition) -> Result<Option<i64>, Error> {
        let Some(watermarks) = self.watermarks(partition)? else {
            return Ok(None);
        };
        let end = match self.shared().config.isolation_level {
            crate::IsolationLevel::ReadUncommitted => watermarks.high,
            crate::IsolationLevel::ReadCommitted => watermarks.last_stable,
        };
        Ok(self
            .position(partition)?
            .map(|position| end.saturating_sub(position).max(0)))
    }

    /// Commits the positions of all partitions, behind all that was handed out, and waits for the
    /// outcome, for up to `default.api.timeout.ms`.
    ///
    /// Cancel-safe: when dropped, the commit goes on.
    ///
    /// # Errors
    /// [`Error::CommitRefused`]; [`Error::CommitUnknown`] if the answer was lost; [`Error::Timeout`] if it
    /// was never sent; [`Error::Usage`] without `group.id`; [`Error::Closed`].
    pub async fn commit(&self) -> Result<(), Error> {
        self.commit_async()?.await
    }

    /// Starts a commit of the positions of all partitions. It goes on whether or not anybody awaits the
    /// outcome, and never overtakes an earlier one.
    ///
    /// # Errors
    /// [`Error::Usage`] without `group.id`; [`Error::Closed`].
    pub fn commit_async(
        &self,
    ) -> Result<impl Future<Output = Result<(), Error>> + Send + 'static, Error> {
        let shared = self.shared();
        let positions = || {
            let mut reader = shared.reader.lock();
            // Else automatic commit would take it back to what the application was done with before.
            reader.finish();
            shared.core(|core| {
                reader.sync(core, true);
                core.mark_committed();
                core.positions()
                    .map(|(name, position)| (name.clone(), committed(position)))
                    .collect()
            })
        };
        self.start_commit(positions, CommitBy::Application)
    }

    /// Commits these offsets, each that of the next record to read, and waits for the outcome. Automatic commit writes
    /// nothing from before them, unless a partition is sought, or an earlier offset is stored.
    ///
    /// Cancel-safe: when dropped, the commit goes on.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_offsets(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
    ) -> Result<(), Error> {
        self.commit_offsets_async(offsets)?.await
    }

    /// Starts a commit of these offsets, as [`Consumer::commit_async`] does for the positions.
    ///
    /// # Errors
    /// As [`Consumer::commit_async`].
    pub fn commit_offsets_async(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
    ) -> Result<impl Future<Output = Result<(), Error>> + Send + 'static, Error> {
        let offsets = offsets.into_iter().collect();
        self.start_commit(|| offsets, CommitBy::Application)
    }

    /// Commits that this record, and all before it in its partition, are processed; waits for the outcome.
    ///
    /// Cancel-safe: when dropped, the commit goes on.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_record(&self, record: &Record) -> Result<(), Error> {
        let offset = behind(record.offset(), record.leader_epoch());
        let name = record.topic_partition().clone();
        self.commit_offsets([(name, offset)]).await
    }

    /// Commits that this batch, and all before it in its partition, is processed; waits for the outcome.
    ///
    /// Cancel-safe: when dropped, the commit goes on.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_batch(&self, batch: &RecordBatch) -> Result<(), Error> {
        let offset = CommittedOffset {
            offset: batch.next_offset(),
            leader_epoch: batch.leader_epoch(),
            metadata: Str::new(),
        };
        let name = batch.topic_partition().clone();
        self.commit_offsets([(name, offset)]).await
    }

    /// Has automatic commit write that this record, and all before it in its partition, are processed. For
    /// `enable.auto.offset.store` = `false`, where only what is stored is committed automatically: with the interval, when
    /// the partition is given up, and on close.
    ///
    /// # Errors
    /// [`Error::Usage`] with `enable.auto.offset.store` = `true`; [`Error::NotAssigned`] if the partition is not
    /// this consumer's any more.
    pub fn store_offset(&self, record: &Record) -> Result<(), Error> {
        let offset = behind(record.offset(), record.leader_epoch());
        self.store_offsets([(record.topic_partition().clone(), offset)])
    }

    /// Has automatic commit write these offsets, each that of the next record to read. See
    /// [`Consumer::store_offset`].
    ///
    /// # Errors
    /// As [`Consumer::store_offset`], for the first that is not assigned; those before it are stored.
    pub fn store_offsets(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
    ) -> Result<(), Error> {
        let shared = self.shared();
        if shared.config.enable_auto_offset_store {
            return Err(Error::Usage(
                "offsets are stored as records are handed out: set enable.auto.offset.store to false \
                 to store them by hand",
            ));
        }
        for (name, stored) in offsets {
            check(Offset::At(stored.offset))?;
            let position = Position {
                offset: stored.offset,
                leader_epoch: stored.leader_epoch,
            };
            shared.core(|core| core.store(&name, position, stored.metadata))?;
        }
        Ok(())
    }

    /// Commits now what automatic commit would write next: what was stored, or without
    /// `enable.auto.offset.store` = `false` what the application is done with. Waits for the outcome.
    ///
    /// Cancel-safe: when dropped, the commit goes on.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_stored(&self) -> Result<(), Error> {
        let mut names = Vec::new();
        let stored = || {
            let offsets = self.shared().processed(false);
            names.extend(offsets.keys().cloned());
            offsets
        };
        let outcome = self.start_commit(stored, CommitBy::Application)?.await;
        if outcome.is_err() {
            self.shared().core(|core| core.auto_commit_failed(&names));
        }
        outcome
    }

    /// What the group has committed for each of these partitions; `None` where it has nothing.
    ///
    /// # Errors
    /// [`Error::Usage`] without `group.id`; [`Error::Net`] if the coordinator could not be asked within
    /// `default.api.timeout.ms`; [`Error::Group`] if it refuses.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, Option<CommittedOffset>>, Error> {
        let shared = self.shared();
        let group = self.group_id()?;
        let deadline = now() + shared.config.default_api_timeout;
        let answers =
            offsets::committed(shared, &group, partitions, AreWaitedFor, deadline).await?;
        let answers = answers.into_iter().map(|(name, answer)| match answer {
            Ok(committed) => Ok((name, committed)),
            Err(error) => Err(Error::Group {
                group: group.clone(),
                error,
            }),
        });
        answers.collect()
    }

    /// The offsets that the log of a partition holds, asked of its leader: from the first to one past the last, or for a
    /// reader of committed records to the last stable offset. [`Consumer::watermarks`] asks nobody.
    ///
    /// # Errors
    /// As [`Consumer::beginning_offsets`].
    pub async fn query_watermarks(&self, partition: &TopicPartition) -> Result<Range<i64>, Error> {
        let one = std::slice::from_ref(partition);
        let (first, end) = tokio::try_join!(self.beginning_offsets(one), self.end_offsets(one))?;
        // Both answer for each partition they are asked about.
        let of = |offsets: &HashMap<TopicPartition, i64>| offsets.get(partition).copied();
        Ok(of(&first).unwrap_or(0)..of(&end).unwrap_or(0))
    }

    /// The first offset that the log of each partition still holds.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`] for a topic that stays unknown for `default.api.timeout.ms`; [`Error::Net`]
    /// for one that is forbidden; [`Error::Timeout`] after `default.api.timeout.ms`.
    pub async fn beginning_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, i64>, Error> {
        self.bounds(partitions, EARLIEST).await
    }

    /// The end of the log of each partition: one past the last record, or for a reader of committed
    /// records the last stable offset.
    ///
    /// # Errors
    /// As [`Consumer::beginning_offsets`].
    pub async fn end_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, i64>, Error> {
        self.bounds(partitions, LATEST).await
    }

    /// The first record of each partition with the given timestamp (ms since 1970) or a later one; `None`
    /// where there is none.
    ///
    /// # Errors
    /// As [`Consumer::beginning_offsets`]; [`Error::Usage`] for a negative timestamp.
    pub async fn offsets_for_times(
        &self,
        times: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<HashMap<TopicPartition, Option<OffsetForTime>>, Error> {
        let times: Vec<_> = times.into_iter().collect();
        if times.iter().any(|(_, time)| *time < 0) {
            return Err(Error::Usage(
                "timestamps are milliseconds since 1970, not negative",
            ));
        }
        let timeout = self.shared().config.default_api_timeout;
        let listed = offsets::list(self.shared(), times, timeout).await?;
        let found = listed.into_iter().map(|(name, answer)| {
            let found = (answer.offset >= 0).then_some(OffsetForTime {
                offset: answer.offset,
                timestamp: answer.timestamp,
                leader_epoch: (answer.leader_epoch >= 0).then_some(answer.leader_epoch),
            });
            (name, found)
        });
        Ok(found.collect())
    }

    /// All partitions of a topic.
    ///
    /// # Errors
    /// [`Error::Net`] if it stays unknown for `default.api.timeout.ms`, or is forbidden.
    pub async fn partitions_of(&self, topic: &str) -> Result<Vec<TopicPartition>, Error> {
        let shared = self.shared();
        let deadline = now() + shared.config.default_api_timeout;
        let topic = shared.cluster.topic(topic, deadline.into()).await?;
        let partitions = topic.partitions.iter();
        Ok(partitions
            .map(|p| TopicPartition::new(topic.name.clone(), p.index))
            .collect())
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

    /// Ends streams of single partitions and waits until they are dropped, commits what was handed out (with automatic
    /// commit), tells the rebalance listener, leaves the group (unless this is a static member), ends all tasks. Calls
    /// that wait for records end with [`Error::Closed`].
    ///
    /// Always ends, at the deadline at the latest; calling it again does nothing. Not cancel-safe: when dropped
    /// the consumer is closed, but the commit may be missing.
    ///
    /// # Errors
    /// [`Error::Timeout`] if the deadline cut the commit or the leaving short; [`Error::Usage`] from within a
    /// rebalance listener.
    pub async fn close(&self, timeout: Duration) -> Result<(), Error> {
        let shared = self.shared();
        check_not_in_listener()?;
        if !shared.begin_close() {
            return Ok(());
        }
        let deadline = deadline(timeout);
        let leaving = async {
            // A commit that cannot be made must not keep the group waiting for this member.
            let commit_by = deadline - deadline.saturating_duration_since(now()) / 4;
            let committed = self.wind_up(StreamEnd::Closed, commit_by).await;
            shared.leave_now();
            shared.tasks.close();
            shared.left.notified().await;
            committed
        };
        let outcome = tokio::time::timeout_at(deadline.into(), leaving).await;
        shared.abandon();
        shared.halting.cancel();
        shared.tasks.wait().await;
        let last = match outcome {
            Ok(true) => return Ok(()),
            Ok(false) => "the commit was not answered: records may be delivered again",
            Err(_) => "the coordinator did not answer; it will notice at the end of the session",
        };
        Err(Error::Timeout {
            what: "closing the consumer",
            waited: timeout,
            last: last.into(),
        })
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

    /// What comes before all partitions are given up: ends streams of single ones, commits, tells the rebalance listener;
    /// by the deadline. Whether there was time to commit.
    async fn wind_up(&self, end: StreamEnd, deadline: std::time::Instant) -> bool {
        let shared = self.shared();
        // What their readers still do, they do as the partitions' owners.
        let streams_by = deadline - deadline.saturating_duration_since(now()) / 4;
        if !shared.end_streams(end, streams_by).await {
            tracing::warn!(
                "streams of single partitions were not dropped in time: going on without"
            );
        }
        let commit_by = deadline - deadline.saturating_duration_since(now()) / 4;
        let committed = self.commit_before_leaving(commit_by).await;
        // Nobody waits for ever for the application's listener, which cannot be trusted to end.
        let told = tokio::time::timeout_at(deadline.into(), self.tell_revoked()).await;
        if told.is_err() {
            shared.forget_told();
            tracing::error!(
                "the rebalance listener did not end in time for the consumer to leave its group"
            );
        }
        committed
    }

    /// Partitions of the group are about to be given up because the application wants that.
    async fn tell_revoked(&self) {
        let shared = self.shared();
        let Some(group) = &shared.group else { return };
        if group.lock().subscription.is_some() {
            shared.tell_listener_of_the_end().await;
        }
    }

    pub(crate) fn start_commit(
        &self,
        offsets: impl FnOnce() -> Offsets,
        by: CommitBy,
    ) -> Result<impl Future<Output = Result<(), Error>> + Send + 'static, Error> {
        let shared = self.shared();
        // A listener that is told of the consumer's end may commit, and so may a stream.
        let stream = matches!(by, CommitBy::Stream(_));
        if !stream && check_not_in_listener().is_ok() {
            shared.check_open()?;
        }
        let group = self.group_id()?;
        let timeout = shared.config.default_api_timeout;
        let outcome = shared.queue_commit(offsets, now() + timeout, by);
        Ok(async move {
            match outcome.await {
                Ok(Outcome::Committed) => Ok(()),
                Ok(Outcome::Refused { partition, error }) => Err(Error::CommitRefused {
                    group,
                    partition,
                    error,
                }),
                Ok(Outcome::Expired { sent: true, last }) => {
                    Err(Error::CommitUnknown { group, last })
                }
                Ok(Outcome::Expired { sent: false, last }) => Err(Error::Timeout {
                    what: "committing offsets",
                    waited: timeout,
                    last: last.to_string(),
                }),
                Err(_) => Err(Error::Closed),
            }
        })
    }

    /// False if time ran out.
    async fn commit_before_leaving(&self, deadline: std::time::Instant) -> bool {
        let shared = self.shared();
        if !shared.config.enable_auto_commit || shared.group.is_none() {
            return true;
        }
        // Whoever calls this is done with what it was handed.
        shared.commit_processed(true, deadline).await
    }

    async fn bounds(
        &self,
        partitions: &[TopicPartition],
        which: i64,
    ) -> Result<HashMap<TopicPartition, i64>, Error> {
        let wanted = partitions
            .iter()
            .map(|name| (name.clone(), which))
            .collect();
        let timeout = self.shared().config.default_api_timeout;
        let listed = offsets::list(self.shared(), wanted, timeout).await?;
        Ok(listed
            .into_iter()
            .map(|(name, answer)| (name, answer.offset))
            .collect())
    }
}

/// What to commit when the record at `offset` is processed.
pub(crate) fn behind(offset: i64, leader_epoch: Option<i32>) -> CommittedOffset {
    CommittedOffset {
        offset: offset.saturating_add(1),
        leader_epoch,
        metadata: Str::new(),
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
