//! What a share group knows of one partition: which records are available, acquired or done (KIP-932). A plain struct.
//!
//! Offsets below the start are done with; those from `next` on were never acquired. In between each has a state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ottla_wire::ErrorCode;

/// Who acquired a record: a member, at the node that led the partition.
pub(crate) type Holder = (Arc<str>, i32);

/// One partition of one share group.
#[derive(Debug)]
pub(crate) struct SharePartition {
    start: i64,
    next: i64,
    /// Of the offsets from `start` to `next`; those that are not in it are done with.
    states: BTreeMap<i64, State>,
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

impl SharePartition {
    pub(crate) fn new(start: i64) -> Self {
        Self {
            start,
            next: start,
            states: BTreeMap::new(),
        }
    }

    /// The first offset that is not done with.
    #[cfg(test)]
    fn start(&self) -> i64 {
        self.start
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
        }
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
        self.advance_start();
        acquired
    }

    /// Does what a member says, all of it or, after an error, nothing. Whether something became available.
    pub(crate) fn acknowledge(
        &mut self,
        holder: &Holder,
        said: &[Said],
        deliveries_max: i16,
        renewed: Instant,
    ) -> Result<bool, ErrorCode> {
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
        let mut freed = false;
        for run in said {
            for (place, offset) in (run.first..=run.last).enumerate() {
                match run.types.get(place).or(run.types.first()) {
                    Some(&RELEASE) => freed |= self.free(offset, deliveries_max),
                    Some(&RENEW) => {
                        if let Some(State::Acquired { until, .. }) = self.states.get_mut(&offset) {
                            *until = renewed;
                        }
                    }
                    _ => drop(self.states.remove(&offset)),
                }
            }
        }
        self.advance_start();
        Ok(freed)
    }

    /// Gives back what this member acquired: at one node, or anywhere. Whether something became available.
    pub(crate) fn release(&mut self, member: &str, node: Option<i32>, deliveries_max: i16) -> bool {
        self.free_all(deliveries_max, |holder, _| {
            *holder.0 == *member && node.is_none_or(|node| node == holder.1)
        })
    }

    /// Gives back what was acquired for too long. Whether something became available.
    pub(crate) fn expire(&mut self, now: Instant, deliveries_max: i16) -> bool {
        self.free_all(deliveries_max, |_, until| until <= now)
    }

