//! An application that hands each partition to a task of its own: it splits its consumer, and takes the streams as they
//! come.
//!
//! Each task reads its partition in its own time, commits for it alone, and may die with records in its hands, which come
//! again. It tells the history what it is done with partition by partition: the others are not concerned.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use fastrand::Rng;
use ottla_consumer::{Error, Offset, PartitionStream, PartitionStreams, Record, StreamEnd};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::calls::SETTLING_TURNS;
use super::listener::Presence;
use super::{Application, Goal, Life, part, positions, resume_all};
use crate::faults::FaultKind;
use crate::history::{End, Member, Part, Start, What};
use crate::world::World;

/// A consumer that is split, and those who read its partitions.
pub(super) struct Split {
    partitions: PartitionStreams,
    readers: JoinSet<Result<(), String>>,
    /// The readers are to end.
    over: Arc<AtomicBool>,
}

impl Split {
    /// Ends the streams, and waits for their readers.
    async fn join(self) -> Result<(), String> {
        let Self {
            partitions,
            mut readers,
            over,
        } = self;
        over.store(true, Ordering::Relaxed);
        drop(partitions);
        while let Some(ended) = readers.join_next().await {
            told(ended)?;
        }
        Ok(())
    }

    /// After the consumer was closed, or left its group: its streams have ended.
    pub(super) async fn ends(self) -> Result<(), String> {
        let joined = tokio::time::timeout(READERS_PATIENCE, self.join()).await;
        joined.unwrap_or_else(|_| {
            Err(format!(
                "readers of a consumer that is closed, or has left, go on for {READERS_PATIENCE:?}"
            ))
        })
    }
}

impl Application {
    /// Reads by partition until its time is up, and says how it is to end: or that it is whole again.
    pub(super) async fn live_split(&mut self, life: &mut Life) -> Result<Option<End>, String> {
        // Whoever splits is done with what it was handed before.
        self.come(life);
        let partitions = life.consumer.split();
        let mut split = Split {
            partitions: partitions.map_err(|error| format!("cannot split: {error}"))?,
            readers: JoinSet::new(),
            over: Arc::default(),
        };
        life.presence.set_split(true);
        let end = self.read_split(life, &mut split).await?;
        if end.is_none() {
            split.join().await?;
            life.presence.set_split(false);
        } else {
            life.split = Some(split);
        }
        Ok(end)
    }

