//! Static members (KIP-345): a process that comes back under its `group.instance.id` has the place that it had.

use std::time::Instant;

use ottla_wire::ErrorCode;

use super::message::{Heartbeat, LEAVE_FOR_A_WHILE};
use super::{ConsumerGroup, unknown_member};
use crate::error::Refused;

impl ConsumerGroup {
    /// A static member comes back under another id (KIP-345), if the other has left.
    pub(super) fn take_place(
        &mut self,
        beat: &Heartbeat,
        other: &str,
        now: Instant,
    ) -> Result<bool, Refused> {
        let instance = beat.instance_id.clone().unwrap_or_default();
        let id = &beat.member_id;
        let Some(left) = self.members.get(other) else {
            return Err(unknown_member(id));
        };
        if beat.epoch != 0 {
            return Err(fenced_instance(id, &instance, other));
        }
        // One that speaks the classic protocol never says that it leaves.
        if left.epoch != LEAVE_FOR_A_WHILE && left.classic.is_none() {
            return Err(Refused {
                error: ErrorCode::UNRELEASED_INSTANCE_ID,
                message: format!(
                    "Static member {id} with instance id {instance} cannot join the group because the instance id is owned by {other} member."
                ),
            });
        }
        self.succeed(other, id, &instance, now);
        Ok(true)
    }

    /// A static member goes on under another id, with all that it has.
    pub(super) fn succeed(&mut self, other: &str, id: &str, instance: &str, now: Instant) {
        let Some(mut member) = self.members.remove(other) else {
            return;
        };
        id.clone_into(&mut member.id);
        member.epoch = 0;
        member.previous_epoch = 0;
        member.expires = now;
        self.members.insert(id.to_owned(), member);
        self.instances.insert(instance.to_owned(), id.to_owned());
        if let Some(share) = self.target.remove(other) {
            self.target.insert(id.to_owned(), share);
        }
    }
}

pub(super) fn fenced_instance(id: &str, instance: &str, other: &str) -> Refused {
    Refused {
        error: ErrorCode::FENCED_INSTANCE_ID,
        message: format!(
            "Static member {id} with instance id {instance} was fenced by member {other}."
        ),
    }
}
