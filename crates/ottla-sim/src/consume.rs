//! Consumers in bad weather: groups whose members come, go and crash, and readers that take partitions by hand.
//!
//! What is promised is the checker's to say. Here clients are put together, and when the weather has cleared up, all of
//! them must reach the ends of the logs and end.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::chaos::Targets;
use crate::history::{Part, What};
use crate::reader::{Application, Goal, Mode};
use crate::world::World;
use crate::writer;

/// One or two groups of one to six members, by the consumer protocol (KIP-848) or the classic one: eager, cooperative, or
/// on the way from one to the other; some of static members.
pub(crate) async fn group(world: &Arc<World>) -> Result<String, String> {
    let mut rng = world.rng();
    let parts = create_topics(world, &mut rng)?;
    let groups = rng.u8(1..=2);
    let mut applications = Vec::new();
    for group in 0..groups {
        let mode = Mode::group(group, &mut rng);
        for _ in 0..rng.usize(1..=6) {
            applications.push(mode.clone());
        }
    }
    let names = (0..groups).map(group_name).collect();
    run(world, rng, parts, names, applications).await?;
    Ok(format!("{groups} groups"))
}

/// One to three readers that take partitions by hand, with or without a group to commit to.
pub(crate) async fn assign(world: &Arc<World>) -> Result<String, String> {
    let mut rng = world.rng();
    let parts = create_topics(world, &mut rng)?;
    let readers = rng.u8(1..=3);
    let applications: Vec<Mode> = (0..readers).map(|n| Mode::assign(n, &mut rng)).collect();
    let names = (0..readers).map(group_name).collect();
    run(world, rng, parts, names, applications).await?;
    Ok(format!("{readers} readers"))
}

pub(crate) fn group_name(group: u8) -> String {
    format!("group-{group}")
}

fn create_topics(world: &World, rng: &mut Rng) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    for topic in 0..rng.u8(1..=2) {
        parts.extend(world.create_topic(topic, rng.i32(1..=4))?);
    }
    Ok(parts)
}

async fn run(
    world: &Arc<World>,
    mut rng: Rng,
    parts: Vec<Part>,
    groups: Vec<String>,
    applications: Vec<Mode>,
) -> Result<(), String> {
    let storm = Duration::from_millis(rng.u64(2_000..60_000));
    let goal = Arc::new(Goal::new(&applications));
    let writers = writer::start(world, &parts, &mut rng)?;
    let tasks: Vec<JoinHandle<Result<(), String>>> = applications
        .into_iter()
        .enumerate()
        .map(|(slot, mode)| {
            let application =
                Application::new(Arc::clone(world), slot, mode, &parts, &goal, rng.fork());
            tokio::spawn(application.run())
        })
        .collect();
    let targets = Targets {
        parts: parts.clone(),
        groups: groups.clone(),
        delete_records: rng.bool(),
        apis: &[],
    };
    world.harm(&targets, storm).await;
    writer::finish_all(writers).await?;
    let reached = reach_the_ends(world, &parts, &goal, &tasks).await;
    goal.stop();
    let mut outcome = reached;
    for task in tasks {
        let ended = tokio::time::timeout(ENDING_PATIENCE, task).await;
        let ended = match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => Err(format!("an application panicked: {error}")),
            Err(_) => Err(format!(
                "an application does not end within {ENDING_PATIENCE:?}"
            )),
        };
        outcome = outcome.and(ended);
    }
    for part in &parts {
        world.learn(*part);
    }
    for (group, name) in (0..).zip(&groups) {
        for part in &parts {
            let topic = part.topic_name();
            let offset = world.cluster.committed(name, &topic, part.partition);
            world.history.record(What::FinallyCommitted {
                group,
                part: *part,
                offset,
            });
        }
    }
    outcome
}

/// Waits until every group and every reader has read all there is.
async fn reach_the_ends(
    world: &World,
    parts: &[Part],
    goal: &Goal,
    tasks: &[JoinHandle<Result<(), String>>],
) -> Result<(), String> {
    goal.settle_down();
    let deadline = Instant::now() + READING_PATIENCE;
    loop {
        let ends: Vec<(Part, i64)> = parts
            .iter()
            .map(|part| (*part, world.bounds(*part).1))
            .collect();
        let Some(behind) = goal.behind(&ends) else {
            return Ok(());
        };
        if tasks.iter().any(JoinHandle::is_finished) {
            // It says why.
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("stuck: in fair weather, {behind}"));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// How long reading to the end may take in fair weather: members that vanished must be noticed, rebalances end.
const READING_PATIENCE: Duration = Duration::from_secs(900);

/// How long applications may take to end.
const ENDING_PATIENCE: Duration = Duration::from_secs(300);
