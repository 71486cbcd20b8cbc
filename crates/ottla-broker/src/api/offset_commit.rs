//! OffsetCommit: a group's positions are written down.

use std::sync::Arc;

use ottla_wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_wire::{ErrorCode, Uuid};

use super::Serve;
use super::metadata::resolve;
use crate::cluster::Topic;
use crate::context::Context;
use crate::group::Group;
use crate::group::offsets::Committed;

impl Serve for OffsetCommitRequest {
    async fn serve(self, context: &Context) -> Option<OffsetCommitResponse> {
        if let Err(error) = context.check_coordinator(&self.group_id) {
            return Some(self.refuse(error));
        }
        // Names first: the groups' lock is never held while the cluster's is taken.
        let found: Vec<Found> = self
            .topics
            .iter()
            .map(|topic| resolve(context, &topic.name, topic.topic_id))
            .collect();
        let topics = match commit(context, &self, found) {
            Ok(topics) => topics,
            Err(error) => return Some(self.refuse(error)),
        };
        if let Err(error) = context.shared.group_kept(&self.group_id).await {
            tracing::error!(group = &*self.group_id, %error, "cannot write committed offsets");
            return Some(self.refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE));
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

/// What a request names.
type Found = Result<Arc<Topic>, ErrorCode>;

fn commit(
    context: &Context,
    request: &OffsetCommitRequest,
    found: Vec<Found>,
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
    // Clients of older versions do not know the errors that members of consumer groups have to hear.
    let consumer = group.consumer.as_ref().filter(|_| generation >= 0);
    let by_member = consumer.is_some_and(|group| !group.is_classic(&request.member_id));
    if by_member && context.version < MEMBER_EPOCHS_FROM {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    let may_commit = group.check_commit(&request.member_id, instance_id, generation, false, now)?;
    // Of a member whose epoch is older, some partitions may be somebody else's now.
    let allowed: Vec<Vec<bool>> = request
        .topics
        .iter()
        .zip(&found)
        .map(|(topic, found)| {
            let partitions = topic.partitions.iter();
            let may = |index| {
                found
                    .as_ref()
                    .is_ok_and(|topic| may_commit.partition(topic.id, index))
            };
            partitions
                .map(|partition| may(partition.partition_index))
                .collect()
        })
        .collect();
    let topics = request.topics.iter().zip(found).zip(allowed);
    let topics = topics
        .map(|((topic, found), allowed)| commit_topic(context, group, topic, found, &allowed))
        .collect();
    groups.remove_if_unused(&request.group_id);
    Ok(topics)
}

fn commit_topic(
    context: &Context,
    group: &mut Group,
    topic: &OffsetCommitRequestTopic,
    found: Found,
    allowed: &[bool],
) -> OffsetCommitResponseTopic {
    let commit_time_ms = context.shared.now_ms();
    let mut errors = Vec::with_capacity(topic.partitions.len());
    for (partition, allowed) in topic.partitions.iter().zip(allowed) {
        let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
        let index = partition.partition_index;
        errors.push(match &found {
            Err(error) => *error,
            Ok(topic) if topic.partition(index).is_none() => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Ok(_) if metadata.len() > METADATA_LEN_MAX => ErrorCode::OFFSET_METADATA_TOO_LARGE,
            Ok(_) if !allowed => ErrorCode::STALE_MEMBER_EPOCH,
            Ok(topic) => {
                let committed = Committed {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: metadata.to_owned(),
                    commit_time_ms,
                };
                group.offsets.commit(&topic.name, index, committed);
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

/// From here on members of consumer groups commit (KIP-848).
const MEMBER_EPOCHS_FROM: i16 = 9;

/// `offset.metadata.max.bytes`
pub(super) const METADATA_LEN_MAX: usize = 4096;
