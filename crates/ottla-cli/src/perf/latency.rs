//! `ottla perf latency`: one process sends at a rate and reads its records back, by one clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla::consumer::{Consumer, Offset, TopicPartition};
use ottla::producer::{Delivery, Producer, ProducerRecord};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::report::{Report, Stopwatch};
use crate::args::PerfLatencyArgs;
use crate::exit::Failure;
use crate::latencies::Latencies;
use crate::progress::Progress;
use crate::session::{Session, interrupted};

pub(super) async fn run(mut session: Session, args: PerfLatencyArgs) -> Result<(), Failure> {
    if args.size < HEAD_BYTES {
        return Err(Failure::usage(format!(
            "--size must be at least {HEAD_BYTES}"
        )));
    }
    session.option("-z", "compression.type", args.compression.as_deref())?;
    session.option("-a", "acks", args.acks.as_deref())?;
    if !session.config.is_set("linger.ms") {
        session.config.set("linger.ms", 0)?;
    }
    let client = session.connect().await?;
    let topics = session.find_topics(&client, &[&args.topic]).await?;
    let consumer = client.consumer()?;
    let partitions = topics.iter().flat_map(|t| &t.partitions);
    let assigned: Vec<_> = partitions
        .map(|p| TopicPartition::new(args.topic.clone(), p.index))
        .collect();
    consumer.assign(assigned.iter().map(|p| (p.clone(), Offset::End)))?;
    wait_for_positions(&session, &consumer, &assigned).await?;
    let producer = client.producer()?;

    let progress = Progress::new(session.quiet, Some(args.records), "records");
    let stopwatch = Stopwatch::start();
    let base = Instant::now();
    let run = Run {
        args: &args,
        id: run_id(),
        base,
        sent: Arc::new(AtomicU64::new(0)),
    };
    let (send, receive) = mpsc::unbounded_channel();
    let acks = tokio::spawn(collect(receive));
    let mut interrupt = std::pin::pin!(interrupted());
    let outcome = tokio::select! {
        biased;
        () = &mut interrupt => Err(Failure::interrupted()),
        outcome = async {
            tokio::join!(run.send(&producer, send), run.receive(&consumer, &progress))
        } => {
            let (sent, received) = outcome;
            sent.and(received)
        }
    };
    drop(progress);
    let rates = stopwatch.stop(args.records, args.records * args.size as u64);
    let closed = producer.close(Duration::from_secs(10)).await;
    let consumer_closed = consumer.close(Duration::from_secs(10)).await;
    let (ack, failed) = acks.await.map_err(Failure::failed)?;
    client.close().await;
    let end_to_end = outcome?;
    Report {
        what: "latency",
        topic: args.topic.clone(),
        rates,
        failed,
        latencies: vec![
            ("ack", "acknowledged", ack),
            ("end_to_end", "end to end", end_to_end),
        ],
        details: json!({
            "record_bytes": args.size,
            "rate": args.rate,
            "acks": session.config.get("acks"),
            "linger_ms": session.config.get("linger.ms"),
        }),
    }
    .print(args.json.json)?;
    closed.map_err(Failure::failed)?;
    consumer_closed?;
    if failed > 0 {
        Err(Failure::failed(format!("{failed} records failed")))
    } else {
        Ok(())
    }
}

struct Run<'a> {
    args: &'a PerfLatencyArgs,
    /// Tells records of this run from others in the topic.
    id: u64,
    base: Instant,
    sent: Arc<AtomicU64>,
}

impl Run<'_> {
    /// Sends at the rate; each value begins with the run, and the time at which it was sent.
    async fn send(
        &self,
        producer: &Producer,
        deliveries: mpsc::UnboundedSender<(Instant, Delivery)>,
    ) -> Result<(), Failure> {
        let mut value = vec![b'.'; self.args.size];
        value[..8].copy_from_slice(&self.id.to_be_bytes());
        let start = Instant::now();
        for n in 0..self.args.records {
            let due = Duration::from_secs_f64(n as f64 / self.args.rate as f64);
            tokio::time::sleep_until(start + due).await;
            let now = Instant::now();
            let since = u64::try_from((now - self.base).as_nanos()).unwrap_or(u64::MAX);
            value[8..16].copy_from_slice(&since.to_be_bytes());
            let record = ProducerRecord::to(&self.args.topic).value(&value);
            let delivery = producer.send(record).await.map_err(Failure::failed)?;
            self.sent.fetch_add(1, Ordering::Relaxed);
            // Collected until the producer is closed.
            let _ = deliveries.send((now, delivery));
        }
        Ok(())
    }

    async fn receive(
        &self,
        consumer: &Consumer,
        progress: &Progress,
    ) -> Result<Latencies, Failure> {
        let mut latencies = Latencies::new();
        let mut received = 0;
        let mut latest = Instant::now();
        while received < self.args.records {
            for batch in consumer.poll(Duration::from_millis(500)).await? {
                let now = Instant::now();
                for record in &batch {
                    let record = record?;
                    if let Some(sent) = record.value().and_then(|value| self.sent_at(value)) {
                        latencies.record(now - sent);
                        received += 1;
                        latest = now;
                    }
                }
            }
            progress.set(received);
            let all_sent = self.sent.load(Ordering::Relaxed) == self.args.records;
            if all_sent && latest.elapsed() > PATIENCE {
                return Err(Failure::failed(format!(
                    "only {received} of {} records came back within {} seconds",
                    self.args.records,
                    PATIENCE.as_secs()
                )));
            }
        }
        Ok(latencies)
    }

    fn sent_at(&self, value: &[u8]) -> Option<Instant> {
        let (id, rest) = value.split_first_chunk::<8>()?;
        let (since, _) = rest.split_first_chunk::<8>()?;
        (u64::from_be_bytes(*id) == self.id)
            .then(|| self.base + Duration::from_nanos(u64::from_be_bytes(*since)))
    }
}

/// Awaits deliveries in the order sent: the latencies, and how many failed.
async fn collect(mut deliveries: mpsc::UnboundedReceiver<(Instant, Delivery)>) -> (Latencies, u64) {
    let mut latencies = Latencies::new();
    let mut failed = 0;
    while let Some((sent, delivery)) = deliveries.recv().await {
        match delivery.await {
            Ok(_) => latencies.record(sent.elapsed()),
            Err(_) => failed += 1,
        }
    }
    (latencies, failed)
}

/// A record sent before its partition's position is known would be missed.
async fn wait_for_positions(
    session: &Session,
    consumer: &Consumer,
    partitions: &[TopicPartition],
) -> Result<(), Failure> {
    let deadline = session.deadline();
    loop {
        consumer.poll(Duration::from_millis(20)).await?;
        let known = |p| matches!(consumer.position(p), Ok(Some(_)));
        if partitions.iter().all(known) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(
                crate::exit::UNREACHABLE,
                "the end of some partition is not known in time; do all have a leader?",
            ));
        }
    }
}

fn run_id() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |t| {
        u64::from(t.subsec_nanos()) ^ t.as_secs().rotate_left(32)
    }) ^ u64::from(std::process::id())
}

/// The run and the time at the beginning of each value.
const HEAD_BYTES: usize = 16;
/// How long the last records may take to come back.
const PATIENCE: Duration = Duration::from_secs(30);
