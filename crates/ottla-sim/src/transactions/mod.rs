//! Transactional producers in bad weather: several instances of one `transactional.id` fence each other, others copy what is
//! committed exactly once, and readers look on.
//!
//! | module | is |
//! | --- | --- |
//! | `author` | writes transactions over several topics and partitions |
//! | `copier` | reads, transforms and writes, with its positions as part of the transaction |
//! | `instance` | a producer from its start to its end, with what it was told |
//! | `watcher` | reads all, or what is committed |
//! | `event` | what happened |
//! | `judge` | what is promised |

mod author;
mod copier;
mod event;
mod instance;
mod judge;
mod watcher;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use fastrand::Rng;
use ottla_wire::compress::Decompressor;
use ottla_wire::record::{Batch, ControlType};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::author::Author;
use self::copier::Copier;
use self::instance::transactional_id;
use self::watcher::Watcher;
use crate::chaos::{self, Targets};
use crate::consume::group_name;
use crate::history::{Part, What};
use crate::reader::Mode;
use crate::world::World;

pub(crate) use self::event::Event;
pub(crate) use self::judge::check;

/// What those who take part tell each other.
#[derive(Debug, Default)]
struct Stage {
    /// The weather is fair: nobody harms, gives up or begins anew.
    calm: AtomicBool,
    /// Everything to be copied is.
    over: AtomicBool,
    /// The logs do not change any more.
    settled: AtomicBool,
    transactions: AtomicU32,
}

