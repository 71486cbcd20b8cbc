//! Reading partition by partition: who has which partition, what it waits for, and how it learns that it is over.
//!
//! While a consumer is split, a partition is handed out through its *lease* alone, which the application takes like
//! a record. A lease takes batches straight from its partition's queue, so that there is no other buffer, and nobody
//! waits for anybody else's reader. It ends when the partition is to be given up, and the partition is given up when
//! the application has let go of the lease: what a reader still does, it does as the partition's owner.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    task::Waker,
    time::Instant,
};

use super::{Core, Delivery, ERRORS_MAX, Handout, Partition, Position, Token};
use crate::{Error, Str, TopicPartition};

/// Why a stream of one partition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEnd {
    /// The group gives the partition to another member, or the application unsubscribed. It is given up when the stream is
    /// dropped: commits count until then.
    Revoked,
    /// The partition may be another consumer's by now: the application took longer than `max.poll.interval.ms`, or
    /// the coordinator dropped this member. Nothing can be committed for it any more.
    Lost,
    /// The application gave the partition up, or assigned others by hand.
    Unassigned,
    /// The consumer is being closed, or its [`PartitionStreams`](crate::PartitionStreams) was dropped. Commits count until
    /// the stream is dropped; a close waits for that, as long as it may.
    Closed,
}

/// Names a lease. None is ever named like another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LeaseId(u64);

/// What a reader and the core tell each other for each record, without a lock.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// The core has news: look before the next record is handed out.
    pub(crate) look: AtomicBool,
    /// Of the batch that the lease took last: behind what the application is done with, and behind what it was handed.
    pub(crate) done: AtomicI64,
    pub(crate) next: AtomicI64,
}

/// A partition for one reader.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) id: LeaseId,
    pub(crate) name: TopicPartition,
    pub(crate) signal: Arc<Signal>,
}

/// What there is for a reader.
#[derive(Debug)]
pub(crate) enum LeaseHandout<D> {
    Batch(Delivery<D>),
    Error(Error),
    /// Nothing any more; [`Core::lease_end`] says why.
    End,
    /// Nothing for now.
    Nothing,
}

/// What a split consumer keeps.
#[derive(Debug, Default)]
pub(crate) struct Split {
    leases: BTreeMap<LeaseId, Lease>,
    /// Those that nobody has taken yet.
    offered: VecDeque<LeaseId>,
    /// Who waits for one.
    taker: Option<Waker>,
    /// Since when one that is lost by now was not taken: nobody has asked since.
    neglected: Option<Instant>,
    /// No more are offered; when the last is gone the consumer is whole again.
    over: bool,
}

#[derive(Debug)]
struct Lease {
    name: TopicPartition,
    /// None once the partition is not assigned any more.
    slot: Option<u32>,
    taken: bool,
    end: Option<StreamEnd>,
    /// Whether the reader knows.
    told: bool,
    /// When the application was last seen to be alive here.
    progress: Instant,
    /// `Signal::next` then.
    seen: i64,
    /// Of a reader that waits.
    waker: Option<Waker>,
    /// The batch that it took last, by the position it had, and the epoch of its records.
    reading: Option<(Token, Option<i32>)>,
    errors: VecDeque<Error>,
    signal: Arc<Signal>,
}

impl Lease {
    fn nudge(&mut self, wakers: &mut Vec<Waker>) {
        self.signal.look.store(true, Ordering::Release);
        wakers.extend(self.waker.take());
    }
}

impl<D> Core<D> {
    /// From now on partitions are read one by one; but for those that are `going`: nobody gets those, to be done with them.
    pub(crate) fn split(
        &mut self,
        going: impl Fn(&TopicPartition) -> bool,
        now: Instant,
    ) -> Result<(), Error> {
        if self.split.is_some() {
            return Err(Error::Usage(
                "the consumer is split already; drop its PartitionStreams and all of their streams first",
            ));
        }
        for slot in std::mem::take(&mut self.ready) {
            if let Some(partition) = self.at_mut(slot) {
                partition.in_ready = false;
            }
        }
        self.split = Some(Split::default());
        for slot in 0..self.slots.len() as u32 {
            self.note_undecoded(slot);
        }
        self.note_all_wanted();
        self.resume_leases(going, now);
        Ok(())
    }

