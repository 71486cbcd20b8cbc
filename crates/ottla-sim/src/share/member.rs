//! An application that reads as a member of a share group: one consumer after the other, used in every way that is allowed,
//! at random.
//!
//! It tells the history all that it does and gets, at the moment in which it happens.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ottla_consumer::{
    AcknowledgeListener, AcknowledgeOutcome, AcknowledgeType, Error, Fault,
    ShareAcknowledgementMode, ShareAcquireMode, ShareConsumer, ShareConsumerConfig, ShareRecord,
};

use super::event::{Event, Verdict};
use super::{Stage, group_name};
use crate::faults::FaultKind;
use crate::history::{End, History, Member, Part, What};
use crate::tap::Seat;
use crate::world::World;

/// A place for one consumer at a time.
pub(super) struct Application {
    pub(super) world: Arc<World>,
    pub(super) stage: Arc<Stage>,
    pub(super) group: u8,
    /// How long the group locks records.
    pub(super) lock: Duration,
    pub(super) parts: Vec<Part>,
    pub(super) rng: Rng,
}

/// One consumer, and what it is called in the history.
struct Life {
    consumer: ShareConsumer,
    member: Member,
    net: ottla_net::Cluster,
    seat: Arc<Seat>,
    explicit: bool,
    /// Handed out and not acknowledged by the application, which may forget some.
    held: Vec<ShareRecord>,
    max_poll_interval: Duration,
    api_timeout: Duration,
}

impl Application {
    /// Reads until all is done.
    pub(super) async fn run(mut self) -> Result<(), String> {
        let first = Duration::from_millis(self.rng.u64(0..3_000));
        tokio::time::sleep(first).await;
        loop {
            let mut life = self.begin()?;
            let how = self.live(&mut life).await?;
            self.end(life, how).await?;
            if self.stage.is_over() {
                return Ok(());
            }
            let longest = if self.stage.is_calm() { 100 } else { 8_000 };
            let absence = Duration::from_millis(self.rng.u64(0..longest));
            tokio::time::sleep(absence).await;
        }
    }

    fn begin(&mut self) -> Result<Life, String> {
        let (net, seat) = self.world.client()?;
        let member = self.world.history.new_member();
        seat.be(member);
        let listener = Listener {
            history: Arc::clone(&self.world.history),
            member,
        };
        let explicit = self.rng.bool();
        let mut config = self.config(explicit);
        config.acknowledge_listener = Some(Arc::new(listener));
        let (max_poll_interval, api_timeout) =
            (config.max_poll_interval, config.default_api_timeout);
        let consumer =
            ShareConsumer::new(net.clone(), config).map_err(|error| error.to_string())?;
        let life = Life {
            consumer,
            member,
            net,
            seat,
            explicit,
            held: Vec::new(),
            max_poll_interval,
            api_timeout,
        };
        self.tell(Event::Joins {
            member,
            group: self.group,
            explicit,
        });
        self.subscribe(&life)?;
        Ok(life)
    }

    fn config(&mut self, explicit: bool) -> ShareConsumerConfig {
        let rng = &mut self.rng;
        let seconds = |rng: &mut Rng, choices: &[u64]| {
            Duration::from_secs(rng.choice(choices).copied().unwrap_or(10))
        };
        ShareConsumerConfig {
            group_id: group_name(self.group),
            acknowledgement_mode: match explicit {
                true => ShareAcknowledgementMode::Explicit,
                false => ShareAcknowledgementMode::Implicit,
            },
            acquire_mode: match rng.bool() {
                true => ShareAcquireMode::BatchOptimized,
                false => ShareAcquireMode::RecordLimit,
            },
            max_poll_interval: seconds(rng, &[5, 20, 60]),
            max_poll_records: rng.choice([1, 7, 500]).unwrap_or(500),
            check_crcs: rng.bool(),
            fetch_min_bytes: rng.choice([1, 1, 2_000]).unwrap_or(1),
            fetch_max_wait: Duration::from_millis(rng.choice([10, 100, 500]).unwrap_or(100)),
            fetch_max_bytes: rng.choice([1, 300, 3_000, 50 << 20]).unwrap_or(1),
            request_timeout: seconds(rng, &[2, 10]),
            default_api_timeout: seconds(rng, &[5, 30, 60]),
            retry_backoff: Duration::from_millis(rng.choice([10, 100]).unwrap_or(10)),
            ..ShareConsumerConfig::default()
        }
    }

    fn subscribe(&self, life: &Life) -> Result<(), String> {
        let mut topics: Vec<String> = self.parts.iter().map(|part| part.topic_name()).collect();
        topics.dedup();
        let taken = life.consumer.subscribe(topics);
        taken.map_err(|error| format!("cannot subscribe: {error}"))
    }

