//! OffsetFetch, API 9: reads the positions a group has stored.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Versions 1-10, flexible from 6.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 9, versions = "1-10", flexible = "6+")]
pub struct OffsetFetchRequest {
    #[kafka("0-7")]
    pub group_id: Str,
    #[kafka("0-7", nullable = "2+", default = [])]
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    #[kafka("8+")]
    pub groups: Vec<OffsetFetchRequestGroup>,
    #[kafka("7+")]
    pub require_stable: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetFetchRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetFetchRequestTopic {
    pub name: Str,
    pub partition_indexes: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetFetchRequest::groups`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetFetchRequestGroup {
    pub group_id: Str,
    #[kafka("9+", ignorable)]
    pub member_id: Option<Str>,
    #[kafka("9+", default = -1, ignorable)]
    pub member_epoch: i32,
    #[kafka(default = [])]
    pub topics: Option<Vec<OffsetFetchRequestTopics>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetFetchRequestGroup::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetFetchRequestTopics {
    #[kafka("0-9", ignorable)]
    pub name: Str,
    #[kafka("10+", ignorable)]
    pub topic_id: Uuid,
    pub partition_indexes: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-10, flexible from 6.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-10", flexible = "6+")]
pub struct OffsetFetchResponse {
    #[kafka("3+", ignorable)]
    pub throttle_time_ms: i32,
    #[kafka("0-7")]
    pub topics: Vec<OffsetFetchResponseTopic>,
    #[kafka("2-7", ignorable)]
    pub error_code: ErrorCode,
    #[kafka("8+")]
    pub groups: Vec<OffsetFetchResponseGroup>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetFetchResponse::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetFetchResponseTopic {
    pub name: Str,
    pub partitions: Vec<OffsetFetchResponsePartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetFetchResponseTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetFetchResponsePartition {
    pub partition_index: i32,
    pub committed_offset: i64,
    #[kafka("5+", default = -1, ignorable)]
    pub committed_leader_epoch: i32,
    #[kafka(default = "")]
    pub metadata: Option<Str>,
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetFetchResponse::groups`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetFetchResponseGroup {
    pub group_id: Str,
    pub topics: Vec<OffsetFetchResponseTopics>,
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetFetchResponseGroup::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetFetchResponseTopics {
    #[kafka("0-9", ignorable)]
    pub name: Str,
    #[kafka("10+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<OffsetFetchResponsePartitions>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetFetchResponseTopics::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetFetchResponsePartitions {
    pub partition_index: i32,
    pub committed_offset: i64,
    #[kafka(default = -1)]
    pub committed_leader_epoch: i32,
    #[kafka(default = "")]
    pub metadata: Option<Str>,
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}
