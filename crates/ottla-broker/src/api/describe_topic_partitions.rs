//! DescribeTopicPartitions: topics with their partitions, a page at a time (KIP-966).

use std::collections::BTreeSet;

use ottla_wire::ErrorCode;
use ottla_wire::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};

use super::Serve;
use super::authorized_operations::{TOPIC_OPERATIONS, authorized_operations};
use super::metadata::describe_partition;
use crate::cluster::{Cluster, Partition};
use crate::context::Context;
use crate::topics;

impl Serve for DescribeTopicPartitionsRequest {
    async fn serve(self, context: &Context) -> Option<DescribeTopicPartitionsResponse> {
        let cursor = self.cursor.as_ref();
        if cursor.is_some_and(|cursor| cursor.partition_index < 0) {
            return Some(self.refuse(ErrorCode::INVALID_REQUEST));
        }
        let cluster = context.shared.cluster.read();
        let all = self.topics.is_empty();
        let mut names: BTreeSet<&str> = if all {
            cluster.topics().map(|topic| topic.name.as_str()).collect()
        } else {
            self.topics.iter().map(|topic| &*topic.name).collect()
        };
        if let Some(cursor) = cursor {
            names = names.split_off(&*cursor.topic_name);
        }
        let limit = self.response_partition_limit.clamp(1, PARTITIONS_MAX);
        let mut room = limit as usize;
        let mut response = DescribeTopicPartitionsResponse::default();
        for name in names {
            let first = match cursor {
                Some(cursor) if *cursor.topic_name == *name => cursor.partition_index as usize,
                _ => 0,
            };
            if room == 0 {
                response.next_cursor = Some(at(name, first));
                break;
            }
            let Some(topic) = cluster.topic(name) else {
                response.topics.push(missing(name));
                continue;
            };
            let partitions: Vec<_> = topic
                .partitions
                .iter()
                .skip(first)
                .take(room)
                .map(|partition| describe(&cluster, partition))
                .collect();
            let next = first + partitions.len();
            room -= partitions.len();
            response.topics.push(DescribeTopicPartitionsResponseTopic {
                name: Some(topic.name.as_str().into()),
                topic_id: topic.id,
                is_internal: topic.internal,
                partitions,
                // Nobody can ask not to be told.
                topic_authorized_operations: authorized_operations(true, TOPIC_OPERATIONS),
                ..Default::default()
            });
            if next < topic.partitions.len() {
                response.next_cursor = Some(at(name, next));
                break;
            }
        }
        Some(response)
    }

    fn refuse(&self, error: ErrorCode) -> DescribeTopicPartitionsResponse {
        let topics = self
            .topics
            .iter()
            .map(|topic| DescribeTopicPartitionsResponseTopic {
                error_code: error,
                name: Some(topic.name.clone()),
                ..Default::default()
            })
            .collect();
        DescribeTopicPartitionsResponse {
            topics,
            ..Default::default()
        }
    }
}

fn at(topic: &str, partition: usize) -> Cursor {
    Cursor {
        topic_name: topic.into(),
        partition_index: partition as i32,
        ..Default::default()
    }
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error_code = match topics::check_name(name) {
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Err(error) => error.error,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code,
        name: Some(name.into()),
        ..Default::default()
    }
}

fn describe(cluster: &Cluster, partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    let known = describe_partition(cluster, partition);
    DescribeTopicPartitionsResponsePartition {
        error_code: known.error_code,
        partition_index: known.partition_index,
        leader_id: known.leader_id,
        leader_epoch: known.leader_epoch,
        replica_nodes: known.replica_nodes,
        isr_nodes: known.isr_nodes,
        // Every replica reads the leader's own log, so none is ever eligible without being in sync.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: known.offline_replicas,
        ..Default::default()
    }
}

/// `max.request.partition.size.limit`
const PARTITIONS_MAX: i32 = 2000;
