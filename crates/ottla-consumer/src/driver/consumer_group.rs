//! The requests of a member by the consumer protocol (KIP-848), and the question which protocol there is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ottla_net::{CoordinatorKind, Error as NetError, Lane, To};
use ottla_wire::{
    ApiKey, ErrorCode, Str, Uuid,
    messages::{
        consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, TopicPartitions},
        metadata::{MetadataRequest, MetadataRequestTopic},
    },
};

use super::{
    Shared,
    membership::{LEAVE_TIMEOUT, ask, group_id, millis},
};
use crate::group::consumer::{Beat, Beaten, PartitionId};

/// Joins, or tells what is news.
pub(super) async fn beat(shared: &Shared, beat: Beat) -> Result<Beaten, NetError> {
    let config = &shared.config;
    let rack = Some(Str::from(config.client_rack.clone())).filter(|rack| !rack.is_empty());
    let request = |_version| ConsumerGroupHeartbeatRequest {
        group_id: group_id(shared),
        member_id: beat.member_id,
        member_epoch: beat.epoch,
        instance_id: config.group_instance_id.clone().map(Into::into),
        rack_id: rack.filter(|_| beat.full),
        rebalance_timeout_ms: match beat.full {
            true => millis(config.max_poll_interval),
            false => -1,
        },
        subscribed_topic_names: beat.topics,
        subscribed_topic_regex: beat.pattern,
        server_assignor: (config.group_remote_assignor.clone().map(Into::into))
            .filter(|_| beat.full),
        topic_partitions: beat.owned.as_ref().map(by_topic),
        ..Default::default()
    };
    let patience = config.session_timeout.min(config.request_timeout);
    let response = match ask(shared, Lane::Coordination, request, patience).await {
        Ok(response) => response,
        // It does not know the protocol, or an early version of it that knows no patterns.
        Err(NetError::Unsupported { .. } | NetError::Encode { .. }) => {
            return Ok(Beaten {
                error: ErrorCode::UNSUPPORTED_VERSION,
                ..Default::default()
            });
        }
        Err(error) => return Err(error),
    };
    if let Some(message) = response.error_message.filter(|message| !message.is_empty()) {
        tracing::warn!(
            group = config.group_id,
            error = %response.error_code,
            %message,
            "the coordinator refuses a heartbeat"
        );
    }
    let interval = u64::try_from(response.heartbeat_interval_ms).unwrap_or(0);
    let assignment = response.assignment.map(|assignment| {
        let topics = assignment.topic_partitions.into_iter();
        let ids = topics.flat_map(|topic| {
            let id = topic.topic_id;
            let partitions = topic.partitions.into_iter().filter(|index| *index >= 0);
            partitions.map(move |index| (id, index))
        });
        ids.collect()
    });
    Ok(Beaten {
        error: response.error_code,
        member_id: response.member_id,
        epoch: response.member_epoch,
        interval: Duration::from_millis(interval),
        assignment,
    })
}

/// Leaves. Whoever is not heard of any more leaves, too, when the session ends.
pub(super) async fn depart(shared: &Shared, member_id: Str, epoch: i32) {
    let request = |_version| ConsumerGroupHeartbeatRequest {
        group_id: group_id(shared),
        member_id,
        member_epoch: epoch,
        instance_id: shared.config.group_instance_id.clone().map(Into::into),
        ..Default::default()
    };
    // Behind the heartbeats that are on their way, on their connection.
    let left = ask(shared, Lane::Coordination, request, LEAVE_TIMEOUT).await;
    if let Err(error) = left {
        tracing::info!(%error, "could not leave the group; its coordinator will notice");
    }
}

/// The names of topics, as far as they can be found out now.
pub(super) async fn name(shared: &Shared, topics: BTreeSet<Uuid>) -> Vec<(Uuid, Str)> {
    let known = shared.cluster.metadata();
    let name_of = |id: &Uuid| Some((*id, known.topic_by_id(*id)?.name.clone()));
    let mut named: Vec<_> = topics.iter().filter_map(name_of).collect();
    let found: BTreeSet<Uuid> = named.iter().map(|(id, _)| *id).collect();
    let missing: Vec<Uuid> = topics.difference(&found).copied().collect();
    if missing.is_empty() {
        return named;
    }
    // A topic that is new or that somebody else's pattern found: nobody here has asked for it by name.
    let request = |_version| MetadataRequest {
        topics: Some(
            missing
                .iter()
                .map(|id| MetadataRequestTopic {
                    topic_id: *id,
                    name: None,
                    ..Default::default()
                })
                .collect(),
        ),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let deadline = ottla_net::Instant::now() + shared.config.request_timeout;
    let answer = shared
        .cluster
        .call(To::Any, Lane::Control, i16::MAX, request, deadline);
    match answer.await {
        Ok(answer) => {
            let topics = answer.topics.into_iter();
            let topics = topics.filter(|topic| topic.error_code.is_ok());
            named.extend(topics.filter_map(|topic| {
                let name = topic.name.filter(|name| !name.is_empty())?;
                missing
                    .contains(&topic.topic_id)
                    .then_some((topic.topic_id, name))
            }));
        }
        Err(error) => {
            tracing::warn!(%error, "cannot find out the names of assigned topics; trying again");
        }
    }
    named
}

/// Whether the group's coordinator speaks the consumer protocol, and the cluster has it switched on.
pub(super) async fn speaks_consumer_protocol(shared: &Shared) -> Result<bool, NetError> {
    let group = shared.config.group_id.as_deref().unwrap_or_default();
    let deadline = ottla_net::Instant::now() + shared.config.request_timeout;
    let kind = CoordinatorKind::Group;
    let node = shared.cluster.coordinator(kind, group, deadline).await?;
    let lane = Lane::Coordination;
    let connection = shared.cluster.connection(node, lane, deadline).await?;
    let versions = connection.versions();
    let api = versions.api(ApiKey::ConsumerGroupHeartbeat);
    // Version 0 was an early preview.
    Ok(api.is_some_and(|api| api.max >= 1) && versions.finalized_feature("group.version") >= 1)
}

fn by_topic(owned: &BTreeSet<PartitionId>) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in owned {
        topics.entry(*topic).or_default().push(*partition);
    }
    let topics = topics.into_iter();
    topics
        .map(|(topic_id, partitions)| TopicPartitions {
            topic_id,
            partitions,
            ..Default::default()
        })
        .collect()
}
