//! Kafka's `org.apache.kafka.tools.VerifiableProducer`, on Ottla's producer.
//!
//! Takes the same options, prints the same JSON events and ends with the same exit status, so that what drives
//! Kafka's own system tests can drive this one; `tests/verifiable.rs` compares the two. It differs where Java's does
//! not mean what it says: `--message-create-time` runs on with the clock (Java's adds the time since the start once
//! more with every record), and the `exception` of an error is a variant of `SendError`.
#![forbid(unsafe_code)]

mod events;

use std::{
    error::Error,
    future::pending,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use events::Event;
use ottla::{
    Client, Config,
    producer::{Producer, ProducerRecord, SendError},
};
use ottla_protocol_tests::verifiable::{self, Events, Signals};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};

/// Sends increasing integers to a topic, and prints a JSON object to standard output for each: whether it was
/// acknowledged, and where it is.
///
/// The options and events are those of Kafka's VerifiableProducer. Warnings go to standard error; OTTLA_LOG says
/// which (`debug`, `ottla_producer=trace`).
#[derive(Debug, Parser)]
#[command(name = "verifiable-producer")]
struct Arguments {
    /// Where to send to.
    #[arg(long)]
    topic: String,
    /// How many records to send; for ever if negative.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    max_messages: i64,
    /// Records per second at most; no limit if negative.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    throughput: i64,
    /// How many replicas must have a record: 0, 1, or -1 for all.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    acks: i16,
    /// The old name of --command-config.
    #[arg(
        long = "producer.config",
        value_name = "FILE",
        conflicts_with = "command_config"
    )]
    producer_config: Option<PathBuf>,
    /// The timestamp of the first record in milliseconds since 1970; the later ones' run on from there. Now if -1.
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = -1,
        allow_negative_numbers = true
    )]
    message_create_time: i64,
    /// Put before each value, with a dot.
    #[arg(long, allow_negative_numbers = true)]
    value_prefix: Option<i32>,
    /// Gives records the keys from 0 up to this number, exclusive, and again from 0.
    #[arg(long)]
    repeating_keys: Option<u32>,
    /// A properties file of settings, which come before the options' here. Without one, records are sent once:
    /// `retries` is 0.
    #[arg(long, value_name = "FILE")]
    command_config: Option<PathBuf>,
    /// Brokers to learn the cluster from, as host:port, comma separated.
    #[arg(long)]
    bootstrap_server: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    verifiable::main("verifiable-producer", run).await
}

/// Returns the exit status: 0 after all records, else that of a JVM that was told to end.
async fn run(arguments: Arguments) -> Result<u8, Box<dyn Error>> {
    // From here on: a signal that comes while it starts is not lost.
    let mut signals = Signals::listen()?;
    if arguments.producer_config.is_some() {
        verifiable::deprecated("--producer.config", "--command-config");
    }
    let client = Client::new(config(&arguments)?)?;
    let producer = client.producer()?;
    let throughput = arguments.throughput;
    let sending = Arc::new(Sending {
        arguments,
        producer: producer.clone(),
        events: Events::start(),
        started: Instant::now(),
        stopping: Notify::new(),
        sent: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
    });
    sending.events.tell(Event::StartupComplete).await;

    let mut all = tokio::spawn(sending.clone().send_all());
    let status = tokio::select! {
        ended = &mut all => { ended?; 0 }
        status = signals.next() => status,
    };
    sending.stopping.notify_one();
    // Told once more, it waits for nothing.
    signals.end_the_process();
    // Each record ends within its delivery.timeout.ms; what waits to be accepted is turned away at once.
    let closed = producer.close(CLOSING).await;
    if status != 0 {
        all.await?;
    }
    if let Err(error) = closed {
        eprintln!("{error}");
    }
    client.close().await;
    let seconds = sending.started.elapsed().as_secs_f64();
    let acknowledged = sending.acknowledged.load(Ordering::Relaxed);
    sending.events.tell(Event::ShutdownComplete).await;
    sending
        .events
        .tell(Event::ToolData {
            sent: sending.sent.load(Ordering::Relaxed),
            acked: acknowledged,
            target_throughput: throughput,
            avg_throughput: acknowledged as f64 / seconds,
        })
        .await;
    sending.events.end().await?;
    Ok(status)
}

