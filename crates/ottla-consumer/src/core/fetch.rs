//! What to fetch from whom, and what to do with the answers.
//!
//! One fetch at a time per broker, since the session's requests build on each other; the next goes out
//! as soon as the answer was split into batches, while the application still reads the earlier ones.
//! Each broker has an equal share of the budget, so that one that is slow, idle or ahead never keeps
//! another from fetching. A partition is asked for only while it has room, is not paused and is led by
//! that broker: nothing comes twice.
//!
//! A broker that sends more than it was asked for is not believed to know better: what goes beyond is dropped, and asked for
//! again when there is room. One batch of an answer may be larger than that; brokers do so, or such a batch could never be read
//! (KIP-74).
//!
//! Where partitions are read one by one, each has an equal share of its broker's: one that nobody takes anything of
//! fills that and is not asked for any more, and takes nothing from the others.

use std::{
    collections::{BTreeSet, HashSet},
    time::Instant,
};

use ottla_wire::ErrorCode;

use super::{
    Body, Core, Entry, NOWHERE, Phase, Watermarks,
    partition::Partition,
    session::{FetchSession, SessionRequest, Want},
};
use crate::{Error, Str};

/// What a broker's fetch loop is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FetchPlan {
    Send(FetchOrder),
    /// Nothing until it is woken, or until then.
    Wait(Option<Instant>),
    /// The broker leads none of the partitions: end the loop.
    Gone,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FetchOrder {
    pub(crate) session: SessionRequest,
    pub(crate) max_bytes: i32,
    /// A partition that is not asked for may have room any moment: the broker must not wait for others' records for long.
    pub(crate) hurries: bool,
}

/// One partition of an answer, split into batches.
#[derive(Debug)]
pub(crate) struct FetchedPartition<D> {
    /// Empty if the answer names topics by id.
    pub(crate) topic: Str,
    pub(crate) topic_id: ottla_wire::Uuid,
    pub(crate) partition: i32,
    pub(crate) error: ErrorCode,
    pub(crate) watermarks: Watermarks,
    /// The follower that should be asked instead (KIP-392).
    pub(crate) follower: Option<i32>,
    pub(crate) entries: Vec<Entry<D>>,
    /// How to make a batch's data independent of the answer that it came in.
    pub(crate) detach: Option<fn(&mut D)>,
    /// Bytes of records in the whole of that answer, which is kept alive as long as any of its batches.
    pub(crate) answer_bytes: usize,
}

/// What an answer may still leave in memory.
#[derive(Debug)]
struct Allowance {
    /// Of what was asked for.
    left: usize,
    asked: usize,
    /// Whether the one batch came that may be larger.
    oversized: bool,
}

impl Allowance {
    fn of(asked: usize) -> Self {
        Self {
            left: asked,
            asked,
            oversized: false,
        }
    }

    /// Whether a batch of a partition is to be kept, of which so many bytes of this answer are, and so many were asked for.
    fn admits(&mut self, batch: usize, kept: usize, asked: usize) -> bool {
        if batch > self.left || kept + batch > asked {
            if kept > 0 || self.oversized {
                return false;
            }
            self.oversized = true;
            return true;
        }
        self.left -= batch;
        true
    }

    /// Whether a part of which so much is kept would keep much more alive than was asked for, and than it is worth.
    fn is_wasted_on(&self, kept: usize, answer_bytes: usize) -> bool {
        answer_bytes > self.asked && kept < answer_bytes / 2
    }
}

/// Behind so many batches, further ones do not keep an answer alive that is much larger than they are.
const PINNED_MAX: usize = 2;