    /// Partitions are offered, but for those that are `going`: also those whose readers were told that it is over, when they
    /// are gone.
    pub(crate) fn resume_leases(&mut self, going: impl Fn(&TopicPartition) -> bool, now: Instant) {
        for partition in self.slots.iter_mut().flatten() {
            partition.lease_over = going(&partition.name);
        }
        self.offer_leases(now);
        self.effects.leases = true;
    }

    /// Whether the application reads partitions one by one.
    pub(crate) fn is_split(&self) -> bool {
        self.split.is_some()
    }

    /// No more leases are offered; when the last one is gone the consumer is whole again.
    pub(crate) fn end_split(&mut self) {
        self.end_leases(None, StreamEnd::Closed);
        if let Some(split) = &mut self.split {
            split.over = true;
        }
        self.unite();
    }

    /// Offers each partition that nobody reads.
    pub(crate) fn offer_leases(&mut self, now: Instant) {
        let Some(split) = self.split.as_mut().filter(|split| !split.over) else {
            return;
        };
        for (name, &slot) in &self.by_name {
            let Some(Some(partition)) = self.slots.get_mut(slot as usize) else {
                continue;
            };
            if partition.lease.is_some() || partition.lease_over {
                continue;
            }
            self.leases_made += 1;
            let id = LeaseId(self.leases_made);
            partition.lease = Some(id);
            split.leases.insert(
                id,
                Lease {
                    name: name.clone(),
                    slot: Some(slot),
                    taken: false,
                    end: None,
                    told: false,
                    progress: now,
                    seen: 0,
                    waker: None,
                    reading: None,
                    errors: std::mem::take(&mut partition.untold).into(),
                    signal: Arc::default(),
                },
            );
            split.offered.push_back(id);
            self.effects.wakers.extend(split.taker.take());
        }
    }

    /// The next partition that nobody reads; if there is none, `waker` is told of the next.
    pub(crate) fn take_lease(
        &mut self,
        waker: Option<&Waker>,
        now: Instant,
    ) -> Result<Option<Leased>, Error> {
        if let Some(error) = self.errors.pop_front() {
            return Err(error);
        }
        let Some(split) = &mut self.split else {
            return Ok(None);
        };
        self.effects.leases |= split.neglected.take().is_some();
        while let Some(id) = split.offered.pop_front() {
            if let Some(lease) = split.leases.get_mut(&id) {
                lease.taken = true;
                lease.progress = now;
                return Ok(Some(Leased {
                    id,
                    name: lease.name.clone(),
                    signal: lease.signal.clone(),
                }));
            }
        }
        split.taker = waker.cloned();
        Ok(None)
    }

    /// The application comes for more of a partition: it is done with all that it was handed of it. `handed`: the
    /// position behind that in the batch that was taken last. If there is nothing, `waker` is told when there is.
    pub(crate) fn next_of_lease(
        &mut self,
        id: LeaseId,
        handed: Option<(Token, Position)>,
        waker: Option<&Waker>,
        now: Instant,
    ) -> LeaseHandout<D> {
        if let Some((token, position)) = handed {
            self.advance(token, position);
        }
        let Some(lease) = self.lease_mut(id) else {
            return LeaseHandout::End;
        };
        lease.progress = now;
        lease.waker = None;
        lease.reading = None;
        let slot = lease.slot;
        if let Some(slot) = slot {
            self.settle_lease(slot);
        }
        loop {
            let Some(lease) = self.lease_mut(id) else {
                return LeaseHandout::End;
            };
            if lease.end.is_some() {
                lease.told = true;
                self.effects.leases = true;
                return LeaseHandout::End;
            }
            if let Some(error) = lease.errors.pop_front() {
                return LeaseHandout::Error(error);
            }
            let ready = slot.filter(|slot| self.at(*slot).is_some_and(Partition::deliverable));
            let Some(slot) = ready else { break };
            match self.take_entry(slot) {
                Some(Handout::Batch(delivery)) => {
                    if let Some(lease) = self.lease_mut(id) {
                        lease.reading = Some((delivery.token, delivery.next.leader_epoch));
                        lease.seen = delivery.from;
                        lease.signal.done.store(delivery.from, Ordering::Relaxed);
                        lease.signal.next.store(delivery.from, Ordering::Relaxed);
                    }
                    return LeaseHandout::Batch(delivery);
                }
                Some(Handout::Error(error)) => return LeaseHandout::Error(error),
                Some(Handout::Nothing) | None => {}
            }
        }
        if let Some(lease) = self.lease_mut(id) {
            lease.waker = waker.cloned();
        }
        LeaseHandout::Nothing
    }

