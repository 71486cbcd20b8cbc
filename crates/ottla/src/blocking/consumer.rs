//! The consumer, for programs without tokio.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::runtime::{Held, Runtime};
use super::streams::PartitionStreams;
use crate::consumer::{
    CommittedOffset, Consumer as AsyncConsumer, ConsumerConfig, ConsumerMetrics,
    Error as ConsumerError, GroupMetadata, Offset, OffsetForTime, Record, RecordBatch, Str,
    TopicPartition, TopicPattern, Watermarks,
};

/// Reads records. Cheap to clone; clones are the same consumer.
///
/// Does what [`consumer::Consumer`](crate::consumer::Consumer) does, under the same names: fetching,
/// heartbeats and automatic commits go on between calls, on the client's threads.
///
/// ```no_run
/// # fn example(client: ottla::blocking::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let consumer = client.consumer()?;
/// consumer.subscribe(["orders"])?;
/// while let Some(record) = consumer.recv_for(std::time::Duration::from_secs(10))? {
///     println!("{:?}", record.value());
/// }
/// consumer.close(std::time::Duration::from_secs(10))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Consumer {
    held: Held<AsyncConsumer>,
}

impl Consumer {
    pub(super) fn new(inner: AsyncConsumer, runtime: Arc<Runtime>) -> Self {
        Self {
            held: Held::new(inner, runtime),
        }
    }

