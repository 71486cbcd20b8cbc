//! Answers the core's questions about positions: committed offsets from the coordinator, places and ends of
//! epochs from the leaders. Each broker is asked by a task of its own, so that none waits for another.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use ottla_net::Lane;
use ottla_wire::{
    ErrorCode, Str,
    messages::offset_for_leader_epoch::{
        OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
    },
};

use super::{
    Shared, now,
    offsets::{self, EARLIEST, LATEST, Listed, Stragglers::AreReported, is_about_the_member},
    wait,
};
use crate::{
    Error, Offset,
    core::{Asked, Leader, Position, Question, Truth},
};

pub(super) async fn run(shared: Arc<Shared>) {
    let group = shared.config.group_id.is_some();
    loop {
        let questions = shared.core(|core| core.take_questions(group, now()));
        let mut committed = Vec::new();
        let mut leaders: BTreeMap<i32, (Vec<Place>, Vec<Epoch>)> = BTreeMap::new();
        for question in questions {
            match question.what {
                Asked::Committed => committed.push(question),
                Asked::Place { place, leader } => {
                    leaders
                        .entry(leader.node)
                        .or_default()
                        .0
                        .push((question, place, leader));
                }
                Asked::EndOfEpoch { position, leader } => {
                    leaders
                        .entry(leader.node)
                        .or_default()
                        .1
                        .push((question, position, leader));
                }
            }
        }
        if !committed.is_empty() {
            shared.spawn(ask_coordinator(shared.clone(), committed));
        }
        for (node, (places, epochs)) in leaders {
            if !places.is_empty() {
                shared.spawn(ask_places(shared.clone(), node, places));
            }
            if !epochs.is_empty() {
                shared.spawn(ask_epochs(shared.clone(), node, epochs));
            }
        }
        let next = shared.core(|core| core.next_question());
        wait(&shared.positions, next).await;
    }
}

type Place = (Question, Offset, Leader);
type Epoch = (Question, Position, Leader);

async fn ask_coordinator(shared: Arc<Shared>, questions: Vec<Question>) {
    let Some(group) = shared.config.group_id.clone() else {
        return;
    };
    let names: Vec<_> = questions
        .iter()
        .map(|question| question.name.clone())
        .collect();
    let deadline = now() + shared.config.request_timeout;
    let mut answer = match offsets::committed(&shared, &group, &names, AreReported, deadline).await
    {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(%group, %error, "cannot find out the committed offsets; trying again");
            if !error.is_retriable() {
                shared.core(|core| core.report(error.into()));
            }
            HashMap::new()
        }
    };
    for question in questions {
        let truth = match answer.remove(&question.name) {
            Some(Ok(Some(committed))) => Truth::At(Position {
                offset: committed.offset,
                leader_epoch: committed.leader_epoch,
            }),
            Some(Ok(None)) => Truth::NotCommitted,
            // That is the membership's to find out, and no news for the application.
            Some(Err(error)) if is_about_the_member(error) => Truth::Retry,
            // Never taken for "nothing committed": a reset would skip or repeat records.
            Some(Err(error)) if !error.is_retriable() => {
                let error = Error::Group {
                    group: group.clone().into(),
                    error,
                };
                shared.core(|core| core.report(error));
                Truth::Retry
            }
            Some(Err(_)) | None => Truth::Retry,
        };
        shared.core(|core| core.handle_truth(&question, truth, now()));
    }
}

async fn ask_places(shared: Arc<Shared>, node: i32, places: Vec<Place>) {
    let deadline = now() + shared.config.request_timeout;
    let first: Vec<_> = places
        .iter()
        .map(|(question, place, leader)| (question.name.clone(), leader.epoch, wanted(*place)))
        .collect();
    let mut listed = list(&shared, node, &first, deadline).await;
    // A time behind the last record means the end; so many before the end, not before the beginning.
    let second: Vec<_> = places
        .iter()
        .filter_map(|(question, place, leader)| {
            let offset = listed.get(&question.name)?.as_ref().ok()?.offset;
            let timestamp = match place {
                Offset::Tail(_) => EARLIEST,
                Offset::Timestamp(_) | Offset::Since(_) if offset < 0 => LATEST,
                // Below zero: not known yet.
                _ => return None,
            };
            Some((question.name.clone(), leader.epoch, timestamp))
        })
        .collect();
    let mut bounds = match second.is_empty() {
        true => Listed::new(),
        false => list(&shared, node, &second, deadline).await,
    };
    let asked_again: Vec<_> = second.into_iter().map(|(name, ..)| name).collect();
    for (question, place, _) in places {
        let name = &question.name;
        let listed = listed.remove(name);
        let bound = bounds.remove(name);
        let truth = match (listed, bound, asked_again.contains(name)) {
            (Some(Ok(listed)), None, false) => {
                Truth::At(position(listed.offset, listed.leader_epoch))
            }
            (Some(Ok(end)), Some(Ok(bound)), true) => Truth::At(match place {
                Offset::Tail(count) => {
                    let count = i64::try_from(count).unwrap_or(i64::MAX);
                    Position::at(end.offset.saturating_sub(count).max(bound.offset))
                }
                _ => position(bound.offset, bound.leader_epoch),
            }),
            (Some(Err(error)), ..) | (_, Some(Err(error)), _) => {
                heed(&shared, &question, error);
                Truth::Retry
            }
            _ => Truth::Retry,
        };
        shared.core(|core| core.handle_truth(&question, truth, now()));
    }
}

