//! The consumer, for programs without tokio.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::runtime::{Held, Runtime};
use crate::consumer::{
    CommittedOffset, Consumer as AsyncConsumer, Error as ConsumerError, Offset, Record,
    RecordBatch, Str, TopicPartition,
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
        let next = async { tokio::time::timeout(timeout, self.get().recv()).await };
        match self.wait("blocking::Consumer::recv_for", next)? {
            Ok(record) => Ok(Some(record?)),
            Err(_) => Ok(None),
        }
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

    /// The offset of the next record to be handed out.
    ///
    /// # Errors
    /// As [`consumer::Consumer::position`](crate::consumer::Consumer::position).
    pub fn position(&self, partition: &TopicPartition) -> Result<Option<i64>, ConsumerError> {
        self.get().position(partition)
    }

    /// Commits what was handed out so far.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn commit(&self) -> Result<(), Error> {
        Ok(self.wait("blocking::Consumer::commit", self.get().commit())??)
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

    fn wait<F: Future>(&self, call: &'static str, future: F) -> Result<F::Output, Error> {
        self.held.runtime.wait(call, future)
    }
}