    /// Uses the consumer until its time is up, and says how it is to end.
    async fn live(&mut self, life: &mut Life) -> Result<End, String> {
        loop {
            if self.stage.is_over() {
                return Ok(End::Closed);
            }
            if self.stage.is_calm() {
                self.calm_step(life).await?;
                continue;
            }
            match self.rng.u32(0..1000) {
                0..300 => self.poll(life).await?,
                300..450 => self.receive(life).await?,
                450..730 => self.acknowledge_some(life)?,
                730..770 => self.commit(life).await,
                770..800 => self.commit_async(life),
                800..960 => {
                    let work = Duration::from_millis(self.rng.u64(0..500));
                    tokio::time::sleep(work).await;
                }
                960..970 => {
                    // Somebody else may have what it has by then.
                    self.fault(FaultKind::ApplicationStalled);
                    tokio::time::sleep(self.lock.mul_f64(1.1)).await;
                }
                970..972 if life.max_poll_interval < Duration::from_secs(30) => {
                    self.fault(FaultKind::ApplicationStalled);
                    tokio::time::sleep(life.max_poll_interval.mul_f64(1.3)).await;
                }
                972..976 => self.leave_and_return(life).await?,
                976..980 => {
                    // What it forgets to acknowledge comes again.
                    let from = self.rng.usize(0..=life.held.len());
                    life.held.truncate(from);
                }
                980..985 => return Ok(End::Closed),
                985..990 => return Ok(End::Crashed),
                990..995 => return Ok(End::Dropped),
                _ => {
                    let _ = life.consumer.assignment();
                }
            }
        }
    }

    /// Reads and accepts, and keeps nothing from anybody.
    async fn calm_step(&mut self, life: &mut Life) -> Result<(), String> {
        self.poll(life).await?;
        for record in std::mem::take(&mut life.held) {
            self.say(life, record, AcknowledgeType::Accept)?;
        }
        Ok(())
    }

    async fn poll(&mut self, life: &mut Life) -> Result<(), String> {
        let member = life.member;
        self.tell(Event::Comes { member });
        let patience = Duration::from_millis(self.rng.u64(0..1_000));
        let polling = life.consumer.poll(patience);
        let polled = if self.rng.u32(0..8) == 0 {
            // Gives up on it, at some await or other.
            self.world.weather.faults().note(FaultKind::CallerCancelled);
            let short = Duration::from_millis(self.rng.u64(0..200));
            tokio::time::timeout(short, polling).await.ok()
        } else {
            self.world
                .history
                .timed(member, "poll", patience, polling)
                .await
        };
        match polled {
            None => Ok(()),
            Some(Err(error)) => self.heed(life, &error),
            Some(Ok(records)) => {
                let mut records = records.into_iter();
                records.try_for_each(|record| self.take(life, record))
            }
        }
    }

    async fn receive(&mut self, life: &mut Life) -> Result<(), String> {
        self.tell(Event::Comes {
            member: life.member,
        });
        let longest = if self.rng.u32(0..4) == 0 { 4_000 } else { 50 };
        let patience = Duration::from_millis(self.rng.u64(0..longest));
        match tokio::time::timeout(patience, life.consumer.recv()).await {
            Ok(Ok(record)) => self.take(life, record),
            Ok(Err(error)) => self.heed(life, &error),
            Err(_) => {
                self.world.weather.faults().note(FaultKind::CallerCancelled);
                Ok(())
            }
        }
    }

    fn take(&mut self, life: &mut Life, record: ShareRecord) -> Result<(), String> {
        let value = record.value().unwrap_or_default();
        let Some((id, _)) = crate::writer::read_value(value) else {
            return Err(format!("nobody wrote the value {value:?}"));
        };
        self.tell(Event::Gets {
            member: life.member,
            node: record.node(),
            part: part(&record)?,
            offset: record.offset(),
            id,
            count: record.delivery_count(),
        });
        if life.explicit {
            life.held.push(record);
        }
        Ok(())
    }

    /// Says something of some records that it has, in any order.
    fn acknowledge_some(&mut self, life: &mut Life) -> Result<(), String> {
        for _ in 0..self.rng.usize(1..=8) {
            if life.held.is_empty() {
                return Ok(());
            }
            let place = self.rng.usize(0..life.held.len());
            let record = life.held.swap_remove(place);
            let kind = match self.rng.u32(0..10) {
                0..6 => AcknowledgeType::Accept,
                6..8 => AcknowledgeType::Release,
                8 => AcknowledgeType::Reject,
                _ => AcknowledgeType::Renew,
            };
            if kind == AcknowledgeType::Renew {
                life.held.push(record.clone());
            }
            self.say(life, record, kind)?;
        }
        Ok(())
    }

