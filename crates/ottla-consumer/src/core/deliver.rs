//! Handing out: whose turn it is, what comes next, and how far the application got.
//!
//! Partitions take turns batch by batch. A batch is taken out of its queue before it is decoded, and
//! the position moves only when its records are really handed out: if anything fails in between, the
//! position still names the first record that was not.

use std::time::Instant;

use super::{Body, Core, Offset, Phase, Position, Token, reset_place};
use crate::{Error, OffsetReset, TopicPartition};

/// The next thing for the application.
#[derive(Debug)]
pub(crate) enum Handout<D> {
    Batch(Delivery<D>),
    /// An error it must see.
    Error(Error),
    /// Nothing for now.
    Nothing,
}

/// A batch that was taken for the application. Tell [`Core::advance`] when its records are handed out.
#[derive(Debug)]
pub(crate) struct Delivery<D> {
    pub(crate) token: Token,
    pub(crate) name: TopicPartition,
    /// The assignment, for [`Core::is_assigned_since`].
    pub(crate) since: u64,
    pub(crate) data: D,
    /// Records before this offset were handed out already, or were not asked for.
    pub(crate) from: i64,
    /// Where reading goes on behind the batch.
    pub(crate) next: Position,
}

impl<D> Core<D> {
    /// Takes the next batch for the application.
    pub(crate) fn next_handout(&mut self) -> Handout<D> {
        if self.is_split() {
            return Handout::Error(Error::Usage(
                "the consumer is split into streams of single partitions: read those, or drop them and their \
                 PartitionStreams",
            ));
        }
        loop {
            if let Some(error) = self.errors.pop_front() {
                return Handout::Error(error);
            }
            let Some(slot) = self.ready.pop_front() else {
                return Handout::Nothing;
            };
            let Some(partition) = self.at_mut(slot) else {
                continue;
            };
            partition.in_ready = false;
            if !partition.deliverable() {
                continue;
            }
            if let Some(handout) = self.take_entry(slot) {
                return handout;
            }
        }
    }

    /// Deals with what is at the head of a partition's queue. None: the application need not know.
    pub(super) fn take_entry(&mut self, slot: u32) -> Option<Handout<D>> {
        let partition = self.at_mut(slot)?;
        let entry = partition.queue.pop_front()?;
        partition.queued_bytes -= entry.bytes;
        let ahead = entry.ahead();
        let (token, from) = (partition.token, partition.consumed.offset);
        partition.ahead_bytes -= ahead;
        let delivery = match entry.body {
            Body::Batch(data, _) => Some(Delivery {
                token,
                name: partition.name.clone(),
                since: partition.since,
                data,
                from,
                next: entry.next,
            }),
            Body::Nothing => {
                partition.consumed = entry.next;
                self.handed_out.insert(token);
                None
            }
            Body::OutOfRange => {
                self.reset(slot);
                self.note_wanted(slot);
                return None;
            }
            Body::End => {
                let (partition, offset) = (partition.name.clone(), entry.next.offset);
                self.line_up(slot);
                return Some(Handout::Error(Error::PartitionEof { partition, offset }));
            }
            // Who asks has seen that it is not.
            Body::Away(_) => None,
        };
        self.release(slot, entry.bytes);
        self.release_ahead(ahead);
        self.line_up(slot);
        if ahead > 0 {
            self.note_undecoded(slot);
        }
        delivery.map(Handout::Batch)
    }

    /// Records before `position` were handed out.
    pub(crate) fn advance(&mut self, token: Token, position: Position) {
        if let Some(partition) = self.current(token) {
            if position.offset > partition.consumed.offset {
                partition.unreadable = 0;
            }
            partition.consumed = position;
            self.handed_out.insert(token);
        }
    }

