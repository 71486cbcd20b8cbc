//! DescribeQuorum: who keeps the cluster's metadata. All nodes do, and since they share one memory none lags.

use ottla_wire::ErrorCode;
use ottla_wire::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, DescribeQuorumResponsePartitionData,
    DescribeQuorumResponseTopicData, Listener, Node, ReplicaState,
};

use super::Serve;
use crate::cluster::Cluster;
use crate::context::Context;

impl Serve for DescribeQuorumRequest {
    async fn serve(self, context: &Context) -> Option<DescribeQuorumResponse> {
        let partitions = |partitions: &mut dyn Iterator<Item = i32>| partitions.eq([0]);
        let asked_rightly = match &self.topics[..] {
            [topic] => {
                *topic.topic_name == *METADATA_TOPIC
                    && partitions(&mut topic.partitions.iter().map(|p| p.partition_index))
            }
            _ => false,
        };
        if !asked_rightly {
            return Some(self.partitions(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        }
        let now_ms = context.shared.now_ms();
        let cluster = context.shared.cluster.read();
        Some(describe(&cluster, now_ms))
    }

    fn refuse(&self, error: ErrorCode) -> DescribeQuorumResponse {
        DescribeQuorumResponse {
            error_code: error,
            error_message: Some(error.meaning().into()),
            ..Default::default()
        }
    }
}

fn describe(cluster: &Cluster, now_ms: i64) -> DescribeQuorumResponse {
    let leader = cluster.controller().unwrap_or(-1);
    let voters = cluster.nodes.values().map(|node| ReplicaState {
        replica_id: node.id,
        log_end_offset: METADATA_END,
        last_fetch_timestamp: if node.up { now_ms } else { -1 },
        last_caught_up_timestamp: if node.up { now_ms } else { -1 },
        ..Default::default()
    });
    let nodes = cluster.nodes.values().map(|node| Node {
        node_id: node.id,
        listeners: vec![Listener {
            name: "CONTROLLER".into(),
            host: node.host.as_str().into(),
            port: node.port,
            ..Default::default()
        }],
        ..Default::default()
    });
    let partition = DescribeQuorumResponsePartitionData {
        partition_index: 0,
        error_message: None,
        leader_id: leader,
        leader_epoch: 1,
        high_watermark: METADATA_END,
        current_voters: voters.collect(),
        ..Default::default()
    };
    DescribeQuorumResponse {
        error_message: None,
        topics: vec![DescribeQuorumResponseTopicData {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![partition],
            ..Default::default()
        }],
        nodes: nodes.collect(),
        ..Default::default()
    }
}

trait Partitions {
    fn partitions(&self, error: ErrorCode) -> DescribeQuorumResponse;
}

impl Partitions for DescribeQuorumRequest {
    /// An answer with this error for each partition.
    fn partitions(&self, error: ErrorCode) -> DescribeQuorumResponse {
        let topics = self
            .topics
            .iter()
            .map(|topic| DescribeQuorumResponseTopicData {
                topic_name: topic.topic_name.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|partition| DescribeQuorumResponsePartitionData {
                        partition_index: partition.partition_index,
                        error_code: error,
                        error_message: Some(error.meaning().into()),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            });
        DescribeQuorumResponse {
            error_message: None,
            topics: topics.collect(),
            ..Default::default()
        }
    }
}

const METADATA_TOPIC: &str = "__cluster_metadata";

/// There is no log of metadata; any number that all agree on will do.
const METADATA_END: i64 = 1;
