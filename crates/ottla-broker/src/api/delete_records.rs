//! DeleteRecords: everything before an offset becomes unreadable.

use ottla_wire::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use ottla_wire::{ErrorCode, Uuid};

use super::Serve;
use super::metadata::resolve;
use crate::context::Context;

impl Serve for DeleteRecordsRequest {
    async fn serve(self, context: &Context) -> Option<DeleteRecordsResponse> {
        Some(self.answer(|topic, partition| delete(context, topic, partition)))
    }

    fn refuse(&self, error: ErrorCode) -> DeleteRecordsResponse {
        self.answer(|_, _| Err(error))
    }
}

trait EachPartition {
    fn answer(
        &self,
        each: impl Fn(&str, &DeleteRecordsPartition) -> Result<i64, ErrorCode>,
    ) -> DeleteRecordsResponse;
}

impl EachPartition for DeleteRecordsRequest {
    fn answer(
        &self,
        each: impl Fn(&str, &DeleteRecordsPartition) -> Result<i64, ErrorCode>,
    ) -> DeleteRecordsResponse {
        let topics = self
            .topics
            .iter()
            .map(|topic| DeleteRecordsTopicResult {
                name: topic.name.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|partition| {
                        let (low_watermark, error_code) = match each(&topic.name, partition) {
                            Ok(start) => (start, ErrorCode::NONE),
                            Err(error) => (-1, error),
                        };
                        DeleteRecordsPartitionResult {
                            partition_index: partition.partition_index,
                            low_watermark,
                            error_code,
                            ..Default::default()
                        }
                    })
                    .collect(),
                ..Default::default()
            })
            .collect();
        DeleteRecordsResponse {
            topics,
            ..Default::default()
        }
    }
}

fn delete(
    context: &Context,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> Result<i64, ErrorCode> {
    let topic = resolve(context, topic, Uuid::ZERO)?;
    if !topic.config.log.delete {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let partition = topic
        .partition(asked.partition_index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let mut state = partition.state.lock();
    state.check_leader(context.node, -1)?;
    let offset = match asked.offset {
        // -1 stands for all there is.
        -1 => state.log.end_offset(),
        offset => offset,
    };
    if offset < 0 || offset > state.log.end_offset() {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    state.log.delete_before(offset).map_err(|error| {
        tracing::error!(topic = topic.name, partition = asked.partition_index, %error, "cannot delete");
        ErrorCode::KAFKA_STORAGE_ERROR
    })
}
