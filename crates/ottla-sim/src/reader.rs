//! An application that reads: one consumer after the other, used in every way that is allowed, at random.
//!
//! It tells the history all that it does and gets, at the moment in which it happens. What it should have got is the
//! checker's to say.

mod goal;
mod meddle;
mod settings;

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use fastrand::Rng;
use ottla_consumer::{CommittedOffset, Consumer, Error, Offset, Record, TopicPartition};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) use self::goal::Goal;
pub(crate) use self::settings::Mode;
use crate::faults::FaultKind;
use crate::history::{End, History, Member, Part, Start, What};
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
}

/// One consumer, and what it is called in the history.
struct Life {
    consumer: Consumer,
    member: Member,
    net: ottla_net::Cluster,
    seat: Arc<Seat>,
    meddler: Option<JoinHandle<()>>,
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
        }
    }

    /// Reads until the goal says that it is enough.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        let first = Duration::from_millis(self.rng.u64(0..3_000));
        tokio::time::sleep(first).await;
        loop {
            let life = self.begin()?;
            let end = self.live(&life).await?;
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
        let config = self.mode.config(&mut self.rng);
        let (max_poll_interval, api_timeout) =
            (config.max_poll_interval, config.default_api_timeout);
        let member = self.history().new_member();
        seat.be(member);
        let consumer = Consumer::new(net.clone(), config).map_err(|error| error.to_string())?;
        let mut life = Life {
            consumer,
            member,
            net,
            seat,
            meddler: None,
            max_poll_interval,
            api_timeout,
        };
        self.take_up(&life)?;
        if self.rng.bool() {
            let meddler = meddle::Meddler::new(
                Arc::clone(&self.world),
                Arc::clone(&self.goal),
                life.consumer.clone(),
                member,
                self.mode.clone(),
                self.rng.fork(),
            );
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
    async fn live(&mut self, life: &Life) -> Result<End, String> {
        loop {
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
        let paused = life.consumer.paused();
        if life.consumer.resume(&paused).is_ok() {
            for part in paused.iter().filter_map(part) {
                self.history().record(What::Resumed {
                    member: life.member,
                    part,
                });
            }
        }
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
                drop(life.consumer);
                tokio::time::sleep(Duration::from_millis(self.rng.u64(0..2_000))).await;
                life.net.close().await;
            }
            End::Closed => {
                if over && self.mode.group_id().is_some() {
                    self.last_commit(&life).await?;
                }
                let patience = match over {
                    true => Duration::from_secs(60),
                    false => Duration::from_millis(self.rng.u64(0..10_000)),
                };
                self.history().record(What::Done { member });
                let closing = life.consumer.close(patience);
                let closed = self.timed(member, "close", patience, closing).await;
                self.history().record(What::Ended { member, how });
                life.net.close().await;
                if over && let Some(Err(error)) = closed {
                    return Err(format!("close() failed in fair weather: {error}"));
                }
            }
            End::Unsubscribed => {
                self.history().record(What::Done { member });
                if self.rng.u32(0..4) == 0 {
                    self.fault(FaultKind::CallerCancelled);
                    let patience = Duration::from_millis(self.rng.u64(0..100));
                    let _ = tokio::time::timeout(patience, life.consumer.unsubscribe()).await;
                }
                let leaving = life.consumer.unsubscribe();
                self.timed(member, "unsubscribe", life.api_timeout, leaving)
                    .await;
                self.history().record(What::Ended { member, how });
                // The same consumer goes on as another member.
                let assigned = life.consumer.assignment();
                if !assigned.is_empty() {
                    return Err(format!("m{member} has {assigned:?} after unsubscribe()"));
                }
                life.member = self.history().new_member();
                life.seat.be(life.member);
                self.take_up(&life)?;
                let how = Box::pin(self.live(&life)).await?;
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

    /// In fair weather a commit works.
    async fn last_commit(&self, life: &Life) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let number = self.history().new_number();
            let member = life.member;
            self.history().record(What::Done { member });
            self.commit_called(&life.consumer, member, number);
            let error = match life.consumer.commit().await {
                Ok(()) => {
                    self.history().record(What::CommitAcked { member, number });
                    return Ok(());
                }
                Err(error) => error,
            };
            // Others leave at the same time: the group rebalances, and new positions have to be found out.
            if Instant::now() > deadline {
                return Err(format!("commit() fails in fair weather: {error}"));
            }
            self.history().note(format!("m{member}: {error}"));
            let _ = tokio::time::timeout(
                Duration::from_secs(1),
                life.consumer.poll(Duration::from_secs(1)),
            )
            .await;
        }
    }

    async fn receive(&mut self, life: &Life) -> Result<(), String> {
        self.come(life);
        let longest = if self.rng.u32(0..4) == 0 { 4_000 } else { 50 };
        let patience = Duration::from_millis(self.rng.u64(0..longest));
        let mut receiving = pin!(life.consumer.recv());
        if let Ok(taken) = tokio::time::timeout(patience, &mut receiving).await {
            return self.take(life, Some(taken));
        }
        // Whatever happened in this instant must have reached it by the time everybody else has had their turn.
        for _ in 0..SETTLING_TURNS {
            tokio::task::yield_now().await;
            let polled =
                std::future::poll_fn(|context| Poll::Ready(receiving.as_mut().poll(context)));
            if let Poll::Ready(taken) = polled.await {
                return self.take(life, Some(taken));
            }
        }
        if let Some(taken) = life.consumer.try_recv().transpose() {
            if let Ok(record) = &taken
                && let Some(part) = part(record.topic_partition())
            {
                self.history().record(What::Overslept {
                    member: life.member,
                    part,
                });
            }
            return self.take(life, Some(taken));
        }
        self.world.weather.faults().note(FaultKind::CallerCancelled);
        Ok(())
    }

    async fn poll(&mut self, life: &Life) -> Result<(), String> {
        self.come(life);
        let patience = Duration::from_millis(self.rng.u64(0..1_000));
        let max = self.rng.choice([1, 2, 50, usize::MAX]).unwrap_or(1);
        let polling = life.consumer.poll_max(max, patience);
        let polled = if self.rng.u32(0..8) == 0 {
            // Gives up on it, at some await or other.
            let short = Duration::from_millis(self.rng.u64(0..200));
            self.world.weather.faults().note(FaultKind::CallerCancelled);
            match tokio::time::timeout(short, polling).await {
                Ok(polled) => polled,
                Err(_) => return Ok(()),
            }
        } else {
            match self.timed(life.member, "poll", patience, polling).await {
                Some(polled) => polled,
                None => return Ok(()),
            }
        };
        let batches = match polled {
            Ok(batches) => batches,
            Err(error) => return self.heed(life, &error),
        };
        for record in batches.into_iter().flatten() {
            self.take(life, Some(record))?;
        }
        Ok(())
    }

    async fn commit(&mut self, life: &Life) {
        if self.mode.group_id().is_none() {
            return;
        }
        let (member, number) = (life.member, self.history().new_number());
        self.history().record(What::Done { member });
        self.commit_called(&life.consumer, member, number);
        let committing = life.consumer.commit();
        let outcome = if self.rng.u32(0..4) == 0 {
            let patience = Duration::from_millis(self.rng.u64(0..100));
            self.world.weather.faults().note(FaultKind::CallerCancelled);
            tokio::time::timeout(patience, committing).await.ok()
        } else {
            self.timed(member, "commit", life.api_timeout, committing)
                .await
        };
        if let Some(Ok(())) = outcome {
            self.history().record(What::CommitAcked { member, number });
        }
    }

    async fn commit_async(&mut self, life: &Life) {
        if self.mode.group_id().is_none() {
            return;
        }
        let (member, number) = (life.member, self.history().new_number());
        self.history().record(What::Done { member });
        self.commit_called(&life.consumer, member, number);
        let Ok(committing) = life.consumer.commit_async() else {
            return;
        };
        if self.rng.bool() {
            let history = Arc::clone(self.history());
            // It goes on by itself, and outlives the consumer if it must.
            tokio::spawn(async move {
                if committing.await.is_ok() {
                    history.record(What::CommitAcked { member, number });
                }
            });
        }
    }

    /// Commits what it got of one partition, itself.
    async fn commit_offsets(&mut self, life: &Life) {
        if self.mode.group_id().is_none() {
            return;
        }
        let member = life.member;
        self.positions(life);
        let positions = positions(&life.consumer);
        let Some((part, offset)) = self.rng.choice(positions) else {
            return;
        };
        self.history().record(What::Done { member });
        let offset = CommittedOffset::from(offset);
        let committing = life.consumer.commit_offsets([(name(part), offset)]);
        self.timed(member, "commit_offsets", life.api_timeout, committing)
            .await;
    }

    /// Questions whose answers nothing depends on: they must end, and disturb nobody.
    async fn ask(&mut self, life: &Life) {
        let Some(part) = self.rng.choice(&self.parts).copied() else {
            return;
        };
        let names = [name(part)];
        let (member, timeout) = (life.member, life.api_timeout);
        match self.rng.u32(0..3) {
            0 => {
                let asking = life.consumer.end_offsets(&names);
                self.timed(member, "end_offsets", timeout, asking).await;
            }
            1 => {
                let asking = life.consumer.beginning_offsets(&names);
                self.timed(member, "beginning_offsets", timeout, asking)
                    .await;
            }
            _ => {
                let time = self.history().now_ms() as i64 / 2;
                let asking = life.consumer.offsets_for_times([(name(part), time)]);
                self.timed(member, "offsets_for_times", timeout, asking)
                    .await;
            }
        }
    }

    fn positions(&self, life: &Life) {
        tell_positions(self.history(), &life.consumer, life.member);
    }

    /// It comes for records, and is done with those it has.
    fn come(&self, life: &Life) {
        self.history().record(What::Done {
            member: life.member,
        });
    }

    fn take(&mut self, life: &Life, taken: Option<Result<Record, Error>>) -> Result<(), String> {
        match taken {
            None => Ok(()),
            Some(Err(error)) => self.heed(life, &error),
            Some(Ok(record)) => {
                let metadata = life.consumer.group_metadata();
                let generation = metadata.map_or(-1, |metadata| metadata.generation_id);
                let value = record.value().unwrap_or_default();
                let Some((id, _)) = crate::writer::read_value(value) else {
                    return Err(format!("nobody wrote the value {value:?}"));
                };
                let Some(part) = part(record.topic_partition()) else {
                    return Err(format!("a record of {}", record.topic_partition()));
                };
                self.history().record(What::Delivered {
                    member: life.member,
                    generation: if self.mode.subscribes { generation } else { -1 },
                    part,
                    offset: record.offset(),
                    id,
                });
                Ok(())
            }
        }
    }

    fn heed(&mut self, life: &Life, error: &Error) -> Result<(), String> {
        self.history().note(format!("m{}: {error}", life.member));
        match error {
            Error::NoOffset { partition } | Error::OffsetOutOfRange { partition, .. } => {
                if let Some(part) = part(partition) {
                    let start = self.world.bounds(part).0;
                    // Not assigned any more: nothing to heed.
                    if life.consumer.seek(partition, Offset::Beginning).is_ok() {
                        self.history().record(What::Sought {
                            member: life.member,
                            part,
                            to: Start::Beginning(start),
                        });
                    }
                }
                Ok(())
            }
            Error::Unreadable { .. }
            | Error::Group { .. }
            | Error::Closed
            | Error::LogTruncated { .. } => {
                Err(format!("m{} meets what cannot be: {error}", life.member))
            }
            _ => Ok(()),
        }
    }

    fn commit_called(&self, consumer: &Consumer, member: Member, number: u64) {
        let positions = positions(consumer);
        self.history().record(What::CommitCalled {
            member,
            number,
            positions,
        });
    }

    /// Waits for a call, and somewhat longer than it is allowed to take.
    async fn timed<T>(
        &self,
        member: Member,
        call: &'static str,
        allowed: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let started = Instant::now();
        let outcome = tokio::time::timeout(allowed + OVERTIME, future).await;
        self.history().record(What::Called {
            member,
            name: call,
            took_ms: started.elapsed().as_millis() as u64,
            allowed_ms: allowed.as_millis() as u64,
        });
        outcome.ok()
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

fn tell_positions(history: &History, consumer: &Consumer, member: Member) {
    for (part, offset) in positions(consumer) {
        history.record(What::Position {
            member,
            part,
            offset,
        });
    }
}

/// How long a call is waited for beyond its deadline.
const OVERTIME: Duration = Duration::from_secs(30);

/// So often everybody else has a turn before somebody who waits for records must have been woken.
const SETTLING_TURNS: usize = 64;
