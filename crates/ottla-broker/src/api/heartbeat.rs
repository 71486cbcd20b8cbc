//! Heartbeat: a member says that it lives, and hears whether a rebalance is on.

use ottla_wire::ErrorCode;
use ottla_wire::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::Serve;
use crate::context::Context;

impl Serve for HeartbeatRequest {
    async fn serve(self, context: &Context) -> Option<HeartbeatResponse> {
        if let Err(error) = context.check_coordinator(&self.group_id) {
            return Some(self.refuse(error));
        }
        let mut groups = context.shared.groups.lock();
        let error = groups
            .get_mut(&self.group_id)
            .map_or(ErrorCode::UNKNOWN_MEMBER_ID, |group| {
                group.heartbeat(
                    &self.member_id,
                    self.group_instance_id.as_deref(),
                    self.generation_id,
                    context.shared.now(),
                )
            });
        drop(groups);
        if error == ErrorCode::REBALANCE_IN_PROGRESS {
            // In a consumer group the member has so much time to join again from now on.
            context.shared.groups_changed.notify_one();
        }
        Some(self.refuse(error))
    }

    fn refuse(&self, error: ErrorCode) -> HeartbeatResponse {
        HeartbeatResponse {
            error_code: error,
            ..Default::default()
        }
    }
}
