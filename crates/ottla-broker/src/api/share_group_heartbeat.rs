//! ShareGroupHeartbeat: a member of a share group joins, lives on, or leaves (KIP-932).

use std::time::Duration;

use ottla_wire::messages::share_group_heartbeat::{
    Assignment, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, TopicPartitions,
};
use ottla_wire::{ErrorCode, Str};

use super::Serve;
use super::consumer_group_heartbeat::by_topic;
use crate::context::Context;
use crate::error::Refused;
use crate::features::SHARE_VERSION;
use crate::group::share::{ShareBeaten, ShareHeartbeat};

impl Serve for ShareGroupHeartbeatRequest {
    async fn serve(self, context: &Context) -> Option<ShareGroupHeartbeatResponse> {
        Some(beat(context, &self).await.unwrap_or_else(failed))
    }

    fn refuse(&self, error: ErrorCode) -> ShareGroupHeartbeatResponse {
        failed(Refused {
            error,
            message: error.meaning().to_owned(),
        })
    }
}

async fn beat(
    context: &Context,
    request: &ShareGroupHeartbeatRequest,
) -> Result<ShareGroupHeartbeatResponse, Refused> {
    let shared = &context.shared;
    let refused = |error: ErrorCode| Refused {
        error,
        message: error.meaning().to_owned(),
    };
    let (level, settings) = {
        let settings = shared.settings.lock();
        (
            settings.levels.of(SHARE_VERSION),
            settings.groups.of(&request.group_id),
        )
    };
    if level == 0 {
        return Err(refused(ErrorCode::UNSUPPORTED_VERSION));
    }
    check(request)?;
    context
        .check_coordinator(&request.group_id)
        .map_err(refused)?;
    let text = |text: &Option<Str>| text.as_deref().map(str::to_owned);
    let beat = ShareHeartbeat {
        member_id: request.member_id.to_string(),
        epoch: request.member_epoch,
        rack_id: text(&request.rack_id),
        client_id: context.client_id.clone(),
        client_host: context.client_host.clone(),
        topics: request
            .subscribed_topic_names
            .as_ref()
            .map(|names| names.iter().map(ToString::to_string).collect()),
    };
    let view = shared.cluster.read().topics_view();
    let beaten = {
        let now = shared.now();
        let mut groups = shared.groups.lock();
        let is_new = groups.get(&request.group_id).is_none();
        if is_new && request.member_epoch != 0 {
            // Kafka, which keeps members too, says GROUP_ID_NOT_FOUND, and they give up. Here a restart in memory may
            // have forgotten the group, after which they are to join again.
            return Err(Refused {
                error: ErrorCode::UNKNOWN_MEMBER_ID,
                message: format!("Share group {} is not known (any more).", request.group_id),
            });
        }
        let group = groups
            .share_group(&request.group_id, settings, now)
            .map_err(|error| Refused {
                error,
                message: format!("Group {} is not a share group.", request.group_id),
            })?;
        group.set_settings(settings);
        let beaten = group.heartbeat(&beat, &view, now);
        if beaten.is_err() && is_new {
            groups.remove(&request.group_id);
        }
        beaten?
    };
    shared.groups_changed.notify_one();
    if beaten.changed {
        let kept = shared.group_kept(&request.group_id).await;
        kept.map_err(|error| {
            tracing::error!(group = &*request.group_id, %error, "cannot write a group");
            refused(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        })?;
    }
    Ok(respond(
        &request.member_id,
        beaten,
        settings.heartbeat_interval,
    ))
}

/// What is wrong with a request in itself.
fn check(request: &ShareGroupHeartbeatRequest) -> Result<(), Refused> {
    let invalid = |message: &str| {
        Err(Refused {
            error: ErrorCode::INVALID_REQUEST,
            message: message.to_owned(),
        })
    };
    if request.group_id.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if request.member_id.is_empty() || request.member_id.len() > ID_MAX {
        return invalid("MemberId can't be empty, nor longer than 36 characters.");
    }
    if request.rack_id.as_deref().is_some_and(str::is_empty) {
        return invalid("RackId can't be empty.");
    }
    let names = request.subscribed_topic_names.as_deref();
    match request.member_epoch {
        0 if names.is_none_or(<[Str]>::is_empty) => {
            invalid("SubscribedTopicNames must be set in first request.")
        }
        ..=-2 => invalid("MemberEpoch is invalid."),
        _ => Ok(()),
    }
}

fn respond(
    member_id: &Str,
    beaten: ShareBeaten,
    interval: Duration,
) -> ShareGroupHeartbeatResponse {
    let topic_partitions = |assignment| {
        by_topic(&assignment)
            .into_iter()
            .map(|(topic_id, partitions)| TopicPartitions {
                topic_id,
                partitions,
                ..Default::default()
            })
            .collect()
    };
    ShareGroupHeartbeatResponse {
        member_id: Some(member_id.clone()),
        member_epoch: beaten.epoch,
        heartbeat_interval_ms: i32::try_from(interval.as_millis()).unwrap_or(i32::MAX),
        assignment: beaten.assignment.map(|assignment| Assignment {
            topic_partitions: topic_partitions(assignment),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn failed(refused: Refused) -> ShareGroupHeartbeatResponse {
    ShareGroupHeartbeatResponse {
        error_code: refused.error,
        error_message: Some(refused.message.into()),
        ..Default::default()
    }
}

/// Members' ids are UUIDs, in either spelling.
pub(super) const ID_MAX: usize = 36;
