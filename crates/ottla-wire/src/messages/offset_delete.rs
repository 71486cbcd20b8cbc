//! OffsetDelete, API 47: deletes positions a group has stored.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Version 0, never flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 47, versions = "0")]
pub struct OffsetDeleteRequest {
    pub group_id: Str,
    pub topics: Vec<OffsetDeleteRequestTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetDeleteRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetDeleteRequestTopic {
    pub name: Str,
    pub partitions: Vec<OffsetDeleteRequestPartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetDeleteRequestTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetDeleteRequestPartition {
    pub partition_index: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, never flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0")]
pub struct OffsetDeleteResponse {
    pub error_code: ErrorCode,
    pub throttle_time_ms: i32,
    pub topics: Vec<OffsetDeleteResponseTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetDeleteResponse::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetDeleteResponseTopic {
    pub name: Str,
    pub partitions: Vec<OffsetDeleteResponsePartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetDeleteResponseTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetDeleteResponsePartition {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}