    /// When [`Self::expire`] next has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let until = |state: &State| match state {
            State::Acquired { until, .. } => Some(*until),
            State::Available { .. } => None,
        };
        self.states.values().filter_map(until).min()
    }

    fn free_all(&mut self, deliveries_max: i16, which: impl Fn(&Holder, Instant) -> bool) -> bool {
        let concerned = |(offset, state): (&i64, &State)| match state {
            State::Acquired { holder, until, .. } if which(holder, *until) => Some(*offset),
            _ => None,
        };
        let offsets: Vec<i64> = self.states.iter().filter_map(concerned).collect();
        let mut freed = false;
        for offset in offsets {
            freed |= self.free(offset, deliveries_max);
        }
        self.advance_start();
        freed
    }

    /// The next member may have it, unless that was tried too often.
    fn free(&mut self, offset: i64, deliveries_max: i16) -> bool {
        let Some(State::Acquired { deliveries, .. }) = self.states.get(&offset) else {
            return false;
        };
        let deliveries = *deliveries;
        if deliveries >= deliveries_max {
            self.states.remove(&offset);
            return false;
        }
        self.states.insert(offset, State::Available { deliveries });
        true
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
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMIT: i16 = 3;

    fn holder(name: &str) -> Holder {
        (name.into(), 1)
    }

    fn batch(first: i64, last: i64) -> LogBatch {
        LogBatch {
            first,
            last,
            hidden: false,
        }
    }

    fn wanted(name: &str, records_max: usize, strict: bool, until: Instant) -> Wanted {
        Wanted {
            holder: holder(name),
            records_max,
            strict,
            until,
        }
    }

    fn said(first: i64, last: i64, kind: i8) -> Said {
        Said {
            first,
            last,
            types: vec![kind],
        }
    }

    fn runs(acquired: &[Acquired]) -> Vec<(i64, i64, i16)> {
        let runs = acquired.iter();
        runs.map(|run| (run.first, run.last, run.deliveries))
            .collect()
    }

    #[test]
    fn whole_batches_or_exactly_so_many() {
        let until = Instant::now();
        let log = [batch(0, 3), batch(4, 9)];
        let mut partition = SharePartition::new(0);
        assert_eq!(
            runs(&partition.acquire(&log, &wanted("a", 2, false, until))),
            [(0, 3, 1)]
        );
        assert_eq!(
            runs(&partition.acquire(&log, &wanted("b", 2, true, until))),
            [(4, 5, 1)]
        );
        assert_eq!(partition.read_from(), Some(6));
        assert_eq!(
            runs(&partition.acquire(&log, &wanted("a", 9, true, until))),
            [(6, 9, 1)]
        );
        assert!(
            partition
                .acquire(&log, &wanted("a", 9, false, until))
                .is_empty()
        );
    }

    #[test]
    fn what_is_said_is_done_all_of_it_or_nothing() {
        let until = Instant::now();
        let mut partition = SharePartition::new(0);
        partition.acquire(&[batch(0, 5)], &wanted("a", 9, false, until));
        let a = holder("a");
        let mut say = |said: &[Said], by: &Holder| partition.acknowledge(by, said, LIMIT, until);
        let state = Err(ErrorCode::INVALID_RECORD_STATE);
        assert_eq!(say(&[said(0, 0, 1), said(6, 6, 1)], &a), state);
        assert_eq!(say(&[said(0, 0, 1)], &holder("b")), state);
        assert_eq!(say(&[said(0, i64::MAX, 1)], &a), state);
        let request = Err(ErrorCode::INVALID_REQUEST);
        assert_eq!(say(&[said(i64::MIN, i64::MAX, 1)], &a), request);
        assert_eq!(say(&[said(3, 2, 1)], &a), request);
        assert_eq!(say(&[said(0, 0, 5)], &a), request);
        assert_eq!(say(&[said(1, 1, 1), said(0, 0, 1)], &a), request);
        let mixed = Said {
            first: 0,
            last: 3,
            types: vec![1, 2, 3, 4],
        };
        assert_eq!(say(&[mixed, said(4, 4, 0)], &a), Ok(true));
        assert_eq!(say(&[said(0, 0, 1)], &a), state);
        assert_eq!((partition.start(), partition.read_from()), (1, Some(1)));
        let again = partition.acquire(&[batch(0, 5)], &wanted("b", 9, false, until));
        assert_eq!(runs(&again), [(1, 1, 2)]);
    }

    #[test]
    fn a_record_that_fails_too_often_is_given_up() {
        let mut now = Instant::now();
        let mut partition = SharePartition::new(0);
        for round in 1..=LIMIT {
            let until = now + Duration::from_secs(1);
            let acquired = partition.acquire(&[batch(0, 0)], &wanted("a", 1, false, until));
            assert_eq!(runs(&acquired), [(0, 0, round)]);
            assert_eq!(partition.next_timeout(), Some(until));
            assert!(!partition.expire(now, LIMIT));
            now = until;
            assert_eq!(partition.expire(now, LIMIT), round < LIMIT);
        }
        assert_eq!((partition.start(), partition.next_timeout()), (1, None));
    }

    #[test]
    fn markers_are_passed_and_a_log_that_was_cut_is_followed() {
        let until = Instant::now();
        let mut partition = SharePartition::new(0);
        let hidden = LogBatch {
            hidden: true,
            ..batch(0, 4)
        };
        let acquired = partition.acquire(&[hidden, batch(5, 9)], &wanted("a", 1, false, until));
        assert_eq!((runs(&acquired), partition.start()), (vec![(5, 9, 1)], 5));
        partition.truncate(8);
        assert_eq!(partition.start(), 8);
        assert!(partition.release("a", Some(1), LIMIT));
        assert!(!partition.release("a", None, LIMIT));
        partition.truncate(100);
        assert_eq!((partition.start(), partition.read_from()), (100, Some(100)));
    }

    #[test]
    fn no_more_are_acquired_than_may_be() {
        let until = Instant::now();
        let mut partition = SharePartition::new(0);
        let max = IN_FLIGHT_MAX as i64;
        partition.acquire(&[batch(0, max - 1)], &wanted("a", usize::MAX, false, until));
        assert_eq!(partition.read_from(), None);
        let more = partition.acquire(&[batch(max, max)], &wanted("a", 1, false, until));
        assert!(more.is_empty());
        assert!(partition.release("a", None, LIMIT));
        assert_eq!(partition.read_from(), Some(0));
    }
}
