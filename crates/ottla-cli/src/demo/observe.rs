//! Reads what comes out, as somebody downstream would, and measures how long it took.

use std::sync::Arc;
use std::time::Duration;

use clickstream::Topics;
use ottla::Client;
use ottla::consumer::{Consumer, Offset, RecordBatch};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::generate::SENT_AT;
use crate::exit::Failure;
use crate::latencies::Latencies;

pub(super) struct Observer {
    seen: Arc<parking_lot::Mutex<Seen>>,
    task: Option<JoinHandle<Result<(), Failure>>>,
    stop: watch::Sender<bool>,
}

struct Seen {
    results: u64,
    /// When the latest came.
    latest: Option<Instant>,
    /// From the sending of a click to the reading of its result, since the last take.
    latencies: Latencies,
}

impl Observer {
    /// Reads both result topics from the beginning. Times count from `epoch`.
    pub(super) async fn start(
        client: &Client,
        topics: &Topics,
        epoch: Instant,
    ) -> Result<Observer, Failure> {
        let mut config = client.consumer_config();
        config.group_id = None;
        let consumer = client.consumer_with(config)?;
        let mut partitions = consumer.partitions_of(&topics.enriched).await?;
        partitions.extend(consumer.partitions_of(&topics.dead_letters).await?);
        consumer.assign(partitions.into_iter().map(|p| (p, Offset::Beginning)))?;
        let seen = Arc::new(parking_lot::Mutex::new(Seen {
            results: 0,
            latest: None,
            latencies: Latencies::new(),
        }));
        let stop = watch::Sender::new(false);
        let task = tokio::spawn(observe(
            consumer,
            Arc::clone(&seen),
            epoch,
            stop.subscribe(),
        ));
        Ok(Observer {
            seen,
            task: Some(task),
            stop,
        })
    }

    /// Results read so far.
    pub(super) fn seen(&self) -> u64 {
        self.seen.lock().results
    }

    /// When the latest result came, and the latencies since the last call.
    pub(super) fn take(&self) -> (Option<Instant>, Latencies) {
        let mut seen = self.seen.lock();
        let latencies = std::mem::replace(&mut seen.latencies, Latencies::new());
        (seen.latest, latencies)
    }

    /// Ready when it cannot read any more.
    pub(super) async fn failed(&mut self) -> Failure {
        let Some(task) = &mut self.task else {
            return std::future::pending().await;
        };
        let ended = task.await;
        self.task = None;
        match ended {
            Ok(Ok(())) => Failure::failed("the observer ended for no reason"),
            Ok(Err(failure)) => failure,
            Err(error) => Failure::failed(format!("the observer panicked: {error}")),
        }
    }

    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            // What it has seen counts; how it ended does not any more.
            let _ = task.await;
        }
    }
}

async fn observe(
    consumer: Consumer,
    seen: Arc<parking_lot::Mutex<Seen>>,
    epoch: Instant,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Failure> {
    loop {
        let batches = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            batches = consumer.poll(Duration::from_secs(1)) => batches?,
        };
        let now = Instant::now();
        let mut seen = seen.lock();
        for batch in &batches {
            seen.add(batch, epoch, now)?;
        }
    }
    consumer.close(Duration::from_secs(5)).await?;
    Ok(())
}

impl Seen {
    fn add(&mut self, batch: &RecordBatch, epoch: Instant, now: Instant) -> Result<(), Failure> {
        for record in batch {
            let record = record?;
            self.results += 1;
            self.latest = Some(now);
            let sent_at = record
                .headers()
                .find(|(name, _)| *name == SENT_AT.as_bytes())
                .and_then(|(_, micros)| std::str::from_utf8(micros?).ok()?.parse().ok());
            if let Some(micros) = sent_at {
                let sent = epoch + Duration::from_micros(micros);
                self.latencies.record(now.saturating_duration_since(sent));
            }
        }
        Ok(())
    }
}
