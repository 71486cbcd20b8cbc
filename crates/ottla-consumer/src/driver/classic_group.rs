//! The requests of a member of a classic group, and what its leader computes.

use std::{collections::BTreeSet, time::Duration};

use ottla_net::{Error as NetError, Lane};
use ottla_wire::{
    Bytes, ErrorCode, Str,
    messages::{
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol},
        leave_group::{LeaveGroupRequest, MemberIdentity},
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment},
    },
};

use super::{
    Shared,
    group::{Told, told},
    membership::{LEAVE_TIMEOUT, ask, group_id, millis},
};
use crate::{
    TopicPartition,
    assignor::{GroupTopics, Member},
    group::{classic::Joined, protocol::Subscription},
};

/// Joins, and waits for the group's other members.
pub(super) async fn join(
    shared: &Shared,
    member_id: Str,
    owned: Vec<TopicPartition>,
    reason: &'static str,
) -> Result<Joined, NetError> {
    let config = &shared.config;
    let (mut topics, previous) = match &shared.group {
        Some(group) => {
            let mut group = group.lock();
            // Whoever leads it next distributes what there is then.
            group.led = None;
            let previous = group.membership.classic();
            let previous = previous.and_then(|classic| classic.previous().cloned());
            (group.topics.clone(), previous)
        }
        None => (Vec::new(), None),
    };
    topics.sort_unstable();
    // The generation of the assignment that it goes by: two members that were given a partition one after the other
    // must not seem to claim it at the same time, because one of them never heard of a later assignment.
    let generation = previous.as_ref().map(|previous| previous.generation);
    let generation = generation.filter(|_| !member_id.is_empty());
    let protocols = config
        .assignors
        .iter()
        .map(|assignor| {
            let subscription = Subscription {
                topics: topics.clone(),
                user_data: assignor.user_data(&topics, previous.as_ref()),
                owned: owned.clone(),
                generation,
                rack: Some(config.client_rack.clone().into()).filter(|rack: &Str| !rack.is_empty()),
            };
            JoinGroupRequestProtocol {
                name: assignor.name().to_owned().into(),
                metadata: subscription.encode(),
                ..Default::default()
            }
        })
        .collect();
    let request = |version| JoinGroupRequest {
        group_id: group_id(shared),
        session_timeout_ms: millis(config.session_timeout),
        rebalance_timeout_ms: millis(config.max_poll_interval),
        member_id,
        group_instance_id: instance_id(shared, version, 5),
        protocol_type: "consumer".into(),
        protocols,
        reason: Some(reason.into()),
        ..Default::default()
    };
    // The coordinator answers when all members have joined, or their time is up.
    let patience = config.max_poll_interval.max(config.session_timeout) + JOIN_GRACE;
    let response = ask(shared, Lane::Coordination, request, patience).await?;
    Ok(Joined {
        error: response.error_code,
        generation: response.generation_id,
        member_id: response.member_id,
        leader: response.leader,
        assignor: response.protocol_name.unwrap_or_default(),
        members: response
            .members
            .into_iter()
            .map(|member| (member.member_id, member.group_instance_id, member.metadata))
            .collect(),
        skip_assignment: response.skip_assignment,
    })
}

