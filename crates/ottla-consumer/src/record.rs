//! Records as the application sees them: batches that lend them, and owned ones that share the batch's
//! buffer. Neither allocates per record.

use std::sync::Arc;

use ottla_wire::record::{
    self, BatchError, OwnedRecords, RecordHeaders, RecordRef, Records, TimestampType,
};

use crate::{Bytes, Error, Str, TopicPartition, current::misplaced};

/// A record.
///
/// Owned: it shares the buffer of the batch it came in, so that making, cloning and dropping one costs a
/// reference count. Keeping one keeps the whole buffer: up to a decompressed batch, or an answer to a
/// fetch (`fetch.max.bytes`). Copy what is to be kept for long.
#[derive(Debug, Clone)]
pub struct Record {
    origin: Arc<Origin>,
    record: record::Record,
}

impl Record {
    pub(crate) fn new(origin: &Arc<Origin>, record: record::Record) -> Self {
        Self {
            origin: origin.clone(),
            record,
        }
    }

    /// Its topic.
    pub fn topic(&self) -> &Str {
        &self.origin.name.topic
    }

    /// Its partition's number.
    pub fn partition(&self) -> i32 {
        self.origin.name.partition
    }

    /// Its topic and partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.origin.name
    }

    /// Its offset in the partition.
    pub fn offset(&self) -> i64 {
        self.record.offset()
    }

    pub(crate) fn since(&self) -> u64 {
        self.origin.since
    }

    /// Milliseconds since 1970; -1 if it has none. What set it says [`Record::timestamp_type`].
    pub fn timestamp(&self) -> i64 {
        self.record.timestamp()
    }

    /// Whether the producer set the timestamp, or the broker when it appended the record.
    pub fn timestamp_type(&self) -> TimestampType {
        self.origin.timestamp_type
    }

    /// The epoch of the leader that appended it, to commit along with its offset (KIP-320).
    pub fn leader_epoch(&self) -> Option<i32> {
        self.origin.leader_epoch
    }

    /// The key; `None` is null, which is not empty.
    pub fn key(&self) -> Option<&[u8]> {
        self.record.key()
    }

    /// The value; `None` is null: a tombstone on compacted topics.
    pub fn value(&self) -> Option<&[u8]> {
        self.record.value()
    }

    /// The key, sharing the buffer.
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.record.key_bytes()
    }

    /// The value, sharing the buffer.
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.record.value_bytes()
    }

    /// Names and values of the headers, in order. Names may repeat and hold any bytes.
    pub fn headers(&self) -> RecordHeaders<'_> {
        self.record.headers()
    }
}

/// Records of one partition that follow each other, as they lie in one batch of the log.
///
/// ```no_run
/// # async fn example(consumer: ottla_consumer::Consumer) -> Result<(), ottla_consumer::Error> {
/// for batch in consumer.poll(std::time::Duration::from_secs(1)).await? {
///     for record in &batch {
///         let record = record?;
///         println!("{}-{} @ {}: {:?}", batch.topic(), batch.partition(), record.offset(), record.value());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RecordBatch {
    origin: Arc<Origin>,
    /// At or before the first record.
    records: OwnedRecords,
    /// Records before this offset are not part of it.
    from: i64,
    /// At most so many are.
    limit: usize,
    next_offset: i64,
}

impl RecordBatch {
    pub(crate) fn new(
        origin: Arc<Origin>,
        records: OwnedRecords,
        from: i64,
        limit: usize,
        next_offset: i64,
    ) -> Self {
        Self {
            origin,
            records,
            from,
            limit,
            next_offset,
        }
    }

    /// The topic of all of them.
    pub fn topic(&self) -> &Str {
        &self.origin.name.topic
    }

    /// The partition of all of them.
    pub fn partition(&self) -> i32 {
        self.origin.name.partition
    }