    /// The reader does not wait any more, without having got anything.
    pub(crate) fn stop_waiting(&mut self, id: LeaseId, now: Instant) {
        if let Some(lease) = self.lease_mut(id) {
            lease.waker = None;
            lease.progress = now;
        }
    }

    /// The reader lets go of its partition. Unless that is to be given up, another one may take it, and goes on where
    /// this one stood.
    pub(crate) fn drop_lease(&mut self, id: LeaseId, now: Instant) {
        let Some(lease) = self.split.as_mut().and_then(|s| s.leases.remove(&id)) else {
            return;
        };
        if let Some(partition) = lease.slot.and_then(|slot| self.at_mut(slot)) {
            partition.lease = None;
            partition.untold.extend(lease.errors);
        }
        self.effects.leases = true;
        self.offer_leases(now);
        self.unite();
    }

    /// Tells the readers of these partitions (none: of all) that it is over. Their partitions are not offered again.
    pub(crate) fn end_leases(&mut self, names: Option<&[TopicPartition]>, end: StreamEnd) {
        if self.split.is_none() {
            return;
        }
        let slots: Vec<u32> = match names {
            None => self.by_name.values().copied().collect(),
            Some(names) => names
                .iter()
                .filter_map(|name| self.by_name.get(name).copied())
                .collect(),
        };
        for slot in slots {
            if let Some(partition) = self.at_mut(slot) {
                partition.lease_over = true;
                self.end_lease_of(slot, end);
            }
        }
        self.effects.leases = true;
    }

    /// Whether no reader holds on to these partitions (none: to any).
    pub(crate) fn leases_gone(&self, names: Option<&[TopicPartition]>) -> bool {
        let free = |name: &TopicPartition| {
            let slot = self.by_name.get(name);
            let partition = slot.and_then(|slot| self.at(*slot));
            partition.is_none_or(|partition| partition.lease.is_none())
        };
        match names {
            Some(names) => names.iter().all(free),
            None => self.by_name.keys().all(free),
        }
    }

    /// Since when one of the readers has not made any progress, or nobody has taken a partition: the one that it has been
    /// longest for. None: each of them waits for records. Not to be asked when the consumer is not split.
    pub(crate) fn stalled_since(&mut self, now: Instant) -> Option<Instant> {
        let split = self.split.as_mut()?;
        let leases = split.leases.values_mut();
        leases
            .filter_map(|lease| {
                let next = lease.signal.next.load(Ordering::Relaxed);
                if std::mem::replace(&mut lease.seen, next) != next {
                    lease.progress = now;
                }
                // Who lost its partition is back when it knows.
                let away = lease.waker.is_none() && (lease.slot.is_some() || !lease.told);
                away.then_some(lease.progress)
            })
            .chain(split.neglected)
            .min()
    }

    /// Whether what the reader says of its partition counts: whether that is still this consumer's.
    pub(crate) fn lease_holds(&self, id: LeaseId) -> bool {
        let lease = self.split.as_ref().and_then(|s| s.leases.get(&id));
        lease.is_some_and(|lease| lease.slot.is_some() && lease.end != Some(StreamEnd::Lost))
    }

