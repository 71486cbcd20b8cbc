//! Code of the program's that sees every record on its way in, and every batch's outcome.
//!
//! A producer without interceptors does nothing of this. Records are copied only where an interceptor
//! changes one.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::delivery::Outcome;
use crate::error::{SendError, TopicPartition};
use crate::record::{Header, ProducerRecord};

/// Sees records before they are sent, and what became of them. Set with
/// [`ProducerConfig::interceptors`](crate::ProducerConfig::interceptors); several are called in their order.
///
/// A panic inside is logged, and otherwise as if the interceptor had done nothing more.
///
/// ```
/// use ottla_producer::{Acknowledgement, InterceptedRecord, ProducerInterceptor};
///
/// /// Names the program in every record, and reports what got lost.
/// struct Audit;
///
/// impl ProducerInterceptor for Audit {
///     fn on_send(&self, record: &mut InterceptedRecord<'_>) {
///         record.add_header("written-by", Some(b"billing"));
///     }
///
///     fn on_acknowledgement(&self, outcome: &Acknowledgement<'_>) {
///         if let Some(error) = outcome.error() {
///             eprintln!("{} records lost: {error}", outcome.records());
///         }
///     }
/// }
/// ```
pub trait ProducerInterceptor: Send + Sync {
    /// Called on the sending thread for every record of a `send`, before its partition is chosen. What is
    /// changed is sent.
    fn on_send(&self, record: &mut InterceptedRecord<'_>) {
        let _ = record;
    }

    /// Called once per batch, when its outcome is known and before those who wait for it are told; and once for a record
    /// that `send` refused. Runs on the producer's tasks: keep it short, and never block in it.
    fn on_acknowledgement(&self, outcome: &Acknowledgement<'_>) {
        let _ = outcome;
    }
}

impl<T: ProducerInterceptor + ?Sized> ProducerInterceptor for Arc<T> {
    fn on_send(&self, record: &mut InterceptedRecord<'_>) {
        (**self).on_send(record);
    }

    fn on_acknowledgement(&self, outcome: &Acknowledgement<'_>) {
        (**self).on_acknowledgement(outcome);
    }
}

/// A record that an interceptor may change before it is sent.
#[derive(Debug, Clone)]
pub struct InterceptedRecord<'a> {
    topic: Cow<'a, str>,
    partition: Option<i32>,
    key: Option<Cow<'a, [u8]>>,
    value: Option<Cow<'a, [u8]>>,
    headers: Vec<OwnedHeader<'a>>,
    timestamp: Option<i64>,
}

type OwnedHeader<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

impl<'a> InterceptedRecord<'a> {
    pub(crate) fn new(record: &ProducerRecord<'a>) -> Self {
        let headers = record.headers.iter();
        Self {
            topic: record.topic.into(),
            partition: record.partition,
            key: record.key.map(Cow::Borrowed),
            value: record.value.map(Cow::Borrowed),
            headers: headers
                .map(|header| (header.key.into(), header.value.map(Cow::Borrowed)))
                .collect(),
            timestamp: record.timestamp,
        }
    }

    /// The headers as a record borrows them.
    pub(crate) fn borrowed_headers(&self) -> Vec<Header<'_>> {
        let headers = self.headers.iter();
        headers
            .map(|(key, value)| Header {
                key,
                value: value.as_deref(),
            })
            .collect()
    }

    pub(crate) fn record<'b>(&'b self, headers: &'b [Header<'b>]) -> ProducerRecord<'b> {
        ProducerRecord {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
            timestamp: self.timestamp,
        }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Sends the record to another topic.
    pub fn set_topic(&mut self, topic: impl Into<String>) {
        self.topic = Cow::Owned(topic.into());
    }

    /// The partition, if the record names one.
    pub fn partition(&self) -> Option<i32> {
        self.partition
    }

    /// Sets the partition, or leaves it to the partitioner.
    pub fn set_partition(&mut self, partition: Option<i32>) {
        self.partition = partition;
    }

    /// The key; `None` is null.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// Sets the key.
    pub fn set_key(&mut self, key: Option<Vec<u8>>) {
        self.key = key.map(Cow::Owned);
    }

    /// The value; `None` is null.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// Sets the value.
    pub fn set_value(&mut self, value: Option<Vec<u8>>) {
        self.value = value.map(Cow::Owned);
    }

    /// The timestamp in milliseconds since 1970, if the record has one of its own.
    pub fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }

    /// Sets the timestamp, or leaves it to `send`.
    pub fn set_timestamp(&mut self, timestamp_ms: Option<i64>) {
        self.timestamp = timestamp_ms;
    }

    /// The headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let headers = self.headers.iter();
        headers.map(|(name, value)| (&**name, value.as_deref()))
    }

    /// Adds a header behind the others.
    pub fn add_header(&mut self, name: impl Into<String>, value: Option<&[u8]>) {
        let value = value.map(|value| Cow::Owned(value.to_vec()));
        self.headers.push((Cow::Owned(name.into()), value));
    }

    /// Removes all headers called `name`.
    pub fn remove_header(&mut self, name: &str) {
        self.headers.retain(|(own, _)| own != name);
    }
}