    /// The topic and partition of all of them.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.origin.name
    }

    pub(crate) fn since(&self) -> u64 {
        self.origin.since
    }

    /// Whether producers set the timestamps, or the broker.
    pub fn timestamp_type(&self) -> TimestampType {
        self.origin.timestamp_type
    }

    /// The epoch of the leader that appended them, to commit along with their offsets.
    pub fn leader_epoch(&self) -> Option<i32> {
        self.origin.leader_epoch
    }

    /// The offset to commit when all of them are processed: where reading goes on. May be more than one
    /// past the last record, where compaction or a transaction leaves a gap.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The most records it can hold; a few less if it starts inside a batch of the log.
    pub fn len_max(&self) -> usize {
        self.limit.min(self.records.left())
    }

    /// Lends the records, in order, without allocating.
    pub fn records(&self) -> BatchRecords<'_> {
        BatchRecords {
            batch: self,
            records: self.records.remaining(),
            left: self.limit,
        }
    }

    /// Names the first offset that cannot be read.
    #[cold]
    fn unreadable(&self, source: BatchError) -> Error {
        let mut at = self.from;
        // From the batch's beginning, once: no walk along its records has to keep count.
        for record in self.records.batch().records() {
            match record {
                Ok(record) if record.offset() < self.next_offset => {
                    at = at.max(record.offset().saturating_add(1));
                }
                _ => break,
            }
        }
        self.origin.unreadable(at, source)
    }

    /// The records, owned.
    pub fn into_records(self) -> IntoRecords {
        let left = self.limit;
        IntoRecords { batch: self, left }
    }
}

impl<'a> IntoIterator for &'a RecordBatch {
    type Item = Result<RecordRef<'a>, Error>;
    type IntoIter = BatchRecords<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.records()
    }
}

impl IntoIterator for RecordBatch {
    type Item = Result<Record, Error>;
    type IntoIter = IntoRecords;

    fn into_iter(self) -> Self::IntoIter {
        self.into_records()
    }
}

/// Lends the records of a [`RecordBatch`]. An error says that the batch cannot be read from there on; it is
/// the last item.
#[derive(Debug, Clone)]
pub struct BatchRecords<'a> {
    batch: &'a RecordBatch,
    records: Records<'a>,
    left: usize,
}

impl<'a> Iterator for BatchRecords<'a> {
    type Item = Result<RecordRef<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            match self.records.next()? {
                Ok(record) if record.offset() < self.batch.from => {}
                Ok(record) if record.offset() >= self.batch.next_offset => {
                    self.left = 0;
                    let fault = misplaced(&self.batch.records, record.offset());
                    return Some(Err(self.batch.unreadable(fault)));
                }
                Ok(record) => {
                    self.left -= 1;
                    return Some(Ok(record));
                }
                Err(source) => {
                    self.left = 0;
                    return Some(Err(self.batch.unreadable(source)));
                }
            }
        }
        None
    }
}

/// The records of a [`RecordBatch`], owned. An error says that the batch cannot be read from there on; it
/// is the last item.
#[derive(Debug, Clone)]
pub struct IntoRecords {
    batch: RecordBatch,
    left: usize,
}

impl Iterator for IntoRecords {
    type Item = Result<Record, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            match self.batch.records.next()? {
                Ok(record) if record.offset() < self.batch.from => {}
                Ok(record) if record.offset() >= self.batch.next_offset => {
                    self.left = 0;
                    let fault = misplaced(&self.batch.records, record.offset());
                    return Some(Err(self.batch.unreadable(fault)));
                }
                Ok(record) => {
                    self.left -= 1;
                    return Some(Ok(Record::new(&self.batch.origin, record)));
                }
                Err(source) => {
                    self.left = 0;
                    return Some(Err(self.batch.unreadable(source)));
                }
            }
        }
        None
    }
}

/// What the records of a batch have in common.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) name: TopicPartition,
    /// Tells the assignment that it was read in from others.
    pub(crate) since: u64,
    pub(crate) leader_epoch: Option<i32>,
    pub(crate) timestamp_type: TimestampType,
}

impl Origin {
    pub(crate) fn unreadable(&self, offset: i64, source: BatchError) -> Error {
        Error::Unreadable {
            partition: self.name.clone(),
            offset,
            source: Arc::new(source),
        }
    }
}
