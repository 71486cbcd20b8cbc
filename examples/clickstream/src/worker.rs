//! One member of the group: polls, writes what becomes of each record, and commits when that is written.
//!
//! The order of these steps is what makes it lose nothing; see the crate's head. Keeps no state but counters, so
//! that a worker that ended is replaced by a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ottla::consumer::{self, RecordBatch, RecordRef};
use ottla::prelude::*;
use ottla::producer::{Delivery, SendError};
use ottla::{Client, ErrorCode};

use crate::click::Click;
use crate::source::{ERROR_KIND, ERROR_MESSAGE, Source, header};

/// From where, and to where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Clicks as they come.
    pub clicks: String,
    /// Valid ones with their country.
    pub enriched: String,
    /// The others.
    pub dead_letters: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            clicks: "user_clicks".into(),
            enriched: "enriched_clicks".into(),
            dead_letters: "user_clicks_dlq".into(),
        }
    }
}

/// A member of the group.
#[derive(Debug)]
pub struct Worker {
    topics: Topics,
    consumer: Consumer,
    producer: Producer,
    counts: Arc<Counts>,
    /// Reused for every output.
    json: Vec<u8>,
}

/// What a worker has done: records whose outputs are acknowledged.
#[derive(Debug, Default)]
pub struct Counts {
    /// Records read.
    pub consumed: AtomicU64,
    /// Of these, valid clicks.
    pub enriched: AtomicU64,
    /// Of these, malformed ones.
    pub dead_lettered: AtomicU64,
}