    /// A batch cannot be read: what follows it is fetched anew, from the position, after a pause.
    /// A flaw in transit heals this way; one in the log is reported each time, until the application
    /// seeks past it.
    pub(crate) fn handle_unreadable(&mut self, token: Token, now: Instant) {
        let Some(partition) = self.current(token) else {
            return;
        };
        partition.fetched = partition.consumed;
        // It is fetched without trouble each time.
        partition.failures = partition.failures.max(partition.unreadable);
        partition.unreadable = partition.unreadable.saturating_add(1);
        let slot = token.slot;
        self.discard_queue(slot);
        self.retry_later(slot, now);
        // Answers that are under way continue what was dropped.
        let fresh = self.token(slot);
        if let Some(partition) = self.at_mut(slot) {
            // And so do questions about its position.
            partition.asking = false;
            let old = std::mem::replace(&mut partition.token, fresh);
            if self.handed_out.remove(&old) {
                self.handed_out.insert(fresh);
            }
        }
        self.note_wanted(slot);
    }

    /// Gives back a batch of which only records before `position` were handed out, for instance because its
    /// partition was paused in between.
    pub(crate) fn put_back(
        &mut self,
        token: Token,
        data: D,
        position: Position,
        next: Position,
        bytes: usize,
    ) {
        let slot = token.slot;
        let Some(partition) = self.current(token) else {
            return;
        };
        partition.consumed = position;
        partition.queue.push_front(super::Entry {
            body: Body::Batch(data, 0),
            next,
            bytes,
        });
        partition.queued_bytes += bytes;
        let (paused, source) = (partition.paused, partition.source());
        if !paused && let Some(broker) = source.and_then(|node| self.brokers.get_mut(&node)) {
            broker.queued_bytes += bytes;
        }
        self.handed_out.insert(token);
        self.note_ready(slot);
    }

    /// Takes batches off the queues for workers to decode, in the order of their turns: of each ready
    /// partition the first few that `heavy` says are worth it, up to `bytes_max` in all. Where partitions are read one by
    /// one, those are of one partition: no reader is to wait for what others need.
    pub(crate) fn take_work(
        &mut self,
        bytes_max: usize,
        heavy: impl Fn(&D) -> bool,
    ) -> Vec<(Token, u64, D)> {
        let mut work = Vec::new();
        let mut bytes = 0;
        if self.ahead_bytes >= self.ahead_max() {
            return work;
        }
        if self.is_split() {
            return self.take_work_of_one(bytes_max, heavy);
        }
        for &slot in &self.ready {
            let Some(Some(partition)) = self.slots.get_mut(slot as usize) else {
                continue;
            };
            let token = partition.token;
            // The head is for the application, which may be about to take it.
            for entry in partition.queue.iter_mut().skip(1).take(WORK_DEPTH) {
                if bytes >= bytes_max {
                    return work;
                }
                if let Some(data) = entry.send_away(self.away + 1, &heavy) {
                    self.away += 1;
                    bytes += entry.bytes;
                    work.push((token, self.away, data));
                }
            }
        }
        work
    }

    /// The same of one partition of those that are read one by one.
    fn take_work_of_one(
        &mut self,
        bytes_max: usize,
        heavy: impl Fn(&D) -> bool,
    ) -> Vec<(Token, u64, D)> {
        let mut work = Vec::new();
        let share = self.ahead_share();
        // There are several jobs, and nobody knows before what a batch takes when it is decoded.
        let bytes_max = bytes_max.min(TOGETHER_MAX);
        while work.is_empty()
            && let Some(slot) = self.ready.pop_front()
        {
            let Some(Some(partition)) = self.slots.get_mut(slot as usize) else {
                continue;
            };
            partition.in_ready = false;
            let token = partition.token;
            let (mut taken, mut ahead) = (0, partition.ahead_bytes);
            for entry in partition.queue.iter_mut().skip(1).take(WORK_DEPTH) {
                if taken >= bytes_max || ahead >= share {
                    break;
                }
                if let Some(data) = entry.send_away(self.away + 1, &heavy) {
                    self.away += 1;
                    taken += entry.bytes;
                    work.push((token, self.away, data));
                }
                if matches!(entry.body, Body::Away(_)) {
                    ahead += entry.bytes;
                }
            }
        }
        work
    }

