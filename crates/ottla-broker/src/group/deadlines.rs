//! When which group next has something to do: so that whoever waits for the earliest need not look at all groups
//! whenever one changes.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// The groups that have something to do, by when.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// What `queue` has of each group.
    by_group: HashMap<String, Instant>,
    queue: BTreeSet<(Instant, String)>,
    /// Groups that may have another time since it was asked.
    touched: BTreeSet<String>,
}

impl Deadlines {
    /// Somebody may change the group, or it is gone.
    pub(super) fn touch(&mut self, group: &str) {
        if !self.touched.contains(group) {
            self.touched.insert(group.to_owned());
        }
    }

    /// Asks the groups that may have changed for their time.
    pub(super) fn settle(&mut self, next: impl Fn(&str) -> Option<Instant>) {
        while let Some(group) = self.touched.pop_first() {
            let at = next(&group);
            if self.by_group.get(&group).copied() == at {
                continue;
            }
            if let Some(before) = self.by_group.remove(&group) {
                self.queue.remove(&(before, group.clone()));
            }
            if let Some(at) = at {
                self.queue.insert((at, group.clone()));
                self.by_group.insert(group, at);
            }
        }
    }

    /// The earliest time of all, of groups as they were settled.
    pub(super) fn first(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// The groups whose time has come, by id.
    pub(super) fn due(&self, now: Instant) -> Vec<String> {
        let due = self.queue.iter().take_while(|(at, _)| *at <= now);
        let mut due: Vec<String> = due.map(|(_, group)| group.clone()).collect();
        due.sort();
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_groups_that_were_touched_are_asked() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut deadlines = Deadlines::default();
        let mut settle = |touched: &[&str], times: &[(&str, u64)]| {
            for group in touched {
                deadlines.touch(group);
            }
            deadlines.settle(|group| {
                assert!(touched.contains(&group), "{group}");
                let time = times.iter().find(|(of, _)| *of == group);
                time.map(|(_, seconds)| at(*seconds))
            });
            let first = deadlines.first();
            (first, deadlines.due(at(3)))
        };
        assert_eq!(
            settle(&["b", "a", "c"], &[("b", 2), ("a", 3)]),
            (Some(at(2)), vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(
            settle(&["b"], &[("b", 5)]),
            (Some(at(3)), vec!["a".to_owned()])
        );
        assert_eq!(settle(&["a"], &[]), (Some(at(5)), vec![]));
        assert_eq!(settle(&["b"], &[]), (None, vec![]));
    }
}
