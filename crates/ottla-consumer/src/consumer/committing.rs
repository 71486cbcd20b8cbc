//! What a group is told about a consumer's progress, and what it knows.

use std::collections::HashMap;

use super::{Consumer, check};
use crate::{
    CommittedOffset, Error, Offset, Record, RecordBatch, Str, TopicPartition, commit_listener,
    core::Position,
    driver::{
        commit::{CommitBy, committed},
        now,
        offsets::{self, Stragglers::AreWaitedFor},
    },
    group::commit::Offsets,
    listener::check_not_in_listener,
};

impl Consumer {
    /// Commits the positions of all partitions, behind all that was handed out, and waits for the
    /// outcome, for up to `default.api.timeout.ms`.
    ///
    /// Cancel-safe: when dropped, the commit goes on.
    ///
    /// # Errors
    /// [`Error::CommitRefused`]; [`Error::CommitUnknown`] if the answer was lost; [`Error::Timeout`] if it
    /// was never sent; [`Error::Usage`] without `group.id`; [`Error::Closed`], also if the consumer is closed before the
    /// outcome is known.
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
    /// Refused if the group has taken the partition away since the record was handed out, also if it has given it back: others
    /// may have been further meanwhile.
    ///
    /// Cancel-safe: when dropped, the commit goes on.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_record(&self, record: &Record) -> Result<(), Error> {
        let offset = behind(record);
        self.commit_read(record.topic_partition(), record.since(), offset)
            .await
    }

    /// Commits that this batch, and all before it in its partition, is processed; waits for the outcome. As
    /// [`Consumer::commit_record`].
    ///
    /// Cancel-safe: when dropped, the commit goes on.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_batch(&self, batch: &RecordBatch) -> Result<(), Error> {
        self.commit_read(batch.topic_partition(), batch.since(), behind_batch(batch))
            .await
    }

    async fn commit_read(
        &self,
        name: &TopicPartition,
        since: u64,
        offset: CommittedOffset,
    ) -> Result<(), Error> {
        let offsets = [(name.clone(), offset)].into_iter().collect();
        self.start_commit(|| offsets, CommitBy::Reader(since))?
            .await
    }

    /// Has automatic commit write that this record, and all before it in its partition, are processed. For
    /// `enable.auto.offset.store` = `false`, where only what is stored is committed automatically: with the interval, when
    /// the partition is given up, and on close.
    ///
    /// # Errors
    /// [`Error::Usage`] with `enable.auto.offset.store` = `true`; [`Error::NotAssigned`] if the partition is not
    /// this consumer's any more, or is again, and the record was handed out before the group took it away: others may have been
    /// further meanwhile.
    pub fn store_offset(&self, record: &Record) -> Result<(), Error> {
        let offset = behind(record);
        let since = self.shared().is_subscribed().then(|| record.since());
        self.store(record.topic_partition(), since, offset)
    }

    /// Has automatic commit write these offsets, each that of the next record to read. See
    /// [`Consumer::store_offset`].
    ///
    /// # Errors
    /// [`Error::Usage`] with `enable.auto.offset.store` = `true`, or for a negative offset; [`Error::NotAssigned`] for the
    /// first that is not assigned. Those before it are stored.
    pub fn store_offsets(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
    ) -> Result<(), Error> {
        for (name, stored) in offsets {
            self.store(&name, None, stored)?;
        }
        Ok(())
    }

    /// `since`: only if the partition has been assigned without a break since then.
    fn store(
        &self,
        name: &TopicPartition,
        since: Option<u64>,
        stored: CommittedOffset,
    ) -> Result<(), Error> {
        let shared = self.shared();
        if shared.config.enable_auto_offset_store {
            return Err(Error::Usage(
                "offsets are stored as records are handed out: set enable.auto.offset.store to false \
                 to store them by hand",
            ));
        }
        check(Offset::At(stored.offset))?;
        let position = Position {
            offset: stored.offset,
            leader_epoch: stored.leader_epoch,
        };
        shared.core(|core| match since {
            Some(since) if !core.is_assigned_since(name, since) => {
                Err(Error::NotAssigned(name.clone()))
            }
            _ => core.store(name, position, stored.metadata),
        })
    }

    /// Commits now what automatic commit would write next: what was stored, or without
    /// `enable.auto.offset.store` = `false` what the application is done with. Waits for the outcome.
    ///
    /// Cancel-safe: when dropped, the commit goes on.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_stored(&self) -> Result<(), Error> {
        let stored = || self.shared().processed(false);
        self.start_commit(stored, CommitBy::Application)?.await
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
        Ok(async move { commit_listener::result(group, outcome.await.ok(), timeout) })
    }
}

/// What to commit when a record is processed.
pub(crate) fn behind(record: &Record) -> CommittedOffset {
    CommittedOffset {
        offset: record.offset().saturating_add(1),
        leader_epoch: record.leader_epoch(),
        metadata: Str::new(),
    }
}

/// What to commit when a batch is processed.
pub(crate) fn behind_batch(batch: &RecordBatch) -> CommittedOffset {
    CommittedOffset {
        offset: batch.next_offset(),
        leader_epoch: batch.leader_epoch(),
        metadata: Str::new(),
    }
}
