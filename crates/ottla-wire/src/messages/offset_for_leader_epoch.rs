//! OffsetForLeaderEpoch, API 23: tells where a leader epoch ends, to find out about truncation.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 2-4, flexible from 4.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 23, versions = "2-4", flexible = "4+")]
pub struct OffsetForLeaderEpochRequest {
    #[kafka("3+", default = -2, ignorable)]
    pub replica_id: i32,
    pub topics: Vec<OffsetForLeaderTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetForLeaderEpochRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetForLeaderTopic {
    pub topic: Str,
    pub partitions: Vec<OffsetForLeaderPartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetForLeaderTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetForLeaderPartition {
    pub partition: i32,
    #[kafka(default = -1)]
    pub current_leader_epoch: i32,
    pub leader_epoch: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 2-4, flexible from 4.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "2-4", flexible = "4+")]
pub struct OffsetForLeaderEpochResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<OffsetForLeaderTopicResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetForLeaderEpochResponse::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetForLeaderTopicResult {
    pub topic: Str,
    pub partitions: Vec<EpochEndOffset>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetForLeaderTopicResult::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct EpochEndOffset {
    pub error_code: ErrorCode,
    pub partition: i32,
    #[kafka(default = -1)]
    pub leader_epoch: i32,
    #[kafka(default = -1)]
    pub end_offset: i64,
    pub unknown_tagged_fields: TaggedFields,
}
