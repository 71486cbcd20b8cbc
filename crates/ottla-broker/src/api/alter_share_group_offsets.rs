//! AlterShareGroupOffsets: says where a share group without members goes on (KIP-932).

use ottla_wire::messages::alter_share_group_offsets::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestTopic,
    AlterShareGroupOffsetsResponse, AlterShareGroupOffsetsResponsePartition,
    AlterShareGroupOffsetsResponseTopic,
};
use ottla_wire::{ErrorCode, Uuid};

use super::Serve;
use super::metadata::resolve;
use crate::context::Context;
use crate::features::SHARE_VERSION;
use crate::group::Groups;
use crate::group::consumer::TopicPartition;
use crate::group::share::ShareGroup;
use crate::group::share::partition::SharePartition;

impl Serve for AlterShareGroupOffsetsRequest {
    async fn serve(self, context: &Context) -> Option<AlterShareGroupOffsetsResponse> {
        let topics: Vec<_> = self
            .topics
            .iter()
            .map(|topic| find(context, topic))
            .collect();
        let valid = topics.iter().flat_map(|(_, partitions)| partitions);
        let valid: Vec<_> = valid
            .filter_map(|wanted| wanted.as_ref().ok().copied())
            .collect();
        // As in Kafka, a group that nobody is a member of yet may be told where to begin.
        let made = !valid.is_empty();
        let change = |group: &mut ShareGroup| group.set_starts(valid);
        if let Err(error) = change_offsets(context, &self.group_id, made, change).await {
            return Some(self.refuse(error));
        }
        let responses = self.topics.iter().zip(&topics);
        Some(AlterShareGroupOffsetsResponse {
            error_message: None,
            responses: responses
                .map(|(asked, (id, partitions))| answer(asked, *id, partitions))
                .collect(),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> AlterShareGroupOffsetsResponse {
        AlterShareGroupOffsetsResponse {
            error_code: error,
            error_message: Some(error.meaning().into()),
            ..Default::default()
        }
    }
}

/// Changes what a share group without members, which with `made` is made if there is none, knows of partitions, and keeps
/// it; `change` says what it knew before. After an error it is as it was.
pub(super) async fn change_offsets(
    context: &Context,
    group_id: &str,
    made: bool,
    change: impl FnOnce(&mut ShareGroup) -> Vec<(TopicPartition, Option<SharePartition>)>,
) -> Result<(), ErrorCode> {
    let shared = &context.shared;
    let settings = {
        let settings = shared.settings.lock();
        if settings.levels.of(SHARE_VERSION) == 0 {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        settings.groups.of(group_id)
    };
    context.check_coordinator(group_id)?;
    let (is_new, before) = {
        let mut groups = shared.groups.lock();
        let is_new = groups.get(group_id).is_none();
        let share = match is_new && made {
            true => groups.share_group(group_id, settings, shared.now())?,
            false => {
                let share = groups.get_mut(group_id);
                let share = share.and_then(|group| group.share.as_mut());
                share.ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?
            }
        };
        if !share.is_empty() {
            return Err(ErrorCode::NON_EMPTY_GROUP);
        }
        (is_new, change(share))
    };
    let id = group_id.to_owned();
    let undo = move |groups: &mut Groups| {
        let share = groups.get_mut(&id);
        if let Some(share) = share.and_then(|group| group.share.as_mut()) {
            share.put_back(before);
            if is_new && share.is_empty() && share.partitions.is_empty() {
                groups.remove(&id);
            }
        }
    };
    let kept = shared.group_kept_or(group_id, undo).await;
    kept.map_err(|error| {
        tracing::error!(group = group_id, %error, "cannot write where a share group begins");
        ErrorCode::COORDINATOR_NOT_AVAILABLE
    })
}

/// A partition and where to begin, or why that cannot be.
type Wanted = Result<(TopicPartition, i64), ErrorCode>;

/// A topic's id, and each of its partitions that is asked for.
fn find(context: &Context, asked: &AlterShareGroupOffsetsRequestTopic) -> (Uuid, Vec<Wanted>) {
    let topic = resolve(context, &asked.topic_name, Uuid::ZERO);
    let partitions = asked.partitions.iter().map(|partition| {
        let topic = topic.as_ref().map_err(|error| *error)?;
        let index = partition.partition_index;
        topic
            .partition(index)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        match partition.start_offset {
            ..BY_SETTINGS => Err(ErrorCode::INVALID_REQUEST),
            start => Ok(((topic.id, index), start)),
        }
    });
    let partitions = partitions.collect();
    (topic.map_or(Uuid::ZERO, |topic| topic.id), partitions)
}

fn answer(
    asked: &AlterShareGroupOffsetsRequestTopic,
    topic_id: Uuid,
    partitions: &[Wanted],
) -> AlterShareGroupOffsetsResponseTopic {
    let partitions = asked.partitions.iter().zip(partitions);
    AlterShareGroupOffsetsResponseTopic {
        topic_name: asked.topic_name.clone(),
        topic_id,
        partitions: partitions
            .map(|(asked, wanted)| {
                let error = wanted.as_ref().err();
                AlterShareGroupOffsetsResponsePartition {
                    partition_index: asked.partition_index,
                    error_code: error.copied().unwrap_or(ErrorCode::NONE),
                    error_message: error.map(|error| error.meaning().into()),
                    ..Default::default()
                }
            })
            .collect(),
        ..Default::default()
    }
}

/// Instead of an offset: where the group's settings say.
const BY_SETTINGS: i64 = -1;