/// Asks; when nobody answers, nothing is listed.
async fn list(
    shared: &Shared,
    node: i32,
    wanted: &[(crate::TopicPartition, i32, i64)],
    deadline: std::time::Instant,
) -> Listed {
    match offsets::list_once(shared, node, wanted, deadline).await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!(node, %error, "cannot list offsets; trying again");
            shared.cluster.refresh_soon();
            Listed::new()
        }
    }
}

async fn ask_epochs(shared: Arc<Shared>, node: i32, epochs: Vec<Epoch>) {
    let mut answer = match end_of_epochs(&shared, node, &epochs).await {
        Ok(answer) => answer,
        // A broker that cannot say: the position is believed, as it was before KIP-320.
        Err(ottla_net::Error::Unsupported { .. }) => epochs
            .iter()
            .map(|(question, position, _)| (question.name.clone(), Ok(Some(*position))))
            .collect(),
        Err(error) => {
            tracing::warn!(node, %error, "cannot check positions; trying again");
            shared.cluster.refresh_soon();
            HashMap::new()
        }
    };
    for (question, ..) in epochs {
        let truth = match answer.remove(&question.name) {
            Some(Ok(end)) => Truth::EpochEnd(end),
            Some(Err(error)) => {
                heed(&shared, &question, error);
                Truth::Retry
            }
            None => Truth::Retry,
        };
        // The application may be in the middle of a batch: reading goes on behind what it was handed, and what is left of
        // the batch may not be in the log any more.
        let mut reader = shared.reader.lock();
        shared.core(|core| {
            reader.sync(core, false);
            core.handle_truth(&question, truth, now());
            reader.drop_outdated(core);
        });
    }
}

type Ends = HashMap<crate::TopicPartition, Result<Option<Position>, ErrorCode>>;

async fn end_of_epochs(
    shared: &Shared,
    node: i32,
    epochs: &[Epoch],
) -> Result<Ends, ottla_net::Error> {
    let mut topics: BTreeMap<&Str, Vec<OffsetForLeaderPartition>> = BTreeMap::new();
    for (question, position, leader) in epochs {
        topics
            .entry(&question.name.topic)
            .or_default()
            .push(OffsetForLeaderPartition {
                partition: question.name.partition,
                current_leader_epoch: leader.epoch,
                leader_epoch: position.leader_epoch.unwrap_or(-1),
                ..Default::default()
            });
    }
    let request = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: topics
            .into_iter()
            .map(|(topic, partitions)| OffsetForLeaderTopic {
                topic: topic.clone(),
                partitions,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let deadline = now() + shared.config.request_timeout;
    let connection = shared
        .cluster
        .connection(node, Lane::Control, deadline.into())
        .await?;
    // Version 2 is for replicas only.
    let version = connection.version::<OffsetForLeaderEpochRequest>(i16::MAX)?;
    let deadline = now() + shared.config.request_timeout;
    let reply = connection.submit(&request, version, deadline.into())?;
    let response = reply.await?;
    let mut ends = HashMap::new();
    for topic in response.topics {
        for end in topic.partitions {
            let name = crate::TopicPartition::new(topic.topic.clone(), end.partition);
            let known = end.end_offset >= 0 && end.leader_epoch >= 0;
            let result = end.error_code.ok().map(|()| {
                known.then_some(Position {
                    offset: end.end_offset,
                    leader_epoch: Some(end.leader_epoch),
                })
            });
            ends.insert(name, result);
        }
    }
    Ok(ends)
}

/// An error about one partition, after which the question is asked again.
fn heed(shared: &Arc<Shared>, question: &Question, error: ErrorCode) {
    if error.refreshes_metadata() || error.is_retriable() {
        tracing::debug!(partition = %question.name, %error, "position not found out yet");
        shared.cluster.refresh_soon();
    } else {
        let topic = question.name.to_string();
        shared.core(|core| core.report(ottla_net::Error::Topic { topic, code: error }.into()));
    }
}

/// What ListOffsets calls a place.
fn wanted(place: Offset) -> i64 {
    match place {
        Offset::Beginning => EARLIEST,
        Offset::Timestamp(timestamp) => timestamp,
        Offset::Since(age) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let then = now.unwrap_or(Duration::ZERO).saturating_sub(age);
            i64::try_from(then.as_millis()).unwrap_or(i64::MAX)
        }
        // The core asks neither for `At` nor, here, for `Committed`.
        Offset::End | Offset::Tail(_) | Offset::At(_) | Offset::Committed => LATEST,
    }
}

fn position(offset: i64, leader_epoch: i32) -> Position {
    Position {
        offset,
        leader_epoch: (leader_epoch >= 0).then_some(leader_epoch),
    }
}
