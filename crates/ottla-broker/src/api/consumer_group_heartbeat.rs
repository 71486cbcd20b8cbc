//! ConsumerGroupHeartbeat: a member of a consumer group joins, lives on, or leaves (KIP-848).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_wire::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use ottla_wire::{ErrorCode, Str, Uuid};

use super::Serve;
use crate::context::Context;
use crate::error::Refused;
use crate::features::GROUP_VERSION;
use crate::group::consumer::{Assignor, Beaten, Heartbeat, LEAVE_FOR_A_WHILE, TopicPartition};

impl Serve for ConsumerGroupHeartbeatRequest {
    async fn serve(self, context: &Context) -> Option<ConsumerGroupHeartbeatResponse> {
        Some(match beat(context, &self).await {
            Ok(response) => response,
            Err(refused) => failed(refused),
        })
    }

    fn refuse(&self, error: ErrorCode) -> ConsumerGroupHeartbeatResponse {
        failed(Refused {
            error,
            message: error.meaning().to_owned(),
        })
    }
}

async fn beat(
    context: &Context,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse, Refused> {
    let shared = &context.shared;
    let refused = |error: ErrorCode| Refused {
        error,
        message: error.meaning().to_owned(),
    };
    if shared.settings.lock().levels.of(GROUP_VERSION) == 0 {
        return Err(refused(ErrorCode::UNSUPPORTED_VERSION));
    }
    check(request, context.version)?;
    context
        .check_coordinator(&request.group_id)
        .map_err(refused)?;
    let beat = heartbeat(context, request);
    let view = shared.cluster.read().topics_view();
    let mut actions = Vec::new();
    let (beaten, interval) = {
        let now = shared.now();
        let mut groups = shared.groups.lock();
        groups.beat(&request.group_id, &beat, &view, now, &mut actions)?
    };
    shared.deliver(actions);
    shared.groups_changed.notify_one();
    if beaten.changed {
        shared
            .group_kept(&request.group_id)
            .await
            .map_err(|error| {
                tracing::error!(group = &*request.group_id, %error, "cannot write a group");
                refused(ErrorCode::COORDINATOR_NOT_AVAILABLE)
            })?;
    }
    Ok(respond(&beat.member_id, beaten, interval))
}

/// What is wrong with a request in itself.
fn check(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Result<(), Refused> {
    let invalid = |message: &str| {
        Err(Refused {
            error: ErrorCode::INVALID_REQUEST,
            message: message.to_owned(),
        })
    };
    let is_empty = |text: &Option<Str>| text.as_deref().is_some_and(str::is_empty);
    if request.group_id.is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if request.member_id.is_empty() && (version >= OWN_IDS_FROM || request.member_epoch != 0) {
        return invalid("MemberId can't be empty.");
    }
    if is_empty(&request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if is_empty(&request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    match request.member_epoch {
        0 => {
            if request.rebalance_timeout_ms < 0 {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            if request
                .topic_partitions
                .as_ref()
                .is_none_or(|owned| !owned.is_empty())
            {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            let names = request
                .subscribed_topic_names
                .as_deref()
                .unwrap_or_default();
            let pattern = request
                .subscribed_topic_regex
                .as_deref()
                .unwrap_or_default();
            if names.is_empty() && pattern.is_empty() {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                );
            }
        }
        LEAVE_FOR_A_WHILE if request.instance_id.is_none() => {
            return invalid("InstanceId can't be null.");
        }
        ..LEAVE_FOR_A_WHILE => return invalid("MemberEpoch is invalid."),
        _ => {}
    }
    match request.server_assignor.as_deref() {
        Some(name) if Assignor::find(name).is_none() => {
            let known: Vec<_> = Assignor::ALL.iter().map(|known| known.name()).collect();
            let known = known.join(", ");
            Err(Refused {
                error: ErrorCode::UNSUPPORTED_ASSIGNOR,
                message: format!(
                    "ServerAssignor {name} is not supported. Supported assignors: {known}."
                ),
            })
        }
        _ => Ok(()),
    }
}

fn heartbeat(context: &Context, request: &ConsumerGroupHeartbeatRequest) -> Heartbeat {
    let text = |text: &Option<Str>| text.as_deref().map(str::to_owned);
    let member_id = if request.member_id.is_empty() {
        Uuid(fastrand::u128(..).to_be_bytes()).to_string()
    } else {
        request.member_id.to_string()
    };
    let owned = |topics: &Vec<TopicPartitions>| {
        let partitions = |topic: &TopicPartitions| {
            let id = topic.topic_id;
            let partitions = topic.partitions.iter().map(move |index| (id, *index));
            partitions.collect::<Vec<TopicPartition>>()
        };
        topics.iter().flat_map(partitions).collect()
    };
    Heartbeat {
        member_id,
        epoch: request.member_epoch,
        instance_id: text(&request.instance_id),
        rack_id: text(&request.rack_id),
        client_id: context.client_id.clone(),
        client_host: context.client_host.clone(),
        rebalance_timeout: u64::try_from(request.rebalance_timeout_ms)
            .ok()
            .map(Duration::from_millis),
        topics: request
            .subscribed_topic_names
            .as_ref()
            .map(|names| names.iter().map(ToString::to_string).collect()),
        pattern: text(&request.subscribed_topic_regex),
        server_assignor: text(&request.server_assignor),
        owned: request.topic_partitions.as_ref().map(owned),
    }
}

fn respond(member_id: &str, beaten: Beaten, interval: Duration) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        member_id: Some(member_id.into()),
        member_epoch: beaten.epoch,
        heartbeat_interval_ms: i32::try_from(interval.as_millis()).unwrap_or(i32::MAX),
        assignment: beaten.assignment.map(|assignment| Assignment {
            topic_partitions: by_topic(&assignment)
                .into_iter()
                .map(|(topic_id, partitions)| TopicPartitions {
                    topic_id,
                    partitions,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Partitions of each topic.
pub(super) fn by_topic(partitions: &BTreeSet<TopicPartition>) -> BTreeMap<Uuid, Vec<i32>> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(*topic).or_default().push(*partition);
    }
    topics
}

fn failed(refused: Refused) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: refused.error,
        error_message: Some(refused.message.into()),
        ..Default::default()
    }
}

/// From here on members make their ids themselves (KIP-1082).
const OWN_IDS_FROM: i16 = 1;
