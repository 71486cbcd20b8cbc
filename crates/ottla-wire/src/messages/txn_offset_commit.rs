//! TxnOffsetCommit, API 28: stores a group's positions as part of a transaction.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-5, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 28, versions = "0-5", flexible = "3+")]
pub struct TxnOffsetCommitRequest {
    pub transactional_id: Str,
    pub group_id: Str,
    pub producer_id: i64,
    pub producer_epoch: i16,
    #[kafka("3+", default = -1)]
    pub generation_id: i32,
    #[kafka("3+")]
    pub member_id: Str,
    #[kafka("3+")]
    pub group_instance_id: Option<Str>,
    pub topics: Vec<TxnOffsetCommitRequestTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`TxnOffsetCommitRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct TxnOffsetCommitRequestTopic {
    pub name: Str,
    pub partitions: Vec<TxnOffsetCommitRequestPartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`TxnOffsetCommitRequestTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct TxnOffsetCommitRequestPartition {
    pub partition_index: i32,
    pub committed_offset: i64,
    #[kafka("2+", default = -1, ignorable)]
    pub committed_leader_epoch: i32,
    #[kafka(default = "")]
    pub committed_metadata: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-5, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = "3+")]
pub struct TxnOffsetCommitResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<TxnOffsetCommitResponseTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`TxnOffsetCommitResponse::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct TxnOffsetCommitResponseTopic {
    pub name: Str,
    pub partitions: Vec<TxnOffsetCommitResponsePartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`TxnOffsetCommitResponseTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct TxnOffsetCommitResponsePartition {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}
