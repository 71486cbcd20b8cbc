//! A consumer that is split into one stream per partition, for threads.

use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::runtime::{Held, Runtime};
use crate::consumer::{
    CommittedOffset, Error as ConsumerError, GroupMetadata, Offset,
    PartitionStream as AsyncPartitionStream, PartitionStreams as AsyncPartitionStreams, Record,
    RecordBatch, Str, StreamEnd, TopicPartition,
};

/// Gives out one stream per partition, as [`consumer::PartitionStreams`](crate::consumer::PartitionStreams).
///
/// ```no_run
/// # fn handle(_: ottla::consumer::Record) -> Result<(), ottla::blocking::Error> { Ok(()) }
/// # fn example(consumer: ottla::blocking::Consumer) -> Result<(), ottla::blocking::Error> {
/// let mut partitions = consumer.split()?;
/// loop {
///     let mut stream = partitions.next_partition()?;
///     std::thread::spawn(move || {
///         while let Some(record) = stream.recv()? {
///             handle(record)?;
///         }
///         // The partition is to be given up; it is this thread's until the stream is dropped.
///         stream.commit()
///     });
/// }
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nobody reads the partitions before their streams are taken"]
pub struct PartitionStreams {
    held: Held<AsyncPartitionStreams>,
}

impl PartitionStreams {
    pub(super) fn new(inner: AsyncPartitionStreams, runtime: Arc<Runtime>) -> Self {
        Self {
            held: Held::new(inner, runtime),
        }
    }

    /// The next partition that nobody reads. Waits as long as it takes.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn next_partition(&mut self) -> Result<PartitionStream, Error> {
        let (inner, runtime) = self.held.parts();
        let call = "blocking::PartitionStreams::next_partition";
        let stream = runtime.wait(call, inner.next_partition())??;
        Ok(PartitionStream {
            held: Held::new(stream, self.held.runtime.clone()),
        })
    }

    /// The same, or `None` if none comes within `timeout`.
    ///
    /// # Errors
    /// As [`next_partition`](Self::next_partition).
    pub fn next_partition_for(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<PartitionStream>, Error> {
        let (inner, runtime) = self.held.parts();
        let next = async { tokio::time::timeout(timeout, inner.next_partition()).await };
        match runtime.wait("blocking::PartitionStreams::next_partition_for", next)? {
            Ok(stream) => Ok(Some(PartitionStream {
                held: Held::new(stream?, self.held.runtime.clone()),
            })),
            Err(_) => Ok(None),
        }
    }
}

/// The records of one partition, in order, as [`consumer::PartitionStream`](crate::consumer::PartitionStream): what is said
/// there of dropping it holds here. Also an iterator.
#[derive(Debug)]
pub struct PartitionStream {
    held: Held<AsyncPartitionStream>,
}

