//! DeleteRecords, API 21: deletes the records before an offset.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 21, versions = "0-2", flexible = "2+")]
pub struct DeleteRecordsRequest {
    pub topics: Vec<DeleteRecordsTopic>,
    pub timeout_ms: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DeleteRecordsRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct DeleteRecordsTopic {
    pub name: Str,
    pub partitions: Vec<DeleteRecordsPartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DeleteRecordsTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct DeleteRecordsPartition {
    pub partition_index: i32,
    pub offset: i64,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-2", flexible = "2+")]
pub struct DeleteRecordsResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<DeleteRecordsTopicResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DeleteRecordsResponse::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct DeleteRecordsTopicResult {
    pub name: Str,
    pub partitions: Vec<DeleteRecordsPartitionResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DeleteRecordsTopicResult::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct DeleteRecordsPartitionResult {
    pub partition_index: i32,
    pub low_watermark: i64,
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}
