//! A pool of workers on a share group: a topic as a queue.
//!
//! Each record goes to one worker, and is acknowledged by itself. What fails comes again, to whichever worker is first, of
//! this process or another; what fails too often, or can never succeed, is set aside. A worker that is slow keeps its record by
//! renewing its lock, and holds up nobody.

use std::time::Duration;

use ottla::consumer::{Error, ShareRecord};
use ottla::prelude::*;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What became of one record's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Done,
    /// It may succeed another time.
    TryAgain,
    /// It will never succeed.
    Hopeless,
}

/// Works with so many tasks until `stop`, then finishes what they have in their hands, and leaves the group.
///
/// The consumer must acknowledge explicitly (`share.acknowledgement.mode=explicit`); with `share.acquire.mode=record_limit` and
/// `max.poll.records` no larger than `workers`, no record's lock runs while it waits for a worker.
///
/// # Errors
/// What cannot be repaired by waiting. The consumer is closed all the same.
pub async fn run<W, F>(
    consumer: ShareConsumer,
    workers: usize,
    attempts_max: i16,
    work: W,
    stop: impl Future<Output = ()>,
) -> Result<(), Error>
where
    W: Fn(ShareRecord) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Verdict> + Send + 'static,
{
    let (tell, told) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let worker = Worker {
            consumer: consumer.clone(),
            attempts_max,
            stop: told.clone(),
        };
        tasks.spawn(worker.run(work.clone()));
    }
    let mut outcome = Ok(());
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop, if !*told.borrow() => {
                // The workers hear of it when they come for the next record.
                let _ = tell.send(true);
            }
            ended = tasks.join_next() => match ended {
                None => break,
                Some(Ok(ended)) => {
                    if ended.is_err() {
                        let _ = tell.send(true);
                    }
                    outcome = outcome.and(ended);
                }
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            }
        }
    }
    let closed = consumer.close(CLOSE_TIMEOUT).await;
    outcome?;
    closed
}

struct Worker {
    consumer: ShareConsumer,
    attempts_max: i16,
    stop: watch::Receiver<bool>,
}

impl Worker {
    async fn run<W, F>(mut self, work: W) -> Result<(), Error>
    where
        W: Fn(ShareRecord) -> F,
        F: Future<Output = Verdict>,
    {
        loop {
            let record = tokio::select! {
                biased;
                // The sender lives as long as the workers.
                _ = self.stop.wait_for(|stop| *stop) => return Ok(()),
                // A call that is dropped loses no record.
                record = self.consumer.recv() => record,
            };
            match record {
                Ok(record) => self.attend(&record, work(record.clone())).await?,
                Err(error) if error.is_retriable() => {
                    tracing::warn!(%error, "cannot read for now");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sees one record through.
    async fn attend(
        &self,
        record: &ShareRecord,
        work: impl Future<Output = Verdict>,
    ) -> Result<(), Error> {
        let mut work = std::pin::pin!(work);
        let lock = self.consumer.acquisition_lock_timeout();
        let half = lock.map_or(RENEW_AFTER, |lock| lock / 2);
        let verdict = loop {
            tokio::select! {
                verdict = &mut work => break verdict,
                () = tokio::time::sleep(half) => self.say(record, AcknowledgeType::Renew)?,
            }
        };
        let kind = match verdict {
            Verdict::Done => AcknowledgeType::Accept,
            Verdict::TryAgain if record.delivery_count() < self.attempts_max => {
                AcknowledgeType::Release
            }
            Verdict::TryAgain | Verdict::Hopeless => {
                tracing::warn!(
                    partition = %record.topic_partition(),
                    offset = record.offset(),
                    attempts = record.delivery_count(),
                    "set aside"
                );
                AcknowledgeType::Reject
            }
        };
        self.say(record, kind)
    }

    fn say(&self, record: &ShareRecord, kind: AcknowledgeType) -> Result<(), Error> {
        match self.consumer.acknowledge(record, kind) {
            // Its lock is lost, and somebody does it again: at least once is what a share group promises.
            Err(error @ Error::NotHeld { .. }) => {
                tracing::warn!(%error, "too late");
                Ok(())
            }
            said => said,
        }
    }
}

/// Until a broker has said how long locks last.
const RENEW_AFTER: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
