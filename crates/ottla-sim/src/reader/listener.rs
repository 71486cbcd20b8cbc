//! A rebalance listener as an application may have one: it tells the history what it hears, and commits, seeks and takes
//! its time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use ottla_consumer::{Consumer, ListenerFuture, RebalanceListener, TopicPartition};
use tokio::time::Instant;

use super::{Goal, name, part, place, positions, tell_positions};
use crate::history::{Member, News, Part, What};
use crate::world::World;

/// Whether the application comes for records as often as it must. One that stays away loses its partitions.
#[derive(Debug)]
pub(super) struct Presence {
    max_poll_interval: Duration,
    seen: Mutex<Seen>,
    /// What the application is done with is for those to say who read its partitions.
    split: AtomicBool,
}

#[derive(Debug)]
struct Seen {
    /// When whoever has to come for records came last: the application itself, under 0, and those it has handed a partition.
    last: BTreeMap<u64, Instant>,
    numbers: u64,
    /// It was away for too long since this was last looked at.
    stayed_away: bool,
}

impl Presence {
    pub(super) fn new(max_poll_interval: Duration) -> Arc<Self> {
        let seen = Mutex::new(Seen {
            last: BTreeMap::from([(0, Instant::now())]),
            numbers: 0,
            stayed_away: false,
        });
        Arc::new(Self {
            max_poll_interval,
            seen,
            split: AtomicBool::new(false),
        })
    }

    fn is_split(&self) -> bool {
        self.split.load(Ordering::Relaxed)
    }

    pub(super) fn set_split(&self, split: bool) {
        self.split.store(split, Ordering::Relaxed);
    }

    /// The application comes for records.
    pub(super) fn come(&self) {
        self.come_as(0);
    }

    /// Somebody who reads one partition comes for more of it, and is there from now on.
    pub(super) fn come_as(&self, number: u64) {
        let now = Instant::now();
        let mut seen = lock(&self.seen);
        let before = seen.last.insert(number, now).unwrap_or(now);
        seen.stayed_away |= now.duration_since(before) >= self.max_poll_interval;
    }

    /// A number for somebody who reads one partition.
    pub(super) fn new_number(&self) -> u64 {
        let number = {
            let mut seen = lock(&self.seen);
            seen.numbers += 1;
            seen.numbers
        };
        self.come_as(number);
        number
    }

    /// It has let go of its partition.
    pub(super) fn gone(&self, number: u64) {
        self.come_as(number);
        lock(&self.seen).last.remove(&number);
    }

    fn take_stayed_away(&self) -> bool {
        let mut seen = lock(&self.seen);
        let mut last = seen.last.values();
        let stays_away = last.any(|last| last.elapsed() >= self.max_poll_interval);
        std::mem::take(&mut seen.stayed_away) || stays_away
    }
}

pub(super) struct Listener {
    pub(super) world: Arc<World>,
    pub(super) goal: Arc<Goal>,
    /// Who the consumer is.
    pub(super) member: AtomicU32,
    pub(super) presence: Arc<Presence>,
    pub(super) rng: Mutex<Rng>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl RebalanceListener for Listener {
    fn partitions_assigned<'a>(
        &'a self,
        consumer: &'a Consumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        let (member, mut rng) = self.hear(News::Assigned, partitions);
        Box::pin(async move {
            if self.goal.is_calm() {
                return;
            }
            self.dawdle(&mut rng).await;
            if let Some(name) = rng.choice(partitions)
                && !self.presence.is_split()
                && rng.u32(0..8) == 0
                && let Some(part) = part(name)
            {
                self.seek(consumer, member, part, &mut rng);
            }
        })
    }

    fn partitions_revoked<'a>(
        &'a self,
        consumer: &'a Consumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        let (member, rng) = self.hear(News::Revoked, partitions);
        Box::pin(self.give_up(consumer, member, News::Revoked, partitions, rng))
    }

    fn partitions_lost<'a>(
        &'a self,
        consumer: &'a Consumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        let stayed_away = self.presence.take_stayed_away();
        let news = News::Lost { stayed_away };
        let (member, rng) = self.hear(news, partitions);
        Box::pin(self.give_up(consumer, member, news, partitions, rng))
    }
}

impl Listener {
    fn hear(&self, news: News, partitions: &[TopicPartition]) -> (Member, Rng) {
        let member = self.member.load(Ordering::Relaxed);
        let parts: Vec<Part> = partitions.iter().filter_map(part).collect();
        self.world.history.record(What::Heard {
            member,
            news,
            parts,
        });
        (member, lock(&self.rng).fork())
    }

    async fn give_up(
        &self,
        consumer: &Consumer,
        member: Member,
        news: News,
        partitions: &[TopicPartition],
        rng: Rng,
    ) {
        let call = Call {
            listener: self,
            member,
            news,
            partitions,
            began: Instant::now(),
        };
        self.commit(consumer, member, rng).await;
        std::mem::forget(call);
        if news == News::Revoked {
            let parts = partitions.iter().filter_map(part).collect();
            self.world.history.record(What::HeardOut { member, parts });
        }
    }

    async fn commit(&self, consumer: &Consumer, member: Member, mut rng: Rng) {
        let history = &self.world.history;
        if !self.goal.is_calm() {
            self.dawdle(&mut rng).await;
        }
        if rng.bool() {
            return;
        }
        if self.presence.is_split() {
            // What readers of partitions are done with, and where they were sent.
            tell_positions(history, consumer, member);
            let _ = consumer.commit().await;
            return;
        }
        // Whoever commits positions says that all before them is done.
        let number = history.new_number();
        history.record(What::Done { member });
        history.record(What::CommitCalled {
            member,
            number,
            positions: positions(consumer),
        });
        // Of partitions that are lost nothing can be committed.
        if consumer.commit().await.is_ok() {
            history.record(What::CommitAcked { member, number });
        }
    }

    /// Takes its time, and seldom more than it has.
    async fn dawdle(&self, rng: &mut Rng) {
        let longest = self.presence.max_poll_interval;
        let time = match rng.u32(0..60) {
            0 if longest < Duration::from_secs(30) => longest.mul_f64(1.2),
            1..30 => Duration::from_millis(rng.u64(0..600)),
            _ => return,
        };
        tokio::time::sleep(time).await;
    }

    fn seek(&self, consumer: &Consumer, member: Member, part: Part, rng: &mut Rng) {
        let (offset, to) = place(&self.world, part, true, rng);
        // From where it goes: a commit of that may still be under way.
        tell_positions(&self.world.history, consumer, member);
        if consumer.seek(&name(part), offset).is_ok() {
            self.world.history.record(What::Sought { member, part, to });
        }
    }
}

/// A call that tells of an end, and is dropped only if it is cut short.
struct Call<'a> {
    listener: &'a Listener,
    member: Member,
    news: News,
    partitions: &'a [TopicPartition],
    began: Instant,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        // One that took too long has been told all the same.
        if self.began.elapsed() < self.listener.presence.max_poll_interval {
            self.listener.world.history.record(What::CutShort {
                member: self.member,
                news: self.news,
                parts: self.partitions.iter().filter_map(part).collect(),
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic while it was held would have ended the run.
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
