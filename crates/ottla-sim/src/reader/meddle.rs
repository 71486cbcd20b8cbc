//! Somebody else with a handle of the same consumer, who pauses, seeks and commits while it is being read.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ottla_consumer::Consumer;

use super::{Goal, assignment, name, place, positions, tell_positions};
use crate::history::{History, Member, What};
use crate::world::World;

pub(super) struct Meddler {
    pub(super) world: Arc<World>,
    pub(super) goal: Arc<Goal>,
    pub(super) consumer: Consumer,
    pub(super) member: Member,
    /// Whether it has a group to commit to.
    pub(super) commits: bool,
    pub(super) rng: Rng,
}

impl Meddler {
    /// Until it is aborted, the consumer becomes another member, or the weather is fair.
    pub(super) async fn run(mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.rng.u64(0..3_000))).await;
            if self.goal.is_calm() {
                return;
            }
            let commits = self.commits;
            let history = &self.world.history;
            match self.rng.u32(0..10) {
                0..4 => pause_or_resume(history, &self.consumer, self.member, &mut self.rng),
                4..6 => seek(
                    &self.world,
                    &self.consumer,
                    self.member,
                    commits,
                    &mut self.rng,
                ),
                _ if commits => {
                    // Whoever commits positions says that all before them is done.
                    let (member, number) = (self.member, history.new_number());
                    history.record(What::Done { member });
                    history.record(What::CommitCalled {
                        member,
                        number,
                        positions: positions(&self.consumer),
                    });
                    if self.consumer.commit().await.is_ok() {
                        history.record(What::CommitAcked { member, number });
                    }
                }
                _ => {}
            }
        }
    }
}

pub(super) fn pause_or_resume(
    history: &History,
    consumer: &Consumer,
    member: Member,
    rng: &mut Rng,
) {
    let Some(part) = rng.choice(assignment(consumer)) else {
        return;
    };
    let names = [name(part)];
    if consumer.paused().contains(&names[0]) {
        history.record(What::Resumed { member, part });
        // It is assigned: nothing happened since that was looked up.
        let _ = consumer.resume(&names);
    } else if consumer.pause(&names).is_ok() {
        history.record(What::Paused { member, part });
    }
}

pub(super) fn seek(
    world: &World,
    consumer: &Consumer,
    member: Member,
    commits: bool,
    rng: &mut Rng,
) {
    let Some(part) = rng.choice(assignment(consumer)) else {
        return;
    };
    let (offset, to) = place(world, part, commits, rng);
    // From where it goes: a commit of that may still be under way.
    tell_positions(&world.history, consumer, member);
    if consumer.seek(&name(part), offset).is_ok() {
        world.history.record(What::Sought { member, part, to });
    }
}
