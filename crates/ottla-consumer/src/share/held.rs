//! Which records of one partition a member holds: the offsets of what was handed out and not acknowledged, as ranges.

use std::{collections::BTreeMap, time::Instant};

/// A run of offsets, both ends included.
pub(super) type Run = (i64, i64);

/// Offsets that are held, each until its acquisition lock times out. Runs in it do not overlap.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// By first offset: the last, and until when.
    runs: BTreeMap<i64, (i64, Instant)>,
}

impl Held {
    /// Holds these from now on. What was held of them before is held until `until`, too.
    pub(super) fn insert(&mut self, (first, last): Run, until: Instant) {
        let _before = self.remove((first, last));
        // What one answer brought is locked until the same moment, and makes one run.
        if let Some((&before, entry)) = self.runs.range_mut(..first).next_back()
            && entry.0.checked_add(1) == Some(first)
            && entry.1 == until
        {
            debug_assert!(before < first);
            entry.0 = last;
            return;
        }
        self.runs.insert(first, (last, until));
    }

    /// Holds one offset no longer. Until when it was held, if it was.
    pub(super) fn take(&mut self, offset: i64) -> Option<Instant> {
        let (&first, &(last, until)) = self.runs.range(..=offset).next_back()?;
        if last < offset {
            return None;
        }
        if first == offset {
            self.runs.remove(&first);
        } else {
            self.runs.insert(first, (offset - 1, until));
        }
        if offset < last {
            self.runs.insert(offset + 1, (last, until));
        }
        Some(until)
    }

    /// Whether an offset is held.
    pub(super) fn contains(&self, offset: i64) -> bool {
        let before = self.runs.range(..=offset).next_back();
        before.is_some_and(|(_, &(last, _))| offset <= last)
    }

    /// Holds nothing any more; what was held, in order.
    pub(super) fn drain(&mut self) -> Vec<Run> {
        let runs = std::mem::take(&mut self.runs);
        runs.into_iter()
            .map(|(first, (last, _))| (first, last))
            .collect()
    }

    /// Lets go of what timed out; which that is, in order.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Run> {
        let mut gone = Vec::new();
        self.runs.retain(|&first, &mut (last, until)| {
            if until <= now {
                gone.push((first, last));
            }
            until > now
        });
        gone
    }

    /// When the first of them times out.
    pub(super) fn until(&self) -> Option<Instant> {
        self.runs.values().map(|(_, until)| *until).min()
    }

    /// How many offsets are held.
    pub(super) fn len(&self) -> u64 {
        let runs = self.runs.iter();
        runs.map(|(&first, &(last, _))| run_len((first, last)))
            .sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Holds nothing of these any more; what was held of them, in order.
    pub(super) fn remove(&mut self, (first, last): Run) -> Vec<Run> {
        let mut gone = Vec::new();
        if let Some((&before, &(end, until))) = self.runs.range(..first).next_back()
            && end >= first
        {
            self.runs.insert(before, (first - 1, until));
            gone.push((first, end.min(last)));
            if end > last {
                self.runs.insert(last + 1, (end, until));
            }
        }
        let inside: Vec<_> = self.runs.range(first..=last).map(|(at, _)| *at).collect();
        for at in inside {
            if let Some((end, until)) = self.runs.remove(&at) {
                gone.push((at, end.min(last)));
                if end > last {
                    self.runs.insert(last + 1, (end, until));
                }
            }
        }
        gone
    }
}

/// How many offsets a run has.
pub(super) fn run_len((first, last): Run) -> u64 {
    last.abs_diff(first).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_one_answer_brought_is_one_run_until_it_is_taken_apart() {
        let until = Instant::now();
        let mut held = Held::default();
        for offset in 0..10 {
            held.insert((offset, offset), until);
        }
        assert_eq!(held.runs.len(), 1);
        assert_eq!(held.take(4), Some(until));
        assert_eq!(held.take(4), None);
        assert!(!held.contains(4) && held.contains(3) && held.contains(5) && !held.contains(10));
        assert_eq!(held.drain(), [(0, 3), (5, 9)]);
        assert!(held.is_empty());
    }

    #[test]
    fn the_largest_offsets_overflow_nothing() {
        let until = Instant::now();
        let mut held = Held::default();
        held.insert((i64::MAX - 1, i64::MAX), until);
        held.insert((i64::MIN, i64::MIN), until);
        held.insert((i64::MAX, i64::MAX), until);
        assert_eq!(held.take(i64::MAX), Some(until));
        assert_eq!(
            held.drain(),
            [(i64::MIN, i64::MIN), (i64::MAX - 1, i64::MAX - 1)]
        );
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_of_offsets(steps in prop::collection::vec((0..5_u8, 0..30_i64, 0..6_i64, 0..4_u64), 1..60)) {
            let start = Instant::now();
            let mut held = Held::default();
            let mut model: BTreeMap<i64, Instant> = BTreeMap::new();
            for (what, first, len, time) in steps {
                let until = start + Duration::from_secs(time);
                match what {
                    0 | 1 => {
                        held.insert((first, first + len), until);
                        model.extend((first..=first + len).map(|offset| (offset, until)));
                    }
                    2 => prop_assert_eq!(held.take(first), model.remove(&first)),
                    3 => {
                        let gone: Vec<_> = held.remove((first, first + len)).into_iter().flat_map(|(a, b)| a..=b).collect();
                        let expected: Vec<_> = model.extract_if(first..=first + len, |_, _| true).map(|(offset, _)| offset).collect();
                        prop_assert_eq!(gone, expected);
                    }
                    _ => {
                        let gone: Vec<_> = held.expire(until).into_iter().flat_map(|(a, b)| a..=b).collect();
                        let expected: Vec<_> = model.extract_if(.., |_, at| *at <= until).map(|(offset, _)| offset).collect();
                        prop_assert_eq!(gone, expected);
                    }
                }
                for offset in -1..40 {
                    prop_assert_eq!(held.contains(offset), model.contains_key(&offset));
                }
            }
        }
    }
}
