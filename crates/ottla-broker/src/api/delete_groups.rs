//! DeleteGroups and OffsetDelete: groups and single offsets are forgotten, if nobody uses them.

use ottla_wire::ErrorCode;
use ottla_wire::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use ottla_wire::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};

use super::Serve;
use crate::context::Context;
use crate::group::Group;

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

impl Serve for OffsetDeleteRequest {
    async fn serve(self, context: &Context) -> Option<OffsetDeleteResponse> {
        if let Err(error) = context.check_coordinator(&self.group_id) {
            return Some(self.refuse(error));
        }
        let mut groups = context.shared.groups.lock();
        let Some(group) = groups.get_mut(&self.group_id) else {
            return Some(self.refuse(ErrorCode::GROUP_ID_NOT_FOUND));
        };
        let topics = delete_offsets(&self, group);
        if let Some(data_dir) = &context.shared.data_dir
            && let Err(error) = data_dir.save_offsets(&self.group_id, &group.offsets)
        {
            tracing::error!(group = &*self.group_id, %error, "cannot write committed offsets");
            return Some(self.refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE));
        }
        Some(OffsetDeleteResponse {
            topics,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> OffsetDeleteResponse {
        OffsetDeleteResponse {
            error_code: error,
            ..Default::default()
        }
    }
}

fn delete_offsets(
    request: &OffsetDeleteRequest,
    group: &mut Group,
) -> Vec<OffsetDeleteResponseTopic> {
    // Members may be reading any topic of theirs; only an empty group's offsets go.
    let in_use = !group.classic.is_empty();
    request
        .topics
        .iter()
        .map(|topic| OffsetDeleteResponseTopic {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| {
                    let error_code = if in_use {
                        ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC
                    } else {
                        group.offsets.remove(&topic.name, partition.partition_index);
                        ErrorCode::NONE
                    };
                    OffsetDeleteResponsePartition {
                        partition_index: partition.partition_index,
                        error_code,
                        ..Default::default()
                    }
                })
                .collect(),
            ..Default::default()
        })
        .collect()
}
