//! ListOffsets, API 2: finds offsets by timestamp, or the first and last of a partition.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 1-11, flexible from 6.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 2, versions = "1-11", flexible = "6+")]
pub struct ListOffsetsRequest {
    pub replica_id: i32,
    #[kafka("2+")]
    pub isolation_level: i8,
    pub topics: Vec<ListOffsetsTopic>,
    #[kafka("10+", ignorable)]
    pub timeout_ms: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ListOffsetsRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct ListOffsetsTopic {
    pub name: Str,
    pub partitions: Vec<ListOffsetsPartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ListOffsetsTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct ListOffsetsPartition {
    pub partition_index: i32,
    #[kafka("4+", default = -1, ignorable)]
    pub current_leader_epoch: i32,
    pub timestamp: i64,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-11, flexible from 6.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-11", flexible = "6+")]
pub struct ListOffsetsResponse {
    #[kafka("2+", ignorable)]
    pub throttle_time_ms: i32,
    pub topics: Vec<ListOffsetsTopicResponse>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ListOffsetsResponse::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct ListOffsetsTopicResponse {
    pub name: Str,
    pub partitions: Vec<ListOffsetsPartitionResponse>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ListOffsetsTopicResponse::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct ListOffsetsPartitionResponse {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    #[kafka(default = -1)]
    pub timestamp: i64,
    #[kafka(default = -1)]
    pub offset: i64,
    #[kafka("4+", default = -1)]
    pub leader_epoch: i32,
    pub unknown_tagged_fields: TaggedFields,
}
