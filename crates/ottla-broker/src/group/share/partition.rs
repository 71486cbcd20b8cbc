//! What a share group knows of one partition: which records are available, acquired or done (KIP-932). A plain struct.
//!
//! Offsets below the start are done with; those from `next` on were never acquired. In between each has a state.
//!
//! What is acquired is so until its time is up or another leader takes the partition over; nobody keeps that. All else
//! is what [`saved`] puts on the disk, where an acquired record is as it was before it was acquired.

pub(crate) mod saved;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ottla_wire::ErrorCode;

use saved::Kept;

/// Who acquired a record: a member, at the node that led the partition.
pub(crate) type Holder = (Arc<str>, i32);

/// One partition of one share group.
#[derive(Debug)]
pub(crate) struct SharePartition {
    start: i64,
    next: i64,
    /// Of the offsets from `start` to `next`; those that are not in it are done with.
    states: BTreeMap<i64, State>,
    /// Of the leader that what is acquired was acquired from.
    leader_epoch: i32,
    /// Of the group when it began here: what was done before that was done to other records.
    state_epoch: i32,
    /// No lock ends before; none if nothing is acquired.
    locked_until: Option<Instant>,
    /// What was put on the disk last; none once that is not how it is any more.
    kept: Option<Kept>,
}

#[derive(Debug, Clone)]
enum State {
    Available {
        deliveries: i16,
    },
    Acquired {
        deliveries: i16,
        holder: Holder,
        until: Instant,
    },
}

/// A batch of the log, as far as acquiring it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogBatch {
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// A marker, or of an aborted transaction: nobody is handed it.
    pub(crate) hidden: bool,
}

/// Offsets acquired together, with how often they were delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acquired {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) deliveries: i16,
}

/// How much a member asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) holder: Holder,
    pub(crate) records_max: usize,
    /// Whether not one more, though that cuts a batch (KIP-1206).
    pub(crate) strict: bool,
    pub(crate) until: Instant,
}

/// What a member says of a run of offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// For each of them, or one for all.
    pub(crate) types: Vec<i8>,
}

/// How far a group is in a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// The first offset that is not done with.
    pub(crate) start: i64,
    /// Of the leader that asked last; -1 for none.
    pub(crate) leader_epoch: i32,
    next: i64,
    begun: usize,
}

impl Progress {
    /// How many offsets are not done with in a log that ends at `end` (KIP-1226).
    pub(crate) fn lag(&self, end: i64) -> i64 {
        let begun = i64::try_from(self.begun).unwrap_or(i64::MAX);
        end.saturating_sub(self.next).saturating_add(begun).max(0)
    }
}

/// What was done for a member.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Something became available.
    pub(crate) freed: bool,
    pub(crate) undo: Undo,
}

/// What an acknowledgement ended, for it to be put back if nobody could keep it.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    state_epoch: i32,
    leader_epoch: i32,
    ended: Vec<(i64, State)>,
}

impl SharePartition {
    /// One that begins at `start`, in this epoch of the group.
    pub(crate) fn new(start: i64, state_epoch: i32) -> Self {
        Self {
            start,
            next: start,
            states: BTreeMap::new(),
            leader_epoch: -1,
            state_epoch,
            locked_until: None,
            kept: None,
        }
    }

