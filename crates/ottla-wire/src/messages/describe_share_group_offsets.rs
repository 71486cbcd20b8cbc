//! DescribeShareGroupOffsets, API 90: reads where share groups begin.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Versions 0-1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 90, versions = "0-1", flexible = "0+")]
pub struct DescribeShareGroupOffsetsRequest {
    pub groups: Vec<DescribeShareGroupOffsetsRequestGroup>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeShareGroupOffsetsRequest::groups`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeShareGroupOffsetsRequestGroup {
    pub group_id: Str,
    #[kafka(default = [])]
    pub topics: Option<Vec<DescribeShareGroupOffsetsRequestTopic>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeShareGroupOffsetsRequestGroup::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeShareGroupOffsetsRequestTopic {
    pub topic_name: Str,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-1", flexible = "0+")]
pub struct DescribeShareGroupOffsetsResponse {
    pub throttle_time_ms: i32,
    pub groups: Vec<DescribeShareGroupOffsetsResponseGroup>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeShareGroupOffsetsResponse::groups`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeShareGroupOffsetsResponseGroup {
    pub group_id: Str,
    pub topics: Vec<DescribeShareGroupOffsetsResponseTopic>,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeShareGroupOffsetsResponseGroup::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeShareGroupOffsetsResponseTopic {
    pub topic_name: Str,
    pub topic_id: Uuid,
    pub partitions: Vec<DescribeShareGroupOffsetsResponsePartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeShareGroupOffsetsResponseTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeShareGroupOffsetsResponsePartition {
    pub partition_index: i32,
    pub start_offset: i64,
    pub leader_epoch: i32,
    #[kafka("1+", default = -1, ignorable)]
    pub lag: i64,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