    fn say(&self, life: &Life, record: ShareRecord, kind: AcknowledgeType) -> Result<(), String> {
        let (member, part) = (life.member, part(&record)?);
        let (offset, count) = (record.offset(), record.delivery_count());
        match life.consumer.acknowledge(&record, kind) {
            Ok(()) => self.tell(Event::Says {
                member,
                node: record.node(),
                part,
                offset,
                count,
                kind: kind as i8,
            }),
            Err(Error::NotHeld { .. }) => {
                let note = format!("m{member} has {part}@{offset}, delivery {count}, no longer");
                self.world.history.note(note);
            }
            Err(error) => return Err(format!("m{member} cannot acknowledge: {error}")),
        }
        Ok(())
    }

    async fn commit(&mut self, life: &Life) {
        let (member, number) = (life.member, self.world.history.new_number());
        self.tell(Event::Comes { member });
        self.tell(Event::Commits { member, number });
        let committing = life.consumer.commit();
        let outcome = if self.rng.u32(0..4) == 0 {
            self.world.weather.faults().note(FaultKind::CallerCancelled);
            let patience = Duration::from_millis(self.rng.u64(0..100));
            tokio::time::timeout(patience, committing).await.ok()
        } else {
            self.world
                .history
                .timed(member, "commit", life.api_timeout, committing)
                .await
        };
        if let Some(Ok(_)) = outcome {
            self.tell(Event::Committed { member, number });
        }
    }

    fn commit_async(&self, life: &Life) {
        self.tell(Event::Comes {
            member: life.member,
        });
        // It fails only once the consumer is closed.
        let _ = life.consumer.commit_async();
    }

    async fn leave_and_return(&mut self, life: &mut Life) -> Result<(), String> {
        self.tell(Event::GivesBack {
            member: life.member,
        });
        let left = life.consumer.unsubscribe();
        left.map_err(|error| format!("cannot unsubscribe: {error}"))?;
        let absence = Duration::from_millis(self.rng.u64(0..2_000));
        tokio::time::sleep(absence).await;
        self.subscribe(life)
    }

    fn heed(&self, life: &Life, error: &Error) -> Result<(), String> {
        self.world
            .history
            .note(format!("m{}: {error}", life.member));
        match error {
            Error::Unreadable { .. } | Error::ShareGroup { .. } | Error::Closed => {
                Err(format!("m{} meets what cannot be: {error}", life.member))
            }
            _ => Ok(()),
        }
    }

    async fn end(&mut self, life: Life, how: End) -> Result<(), String> {
        let (member, over) = (life.member, self.stage.is_over());
        let ended = |settled| Event::Ended {
            member,
            how,
            settled,
        };
        match how {
            End::Crashed => {
                self.fault(FaultKind::ClientCrashed);
                life.seat.die();
                self.tell(ended(false));
                drop(life);
            }
            End::Dropped => {
                self.fault(FaultKind::ClientDropped);
                self.tell(ended(false));
                drop(life.consumer);
                tokio::time::sleep(Duration::from_millis(self.rng.u64(0..2_000))).await;
                life.net.close().await;
            }
            End::Closed | End::Unsubscribed => {
                let patience = match over {
                    true => Duration::from_secs(60),
                    false => Duration::from_millis(self.rng.u64(0..10_000)),
                };
                let closing = life.consumer.close(patience);
                let closed = self
                    .world
                    .history
                    .timed(member, "close", patience, closing)
                    .await;
                self.tell(ended(matches!(closed, Some(Ok(())))));
                life.net.close().await;
                if over && let Some(Err(error)) = closed {
                    return Err(format!("close() failed in fair weather: {error}"));
                }
            }
        }
        Ok(())
    }

    fn fault(&self, kind: FaultKind) {
        self.world.weather.faults().note(kind);
        self.world.history.record(What::Fault(kind));
    }

    fn tell(&self, event: Event) {
        self.world.history.record(What::Shared(event));
    }
}

/// Tells the history what becomes of acknowledgements.
struct Listener {
    history: Arc<History>,
    member: Member,
}

impl AcknowledgeListener for Listener {
    fn acknowledged(&self, outcome: &AcknowledgeOutcome) {
        let name = &outcome.partition;
        let Some(part) = Part::named(&name.topic, name.partition) else {
            return;
        };
        let runs = outcome.offsets.iter();
        self.history.record(What::Shared(Event::Told {
            member: self.member,
            node: outcome.node,
            part,
            runs: runs.map(|run| (*run.start(), *run.end())).collect(),
            verdict: match &outcome.result {
                Ok(()) => Verdict::Stored,
                Err(Fault::Broker(error)) => Verdict::Refused(error.0),
                Err(_) => Verdict::Unknown,
            },
        }));
    }
}

fn part(record: &ShareRecord) -> Result<Part, String> {
    let name = record.topic_partition();
    let part = Part::named(&name.topic, name.partition);
    part.ok_or_else(|| format!("a record of {name}"))
}
