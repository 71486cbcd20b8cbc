//! Fetch, API 1: reads record batches from partitions.

use ottla_wire_derive::{Message, Struct};

use crate::{Bytes, ErrorCode, Str, TaggedFields, Uuid};

/// Versions 4-18, flexible from 12.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 1, versions = "4-18", flexible = "12+")]
pub struct FetchRequest {
    #[kafka("12+", tag = 0, ignorable)]
    pub cluster_id: Option<Str>,
    #[kafka("0-14", default = -1)]
    pub replica_id: i32,
    #[kafka("15+", tag = 1)]
    pub replica_state: ReplicaState,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    #[kafka(default = i32::MAX)]
    pub max_bytes: i32,
    pub isolation_level: i8,
    #[kafka("7+", ignorable)]
    pub session_id: i32,
    #[kafka("7+", default = -1, ignorable)]
    pub session_epoch: i32,
    pub topics: Vec<FetchTopic>,
    #[kafka("7+")]
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    #[kafka("11+", ignorable)]
    pub rack_id: Str,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`FetchRequest::replica_state`].
#[derive(Clone, PartialEq, Struct)]
pub struct ReplicaState {
    #[kafka(default = -1)]
    pub replica_id: i32,
    #[kafka(default = -1)]
    pub replica_epoch: i64,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`FetchRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct FetchTopic {
    #[kafka("0-12", ignorable)]
    pub topic: Str,
    #[kafka("13+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<FetchPartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`FetchTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct FetchPartition {
    pub partition: i32,
    #[kafka("9+", default = -1, ignorable)]
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    #[kafka("12+", default = -1)]
    pub last_fetched_epoch: i32,
    #[kafka("5+", default = -1, ignorable)]
    pub log_start_offset: i64,
    pub partition_max_bytes: i32,
    #[kafka("17+", tag = 0, ignorable)]
    pub replica_directory_id: Uuid,
    #[kafka("18+", tag = 1, default = i64::MAX, ignorable)]
    pub high_watermark: i64,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`FetchRequest::forgotten_topics_data`].
#[derive(Clone, PartialEq, Struct)]
pub struct ForgottenTopic {
    #[kafka("0-12", ignorable)]
    pub topic: Str,
    #[kafka("13+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 4-18, flexible from 12.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "4-18", flexible = "12+")]
pub struct FetchResponse {
    pub throttle_time_ms: i32,
    #[kafka("7+", ignorable)]
    pub error_code: ErrorCode,
    #[kafka("7+")]
    pub session_id: i32,
    pub responses: Vec<FetchableTopicResponse>,
    #[kafka("16+", tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`FetchResponse::responses`].
#[derive(Clone, PartialEq, Struct)]
pub struct FetchableTopicResponse {
    #[kafka("0-12", ignorable)]
    pub topic: Str,
    #[kafka("13+", ignorable)]
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionData>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`FetchableTopicResponse::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct PartitionData {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    pub high_watermark: i64,
    #[kafka(default = -1)]
    pub last_stable_offset: i64,
    #[kafka("5+", default = -1, ignorable)]
    pub log_start_offset: i64,
    #[kafka("12+", tag = 0)]
    pub diverging_epoch: EpochEndOffset,
    #[kafka("12+", tag = 1)]
    pub current_leader: LeaderIdAndEpoch,
    #[kafka("12+", tag = 2)]
    pub snapshot_id: SnapshotId,
    #[kafka(default = [])]
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    #[kafka("11+", default = -1)]
    pub preferred_read_replica: i32,
    #[kafka(default = [])]
    pub records: Option<Bytes>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`PartitionData::diverging_epoch`].
#[derive(Clone, PartialEq, Struct)]
pub struct EpochEndOffset {
    #[kafka(default = -1)]
    pub epoch: i32,
    #[kafka(default = -1)]
    pub end_offset: i64,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`PartitionData::current_leader`].
#[derive(Clone, PartialEq, Struct)]
pub struct LeaderIdAndEpoch {
    #[kafka(default = -1)]
    pub leader_id: i32,
    #[kafka(default = -1)]
    pub leader_epoch: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`PartitionData::snapshot_id`].
#[derive(Clone, PartialEq, Struct)]
pub struct SnapshotId {
    #[kafka(default = -1)]
    pub end_offset: i64,
    #[kafka(default = -1)]
    pub epoch: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`PartitionData::aborted_transactions`].
#[derive(Clone, PartialEq, Struct)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`FetchResponse::node_endpoints`].
#[derive(Clone, PartialEq, Struct)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: Str,
    pub port: i32,
    pub rack: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
