//! DescribeLogDirs: where a node keeps its partitions, and how large each is.

use std::collections::BTreeSet;

use ottla_wire::ErrorCode;
use ottla_wire::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};

use super::Serve;
use crate::context::Context;

impl Serve for DescribeLogDirsRequest {
    async fn serve(self, context: &Context) -> Option<DescribeLogDirsResponse> {
        let wanted: Option<BTreeSet<(&str, i32)>> = self.topics.as_ref().map(|topics| {
            topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(|i| (&*topic.topic, *i)))
                .collect()
        });
        let cluster = context.shared.cluster.read();
        let mut topics = Vec::new();
        for topic in cluster.topics() {
            let mut partitions = Vec::new();
            for partition in &topic.partitions {
                let asked = (topic.name.as_str(), partition.index);
                if wanted
                    .as_ref()
                    .is_some_and(|wanted| !wanted.contains(&asked))
                {
                    continue;
                }
                let state = partition.state.lock();
                if state.replicas.contains(&context.node) {
                    partitions.push(DescribeLogDirsPartition {
                        partition_index: partition.index,
                        partition_size: i64::try_from(state.log.size_bytes()).unwrap_or(i64::MAX),
                        ..Default::default()
                    });
                }
            }
            if !partitions.is_empty() {
                topics.push(DescribeLogDirsTopic {
                    name: topic.name.as_str().into(),
                    partitions,
                    ..Default::default()
                });
            }
        }
        let log_dir = match &context.shared.options.data_dir {
            Some(path) => path.join("logs").display().to_string(),
            None => "memory".to_owned(),
        };
        Some(DescribeLogDirsResponse {
            results: vec![DescribeLogDirsResult {
                log_dir: log_dir.into(),
                topics,
                ..Default::default()
            }],
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> DescribeLogDirsResponse {
        DescribeLogDirsResponse {
            error_code: error,
            ..Default::default()
        }
    }
}
