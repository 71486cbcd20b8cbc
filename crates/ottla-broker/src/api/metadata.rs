//! Metadata: nodes, topics, and who leads which partition; creates a topic that is asked for if it may.

use std::collections::HashSet;
use std::sync::Arc;

use ottla_wire::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_wire::{ErrorCode, Uuid};

use super::Serve;
use super::authorized_operations::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS, authorized_operations};
use crate::cluster::{Cluster, Partition, Topic};
use crate::context::Context;
use crate::topics::{self, NewTopic};

impl Serve for MetadataRequest {
    async fn serve(self, context: &Context) -> Option<MetadataResponse> {
        // Version 0 knows no null: an empty list asks for all topics.
        let all = match &self.topics {
            None => true,
            Some(topics) => context.version == 0 && topics.is_empty(),
        };
        if !all && self.allow_auto_topic_creation && context.shared.options.auto_create_topics {
            for topic in self.topics.iter().flatten() {
                create_if_missing(context, topic);
            }
        }
        let cluster = context.shared.cluster.read();
        // A topic named twice is described once.
        let mut seen = HashSet::new();
        let mut topics: Vec<_> = if all {
            cluster
                .topics()
                .map(|topic| describe(&cluster, topic))
                .collect()
        } else {
            self.topics
                .iter()
                .flatten()
                .filter(|asked| seen.insert((asked.name.as_deref(), asked.topic_id)))
                .map(|asked| describe_asked(&cluster, asked))
                .collect()
        };
        for topic in topics.iter_mut().filter(|topic| topic.error_code.is_ok()) {
            let wanted = self.include_topic_authorized_operations;
            topic.topic_authorized_operations = authorized_operations(wanted, TOPIC_OPERATIONS);
        }
        Some(MetadataResponse {
            topics,
            cluster_authorized_operations: authorized_operations(
                self.include_cluster_authorized_operations,
                CLUSTER_OPERATIONS,
            ),
            ..cluster_response(&cluster)
        })
    }

    fn refuse(&self, error: ErrorCode) -> MetadataResponse {
        let topics = self
            .topics
            .iter()
            .flatten()
            .map(|asked| MetadataResponseTopic {
                error_code: error,
                name: asked.name.clone(),
                topic_id: asked.topic_id,
                ..Default::default()
            })
            .collect();
        MetadataResponse {
            topics,
            error_code: error,
            ..Default::default()
        }
    }
}

/// The topic that a request names, by id if it has one.
pub(super) fn resolve(context: &Context, name: &str, id: Uuid) -> Result<Arc<Topic>, ErrorCode> {
    let cluster = context.shared.cluster.read();
    if id == Uuid::ZERO {
        cluster
            .topic(name)
            .cloned()
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    } else {
        cluster
            .topic_by_id(id)
            .cloned()
            .ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
    }
}

fn create_if_missing(context: &Context, asked: &MetadataRequestTopic) {
    let Some(name) = asked
        .name
        .as_deref()
        .filter(|_| asked.topic_id == Uuid::ZERO)
    else {
        return;
    };
    if context.shared.cluster.read().topic(name).is_some() {
        return;
    }
    let new = NewTopic {
        name: name.to_owned(),
        ..NewTopic::default()
    };
    // What goes wrong shows as the topic's error in the answer.
    if let Err(error) = topics::create(&context.shared, &new, false) {
        tracing::debug!(topic = name, ?error, "topic not created on request");
    }
}

fn cluster_response(cluster: &Cluster) -> MetadataResponse {
    let brokers = cluster
        .nodes
        .values()
        .filter(|node| node.up)
        .map(|node| MetadataResponseBroker {
            node_id: node.id,
            host: node.host.as_str().into(),
            port: i32::from(node.port),
            rack: node.rack.as_deref().map(Into::into),
            ..Default::default()
        })
        .collect();
    MetadataResponse {
        brokers,
        cluster_id: Some(cluster.id.as_str().into()),
        controller_id: cluster.controller().unwrap_or(-1),
        ..Default::default()
    }
}

fn describe_asked(cluster: &Cluster, asked: &MetadataRequestTopic) -> MetadataResponseTopic {
    let missing = |error_code| MetadataResponseTopic {
        error_code,
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        ..Default::default()
    };
    if asked.topic_id != Uuid::ZERO {
        return match cluster.topic_by_id(asked.topic_id) {
            Some(topic) => describe(cluster, topic),
            None => missing(ErrorCode::UNKNOWN_TOPIC_ID),
        };
    }
    let name = asked.name.as_deref().unwrap_or_default();
    match cluster.topic(name) {
        Some(topic) => describe(cluster, topic),
        None if topics::check_name(name).is_err() => missing(ErrorCode::INVALID_TOPIC_EXCEPTION),
        None => missing(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

fn describe(cluster: &Cluster, topic: &Topic) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(topic.name.as_str().into()),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: topic
            .partitions
            .iter()
            .map(|p| describe_partition(cluster, p))
            .collect(),
        ..Default::default()
    }
}

/// Who leads a partition, and where its replicas are.
pub(super) fn describe_partition(
    cluster: &Cluster,
    partition: &Partition,
) -> MetadataResponsePartition {
    let state = partition.state.lock();
    let error_code = match state.leader {
        Some(_) => ErrorCode::NONE,
        None => ErrorCode::LEADER_NOT_AVAILABLE,
    };
    MetadataResponsePartition {
        error_code,
        partition_index: partition.index,
        leader_id: state.leader.unwrap_or(-1),
        leader_epoch: state.leader_epoch,
        replica_nodes: state.replicas.clone(),
        isr_nodes: state.in_sync.clone(),
        offline_replicas: cluster.offline(&state.replicas),
        ..Default::default()
    }
}
