//! An application that reads: one consumer after the other, used in every way that is allowed, at random.
//!
//! It tells the history all that it does and gets, at the moment in which it happens. What it should have got is the
//! checker's to say.

mod calls;
mod goal;
mod listener;
mod meddle;
mod offers;
mod settings;
mod split;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use ottla_consumer::{Consumer, GroupProtocol, Offset, TopicPartition};
use tokio::task::JoinHandle;

pub(crate) use self::goal::Goal;
use self::listener::{Listener, Presence};
use self::offers::is_cooperative;
pub(crate) use self::settings::Mode;
use self::split::Split;
use crate::faults::FaultKind;
use crate::history::{ConsumerTerms, End, History, Member, Part, Start, Terms, What};
use crate::tap::Seat;
use crate::world::World;

/// A place for one consumer at a time.
pub(crate) struct Application {
    world: Arc<World>,
    slot: usize,
    mode: Mode,
    parts: Vec<Part>,
    goal: Arc<Goal>,
    rng: Rng,
    /// The group would not have it, because of others that are gone.
    refused: bool,
}

/// One consumer, and what it is called in the history.
struct Life {
    consumer: Consumer,
    member: Member,
    net: ottla_net::Cluster,
    seat: Arc<Seat>,
    meddler: Option<JoinHandle<()>>,
    terms: Terms,
    listener: Option<Arc<Listener>>,
    presence: Arc<Presence>,
    /// Whether it hands partitions to tasks, at times. Nobody else uses the consumer then.
    splits: bool,
    /// Split, and about to end.
    split: Option<Split>,
    max_poll_interval: Duration,
    api_timeout: Duration,
}

impl Application {
    pub(crate) fn new(
        world: Arc<World>,
        slot: usize,
        mode: Mode,
        parts: &[Part],
        goal: &Arc<Goal>,
        rng: Rng,
    ) -> Self {
        Self {
            world,
            slot,
            mode,
            parts: parts.to_vec(),
            goal: Arc::clone(goal),
            rng,
            refused: false,
        }
    }

