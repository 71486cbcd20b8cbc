//! The core of a consumer: what is assigned, where each partition is read, what is fetched from whom,
//! and what waits for the application.
//!
//! A plain state machine: the shell tells it what happened and what time it is, and asks it what to
//! do. It never sees a socket, a lock or a clock, nor the inside of a batch (`D`).
//! What must be woken after a call is collected in [`Effects`].
//!
//! One idea makes it safe against everything that is late: a [`Token`] names a partition *at one
//! position*. Whoever asks the cluster something on behalf of a partition takes its token along, and an
//! answer with an old token is dropped. Assigning, seeking and resetting give a new one.

mod deliver;
mod fetch;
mod leases;
mod locate;
mod partition;
mod session;
mod source;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    task::Waker,
    time::{Duration, Instant},
};

pub(crate) use self::{
    deliver::{Delivery, Handout},
    fetch::{FetchOrder, FetchPlan, FetchedPartition},
    leases::{LeaseHandout, LeaseId, Leased},
    locate::{Asked, Question, Truth},
    partition::{Body, ByHand, Entry, Leader, NOWHERE, Position},
};
use self::{
    fetch::Broker,
    leases::Split,
    partition::{Partition, Phase},
};
pub use self::{leases::StreamEnd, partition::Watermarks};
use ottla_net::Backoff;

use crate::{Error, Offset, OffsetReset, Str, TopicPartition};

/// Names a partition as it was last assigned, sought or reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token {
    slot: u32,
    generation: u64,
}

/// What the shell must do after a call into the core. Each is a wake-up: harmless when in vain.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// There may be something to hand out.
    pub(crate) application: bool,
    /// A fetch may be due from these brokers.
    pub(crate) brokers: Vec<i32>,
    /// There may be something to decode ahead.
    pub(crate) decode: bool,
    /// A broker without a fetch loop has partitions now.
    pub(crate) new_broker: bool,
    /// A question about positions may be due.
    pub(crate) positions: bool,
    /// A leader is missing or wrong.
    pub(crate) refresh_metadata: bool,
    /// A reader of one partition let go of it, or is to.
    pub(crate) leases: bool,
    /// Readers of single partitions that have something, or must know something; and who takes such partitions.
    pub(crate) wakers: Vec<Waker>,
}

/// Limits and policies, from [`ConsumerConfig`](crate::ConsumerConfig).
#[derive(Debug, Clone)]
pub(crate) struct CoreConfig {
    pub(crate) fetch_max_bytes: usize,
    pub(crate) max_partition_fetch_bytes: usize,
    pub(crate) queued_bytes_max: usize,
    pub(crate) queued_partition_bytes_max: usize,
    pub(crate) reset: OffsetReset,
    /// Whether the application is told of the ends of partitions.
    pub(crate) tells_ends: bool,
    /// Whether the end is that of what is decided.
    pub(crate) committed_only: bool,
    /// Whether what was handed out is what automatic commit writes, or what the application stores.
    pub(crate) stores_handed_out: bool,
    pub(crate) backoff: Backoff,
    /// Of the jitter.
    pub(crate) seed: u64,
}

#[derive(Debug)]
pub(crate) struct Core<D> {
    config: CoreConfig,
    slots: Vec<Option<Partition<D>>>,
    free: Vec<u32>,
    by_name: BTreeMap<TopicPartition, u32>,
    generation: u64,
    brokers: BTreeMap<i32, Broker>,
    /// Partitions that may have something to hand out, each once, in the order of their turn. Of those that are read one by
    /// one: that may have something to decode ahead.
    ready: VecDeque<u32>,
    /// Partitions whose position is to be found out or checked.
    unlocated: BTreeSet<u32>,
    /// Handed out since the application last came for records.
    handed_out: HashSet<Token>,
    /// Errors that wait to be handed out.
    errors: VecDeque<Error>,
    /// Numbers what is given to workers.
    away: u64,
    /// Sum of what was decoded ahead, over all queues.
    ahead_bytes: usize,
    /// Set while the application reads partitions one by one.
    split: Option<Split>,
    /// Numbers leases.
    leases_made: u64,
    random: fastrand::Rng,
    pub(crate) effects: Effects,
}

