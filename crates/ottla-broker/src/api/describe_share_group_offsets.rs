//! DescribeShareGroupOffsets: where share groups begin in partitions, and how far behind they are (KIP-932, KIP-1226).

use std::collections::BTreeMap;

use ottla_wire::messages::describe_share_group_offsets::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsRequestTopic, DescribeShareGroupOffsetsResponse,
    DescribeShareGroupOffsetsResponseGroup, DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
};
use ottla_wire::{ErrorCode, Uuid};

use super::Serve;
use super::metadata::resolve;
use crate::cluster::Topic;
use crate::context::Context;
use crate::features::SHARE_VERSION;
use crate::group::share::partition::Progress;

impl Serve for DescribeShareGroupOffsetsRequest {
    async fn serve(self, context: &Context) -> Option<DescribeShareGroupOffsetsResponse> {
        let groups = self.groups.iter();
        Some(DescribeShareGroupOffsetsResponse {
            groups: groups
                .map(|group| match describe(context, group) {
                    Ok(topics) => answer(group, topics, ErrorCode::NONE),
                    Err(error) => answer(group, Vec::new(), error),
                })
                .collect(),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> DescribeShareGroupOffsetsResponse {
        let groups = self.groups.iter();
        DescribeShareGroupOffsetsResponse {
            groups: groups
                .map(|group| answer(group, Vec::new(), error))
                .collect(),
            ..Default::default()
        }
    }
}

fn answer(
    group: &DescribeShareGroupOffsetsRequestGroup,
    topics: Vec<DescribeShareGroupOffsetsResponseTopic>,
    error_code: ErrorCode,
) -> DescribeShareGroupOffsetsResponseGroup {
    DescribeShareGroupOffsetsResponseGroup {
        group_id: group.group_id.clone(),
        topics,
        error_code,
        error_message: (!error_code.is_ok()).then(|| error_code.meaning().into()),
        ..Default::default()
    }
}

/// Where a group is, by partition, of each topic.
type Places = BTreeMap<Uuid, BTreeMap<i32, Progress>>;

fn describe(
    context: &Context,
    group: &DescribeShareGroupOffsetsRequestGroup,
) -> Result<Vec<DescribeShareGroupOffsetsResponseTopic>, ErrorCode> {
    let shared = &context.shared;
    if shared.settings.lock().levels.of(SHARE_VERSION) == 0 {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    context.check_coordinator(&group.group_id)?;
    let mut places = Places::new();
    {
        // As in Kafka, a group that does not exist is nowhere.
        let groups = shared.groups.lock();
        let share = groups.get(&group.group_id);
        let share = share.and_then(|group| group.share.as_ref());
        for ((topic, index), of) in share.iter().flat_map(|share| &share.partitions) {
            let of_topic = places.entry(*topic).or_default();
            of_topic.insert(*index, of.progress());
        }
    }
    Ok(match &group.topics {
        None => all(context, &places),
        Some(topics) => topics
            .iter()
            .map(|topic| named(context, topic, &places))
            .collect(),
    })
}

/// All topics that there are still.
fn all(context: &Context, places: &Places) -> Vec<DescribeShareGroupOffsetsResponseTopic> {
    let topics = places.iter().filter_map(|(id, of_topic)| {
        let topic = resolve(context, "", *id).ok()?;
        let partitions = of_topic.keys().map(|index| place(&topic, *index, of_topic));
        Some(DescribeShareGroupOffsetsResponseTopic {
            topic_name: topic.name.as_str().into(),
            topic_id: *id,
            partitions: partitions.collect(),
            ..Default::default()
        })
    });
    topics.collect()
}

fn named(
    context: &Context,
    asked: &DescribeShareGroupOffsetsRequestTopic,
    places: &Places,
) -> DescribeShareGroupOffsetsResponseTopic {
    let topic = resolve(context, &asked.topic_name, Uuid::ZERO).ok();
    let of_topic = topic.as_ref().and_then(|topic| places.get(&topic.id));
    let partitions = asked.partitions.iter();
    let partitions = partitions.map(|index| match (&topic, of_topic) {
        (Some(topic), Some(of_topic)) => place(topic, *index, of_topic),
        _ => nowhere(*index),
    });
    DescribeShareGroupOffsetsResponseTopic {
        topic_name: asked.topic_name.clone(),
        topic_id: topic.as_ref().map_or(Uuid::ZERO, |topic| topic.id),
        partitions: partitions.collect(),
        ..Default::default()
    }
}

fn place(
    topic: &Topic,
    index: i32,
    of_topic: &BTreeMap<i32, Progress>,
) -> DescribeShareGroupOffsetsResponsePartition {
    let (Some(progress), Some(partition)) = (of_topic.get(&index), topic.partition(index)) else {
        return nowhere(index);
    };
    let (log_start, end) = {
        let log = &partition.state.lock().log;
        (log.start_offset(), log.end_offset())
    };
    DescribeShareGroupOffsetsResponsePartition {
        partition_index: index,
        // What the log has no more is done with, though nobody may have asked since.
        start_offset: progress.start.max(log_start),
        leader_epoch: progress.leader_epoch.max(0),
        lag: progress.lag(end),
        error_message: None,
        ..Default::default()
    }
}

/// Of a partition that the group has not read.
fn nowhere(partition_index: i32) -> DescribeShareGroupOffsetsResponsePartition {
    DescribeShareGroupOffsetsResponsePartition {
        partition_index,
        start_offset: -1,
        lag: -1,
        error_message: None,
        ..Default::default()
    }
}