    /// There may be something to decode ahead of the reader of one partition.
    pub(super) fn note_undecoded(&mut self, slot: u32) {
        if !self.is_split() {
            return;
        }
        let share = self.ahead_share();
        let Some(partition) = self.at_mut(slot) else {
            return;
        };
        // Not for every batch that is taken: work is worth its way by the half share.
        let worth = partition.queue.len() > 1 && partition.ahead_bytes <= share / 2;
        if worth && !partition.in_ready {
            partition.in_ready = true;
            self.ready.push_back(slot);
            self.effects.decode = true;
        }
    }

    /// Work comes back, now occupying `bytes`.
    pub(crate) fn return_work(&mut self, token: Token, number: u64, data: D, bytes: usize) {
        let slot = token.slot;
        let Some(partition) = self.current(token) else {
            return;
        };
        let entry = partition
            .queue
            .iter_mut()
            .find(|entry| matches!(entry.body, Body::Away(away) if away == number));
        let Some(entry) = entry else { return };
        entry.body = Body::Batch(data, bytes);
        let old = std::mem::replace(&mut entry.bytes, bytes);
        partition.ahead_bytes += bytes;
        partition.queued_bytes = partition.queued_bytes + bytes - old;
        let (paused, source) = (partition.paused, partition.source());
        if !paused && let Some(broker) = source.and_then(|node| self.brokers.get_mut(&node)) {
            broker.queued_bytes = broker.queued_bytes + bytes - old;
        }
        self.ahead_bytes += bytes;
        self.note_ready(slot);
        self.note_wanted(slot);
    }

    /// How much may be decoded ahead: beyond the budget for what was fetched, since it cannot be known before
    /// how large it gets.
    fn ahead_max(&self) -> usize {
        let of_budget = self.config.queued_bytes_max / 8;
        match self.is_split() {
            // Readers that stand still keep theirs.
            true => of_budget,
            false => of_budget.min(AHEAD_MAX),
        }
    }

    /// How much of that one partition may have, where partitions are read one by one; the first batch whatever its size.
    fn ahead_share(&self) -> usize {
        let share = self.ahead_max() / self.by_name.len().max(1);
        share.clamp(1, AHEAD_MAX)
    }

    /// Something that was decoded ahead is gone from the queues.
    pub(super) fn release_ahead(&mut self, bytes: usize) {
        let half = self.ahead_max() / 2;
        let before = self.ahead_bytes;
        self.ahead_bytes -= bytes;
        self.effects.decode |= before > half && self.ahead_bytes <= half;
    }

    /// The position is not in the log: `auto.offset.reset` decides.
    pub(super) fn reset(&mut self, slot: u32) {
        let Some(partition) = self.at_mut(slot) else {
            return;
        };
        partition.resets = partition.resets.saturating_add(1);
        let (name, offset) = (partition.name.clone(), partition.consumed.offset);
        if matches!(self.config.reset, OffsetReset::Fail) {
            self.stop(slot);
            self.report(Error::OffsetOutOfRange {
                partition: name,
                offset,
            });
        } else {
            tracing::warn!(partition = %name, offset, "offset out of range: resetting");
            self.restart(slot, reset_place(self.config.reset));
        }
    }

    /// Nothing is fetched of a partition until the application seeks.
    pub(super) fn stop(&mut self, slot: u32) {
        self.restart(slot, Offset::End);
        if let Some(partition) = self.at_mut(slot) {
            partition.phase = Phase::Stopped;
        }
        self.note_phase(slot);
        self.note_wanted(slot);
    }
}

/// How many batches behind the head of a queue are decoded ahead.
const WORK_DEPTH: usize = 64;

/// The most bytes decoded ahead. Enough to keep another core busy; more would leave the caches before it is
/// read, and need more buffers than are kept for reuse, which costs more than decoding itself.
const AHEAD_MAX: usize = 2 << 20;

/// The most bytes, before they are decoded, that are decoded ahead of the reader of one partition at a time, but for a batch
/// that is larger by itself.
const TOGETHER_MAX: usize = 16 << 10;