/// As Java's: the file is read last, and has the last word.
fn config(arguments: &Arguments) -> Result<Config, ottla::ConfigError> {
    let mut config = Config::new();
    config
        .set("bootstrap.servers", &arguments.bootstrap_server)?
        .set("acks", arguments.acks)?
        .set("retries", 0)?;
    let file = arguments
        .command_config
        .as_ref()
        .or(arguments.producer_config.as_ref());
    if let Some(file) = file {
        config.load_properties_file(file)?;
    }
    Ok(config)
}

struct Sending {
    arguments: Arguments,
    producer: Producer,
    events: Events<Event>,
    started: Instant,
    stopping: Notify,
    sent: AtomicU64,
    acknowledged: AtomicU64,
}

impl Sending {
    async fn send_all(self: Arc<Self>) {
        let count = u64::try_from(self.arguments.max_messages).unwrap_or(u64::MAX);
        let mut outcomes = JoinSet::new();
        let unsettled = Arc::new(Semaphore::new(UNSETTLED_MAX));
        for number in 0..count {
            self.sent.fetch_add(1, Ordering::Relaxed);
            let value = match self.arguments.value_prefix {
                Some(prefix) => format!("{prefix}.{number}"),
                None => number.to_string(),
            };
            let key = self.arguments.repeating_keys.map(|keys| {
                let key = number.checked_rem(keys.into()).unwrap_or_default();
                key.to_string()
            });
            let mut record = ProducerRecord::to(&self.arguments.topic).value(&value);
            record.key = key.as_deref().map(str::as_bytes);
            record.timestamp = self.timestamp();
            match self.producer.send(record).await {
                Ok(delivery) => {
                    // The semaphore is never closed.
                    let seat = unsettled.clone().acquire_owned().await.ok();
                    let own = self.clone();
                    outcomes.spawn(async move {
                        let outcome = delivery.await;
                        own.tell(key, value, outcome).await;
                        drop(seat);
                    });
                }
                Err(SendError::Closed) => {
                    self.tell(key, value, Err(SendError::Closed)).await;
                    break;
                }
                Err(error) => self.tell(key, value, Err(error)).await,
            }
            while outcomes.try_join_next().is_some() {}
            tokio::select! {
                biased;
                () = self.stopping.notified() => break,
                () = self.due(number + 1) => {}
            }
        }
        self.producer
            .flush(CLOSING)
            .await
            .unwrap_or_else(|error| eprintln!("{error}"));
        outcomes.join_all().await;
    }

    fn timestamp(&self) -> Option<i64> {
        let first = self.arguments.message_create_time;
        (first >= 0).then(|| first + self.started.elapsed().as_millis() as i64)
    }

    async fn tell(
        &self,
        key: Option<String>,
        value: String,
        outcome: Result<ottla::producer::RecordMetadata, SendError>,
    ) {
        let topic = self.arguments.topic.clone();
        let event = match outcome {
            Ok(at) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                Event::ProducerSendSuccess {
                    key,
                    value,
                    offset: at.offset().unwrap_or(-1),
                    topic,
                    partition: at.partition(),
                }
            }
            Err(error) => Event::ProducerSendError {
                topic,
                key,
                value,
                exception: variant(&error),
                message: error.to_string(),
            },
        };
        self.events.tell(event).await;
    }

    /// Waits until a record after `sent` others is due.
    async fn due(&self, sent: u64) {
        let Ok(per_second @ 0..) = u64::try_from(self.arguments.throughput) else {
            return;
        };
        if per_second == 0 {
            // As Java's: nothing more, until it is ended.
            return pending().await;
        }
        let due = self.started + Duration::from_secs_f64(sent as f64 / per_second as f64);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
    }
}

/// The name of the error's variant.
fn variant(error: &SendError) -> String {
    let text = format!("{error:?}");
    let end = text
        .find(|c: char| !c.is_alphanumeric())
        .unwrap_or(text.len());
    format!("SendError::{}", &text[..end])
}

/// Longer than any delivery may take.
const CLOSING: Duration = Duration::from_secs(30 * 24 * 3600);
/// Tasks that wait for outcomes; more records than most buffers hold.
const UNSETTLED_MAX: usize = 200_000;
