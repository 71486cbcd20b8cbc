//! Kafka's `org.apache.kafka.tools.VerifiableShareConsumer`, on Ottla's share consumer.
//!
//! Takes the same options, prints the same JSON events and ends with the same exit status; `tests/verifiable` compares the
//! two. The words of errors are its own, and it ends as soon as `--max-messages` are acknowledged, where Java's waits for
//! its next call for records to end.
#![forbid(unsafe_code)]

mod events;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use events::{Event, Offsets};
use ottla::{
    Client, Config,
    admin::{AlterConfig, Resource},
    consumer::{AcknowledgeOutcome, ShareConsumer, ShareConsumerConfig, ShareRecord},
};
use ottla_protocol_tests::verifiable::{self, Events, Signals};
use tokio::sync::Notify;

/// Consumes a topic as a member of a share group, and prints a JSON object to standard output for what happens: records
/// consumed, and acknowledged.
///
/// The options and events are those of Kafka's VerifiableShareConsumer. Warnings go to standard error; OTTLA_LOG says
/// which (`debug`, `ottla_consumer=trace`).
#[derive(Debug, Parser)]
#[command(name = "verifiable-share-consumer")]
struct Arguments {
    /// Brokers to learn the cluster from, as host:port, comma separated.
    #[arg(long)]
    bootstrap_server: String,
    /// What to consume.
    #[arg(long)]
    topic: String,
    /// The group.
    #[arg(long)]
    group_id: String,
    /// How many records to acknowledge; for ever if negative.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    max_messages: i32,
    /// Prints each record, too.
    #[arg(long)]
    verbose: bool,
    /// When records are acknowledged.
    #[arg(long, value_enum, ignore_case = true, default_value = "auto")]
    acknowledgement_mode: Mode,
    /// Where the group begins, if it is new: `earliest` or `latest`. A setting of the group, which is made before it is
    /// joined.
    #[arg(long, default_value = "")]
    offset_reset_strategy: String,
    /// A properties file of settings; the options here come before those.
    #[arg(long, value_name = "FILE")]
    command_config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// With the next call for records.
    Auto,
    /// After each call, without waiting.
    Async,
    /// After each call, waiting for the outcome.
    Sync,
}

#[tokio::main]
async fn main() -> ExitCode {
    verifiable::main("verifiable-share-consumer", run).await
}

/// Returns the exit status: 0 after all records and after an error, else that of a JVM that was told to end.
async fn run(arguments: Arguments) -> Result<u8, Box<dyn Error>> {
    // From here on: a signal that comes while it starts is not lost.
    let mut signals = Signals::listen()?;
    let client = Client::new(config(&arguments)?)?;
    let events = Events::start();
    let acknowledged = Arc::new(Acknowledged::default());
    let listener = acknowledged.clone();
    let consumer = client.share_consumer_with(ShareConsumerConfig {
        acknowledge_listener: Some(Arc::new(move |outcome: &AcknowledgeOutcome| {
            listener.hear(outcome.clone());
        })),
        ..client.share_consumer_config()
    })?;
    events.tell(Event::StartupComplete).await;

    let stopping = Arc::new(Notify::new());
    let consuming = Consuming {
        client: client.clone(),
        consumer: consumer.clone(),
        events: events.clone(),
        stopping: stopping.clone(),
        acknowledged,
        count: 0,
        arguments,
    };
    let mut all = pin!(consuming.consume());
    let mut status = 0;
    let consuming = tokio::select! {
        ended = &mut all => ended,
        told = signals.next() => {
            status = told;
            stopping.notify_one();
            all.await
        }
    };
    // Told once more, it waits for nothing.
    signals.end_the_process();
    if let Err(error) = consumer.close(CLOSING).await {
        eprintln!("{error}");
    }
    consuming.tell_acknowledged().await;
    client.close().await;
    events.tell(Event::ShutdownComplete).await;
    events.end().await?;
    Ok(status)
}

/// As Java's: the options have the last word.
fn config(arguments: &Arguments) -> Result<Config, ottla::ConfigError> {
    let mut config = Config::new();
    if let Some(file) = &arguments.command_config {
        config.load_properties_file(file)?;
    }
    config
        .set("group.id", &arguments.group_id)?
        .set("bootstrap.servers", &arguments.bootstrap_server)?;
    Ok(config)
}

/// What became of acknowledgements, and was not told yet.
#[derive(Default)]
struct Acknowledged {
    outcomes: Mutex<Vec<AcknowledgeOutcome>>,
    news: Notify,
}