    async fn read_split(&mut self, life: &Life, split: &mut Split) -> Result<Option<End>, String> {
        loop {
            life.presence.come();
            if std::mem::take(&mut self.refused) {
                return Ok(Some(End::Dropped));
            }
            if self.goal.is_over() {
                // They commit what they have read, and go.
                while let Some(ended) = split.readers.join_next().await {
                    told(ended)?;
                }
                return Ok(Some(End::Closed));
            }
            let pause = Duration::from_millis(self.rng.u64(0..1_000));
            tokio::select! {
                biased;
                Some(ended) = split.readers.join_next() => {
                    told(ended)?;
                    continue;
                }
                next = split.partitions.next_partition() => {
                    match next {
                        Ok(stream) => self.hand_on(life, split, stream)?,
                        Err(error) => {
                            self.heed(life, &error)?;
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                    continue;
                }
                () = tokio::time::sleep(pause) => {}
            }
            if self.goal.is_calm() {
                resume_all(&self.world.history, &life.consumer, life.member);
                self.positions(life);
                self.goal.reached(self.slot, positions(&life.consumer));
                continue;
            }
            match self.rng.u32(0..1000) {
                // What its readers are done with.
                0..60 => self.commit_of_all(life).await,
                60..100 => self.ask(life).await,
                100..200 => self.positions(life),
                200..206 if life.max_poll_interval < Duration::from_secs(30) => {
                    // Nobody takes what comes.
                    self.fault(FaultKind::ApplicationStalled);
                    tokio::time::sleep(life.max_poll_interval.mul_f64(1.3)).await;
                }
                210..220 => return Ok(None),
                220..228 => return Ok(Some(End::Unsubscribed)),
                228..236 => return Ok(Some(End::Closed)),
                236..244 => return Ok(Some(End::Crashed)),
                244..252 => return Ok(Some(End::Dropped)),
                _ => {}
            }
        }
    }

    fn hand_on(
        &mut self,
        life: &Life,
        split: &mut Split,
        stream: PartitionStream,
    ) -> Result<(), String> {
        let name = stream.topic_partition();
        let part = part(name).ok_or_else(|| format!("a stream of {name}"))?;
        let reader = Reader {
            world: Arc::clone(&self.world),
            goal: Arc::clone(&self.goal),
            over: Arc::clone(&split.over),
            member: life.member,
            part,
            stream: Some(stream),
            presence: Arc::clone(&life.presence),
            number: life.presence.new_number(),
            max_poll_interval: life.max_poll_interval,
            api_timeout: life.api_timeout,
            rng: self.rng.fork(),
        };
        split.readers.spawn(reader.run());
        Ok(())
    }

    async fn commit_of_all(&mut self, life: &Life) {
        // Where nothing was read, that is where it was sent.
        self.positions(life);
        let committing = life.consumer.commit();
        self.history()
            .timed(life.member, "commit", life.api_timeout, committing)
            .await;
    }
}

fn told(ended: Result<Result<(), String>, tokio::task::JoinError>) -> Result<(), String> {
    ended.map_err(|error| format!("the reader of a partition panicked: {error}"))?
}

/// The task of one partition.
struct Reader {
    world: Arc<World>,
    goal: Arc<Goal>,
    over: Arc<AtomicBool>,
    member: Member,
    part: Part,
    /// Until it is let go of.
    stream: Option<PartitionStream>,
    presence: Arc<Presence>,
    /// Its own among those that have to come for records.
    number: u64,
    max_poll_interval: Duration,
    api_timeout: Duration,
    rng: Rng,
}

/// Whether a reader goes on.
#[derive(PartialEq, Eq)]
enum Then {
    On,
    Ended,
}

impl Reader {
    async fn run(mut self) -> Result<(), String> {
        let Some(mut stream) = self.stream.take() else {
            return Ok(());
        };
        let outcome = self.read(&mut stream).await;
        // What was not asked for more after, and not committed, comes again. Of what is lost nothing comes, and another
        // reader may have it by now.
        if has_partition(&stream) {
            self.world.history.record(What::GivenBack {
                member: self.member,
                part: self.part,
            });
        }
        drop(stream);
        self.presence.gone(self.number);
        outcome
    }

    async fn read(&mut self, stream: &mut PartitionStream) -> Result<(), String> {
        loop {
            if self.goal.is_over() {
                return self.last_commit(stream).await;
            }
            let choice = match self.goal.is_calm() {
                true => 0,
                false => self.rng.u32(0..1000),
            };
            let then = match choice {
                0..550 => self.receive(stream).await?,
                550..700 => self.receive_batch(stream).await?,
                700..760 => {
                    self.commit(stream).await;
                    Then::On
                }
                760..940 => {
                    let work = Duration::from_millis(self.rng.u64(0..500));
                    tokio::time::sleep(work).await;
                    Then::On
                }
                940..942 if self.max_poll_interval < Duration::from_secs(30) => {
                    self.world
                        .history
                        .record(What::Fault(FaultKind::ApplicationStalled));
                    let faults = self.world.weather.faults();
                    faults.note(FaultKind::ApplicationStalled);
                    tokio::time::sleep(self.max_poll_interval.mul_f64(1.3)).await;
                    Then::On
                }
                942..950 => {
                    // It dies with what it has in its hands.
                    return Ok(());
                }
                950..955 => {
                    self.done(stream);
                    stream.mark_processed();
                    return Ok(());
                }
                _ => {
                    self.position(stream);
                    Then::On
                }
            };
            if then == Then::Ended || self.over.load(Ordering::Relaxed) && stream.end().is_some() {
                break;
            }
        }
        // The partition is this task's until the stream is dropped.
        if !self.goal.is_calm() && self.rng.u32(0..3) == 0 {
            let work = Duration::from_millis(self.rng.u64(0..600));
            tokio::time::sleep(work).await;
        }
        if self.rng.bool() {
            self.commit(stream).await;
        }
        Ok(())
    }

    async fn receive(&mut self, stream: &mut PartitionStream) -> Result<Then, String> {
        self.come(stream);
        let longest = if self.rng.u32(0..4) == 0 { 4_000 } else { 50 };
        let patience = Duration::from_millis(self.rng.u64(0..longest));
        let taken = if_woken(patience, stream.recv()).await;
        self.presence.come_as(self.number);
        if let Some(taken) = taken {
            return self.take(stream, taken);
        }
        let asked_anew = {
            let mut receiving = pin!(stream.recv());
            poll_fn(|context| Poll::Ready(receiving.as_mut().poll(context))).await
        };
        if let Poll::Ready(taken) = asked_anew {
            let (member, part) = (self.member, self.part);
            self.world.history.record(What::Overslept { member, part });
            return self.take(stream, taken);
        }
        self.world.weather.faults().note(FaultKind::CallerCancelled);
        Ok(Then::On)
    }

    async fn receive_batch(&mut self, stream: &mut PartitionStream) -> Result<Then, String> {
        self.come(stream);
        let patience = Duration::from_millis(self.rng.u64(0..1_000));
        let Ok(taken) = tokio::time::timeout(patience, stream.next_batch()).await else {
            self.world.weather.faults().note(FaultKind::CallerCancelled);
            return Ok(Then::On);
        };
        match taken {
            Ok(None) => Ok(Then::Ended),
            Err(error) => self.heed(stream, &error),
            Ok(Some(batch)) => {
                for record in batch {
                    match record {
                        Ok(record) => self.got(stream, &record)?,
                        Err(error) => return self.heed(stream, &error),
                    }
                }
                Ok(Then::On)
            }
        }
    }

    fn take(
        &self,
        stream: &mut PartitionStream,
        taken: Result<Option<Record>, Error>,
    ) -> Result<Then, String> {
        match taken {
            Ok(None) => Ok(Then::Ended),
            Ok(Some(record)) => {
                self.got(stream, &record)?;
                Ok(Then::On)
            }
            Err(error) => self.heed(stream, &error),
        }
    }

    fn got(&self, stream: &PartitionStream, record: &Record) -> Result<(), String> {
        let value = record.value().unwrap_or_default();
        let Some((id, _)) = crate::writer::read_value(value) else {
            return Err(format!("nobody wrote the value {value:?}"));
        };
        if part(record.topic_partition()) != Some(self.part) {
            let of = record.topic_partition();
            return Err(format!("the stream of {} has a record of {of}", self.part));
        }
        let metadata = stream.group_metadata();
        self.world.history.record(What::Delivered {
            member: self.member,
            generation: metadata.map_or(-1, |metadata| metadata.generation_id),
            part: self.part,
            offset: record.offset(),
            id,
        });
        Ok(())
    }

    fn heed(&self, stream: &mut PartitionStream, error: &Error) -> Result<Then, String> {
        let (member, part) = (self.member, self.part);
        let history = &self.world.history;
        history.note(format!("m{member}, {part}: {error}"));
        match error {
            Error::NoOffset { .. } | Error::OffsetOutOfRange { .. } => {
                let start = self.world.bounds(part).0;
                // Not its partition any more: nothing to heed.
                if stream.seek(Offset::Beginning).is_ok() {
                    let to = Start::Beginning(start);
                    history.record(What::Sought { member, part, to });
                }
                Ok(Then::On)
            }
            Error::Unreadable { .. }
            | Error::Group { .. }
            | Error::Closed
            | Error::LogTruncated { .. } => Err(format!("m{member} meets what cannot be: {error}")),
            _ => Ok(Then::On),
        }
    }

    /// Commits for its partition alone. Whether that is acknowledged. To wait for it is not to come for records.
    async fn commit(&mut self, stream: &mut PartitionStream) -> bool {
        self.come(stream);
        let number = self.commit_called(stream);
        let (member, history) = (self.member, &self.world.history);
        let committing = stream.commit();
        let outcome = if self.rng.u32(0..4) == 0 && !self.goal.is_calm() {
            self.world.weather.faults().note(FaultKind::CallerCancelled);
            let patience = Duration::from_millis(self.rng.u64(0..100));
            tokio::time::timeout(patience, committing).await.ok()
        } else {
            history
                .timed(member, "commit", self.api_timeout, committing)
                .await
        };
        let acked = matches!(outcome, Some(Ok(())));
        if acked {
            history.record(What::CommitAcked { member, number });
        }
        acked
    }

    /// In fair weather a commit works.
    async fn last_commit(&mut self, stream: &mut PartitionStream) -> Result<(), String> {
        let deadline = Instant::now() + LAST_COMMIT_PATIENCE;
        while stream.end().is_none() && !self.commit(stream).await {
            // Others leave at the same time: the group rebalances.
            if Instant::now() > deadline {
                let (member, part) = (self.member, self.part);
                return Err(format!("m{member} cannot commit {part} in fair weather"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    fn commit_called(&self, stream: &PartitionStream) -> u64 {
        let number = self.world.history.new_number();
        let place = stream.position().filter(|_| has_partition(stream));
        let place = place.map(|offset| (self.part, offset));
        self.world.history.record(What::CommitCalled {
            member: self.member,
            number,
            positions: place.into_iter().collect(),
        });
        number
    }

    /// It comes for more, or commits: it is done with what this stream has handed out.
    fn come(&self, stream: &PartitionStream) {
        self.presence.come_as(self.number);
        self.done(stream);
    }

    /// Of what it has lost another reader of the same consumer may have something in its hands.
    fn done(&self, stream: &PartitionStream) {
        if has_partition(stream) {
            self.world.history.record(What::DoneOf {
                member: self.member,
                part: self.part,
            });
        }
    }

    fn position(&self, stream: &PartitionStream) {
        if let Some(offset) = stream.position().filter(|_| has_partition(stream)) {
            self.world.history.record(What::Position {
                member: self.member,
                part: self.part,
                offset,
            });
        }
    }
}

/// Whether nobody else can have the partition: not another reader of this very consumer, either.
fn has_partition(stream: &PartitionStream) -> bool {
    !matches!(stream.end(), Some(StreamEnd::Lost | StreamEnd::Unassigned))
}

/// What came of it in that time; nothing unless it says itself that there is something, as those rely on who sleep.
async fn if_woken<T>(patience: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let bell = Arc::new(Bell::default());
    bell.rung.store(true, Ordering::Relaxed);
    let waker = Waker::from(Arc::clone(&bell));
    let mut look = || match bell.rung.swap(false, Ordering::Relaxed) {
        true => future.as_mut().poll(&mut Context::from_waker(&waker)),
        false => Poll::Pending,
    };
    let mut time_is_up = pin!(tokio::time::sleep(patience));
    let taken = poll_fn(|context| {
        *bell.sleeper() = Some(context.waker().clone());
        match look() {
            Poll::Ready(taken) => Poll::Ready(Some(taken)),
            Poll::Pending => time_is_up.as_mut().poll(context).map(|()| None),
        }
    });
    let mut taken = taken.await;
    // Whatever happened in this instant must have reached it by the time everybody else has had their turn.
    for _ in 0..SETTLING_TURNS {
        if taken.is_some() {
            break;
        }
        tokio::task::yield_now().await;
        if let Poll::Ready(late) = look() {
            taken = Some(late);
        }
    }
    taken
}

/// Wakes a sleeper, and remembers that.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    sleeper: Mutex<Option<Waker>>,
}

impl Bell {
    fn sleeper(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing panics while it is held.
        self.sleeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Relaxed);
        if let Some(sleeper) = self.sleeper().take() {
            sleeper.wake();
        }
    }
}

/// How long readers may take to end once their streams have ended: work, and a commit.
const READERS_PATIENCE: Duration = Duration::from_secs(180);

/// How long a commit may fail in fair weather.
const LAST_COMMIT_PATIENCE: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_wakes_nobody_is_not_seen() {
        let ready = AtomicBool::new(false);
        let silent = || {
            poll_fn(|_| match ready.load(Ordering::Relaxed) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
        };
        let soon = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            ready.store(true, Ordering::Relaxed);
        };
        let patience = Duration::from_millis(10);
        let (taken, ()) = tokio::join!(if_woken(patience, silent()), soon);
        assert_eq!(taken, None);
        // What is there from the start is, and so is what says that it is there.
        assert_eq!(if_woken(patience, silent()).await, Some(()));
        let loud = tokio::time::sleep(Duration::from_millis(5));
        assert_eq!(if_woken(patience, loud).await, Some(()));
        // Also what does so in the very instant in which the time is up.
        let loud = tokio::time::sleep(patience);
        assert_eq!(if_woken(patience, loud).await, Some(()));
    }
}
