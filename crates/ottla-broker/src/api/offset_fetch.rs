//! OffsetFetch: what a group has committed.

use std::collections::{BTreeSet, HashSet};

use ottla_wire::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use ottla_wire::{ErrorCode, Str, Uuid};

use super::Serve;
use crate::context::Context;
use crate::group::offsets::{Committed, Offsets};

impl Serve for OffsetFetchRequest {
    async fn serve(self, context: &Context) -> Option<OffsetFetchResponse> {
        if context.version >= SEVERAL_GROUPS_FROM {
            let mut seen = HashSet::new();
            let groups = self
                .groups
                .iter()
                .filter(|asked| seen.insert(&*asked.group_id))
                .map(|asked| fetch_group(context, asked, self.require_stable))
                .collect();
            return Some(OffsetFetchResponse {
                groups,
                ..Default::default()
            });
        }
        if let Err(error) = context.check_coordinator(&self.group_id) {
            return Some(self.refuse(error));
        }
        let unstable = unstable(context, &self.group_id, self.require_stable);
        let groups = context.shared.groups.lock();
        let none = Offsets::default();
        let offsets = groups
            .get(&self.group_id)
            .map_or(&none, |group| &group.offsets);
        let topics = match &self.topics {
            Some(topics) => topics
                .iter()
                .map(|topic| OffsetFetchResponseTopic {
                    name: topic.name.clone(),
                    partitions: topic
                        .partition_indexes
                        .iter()
                        .map(|index| {
                            let committed = offsets.get(&topic.name, *index);
                            single(*index, settled(&unstable, &topic.name, *index, committed))
                        })
                        .collect(),
                    ..Default::default()
                })
                .collect(),
            None => by_topic(offsets)
                .into_iter()
                .map(|(name, partitions)| OffsetFetchResponseTopic {
                    partitions: partitions
                        .iter()
                        .map(|(i, c)| single(*i, settled(&unstable, &name, *i, Some(c))))
                        .collect(),
                    name,
                    ..Default::default()
                })
                .collect(),
        };
        Some(OffsetFetchResponse {
            topics,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> OffsetFetchResponse {
        let groups = self
            .groups
            .iter()
            .map(|asked| OffsetFetchResponseGroup {
                group_id: asked.group_id.clone(),
                error_code: error,
                ..Default::default()
            })
            .collect();
        OffsetFetchResponse {
            error_code: error,
            groups,
            ..Default::default()
        }
    }
}

/// Partitions whose committed offsets an open transaction may change, if the client wants to hear of them (KIP-447).
fn unstable(context: &Context, group: &str, asked_for: bool) -> BTreeSet<(String, i32)> {
    if !asked_for {
        return BTreeSet::new();
    }
    context.shared.transactions.lock().unstable(group)
}

fn settled<'a>(
    unstable: &BTreeSet<(String, i32)>,
    topic: &str,
    partition: i32,
    committed: Option<&'a Committed>,
) -> Result<Option<&'a Committed>, ErrorCode> {
    if !unstable.is_empty() && unstable.contains(&(topic.to_owned(), partition)) {
        return Err(ErrorCode::UNSTABLE_OFFSET_COMMIT);
    }
    Ok(committed)
}

fn fetch_group(
    context: &Context,
    asked: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let mut response = OffsetFetchResponseGroup {
        group_id: asked.group_id.clone(),
        ..Default::default()
    };
    if let Err(error) = context.check_coordinator(&asked.group_id) {
        response.error_code = error;
        return response;
    }
    let unstable = unstable(context, &asked.group_id, require_stable);
    let offsets = {
        let groups = context.shared.groups.lock();
        let group = groups.get(&asked.group_id);
        let (member_id, epoch) = (asked.member_id.as_deref(), asked.member_epoch);
        if let Some(consumer) = group.and_then(|group| group.consumer.as_ref())
            && let Err(error) = consumer.check_fetch(member_id, epoch)
        {
            response.error_code = error;
            return response;
        }
        group.map(|group| group.offsets.clone()).unwrap_or_default()
    };
    let cluster = context.shared.cluster.read();
    let id_of = |name: &str| cluster.topic(name).map_or(Uuid::ZERO, |topic| topic.id);
    let Some(topics) = &asked.topics else {
        response.topics = by_topic(&offsets)
            .into_iter()
            .map(|(name, partitions)| OffsetFetchResponseTopics {
                topic_id: id_of(&name),
                partitions: partitions
                    .iter()
                    .map(|(i, c)| grouped(*i, settled(&unstable, &name, *i, Some(c))))
                    .collect(),
                name,
                ..Default::default()
            })
            .collect();
        return response;
    };
    for topic in topics {
        let name = if topic.topic_id == Uuid::ZERO {
            Ok(topic.name.clone())
        } else {
            let found = cluster.topic_by_id(topic.topic_id);
            found
                .map(|found| Str::from(found.name.as_str()))
                .ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
        };
        let committed = |index: i32| match &name {
            Err(error) => Err(*error),
            Ok(name) => {
                let committed = offsets.get(name, index);
                settled(&unstable, name, index, committed)
            }
        };
        response.topics.push(OffsetFetchResponseTopics {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partition_indexes
                .iter()
                .map(|index| grouped(*index, committed(*index)))
                .collect(),
            ..Default::default()
        });
    }
    response
}

fn by_topic(offsets: &Offsets) -> Vec<(Str, Vec<(i32, Committed)>)> {
    let mut topics: Vec<(Str, Vec<(i32, Committed)>)> = Vec::new();
    for (topic, partition, committed) in offsets.iter() {
        match topics.last_mut() {
            Some((name, partitions)) if *name == *topic => {
                partitions.push((partition, committed.clone()));
            }
            _ => topics.push((topic.into(), vec![(partition, committed.clone())])),
        }
    }
    topics
}

fn single(
    partition_index: i32,
    committed: Result<Option<&Committed>, ErrorCode>,
) -> OffsetFetchResponsePartition {
    let (committed, error_code) = match committed {
        Ok(committed) => (committed, ErrorCode::NONE),
        Err(error) => (None, error),
    };
    OffsetFetchResponsePartition {
        error_code,
        partition_index,
        committed_offset: committed.map_or(-1, |committed| committed.offset),
        committed_leader_epoch: committed.map_or(-1, |committed| committed.leader_epoch),
        metadata: Some(committed.map_or("", |committed| &committed.metadata).into()),
        ..Default::default()
    }
}

fn grouped(
    partition_index: i32,
    committed: Result<Option<&Committed>, ErrorCode>,
) -> OffsetFetchResponsePartitions {
    let (committed, error_code) = match committed {
        Ok(committed) => (committed, ErrorCode::NONE),
        Err(error) => (None, error),
    };
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.map_or(-1, |committed| committed.offset),
        committed_leader_epoch: committed.map_or(-1, |committed| committed.leader_epoch),
        metadata: Some(committed.map_or("", |committed| &committed.metadata).into()),
        error_code,
        ..Default::default()
    }
}

const SEVERAL_GROUPS_FROM: i16 = 8;