    /// Takes part in the group's reading of `topics`.
    ///
    /// # Errors
    /// As [`consumer::Consumer::subscribe`](crate::consumer::Consumer::subscribe).
    pub fn subscribe<T: Into<Str>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<(), ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().subscribe(topics)
    }

    /// Takes part in the group's reading of the topics whose names match.
    ///
    /// # Errors
    /// As [`consumer::Consumer::subscribe_pattern`](crate::consumer::Consumer::subscribe_pattern).
    pub fn subscribe_pattern(&self, pattern: TopicPattern) -> Result<(), ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().subscribe_pattern(pattern)
    }

    /// The topics subscribed to.
    pub fn subscription(&self) -> Vec<Str> {
        self.get().subscription()
    }

    /// Reads these partitions, without a group's say.
    ///
    /// # Errors
    /// As [`consumer::Consumer::assign`](crate::consumer::Consumer::assign).
    pub fn assign<P: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = (P, Offset)>,
    ) -> Result<(), ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().assign(partitions)
    }

    /// Reads these partitions beside those assigned by hand before.
    ///
    /// # Errors
    /// As [`consumer::Consumer::incremental_assign`](crate::consumer::Consumer::incremental_assign).
    pub fn incremental_assign<P: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = (P, Offset)>,
    ) -> Result<(), ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().incremental_assign(partitions)
    }

    /// Gives these partitions up.
    ///
    /// # Errors
    /// As [`consumer::Consumer::incremental_unassign`](crate::consumer::Consumer::incremental_unassign).
    pub fn incremental_unassign(&self, partitions: &[TopicPartition]) -> Result<(), ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().incremental_unassign(partitions)
    }

    /// Leaves the group, and reads nothing any more.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn unsubscribe(&self) -> Result<(), Error> {
        let call = "blocking::Consumer::unsubscribe";
        Ok(self.wait(call, self.get().unsubscribe())??)
    }

    /// The partitions that are read.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.get().assignment()
    }

    /// The next record. Waits as long as it takes.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn recv(&self) -> Result<Record, Error> {
        Ok(self.wait("blocking::Consumer::recv", self.get().recv())??)
    }

    /// The next record, or `None` if none comes within `timeout`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_for(&self, timeout: Duration) -> Result<Option<Record>, Error> {
        let call = "blocking::Consumer::recv_for";
        self.held.wait_for(call, timeout, self.get().recv())
    }

    /// The next record if there is one now. On any thread.
    ///
    /// # Errors
    /// As [`consumer::Consumer::try_recv`](crate::consumer::Consumer::try_recv).
    pub fn try_recv(&self) -> Result<Option<Record>, ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().try_recv()
    }

    /// What there is, in batches; waits for something, `timeout` at most.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn poll(&self, timeout: Duration) -> Result<Vec<RecordBatch>, Error> {
        Ok(self.wait("blocking::Consumer::poll", self.get().poll(timeout))??)
    }

    /// [`poll`](Self::poll) with a limit of its own.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn poll_max(
        &self,
        max_records: usize,
        timeout: Duration,
    ) -> Result<Vec<RecordBatch>, Error> {
        let call = "blocking::Consumer::poll_max";
        Ok(self.wait(call, self.get().poll_max(max_records, timeout))??)
    }

    /// The records, one after the other, waiting for each. Ends when the consumer is closed; other errors do not end it.
    pub fn records(&self) -> Records {
        Records {
            consumer: self.clone(),
        }
    }

    /// One stream per partition, to be handed to threads, as
    /// [`consumer::Consumer::split`](crate::consumer::Consumer::split).
    ///
    /// # Errors
    /// As there.
    pub fn split(&self) -> Result<PartitionStreams, ConsumerError> {
        let _here = self.held.runtime.enter();
        let runtime = self.held.runtime.clone();
        Ok(PartitionStreams::new(self.get().split()?, runtime))
    }

    /// Goes on reading a partition elsewhere.
    ///
    /// # Errors
    /// As [`consumer::Consumer::seek`](crate::consumer::Consumer::seek).
    pub fn seek(&self, partition: &TopicPartition, to: Offset) -> Result<(), ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().seek(partition, to)
    }

    /// Stops handing out records of these partitions.
    ///
    /// # Errors
    /// As [`consumer::Consumer::pause`](crate::consumer::Consumer::pause).
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<(), ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().pause(partitions)
    }

    /// Hands them out again.
    ///
    /// # Errors
    /// As [`consumer::Consumer::resume`](crate::consumer::Consumer::resume).
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<(), ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().resume(partitions)
    }

    /// The partitions that are paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.get().paused()
    }

    /// The offset of the next record to be handed out.
    ///
    /// # Errors
    /// As [`consumer::Consumer::position`](crate::consumer::Consumer::position).
    pub fn position(&self, partition: &TopicPartition) -> Result<Option<i64>, ConsumerError> {
        self.get().position(partition)
    }

    /// The ends of a partition's log, as the latest fetch told them.
    ///
    /// # Errors
    /// As [`consumer::Consumer::watermarks`](crate::consumer::Consumer::watermarks).
    pub fn watermarks(
        &self,
        partition: &TopicPartition,
    ) -> Result<Option<Watermarks>, ConsumerError> {
        self.get().watermarks(partition)
    }

    /// How many offsets the position is behind the end of the log.
    ///
    /// # Errors
    /// As [`consumer::Consumer::lag`](crate::consumer::Consumer::lag).
    pub fn lag(&self, partition: &TopicPartition) -> Result<Option<i64>, ConsumerError> {
        self.get().lag(partition)
    }

    /// Commits what was handed out so far.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn commit(&self) -> Result<(), Error> {
        Ok(self.wait("blocking::Consumer::commit", self.get().commit())??)
    }

    /// Starts a commit of what was handed out so far, as
    /// [`consumer::Consumer::commit_async`](crate::consumer::Consumer::commit_async). What becomes of it,
    /// [`ConsumerConfig::commit_listener`](crate::consumer::ConsumerConfig::commit_listener) is told, and
    /// [`Commit::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn commit_async(&self) -> Result<Commit, ConsumerError> {
        let _here = self.held.runtime.enter();
        Ok(self.begun(self.get().commit_async()?))
    }

    /// Starts a commit of these offsets.
    ///
    /// # Errors
    /// As [`commit_async`](Self::commit_async).
    pub fn commit_offsets_async(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
    ) -> Result<Commit, ConsumerError> {
        let _here = self.held.runtime.enter();
        Ok(self.begun(self.get().commit_offsets_async(offsets)?))
    }

    /// Commits these offsets.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn commit_offsets(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
    ) -> Result<(), Error> {
        let call = "blocking::Consumer::commit_offsets";
        Ok(self.wait(call, self.get().commit_offsets(offsets))??)
    }

    /// Commits that this record, and all before it in its partition, are processed.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn commit_record(&self, record: &Record) -> Result<(), Error> {
        let call = "blocking::Consumer::commit_record";
        Ok(self.wait(call, self.get().commit_record(record))??)
    }

    /// Commits that this batch, and all before it in its partition, is processed.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn commit_batch(&self, batch: &RecordBatch) -> Result<(), Error> {
        let call = "blocking::Consumer::commit_batch";
        Ok(self.wait(call, self.get().commit_batch(batch))??)
    }

    /// Has automatic commit write that this record, and all before it in its partition, are processed.
    ///
    /// # Errors
    /// As [`consumer::Consumer::store_offset`](crate::consumer::Consumer::store_offset).
    pub fn store_offset(&self, record: &Record) -> Result<(), ConsumerError> {
        self.get().store_offset(record)
    }

    /// Has automatic commit write these offsets.
    ///
    /// # Errors
    /// As [`consumer::Consumer::store_offsets`](crate::consumer::Consumer::store_offsets).
    pub fn store_offsets(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
    ) -> Result<(), ConsumerError> {
        self.get().store_offsets(offsets)
    }

    /// Commits now what automatic commit would write next.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn commit_stored(&self) -> Result<(), Error> {
        let call = "blocking::Consumer::commit_stored";
        Ok(self.wait(call, self.get().commit_stored())??)
    }

    /// What the group has committed.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, Option<CommittedOffset>>, Error> {
        let call = "blocking::Consumer::committed";
        Ok(self.wait(call, self.get().committed(partitions))??)
    }

    /// Where the logs begin.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn beginning_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, i64>, Error> {
        let call = "blocking::Consumer::beginning_offsets";
        Ok(self.wait(call, self.get().beginning_offsets(partitions))??)
    }

    /// Where the logs end.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn end_offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, i64>, Error> {
        let call = "blocking::Consumer::end_offsets";
        Ok(self.wait(call, self.get().end_offsets(partitions))??)
    }

    /// The offsets that the log of a partition holds, asked of its leader.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn query_watermarks(&self, partition: &TopicPartition) -> Result<Range<i64>, Error> {
        let call = "blocking::Consumer::query_watermarks";
        Ok(self.wait(call, self.get().query_watermarks(partition))??)
    }

    /// The first record of each partition with the given timestamp (ms since 1970) or a later one.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn offsets_for_times(
        &self,
        times: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<HashMap<TopicPartition, Option<OffsetForTime>>, Error> {
        let call = "blocking::Consumer::offsets_for_times";
        Ok(self.wait(call, self.get().offsets_for_times(times))??)
    }

    /// All partitions of a topic.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn partitions_of(&self, topic: &str) -> Result<Vec<TopicPartition>, Error> {
        let call = "blocking::Consumer::partitions_of";
        Ok(self.wait(call, self.get().partitions_of(topic))??)
    }

    /// What this consumer has done so far and where it stands.
    pub fn metrics(&self) -> ConsumerMetrics {
        self.get().metrics()
    }

    /// Who this consumer is in its group now, for
    /// [`Transaction::send_offsets`](super::Transaction::send_offsets).
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        self.get().group_metadata()
    }

    /// Has the group distribute its partitions anew.
    ///
    /// # Errors
    /// As [`consumer::Consumer::enforce_rebalance`](crate::consumer::Consumer::enforce_rebalance).
    pub fn enforce_rebalance(&self) -> Result<(), ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().enforce_rebalance()
    }

    /// Its settings.
    pub fn config(&self) -> &ConsumerConfig {
        self.get().config()
    }

    /// Leaves the group and ends the consumer, within `timeout`.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn close(&self, timeout: Duration) -> Result<(), Error> {
        Ok(self.wait("blocking::Consumer::close", self.get().close(timeout))??)
    }

    fn get(&self) -> &AsyncConsumer {
        self.held.get()
    }

    fn begun(
        &self,
        outcome: impl Future<Output = Result<(), ConsumerError>> + Send + 'static,
    ) -> Commit {
        Commit {
            outcome: Box::pin(outcome),
            runtime: self.held.runtime.clone(),
        }
    }

    fn wait<F: Future>(&self, call: &'static str, future: F) -> Result<F::Output, Error> {
        self.held.runtime.wait(call, future)
    }
}

/// A commit that was begun. It goes on whether or not anybody waits for it, and never overtakes an earlier one.
pub struct Commit {
    outcome: Pin<Box<dyn Future<Output = Result<(), ConsumerError>> + Send>>,
    runtime: Arc<Runtime>,
}

impl Commit {
    /// Waits for the outcome, for up to `default.api.timeout.ms`.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn wait(self) -> Result<(), Error> {
        Ok(self
            .runtime
            .wait("blocking::Commit::wait", self.outcome)??)
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").finish_non_exhaustive()
    }
}

/// The records of a [`Consumer`], from [`Consumer::records`].
#[derive(Debug)]
pub struct Records {
    consumer: Consumer,
}

impl Iterator for Records {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.consumer.recv() {
            Err(Error::Consumer(ConsumerError::Closed)) => None,
            next => Some(next),
        }
    }
}
