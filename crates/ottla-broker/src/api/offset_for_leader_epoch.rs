//! OffsetForLeaderEpoch: where an epoch ended, for consumers that look for truncation (KIP-320).

use ottla_wire::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use ottla_wire::{ErrorCode, Uuid};

use super::Serve;
use super::metadata::resolve;
use crate::context::Context;

impl Serve for OffsetForLeaderEpochRequest {
    async fn serve(self, context: &Context) -> Option<OffsetForLeaderEpochResponse> {
        Some(answer(&self, |topic, asked| {
            let topic = resolve(context, topic, Uuid::ZERO)?;
            let partition = topic
                .partition(asked.partition)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
            let state = partition.state.lock();
            state.check_leader(context.node, asked.current_leader_epoch)?;
            if asked.leader_epoch > state.leader_epoch {
                // Of another log of that name, perhaps: whoever asks must not think that this one agrees.
                return Ok((-1, -1));
            }
            Ok(state.log.epoch_end(asked.leader_epoch).unwrap_or((-1, -1)))
        }))
    }

    fn refuse(&self, error: ErrorCode) -> OffsetForLeaderEpochResponse {
        answer(self, |_, _| Err(error))
    }
}

fn answer(
    request: &OffsetForLeaderEpochRequest,
    each: impl Fn(&str, &OffsetForLeaderPartition) -> Result<(i32, i64), ErrorCode>,
) -> OffsetForLeaderEpochResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|asked| {
                    let (error_code, (leader_epoch, end_offset)) = match each(&topic.topic, asked) {
                        Ok(end) => (ErrorCode::NONE, end),
                        Err(error) => (error, (-1, -1)),
                    };
                    EpochEndOffset {
                        error_code,
                        partition: asked.partition,
                        leader_epoch,
                        end_offset,
                        ..Default::default()
                    }
                })
                .collect(),
            ..Default::default()
        })
        .collect();
    OffsetForLeaderEpochResponse {
        topics,
        ..Default::default()
    }
}