    pub(crate) fn lease_end(&self, id: LeaseId) -> Option<StreamEnd> {
        self.split.as_ref()?.leases.get(&id)?.end
    }

    /// The reader says that records before `position` are processed: with metadata to have automatic commit write it,
    /// else because it commits itself, and automatic commit must not fall behind that.
    pub(crate) fn confirm(
        &mut self,
        id: LeaseId,
        position: Position,
        store: Option<Str>,
        now: Instant,
    ) -> Result<(), Error> {
        let stores = self.config.stores_handed_out;
        let Some(lease) = self.lease_mut(id) else {
            return Ok(());
        };
        lease.progress = now;
        let name = lease.name.clone();
        if !self.lease_holds(id) {
            return Err(Error::NotAssigned(name));
        }
        match store {
            Some(metadata) => self.store(&name, position, metadata),
            None => {
                let slot = self.slot(&name)?;
                if let Some(partition) = self.at_mut(slot).filter(|_| stores) {
                    let old = partition.processed.map(|processed| processed.offset);
                    if old.is_none_or(|old| old < position.offset) {
                        partition.processed = Some(position);
                    }
                }
                Ok(())
            }
        }
    }

    /// Brings what is known of the readers' places up to date.
    pub(super) fn sync_leases(&mut self) {
        let Some(split) = &self.split else { return };
        let slots: Vec<u32> = split.leases.values().filter_map(|l| l.slot).collect();
        for slot in slots {
            self.sync_lease(slot);
        }
    }

    /// The same for one partition.
    pub(super) fn sync_lease(&mut self, slot: u32) {
        let Some((lease, token)) = self.lease_at(slot) else {
            return;
        };
        let waits = lease.waker.is_some();
        let place = lease.reading.filter(|(read, _)| *read == token);
        let place = place.map(|(_, leader_epoch)| {
            let at = |offset: &AtomicI64| Position {
                offset: offset.load(Ordering::Relaxed),
                leader_epoch,
            };
            (at(&lease.signal.done), at(&lease.signal.next))
        });
        if let Some((done, next)) = place {
            let stores = self.config.stores_handed_out;
            if let Some(partition) = self.at_mut(slot) {
                partition.consumed = next;
                let old = partition.processed.map(|processed| processed.offset);
                if stores && old.is_none_or(|old| old < done.offset) {
                    partition.processed = Some(done);
                }
            }
            self.handed_out.insert(token);
        } else if waits {
            self.settle_lease(slot);
        }
    }

    /// Where the reader of a partition is in the batch it has.
    pub(super) fn lease_position(&self, slot: u32) -> Option<Position> {
        let (lease, token) = self.lease_at(slot)?;
        let (_, leader_epoch) = lease.reading.filter(|(read, _)| *read == token)?;
        Some(Position {
            offset: lease.signal.next.load(Ordering::Relaxed),
            leader_epoch,
        })
    }

    /// What a partition's reader has of it is not what is to be read next: it has to look.
    pub(super) fn nudge_lease(&mut self, slot: u32) {
        let Some(id) = self.at(slot).and_then(|partition| partition.lease) else {
            return;
        };
        let lease = self.split.as_mut().and_then(|s| s.leases.get_mut(&id));
        if let Some(lease) = lease {
            lease.nudge(&mut self.effects.wakers);
        }
    }

    /// An error that concerns a partition is for its reader. Whether there is one.
    pub(super) fn report_to_lease(&mut self, error: &Error) -> bool {
        let Some(&slot) = error.partition().and_then(|name| self.by_name.get(name)) else {
            return false;
        };
        let Some(id) = self.at(slot).and_then(|partition| partition.lease) else {
            return false;
        };
        let lease = self.split.as_mut().and_then(|s| s.leases.get_mut(&id));
        let Some(lease) = lease else { return false };
        let stops =
            error.stops_its_partition() && !lease.errors.iter().any(Error::stops_its_partition);
        if lease.errors.len() < ERRORS_MAX || stops {
            lease.errors.push_back(error.clone());
        }
        lease.nudge(&mut self.effects.wakers);
        true
    }

