//! DescribeGroups: a group's state and members.

use std::collections::HashSet;

use bytes::Bytes;
use ottla_wire::ErrorCode;
use ottla_wire::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};

use super::Serve;
use super::authorized_operations::{GROUP_OPERATIONS, authorized_operations};
use crate::context::Context;
use crate::group::Group;

impl Serve for DescribeGroupsRequest {
    async fn serve(self, context: &Context) -> Option<DescribeGroupsResponse> {
        let mut seen = HashSet::new();
        let groups = self
            .groups
            .iter()
            .filter(|id| seen.insert(*id))
            .map(|id| match context.check_coordinator(id) {
                Err(error) => failed(id, error),
                Ok(()) => match context.shared.groups.lock().get(id) {
                    Some(group) if group.consumer.is_some() || group.share.is_some() => {
                        let why = format!("Group {id} is not a classic group.");
                        absent(id, context.version, why)
                    }
                    Some(group) => DescribedGroup {
                        authorized_operations: authorized_operations(
                            self.include_authorized_operations,
                            GROUP_OPERATIONS,
                        ),
                        ..describe(id, group)
                    },
                    None => absent(id, context.version, format!("Group {id} not found.")),
                },
            })
            .collect();
        Some(DescribeGroupsResponse {
            groups,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> DescribeGroupsResponse {
        let groups = self.groups.iter().map(|id| failed(id, error)).collect();
        DescribeGroupsResponse {
            groups,
            ..Default::default()
        }
    }
}

fn describe(id: &str, group: &Group) -> DescribedGroup {
    // During a rebalance neither what members want nor what they have is settled.
    let settled = group.classic.is_stable();
    let members = group
        .classic
        .members()
        .map(|member| DescribedGroupMember {
            member_id: member.id.as_str().into(),
            group_instance_id: member.instance_id.as_deref().map(Into::into),
            client_id: member.client_id.as_str().into(),
            client_host: member.client_host.as_str().into(),
            member_metadata: if settled {
                group.classic.metadata_of(member)
            } else {
                Bytes::new()
            },
            member_assignment: if settled {
                member.assignment.clone()
            } else {
                Bytes::new()
            },
            ..Default::default()
        })
        .collect();
    DescribedGroup {
        group_id: id.into(),
        group_state: group.classic.state_name().into(),
        protocol_type: group.classic.protocol_type().unwrap_or_default().into(),
        protocol_data: group
            .classic
            .protocol()
            .filter(|_| settled)
            .unwrap_or_default()
            .into(),
        members,
        ..Default::default()
    }
}

/// A classic group that does not exist: an error from version 6 on (KIP-1043), a dead group before.
fn absent(id: &str, version: i16, why: String) -> DescribedGroup {
    let mut group = failed(id, ErrorCode::NONE);
    group.group_state = "Dead".into();
    if version >= 6 {
        group.error_code = ErrorCode::GROUP_ID_NOT_FOUND;
        group.error_message = Some(why.into());
    }
    group
}

fn failed(id: &str, error_code: ErrorCode) -> DescribedGroup {
    DescribedGroup {
        group_id: id.into(),
        error_code,
        ..Default::default()
    }
}
