//! `ottla demo`: a whole day of a streaming platform in a few seconds.
//!
//! Brings its own broker and plays every part: a generator writes clicks, three workers of one group process them,
//! an observer reads what comes out and measures how long it took, and an auditor reads everything back and counts.
//! The stream processor itself is not here: it is [`clickstream`], written as a program of a user would be.
//!
//! ```text
//! generator ──► user_clicks ──► workers ──► enriched_clicks, user_clicks_dlq ──► observer
//!     │              │             │                       │                        │
//!     └── counts ────┴──── read back by the auditor ───────┴─────── latencies ──────┘
//! ```
//!
//! Two loads, one after the other, since one number cannot say both: most of the clicks as fast as they go, for the
//! throughput (their latency is the time spent in the queue), and the rest at a fixed rate, for the latency.

mod audit;
mod board;
mod crew;
mod generate;
mod observe;
mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clickstream::Topics;
use ottla::{Client, Config};
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use tokio::time::Instant;

use self::board::Board;
use self::crew::Crew;
use self::generate::ClickWriter;
use self::observe::Observer;
use self::report::{Load, Report};
use crate::args::{Common, DemoArgs};
use crate::exit::{Failure, say};
use crate::session::{interrupted, set_all};
use crate::stdout;

pub(crate) async fn run(common: &Common, args: DemoArgs) -> Result<(), Failure> {
    let config = config(common)?;
    let mut interrupt = std::pin::pin!(interrupted());
    let cluster = start(&args).await?;
    let bootstrap = cluster.bootstrap_servers();
    let outcome = match perform(common, &args, config, &bootstrap, &mut interrupt).await {
        Ok(report) => tell(&args, &report, &bootstrap, &mut interrupt).await,
        Err(failure) => Err(failure),
    };
    cluster.stop().await;
    outcome
}

/// Prints the report, keeps the broker if that was asked for, and turns the counts into an outcome.
async fn tell(
    args: &DemoArgs,
    report: &Report,
    bootstrap: &str,
    interrupt: &mut (impl Future<Output = ()> + Unpin),
) -> Result<(), Failure> {
    // Whoever reads may have seen enough; whether it adds up is to be told all the same.
    let printed = if args.json.json {
        stdout::print_json(&report.json(bootstrap))
    } else {
        stdout::print(report.text())
    };
    if args.keep {
        if !args.json.json && printed.is_ok() {
            let _ = stdout::print(how_to_look(bootstrap));
        }
        interrupt.await;
    }
    let wrong = report
        .checks()
        .iter()
        .filter(|check| !check.holds())
        .count();
    match wrong {
        0 => printed,
        1 => Err(Failure::failed("1 count does not add up")),
        wrong => Err(Failure::failed(format!("{wrong} counts do not add up"))),
    }
}

async fn start(args: &DemoArgs) -> Result<EmbeddedCluster, Failure> {
    let topics = Topics::default();
    let names = [topics.clicks, topics.enriched, topics.dead_letters];
    Ok(EmbeddedCluster::start(BrokerOptions {
        listen: args.listen.to_string(),
        nodes: NODES,
        topics: names.map(|name| (name, PARTITIONS)).to_vec(),
        auto_create_topics: false,
        // Members that come together get their partitions in one rebalance.
        initial_rebalance_delay: Duration::from_millis(100),
        ..BrokerOptions::default()
    })
    .await?)
}

/// Settings of the demo's clients: what `-X` says, and nothing of what is meant for other clusters.
fn config(common: &Common) -> Result<Config, Failure> {
    if common.bootstrap.is_some() || !common.properties.is_empty() {
        return Err(Failure::usage(
            "the demo brings its own broker, so that -b and -F have no place; -X sets its clients",
        ));
    }
    let mut config = Config::new();
    set_all(&mut config, &common.settings)?;
    config.set("client.id", "ottla-demo")?;
    Ok(config)
}

async fn perform(
    common: &Common,
    args: &DemoArgs,
    mut config: Config,
    bootstrap: &str,
    interrupt: &mut (impl Future<Output = ()> + Unpin),
) -> Result<Report, Failure> {
    if !common.quiet {
        say(format_args!(
            "a broker of {NODES} nodes in this process: {bootstrap}"
        ));
    }
    config.set("bootstrap.servers", bootstrap)?;
    let client = Client::new(config)?;
    let mut stage = until(interrupt, Stage::set(&client, common.quiet, args)).await?;
    let outcome = until(interrupt, stage.play()).await;
    // In any case in order: the workers commit and leave, the producer flushes.
    let workers = stage.clear().await;
    let found = match (&outcome, &workers) {
        (Ok(_), Ok(_)) => until(interrupt, read_back(common, args, &client, &stage)).await,
        (Err(_), Ok(workers)) => {
            tell_where_it_stopped(common.quiet, &stage, workers);
            Ok(audit::Found::default())
        }
        (_, Err(_)) => Ok(audit::Found::default()),
    };
    let closed = stage.producer.close(CLOSE_TIMEOUT).await;
    client.close().await;
    let (loads, workers, found) = (outcome?, workers?, found?);
    closed.map_err(Failure::failed)?;
    Ok(Report {
        messages: args.messages,
        observed: stage.observer.seen(),
        written: stage.clicks.written(),
        topics: stage.topics,
        partitions: PARTITIONS,
        workers,
        loads,
        found,
    })
}

/// What `work` comes to, unless it is interrupted before.
async fn until<T>(
    interrupt: &mut (impl Future<Output = ()> + Unpin),
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = interrupt => Err(Failure::interrupted()),
        outcome = work => outcome,
    }
}

