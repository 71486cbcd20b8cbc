//! SyncGroup: the leader brings the assignment, everyone else waits for their part of it.

use bytes::Bytes;
use ottla_wire::ErrorCode;
use ottla_wire::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};

use super::Serve;
use crate::context::Context;
use crate::group::classic::{Action, Sync};

impl Serve for SyncGroupRequest {
    async fn serve(self, context: &Context) -> Option<SyncGroupResponse> {
        if let Err(error) = context.check_coordinator(&self.group_id) {
            return Some(self.refuse(error));
        }
        let sync = Sync {
            member_id: self.member_id.to_string(),
            instance_id: self.group_instance_id.as_deref().map(str::to_owned),
            generation: self.generation_id,
            protocol_type: self.protocol_type.as_deref().map(str::to_owned),
            protocol: self.protocol_name.as_deref().map(str::to_owned),
            assignments: self
                .assignments
                .iter()
                // A copy: a group must not keep the request's whole buffer.
                .map(|part| {
                    let assignment = Bytes::copy_from_slice(&part.assignment);
                    (part.member_id.to_string(), assignment)
                })
                .collect(),
        };
        let view = context.shared.cluster.read().topics_view();
        let (waiter, answer) = context.shared.park();
        let mut actions = Vec::new();
        {
            let mut groups = context.shared.groups.lock();
            let Some(group) = groups.get_mut(&self.group_id) else {
                drop(groups);
                context.shared.unpark(waiter);
                return Some(self.refuse(ErrorCode::UNKNOWN_MEMBER_ID));
            };
            group.sync(waiter, sync, &view, context.shared.now(), &mut actions);
        }
        context.shared.deliver(actions);
        context.shared.groups_changed.notify_one();
        match answer.await {
            Ok(Action::Synced(_, synced)) => Some(SyncGroupResponse {
                error_code: synced.error,
                protocol_type: synced.protocol_type.map(Into::into),
                protocol_name: synced.protocol.map(Into::into),
                assignment: synced.assignment,
                ..Default::default()
            }),
            // Only when the broker stops.
            Ok(Action::Joined(..)) | Err(_) => {
                Some(self.refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE))
            }
        }
    }

    fn refuse(&self, error: ErrorCode) -> SyncGroupResponse {
        SyncGroupResponse {
            error_code: error,
            ..Default::default()
        }
    }
}
