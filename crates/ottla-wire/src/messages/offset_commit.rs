//! OffsetCommit, API 8: stores a group's positions.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Versions 2-10, flexible from 8.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 8, versions = "2-10", flexible = "8+")]
pub struct OffsetCommitRequest {
    pub group_id: Str,
    #[kafka(default = -1)]
    pub generation_id_or_member_epoch: i32,
    pub member_id: Str,
    #[kafka("7+")]
    pub group_instance_id: Option<Str>,
    #[kafka("0-4", default = -1, ignorable)]
    pub retention_time_ms: i64,
    pub topics: Vec<OffsetCommitRequestTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetCommitRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetCommitRequestTopic {
    #[kafka("0-9", ignorable)]
    pub name: Str,
    #[kafka("10+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<OffsetCommitRequestPartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetCommitRequestTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetCommitRequestPartition {
    pub partition_index: i32,
    pub committed_offset: i64,
    #[kafka("6+", default = -1, ignorable)]
    pub committed_leader_epoch: i32,
    #[kafka(default = "")]
    pub committed_metadata: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 2-10, flexible from 8.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "2-10", flexible = "8+")]
pub struct OffsetCommitResponse {
    #[kafka("3+", ignorable)]
    pub throttle_time_ms: i32,
    pub topics: Vec<OffsetCommitResponseTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetCommitResponse::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetCommitResponseTopic {
    #[kafka("0-9", ignorable)]
    pub name: Str,
    #[kafka("10+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<OffsetCommitResponsePartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OffsetCommitResponseTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct OffsetCommitResponsePartition {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}
