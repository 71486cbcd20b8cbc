//! `ottla perf produce`.

use std::collections::VecDeque;
use std::time::Duration;

use ottla::producer::{Delivery, Producer, ProducerRecord, SendError};
use serde_json::json;
use tokio::time::Instant;

use super::payload;
use super::report::{Report, Stopwatch};
use crate::args::PerfProduceArgs;
use crate::exit::{Failure, say};
use crate::latencies::Latencies;
use crate::progress::Progress;
use crate::session::{Session, interrupted};

pub(super) async fn run(mut session: Session, args: PerfProduceArgs) -> Result<(), Failure> {
    session.option("-z", "compression.type", args.compression.as_deref())?;
    session.option("-a", "acks", args.acks.as_deref())?;
    let client = session.connect().await?;
    if !session.may_create_topics() {
        session.find_topics(&client, &[&args.topic]).await?;
    }
    let producer = client.producer()?;
    let values = payload::values(args.size);
    let progress = Progress::new(session.quiet, Some(args.records), "records");
    let mut run = Run {
        args: &args,
        values: &values,
        open: VecDeque::new(),
        sent: 0,
        bytes: 0,
        failed: 0,
        latencies: Latencies::new(),
    };

    let stopwatch = Stopwatch::start();
    let mut interrupt = std::pin::pin!(interrupted());
    let outcome = tokio::select! {
        biased;
        () = &mut interrupt => Err(Failure::interrupted()),
        outcome = run.send_all(&producer, &progress) => outcome,
    };
    let flushed = producer.flush(producer.config().delivery_timeout).await;
    let rates = stopwatch.stop(run.sent, run.bytes);
    run.settle_all().await;
    drop(progress);
    let closed = producer.close(Duration::from_secs(1)).await;
    client.close().await;

    let failed = run.failed;
    let latencies = run.latencies;
    Report {
        what: "produce",
        topic: args.topic.clone(),
        rates,
        failed,
        latencies: vec![("ack", "batch opened to acknowledged", latencies)],
        details: json!({
            "record_bytes": args.size,
            "acks": session.config.get("acks"),
            "compression": session.config.get("compression.type"),
            "linger_ms": session.config.get("linger.ms"),
            "rate": args.rate,
        }),
    }
    .print(args.json.json)?;
    outcome?;
    flushed.and(closed).map_err(Failure::failed)?;
    match failed {
        0 => Ok(()),
        failed => Err(Failure::failed(format!("{failed} records failed"))),
    }
}

struct Run<'a> {
    args: &'a PerfProduceArgs,
    values: &'a [Vec<u8>],
    open: VecDeque<Delivery>,
    sent: u64,
    bytes: u64,
    failed: u64,
    latencies: Latencies,
}

impl Run<'_> {
    async fn send_all(&mut self, producer: &Producer, progress: &Progress) -> Result<(), Failure> {
        let start = Instant::now();
        let mut values = self.values.iter().cycle();
        // At a rate, a hundredth of a second's records go together at most.
        let step = if self.args.rate == 0 {
            STEP
        } else {
            (self.args.rate / 100).clamp(1, STEP)
        };
        while self.sent < self.args.records {
            for _ in 0..step.min(self.args.records - self.sent) {
                let Some(value) = values.next() else { break };
                let key;
                let mut record = ProducerRecord::to(&self.args.topic).value(value);
                let mut size = value.len();
                if self.args.keys > 0 {
                    key = payload::key(self.sent % self.args.keys);
                    record = record.key(&key);
                    size += key.len();
                }
                match producer.send(record).await {
                    Ok(delivery) => self.open.push_back(delivery),
                    Err(error) => self.fail(&error)?,
                }
                self.sent += 1;
                self.bytes += size as u64;
            }
            self.settle();
            progress.set(self.sent);
            if self.args.rate > 0 {
                let due = Duration::from_secs_f64(self.sent as f64 / self.args.rate as f64);
                tokio::time::sleep_until(start + due).await;
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: &SendError) -> Result<(), Failure> {
        self.failed += 1;
        if self.failed <= FAILURES_TOLD {
            say(error);
        }
        // Each of these has waited for max.block.ms, and the next would.
        if matches!(error, SendError::TopicUnavailable { .. }) {
            return Err(Failure::failed("the topic cannot be written to; stopped"));
        }
        match self.failed {
            FAILURES_MAX.. => Err(Failure::failed("too many records failed; stopped")),
            _ => Ok(()),
        }
    }

    fn settle(&mut self) {
        while let Some(outcome) = self.open.front_mut().and_then(Delivery::try_outcome) {
            self.open.pop_front();
            match outcome {
                Ok(written) => self.latencies.record(written.latency()),
                Err(error) => drop(self.fail(&error)),
            }
        }
    }

    async fn settle_all(&mut self) {
        while let Some(delivery) = self.open.pop_front() {
            match delivery.await {
                Ok(written) => self.latencies.record(written.latency()),
                Err(error) => drop(self.fail(&error)),
            }
        }
    }
}

/// Records between two looks at outcomes.
const STEP: u64 = 1000;
const FAILURES_TOLD: u64 = 3;
/// After so many, more would say nothing new.
const FAILURES_MAX: u64 = 1000;
