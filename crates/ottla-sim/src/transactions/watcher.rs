//! A reader beside the transactions: takes every partition by hand, from anywhere, and reads all or only what is
//! committed.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ottla_consumer::{Consumer, IsolationLevel, Offset, Record, TopicPartition};
use tokio::time::Instant;

use super::Stage;
use super::event::Event;
use crate::faults::FaultKind;
use crate::history::{Member, Part, What};
use crate::reader::Mode;
use crate::tap::Seat;
use crate::world::World;

pub(super) struct Watcher {
    pub(super) world: Arc<World>,
    pub(super) stage: Arc<Stage>,
    pub(super) parts: Vec<Part>,
    pub(super) committed: bool,
    pub(super) rng: Rng,
}

/// One consumer.
struct Life {
    consumer: Consumer,
    member: Member,
    net: ottla_net::Cluster,
    seat: Arc<Seat>,
}

impl Watcher {
    /// Reads until everything has ended, and then to the ends of the logs.
    pub(super) async fn run(mut self) -> Result<(), String> {
        let first = Duration::from_millis(self.rng.u64(0..3_000));
        tokio::time::sleep(first).await;
        loop {
            let life = self.begin()?;
            let reached = self.live(&life).await?;
            if reached {
                life.consumer
                    .close(Duration::from_secs(60))
                    .await
                    .map_err(|error| format!("close() failed in fair weather: {error}"))?;
                life.net.close().await;
                return Ok(());
            }
            match self.rng.u32(0..3) {
                0 => {
                    self.world.weather.faults().note(FaultKind::ClientCrashed);
                    life.seat.die();
                }
                1 => {
                    let patience = Duration::from_millis(self.rng.u64(0..5_000));
                    // In bad weather it may take longer.
                    let _ = life.consumer.close(patience).await;
                    life.net.close().await;
                }
                _ => {
                    drop(life.consumer);
                    life.net.close().await;
                }
            }
        }
    }

    fn begin(&mut self) -> Result<Life, String> {
        let (net, seat) = self.world.client()?;
        let config = ottla_consumer::ConsumerConfig {
            group_id: None,
            enable_auto_commit: false,
            isolation_level: match self.committed {
                true => IsolationLevel::ReadCommitted,
                false => IsolationLevel::ReadUncommitted,
            },
            ..Mode::assign(0, &mut self.rng).config(0, &mut self.rng)
        };
        let consumer = Consumer::new(net.clone(), config).map_err(|error| error.to_string())?;
        let life = Life {
            consumer,
            member: self.world.history.new_member(),
            net,
            seat,
        };
        let from_the_start = self.rng.bool();
        let mut taken = Vec::new();
        for part in &self.parts {
            let end = self.world.bounds(*part).1;
            let offset = match from_the_start {
                true => 0,
                false => self.rng.i64(0..=end),
            };
            self.tell(Event::Stands {
                reader: life.member,
                part: *part,
                offset,
                committed: self.committed,
            });
            taken.push((name(*part), Offset::At(offset)));
        }
        life.consumer
            .assign(taken)
            .map_err(|error| format!("cannot assign: {error}"))?;
        Ok(life)
    }

    /// Reads; whether it has read all there is, and there will be no more.
    async fn live(&mut self, life: &Life) -> Result<bool, String> {
        let mut deadline = None;
        let mut furthest = 0;
        loop {
            let patience = Duration::from_millis(self.rng.u64(0..1_000));
            if self.rng.bool() {
                let max = self.rng.choice([1, 7, 500]).unwrap_or(7);
                match life.consumer.poll_max(max, patience).await {
                    Ok(batches) => {
                        for record in batches.into_iter().flatten() {
                            self.take(life, record.map_err(|error| error.to_string())?)?;
                        }
                    }
                    Err(error) => self.heed(life, &error).await,
                }
            } else if let Ok(taken) = tokio::time::timeout(patience, life.consumer.recv()).await {
                match taken {
                    Ok(record) => self.take(life, record)?,
                    Err(error) => self.heed(life, &error).await,
                }
            }
            let behind = self.behind(life);
            if !self.stage.is_settled() {
                if !self.stage.is_calm() && self.rng.u32(0..200) == 0 {
                    return Ok(false);
                }
                continue;
            }
            let Some((part, position, end)) = behind else {
                return Ok(true);
            };
            // With the smallest of fetches, each after the longest of waits, reading takes long.
            let positions = self.parts.iter();
            let progress = positions
                .filter_map(|part| self.position(life, *part))
                .sum();
            if progress > furthest {
                furthest = progress;
                deadline = None;
            }
            let deadline = deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
            if Instant::now() > *deadline {
                return Err(format!(
                    "stuck: in fair weather r{} is at {part}@{position:?}, which ends at {end}",
                    life.member
                ));
            }
        }
    }

    /// Where it has not reached the end.
    fn behind(&self, life: &Life) -> Option<(Part, Option<i64>, i64)> {
        let mut behind = None;
        for part in &self.parts {
            let position = self.position(life, *part);
            if let Some(offset) = position {
                self.tell(Event::Position {
                    reader: life.member,
                    part: *part,
                    offset,
                });
            }
            let end = self.world.bounds(*part).1;
            if position.is_none_or(|position| position < end) {
                behind = Some((*part, position, end));
            }
        }
        behind
    }

    fn position(&self, life: &Life, part: Part) -> Option<i64> {
        life.consumer.position(&name(part)).ok().flatten()
    }

    fn take(&self, life: &Life, record: Record) -> Result<(), String> {
        let value = record.value().unwrap_or_default();
        let at = record.topic_partition();
        let part = Part::named(&at.topic, at.partition);
        let (Some((id, _)), Some(part)) = (crate::writer::read_value(value), part) else {
            return Err(format!("nobody wrote the value {value:?} to {at}"));
        };
        self.tell(Event::Read {
            reader: life.member,
            part,
            offset: record.offset(),
            id,
        });
        Ok(())
    }

    async fn heed(&self, life: &Life, error: &ottla_consumer::Error) {
        self.world
            .history
            .note(format!("r{}: {error}", life.member));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    fn tell(&self, event: Event) {
        self.world.history.record(What::Transactional(event));
    }
}

fn name(part: Part) -> TopicPartition {
    TopicPartition::new(part.topic_name(), part.partition)
}

/// How long a reader that is not at the end may come no further in fair weather.
const PATIENCE: Duration = Duration::from_secs(120);