/// What became of a batch, or of a record that was not accepted.
#[derive(Debug)]
pub struct Acknowledgement<'a> {
    topic: &'a str,
    partition: Option<i32>,
    records: u32,
    outcome: Result<Option<i64>, &'a SendError>,
    blamed: &'a [(u32, SendError)],
}

impl Acknowledgement<'_> {
    /// The topic's name.
    pub fn topic(&self) -> &str {
        self.topic
    }

    /// The partition; `None` for a record that was refused before it had one.
    pub fn partition(&self) -> Option<i32> {
        self.partition
    }

    /// How many records share this outcome.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// The first record's offset, the others following it. `None` for a failure, and where the broker does not
    /// tell.
    pub fn base_offset(&self) -> Option<i64> {
        self.outcome.ok().flatten()
    }

    /// Why the records failed; `None` if they are written.
    pub fn error(&self) -> Option<&SendError> {
        self.outcome.err()
    }

    /// Of a batch that the broker refused because of some of its records: their place in the batch, and what it
    /// said of each.
    pub fn blamed(&self) -> &[(u32, SendError)] {
        self.blamed
    }
}

/// The interceptors of one producer, in their order.
///
/// ```
/// # use ottla_producer::{Interceptors, ProducerConfig, ProducerInterceptor};
/// # struct Audit;
/// # impl ProducerInterceptor for Audit {}
/// let config = ProducerConfig {
///     interceptors: Interceptors::default().with(Audit),
///     ..ProducerConfig::default()
/// };
/// ```
#[derive(Clone, Default)]
pub struct Interceptors(Vec<Arc<dyn ProducerInterceptor>>);

impl Interceptors {
    /// These, and `interceptor` behind them.
    #[must_use]
    pub fn with(mut self, interceptor: impl ProducerInterceptor + 'static) -> Self {
        self.0.push(Arc::new(interceptor));
        self
    }

    /// Adds one behind the others.
    pub fn push(&mut self, interceptor: Arc<dyn ProducerInterceptor>) {
        self.0.push(interceptor);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn on_send<'a>(&self, record: &ProducerRecord<'a>) -> InterceptedRecord<'a> {
        let mut record = InterceptedRecord::new(record);
        for interceptor in &self.0 {
            contain("on_send", || interceptor.on_send(&mut record));
        }
        record
    }

    /// A batch of `records` has its outcome; the pieces of a split one have their own.
    pub(crate) fn on_outcome(&self, at: &TopicPartition, records: u32, outcome: &Outcome) {
        let (outcome, blamed): (_, &[_]) = match outcome {
            Outcome::Written(written) => {
                let offset = Some(written.base_offset).filter(|offset| *offset >= 0);
                (Ok(offset), &[])
            }
            Outcome::Failed { error, records } => (Err(error), records),
            Outcome::Split(_) => return,
        };
        self.tell(&Acknowledgement {
            topic: &at.topic,
            partition: Some(at.partition),
            records,
            outcome,
            blamed,
        });
    }

    /// A record was not accepted.
    pub(crate) fn on_refusal(&self, record: &ProducerRecord<'_>, error: &SendError) {
        self.tell(&Acknowledgement {
            topic: record.topic,
            partition: record.partition,
            records: 1,
            outcome: Err(error),
            blamed: &[],
        });
    }

    fn tell(&self, outcome: &Acknowledgement<'_>) {
        for interceptor in &self.0 {
            contain("on_acknowledgement", || {
                interceptor.on_acknowledgement(outcome);
            });
        }
    }
}

impl std::fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} interceptors", self.0.len())
    }
}

/// A stranger's panic must not take the sender with it.
pub(crate) fn contain(place: &'static str, call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!(place, "code of the program called by the producer panicked");
    }
}