    /// An error that concerns none is for who takes leases.
    pub(crate) fn wake_taker(&mut self) {
        if let Some(split) = &mut self.split {
            self.effects.wakers.extend(split.taker.take());
        }
    }

    /// Whoever takes leases does not wait any more.
    pub(crate) fn forget_taker(&mut self) {
        if let Some(split) = &mut self.split {
            split.taker = None;
        }
    }

    /// Wakes the reader of a partition that has something for it.
    pub(super) fn wake_lease(&mut self, slot: u32) {
        let Some(partition) = self.at(slot).filter(|p| p.deliverable()) else {
            return;
        };
        let Some(id) = partition.lease else { return };
        let lease = self.split.as_mut().and_then(|s| s.leases.get_mut(&id));
        if let Some(lease) = lease {
            self.effects.wakers.extend(lease.waker.take());
        }
    }

    /// A partition goes: so does its lease if nobody took it, else its reader is told.
    pub(super) fn end_lease_of(&mut self, slot: u32, end: StreamEnd) {
        let Some(id) = self.at(slot).and_then(|partition| partition.lease) else {
            return;
        };
        let Some(split) = &mut self.split else { return };
        if let Some(lease) = split.leases.get_mut(&id)
            && lease.taken
        {
            if lease.end.is_none() || end == StreamEnd::Lost {
                lease.end = Some(end);
            }
            return lease.nudge(&mut self.effects.wakers);
        }
        let lease = split.leases.remove(&id);
        if let Some(lease) = &lease
            && end == StreamEnd::Lost
        {
            split.neglected.get_or_insert(lease.progress);
        }
        split.offered.retain(|offered| *offered != id);
        if let Some(partition) = self.at_mut(slot) {
            partition.lease = None;
            let errors = lease.into_iter().flat_map(|lease| lease.errors);
            partition.untold.extend(errors);
        }
    }

    /// The partition behind a lease is not assigned any more.
    pub(super) fn detach_lease(&mut self, slot: u32) {
        self.end_lease_of(slot, StreamEnd::Unassigned);
        if let Some(id) = self
            .at_mut(slot)
            .and_then(|partition| partition.lease.take())
            && let Some(lease) = self.lease_mut(id)
        {
            lease.slot = None;
        }
    }

    /// The application came back to a partition, or waits: it is done with all that it was handed of it.
    fn settle_lease(&mut self, slot: u32) {
        let stores = self.config.stores_handed_out;
        if let Some(Some(partition)) = self.slots.get_mut(slot as usize)
            && self.handed_out.remove(&partition.token)
            && stores
        {
            partition.processed = Some(partition.consumed);
        }
    }

    /// When the last lease is gone, and no more are offered, all partitions are the consumer's own again.
    fn unite(&mut self) {
        let ended = |split: &mut Split| split.over && split.leases.is_empty();
        if self.split.take_if(ended).is_none() {
            return;
        }
        self.ready.clear();
        for slot in 0..self.slots.len() as u32 {
            if let Some(partition) = self.at_mut(slot) {
                partition.in_ready = false;
                partition.lease = None;
                partition.lease_over = false;
                for error in std::mem::take(&mut partition.untold) {
                    self.report(error);
                }
                self.note_ready(slot);
            }
        }
        self.note_all_wanted();
    }

    /// How much may be fetched of each partition is another now.
    fn note_all_wanted(&mut self) {
        for slot in 0..self.slots.len() as u32 {
            self.note_wanted(slot);
        }
    }

    fn lease_mut(&mut self, id: LeaseId) -> Option<&mut Lease> {
        self.split.as_mut()?.leases.get_mut(&id)
    }

    /// A partition's lease, and the partition's token.
    fn lease_at(&self, slot: u32) -> Option<(&Lease, Token)> {
        let partition = self.at(slot)?;
        let lease = self.split.as_ref()?.leases.get(&partition.lease?)?;
        Some((lease, partition.token))
    }
}