/// What the core keeps per broker.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    pub(super) session: FetchSession,
    pub(super) partitions: HashSet<u32>,
    /// Partitions for which what is wanted may have changed.
    dirty: Vec<u32>,
    /// Partitions that are not asked for because their reader has enough, where partitions are read one by one.
    pub(super) full: HashSet<u32>,
    /// Partitions that wait out a pause, by its end.
    pub(super) delayed: BTreeSet<(Instant, u32)>,
    /// What is fetched and not handed out, without that of paused partitions.
    pub(super) queued_bytes: usize,
    /// Whether a fetch is out.
    in_flight: bool,
    /// How many bytes the latest one asked for at the most.
    asked_bytes: usize,
    /// Whether its loop waits to be woken.
    waiting: bool,
    /// Whether it waits for room. How much was missing is not remembered: the shares change with the brokers.
    crowded: bool,
    pub(super) has_loop: bool,
    failures: u32,
    retry_at: Option<Instant>,
}

impl<D> Core<D> {
    /// Brokers that need a fetch loop and have none; the caller starts them.
    pub(crate) fn new_brokers(&mut self) -> Vec<i32> {
        self.brokers
            .iter_mut()
            .filter(|(_, broker)| !broker.has_loop)
            .map(|(node, broker)| {
                broker.has_loop = true;
                *node
            })
            .collect()
    }

    /// What to do about `node` now. `ids`: whether topic ids can be spoken with it.
    pub(crate) fn plan_fetch(&mut self, node: i32, ids: bool, now: Instant) -> FetchPlan {
        self.refresh_wants(node, now);
        let share = self.config.queued_bytes_max / self.brokers.len().max(1);
        let Some(broker) = self.brokers.get_mut(&node) else {
            return FetchPlan::Gone;
        };
        if broker.partitions.is_empty() {
            // Whoever comes later opens a new session; the broker drops the old one in time.
            self.brokers.remove(&node);
            return FetchPlan::Gone;
        }
        broker.waiting = true;
        broker.crowded = false;
        if let Some(at) = broker.retry_at {
            if now < at {
                return FetchPlan::Wait(Some(at));
            }
            broker.retry_at = None;
        }
        let wake = broker.delayed.first().map(|(at, _)| *at);
        if broker.in_flight || broker.session.wanted() == 0 {
            return FetchPlan::Wait(wake);
        }
        let max_bytes = reserve(&self.config, share, broker.session.wanted());
        // Shares of partitions add up to no more than the broker's.
        let crowded = broker.queued_bytes > 0 && broker.queued_bytes + max_bytes > share;
        if crowded && self.split.is_none() {
            broker.crowded = true;
            return FetchPlan::Wait(wake);
        }
        broker.waiting = false;
        broker.in_flight = true;
        broker.asked_bytes = max_bytes;
        FetchPlan::Send(FetchOrder {
            session: broker.session.next_request(ids),
            max_bytes: max_bytes.min(i32::MAX as usize) as i32,
            hurries: !broker.full.is_empty(),
        })
    }

    /// An answer came. Whether anything in it was of use is the return value.
    pub(crate) fn handle_fetched(
        &mut self,
        node: i32,
        error: ErrorCode,
        session_id: i32,
        partitions: Vec<FetchedPartition<D>>,
        now: Instant,
    ) {
        let Some(broker) = self.brokers.get_mut(&node) else {
            return;
        };
        broker.in_flight = false;
        if !broker.session.handle_answer(error, session_id) {
            // The first time is an eviction or a restart of the broker, and simply starts anew.
            broker.failures += 1;
            if broker.failures > 1 {
                let failures = broker.failures - 1;
                self.delay_broker(node, failures, now);
            }
            return;
        }
        let failures = std::mem::take(&mut broker.failures) + 1;
        let mut allowance = Allowance::of(broker.asked_bytes);
        let mut disagree = false;
        for fetched in partitions {
            let Some(broker) = self.brokers.get_mut(&node) else {
                return;
            };
            let asked = broker
                .session
                .asked(&fetched.topic, fetched.topic_id, fetched.partition);
            let Some((_, want)) = asked else {
                // Not asked for: we and the broker disagree about the session.
                broker.session.restart();
                disagree = true;
                continue;
            };
            self.take_in(node, fetched, want, &mut allowance, now);
        }
        if disagree {
            // A broker that goes on like this is asked ever less.
            if let Some(broker) = self.brokers.get_mut(&node) {
                broker.failures = failures;
            }
            self.delay_broker(node, failures, now);
        }
    }

