//! DescribeProducers: what a partition remembers of those who write to it.

use ottla_wire::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
    TopicResponse,
};
use ottla_wire::{ErrorCode, Uuid};

use super::Serve;
use super::metadata::resolve;
use crate::context::Context;

impl Serve for DescribeProducersRequest {
    async fn serve(self, context: &Context) -> Option<DescribeProducersResponse> {
        Some(answer(&self, |topic, partition| {
            describe(context, topic, partition)
        }))
    }

    fn refuse(&self, error: ErrorCode) -> DescribeProducersResponse {
        answer(self, |_, _| Err(error))
    }
}

fn answer(
    request: &DescribeProducersRequest,
    each: impl Fn(&str, i32) -> Result<Vec<ProducerState>, ErrorCode>,
) -> DescribeProducersResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| TopicResponse {
            name: topic.name.clone(),
            partitions: topic
                .partition_indexes
                .iter()
                .map(|index| match each(&topic.name, *index) {
                    Ok(active_producers) => PartitionResponse {
                        partition_index: *index,
                        active_producers,
                        ..Default::default()
                    },
                    Err(error) => PartitionResponse {
                        partition_index: *index,
                        error_code: error,
                        error_message: Some(error.meaning().into()),
                        ..Default::default()
                    },
                })
                .collect(),
            ..Default::default()
        })
        .collect();
    DescribeProducersResponse {
        topics,
        ..Default::default()
    }
}

fn describe(context: &Context, topic: &str, index: i32) -> Result<Vec<ProducerState>, ErrorCode> {
    let topic = resolve(context, topic, Uuid::ZERO)?;
    let partition = topic
        .partition(index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let state = partition.state.lock();
    state.check_leader(context.node, -1)?;
    let mut producers: Vec<ProducerState> = state
        .log
        .producers()
        .iter()
        .map(|(producer_id, producer)| ProducerState {
            producer_id,
            producer_epoch: i32::from(producer.epoch),
            last_sequence: producer.last_sequence(),
            last_timestamp: producer.last_timestamp_ms,
            coordinator_epoch: -1,
            current_txn_start_offset: state.log.transactions().start_of(producer_id).unwrap_or(-1),
            ..Default::default()
        })
        .collect();
    producers.sort_unstable_by_key(|producer| producer.producer_id);
    Ok(producers)
}
