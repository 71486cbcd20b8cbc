//! How far the applications of a run have come, and whether that is far enough.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Mode;
use crate::history::Part;

/// What the applications of a run tell each other.
#[derive(Debug)]
pub(crate) struct Goal {
    calm: AtomicBool,
    over: AtomicBool,
    /// Which applications must reach the ends together.
    teams: BTreeMap<usize, u8>,
    reached: Mutex<BTreeMap<usize, Vec<(Part, i64)>>>,
}

impl Goal {
    pub(crate) fn new(applications: &[Mode]) -> Self {
        let teams = applications.iter().map(|mode| mode.group);
        Self {
            calm: AtomicBool::new(false),
            over: AtomicBool::new(false),
            teams: teams.enumerate().collect(),
            reached: Mutex::default(),
        }
    }

    /// From now on everybody just reads.
    pub(crate) fn settle_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Everybody is to end.
    pub(crate) fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(crate) fn reached(&self, application: usize, positions: Vec<(Part, i64)>) {
        self.lock().insert(application, positions);
    }

    pub(crate) fn forget(&self, application: usize) {
        self.lock().remove(&application);
    }

    /// Who has not read to the ends, and what.
    pub(crate) fn behind(&self, ends: &[(Part, i64)]) -> Option<String> {
        let reached = self.lock();
        let mut teams: Vec<u8> = self.teams.values().copied().collect();
        teams.dedup();
        for team in teams {
            let of_team = || {
                reached
                    .iter()
                    .filter(|(slot, _)| self.teams.get(slot) == Some(&team))
            };
            for (part, end) in ends {
                let places: Vec<i64> = of_team()
                    .flat_map(|(_, positions)| positions)
                    .filter(|(of, _)| of == part)
                    .map(|(_, position)| *position)
                    .collect();
                if !places.iter().any(|place| place >= end) {
                    return Some(format!(
                        "group {team} does not reach the end of {part}: it is at {places:?} of {end}"
                    ));
                }
            }
        }
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Vec<(Part, i64)>>> {
        // A panic while it was held would have ended the run.
        self.reached
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