/// What the topics and the group hold at the end.
async fn read_back(
    common: &Common,
    args: &DemoArgs,
    client: &Client,
    stage: &Stage,
) -> Result<audit::Found, Failure> {
    if args.tamper {
        forge(stage, &stage.topics.enriched).await?;
    }
    if !common.quiet {
        say("reading everything back");
    }
    audit::read_back(client, &stage.topics, GROUP).await
}

/// After an interruption, once the workers have left.
fn tell_where_it_stopped(quiet: bool, stage: &Stage, workers: &[report::WorkerCounts]) {
    if !quiet {
        let processed: u64 = workers.iter().map(|worker| worker.consumed).sum();
        let sent = stage.clicks.written().sent;
        say(format_args!(
            "the workers have left; {processed} of {sent} clicks are processed and committed"
        ));
    }
}

/// Everybody who takes part.
struct Stage {
    topics: Topics,
    producer: ottla::producer::Producer,
    crew: Crew,
    observer: Observer,
    clicks: ClickWriter,
    /// How many clicks are to be written in all.
    messages: u64,
    /// None once everybody has gone.
    board: Option<Board>,
}

impl Stage {
    async fn set(client: &Client, quiet: bool, args: &DemoArgs) -> Result<Stage, Failure> {
        let topics = Topics::default();
        let producer = client.producer()?;
        let epoch = Instant::now();
        let observer = Observer::start(client, &topics, epoch).await?;
        // From here on nothing waits: workers that are hired are sent home in order.
        let crew = Crew::hire(client, &producer, GROUP, &topics, WORKERS)?;
        let sent = Arc::new(AtomicU64::new(0));
        let board = Board::put_up(quiet, args.messages, Arc::clone(&sent), crew.counts());
        Ok(Stage {
            clicks: ClickWriter::new(producer.clone(), topics.clicks.clone(), epoch, sent),
            topics,
            producer,
            crew,
            observer,
            messages: args.messages,
            board: Some(board),
        })
    }

    async fn play(&mut self) -> Result<Vec<Load>, Failure> {
        self.crew.assembled(PARTITIONS as usize).await?;
        let steady = self.messages / STEADY_SHARE;
        let burst = self.messages - steady;
        let mut loads = vec![self.load("as fast as they go", burst, None).await?];
        if steady > 0 {
            let name = "at 10,000 per second";
            loads.push(self.load(name, steady, Some(STEADY_RATE)).await?);
        }
        Ok(loads)
    }

    /// Writes so many clicks, and waits until all that has become of them was read.
    async fn load(
        &mut self,
        name: &'static str,
        clicks: u64,
        rate: Option<u64>,
    ) -> Result<Load, Failure> {
        let started = Instant::now();
        let (crew, observer) = (&mut self.crew, &mut self.observer);
        tokio::select! {
            written = self.clicks.write(clicks, rate) => written?,
            failure = crew.failed() => return Err(failure),
            failure = observer.failed() => return Err(failure),
        }
        let all = self.clicks.written().acknowledged;
        let mut latest = (0, Instant::now());
        loop {
            let (handled, seen) = (crew.handled(), observer.seen());
            if handled >= all && seen >= crew.written() {
                break;
            }
            if handled + seen > latest.0 {
                latest = (handled + seen, Instant::now());
            }
            if latest.1.elapsed() > PATIENCE {
                return Err(Failure::failed(format!(
                    "nothing moved for {} seconds: {handled} of {all} clicks were processed, and \
                     {seen} of {} results read",
                    PATIENCE.as_secs(),
                    crew.written()
                )));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                failure = crew.failed() => return Err(failure),
                failure = observer.failed() => return Err(failure),
            }
        }
        let (finished, latencies) = observer.take();
        Ok(Load {
            name,
            clicks,
            elapsed: finished.unwrap_or(started) - started,
            latencies,
        })
    }

    async fn clear(&mut self) -> Result<Vec<report::WorkerCounts>, Failure> {
        let workers = self.crew.dismiss().await;
        self.observer.stop().await;
        if let Some(board) = self.board.take() {
            board.take_down().await;
        }
        workers
    }
}

/// A record that belongs to no click, and must be found out.
async fn forge(stage: &Stage, topic: &str) -> Result<(), Failure> {
    let record = ottla::producer::ProducerRecord::to(topic).value("forged");
    let delivery = stage.producer.send(record).await.map_err(Failure::failed)?;
    delivery.await.map_err(Failure::failed)?;
    Ok(())
}

fn how_to_look(bootstrap: &str) -> String {
    let first = bootstrap.split(',').next().unwrap_or_default();
    format!(
        "\nThe broker goes on at {bootstrap}. In another terminal:\n\
         \x20 ottla topics describe -b {first} enriched_clicks\n\
         \x20 ottla consume -b {first} -t enriched_clicks -e -o -1\n\
         \x20 ottla consume -b {first} -t user_clicks_dlq -e -f '%h\\n  %s\\n'\n\
         \x20 ottla groups describe -b {first} {GROUP}\n\
         \x20 kcat -b {first} -L\n\
         Ctrl-C ends it.\n"
    )
}

const GROUP: &str = "clickstream";
const NODES: u16 = 3;
const PARTITIONS: i32 = 12;
const WORKERS: usize = 3;
/// One click in so many is written at the steady rate.
const STEADY_SHARE: u64 = 5;
/// Per second.
const STEADY_RATE: u64 = 10_000;
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Without any progress for so long, there will be none.
const PATIENCE: Duration = Duration::from_secs(60);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A counter that somebody else advances; whoever sees it sees what was counted before it.
fn count(count: &AtomicU64) -> u64 {
    count.load(Ordering::Acquire)
}
