//! AlterPartitionReassignments: partitions move to other nodes, at once, since all nodes share one log.

use ottla_wire::ErrorCode;
use ottla_wire::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};

use super::Serve;
use crate::context::Context;
use crate::topics::{self, TopicError};

impl Serve for AlterPartitionReassignmentsRequest {
    async fn serve(self, context: &Context) -> Option<AlterPartitionReassignmentsResponse> {
        let same_count = !self.allow_replication_factor_change;
        Some(answer(&self, |topic, partition| {
            topics::reassign(
                &context.shared,
                topic,
                partition.partition_index,
                partition.replicas.as_deref(),
                same_count,
            )
        }))
    }

    fn refuse(&self, error: ErrorCode) -> AlterPartitionReassignmentsResponse {
        AlterPartitionReassignmentsResponse {
            error_code: error,
            ..answer(self, |_, _| {
                let message = error.meaning().to_owned();
                Err(TopicError { error, message })
            })
        }
    }
}

fn answer(
    request: &AlterPartitionReassignmentsRequest,
    each: impl Fn(&str, &ReassignablePartition) -> Result<(), TopicError>,
) -> AlterPartitionReassignmentsResponse {
    let responses = request
        .topics
        .iter()
        .map(|topic| ReassignableTopicResponse {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| {
                    let (error_code, error_message) = match each(&topic.name, partition) {
                        Ok(()) => (ErrorCode::NONE, None),
                        Err(error) => (error.error, Some(error.message.into())),
                    };
                    ReassignablePartitionResponse {
                        partition_index: partition.partition_index,
                        error_code,
                        error_message,
                        ..Default::default()
                    }
                })
                .collect(),
            ..Default::default()
        })
        .collect();
    AlterPartitionReassignmentsResponse {
        error_message: None,
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses,
        ..Default::default()
    }
}
