//! Kafka's `org.apache.kafka.tools.VerifiableConsumer`, on Ottla's consumer.
//!
//! Takes the same options, prints the same JSON events and ends with the same exit status, so that what drives Kafka's own
//! system tests can drive this one; `tests/verifiable` compares the two. Its own are: `--group-protocol auto`, the
//! names of the assignors without Java's packages, and the words of errors.
#![forbid(unsafe_code)]

mod events;

use std::{
    collections::BTreeMap, error::Error, path::PathBuf, process::ExitCode, sync::Arc,
    time::Duration,
};

use clap::Parser;
use events::{Committed, Consumed, Event, Partition};
use ottla::{
    Client, Config, ErrorCode,
    consumer::{
        Consumer, ConsumerConfig, Error as ConsumerError, ListenerFuture, RebalanceListener,
        RecordBatch, RecordRef, TopicPartition,
    },
};
use ottla_protocol_tests::verifiable::{self, Events, Signals};
use tokio::sync::Notify;

/// Consumes a topic as a member of a group, and prints a JSON object to standard output for what happens: partitions that
/// come and go, records consumed, offsets committed.
///
/// The options and events are those of Kafka's VerifiableConsumer. Warnings go to standard error; OTTLA_LOG says
/// which (`debug`, `ottla_consumer=trace`).
#[derive(Debug, Parser)]
#[command(name = "verifiable-consumer")]
struct Arguments {
    /// Brokers to learn the cluster from, as host:port, comma separated.
    #[arg(long)]
    bootstrap_server: String,
    /// What to consume.
    #[arg(long)]
    topic: String,
    /// Who divides the partitions: `classic`, `consumer`, or `auto`.
    #[arg(long, default_value = "classic")]
    group_protocol: String,
    /// What the brokers divide them by, with the protocol `consumer`.
    #[arg(long)]
    group_remote_assignor: Option<String>,
    /// The group.
    #[arg(long)]
    group_id: String,
    /// Makes it a static member.
    #[arg(long)]
    group_instance_id: Option<String>,
    /// How many records to consume; for ever if negative.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    max_messages: i32,
    /// In milliseconds. Not with the protocol `consumer`.
    #[arg(long, value_name = "MILLISECONDS", allow_negative_numbers = true)]
    session_timeout: Option<i32>,
    /// Prints each record, too.
    #[arg(long)]
    verbose: bool,
    /// Commits in the background, and not after each call for records.
    #[arg(long)]
    enable_autocommit: bool,
    /// Where to begin without a committed offset: `earliest`, `latest` or `none`.
    #[arg(long, default_value = "earliest")]
    reset_policy: String,
    /// What the members divide the partitions by, with the protocol `classic`.
    #[arg(
        long,
        default_value = "org.apache.kafka.clients.consumer.RangeAssignor"
    )]
    assignment_strategy: String,
    /// The old name of --command-config.
    #[arg(
        long = "consumer.config",
        value_name = "FILE",
        conflicts_with = "command_config"
    )]
    consumer_config: Option<PathBuf>,
    /// A properties file of settings; the options here come before those.
    #[arg(long, value_name = "FILE")]
    command_config: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    verifiable::main("verifiable-consumer", run).await
}

/// Returns the exit status: 0 after all records and after an error, else that of a JVM that was told to end.
async fn run(arguments: Arguments) -> Result<u8, Box<dyn Error>> {
    // From here on: a signal that comes while it starts is not lost.
    let mut signals = Signals::listen()?;
    if arguments.consumer_config.is_some() {
        verifiable::deprecated("--consumer.config", "--command-config");
    }
    let client = Client::new(config(&arguments)?)?;
    let events = Events::start();
    let consumer = client.consumer_with(ConsumerConfig {
        rebalance_listener: Some(Arc::new(Teller {
            events: events.clone(),
        })),
        ..client.consumer_config()
    })?;
    events.tell(Event::StartupComplete).await;
    consumer.subscribe([arguments.topic.as_str()])?;

    let stopping = Arc::new(Notify::new());
    let consuming = Consuming {
        consumer: consumer.clone(),
        events: events.clone(),
        stopping: stopping.clone(),
        consumed: 0,
        arguments,
    };
    let mut all = tokio::spawn(consuming.consume());
    let status = tokio::select! {
        ended = &mut all => { ended?; 0 }
        status = signals.next() => status,
    };
    // Told once more, it waits for nothing.
    signals.end_the_process();
    if status != 0 {
        events.tell(Event::ShutdownRequested).await;
        stopping.notify_one();
        all.await?;
    }
    if let Err(error) = consumer.close(CLOSING).await {
        eprintln!("{error}");
    }
    client.close().await;
    events.tell(Event::ShutdownComplete).await;
    if status == 0 {
        // Java's says so whenever its JVM ends.
        events.tell(Event::ShutdownRequested).await;
    }
    events.end().await?;
    Ok(status)
}

