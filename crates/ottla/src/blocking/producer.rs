//! The producer, for programs without tokio.

use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::runtime::{Held, Runtime};
use crate::producer::{
    Delivery as AsyncDelivery, Producer as AsyncProducer, ProducerConfig, ProducerMetrics,
    ProducerRecord, Purge, RecordMetadata, SendError,
};

/// Sends records. Cheap to clone; clones are the same producer, to be used from any number of threads.
///
/// Does what [`producer::Producer`](crate::producer::Producer) does, under the same names. End it with
/// [`close`](Self::close).
#[derive(Clone, Debug)]
pub struct Producer {
    held: Held<AsyncProducer>,
}

impl Producer {
    pub(super) fn new(inner: AsyncProducer, runtime: Arc<Runtime>) -> Self {
        Self {
            held: Held::new(inner, runtime),
        }
    }

    /// Copies `record` into a batch. Waits only for the metadata of a new topic, and for buffer space; together at
    /// most `max.block.ms`.
    ///
    /// # Errors
    /// [`Error::Send`] if the record was not accepted; [`Error::InsideRuntime`].
    pub fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery, Error> {
        let sent = self.wait("blocking::Producer::send", self.get().send(record))??;
        Ok(self.delivery(sent))
    }

    /// As [`send`](Self::send), without waiting, and on any thread.
    ///
    /// # Errors
    /// As [`producer::Producer::try_send`](crate::producer::Producer::try_send).
    pub fn try_send(&self, record: ProducerRecord<'_>) -> Result<Delivery, SendError> {
        let _here = self.held.runtime.enter();
        let sent = self.get().try_send(record)?;
        Ok(self.delivery(sent))
    }

    /// Copies `records` into batches, one after the other.
    ///
    /// # Errors
    /// [`Error::SendAll`] at the first record that is not accepted, with the (async) deliveries of those before it;
    /// [`Error::InsideRuntime`].
    pub fn send_all<'a>(
        &self,
        records: impl IntoIterator<Item = ProducerRecord<'a>>,
    ) -> Result<Vec<Delivery>, Error> {
        let call = "blocking::Producer::send_all";
        let sent = self.wait(call, self.get().send_all(records))?;
        let sent = sent.map_err(Error::SendAll)?;
        Ok(sent.into_iter().map(|sent| self.delivery(sent)).collect())
    }

    /// Sends `record` at once, without lingering, and waits for its outcome. One after the other on one thread, each
    /// record pays for a request: [`send`](Self::send) many and wait for them afterwards, if you have many.
    ///
    /// # Errors
    /// [`Error::Send`]; [`Error::InsideRuntime`].
    pub fn produce_and_wait(&self, record: ProducerRecord<'_>) -> Result<RecordMetadata, Error> {
        let call = "blocking::Producer::produce_and_wait";
        Ok(self.wait(call, self.get().produce_and_wait(record))??)
    }

    /// Sends what lingers, and waits until every record accepted before the call is settled, or `timeout` is over.
    ///
    /// # Errors
    /// [`Error::Flush`] at the timeout; [`Error::InsideRuntime`].
    pub fn flush(&self, timeout: Duration) -> Result<(), Error> {
        Ok(self.wait("blocking::Producer::flush", self.get().flush(timeout))??)
    }

    /// Ends the producer: accepts no more records, flushes for at most `timeout`, and gives up on what is left.
    ///
    /// # Errors
    /// [`Error::Flush`] if records were left at the timeout; [`Error::InsideRuntime`].
    pub fn close(&self, timeout: Duration) -> Result<(), Error> {
        Ok(self.wait("blocking::Producer::close", self.get().close(timeout))??)
    }

    /// Gives up on records, as [`producer::Producer::purge`](crate::producer::Producer::purge). On any thread.
    pub fn purge(&self, which: Purge) {
        let _here = self.held.runtime.enter();
        self.get().purge(which);
    }

    /// Records that were accepted and whose outcome is not known yet.
    pub fn len(&self) -> u64 {
        self.get().len()
    }

    /// Whether the outcome of every accepted record is known.
    pub fn is_empty(&self) -> bool {
        self.get().is_empty()
    }

    /// Bytes of `buffer.memory` in use.
    pub fn buffered_bytes(&self) -> usize {
        self.get().buffered_bytes()
    }

    /// What the producer has done so far, in figures.
    pub fn metrics(&self) -> ProducerMetrics {
        self.get().metrics()
    }

    /// The settings.
    pub fn config(&self) -> &ProducerConfig {
        self.get().config()
    }

    fn get(&self) -> &AsyncProducer {
        self.held.get()
    }

    fn wait<F: Future>(&self, call: &'static str, future: F) -> Result<F::Output, Error> {
        self.held.runtime.wait(call, future)
    }

    fn delivery(&self, inner: AsyncDelivery) -> Delivery {
        Delivery::new(inner, self.held.runtime.clone())
    }
}

/// The pending outcome of one sent record. Dropping it cancels nothing: the record is on its way.
#[derive(Debug)]
#[must_use = "dropping a delivery is allowed, and ignores whether the record was written"]
pub struct Delivery {
    inner: AsyncDelivery,
    runtime: Arc<Runtime>,
}

impl Delivery {
    pub(super) fn new(inner: AsyncDelivery, runtime: Arc<Runtime>) -> Self {
        Self { inner, runtime }
    }

    /// Waits for the outcome, which comes within `delivery.timeout.ms`.
    ///
    /// # Errors
    /// [`Error::Send`]; [`Error::InsideRuntime`].
    pub fn wait(self) -> Result<RecordMetadata, Error> {
        Ok(self
            .runtime
            .wait("blocking::Delivery::wait", self.inner)??)
    }

    /// Waits for the outcome, `timeout` at most.
    ///
    /// # Errors
    /// [`Error::Timeout`], after which it can be asked for again; otherwise as [`wait`](Self::wait).
    pub fn wait_for(&mut self, timeout: Duration) -> Result<RecordMetadata, Error> {
        let inner = &mut self.inner;
        let outcome = async move { tokio::time::timeout(timeout, inner).await };
        match self.runtime.wait("blocking::Delivery::wait_for", outcome)? {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(Error::Timeout { waited: timeout }),
        }
    }

    /// The outcome if it is known already. `None` while it is open, and after it was taken. On any thread.
    pub fn try_outcome(&mut self) -> Option<Result<RecordMetadata, SendError>> {
        self.inner.try_outcome()
    }

    /// Calls `callback` with the outcome, on a thread of the client's: keep it short. Blocking calls fail
    /// in it.
    pub fn on_outcome(
        self,
        callback: impl FnOnce(Result<RecordMetadata, SendError>) + Send + 'static,
    ) {
        self.inner.on_outcome(callback);
    }
}