    /// Reads until the goal says that it is enough.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        let first = Duration::from_millis(self.rng.u64(0..3_000));
        tokio::time::sleep(first).await;
        loop {
            let mut life = self.begin()?;
            let end = self.live(&mut life).await?;
            self.goal.forget(self.slot);
            self.end(life, end).await?;
            if self.goal.is_over() {
                return Ok(());
            }
            let longest = if self.goal.is_calm() { 100 } else { 8_000 };
            let absence = Duration::from_millis(self.rng.u64(0..longest));
            tokio::time::sleep(absence).await;
        }
    }

    fn begin(&mut self) -> Result<Life, String> {
        let (net, seat) = self.world.client()?;
        let mut config = self.mode.config(self.slot, &mut self.rng);
        let (max_poll_interval, api_timeout) =
            (config.max_poll_interval, config.default_api_timeout);
        let member = self.history().new_member();
        seat.be(member);
        let presence = Presence::new(max_poll_interval);
        let splits = self.mode.subscribes && self.rng.u32(0..3) == 0;
        let listens = self.mode.subscribes && self.rng.bool();
        let listener = listens.then(|| {
            Arc::new(Listener {
                world: Arc::clone(&self.world),
                goal: Arc::clone(&self.goal),
                member: AtomicU32::new(member),
                presence: Arc::clone(&presence),
                rng: Mutex::new(self.rng.fork()),
            })
        });
        config.rebalance_listener = listener.clone().map(|listener| listener as _);
        let by_brokers = config.group_protocol != GroupProtocol::Classic;
        let patience = config.session_timeout.min(max_poll_interval);
        let terms = Terms {
            cooperative: by_brokers || is_cooperative(&config.assignors),
            instance: self.mode.instance(self.slot),
            patience_ms: patience.as_millis() as u64,
            listens,
            consumer: by_brokers.then(|| ConsumerTerms {
                session_ms: self.world.consumer_session.as_millis() as u64,
                rebalance_ms: max_poll_interval.as_millis() as u64,
            }),
        };
        let consumer = Consumer::new(net.clone(), config).map_err(|error| error.to_string())?;
        let mut life = Life {
            consumer,
            member,
            net,
            seat,
            meddler: None,
            terms,
            listener,
            presence,
            splits,
            split: None,
            max_poll_interval,
            api_timeout,
        };
        self.take_up(&life)?;
        if !splits && self.rng.bool() {
            let meddler = meddle::Meddler {
                world: Arc::clone(&self.world),
                goal: Arc::clone(&self.goal),
                consumer: life.consumer.clone(),
                member,
                commits: self.mode.group_id().is_some(),
                rng: self.rng.fork(),
            };
            life.meddler = Some(tokio::spawn(meddler.run()));
        }
        Ok(life)
    }

    /// Subscribes or assigns.
    fn take_up(&mut self, life: &Life) -> Result<(), String> {
        let reset = self.mode.reset;
        if self.mode.subscribes {
            let mut topics: Vec<String> = self.parts.iter().map(|part| part.topic_name()).collect();
            topics.dedup();
            self.history().record(What::Subscribed {
                member: life.member,
                group: self.mode.group,
                reset,
                terms: life.terms,
            });
            let taken = life.consumer.subscribe(topics);
            return taken.map_err(|error| format!("cannot subscribe: {error}"));
        }
        // From where it goes: a commit of that may still be under way.
        self.positions(life);
        let mut taken = Vec::new();
        let mut starts = Vec::new();
        for part in self.parts.clone() {
            let (offset, start) = self.place(part);
            taken.push((name(part), offset));
            starts.push((part, start));
        }
        self.history().record(What::Assigned {
            member: life.member,
            group: self.mode.committing_group(),
            reset,
            starts,
        });
        let taken = life.consumer.assign(taken);
        taken.map_err(|error| format!("cannot assign: {error}"))
    }

    /// Somewhere to start.
    fn place(&mut self, part: Part) -> (Offset, Start) {
        let commits = self.mode.group_id().is_some();
        place(&self.world, part, commits, &mut self.rng)
    }

    /// Uses the consumer until its time is up, and says how it is to end.
    async fn live(&mut self, life: &mut Life) -> Result<End, String> {
        loop {
            if life.splits
                && self.rng.u32(0..20) == 0
                && let Some(end) = self.live_split(life).await?
            {
                return Ok(end);
            }
            if std::mem::take(&mut self.refused) {
                return Ok(End::Dropped);
            }
            if self.goal.is_over() {
                return Ok(End::Closed);
            }
            if self.goal.is_calm() {
                self.calm_step(life).await?;
                continue;
            }
            match self.rng.u32(0..1000) {
                0..400 => self.receive(life).await?,
                400..600 => self.poll(life).await?,
                600..700 => {
                    self.come(life);
                    let taken = life.consumer.try_recv();
                    self.take(life, taken.transpose())?;
                }
                700..730 => self.commit(life).await,
                730..760 => self.commit_async(life).await,
                760..790 => self.commit_offsets(life).await,
                790..820 => meddle::pause_or_resume(
                    &self.world.history,
                    &life.consumer,
                    life.member,
                    &mut self.rng,
                ),
                820..835 => {
                    let commits = self.mode.group_id().is_some();
                    meddle::seek(
                        &self.world,
                        &life.consumer,
                        life.member,
                        commits,
                        &mut self.rng,
                    );
                }
                835..870 => self.ask(life).await,
                870..960 => {
                    let work = Duration::from_millis(self.rng.u64(0..500));
                    tokio::time::sleep(work).await;
                }
                960..964 if life.max_poll_interval < Duration::from_secs(30) => {
                    self.fault(FaultKind::ApplicationStalled);
                    tokio::time::sleep(life.max_poll_interval.mul_f64(1.3)).await;
                }
                964..968 if !self.mode.subscribes => self.take_up(life)?,
                968..972 => return Ok(End::Unsubscribed),
                972..976 => return Ok(End::Closed),
                976..980 => return Ok(End::Crashed),
                980..984 => return Ok(End::Dropped),
                _ => self.positions(life),
            }
        }
    }

    /// Reads on, and does nothing that could keep anybody from reaching the end.
    async fn calm_step(&mut self, life: &Life) -> Result<(), String> {
        if let Some(meddler) = &life.meddler {
            meddler.abort();
        }
        resume_all(self.history(), &life.consumer, life.member);
        self.receive(life).await?;
        self.positions(life);
        let positions = positions(&life.consumer);
        self.goal.reached(self.slot, positions);
        Ok(())
    }

    async fn end(&mut self, mut life: Life, how: End) -> Result<(), String> {
        if let Some(meddler) = life.meddler.take() {
            meddler.abort();
            // It holds the consumer, too. An error is that it was aborted, or a panic that was printed.
            let _ = meddler.await;
        }
        let over = self.goal.is_over();
        let member = life.member;
        match how {
            End::Crashed => {
                self.fault(FaultKind::ClientCrashed);
                life.seat.die();
                self.history().record(What::Ended { member, how });
                drop(life);
            }
            End::Dropped => {
                self.fault(FaultKind::ClientDropped);
                self.history().record(What::Ended { member, how });
                // Those who read its partitions go with it.
                drop(life.split);
                drop(life.consumer);
                tokio::time::sleep(Duration::from_millis(self.rng.u64(0..2_000))).await;
                life.net.close().await;
            }
            End::Closed => {
                if over && self.mode.group_id().is_some() && life.split.is_none() {
                    self.last_commit(&life).await?;
                }
                let patience = match over {
                    true => Duration::from_secs(60),
                    false => Duration::from_millis(self.rng.u64(0..10_000)),
                };
                if life.split.is_none() {
                    self.history().record(What::Done { member });
                }
                self.history().record(What::Leaves { member });
                let closing = life.consumer.close(patience);
                let closed = self
                    .history()
                    .timed(member, "close", patience, closing)
                    .await;
                self.history().record(What::Ended { member, how });
                if let Some(split) = life.split {
                    split.ends().await?;
                }
                life.net.close().await;
                if over && let Some(Err(error)) = closed {
                    return Err(format!("close() failed in fair weather: {error}"));
                }
            }
            End::Unsubscribed => {
                if life.split.is_none() {
                    self.history().record(What::Done { member });
                }
                self.history().record(What::Leaves { member });
                if self.rng.u32(0..4) == 0 {
                    self.fault(FaultKind::CallerCancelled);
                    let patience = Duration::from_millis(self.rng.u64(0..100));
                    let _ = tokio::time::timeout(patience, life.consumer.unsubscribe()).await;
                }
                let leaving = life.consumer.unsubscribe();
                self.history()
                    .timed(member, "unsubscribe", life.api_timeout, leaving)
                    .await;
                self.history().record(What::Ended { member, how });
                if let Some(split) = life.split.take() {
                    split.ends().await?;
                    life.presence.set_split(false);
                }
                // The same consumer goes on as another member.
                let assigned = life.consumer.assignment();
                if !assigned.is_empty() {
                    return Err(format!("m{member} has {assigned:?} after unsubscribe()"));
                }
                life.member = self.history().new_member();
                life.seat.be(life.member);
                if let Some(listener) = &life.listener {
                    listener.member.store(life.member, Ordering::Relaxed);
                }
                self.take_up(&life)?;
                let how = Box::pin(self.live(&mut life)).await?;
                self.goal.forget(self.slot);
                // Not for ever.
                let how = match how {
                    End::Unsubscribed => End::Dropped,
                    how => how,
                };
                Box::pin(self.end(life, how)).await?;
            }
        }
        Ok(())
    }

    fn fault(&self, kind: FaultKind) {
        self.world.weather.faults().note(kind);
        self.history().record(What::Fault(kind));
    }

    fn history(&self) -> &Arc<History> {
        &self.world.history
    }
}

