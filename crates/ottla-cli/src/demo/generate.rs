//! Writes the generator's clicks, and counts what was acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clickstream::{Generator, Kind};
use ottla::producer::{Delivery, Header, Producer, ProducerRecord};
use tokio::time::Instant;

use crate::exit::Failure;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Clicks that the producer accepted.
    pub(super) sent: u64,
    /// Of these, those that the cluster acknowledged.
    pub(super) acknowledged: u64,
    /// Of these, the malformed ones, by mistake.
    pub(super) mistakes: BTreeMap<Kind, u64>,
}

impl Written {
    pub(super) fn malformed(&self) -> u64 {
        self.mistakes.values().sum()
    }
}

/// The one that writes clicks.
pub(super) struct ClickWriter {
    producer: Producer,
    topic: String,
    generator: Generator,
    /// Times in [`SENT_AT`] count from here.
    epoch: Instant,
    /// In the order sent.
    open: VecDeque<(Delivery, Option<Kind>)>,
    written: Written,
    /// As `written.sent`, for whoever shows progress.
    sent: Arc<AtomicU64>,
}

impl ClickWriter {
    pub(super) fn new(
        producer: Producer,
        topic: String,
        epoch: Instant,
        sent: Arc<AtomicU64>,
    ) -> ClickWriter {
        ClickWriter {
            producer,
            topic,
            generator: Generator::new(SEED),
            epoch,
            open: VecDeque::new(),
            written: Written::default(),
            sent,
        }
    }

    pub(super) fn written(&self) -> Written {
        self.written.clone()
    }

    /// Writes so many clicks, at a rate per second or as fast as they go, until all are acknowledged.
    pub(super) async fn write(&mut self, clicks: u64, rate: Option<u64>) -> Result<(), Failure> {
        let started = Instant::now();
        // At a rate, a hundredth of a second's clicks go together at most.
        let step = rate.map_or(STEP, |rate| (rate / 100).max(1));
        let mut left = clicks;
        while left > 0 {
            let now = step.min(left);
            for _ in 0..now {
                self.write_one().await?;
            }
            left -= now;
            self.settle()?;
            self.sent.store(self.written.sent, Ordering::Relaxed);
            match rate {
                Some(rate) => {
                    let due = Duration::from_secs_f64((clicks - left) as f64 / rate as f64);
                    tokio::time::sleep_until(started + due).await;
                }
                // The broker and the workers are in this process too.
                None => tokio::task::yield_now().await,
            }
        }
        while let Some((delivery, mistake)) = self.open.pop_front() {
            delivery.await.map_err(Failure::failed)?;
            self.count(mistake);
        }
        Ok(())
    }

    async fn write_one(&mut self) -> Result<(), Failure> {
        let made = self.generator.click(now_ms());
        let micros = self.epoch.elapsed().as_micros().to_string();
        let headers = [Header {
            key: SENT_AT,
            value: Some(micros.as_bytes()),
        }];
        let record = ProducerRecord {
            key: Some(made.key.as_bytes()),
            value: made.value.as_deref(),
            headers: &headers,
            ..ProducerRecord::to(&self.topic)
        };
        let delivery = self.producer.send(record).await.map_err(Failure::failed)?;
        self.open.push_back((delivery, made.mistake));
        self.written.sent += 1;
        Ok(())
    }

    /// Takes the outcomes that are known, from the oldest on.
    fn settle(&mut self) -> Result<(), Failure> {
        while let Some((oldest, mistake)) = self.open.front_mut() {
            let Some(outcome) = oldest.try_outcome() else {
                break;
            };
            outcome.map_err(Failure::failed)?;
            let mistake = *mistake;
            self.open.pop_front();
            self.count(mistake);
        }
        Ok(())
    }

    fn count(&mut self, mistake: Option<Kind>) {
        self.written.acknowledged += 1;
        if let Some(kind) = mistake {
            *self.written.mistakes.entry(kind).or_default() += 1;
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Header: when the click was sent, in microseconds since the demo began. The workers pass it on.
pub(super) const SENT_AT: &str = "demo.sent-at-us";
/// Clicks between two looks at outcomes.
const STEP: u64 = 1_000;
const SEED: u64 = 1883;
