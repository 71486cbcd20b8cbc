//! DeleteGroups: groups without members are forgotten, with their offsets.

use ottla_wire::ErrorCode;
use ottla_wire::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};

use super::Serve;
use crate::context::Context;

impl Serve for DeleteGroupsRequest {
    async fn serve(self, context: &Context) -> Option<DeleteGroupsResponse> {
        let results = self
            .groups_names
            .iter()
            .map(|id| DeletableGroupResult {
                group_id: id.clone(),
                error_code: delete(context, id).err().unwrap_or(ErrorCode::NONE),
                ..Default::default()
            })
            .collect();
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

fn delete(context: &Context, id: &str) -> Result<(), ErrorCode> {
    context.check_coordinator(id)?;
    let mut groups = context.shared.groups.lock();
    match groups.get(id) {
        None => return Err(ErrorCode::GROUP_ID_NOT_FOUND),
        Some(group) if !group.classic.is_empty() => return Err(ErrorCode::NON_EMPTY_GROUP),
        Some(_) => {}
    }
    if let Some(data_dir) = &context.shared.data_dir {
        data_dir.delete_offsets(id).map_err(|error| {
            tracing::error!(group = id, %error, "cannot delete committed offsets");
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        })?;
    }
    groups.remove(id);
    Ok(())
}
