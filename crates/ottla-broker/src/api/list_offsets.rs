//! ListOffsets: where a partition begins and ends, and which record was the first at or after a time.

use ottla_wire::compress::Decompressor;
use ottla_wire::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use ottla_wire::record::Batches;
use ottla_wire::{ErrorCode, Uuid};

use super::Serve;
use super::metadata::resolve;
use crate::context::Context;
use crate::log::header::BatchHeader;
use crate::log::{DECOMPRESSED_MAX, Log, TimestampedOffset};

impl Serve for ListOffsetsRequest {
    async fn serve(self, context: &Context) -> Option<ListOffsetsResponse> {
        let topics = self
            .topics
            .iter()
            .map(|topic| ListOffsetsTopicResponse {
                name: topic.name.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|asked| {
                        look_up(context, &topic.name, asked, self.isolation_level)
                            .unwrap_or_else(|error| failed(asked.partition_index, error))
                    })
                    .collect(),
                ..Default::default()
            })
            .collect();
        Some(ListOffsetsResponse {
            topics,
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> ListOffsetsResponse {
        let topics = self
            .topics
            .iter()
            .map(|topic| ListOffsetsTopicResponse {
                name: topic.name.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|p| failed(p.partition_index, error))
                    .collect(),
                ..Default::default()
            })
            .collect();
        ListOffsetsResponse {
            topics,
            ..Default::default()
        }
    }
}

fn look_up(
    context: &Context,
    topic: &str,
    asked: &ListOffsetsPartition,
    isolation_level: i8,
) -> Result<ListOffsetsPartitionResponse, ErrorCode> {
    let topic = resolve(context, topic, Uuid::ZERO)?;
    let partition = topic
        .partition(asked.partition_index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let state = partition.state.lock();
    state.check_leader(context.node, asked.current_leader_epoch)?;
    let found = offset_for(&state.log, asked.timestamp).map_err(|error| {
        tracing::error!(topic = topic.name, partition = asked.partition_index, %error, "cannot read the log");
        ErrorCode::KAFKA_STORAGE_ERROR
    })?;
    let stable = state.log.last_stable_offset();
    let committed = isolation_level == READ_COMMITTED;
    let found = match found {
        Some(Ok(found)) if committed && asked.timestamp == LATEST => TimestampedOffset {
            offset: stable,
            ..found
        },
        // Such a record cannot be read yet.
        Some(Ok(found)) if committed && asked.timestamp != EARLIEST && found.offset >= stable => {
            NOT_FOUND
        }
        Some(Ok(found)) => found,
        Some(Err(error)) => return Err(error),
        None => NOT_FOUND,
    };
    Ok(ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        timestamp: found.timestamp,
        offset: found.offset,
        // Version 4 is the first that can say it.
        leader_epoch: if context.version >= 4 {
            found.leader_epoch
        } else {
            -1
        },
        ..Default::default()
    })
}

fn offset_for(
    log: &Log,
    timestamp: i64,
) -> std::io::Result<Option<Result<TimestampedOffset, ErrorCode>>> {
    let at = |offset| {
        Some(Ok(TimestampedOffset {
            timestamp: -1,
            offset,
            leader_epoch: log.epoch_at(offset),
        }))
    };
    Ok(match timestamp {
        LATEST => {
            let offset = log.end_offset();
            let leader_epoch = log.latest_epoch();
            Some(Ok(TimestampedOffset {
                timestamp: -1,
                offset,
                leader_epoch,
            }))
        }
        EARLIEST | EARLIEST_LOCAL => at(log.start_offset()),
        MAX_TIMESTAMP => newest(log)?,
        // There is no tiered storage here: nothing was ever moved to it.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => None,
        ..0 => Some(Err(ErrorCode::UNSUPPORTED_VERSION)),
        timestamp => first_at(log, timestamp)?,
    })
}

/// The first of the records that have the largest timestamp.
fn newest(log: &Log) -> std::io::Result<Option<Result<TimestampedOffset, ErrorCode>>> {
    let (start, end) = (log.start_offset(), log.end_offset());
    let larger = |best, timestamp| timestamp > best;
    // Of the first batch, the records that its header speaks of may lie before the log's start.
    let first = log.read(start, end, 0, true)?;
    let Some(header) = BatchHeader::parse(&first) else {
        return Ok(None);
    };
    let (in_first, behind) = match header.base_offset < start {
        true => (record_in(&first, start, larger), header.next_offset()),
        false => (None, start),
    };
    let batch = log.batch_with_max_timestamp(behind)?;
    let in_others = batch.and_then(|batch| record_in(&batch, behind, larger));
    Ok(match (in_first, in_others) {
        (Some(Ok(first)), Some(Ok(other))) if first.timestamp >= other.timestamp => Some(Ok(first)),
        (first, None) => first,
        (_, others) => others,
    })
}

/// The first record whose timestamp is at least `timestamp`.
pub(super) fn first_at(
    log: &Log,
    timestamp: i64,
) -> std::io::Result<Option<Result<TimestampedOffset, ErrorCode>>> {
    let mut from = log.start_offset();
    // Of the first batch, the records that reach the time may lie before the log's start.
    while let Some(batch) = log.batch_at_timestamp(timestamp, from)? {
        let reaches = |best, found| best < timestamp && found >= timestamp;
        if let Some(found) = record_in(&batch, from, reaches) {
            return Ok(Some(found));
        }
        from = BatchHeader::parse(&batch).map_or(i64::MAX, |header| header.next_offset());
    }
    Ok(None)
}

/// The last record of the batch from the offset `from` on that is better than those before it; the search begins at
/// timestamp -1.
fn record_in(
    batch: &bytes::Bytes,
    from: i64,
    better: impl Fn(i64, i64) -> bool,
) -> Option<Result<TimestampedOffset, ErrorCode>> {
    let corrupt = Some(Err(ErrorCode::CORRUPT_MESSAGE));
    let Some(Ok(batch)) = Batches::new(batch.clone()).next() else {
        return corrupt;
    };
    let Ok(decoded) = batch.decode(&mut Decompressor::new(), DECOMPRESSED_MAX) else {
        return corrupt;
    };
    let leader_epoch = batch.header().partition_leader_epoch();
    let mut found: Option<TimestampedOffset> = None;
    for record in decoded.records() {
        let Ok(record) = record else { return corrupt };
        if record.offset() >= from
            && better(found.map_or(-1, |best| best.timestamp), record.timestamp())
        {
            let (timestamp, offset) = (record.timestamp(), record.offset());
            found = Some(TimestampedOffset {
                timestamp,
                offset,
                leader_epoch,
            });
        }
    }
    found.map(Ok)
}

fn failed(partition_index: i32, error_code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index,
        error_code,
        ..Default::default()
    }
}

const NOT_FOUND: TimestampedOffset = TimestampedOffset {
    timestamp: -1,
    offset: -1,
    leader_epoch: -1,
};

/// `isolation.level=read_committed`
const READ_COMMITTED: i8 = 1;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;
