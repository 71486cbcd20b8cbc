//! LeaveGroup: members go, and the rest rebalances at once.

use ottla_wire::ErrorCode;
use ottla_wire::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};

use super::Serve;
use crate::context::Context;

impl Serve for LeaveGroupRequest {
    async fn serve(self, context: &Context) -> Option<LeaveGroupResponse> {
        if let Err(error) = context.check_coordinator(&self.group_id) {
            return Some(self.refuse(error));
        }
        let view = context.shared.cluster.read().topics_view();
        let now = context.shared.now();
        let mut actions = Vec::new();
        let mut response = LeaveGroupResponse::default();
        let was_consumer;
        {
            let mut groups = context.shared.groups.lock();
            let before = groups.get(&self.group_id);
            was_consumer = before.is_some_and(|group| group.consumer.is_some());
            let mut leave = |member_id: &str, instance_id: Option<&str>| {
                groups
                    .get_mut(&self.group_id)
                    .map_or(ErrorCode::UNKNOWN_MEMBER_ID, |group| {
                        group.leave(member_id, instance_id, &view, now, &mut actions)
                    })
            };
            if context.version < SEVERAL_MEMBERS_FROM {
                response.error_code = leave(&self.member_id, None);
            }
            for member in &self.members {
                if let Some(reason) = member.reason.as_deref().filter(|reason| !reason.is_empty()) {
                    let (group, member) = (&*self.group_id, &*member.member_id);
                    tracing::debug!(group, member, reason, "leaves");
                }
                response.members.push(MemberResponse {
                    member_id: member.member_id.clone(),
                    group_instance_id: member.group_instance_id.clone(),
                    error_code: leave(&member.member_id, member.group_instance_id.as_deref()),
                    ..Default::default()
                });
            }
        }
        context.shared.deliver(actions);
        context.shared.groups_changed.notify_one();
        // Of a consumer group it is kept who its members are.
        if was_consumer && let Err(error) = context.shared.group_kept(&self.group_id).await {
            tracing::error!(group = &*self.group_id, %error, "cannot write a group");
        }
        Some(response)
    }

    fn refuse(&self, error: ErrorCode) -> LeaveGroupResponse {
        LeaveGroupResponse {
            error_code: error,
            ..Default::default()
        }
    }
}

const SEVERAL_MEMBERS_FROM: i16 = 3;
