//! Where a consumer reads, where it stands, and where the logs begin and end.

use std::{collections::HashMap, ops::Range};

use super::{Consumer, check};
use crate::{
    Error, Offset, OffsetForTime, TopicPartition, Watermarks,
    driver::{
        now,
        offsets::{self, EARLIEST, LATEST},
    },
};

impl Consumer {
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