impl<D> Core<D> {
    pub(crate) fn new(config: CoreConfig) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_name: BTreeMap::new(),
            generation: 0,
            brokers: BTreeMap::new(),
            ready: VecDeque::new(),
            unlocated: BTreeSet::new(),
            handed_out: HashSet::new(),
            errors: VecDeque::new(),
            away: 0,
            ahead_bytes: 0,
            split: None,
            leases_made: 0,
            random: fastrand::Rng::with_seed(config.seed),
            effects: Effects::default(),
            config,
        }
    }

    pub(crate) fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.by_name.keys()
    }

    /// Adds a partition. One that is assigned already starts over.
    pub(crate) fn assign(&mut self, name: TopicPartition, start: Offset, leader: Option<Leader>) {
        if self.by_name.contains_key(&name) {
            let _ = self.seek(&name, start);
            return;
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                self.slots.len() as u32 - 1
            }
        };
        let token = self.token(slot);
        self.by_name.insert(name.clone(), slot);
        self.slots[slot as usize] = Some(Partition::new(name, token, start));
        self.note_phase(slot);
        self.set_leader(slot, leader);
    }

    /// Takes a partition away, with all that was fetched of it.
    pub(crate) fn unassign(&mut self, name: &TopicPartition) {
        let Some(slot) = self.by_name.remove(name) else {
            return;
        };
        self.detach_lease(slot);
        self.discard_queue(slot);
        self.set_leader(slot, None);
        self.unlocated.remove(&slot);
        if let Some(partition) = self.slots[slot as usize].take() {
            self.handed_out.remove(&partition.token);
            if partition.in_ready {
                self.ready.retain(|&ready| ready != slot);
            }
        }
        self.free.push(slot);
    }

    /// Reading goes on at `to`; what was fetched is dropped, and answers that are under way will be.
    pub(crate) fn seek(&mut self, name: &TopicPartition, to: Offset) -> Result<(), Error> {
        let slot = self.slot(name)?;
        self.restart(slot, to);
        if let Some(partition) = self.at_mut(slot) {
            // What is committed from now on is the sought position (Java does the same), once
            // the application comes back.
            partition.processed = None;
            let token = partition.token;
            if matches!(partition.phase, Phase::Fetching) {
                self.handed_out.insert(token);
            }
        }
        Ok(())
    }

    /// Stops handing out and fetching a partition; what was fetched of it is kept.
    pub(crate) fn pause(&mut self, name: &TopicPartition, paused: bool) -> Result<(), Error> {
        let slot = self.slot(name)?;
        let Some(partition) = self.at_mut(slot) else {
            return Ok(());
        };
        if partition.paused == paused {
            return Ok(());
        }
        partition.paused = paused;
        let (bytes, source) = (partition.queued_bytes, partition.source());
        if let Some(broker) = source.and_then(|node| self.brokers.get_mut(&node)) {
            // What a paused partition keeps must not stop the others of its broker.
            if paused {
                broker.queued_bytes -= bytes;
            } else {
                broker.queued_bytes += bytes;
            }
        }
        self.nudge_lease(slot);
        self.note_ready(slot);
        self.note_wanted(slot);
        Ok(())
    }

    /// Stops handing out a partition until it is released by the same number, or has been held by another since.
    /// Unlike a pause it is none of the application's.
    pub(crate) fn hold(&mut self, name: &TopicPartition, by: Option<u64>) {
        if let Ok(slot) = self.slot(name)
            && let Some(partition) = self.at_mut(slot)
        {
            partition.held = by;
        }
    }

    /// Undoes [`Core::hold`].
    pub(crate) fn release_hold(&mut self, name: &TopicPartition, by: u64) {
        if let Ok(slot) = self.slot(name)
            && let Some(partition) = self.at_mut(slot)
            && partition.held == Some(by)
        {
            partition.held = None;
            self.note_ready(slot);
        }
    }

    pub(crate) fn paused(&self) -> impl Iterator<Item = &TopicPartition> {
        self.slots
            .iter()
            .flatten()
            .filter(|partition| partition.paused)
            .map(|p| &p.name)
    }

    /// Where the application is in a partition; none while that is being found out.
    pub(crate) fn position(&self, name: &TopicPartition) -> Result<Option<Position>, Error> {
        let slot = self.slot(name)?;
        let Some(partition) = self.at(slot).filter(|p| p.located()) else {
            return Ok(None);
        };
        Ok(Some(
            self.lease_position(slot).unwrap_or(partition.consumed),
        ))
    }

    /// What a commit of all positions writes: those behind what was handed out, or where partitions are read one by
    /// one behind what their readers are done with.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (&TopicPartition, Position)> {
        let split = self.is_split();
        let partitions = self.slots.iter().flatten().filter(|p| p.located());
        partitions.filter_map(move |p| {
            let position = if split { p.processed? } else { p.consumed };
            Some((&p.name, position))
        })
    }

    pub(crate) fn watermarks(&self, name: &TopicPartition) -> Result<Option<Watermarks>, Error> {
        let slot = self.slot(name)?;
        Ok(self.at(slot).and_then(|partition| partition.watermarks))
    }

    /// Metadata changed: partitions go to their new leaders. `leader` knows them all.
    pub(crate) fn update_leaders(&mut self, leader: impl Fn(&TopicPartition) -> Option<Leader>) {
        let mut missing = false;
        for slot in 0..self.slots.len() as u32 {
            let Some(partition) = self.at(slot) else {
                continue;
            };
            let (old, new) = (partition.leader, leader(&partition.name));
            missing |= new.is_none();
            if old == new {
                continue;
            }
            let doubtful = partition.is_doubtful(new);
            let created_anew = matches!((old, new), (Some(old), Some(new))
                if old.topic_id != new.topic_id && old.topic_id != ottla_wire::Uuid::ZERO
                    && new.topic_id != ottla_wire::Uuid::ZERO);
            if created_anew {
                // Another log under the same name (KIP-516): its offsets are not the old one's.
                self.not_committed(slot);
                let since = self.token(slot).generation;
                if let Some(partition) = self.at_mut(slot) {
                    partition.processed = None;
                    partition.since = since;
                }
            } else if doubtful && let Some(partition) = self.at_mut(slot) {
                partition.phase = Phase::Validating;
            }
            self.note_phase(slot);
            self.set_leader(slot, new);
            if let Some(partition) = self.at_mut(slot) {
                // The news may be what was being waited for; and the leader that was asked for a position
                // may have gone without a word.
                partition.retry_at = None;
                let coordinators = matches!(partition.phase, Phase::Locating(Offset::Committed));
                partition.asking &= coordinators;
            }
            self.note_wanted(slot);
        }
        self.effects.positions |= !self.unlocated.is_empty();
        self.effects.refresh_metadata |= missing;
    }

    /// Whether a partition has no leader: nothing but newer metadata will bring one.
    pub(crate) fn lacks_leader(&self) -> bool {
        let mut partitions = self.slots.iter().flatten();
        partitions.any(|partition| partition.leader.is_none())
    }

    /// What automatic commit should write now: positions behind what the application is done with.
    pub(crate) fn take_processed(&mut self) -> Vec<(TopicPartition, Position, Str)> {
        self.sync_leases();
        let mut offsets = Vec::new();
        for partition in self.slots.iter_mut().flatten() {
            if let Some(position) = partition.processed
                && partition.auto_committed != Some(position.offset)
                && partition.may_auto_commit(position.offset)
            {
                partition.auto_committed = Some(position.offset);
                let metadata = partition.stored_metadata.clone();
                offsets.push((partition.name.clone(), position, metadata));
            }
        }
        offsets
    }

    /// An automatic commit of this offset failed: it will be tried again with the next.
    pub(crate) fn auto_commit_failed(&mut self, name: &TopicPartition, offset: i64) {
        if let Ok(slot) = self.slot(name)
            && let Some(partition) = self.at_mut(slot)
            && partition.auto_committed == Some(offset)
        {
            partition.auto_committed = None;
        }
    }

    /// The application commits this itself, whether or not it is done with what it was handed: automatic commit goes on
    /// from there, or it would take the group back. Until the partition is sought, or the application stores an offset.
    pub(crate) fn note_commit<'a>(
        &mut self,
        offsets: impl IntoIterator<Item = (&'a TopicPartition, i64)>,
    ) {
        for (name, offset) in offsets {
            if let Ok(slot) = self.slot(name)
                && let Some(partition) = self.at_mut(slot)
            {
                partition.by_hand = Some(ByHand {
                    offset,
                    doubtful: false,
                });
                // Whatever automatic commit wrote is not what the group has now; should this one fail, it writes it again.
                partition.auto_committed = None;
            }
        }
    }

    /// What [`Core::note_commit`] was told of failed; `stored`: or may have been stored all the same.
    pub(crate) fn commit_failed(&mut self, name: &TopicPartition, offset: i64, stored: bool) {
        if let Ok(slot) = self.slot(name)
            && let Some(partition) = self.at_mut(slot)
            && partition.by_hand.is_some_and(|own| own.offset == offset)
        {
            partition.by_hand = stored.then_some(ByHand {
                offset,
                doubtful: true,
            });
        }
    }

    /// The application comes for more: it is done with all that it was handed. Of partitions that are read one by one
    /// only their readers can say that.
    pub(crate) fn mark_processed(&mut self) {
        if self.is_split() {
            return;
        }
        let stores = self.config.stores_handed_out;
        for token in self.handed_out.drain() {
            if stores
                && let Some(Some(partition)) = self.slots.get_mut(token.slot as usize)
                && partition.token == token
            {
                partition.processed = Some(partition.consumed);
            }
        }
    }

    /// The same for these partitions alone: the application has come since nothing more of them is handed out.
    pub(crate) fn mark_processed_of(&mut self, names: &[TopicPartition]) {
        if self.is_split() {
            return;
        }
        for name in names {
            if let Ok(slot) = self.slot(name)
                && let Some(Some(partition)) = self.slots.get_mut(slot as usize)
                && self.handed_out.remove(&partition.token)
                && self.config.stores_handed_out
            {
                partition.processed = Some(partition.consumed);
            }
        }
    }

    /// Whether the application has nothing of these partitions in its hands that it may not be done with.
    pub(crate) fn is_done_with(&self, names: &[TopicPartition]) -> bool {
        names.iter().all(|name| {
            let partition = self.slot(name).ok().and_then(|slot| self.at(slot));
            partition.is_none_or(|partition| !self.handed_out.contains(&partition.token))
        })
    }

    /// The application commits all positions, also those that a reset led to without a record being handed out.
    pub(crate) fn mark_committed(&mut self) {
        if self.is_split() {
            return self.sync_leases();
        }
        self.handed_out.clear();
        for partition in self.slots.iter_mut().flatten() {
            if partition.located() {
                partition.processed = Some(partition.consumed);
            }
        }
    }

    /// Of what was handed out of a partition, the application is done with what lies before `position`.
    pub(crate) fn set_processed(&mut self, token: Token, position: Position) {
        if self.config.stores_handed_out
            && let Some(partition) = self.current(token)
        {
            partition.processed = Some(position);
        }
    }

    /// The application wants automatic commit to write this.
    ///
    /// # Errors
    /// [`Error::NotAssigned`].
    pub(crate) fn store(
        &mut self,
        name: &TopicPartition,
        position: Position,
        metadata: Str,
    ) -> Result<(), Error> {
        let slot = self.slot(name)?;
        if let Some(partition) = self.at_mut(slot) {
            partition.processed = Some(position);
            partition.by_hand = None;
            if partition.stored_metadata != metadata {
                partition.stored_metadata = metadata;
                partition.auto_committed = None;
            }
        }
        Ok(())
    }

    /// Bytes that wait to be handed out, and whether the partition is paused, by partition.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (&TopicPartition, usize, bool)> {
        self.by_name.iter().filter_map(|(name, &slot)| {
            let partition = self.at(slot)?;
            Some((name, partition.queued_bytes, partition.paused))
        })
    }

    /// An error the application should see with its next call for records.
    pub(crate) fn report(&mut self, error: Error) {
        if self.report_to_lease(&error) {
            return;
        }
        // A partition that stands still must not do so untold: there is one such error for each.
        let room = match error.stops_its_partition() {
            true => ERRORS_MAX + self.by_name.len(),
            false => ERRORS_MAX,
        };
        if self.errors.len() >= room {
            tracing::warn!(%error, "not told to the application, which has not asked about earlier errors");
            return;
        }
        self.errors.push_back(error);
        self.effects.application = true;
        self.wake_taker();
    }

    /// A new position with a new token; drops what was fetched.
    fn restart(&mut self, slot: u32, to: Offset) {
        self.discard_queue(slot);
        let token = self.token(slot);
        if let Some(partition) = self.at_mut(slot) {
            let old = std::mem::replace(&mut partition.token, token);
            partition.start_at(to);
            self.handed_out.remove(&old);
        }
        self.nudge_lease(slot);
        self.note_phase(slot);
        self.note_wanted(slot);
    }

    fn discard_queue(&mut self, slot: u32) {
        let Some(partition) = self.at_mut(slot) else {
            return;
        };
        partition.queue.clear();
        let ahead = std::mem::take(&mut partition.ahead_bytes);
        let bytes = std::mem::take(&mut partition.queued_bytes);
        partition.end_told = None;
        self.release(slot, bytes);
        self.release_ahead(ahead);
    }

    /// Keeps `unlocated` in step with the phase.
    fn note_phase(&mut self, slot: u32) {
        match self.at(slot).map(|partition| partition.phase) {
            Some(Phase::Locating(_) | Phase::Validating) => {
                self.unlocated.insert(slot);
                self.effects.positions = true;
            }
            _ => {
                self.unlocated.remove(&slot);
            }
        }
    }

    /// Puts a partition in line if it has something to hand out.
    fn note_ready(&mut self, slot: u32) {
        self.effects.application |= self.line_up(slot);
    }

    /// The same on behalf of the application, which need not be woken. Whether it was not in line before.
    fn line_up(&mut self, slot: u32) -> bool {
        if self.is_split() {
            // Its reader takes it without a line.
            self.wake_lease(slot);
            return false;
        }
        let Some(partition) = self.at_mut(slot) else {
            return false;
        };
        let new = partition.deliverable() && !partition.in_ready;
        if new {
            partition.in_ready = true;
            self.ready.push_back(slot);
        }
        new
    }

    fn token(&mut self, slot: u32) -> Token {
        self.generation += 1;
        Token {
            slot,
            generation: self.generation,
        }
    }

    fn slot(&self, name: &TopicPartition) -> Result<u32, Error> {
        self.by_name
            .get(name)
            .copied()
            .ok_or_else(|| Error::NotAssigned(name.clone()))
    }

    fn at(&self, slot: u32) -> Option<&Partition<D>> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn at_mut(&mut self, slot: u32) -> Option<&mut Partition<D>> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Whether a partition has been assigned without a break since a batch of it was taken, and is still of the same topic.
    pub(crate) fn is_assigned_since(&self, name: &TopicPartition, since: u64) -> bool {
        let partition = self.slot(name).ok().and_then(|slot| self.at(slot));
        partition.is_some_and(|partition| partition.since == since)
    }

    /// Whether the partition is still read from where it was when the token was made.
    pub(crate) fn is_current(&self, token: Token) -> bool {
        self.at(token.slot)
            .is_some_and(|partition| partition.token == token)
    }

    /// The partition, if the token is its current one.
    fn current(&mut self, token: Token) -> Option<&mut Partition<D>> {
        self.at_mut(token.slot)
            .filter(|partition| partition.token == token)
    }

    /// The pause after `failures` in a row.
    fn backoff(&mut self, failures: u32) -> Duration {
        self.config.backoff.delay(failures, self.random.f64())
    }

    fn retry_later(&mut self, slot: u32, now: Instant) {
        let Some(partition) = self.at_mut(slot) else {
            return;
        };
        partition.failures += 1;
        let failures = partition.failures;
        let at = now + self.backoff(failures);
        if let Some(partition) = self.at_mut(slot) {
            partition.retry_at = Some(at);
        }
        self.note_wanted(slot);
        self.effects.positions = true;
    }
}

/// Errors that wait for an application that does not come for records.
const ERRORS_MAX: usize = 100;

/// Where `auto.offset.reset` sends a partition; `Fail` asks nobody and is dealt with by the caller.
fn reset_place(reset: OffsetReset) -> Offset {
    match reset {
        OffsetReset::Earliest => Offset::Beginning,
        OffsetReset::Latest | OffsetReset::Fail => Offset::End,
        OffsetReset::ByDuration(age) => Offset::Since(age),
    }
}
