//! DeleteGroups: groups without members are forgotten, with their offsets.

use ottla_wire::ErrorCode;
use ottla_wire::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};

use super::Serve;
use crate::context::Context;

impl Serve for DeleteGroupsRequest {
    async fn serve(self, context: &Context) -> Option<DeleteGroupsResponse> {
        let mut results = Vec::with_capacity(self.groups_names.len());
        for id in &self.groups_names {
            results.push(DeletableGroupResult {
                group_id: id.clone(),
                error_code: delete(context, id).await.err().unwrap_or(ErrorCode::NONE),
                ..Default::default()
            });
        }
        Some(DeleteGroupsResponse {
            results,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> DeleteGroupsResponse {
        let results = self
            .groups_names
            .iter()
            .map(|id| DeletableGroupResult {
                group_id: id.clone(),
                error_code: error,
                ..Default::default()
            })
            .collect();
        DeleteGroupsResponse {
            results,
            ..Default::default()
        }
    }
}

async fn delete(context: &Context, id: &str) -> Result<(), ErrorCode> {
    context.check_coordinator(id)?;
    {
        let mut groups = context.shared.groups.lock();
        match groups.get(id) {
            None => return Err(ErrorCode::GROUP_ID_NOT_FOUND),
            Some(group) if !group.is_empty() => return Err(ErrorCode::NON_EMPTY_GROUP),
            Some(_) => groups.remove(id),
        };
    }
    // If that fails, the group is back after a restart, and can be deleted then.
    context.shared.group_kept(id).await.map_err(|error| {
        tracing::error!(group = id, %error, "cannot delete committed offsets");
        ErrorCode::COORDINATOR_NOT_AVAILABLE
    })
}