    /// How far the group is.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            start: self.start,
            leader_epoch: self.leader_epoch,
            next: self.next,
            begun: self.states.len(),
        }
    }

    /// A leader of this epoch goes on with the partition. What was acquired from one before it is available again, as
    /// if it had not been: that is how Kafka's next leader finds it at the share coordinator.
    pub(crate) fn led(&mut self, epoch: i32) -> Result<(), ErrorCode> {
        if epoch < self.leader_epoch {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        if epoch > self.leader_epoch {
            self.leader_epoch = epoch;
            self.take_back();
        }
        Ok(())
    }

    /// Where to read next; none while as many records are acquired as may be.
    pub(crate) fn read_from(&self) -> Option<i64> {
        let available = |(_, state): &(&i64, &State)| matches!(state, State::Available { .. });
        match self.states.iter().find(available) {
            Some((offset, _)) => Some(*offset),
            None => (self.states.len() < IN_FLIGHT_MAX).then_some(self.next),
        }
    }

    /// The log begins here now.
    pub(crate) fn truncate(&mut self, log_start: i64) {
        if log_start > self.start {
            self.states = self.states.split_off(&log_start);
            self.next = self.next.max(log_start);
            self.advance_start();
            self.kept = None;
        }
    }

    /// The log ends here now: what is written from here on are other records than were here.
    pub(crate) fn cut(&mut self, log_end: i64) {
        if log_end < self.next {
            self.states.split_off(&log_end);
            self.next = log_end;
            self.advance_start();
            self.kept = None;
        }
    }

    /// From the offset `from` on, where to read next, the log has nothing but these batches: what compaction removed
    /// around them is done with.
    pub(crate) fn pass_gaps(&mut self, mut from: i64, batches: &[LogBatch]) {
        for batch in batches {
            if from < batch.first {
                let available = |(offset, state): (&i64, &State)| {
                    matches!(state, State::Available { .. }).then_some(*offset)
                };
                let gone = self.states.range(from..batch.first).filter_map(available);
                for offset in gone.collect::<Vec<_>>() {
                    self.states.remove(&offset);
                    self.kept = None;
                }
            }
            from = batch.last.saturating_add(1);
        }
        self.advance_start();
    }

    /// Acquires what is available in these batches, in order.
    pub(crate) fn acquire(&mut self, batches: &[LogBatch], wanted: &Wanted) -> Vec<Acquired> {
        let mut acquired: Vec<Acquired> = Vec::new();
        let mut count = 0;
        for batch in batches {
            // A batch that may be cut is: the rest of it stays available.
            if count >= wanted.records_max
                || self.states.len() >= IN_FLIGHT_MAX && batch.last >= self.next
            {
                break;
            }
            for offset in batch.first.max(self.start)..=batch.last {
                if wanted.strict && count >= wanted.records_max {
                    break;
                }
                let deliveries = match self.states.get(&offset) {
                    Some(State::Available { deliveries }) => *deliveries,
                    None if offset >= self.next => 0,
                    _ => continue,
                };
                self.next = self.next.max(offset + 1);
                if batch.hidden {
                    self.states.remove(&offset);
                    continue;
                }
                let deliveries = deliveries.saturating_add(1);
                let state = State::Acquired {
                    deliveries,
                    holder: wanted.holder.clone(),
                    until: wanted.until,
                };
                self.states.insert(offset, state);
                count += 1;
                match acquired.last_mut() {
                    Some(run) if run.last + 1 == offset && run.deliveries == deliveries => {
                        run.last = offset;
                    }
                    _ => acquired.push(Acquired {
                        first: offset,
                        last: offset,
                        deliveries,
                    }),
                }
            }
        }
        if !acquired.is_empty() {
            let until = Some(wanted.until);
            self.locked_until = self.locked_until.min(until).or(until);
        }
        self.advance_start();
        acquired
    }

    /// Does what a member says, all of it or, after an error, nothing.
    pub(crate) fn acknowledge(
        &mut self,
        holder: &Holder,
        said: &[Said],
        deliveries_max: i16,
        renewed: Instant,
    ) -> Result<Done, ErrorCode> {
        let mut behind = i64::MIN;
        for run in said {
            let len = run.last.checked_sub(run.first).filter(|len| *len >= 0);
            let len = len.and_then(|len| usize::try_from(len).ok()?.checked_add(1));
            let len = len.ok_or(ErrorCode::INVALID_REQUEST)?;
            let known = run.types.iter().all(|kind| (GAP..=RENEW).contains(kind));
            if !known || run.types.len() != 1 && run.types.len() != len || run.first < behind {
                return Err(ErrorCode::INVALID_REQUEST);
            }
            behind = run.last.saturating_add(1);
            let is_held =
                |state: &State| matches!(state, State::Acquired { holder: by, .. } if by == holder);
            let mut states = self.states.range(run.first..=run.last);
            if len > self.states.len()
                || states.clone().count() != len
                || !states.all(|(_, s)| is_held(s))
            {
                return Err(ErrorCode::INVALID_RECORD_STATE);
            }
        }
        let mut done = Done {
            freed: false,
            undo: Undo {
                state_epoch: self.state_epoch,
                leader_epoch: self.leader_epoch,
                ended: Vec::new(),
            },
        };
        for run in said {
            for (place, offset) in (run.first..=run.last).enumerate() {
                match run.types.get(place).or(run.types.first()) {
                    Some(&RELEASE) => {
                        let (freed, ended) = self.free(offset, deliveries_max);
                        done.freed |= freed;
                        done.undo.ended.extend(ended);
                    }
                    Some(&RENEW) => {
                        if let Some(State::Acquired { until, .. }) = self.states.get_mut(&offset) {
                            *until = renewed;
                        }
                    }
                    _ => {
                        let ended = self.states.remove(&offset).map(|state| (offset, state));
                        done.undo.ended.extend(ended);
                        self.kept = None;
                    }
                }
            }
        }
        self.advance_start();
        Ok(done)
    }

    /// Puts back what an acknowledgement ended. What it released stays available: that loses nothing.
    pub(crate) fn undo(&mut self, undo: Undo) {
        if undo.state_epoch != self.state_epoch {
            return;
        }
        let same_leader = undo.leader_epoch == self.leader_epoch;
        for (offset, state) in undo.ended {
            let state = match state {
                State::Acquired { deliveries, .. } if !same_leader => State::Available {
                    deliveries: deliveries - 1,
                },
                state => state,
            };
            if let State::Acquired { until, .. } = &state {
                self.locked_until = self.locked_until.min(Some(*until)).or(Some(*until));
            }
            // A log that was cut meanwhile has other records there, or none.
            if offset < self.next {
                self.states.entry(offset).or_insert(state);
            }
        }
        self.kept = None;
        self.advance_start();
    }

    /// Gives back what this member acquired at a node. Whether something became available.
    pub(crate) fn release(&mut self, member: &str, node: i32, deliveries_max: i16) -> bool {
        self.free_all(deliveries_max, |holder, _| {
            *holder.0 == *member && node == holder.1
        })
    }

    /// Gives back what was acquired for too long. Whether something became available.
    pub(crate) fn expire(&mut self, now: Instant, deliveries_max: i16) -> bool {
        if self.locked_until.is_none_or(|until| now < until) {
            return false;
        }
        self.free_all(deliveries_max, |_, until| until <= now)
    }

    /// Gives back all that is acquired, as if it had been for too long. How many records there were.
    pub(crate) fn expire_all(&mut self, deliveries_max: i16) -> usize {
        let acquired = |state: &&State| matches!(state, State::Acquired { .. });
        let count = self.states.values().filter(acquired).count();
        self.free_all(deliveries_max, |_, _| true);
        count
    }

    /// When [`Self::expire`] next has something to do, or a little before: locks that were longest may be over already.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.locked_until
    }

    fn free_all(&mut self, deliveries_max: i16, which: impl Fn(&Holder, Instant) -> bool) -> bool {
        let concerned = |(offset, state): (&i64, &State)| match state {
            State::Acquired { holder, until, .. } if which(holder, *until) => Some(*offset),
            _ => None,
        };
        let offsets: Vec<i64> = self.states.iter().filter_map(concerned).collect();
        let mut freed = false;
        for offset in offsets {
            freed |= self.free(offset, deliveries_max).0;
        }
        let until = |state: &State| match state {
            State::Acquired { until, .. } => Some(*until),
            State::Available { .. } => None,
        };
        self.locked_until = self.states.values().filter_map(until).min();
        self.advance_start();
        freed
    }

    /// The next member may have it, unless that was tried too often. Whether it may, and what was ended if not.
    fn free(&mut self, offset: i64, deliveries_max: i16) -> (bool, Option<(i64, State)>) {
        let Some(State::Acquired { deliveries, .. }) = self.states.get(&offset) else {
            return (false, None);
        };
        let deliveries = *deliveries;
        self.kept = None;
        if deliveries >= deliveries_max {
            let ended = self.states.remove(&offset);
            return (false, ended.map(|state| (offset, state)));
        }
        self.states.insert(offset, State::Available { deliveries });
        (true, None)
    }

    /// Makes acquired records what they were before they were acquired.
    fn take_back(&mut self) {
        for state in self.states.values_mut() {
            if let State::Acquired { deliveries, .. } = state {
                let deliveries = *deliveries - 1;
                *state = State::Available { deliveries };
            }
        }
    }

    fn advance_start(&mut self) {
        let first = self.states.first_key_value();
        self.start = first.map_or(self.next, |(offset, _)| *offset);
    }
}

const GAP: i8 = 0;
const RELEASE: i8 = 2;
const RENEW: i8 = 4;

/// `group.share.partition.max.record.locks`, Kafka's default; a batch that begins below it comes whole.
const IN_FLIGHT_MAX: usize = 2_000;

#[cfg(test)]
mod tests;
