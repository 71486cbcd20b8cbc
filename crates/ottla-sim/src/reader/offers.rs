//! By which protocol members join, and which assignors they offer by the classic one: all the same, or such as a group
//! offers that is led from eager to cooperative rebalancing while it works.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fastrand::Rng;
use ottla_consumer::assignor::{
    Assignor, CooperativeSticky, Range, RebalanceProtocol, RoundRobin, Sticky,
};

/// What the members of one group offer. All have one in common.
#[derive(Clone, Debug)]
pub(super) enum Offers {
    Range,
    RoundRobin,
    Sticky,
    Cooperative,
    /// Nothing: by the consumer protocol (KIP-848) the coordinator assigns.
    Nothing,
    /// Some members nothing, and the others the one assignor: any member may come back as one of the other kind.
    Mixed {
        cooperative: bool,
    },
    /// As KIP-429 has it done: each member is restarted with both, and when all have both, with the new one alone.
    Changing(Arc<Mutex<BTreeMap<usize, Stage>>>),
}

/// How far one place of a group is in such a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Eager,
    Both,
    Cooperative,
}

impl Offers {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        match rng.u32(0..6) {
            0 => Self::Changing(Arc::default()),
            1 => Self::Mixed {
                cooperative: rng.bool(),
            },
            _ => Self::draw_steady(rng),
        }
    }

    pub(super) fn draw_steady(rng: &mut Rng) -> Self {
        match rng.u32(0..14) {
            0 => Self::Range,
            1 => Self::RoundRobin,
            2..4 => Self::Sticky,
            4..8 => Self::Cooperative,
            _ => Self::Nothing,
        }
    }

    /// Whether the next member joins by the consumer protocol.
    pub(super) fn next_is_consumer(&self, rng: &mut Rng) -> bool {
        match self {
            Self::Nothing => true,
            Self::Mixed { .. } => rng.bool(),
            _ => false,
        }
    }

    /// What the next consumer in a place of the group offers, the best first.
    pub(super) fn next(&self, slot: usize, rng: &mut Rng) -> Vec<Arc<dyn Assignor>> {
        let coin = rng.bool();
        match (self, coin) {
            (Self::Range, true) | (Self::RoundRobin | Self::Sticky, true) => vec![Arc::new(Range)],
            (Self::Range, false) => vec![Arc::new(Range), Arc::new(RoundRobin)],
            (Self::RoundRobin, false) => vec![Arc::new(RoundRobin), Arc::new(Range)],
            (Self::Sticky, false) => vec![Arc::new(Sticky), Arc::new(Range)],
            // What a consumer is set to if nothing is said.
            (Self::Nothing, _) => vec![Arc::new(Range)],
            (Self::Mixed { cooperative: false }, _) => vec![Arc::new(Range)],
            (Self::Cooperative | Self::Mixed { .. }, _) => vec![Arc::new(CooperativeSticky)],
            (Self::Changing(stages), moves_on) => {
                // A panic while it was held would have ended the run.
                let mut stages = stages.lock().unwrap_or_else(PoisonError::into_inner);
                match next_stage(&mut stages, slot, moves_on) {
                    Stage::Eager => vec![Arc::new(Range)],
                    Stage::Both => vec![Arc::new(CooperativeSticky), Arc::new(Range)],
                    Stage::Cooperative => vec![Arc::new(CooperativeSticky)],
                }
            }
        }
    }
}

/// Whether a member that offers these gives up only what it is told to.
pub(super) fn is_cooperative(assignors: &[Arc<dyn Assignor>]) -> bool {
    let mut assignors = assignors.iter();
    assignors.all(|assignor| {
        let protocols = assignor.rebalance_protocols();
        protocols.contains(&RebalanceProtocol::Cooperative)
    })
}

/// Nobody offers the old one alone once somebody offers the new one alone.
fn next_stage(stages: &mut BTreeMap<usize, Stage>, slot: usize, moves_on: bool) -> Stage {
    let (first, last) = (stages.values().min(), stages.values().max());
    let wanted = match (stages.get(&slot), moves_on) {
        (None, _) if last == Some(&Stage::Cooperative) => Stage::Both,
        (None | Some(Stage::Eager), false) => Stage::Eager,
        (None, true) | (Some(Stage::Eager), true) | (Some(Stage::Both), false) => Stage::Both,
        (Some(Stage::Both), true) if first == Some(&Stage::Eager) => Stage::Both,
        (Some(Stage::Both | Stage::Cooperative), _) => Stage::Cooperative,
    };
    stages.insert(slot, wanted);
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_assignor_and_the_new_one_never_meet_alone() {
        let mut reached = 0;
        for seed in 0..200 {
            let mut rng = Rng::with_seed(seed);
            let mut stages = BTreeMap::new();
            for _ in 0..40 {
                next_stage(&mut stages, rng.usize(0..4), rng.bool());
                let offered = |stage| stages.values().any(|of_slot| *of_slot == stage);
                assert!(!(offered(Stage::Eager) && offered(Stage::Cooperative)));
            }
            let mut all = stages.values();
            reached += usize::from(all.all(|stage| *stage == Stage::Cooperative));
        }
        assert!(reached > 100, "only {reached} of 200 changes ended");
    }
}