/// A place in a partition's log, as one asks for it and as the checker is told.
fn place(world: &World, part: Part, commits: bool, rng: &mut Rng) -> (Offset, Start) {
    let (start, end) = world.bounds(part);
    match rng.u32(0..8) {
        0 => (Offset::Beginning, Start::Beginning(start)),
        1 => (Offset::End, Start::End(end)),
        2 => {
            let count = rng.u64(0..20);
            (Offset::Tail(count), Start::Tail(count, end))
        }
        3 => {
            let now = world.history.now_ms() as i64;
            let time = rng.i64(0..=now);
            (Offset::Timestamp(time), Start::Time(time, end))
        }
        4 | 5 if commits => (Offset::Committed, Start::Committed),
        _ => {
            let offset = rng.i64(start..=end);
            (Offset::At(offset), Start::At(offset))
        }
    }
}

fn name(part: Part) -> TopicPartition {
    TopicPartition::new(part.topic_name(), part.partition)
}

fn part(name: &TopicPartition) -> Option<Part> {
    Part::named(&name.topic, name.partition)
}

/// What is assigned, sorted.
fn assignment(consumer: &Consumer) -> Vec<Part> {
    let assigned = consumer.assignment();
    let mut parts: Vec<Part> = assigned.iter().filter_map(part).collect();
    parts.sort_unstable();
    parts
}

fn positions(consumer: &Consumer) -> Vec<(Part, i64)> {
    let parts = assignment(consumer).into_iter();
    parts
        .filter_map(|part| Some((part, consumer.position(&name(part)).ok()??)))
        .collect()
}

fn resume_all(history: &History, consumer: &Consumer, member: Member) {
    let paused = consumer.paused();
    if consumer.resume(&paused).is_ok() {
        for part in paused.iter().filter_map(part) {
            history.record(What::Resumed { member, part });
        }
    }
}

fn tell_positions(history: &History, consumer: &Consumer, member: Member) {
    for (part, offset) in positions(consumer) {
        history.record(What::Position {
            member,
            part,
            offset,
        });
    }
}
