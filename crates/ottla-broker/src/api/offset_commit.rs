//! OffsetCommit: a group's positions are written down.

use std::io::ErrorKind;

use ottla_wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_wire::{ErrorCode, Uuid};

use super::Serve;
use super::metadata::resolve;
use crate::context::Context;
use crate::group::Group;
use crate::group::offsets::Committed;

impl Serve for OffsetCommitRequest {
    async fn serve(self, context: &Context) -> Option<OffsetCommitResponse> {
        if let Err(error) = context.check_coordinator(&self.group_id) {
            return Some(self.refuse(error));
        }
        // Names first: the groups' lock is never held while the cluster's is taken.
        let names: Vec<Result<String, ErrorCode>> = self
            .topics
            .iter()
            .map(|topic| resolve(context, &topic.name, topic.topic_id).map(|found| found.name))
            .collect();
        let topics = match commit(context, &self, names) {
            Ok(topics) => topics,
            Err(error) => return Some(self.refuse(error)),
        };
        if let Err(error) = context.shared.group_kept(&self.group_id).await {
            tracing::error!(group = &*self.group_id, %error, "cannot write committed offsets");
            return Some(self.refuse(match error.kind() {
                // No other try will make a file of its name.
                ErrorKind::InvalidInput => ErrorCode::INVALID_GROUP_ID,
                _ => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            }));
        }
        Some(OffsetCommitResponse {
            topics,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> OffsetCommitResponse {
        let topics = self
            .topics
            .iter()
            .map(|topic| answer(topic, |_| error))
            .collect();
        OffsetCommitResponse {
            topics,
            ..Default::default()
        }
    }
}

fn commit(
    context: &Context,
    request: &OffsetCommitRequest,
    names: Vec<Result<String, ErrorCode>>,
) -> Result<Vec<OffsetCommitResponseTopic>, ErrorCode> {
    let mut groups = context.shared.groups.lock();
    let now = context.shared.now();
    let generation = request.generation_id_or_member_epoch;
    if groups.get(&request.group_id).is_none() && generation >= 0 {
        return Err(match context.version {
            ..9 => ErrorCode::ILLEGAL_GENERATION,
            _ => ErrorCode::GROUP_ID_NOT_FOUND,
        });
    }
    let group = groups.get_or_create(&request.group_id, now);
    let instance_id = request.group_instance_id.as_deref();
    group
        .classic
        .check_commit(&request.member_id, instance_id, generation, false, now)?;
    let topics = request.topics.iter().zip(names);
    Ok(topics
        .map(|(topic, name)| commit_topic(context, group, topic, name))
        .collect())
}

fn commit_topic(
    context: &Context,
    group: &mut Group,
    topic: &OffsetCommitRequestTopic,
    name: Result<String, ErrorCode>,
) -> OffsetCommitResponseTopic {
    let commit_time_ms = context.shared.now_ms();
    let mut errors = Vec::with_capacity(topic.partitions.len());
    for partition in &topic.partitions {
        let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
        errors.push(match &name {
            Err(error) => *error,
            Ok(_) if metadata.len() > METADATA_LEN_MAX => ErrorCode::OFFSET_METADATA_TOO_LARGE,
            Ok(name) => {
                let committed = Committed {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: metadata.to_owned(),
                    commit_time_ms,
                };
                group
                    .offsets
                    .commit(name, partition.partition_index, committed);
                ErrorCode::NONE
            }
        });
    }
    answer(topic, |index| errors[index])
}

fn answer(
    topic: &OffsetCommitRequestTopic,
    error: impl Fn(usize) -> ErrorCode,
) -> OffsetCommitResponseTopic {
    let partitions = topic
        .partitions
        .iter()
        .enumerate()
        .map(|(index, partition)| OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: error(index),
            ..Default::default()
        })
        .collect();
    let topic_id: Uuid = topic.topic_id;
    OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id,
        partitions,
        ..Default::default()
    }
}

/// `offset.metadata.max.bytes`
pub(super) const METADATA_LEN_MAX: usize = 4096;