/// As Java's: the options have the last word.
fn config(arguments: &Arguments) -> Result<Config, ottla::ConfigError> {
    let mut config = Config::new();
    let file = arguments
        .command_config
        .as_ref()
        .or(arguments.consumer_config.as_ref());
    if let Some(file) = file {
        config.load_properties_file(file)?;
    }
    let protocol = arguments.group_protocol.to_lowercase();
    config.set("group.protocol", &protocol)?;
    if protocol == "consumer" {
        if let Some(assignor) = &arguments.group_remote_assignor {
            config.set("group.remote.assignor", assignor)?;
        }
    } else {
        config.set(
            "partition.assignment.strategy",
            &arguments.assignment_strategy,
        )?;
    }
    if let Some(timeout) = arguments.session_timeout {
        config.set("session.timeout.ms", timeout)?;
    }
    config.set("group.id", &arguments.group_id)?;
    if let Some(id) = &arguments.group_instance_id {
        config.set("group.instance.id", id)?;
    }
    config
        .set("bootstrap.servers", &arguments.bootstrap_server)?
        .set("enable.auto.commit", arguments.enable_autocommit)?
        .set("auto.offset.reset", &arguments.reset_policy)?;
    Ok(config)
}

/// Tells of partitions that come and go.
#[derive(Debug)]
struct Teller {
    events: Events<Event>,
}

impl RebalanceListener for Teller {
    fn partitions_assigned<'a>(
        &'a self,
        _consumer: &'a Consumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        let partitions = in_order(partitions);
        Box::pin(self.events.tell(Event::PartitionsAssigned { partitions }))
    }

    fn partitions_revoked<'a>(
        &'a self,
        _consumer: &'a Consumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        let partitions = in_order(partitions);
        Box::pin(self.events.tell(Event::PartitionsRevoked { partitions }))
    }
}

fn in_order(partitions: &[TopicPartition]) -> Vec<Partition> {
    let mut partitions: Vec<_> = partitions.iter().collect();
    partitions.sort_unstable();
    partitions.into_iter().map(Partition::from).collect()
}

struct Consuming {
    arguments: Arguments,
    consumer: Consumer,
    events: Events<Event>,
    stopping: Arc<Notify>,
    consumed: usize,
}

impl Consuming {
    /// Ends after all records, when it is to stop, and after an error that calling again does not mend.
    async fn consume(mut self) {
        while self.left() > 0 {
            let polled = tokio::select! {
                biased;
                () = self.stopping.notified() => return,
                polled = self.consumer.poll(Duration::MAX) => polled,
            };
            let outcome = match polled {
                Ok(batches) => self.take(batches).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => {}
                // What Java's client writes to its log.
                Err(error) if error.is_retriable() => eprintln!("{error}"),
                Err(error) => return eprintln!("ending: {error}"),
            }
        }
    }

    /// How many more records are wanted.
    fn left(&self) -> usize {
        match usize::try_from(self.arguments.max_messages) {
            Ok(max) => max.saturating_sub(self.consumed),
            Err(_) => usize::MAX,
        }
    }

    /// Tells of the records of one call, and commits them.
    async fn take(&mut self, batches: Vec<RecordBatch>) -> Result<(), ConsumerError> {
        let mut records = BTreeMap::<&TopicPartition, Vec<RecordRef<'_>>>::new();
        let mut count = 0;
        for batch in &batches {
            let of_partition = records.entry(batch.topic_partition()).or_default();
            for record in batch {
                of_partition.push(record?);
                count += 1;
            }
        }
        let (mut partitions, mut offsets) = (Vec::new(), Vec::new());
        for (name, mut records) in records {
            records.truncate(self.left());
            let (Some(first), Some(last)) = (records.first(), records.last()) else {
                continue;
            };
            let (min_offset, max_offset) = (first.offset(), last.offset());
            partitions.push(Consumed {
                partition: name.into(),
                count: records.len(),
                min_offset,
                max_offset,
            });
            offsets.push((name.clone(), max_offset + 1));
            self.consumed += records.len();
            if self.arguments.verbose {
                for record in records {
                    self.events.tell(data(name, &record)).await;
                }
            }
        }
        let event = Event::RecordsConsumed { count, partitions };
        self.events.tell(event).await;
        match self.arguments.enable_autocommit {
            true => Ok(()),
            false => self.commit(offsets).await,
        }
    }

    async fn commit(&self, offsets: Vec<(TopicPartition, i64)>) -> Result<(), ConsumerError> {
        let next = offsets.iter();
        let next = next.map(|(name, offset)| (name.clone(), (*offset).into()));
        let outcome = self.consumer.commit_offsets(next).await;
        if let Err(ConsumerError::CommitRefused {
            error: ErrorCode::FENCED_INSTANCE_ID,
            ..
        }) = outcome
        {
            return outcome;
        }
        let offsets = offsets.iter().map(|(name, offset)| Committed {
            partition: name.into(),
            offset: *offset,
        });
        self.events
            .tell(Event::OffsetsCommitted {
                offsets: offsets.collect(),
                success: outcome.is_ok(),
                error: outcome.err().map(|error| error.to_string()),
            })
            .await;
        Ok(())
    }
}

fn data(name: &TopicPartition, record: &RecordRef<'_>) -> Event {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Event::RecordData {
        key: record.key().map(text),
        value: record.value().map(text),
        topic: name.topic.to_string(),
        partition: name.partition,
        offset: record.offset(),
    }
}

/// As long as Java's waits.
const CLOSING: Duration = Duration::from_secs(30);
