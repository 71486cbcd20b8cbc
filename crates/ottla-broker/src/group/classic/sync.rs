//! SyncGroup: the leader's assignment reaches the members.

use std::time::Instant;

use bytes::Bytes;
use ottla_wire::ErrorCode;

use super::{Action, ClassicGroup, State, Sync, Synced, Waiter};

impl ClassicGroup {
    /// A member asks for its assignment; the leader brings everybody's.
    pub(crate) fn sync(
        &mut self,
        waiter: Waiter,
        sync: Sync,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if let Err(error) = self.check_sync(&sync) {
            actions.push(Action::Synced(waiter, Synced::refused(error)));
            return;
        }
        if let Some(member) = self.members.get_mut(&sync.member_id) {
            member.touch(now);
            if let Some(earlier) = member.syncing.replace(waiter) {
                actions.push(Action::Synced(
                    earlier,
                    Synced::refused(ErrorCode::REBALANCE_IN_PROGRESS),
                ));
            }
        }
        self.unsynced.remove(&sync.member_id);
        if self.unsynced.is_empty() {
            self.sync_deadline = None;
        }
        if self.state == State::CompletingRebalance {
            if self.leader.as_deref() != Some(sync.member_id.as_str()) {
                return;
            }
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            for (id, assignment) in sync.assignments {
                if let Some(member) = self.members.get_mut(&id) {
                    member.assignment = assignment;
                }
            }
            self.state = State::Stable;
        }
        self.answer_syncs(now, actions);
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        let instance_id = sync.instance_id.as_deref();
        self.check_member(&sync.member_id, instance_id, Some(sync.generation))?;
        let differs = |said: &Option<String>, is: &Option<String>| said.is_some() && said != is;
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        match self.state {
            State::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            State::PreparingRebalance { .. } => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    fn answer_syncs(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for member in self.members.values_mut() {
            if let Some(waiter) = member.syncing.take() {
                member.touch(now);
                let synced = Synced {
                    error: ErrorCode::NONE,
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment: member.assignment.clone(),
                };
                actions.push(Action::Synced(waiter, synced));
            }
        }
    }
}
