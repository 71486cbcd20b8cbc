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
        let mut groups = context.shared.groups.lock();
        let Some(group) = groups.get_mut(&self.group_id) else {
            return Some(self.refuse(ErrorCode::GROUP_ID_NOT_FOUND));
        };
        let Subscribed::Topics(in_use) = group.subscribed() else {
            return Some(self.refuse(ErrorCode::NON_EMPTY_GROUP));
        };
        let topics = delete_offsets(&self, group, &in_use);
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
