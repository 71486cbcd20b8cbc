//! The share consumer, for programs without tokio.

use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::runtime::{Held, Runtime};
use crate::consumer::{
    AcknowledgeOutcome, AcknowledgeType, Error as ConsumerError, ShareConsumer as AsyncConsumer,
    ShareConsumerConfig, ShareConsumerMetrics, ShareRecord, Str, TopicPartition,
};

/// Reads records as a member of a share group. Cheap to clone; clones are the same consumer.
///
/// Does what [`consumer::ShareConsumer`](crate::consumer::ShareConsumer) does, under the same names: heartbeats go on between
/// calls, on the client's threads. With explicit acknowledgement, records may be handed to any number of threads.
///
/// ```no_run
/// # use ottla::prelude::*;
/// # fn work(_: &[u8]) -> Result<(), ()> { Ok(()) }
/// # fn example(client: ottla::blocking::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let consumer = client.share_consumer()?; // share.acknowledgement.mode=explicit
/// consumer.subscribe(["pictures"])?;
/// while let Some(record) = consumer.recv_for(std::time::Duration::from_secs(10))? {
///     let kind = match work(record.value().unwrap_or_default()) {
///         Ok(()) => AcknowledgeType::Accept,
///         Err(()) if record.delivery_count() < 3 => AcknowledgeType::Release,
///         Err(()) => AcknowledgeType::Reject,
///     };
///     consumer.acknowledge(&record, kind)?;
/// }
/// consumer.close(std::time::Duration::from_secs(10))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ShareConsumer {
    held: Held<AsyncConsumer>,
}

impl ShareConsumer {
    pub(super) fn new(inner: AsyncConsumer, runtime: Arc<Runtime>) -> Self {
        Self {
            held: Held::new(inner, runtime),
        }
    }

    /// Reads these topics as a member of the group.
    ///
    /// # Errors
    /// As [`consumer::ShareConsumer::subscribe`](crate::consumer::ShareConsumer::subscribe).
    pub fn subscribe<T: Into<Str>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<(), ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().subscribe(topics)
    }

    /// Leaves the group, and gives back what was not acknowledged. Returns at once.
    ///
    /// # Errors
    /// As [`consumer::ShareConsumer::unsubscribe`](crate::consumer::ShareConsumer::unsubscribe).
    pub fn unsubscribe(&self) -> Result<(), ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().unsubscribe()
    }

    /// The topics subscribed to.
    pub fn subscription(&self) -> Vec<Str> {
        self.get().subscription()
    }

    /// The partitions that this member is to read now. Others may read them, too.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.get().assignment()
    }

    /// The next record. Waits as long as it takes.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn recv(&self) -> Result<ShareRecord, Error> {
        Ok(self.wait("blocking::ShareConsumer::recv", self.get().recv())??)
    }

    /// The next record, or `None` if none comes within `timeout`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_for(&self, timeout: Duration) -> Result<Option<ShareRecord>, Error> {
        let call = "blocking::ShareConsumer::recv_for";
        self.held.wait_for(call, timeout, self.get().recv())
    }

    /// The next record if there is one now; otherwise some are asked for. On any thread.
    ///
    /// # Errors
    /// As [`consumer::ShareConsumer::try_recv`](crate::consumer::ShareConsumer::try_recv).
    pub fn try_recv(&self) -> Result<Option<ShareRecord>, ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().try_recv()
    }

    /// The next records, at most `max.poll.records`; waits for something, `timeout` at most.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn poll(&self, timeout: Duration) -> Result<Vec<ShareRecord>, Error> {
        Ok(self.wait("blocking::ShareConsumer::poll", self.get().poll(timeout))??)
    }

    /// The records, one after the other, waiting for each. Ends when the consumer is closed; other errors do not end it.
    pub fn records(&self) -> ShareRecords {
        ShareRecords {
            consumer: self.clone(),
        }
    }

    /// Says what becomes of a record.
    ///
    /// # Errors
    /// As [`consumer::ShareConsumer::acknowledge`](crate::consumer::ShareConsumer::acknowledge).
    pub fn acknowledge(
        &self,
        record: &ShareRecord,
        kind: AcknowledgeType,
    ) -> Result<(), ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().acknowledge(record, kind)
    }

    /// Sends all acknowledgements made so far, and waits for what becomes of them.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn commit(&self) -> Result<Vec<AcknowledgeOutcome>, Error> {
        Ok(self.wait("blocking::ShareConsumer::commit", self.get().commit())??)
    }

    /// [`commit`](Self::commit) for those who only want to know that all is stored.
    ///
    /// # Errors
    /// [`Error::Consumer`], also for the first partition whose acknowledgements are not stored; [`Error::InsideRuntime`].
    pub fn commit_all(&self) -> Result<(), Error> {
        let call = "blocking::ShareConsumer::commit_all";
        Ok(self.wait(call, self.get().commit_all())??)
    }

    /// Sends all acknowledgements made so far, without waiting.
    ///
    /// # Errors
    /// As [`consumer::ShareConsumer::commit_async`](crate::consumer::ShareConsumer::commit_async).
    pub fn commit_async(&self) -> Result<(), ConsumerError> {
        let _here = self.held.runtime.enter();
        self.get().commit_async()
    }

    /// How long records are locked for the member that acquired them, as the brokers said last.
    pub fn acquisition_lock_timeout(&self) -> Option<Duration> {
        self.get().acquisition_lock_timeout()
    }

    /// What this consumer has done so far and where it stands.
    pub fn metrics(&self) -> ShareConsumerMetrics {
        self.get().metrics()
    }

    /// The settings.
    pub fn config(&self) -> &ShareConsumerConfig {
        self.get().config()
    }

    /// Sends what was acknowledged, gives the rest back, and leaves the group, within `timeout`.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn close(&self, timeout: Duration) -> Result<(), Error> {
        let call = "blocking::ShareConsumer::close";
        Ok(self.wait(call, self.get().close(timeout))??)
    }

    fn get(&self) -> &AsyncConsumer {
        self.held.get()
    }

    fn wait<F: Future>(&self, call: &'static str, future: F) -> Result<F::Output, Error> {
        self.held.runtime.wait(call, future)
    }
}

/// The records of a [`ShareConsumer`], from [`ShareConsumer::records`].
#[derive(Debug)]
pub struct ShareRecords {
    consumer: ShareConsumer,
}

impl Iterator for ShareRecords {
    type Item = Result<ShareRecord, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.consumer.recv() {
            Err(Error::Consumer(ConsumerError::Closed)) => None,
            next => Some(next),
        }
    }
}