impl Stage {
    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    fn next_transaction(&self) -> event::Tx {
        self.transactions.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Runs instances of transactional ids against a faulty cluster.
pub(crate) async fn run(world: &Arc<World>) -> Result<String, String> {
    let mut rng = world.rng();
    let (sources, results) = create_topics(world, &mut rng)?;
    let all: Vec<Part> = sources.iter().chain(&results).copied().collect();
    let version = rng.choice([0, 1, 2, 2]).unwrap_or(2);
    world.history.note(format!("transaction.version={version}"));
    set_version(world, version)?;
    let stage = Arc::new(Stage::default());

    let mut names = 0..;
    let mut authors = Vec::new();
    let mut tasks = Vec::new();
    for instances in instances_of_ids(&mut rng) {
        let name = names.next().unwrap_or_default();
        let author = |rng: &mut Rng| Author {
            world: Arc::clone(world),
            stage: Arc::clone(&stage),
            name,
            parts: sources.clone(),
            rng: rng.fork(),
        };
        for _ in 0..instances {
            tasks.push(tokio::spawn(author(&mut rng).run()));
        }
        authors.push(author(&mut rng));
    }
    let mut copiers = Vec::new();
    let mode = Mode::steady_group(0, &mut rng);
    for _ in 0..rng.u8(0..=2) {
        let name = names.next().unwrap_or_default();
        for second in 0..rng.u8(1..=2) {
            let copier = Copier {
                world: Arc::clone(world),
                stage: Arc::clone(&stage),
                name,
                group: 0,
                mode: mode.clone(),
                sources: sources.clone(),
                results: results.clone(),
                second: second > 0,
                rng: rng.fork(),
            };
            copiers.push(tokio::spawn(copier.run()));
        }
    }
    let mut watchers = Vec::new();
    for committed in [true, true, false] {
        let watcher = Watcher {
            world: Arc::clone(world),
            stage: Arc::clone(&stage),
            parts: all.clone(),
            committed,
            rng: rng.fork(),
        };
        watchers.push(tokio::spawn(watcher.run()));
    }

    let ids = (0..names.next().unwrap_or_default()).map(transactional_id);
    let targets = Targets {
        parts: all.clone(),
        groups: ids.chain([group_name(0)]).collect(),
        delete_records: false,
        apis: chaos::TRANSACTION_APIS,
    };
    if rng.u32(0..4) == 0 {
        // The generation changes while transactions are open.
        let when = Duration::from_millis(rng.u64(1_000..40_000));
        let other = if version == 2 { 1 } else { 2 };
        let world = Arc::clone(world);
        tokio::spawn(async move {
            tokio::time::sleep(when).await;
            world.history.note(format!("transaction.version={other}"));
            set_version(&world, other)
        });
    }
    world
        .harm(&targets, Duration::from_millis(rng.u64(2_000..60_000)))
        .await;

    stage.calm.store(true, Ordering::Relaxed);
    all_end("an author", tasks).await?;
    for author in authors {
        // The transactions of ids that nobody uses any more end when their time is up.
        if rng.u32(0..4) > 0 {
            author.last_transaction().await?;
        }
    }
    settle(world, &sources).await?;
    if !copiers.is_empty() {
        copied(world, &sources, &copiers).await?;
    }
    stage.over.store(true, Ordering::Relaxed);
    all_end("a copier", copiers).await?;
    settle(world, &all).await?;
    stage.settled.store(true, Ordering::Relaxed);
    all_end("a watcher", watchers).await?;
    describe_end(world, &all, &sources)?;
    let transactions = stage.transactions.load(Ordering::Relaxed);
    Ok(format!("{transactions} transactions"))
}

/// One or two ids with two instances, or three, and maybe one with a single one.
fn instances_of_ids(rng: &mut Rng) -> Vec<u8> {
    let mut instances = vec![if rng.u32(0..4) == 0 { 3 } else { 2 }];
    for _ in 0..rng.u32(0..=2) {
        instances.push(rng.u8(1..=2));
    }
    instances
}

/// Topics that authors write to, and one for results.
fn create_topics(world: &World, rng: &mut Rng) -> Result<(Vec<Part>, Vec<Part>), String> {
    let mut create = |topic: u8| world.create_topic(topic, rng.i32(1..=3));
    let mut sources = create(0)?;
    sources.extend(create(1)?);
    Ok((sources, create(RESULTS)?))
}

fn set_version(world: &World, version: i16) -> Result<(), String> {
    let set = world.cluster.set_transaction_version(version);
    set.map_err(|error| error.to_string())
}

async fn all_end(who: &str, tasks: Vec<JoinHandle<Result<(), String>>>) -> Result<(), String> {
    let mut outcome = Ok(());
    for task in tasks {
        let ended = match tokio::time::timeout(ENDING_PATIENCE, task).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => Err(format!("{who} panicked: {error}")),
            Err(_) => Err(format!("{who} does not end within {ENDING_PATIENCE:?}")),
        };
        outcome = outcome.and(ended);
    }
    outcome
}

/// Waits until no transaction is open any more in these partitions.
async fn settle(world: &World, parts: &[Part]) -> Result<(), String> {
    let deadline = Instant::now() + SETTLING_PATIENCE;
    loop {
        let open = parts.iter().find_map(|part| {
            let producers = open_in(&logged(world, *part).ok()?);
            Some((part, *producers.first()?))
        });
        let Some((part, producer)) = open else {
            return Ok(());
        };
        if Instant::now() > deadline {
            return Err(format!(
                "stuck: a transaction of producer {producer} stays open in {part}, long after its timeout"
            ));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Waits until the copiers have committed that they have read all there is.
async fn copied(
    world: &World,
    sources: &[Part],
    copiers: &[JoinHandle<Result<(), String>>],
) -> Result<(), String> {
    let mut deadline = Instant::now() + READING_PATIENCE;
    let mut furthest = 0;
    loop {
        let behind = sources.iter().find_map(|part| {
            let last = last_visible(&logged(world, *part).ok()?)?;
            let topic = part.topic_name();
            let committed = world
                .cluster
                .committed(&group_name(0), &topic, part.partition);
            (committed.unwrap_or(0) <= last).then_some((part, committed, last))
        });
        let Some((part, committed, last)) = behind else {
            return Ok(());
        };
        if copiers.iter().all(JoinHandle::is_finished) {
            // They say why.
            return Ok(());
        }
        let positions = sources.iter().filter_map(|part| {
            let topic = part.topic_name();
            world
                .cluster
                .committed(&group_name(0), &topic, part.partition)
        });
        let progress = positions.sum();
        if progress > furthest {
            furthest = progress;
            deadline = Instant::now() + READING_PATIENCE;
        }
        if Instant::now() > deadline {
            return Err(format!(
                "stuck: in fair weather the copiers have committed {part} at {committed:?}, and {last} can be read"
            ));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Puts into the history what is left at the end.
fn describe_end(world: &World, all: &[Part], sources: &[Part]) -> Result<(), String> {
    let tell = |event| world.history.record(What::Transactional(event));
    tell(Event::Settled);
    for part in all {
        for event in logged(world, *part)? {
            tell(event);
        }
    }
    for part in sources {
        let topic = part.topic_name();
        let offset = world
            .cluster
            .committed(&group_name(0), &topic, part.partition);
        tell(Event::GroupAt {
            group: 0,
            part: *part,
            offset,
        });
    }
    Ok(())
}

/// What the log of a partition holds, record by record.
fn logged(world: &World, part: Part) -> Result<Vec<Event>, String> {
    let batches = world
        .cluster
        .batches(&part.topic_name(), part.partition)
        .ok_or_else(|| format!("the log of {part} cannot be read"))?;
    let mut events = Vec::new();
    for batch in batches {
        read_batch(part, &batch, &mut events)
            .ok_or_else(|| format!("the log of {part} holds what nobody wrote"))?;
    }
    Ok(events)
}

fn read_batch(part: Part, batch: &Batch, events: &mut Vec<Event>) -> Option<()> {
    let producer = batch.producer_id();
    if let Some(marker) = batch.control_type().ok()? {
        events.push(Event::Marked {
            part,
            offset: batch.base_offset(),
            producer,
            commit: marker == ControlType::Commit,
        });
        return Some(());
    }
    let decoded = batch.decode(&mut Decompressor::new(), usize::MAX).ok()?;
    for record in decoded.records() {
        let record = record.ok()?;
        let (id, _) = crate::writer::read_value(record.value()?)?;
        events.push(Event::Stored {
            part,
            offset: record.offset(),
            id,
            producer,
        });
    }
    Some(())
}

/// The producers that have records in the log without a marker behind them.
fn open_in(log: &[Event]) -> Vec<i64> {
    let mut open = BTreeMap::new();
    for event in log {
        match event {
            Event::Stored { producer, .. } => open.insert(*producer, ()),
            Event::Marked { producer, .. } => open.remove(producer),
            _ => None,
        };
    }
    open.into_keys().collect()
}

/// The last record of a committed transaction.
fn last_visible(log: &[Event]) -> Option<i64> {
    let mut pending: BTreeMap<i64, i64> = BTreeMap::new();
    let mut last = None;
    for event in log {
        match event {
            Event::Stored {
                producer, offset, ..
            } => {
                pending.insert(*producer, *offset);
            }
            Event::Marked {
                producer, commit, ..
            } => {
                let ended = pending.remove(producer).filter(|_| *commit);
                last = last.max(ended);
            }
            _ => {}
        }
    }
    last
}

/// The topic of the results.
const RESULTS: u8 = 9;

/// How long those who take part may take to end what they are at. Readers give up by themselves when they come no
/// further; with the smallest of fetches they are slow.
const ENDING_PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// How long a transaction may be open in fair weather: its timeout, and somewhat more.
const SETTLING_PATIENCE: Duration = Duration::from_secs(120);

/// How long the copiers may come no further in fair weather: members that vanished must be noticed, rebalances end.
const READING_PATIENCE: Duration = Duration::from_secs(300);
