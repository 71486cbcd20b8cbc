//! Share groups (KIP-932) in bad weather: members that acknowledge in every way, stall beyond the locks of records, leave and
//! crash, while brokers come and go.
//!
//! What is promised is the judge's to say. Here groups are put together, and when the weather has cleared up, each of them
//! must be done with every record. A node that crashes loses its share sessions and what was acquired from it, and nothing
//! else.

mod event;
mod judge;
mod member;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

pub(crate) use self::event::{Answer, Event, Request, Run};
pub(crate) use self::judge::check;
use self::member::Application;
use crate::chaos::{self, Targets};
use crate::history::{Part, What};
use crate::world::World;
use crate::writer;

/// What the applications of a run are told.
#[derive(Debug, Default)]
struct Stage {
    /// From now on everybody just reads and accepts.
    calm: AtomicBool,
    /// Everybody is to end.
    over: AtomicBool,
}

impl Stage {
    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// One or two share groups of one to six members.
pub(crate) async fn run(world: &Arc<World>) -> Result<String, String> {
    let mut rng = world.rng();
    let mut parts = Vec::new();
    for topic in 0..rng.u8(1..=2) {
        parts.extend(world.create_topic(topic, rng.i32(1..=3))?);
    }
    let groups = rng.u8(1..=2);
    let stage = Arc::new(Stage::default());
    let mut tasks = Vec::new();
    for group in 0..groups {
        let lock = set_up(world, group, &mut rng)?;
        for _ in 0..rng.usize(1..=6) {
            let application = Application {
                world: Arc::clone(world),
                stage: Arc::clone(&stage),
                group,
                lock,
                parts: parts.clone(),
                rng: rng.fork(),
            };
            tasks.push(tokio::spawn(application.run()));
        }
    }
    let storm = Duration::from_millis(rng.u64(2_000..60_000));
    let writers = writer::start(world, &parts, &mut rng)?;
    let targets = Targets {
        parts: parts.clone(),
        groups: (0..groups).map(group_name).collect(),
        delete_records: rng.bool(),
        apis: chaos::SHARE_APIS,
    };
    world.harm(&targets, storm).await;
    writer::finish_all(writers).await?;
    stage.calm.store(true, Ordering::Relaxed);
    let deadline = Instant::now() + PATIENCE;
    let mut outcome = loop {
        let Some(behind) = behind(world, groups, &parts) else {
            break Ok(());
        };
        if tasks.iter().any(tokio::task::JoinHandle::is_finished) {
            // It says why.
            break Ok(());
        }
        if Instant::now() > deadline {
            break Err(format!("stuck: in fair weather, {behind}"));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    stage.over.store(true, Ordering::Relaxed);
    for task in tasks {
        let ended = tokio::time::timeout(ENDING_PATIENCE, task).await;
        outcome = outcome.and(match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => Err(format!("an application panicked: {error}")),
            Err(_) => Err(format!(
                "an application does not end within {ENDING_PATIENCE:?}"
            )),
        });
    }
    for part in &parts {
        world.learn(*part);
    }
    for group in 0..groups {
        for part in &parts {
            if let Some(offset) = passed(world, group, *part) {
                let part = *part;
                let passed = Event::Passed {
                    group,
                    part,
                    offset,
                };
                world.history.record(What::Shared(passed));
            }
        }
    }
    outcome?;
    Ok(format!("{groups} share groups"))
}

fn group_name(group: u8) -> String {
    format!("share-{group}")
}

/// Sets a group up. How long it locks records.
fn set_up(world: &World, group: u8, rng: &mut Rng) -> Result<Duration, String> {
    let mut one_of = |choices: [u64; 3]| rng.choice(choices).unwrap_or(choices[0]);
    let lock_ms = one_of([1_000, 4_000, 15_000]);
    let deliveries_max = one_of([2, 5, 20]);
    let session_ms = one_of([6_000, 10_000, 45_000]);
    let heartbeat_ms = one_of([300, 1_000, 2_000]);
    let settings = [
        ("share.auto.offset.reset", "earliest".to_owned()),
        ("share.record.lock.duration.ms", lock_ms.to_string()),
        ("share.delivery.count.limit", deliveries_max.to_string()),
        ("share.session.timeout.ms", session_ms.to_string()),
        ("share.heartbeat.interval.ms", heartbeat_ms.to_string()),
    ];
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    let set = world.cluster.set_share_group(&group_name(group), &settings);
    set.map_err(|error| error.to_string())?;
    world.history.record(What::Shared(Event::Group {
        group,
        lock_ms,
        deliveries_max: deliveries_max as i16,
        session_ms,
    }));
    Ok(Duration::from_millis(lock_ms))
}

fn passed(world: &World, group: u8, part: Part) -> Option<i64> {
    let topic = part.topic_name();
    world
        .cluster
        .share_start(&group_name(group), &topic, part.partition)
}

/// Which group is not done with what.
fn behind(world: &World, groups: u8, parts: &[Part]) -> Option<String> {
    let all = (0..groups).flat_map(|group| parts.iter().map(move |part| (group, *part)));
    all.into_iter().find_map(|(group, part)| {
        let (start, end) = world.bounds(part);
        let at = passed(world, group, part).unwrap_or(start);
        (at < end).then(|| format!("share group {group} is done with {part} before {at} of {end}"))
    })
}

/// How long it may take in fair weather until every record is done with: locks of members that vanished time out, members
/// are missed.
const PATIENCE: Duration = Duration::from_secs(900);

/// How long applications may take to end.
const ENDING_PATIENCE: Duration = Duration::from_secs(300);