    /// No answer came: everything is asked anew, after a pause.
    pub(crate) fn handle_fetch_failure(&mut self, node: i32, now: Instant) {
        let Some(broker) = self.brokers.get_mut(&node) else {
            return;
        };
        broker.in_flight = false;
        broker.session.restart();
        broker.failures += 1;
        let failures = broker.failures;
        let followed: Vec<u32> = broker.partitions.iter().copied().collect();
        for slot in followed {
            if self
                .at(slot)
                .is_some_and(|p| p.preferred.is_some_and(|(of, _)| of == node))
            {
                self.ask_leader(slot);
            }
        }
        self.delay_broker(node, failures, now);
        self.effects.refresh_metadata = true;
    }

    /// The order could not be put the way it was made; it is made anew at once.
    pub(crate) fn handle_unsent(&mut self, node: i32) {
        let Some(broker) = self.brokers.get_mut(&node) else {
            return;
        };
        broker.in_flight = false;
        broker.session.restart();
    }

    fn delay_broker(&mut self, node: i32, failures: u32, now: Instant) {
        let pause = self.backoff(failures);
        if let Some(broker) = self.brokers.get_mut(&node) {
            broker.retry_at = Some(now + pause);
        }
    }

    fn take_in(
        &mut self,
        node: i32,
        answer: FetchedPartition<D>,
        want: Want,
        allowance: &mut Allowance,
        now: Instant,
    ) {
        let slot = want.token.slot;
        let Some(partition) = self.current(want.token) else {
            return;
        };
        if partition.fetched.offset != want.offset || !matches!(partition.phase, Phase::Fetching) {
            return;
        }
        if answer.error.is_err() && partition.preferred.is_some_and(|(of, _)| of == node) {
            // Whatever it is, the leader knows better; also what the log's offsets are.
            self.effects.refresh_metadata |= answer.error.refreshes_metadata();
            self.ask_leader(slot);
            return self.retry_later(slot, now);
        }
        if answer.error.is_err() && partition.source() != Some(node) {
            // It is asked no more, and the one that is will say for itself.
            return;
        }
        match answer.error {
            ErrorCode::NONE => {}
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                // What was fetched before is still good: it is dealt with in its turn, and nothing is
                // fetched before that.
                partition.queue.push_back(Entry {
                    body: Body::OutOfRange,
                    next: NOWHERE,
                    bytes: 0,
                });
                self.note_ready(slot);
                self.note_wanted(slot);
                return;
            }
            error => return self.fail_partition(slot, error, now),
        }
        partition.failures = 0;
        partition.resets = 0;
        partition.watermarks = Some(answer.watermarks);
        if let Some(follower) = answer.follower.filter(|_| answer.entries.is_empty()) {
            if partition.preferred.is_some() {
                // Only a leader has a say in this; two followers would send us to and fro.
                self.ask_leader(slot);
                return self.retry_later(slot, now);
            }
            return self.ask_follower(slot, follower, now);
        }
        let mut bytes = 0;
        let empty = answer.entries.is_empty();
        let mut useful = false;
        // What is read soon costs no copy. Behind a slow reader a trickle would keep one whole answer alive for each of its
        // batches, and the budget knows of nothing but the batches.
        let own: usize = answer.entries.iter().map(|entry| entry.bytes).sum();
        let small = own < answer.answer_bytes / 16 && partition.queue.len() >= PINNED_MAX;
        let first = partition.queue.len();
        for entry in answer.entries {
            let last = entry.next == NOWHERE;
            // A broker answers with the whole batch that holds the offset; one that ends before it is of
            // no use, and it must never take us back.
            if !last && entry.next.offset <= partition.fetched.offset {
                continue;
            }
            if !allowance.admits(entry.bytes, bytes, want.bytes_max.max(0) as usize) {
                tracing::warn!(node, partition = %partition.name, offset = partition.fetched.offset,
                    "the broker sent more than it was asked for: dropped, to be fetched again");
                break;
            }
            if !last {
                partition.fetched = entry.next;
            }
            useful = true;
            bytes += entry.bytes;
            partition.enqueue(entry);
            if last {
                break;
            }
        }
        if let Some(detach) = answer.detach
            && (small || allowance.is_wasted_on(bytes, answer.answer_bytes))
        {
            for entry in partition.queue.iter_mut().skip(first) {
                if let Body::Batch(data, _) = &mut entry.body {
                    detach(data);
                }
            }
        }
        partition.queued_bytes += bytes;
        if !empty && !useful {
            // Bytes came, and none that lead on: asking at once would be a busy loop.
            return self.retry_later(slot, now);
        }
        let (tells, committed_only) = (self.config.tells_ends, self.config.committed_only);
        if tells
            && let Some(partition) = self.at_mut(slot)
            && partition
                .queue
                .back()
                .is_none_or(|last| last.next != NOWHERE)
            && partition.note_end(committed_only)
        {
            self.note_ready(slot);
        }
        if empty {
            return;
        }
        if let Some(partition) = self.at(slot)
            && !partition.paused
            && let Some(node) = partition.source()
            && let Some(broker) = self.brokers.get_mut(&node)
        {
            broker.queued_bytes += bytes;
        }
        self.effects.decode = true;
        self.note_ready(slot);
        self.note_undecoded(slot);
        self.note_wanted(slot);
    }

    fn fail_partition(&mut self, slot: u32, error: ErrorCode, now: Instant) {
        let Some(partition) = self.at(slot) else {
            return;
        };
        let (name, offset) = (partition.name.clone(), partition.fetched.offset);
        if error.refreshes_metadata() {
            self.effects.refresh_metadata = true;
        }
        if !error.is_retriable() && !error.refreshes_metadata()
            || error == ErrorCode::CORRUPT_MESSAGE
        {
            self.report(Error::Fetch {
                partition: name,
                offset,
                error,
            });
        }
        self.retry_later(slot, now);
    }

    /// Something changed that may decide whether, or how, a partition is to be fetched.
    pub(super) fn note_wanted(&mut self, slot: u32) {
        let Some(node) = self.at(slot).and_then(Partition::source) else {
            return;
        };
        let Some(broker) = self.brokers.get_mut(&node) else {
            return;
        };
        broker.dirty.push(slot);
        if std::mem::take(&mut broker.waiting) {
            self.effects.brokers.push(node);
        }
    }

    /// `bytes` of a partition left the queue.
    pub(super) fn release(&mut self, slot: u32, bytes: usize) {
        let brokers = self.brokers.len().max(1);
        let share = self.config.queued_bytes_max / brokers;
        let Some(partition) = self.at(slot) else {
            return;
        };
        let (paused, source) = (partition.paused, partition.source());
        let limits = self.limits(source);
        // Shares change with the partitions: what had no room before may not be known to have some now.
        let room_before = limits.have_room(partition.queued_bytes + bytes)
            && (partition.wanted || !self.is_split());
        let room = limits.have_room(partition.queued_bytes);
        if !paused && let Some(broker) = source.and_then(|node| self.brokers.get_mut(&node)) {
            let max_bytes = reserve(&self.config, share, broker.session.wanted().max(1));
            broker.queued_bytes -= bytes;
            let fits = broker.queued_bytes == 0 || broker.queued_bytes + max_bytes <= share;
            if broker.crowded && fits && std::mem::take(&mut broker.waiting) {
                self.effects.brokers.extend(source);
            }
        }
        if room && !room_before {
            self.note_wanted(slot);
        }
    }

    /// What one of the partitions of a broker may hold now.
    fn limits(&self, node: Option<i32>) -> Limits {
        let (fetch_bytes, queued_bytes) = (
            self.config.max_partition_fetch_bytes,
            self.config.queued_partition_bytes_max,
        );
        if self.split.is_none() {
            return Limits {
                fetch_bytes,
                queued_bytes,
            };
        }
        let broker = node.and_then(|node| self.brokers.get(&node));
        let partitions = broker.map_or(1, |broker| broker.partitions.len().max(1));
        let share = self.config.queued_bytes_max / self.brokers.len().max(1) / partitions;
        let queued_bytes = queued_bytes.min(share);
        Limits {
            // Half, so that the next can be fetched while one is read.
            fetch_bytes: fetch_bytes.min(queued_bytes / 2).max(1),
            queued_bytes,
        }
    }

    /// Brings the session up to date with the partitions that changed.
    fn refresh_wants(&mut self, node: i32, now: Instant) {
        let Some(broker) = self.brokers.get_mut(&node) else {
            return;
        };
        let mut dirty = std::mem::take(&mut broker.dirty);
        while let Some(&(at, slot)) = broker.delayed.first()
            && at <= now
        {
            broker.delayed.pop_first();
            dirty.push(slot);
        }
        dirty.sort_unstable();
        dirty.dedup();
        dirty.iter().for_each(|slot| self.check_advice(*slot, now));
        let (limits, split) = (self.limits(Some(node)), self.is_split());
        for slot in dirty.drain(..) {
            let Some(broker) = self.brokers.get_mut(&node) else {
                return;
            };
            broker.full.remove(&slot);
            let Some(Some(partition)) = self.slots.get_mut(slot as usize) else {
                continue;
            };
            if partition.source() != Some(node) {
                continue;
            }
            let pausing = partition.retry_at.filter(|&at| now < at);
            if let Some(at) = pausing {
                broker.delayed.insert((at, slot));
            }
            let dead_end = partition.queue.back().is_some_and(|e| e.next == NOWHERE);
            let wanted = matches!(partition.phase, Phase::Fetching)
                && !partition.paused
                && pausing.is_none()
                && !dead_end;
            let room = limits.have_room(partition.queued_bytes);
            if split && wanted && !room {
                broker.full.insert(slot);
            }
            let wanted = wanted && room;
            partition.wanted = wanted;
            let want = partition.leader.filter(|_| wanted).map(|leader| Want {
                token: partition.token,
                topic_id: leader.topic_id,
                offset: partition.fetched.offset,
                leader_epoch: leader.epoch,
                bytes_max: limits.fetch_bytes as i32,
                afresh: self.config.tells_ends || partition.watermarks.is_none(),
            });
            broker.session.set(&partition.name, want);
        }
        if let Some(broker) = self.brokers.get_mut(&node) {
            // Keeps the allocation.
            dirty.append(&mut broker.dirty);
            broker.dirty = dirty;
        }
    }
}

/// What a partition may hold.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// What one fetch may bring of it.
    fetch_bytes: usize,
    /// What may wait to be handed out.
    queued_bytes: usize,
}

impl Limits {
    /// Whether a partition with so much in its queue may be fetched further.
    fn have_room(self, queued: usize) -> bool {
        queued == 0 || queued + self.fetch_bytes <= self.queued_bytes
    }
}

/// What one fetch from a broker may bring, and needs room for: half of the broker's share, so that the next
/// can be under way while one is read; less if what is wanted cannot fill it.
fn reserve(config: &super::CoreConfig, share: usize, wanted: usize) -> usize {
    config
        .fetch_max_bytes
        .min(wanted.saturating_mul(config.max_partition_fetch_bytes))
        .min(share / 2)
        .max(1)
}
