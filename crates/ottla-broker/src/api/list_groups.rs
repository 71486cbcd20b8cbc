//! ListGroups: the groups that this node coordinates.

use ottla_wire::ErrorCode;
use ottla_wire::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use super::Serve;
use crate::context::Context;

impl Serve for ListGroupsRequest {
    async fn serve(self, context: &Context) -> Option<ListGroupsResponse> {
        let wanted = |filter: &[ottla_wire::Str], value: &str| {
            filter.is_empty()
                || filter
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let all: Vec<ListedGroup> = context
            .shared
            .groups
            .lock()
            .iter()
            .filter(|(_, group)| {
                wanted(&self.states_filter, group.state_name())
                    && wanted(&self.types_filter, group.type_name())
            })
            .map(|(id, group)| ListedGroup {
                group_id: id.into(),
                protocol_type: group.protocol_type().unwrap_or_default().into(),
                group_state: group.state_name().into(),
                group_type: group.type_name().into(),
                ..Default::default()
            })
            .collect();
        let groups = all
            .into_iter()
            .filter(|g| context.check_coordinator(&g.group_id).is_ok())
            .collect();
        Some(ListGroupsResponse {
            groups,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> ListGroupsResponse {
        ListGroupsResponse {
            error_code: error,
            ..Default::default()
        }
    }
}
