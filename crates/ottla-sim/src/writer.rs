//! Producers that write numbered records for consumers to read, through the same weather.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ottla_producer::{Compression, Producer, ProducerConfig, ProducerRecord};
use tokio::task::JoinHandle;

use crate::history::{History, Part, record_id};
use crate::tap::Seat;
use crate::world::World;

/// A producer with records of its own.
pub(crate) struct Writer {
    number: u32,
    written: u32,
    producer: Producer,
    net: ottla_net::Cluster,
    parts: Vec<Part>,
    history: Arc<History>,
    rng: Rng,
    _seat: Arc<Seat>,
}

impl Writer {
    pub(crate) fn new(
        world: &World,
        number: u32,
        parts: &[Part],
        mut rng: Rng,
    ) -> Result<Self, String> {
        let (net, seat) = world.client()?;
        let codecs = [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        let config = ProducerConfig {
            linger: Duration::from_millis(rng.choice([0, 5, 100]).unwrap_or(0)),
            batch_size: rng.choice([200, 2_000, 100_000]).unwrap_or(2_000),
            delivery_timeout: Duration::from_secs(600),
            request_timeout: Duration::from_secs(5),
            max_block: Duration::from_secs(600),
            compression: rng.choice(codecs).unwrap_or(Compression::None),
            blocking_threads: false,
            ..ProducerConfig::default()
        };
        let producer = Producer::new(net.clone(), config).map_err(|error| error.to_string())?;
        Ok(Self {
            number,
            written: 0,
            producer,
            net,
            parts: parts.to_vec(),
            history: Arc::clone(&world.history),
            rng,
            _seat: seat,
        })
    }

    /// Writes so many records, with pauses in between. Does not care for their fate: the log tells.
    pub(crate) async fn write(&mut self, count: u32) {
        for _ in 0..count {
            let Some(part) = self.rng.choice(&self.parts).copied() else {
                return;
            };
            self.written += 1;
            let timestamp = self.history.timestamp();
            let padding = match self.rng.u32(0..20) {
                0 => self.rng.usize(0..5_000),
                _ => self.rng.usize(0..100),
            };
            let value = format!(
                "{}/{}@{timestamp}.{}",
                self.number,
                self.written,
                "x".repeat(padding)
            );
            let topic = part.topic_name();
            let record = ProducerRecord::to(&topic)
                .value(&value)
                .partition(part.partition)
                .timestamp(timestamp);
            // Nobody awaits the delivery; `finish` flushes.
            let _ = self.producer.send(record).await;
            if self.rng.u32(0..6) == 0 {
                let pause = Duration::from_millis(self.rng.u64(0..1_500));
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// In fair weather: waits until all is written.
    pub(crate) async fn finish(self) -> Result<(), String> {
        let closed = self.producer.close(Duration::from_secs(700)).await;
        self.net.close().await;
        closed.map_err(|error| format!("writer {} cannot finish: {error}", self.number))
    }
}

/// Starts one to three of them.
pub(crate) fn start(
    world: &World,
    parts: &[Part],
    rng: &mut Rng,
) -> Result<Vec<JoinHandle<Writer>>, String> {
    let mut writers = Vec::new();
    for number in 0..rng.u32(1..=3) {
        let mut writer = Writer::new(world, number, parts, rng.fork())?;
        let count = rng.u32(20..300);
        writers.push(tokio::spawn(async move {
            writer.write(count).await;
            writer
        }));
    }
    Ok(writers)
}

/// In fair weather: waits until all have written what they had to, and some more.
pub(crate) async fn finish_all(writers: Vec<JoinHandle<Writer>>) -> Result<(), String> {
    for writer in writers {
        let mut writer = writer
            .await
            .map_err(|error| format!("a writer panicked: {error}"))?;
        // Whatever happened before, in fair weather records arrive.
        writer.write(10).await;
        writer.finish().await?;
    }
    Ok(())
}

/// A record's id and timestamp, from its value.
pub(crate) fn read_value(value: &[u8]) -> Option<(u64, i64)> {
    let value = std::str::from_utf8(value).ok()?;
    let (writer, rest) = value.split_once('/')?;
    let (number, rest) = rest.split_once('@')?;
    let (timestamp, _) = rest.split_once('.')?;
    let id = record_id(writer.parse().ok()?, number.parse().ok()?);
    Some((id, timestamp.parse().ok()?))
}
