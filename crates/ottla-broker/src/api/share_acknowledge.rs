//! ShareAcknowledge: a member of a share group says what becomes of records that it acquired (KIP-932).

use std::sync::Arc;

use ottla_wire::messages::share_acknowledge::{
    LeaderIdAndEpoch, PartitionData, ShareAcknowledgeRequest, ShareAcknowledgeResponse,
    ShareAcknowledgeTopicResponse,
};
use ottla_wire::{ErrorCode, Uuid};

use super::Serve;
use super::leader_hints::note_endpoint;
use super::metadata::resolve;
use super::share_group_heartbeat::ID_MAX;
use super::waiting::find;
use crate::context::Context;
use crate::group::Groups;
use crate::group::consumer::TopicPartition;
use crate::group::share::partition::{Holder, Said, Undo};
use crate::share_session::Key;

impl Serve for ShareAcknowledgeRequest {
    async fn serve(self, context: &Context) -> Option<ShareAcknowledgeResponse> {
        let Some(key) = key(context, self.group_id.as_deref(), self.member_id.as_deref()) else {
            return Some(self.refuse(ErrorCode::INVALID_REQUEST));
        };
        let sessions = &context.shared.share_sessions;
        let closes = self.share_session_epoch == CLOSE;
        let session = match self.share_session_epoch {
            0 => Err(ErrorCode::INVALID_SHARE_SESSION_EPOCH),
            CLOSE => sessions.lock().close(&key),
            epoch => sessions.lock().go_on(&key, epoch, [], []).map(drop),
        };
        if let Err(error) = session {
            return Some(self.refuse(error));
        }
        let mut response = ShareAcknowledgeResponse {
            error_message: None,
            acquisition_lock_timeout_ms: lock_ms(context, &key.group),
            ..Default::default()
        };
        let mut deeds = Deeds::default();
        for topic in self.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let batches = partition.acknowledgement_batches.into_iter();
                let said = batches.map(|batch| Said {
                    first: batch.first_offset,
                    last: batch.last_offset,
                    types: batch.acknowledge_types,
                });
                let said: Vec<Said> = said.collect();
                let renews = said.iter().any(|said| said.types.contains(&RENEW));
                let index = partition.partition_index;
                let error_code = match renews && !self.is_renew_ack {
                    true => ErrorCode::INVALID_REQUEST,
                    false => acknowledge(context, &key, (topic.topic_id, index), &said, &mut deeds),
                };
                let mut data = PartitionData {
                    partition_index: index,
                    error_code,
                    error_message: None,
                    ..Default::default()
                };
                if let Some((leader_id, leader_epoch)) =
                    leader_of(context, error_code, (topic.topic_id, index))
                {
                    data.current_leader = LeaderIdAndEpoch {
                        leader_id,
                        leader_epoch,
                        ..Default::default()
                    };
                    note_endpoint(context, leader_id, &mut response.node_endpoints);
                }
                partitions.push(data);
            }
            response.responses.push(ShareAcknowledgeTopicResponse {
                topic_id: topic.topic_id,
                partitions,
                ..Default::default()
            });
        }
        if let Err(error) = deeds.keep(context, &key).await {
            let topics = response.responses.iter_mut();
            let partitions = topics.flat_map(|topic| &mut topic.partitions);
            for data in partitions.filter(|data| data.error_code.is_ok()) {
                data.error_code = error;
            }
        }
        if closes {
            context.shared.release_shares(&key);
        }
        Some(response)
    }

    fn refuse(&self, error: ErrorCode) -> ShareAcknowledgeResponse {
        ShareAcknowledgeResponse {
            error_code: error,
            error_message: None,
            ..Default::default()
        }
    }
}

/// Whose session a request is of; none if it says not.
pub(super) fn key(context: &Context, group: Option<&str>, member: Option<&str>) -> Option<Key> {
    let named = |name: Option<&str>| name.filter(|name| !name.is_empty()).map(str::to_owned);
    Some(Key {
        node: context.node,
        group: named(group)?,
        member: named(member.filter(|id| id.len() <= ID_MAX))?,
    })
}

