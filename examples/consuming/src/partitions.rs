//! A task for each partition.
//!
//! There is no channel, no pause and no book of who has which partition here, because a stream takes its records straight
//! from what was fetched of its partition. A slow task holds up its own partition alone: when that has filled its share of
//! `queued.max.messages.kbytes`, it is not fetched any more until there is room.
//!
//! At least once: a batch is committed when its work is done. In a rebalance a task finishes the batch it is at, and the
//! partition goes to the next member when its stream is dropped.

use std::time::Duration;

use ottla::consumer::{Error, PartitionStream, RecordBatch};
use ottla::prelude::*;
use tokio::task::JoinSet;

/// Reads each partition that the consumer has, or gets, in a task of its own, until `stop`; then finishes the batches that are being worked
/// on, commits them, and leaves the group.
///
/// `work` is done for one batch of a partition after the other, and for all partitions at the same time. The consumer must not commit
/// by itself (`enable.auto.commit=false`).
///
/// # Errors
/// What cannot be repaired by waiting. The consumer is closed all the same.
///
/// # Panics
/// If `work` panics. What it was at is read again, by the next member.
pub async fn run<W, F>(
    consumer: Consumer,
    work: W,
    stop: impl Future<Output = ()>,
) -> Result<(), Error>
where
    W: Fn(RecordBatch) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let outcome = hand_out(&consumer, &work, &mut tasks, stop).await;
    // The streams end as closed, and each task commits what it did before its stream goes.
    let (closed, ()) = tokio::join!(consumer.close(CLOSE_TIMEOUT), async {
        while let Some(ended) = tasks.join_next().await {
            note(ended);
        }
    });
    outcome?;
    closed
}

async fn hand_out<W, F>(
    consumer: &Consumer,
    work: &W,
    tasks: &mut JoinSet<Result<(), Error>>,
    stop: impl Future<Output = ()>,
) -> Result<(), Error>
where
    W: Fn(RecordBatch) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut stop = std::pin::pin!(stop);
    // Dropped when this returns, which ends all streams.
    let mut partitions = consumer.split()?;
    loop {
        let stream = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            Some(ended) = tasks.join_next() => {
                note(ended);
                continue;
            }
            stream = partitions.next_partition() => stream,
        };
        match stream {
            Ok(stream) => {
                tasks.spawn(read(stream, work.clone()));
            }
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "cannot get partitions for now");
            }
            Err(error) => return Err(error),
        }
    }
}

/// One partition, for as long as this member has it.
async fn read<W, F>(mut stream: PartitionStream, work: W) -> Result<(), Error>
where
    W: Fn(RecordBatch) -> F,
    F: Future<Output = ()>,
{
    loop {
        let batch = match stream.next_batch().await {
            Ok(Some(batch)) => batch,
            // It is to be given up: when the stream is dropped, a line below.
            Ok(None) => return Ok(()),
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "cannot read for now");
                continue;
            }
            Err(error) => return Err(error),
        };
        work(batch.clone()).await;
        match stream.commit_batch(&batch).await {
            Ok(()) => {}
            // Not stored, or nobody knows: the next commit says it again.
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "a commit did not succeed");
            }
            Err(error) => return Err(error),
        }
    }
}

/// A task that failed has given its partition back: it is handed out again, from where the task was.
fn note(ended: Result<Result<(), Error>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "a partition's task failed; another one goes on"),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