impl Acknowledged {
    fn hear(&self, outcome: AcknowledgeOutcome) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.push(outcome);
        self.news.notify_one();
    }

    fn take(&self) -> Vec<AcknowledgeOutcome> {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *outcomes)
    }
}

struct Consuming {
    arguments: Arguments,
    client: Client,
    consumer: ShareConsumer,
    events: Events<Event>,
    stopping: Arc<Notify>,
    acknowledged: Arc<Acknowledged>,
    /// Records whose acknowledgement is stored.
    count: usize,
}

impl Consuming {
    /// Ends after all records, when it is to stop, and after an error that calling again does not mend.
    async fn consume(mut self) -> Self {
        if let Err(error) = self.begin().await {
            eprintln!("ending: {error}");
            return self;
        }
        while !self.is_done() {
            let stopping = self.stopping.clone();
            let polled = tokio::select! {
                biased;
                () = stopping.notified() => return self,
                () = self.acknowledged.news.notified() => Ok(Vec::new()),
                polled = self.consumer.poll(POLL) => polled,
            };
            self.count += self.tell_acknowledged().await;
            match polled {
                Ok(records) if records.is_empty() => {}
                Ok(records) => self.take(records).await,
                // What Java's client writes to its log.
                Err(error) if error.is_retriable() => eprintln!("{error}"),
                Err(error) => {
                    eprintln!("ending: {error}");
                    return self;
                }
            }
        }
        self
    }

    fn is_done(&self) -> bool {
        usize::try_from(self.arguments.max_messages).is_ok_and(|max| self.count >= max)
    }

    async fn begin(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let strategy = self.arguments.offset_reset_strategy.to_lowercase();
        if !strategy.is_empty() {
            if !["earliest", "latest"].contains(&&*strategy) {
                return Err(format!(
                    "--offset-reset-strategy is earliest or latest, not {strategy}"
                )
                .into());
            }
            let group = Resource::Group(self.arguments.group_id.clone());
            let change = AlterConfig::Set(strategy.clone());
            let changes = BTreeMap::from([("share.auto.offset.reset".to_owned(), change)]);
            self.client
                .admin()
                .alter_configs(&group, &changes, false)
                .await?;
            self.events
                .tell(Event::OffsetResetStrategySet { strategy })
                .await;
        }
        self.consumer.subscribe([self.arguments.topic.as_str()])?;
        Ok(())
    }

    /// Tells of the records of one call, and acknowledges them as it was asked to.
    async fn take(&mut self, records: Vec<ShareRecord>) {
        let mut offsets = BTreeMap::<_, BTreeSet<i64>>::new();
        for record in &records {
            let of_partition = offsets.entry(record.topic_partition()).or_default();
            of_partition.insert(record.offset());
            if self.arguments.verbose {
                self.events.tell(data(record)).await;
            }
        }
        let partitions = offsets.into_iter();
        let partitions = partitions.map(|(name, offsets)| Offsets::of(name, offsets));
        let event = Event::RecordsConsumed {
            count: records.len(),
            partitions: partitions.collect(),
        };
        self.events.tell(event).await;
        let outcome = match self.arguments.acknowledgement_mode {
            Mode::Auto => Ok(()),
            Mode::Async => self.consumer.commit_async(),
            Mode::Sync => self.consumer.commit().await.map(drop),
        };
        if let Err(error) = outcome {
            eprintln!("{error}");
        }
        self.count += self.tell_acknowledged().await;
    }

    /// Returns how many of them are stored.
    async fn tell_acknowledged(&self) -> usize {
        let mut stored = 0;
        for outcome in self.acknowledged.take() {
            let offsets = Offsets::of(
                &outcome.partition,
                outcome.offsets.into_iter().flatten().collect(),
            );
            let count = offsets.count();
            let success = outcome.result.is_ok();
            if success {
                stored += count;
            }
            self.events
                .tell(Event::OffsetsAcknowledged {
                    count,
                    partitions: vec![offsets],
                    error: outcome.result.err().map(|fault| fault.to_string()),
                    success,
                })
                .await;
        }
        stored
    }
}

fn data(record: &ShareRecord) -> Event {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Event::RecordData {
        key: record.key().map(text),
        value: record.value().map(text),
        topic: record.topic().to_string(),
        partition: record.partition(),
        offset: record.offset(),
    }
}

/// How long Java's waits for records before it looks around.
const POLL: Duration = Duration::from_secs(5);
/// As long as Java's waits.
const CLOSING: Duration = Duration::from_secs(30);