/// What a request did for a member, until it is kept.
#[derive(Default)]
pub(super) struct Deeds {
    undo: Vec<(TopicPartition, Undo)>,
    /// Something has to be kept.
    changed: bool,
}

impl Deeds {
    /// Keeps all of it. After an error nothing was done: what was acquired is so still.
    pub(super) async fn keep(self, context: &Context, key: &Key) -> Result<(), ErrorCode> {
        if !self.changed {
            return Ok(());
        }
        let shared = &context.shared;
        let group = key.group.clone();
        let undo = move |groups: &mut Groups| {
            let group = groups.get_mut(&group);
            let Some(group) = group.and_then(|group| group.share.as_mut()) else {
                return;
            };
            for (id, undo) in self.undo {
                if let Some(partition) = group.partitions.get_mut(&id) {
                    partition.undo(undo);
                }
            }
        };
        let kept = shared.group_kept_or(&key.group, undo).await;
        kept.map_err(|error| {
            tracing::error!(group = key.group, %error, "cannot write acknowledgements");
            shared.groups_changed.notify_one();
            shared.share_freed.notify_waiters();
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        })
    }
}

/// Does what a member says of one partition; it counts once that is kept.
pub(super) fn acknowledge(
    context: &Context,
    key: &Key,
    (topic, index): (Uuid, i32),
    said: &[Said],
    deeds: &mut Deeds,
) -> ErrorCode {
    let led = find(context, "", topic, index).and_then(|partition| {
        let state = partition.state.lock();
        state.check_leader(context.node, -1)?;
        Ok(state.leader_epoch)
    });
    let leader_epoch = match led {
        Ok(epoch) => epoch,
        Err(error) => return error,
    };
    let shared = &context.shared;
    let now = shared.now();
    let mut groups = shared.groups.lock();
    let group = groups
        .get_mut(&key.group)
        .and_then(|group| group.share.as_mut());
    let Some(group) = group else {
        return ErrorCode::GROUP_ID_NOT_FOUND;
    };
    let settings = group.settings();
    let Some(partition) = group.partitions.get_mut(&(topic, index)) else {
        return ErrorCode::INVALID_RECORD_STATE;
    };
    if let Err(error) = partition.led(leader_epoch) {
        return error;
    }
    let holder: Holder = (Arc::from(key.member.as_str()), key.node);
    // Locks that the clock has not come to yet.
    let late = partition.expire(now, settings.deliveries_max);
    let renewed = now + settings.lock;
    let done = partition.acknowledge(&holder, said, settings.deliveries_max, renewed);
    let changed = partition.is_unkept();
    drop(groups);
    shared.groups_changed.notify_one();
    if late || done.as_ref().is_ok_and(|done| done.freed) {
        shared.share_freed.notify_waiters();
    }
    match done {
        Ok(done) => {
            deeds.changed |= changed;
            deeds.undo.push(((topic, index), done.undo));
            ErrorCode::NONE
        }
        Err(error) => error,
    }
}

/// Who leads, where that is what an error is about (KIP-951).
pub(super) fn leader_of(
    context: &Context,
    error: ErrorCode,
    (topic, index): (Uuid, i32),
) -> Option<(i32, i32)> {
    if error != ErrorCode::NOT_LEADER_OR_FOLLOWER {
        return None;
    }
    let topic = resolve(context, "", topic).ok()?;
    let state = topic.partition(index)?.state.lock();
    Some((state.leader?, state.leader_epoch))
}

/// How long records are locked, as answers say it.
pub(super) fn lock_ms(context: &Context, group: &str) -> i32 {
    let lock = context.shared.settings.lock().groups.of(group).lock;
    i32::try_from(lock.as_millis()).unwrap_or(i32::MAX)
}

/// Of a session's last request.
pub(super) const CLOSE: i32 = -1;

pub(super) const RENEW: i8 = 4;