impl PartitionStream {
    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        self.held.get().topic_partition()
    }

    /// Its number.
    pub fn partition(&self) -> i32 {
        self.held.get().partition()
    }

    /// The next record; `None` when the stream has ended. Waits as long as it takes.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn recv(&mut self) -> Result<Option<Record>, Error> {
        let (inner, runtime) = self.held.parts();
        Ok(runtime.wait("blocking::PartitionStream::recv", inner.recv())??)
    }

    /// The next records, as they lie in one batch of the log; `None` when the stream has ended. Waits as long as it takes.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, Error> {
        let (inner, runtime) = self.held.parts();
        Ok(runtime.wait("blocking::PartitionStream::next_batch", inner.next_batch())??)
    }

    /// The next records; `None` when the stream has ended.
    ///
    /// # Errors
    /// [`Error::Timeout`] if none come within `timeout`; otherwise as [`next_batch`](Self::next_batch).
    pub fn next_batch_for(&mut self, timeout: Duration) -> Result<Option<RecordBatch>, Error> {
        let (inner, runtime) = self.held.parts();
        let call = "blocking::PartitionStream::next_batch_for";
        in_time(runtime, call, timeout, inner.next_batch())
    }

    /// The next record, or `None` when the stream has ended.
    ///
    /// # Errors
    /// [`Error::Timeout`] if none comes within `timeout`; otherwise as [`recv`](Self::recv).
    pub fn recv_for(&mut self, timeout: Duration) -> Result<Option<Record>, Error> {
        let (inner, runtime) = self.held.parts();
        let call = "blocking::PartitionStream::recv_for";
        in_time(runtime, call, timeout, inner.recv())
    }

    /// Why the stream has ended, or is about to.
    pub fn end(&self) -> Option<StreamEnd> {
        self.held.get().end()
    }

    /// The offset of the next record to be handed out, if it is known already.
    pub fn position(&self) -> Option<i64> {
        self.held.get().position()
    }

    /// Goes on reading elsewhere.
    ///
    /// # Errors
    /// As [`consumer::PartitionStream::seek`](crate::consumer::PartitionStream::seek).
    pub fn seek(&mut self, to: Offset) -> Result<(), ConsumerError> {
        self.held.parts().0.seek(to)
    }

    /// Commits that all that was handed out is processed.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn commit(&mut self) -> Result<(), Error> {
        let (inner, runtime) = self.held.parts();
        Ok(runtime.wait("blocking::PartitionStream::commit", inner.commit())??)
    }

    /// Commits that this record, and all before it, are processed.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn commit_record(&mut self, record: &Record) -> Result<(), Error> {
        let (inner, runtime) = self.held.parts();
        let call = "blocking::PartitionStream::commit_record";
        Ok(runtime.wait(call, inner.commit_record(record))??)
    }

    /// Commits that this batch, and all before it, is processed.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn commit_batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let (inner, runtime) = self.held.parts();
        let call = "blocking::PartitionStream::commit_batch";
        Ok(runtime.wait(call, inner.commit_batch(batch))??)
    }

    /// Commits this offset, that of the next record to read.
    ///
    /// # Errors
    /// [`Error::Consumer`]; [`Error::InsideRuntime`].
    pub fn commit_offset(&mut self, offset: CommittedOffset) -> Result<(), Error> {
        let (inner, runtime) = self.held.parts();
        let call = "blocking::PartitionStream::commit_offset";
        Ok(runtime.wait(call, inner.commit_offset(offset))??)
    }

    /// Has automatic commit write that this record, and all before it, are processed.
    ///
    /// # Errors
    /// As [`consumer::PartitionStream::store_offset`](crate::consumer::PartitionStream::store_offset).
    pub fn store_offset(&mut self, record: &Record) -> Result<(), ConsumerError> {
        self.held.parts().0.store_offset(record)
    }

    /// The same for a batch.
    ///
    /// # Errors
    /// As [`store_offset`](Self::store_offset).
    pub fn store_batch(&mut self, batch: &RecordBatch) -> Result<(), ConsumerError> {
        self.held.parts().0.store_batch(batch)
    }

    /// Says that all that was handed out is processed, without asking for more.
    pub fn mark_processed(&mut self) {
        self.held.parts().0.mark_processed();
    }

    /// Who reads this partition, for [`Transaction::send_offsets`](super::Transaction::send_offsets): offsets are refused once
    /// the group may have given the partition to another member. None without `group.id`, and if it may have by now.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        self.held.get().group_metadata()
    }

    /// The topic.
    pub fn topic(&self) -> &Str {
        self.held.get().topic()
    }

    pub(super) fn into_parts(self) -> (AsyncPartitionStream, Arc<Runtime>) {
        self.held.into_parts()
    }

    /// Lets go of the partition, being done with all that was handed out.
    pub fn finish(self) {
        let (inner, runtime) = self.held.into_parts();
        let _here = runtime.enter();
        inner.finish();
    }
}

/// Waits for what comes next, `timeout` at most.
fn in_time<T>(
    runtime: &Runtime,
    call: &'static str,
    timeout: Duration,
    next: impl Future<Output = Result<T, ConsumerError>>,
) -> Result<T, Error> {
    let next = async { tokio::time::timeout(timeout, next).await };
    match runtime.wait(call, next)? {
        Ok(next) => Ok(next?),
        Err(_) => Err(Error::Timeout { waited: timeout }),
    }
}

impl Iterator for PartitionStream {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.recv().transpose()
    }
}