/// Why a worker ended before it was told to. Nothing is lost: what it had not committed is read again by the others,
/// or by its successor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It could not be made.
    #[error(transparent)]
    Setup(#[from] ottla::Error),
    /// Reading or committing failed for good.
    #[error(transparent)]
    Consumer(#[from] consumer::Error),
    /// An output was not (certainly) written.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl Worker {
    /// A worker in `group`. Workers of one process share a producer: it then fills larger batches.
    ///
    /// # Errors
    /// [`Error::Setup`] for settings that do not fit together.
    pub fn new(
        client: &Client,
        producer: Producer,
        group: &str,
        topics: Topics,
    ) -> Result<Worker, Error> {
        let mut config = client.consumer_config();
        config.group_id = Some(group.to_owned());
        // Offsets are committed by hand, behind the outputs, and never by a clock.
        config.enable_auto_commit = false;
        // A group that has committed nothing begins at the oldest click, not at the next one.
        config.auto_offset_reset = OffsetReset::Earliest;
        // As much as is handled between two commits.
        config.max_poll_records = RECORDS_PER_ROUND;
        let consumer = client.consumer_with(config)?;
        consumer.subscribe([topics.clicks.as_str()])?;
        Ok(Worker {
            topics,
            consumer,
            producer,
            counts: Arc::default(),
            json: Vec::new(),
        })
    }

    /// What it has done so far; grows while it runs.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Its consumer, to look at its assignment.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// Works until `stop` is ready, finishes what it has in hand, and leaves the group.
    ///
    /// Dropping the future instead ends it like a crash: what was in hand is read again by somebody else.
    ///
    /// # Errors
    /// [`Error::Consumer`] and [`Error::Send`] for what will not pass by waiting.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let outcome = self.work(stop).await;
        // In any case, so that others need not wait for the session to run out.
        let closed = self.consumer.close(CLOSE_TIMEOUT).await;
        outcome?;
        Ok(closed?)
    }

    async fn work(&mut self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let mut stop = std::pin::pin!(stop);
        loop {
            // Only waiting is cut short: a poll that is dropped loses no record.
            let polled = tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                polled = self.consumer.poll(POLL_TIMEOUT) => polled,
            };
            match polled {
                Ok(batches) if batches.is_empty() => {}
                Ok(batches) => self.round(&batches).await?,
                // The consumer tries again by itself; this is to be known, not to end for.
                Err(error) if error.is_retriable() => tracing::warn!(%error, "cannot read for now"),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Steps 2 to 4 for what a poll brought.
    async fn round(&mut self, batches: &[RecordBatch]) -> Result<(), Error> {
        let mut deliveries = Vec::new();
        let (mut enriched, mut dead_lettered) = (0, 0);
        for batch in batches {
            let partition = batch.partition().to_string();
            for record in batch {
                let (fate, delivery) = self.send_on(batch, &partition, record?).await?;
                deliveries.push(delivery);
                match fate {
                    Fate::Enriched => enriched += 1,
                    Fate::DeadLetter => dead_lettered += 1,
                }
            }
        }
        for delivery in deliveries {
            delivery.await?;
        }
        let counts = &self.counts;
        counts.enriched.fetch_add(enriched, Ordering::Relaxed);
        counts
            .dead_lettered
            .fetch_add(dead_lettered, Ordering::Relaxed);
        // Last, and with release: whoever sees this sees the other two.
        let consumed = enriched + dead_lettered;
        counts.consumed.fetch_add(consumed, Ordering::Release);
        self.commit().await
    }

    /// Sends what becomes of one record, without waiting for its delivery.
    async fn send_on(
        &mut self,
        batch: &RecordBatch,
        partition: &str,
        record: RecordRef<'_>,
    ) -> Result<(Fate, Delivery), Error> {
        let offset = record.offset().to_string();
        let mut headers: Vec<Header<'_>> = record
            .headers()
            // Names are text in every client; bytes that are none cannot be passed on.
            .filter_map(|(name, value)| {
                let key = std::str::from_utf8(name).ok()?;
                Some(Header { key, value })
            })
            .chain(Source::headers(batch.topic(), partition, &offset))
            .collect();
        // Records before 1970, or without a time, get that of their output.
        let timestamp = Some(record.timestamp()).filter(|timestamp| *timestamp >= 0);
        match Click::parse(record.value(), now_ms()) {
            Ok(click) => {
                self.json.clear();
                serde_json::to_writer(&mut self.json, &click.enrich())
                    .expect("strings and numbers are written to memory, which cannot fail");
                let output = ProducerRecord {
                    key: record.key(),
                    value: Some(&self.json),
                    headers: &headers,
                    timestamp,
                    ..ProducerRecord::to(&self.topics.enriched)
                };
                Ok((Fate::Enriched, self.producer.send(output).await?))
            }
            Err(malformed) => {
                let message = malformed.to_string();
                headers.push(header(ERROR_KIND, malformed.kind().name()));
                headers.push(header(ERROR_MESSAGE, &message));
                let letter = ProducerRecord {
                    key: record.key(),
                    value: record.value(),
                    headers: &headers,
                    timestamp,
                    ..ProducerRecord::to(&self.topics.dead_letters)
                };
                Ok((Fate::DeadLetter, self.producer.send(letter).await?))
            }
        }
    }

    /// Commits what was polled, all of whose outputs are written.
    async fn commit(&self) -> Result<(), Error> {
        match self.consumer.commit().await {
            Ok(()) => Ok(()),
            // Not stored, or nobody knows. The next commit covers it; and if the partitions are somebody else's by
            // now, they write it once more, which is what "at least once" allows.
            Err(error) if error.is_retriable() || is_of_the_past(&error) => {
                tracing::warn!(%error, "a commit did not succeed");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What became of a record.
enum Fate {
    Enriched,
    DeadLetter,
}

/// The group has gone on without this member, which joins it again at the next poll.
fn is_of_the_past(error: &consumer::Error) -> bool {
    matches!(
        error,
        consumer::Error::CommitRefused {
            error: ErrorCode::UNKNOWN_MEMBER_ID
                | ErrorCode::ILLEGAL_GENERATION
                | ErrorCode::REBALANCE_IN_PROGRESS,
            ..
        }
    )
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Enough to fill batches, few enough to repeat after a crash.
const RECORDS_PER_ROUND: usize = 2_000;
/// How long a poll waits for the first record; nothing depends on it.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
