//! What goes in: a borrowed record, copied once, into its partition's open batch.

pub use ottla_wire::record::Header;

/// A record to send, borrowed until `send` has copied it into a batch.
///
/// ```
/// use ottla_producer::ProducerRecord;
///
/// let record = ProducerRecord::to("clicks").key(b"user-7").value(b"{}");
/// assert_eq!(record.topic, "clicks");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProducerRecord<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition; `None` lets the partitioner choose.
    pub partition: Option<i32>,
    /// The key; `None` is Kafka's null, which is not the empty key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is Kafka's null: a tombstone on a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Headers in order; a name may repeat.
    pub headers: &'a [Header<'a>],
    /// Milliseconds since 1970; `None` is the time of the `send`. Not negative.
    pub timestamp: Option<i64>,
}

impl<'a> ProducerRecord<'a> {
    /// An empty record for `topic`: null key, null value.
    pub fn to(topic: &'a str) -> Self {
        Self {
            topic,
            partition: None,
            key: None,
            value: None,
            headers: &[],
            timestamp: None,
        }
    }

    /// Sets the key.
    #[must_use]
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Sets the value.
    #[must_use]
    pub fn value<V: AsRef<[u8]> + ?Sized>(mut self, value: &'a V) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Sets the partition, past the partitioner.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the headers.
    #[must_use]
    pub fn headers(mut self, headers: &'a [Header<'a>]) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the timestamp in milliseconds since 1970.
    #[must_use]
    pub fn timestamp(mut self, timestamp_ms: i64) -> Self {
        self.timestamp = Some(timestamp_ms);
        self
    }
}
