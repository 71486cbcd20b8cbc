//! AlterShareGroupOffsets, API 91: changes where a share group begins.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 91, versions = "0", flexible = "0+")]
pub struct AlterShareGroupOffsetsRequest {
    pub group_id: Str,
    pub topics: Vec<AlterShareGroupOffsetsRequestTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterShareGroupOffsetsRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterShareGroupOffsetsRequestTopic {
    pub topic_name: Str,
    pub partitions: Vec<AlterShareGroupOffsetsRequestPartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterShareGroupOffsetsRequestTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterShareGroupOffsetsRequestPartition {
    pub partition_index: i32,
    pub start_offset: i64,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0", flexible = "0+")]
pub struct AlterShareGroupOffsetsResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub responses: Vec<AlterShareGroupOffsetsResponseTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterShareGroupOffsetsResponse::responses`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterShareGroupOffsetsResponseTopic {
    pub topic_name: Str,
    pub topic_id: Uuid,
    pub partitions: Vec<AlterShareGroupOffsetsResponsePartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterShareGroupOffsetsResponseTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterShareGroupOffsetsResponsePartition {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
