//! JoinGroup: a member asks into a group, and waits until the group's next generation is complete.

use std::time::Duration;

use bytes::Bytes;
use ottla_wire::ErrorCode;
use ottla_wire::messages::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};

use super::Serve;
use crate::context::Context;
use crate::group::classic::{Action, Join, Joined};

impl Serve for JoinGroupRequest {
    async fn serve(self, context: &Context) -> Option<JoinGroupResponse> {
        if let Err(error) = context.check_coordinator(&self.group_id) {
            return Some(self.refuse(error));
        }
        let join = join(&self, context);
        if let Some(reason) = self.reason.as_deref().filter(|reason| !reason.is_empty()) {
            tracing::debug!(
                group = &*self.group_id,
                member = &*self.member_id,
                reason,
                "joins"
            );
        }
        let view = context.shared.cluster.read().topics_view();
        let now = context.shared.now();
        let (waiter, answer) = context.shared.park();
        let mut actions = Vec::new();
        let was_consumer;
        {
            let mut groups = context.shared.groups.lock();
            if !self.member_id.is_empty() && groups.get(&self.group_id).is_none() {
                drop(groups);
                context.shared.unpark(waiter);
                return Some(self.refuse(ErrorCode::UNKNOWN_MEMBER_ID));
            }
            let before = groups.get(&self.group_id);
            was_consumer = before.is_some_and(|group| group.consumer.is_some());
            groups.join(&self.group_id, waiter, join, &view, now, &mut actions);
        }
        context.shared.deliver(actions);
        context.shared.groups_changed.notify_one();
        if was_consumer && let Err(error) = context.shared.group_kept(&self.group_id).await {
            // The next commit makes up for it.
            tracing::error!(group = &*self.group_id, %error, "cannot write a group");
        }
        match answer.await {
            Ok(Action::Joined(_, joined)) => Some(respond(context.version, joined)),
            // Only when the broker stops.
            Ok(Action::Synced(..)) | Err(_) => {
                Some(self.refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE))
            }
        }
    }

    fn refuse(&self, error: ErrorCode) -> JoinGroupResponse {
        JoinGroupResponse {
            error_code: error,
            generation_id: -1,
            member_id: self.member_id.clone(),
            ..Default::default()
        }
    }
}

fn join(request: &JoinGroupRequest, context: &Context) -> Join {
    let session_timeout = millis(request.session_timeout_ms);
    let rebalance_timeout = match request.rebalance_timeout_ms {
        // Version 0 has one timeout for both.
        ..0 => session_timeout,
        timeout => millis(timeout),
    };
    Join {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_deref().map(str::to_owned),
        client_id: context.client_id.clone(),
        client_host: context.client_host.clone(),
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .iter()
            // A copy: a group must not keep the request's whole buffer.
            .map(|protocol| {
                let metadata = Bytes::copy_from_slice(&protocol.metadata);
                (protocol.name.to_string(), metadata)
            })
            .collect(),
        session_timeout,
        rebalance_timeout,
        must_know_its_id: context.version >= 4,
        can_skip_assignment: context.version >= 9,
        unique: fastrand::u128(..),
    }
}

fn respond(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined
        .members
        .into_iter()
        .map(
            |(member_id, instance_id, metadata)| JoinGroupResponseMember {
                member_id: member_id.into(),
                group_instance_id: instance_id.map(Into::into),
                metadata,
                ..Default::default()
            },
        )
        .collect();
    let protocol_name = match joined.protocol {
        // Null can be said from version 7 on.
        None if version < 7 => Some("".into()),
        name => name.map(Into::into),
    };
    JoinGroupResponse {
        error_code: joined.error,
        generation_id: joined.generation,
        protocol_type: joined.protocol_type.map(Into::into),
        protocol_name,
        leader: joined.leader.into(),
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id.into(),
        members,
        ..Default::default()
    }
}

fn millis(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}