/// Computes the assignment of a group this member leads, or none if that is to be skipped; with what there was to
/// distribute.
pub(super) async fn lead(
    shared: &Shared,
    assignor: &str,
    members: Vec<Member>,
    skip: bool,
) -> (Vec<(Str, Vec<TopicPartition>)>, Told) {
    let topics: BTreeSet<&Str> = members.iter().flat_map(|member| &member.topics).collect();
    shared.track(topics.iter().map(|topic| (*topic).clone()));
    // A topic that does not exist is left out; when it comes into being, the group rebalances.
    let deadline = ottla_net::Instant::now() + TOPICS_TIMEOUT;
    for topic in &topics {
        if let Err(error) = shared.cluster.topic(topic, deadline).await {
            tracing::warn!(%topic, %error, "assigned without this topic");
        }
    }
    let metadata = shared.cluster.metadata();
    let heeds_racks = !shared.config.client_rack.is_empty();
    let all = told(&metadata, topics.iter().copied(), true);
    let led = told(&metadata, topics.iter().copied(), heeds_racks);
    if skip {
        return (Vec::new(), led);
    }
    let mut known = GroupTopics::default();
    for (topic, racks) in all.into_iter().filter(|(_, racks)| !racks.is_empty()) {
        known.insert(topic, racks);
    }
    let strategy = shared
        .config
        .assignors
        .iter()
        .find(|a| a.name() == assignor);
    let assigned = match strategy {
        Some(strategy) => strategy.assign(&known, &members),
        None => {
            // The coordinator chooses among what this member offered.
            tracing::error!(%assignor, "the coordinator chose an assignor this member does not have");
            vec![Vec::new(); members.len()]
        }
    };
    let assignments = members
        .into_iter()
        .map(|member| member.id)
        .zip(assigned)
        .collect();
    (assignments, led)
}

pub(super) async fn sync(
    shared: &Shared,
    generation: i32,
    member_id: Str,
    assignor: Str,
    assignments: Vec<(Str, Bytes)>,
) -> Result<Result<Bytes, ErrorCode>, NetError> {
    let request = |version| SyncGroupRequest {
        group_id: group_id(shared),
        generation_id: generation,
        member_id,
        group_instance_id: instance_id(shared, version, 3),
        protocol_type: Some("consumer".into()),
        protocol_name: Some(assignor),
        assignments: assignments
            .into_iter()
            .map(|(member_id, assignment)| SyncGroupRequestAssignment {
                member_id,
                assignment,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    // Answered when the leader has sent the assignment.
    let patience = shared
        .config
        .max_poll_interval
        .max(shared.config.session_timeout)
        + JOIN_GRACE;
    let response = ask(shared, Lane::Coordination, request, patience).await?;
    Ok(response.error_code.ok().map(|()| response.assignment))
}

/// Says that this member is alive.
pub(super) async fn heartbeat(
    shared: &Shared,
    generation: i32,
    member_id: Str,
) -> Result<ErrorCode, NetError> {
    let request = |version| HeartbeatRequest {
        group_id: group_id(shared),
        generation_id: generation,
        member_id,
        group_instance_id: instance_id(shared, version, 3),
        ..Default::default()
    };
    // The coordinator answers at once, or not at all: then another one is found in time.
    let patience = shared
        .config
        .session_timeout
        .min(shared.config.request_timeout);
    let response = ask(shared, Lane::Coordination, request, patience).await?;
    Ok(response.error_code)
}

/// Leaves. Whoever is not heard of any more leaves, too, when the session ends.
pub(super) async fn leave(shared: &Shared, member_id: Str, reason: &'static str) {
    let request = |version: i16| LeaveGroupRequest {
        group_id: group_id(shared),
        member_id: if version < 3 {
            member_id.clone()
        } else {
            Str::new()
        },
        members: match version {
            0..3 => Vec::new(),
            _ => vec![MemberIdentity {
                member_id,
                reason: Some(reason.into()),
                ..Default::default()
            }],
        },
        ..Default::default()
    };
    // Not behind a join that the coordinator keeps waiting.
    let left = ask(shared, Lane::Control, request, LEAVE_TIMEOUT).await;
    if let Err(error) = left {
        tracing::info!(%error, "could not leave the group; its coordinator will notice");
    }
}

/// The instance id, in versions that know it.
fn instance_id(shared: &Shared, version: i16, since: i16) -> Option<Str> {
    shared
        .config
        .group_instance_id
        .clone()
        .filter(|_| version >= since)
        .map(Into::into)
}

/// How much longer than the rebalance may take its answer is waited for.
const JOIN_GRACE: Duration = Duration::from_secs(5);

/// How long the leader waits to hear of topics it did not know.
const TOPICS_TIMEOUT: Duration = Duration::from_secs(3);
