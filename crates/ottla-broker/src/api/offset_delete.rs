//! OffsetDelete: committed offsets are forgotten, of topics that no member reads.

use std::collections::BTreeSet;

use ottla_wire::ErrorCode;
use ottla_wire::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};

use super::Serve;
use crate::context::Context;
use crate::group::{Group, Subscribed};

impl Serve for OffsetDeleteRequest {
    async fn serve(self, context: &Context) -> Option<OffsetDeleteResponse> {
        if let Err(error) = context.check_coordinator(&self.group_id) {
            return Some(self.refuse(error));
        }
        let topics = match delete(context, &self) {
            Ok(topics) => topics,
            Err(error) => return Some(self.refuse(error)),
        };
        if let Err(error) = context.shared.group_kept(&self.group_id).await {
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

fn delete(
    context: &Context,
    request: &OffsetDeleteRequest,
) -> Result<Vec<OffsetDeleteResponseTopic>, ErrorCode> {
    let view = context.shared.cluster.read().topics_view();
    let mut groups = context.shared.groups.lock();
    let group = groups.get_mut(&request.group_id);
    let group = group.ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
    let Subscribed::Topics(in_use) = group.subscribed(&view) else {
        return Err(ErrorCode::NON_EMPTY_GROUP);
    };
    Ok(delete_offsets(request, group, &in_use))
}

fn delete_offsets(
    request: &OffsetDeleteRequest,
    group: &mut Group,
    in_use: &BTreeSet<String>,
) -> Vec<OffsetDeleteResponseTopic> {
    request
        .topics
        .iter()
        .map(|topic| OffsetDeleteResponseTopic {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| {
                    let error_code = if in_use.contains(&*topic.name) {
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
