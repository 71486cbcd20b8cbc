//! DescribeQuorum, API 55: describes the controllers' quorum.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Versions 0-2, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 55, versions = "0-2", flexible = "0+")]
pub struct DescribeQuorumRequest {
    pub topics: Vec<DescribeQuorumRequestTopicData>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeQuorumRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeQuorumRequestTopicData {
    pub topic_name: Str,
    pub partitions: Vec<DescribeQuorumRequestPartitionData>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeQuorumRequestTopicData::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeQuorumRequestPartitionData {
    pub partition_index: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-2, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-2", flexible = "0+")]
pub struct DescribeQuorumResponse {
    pub error_code: ErrorCode,
    #[kafka("2+", default = "", ignorable)]
    pub error_message: Option<Str>,
    pub topics: Vec<DescribeQuorumResponseTopicData>,
    #[kafka("2+")]
    pub nodes: Vec<Node>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeQuorumResponse::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeQuorumResponseTopicData {
    pub topic_name: Str,
    pub partitions: Vec<DescribeQuorumResponsePartitionData>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeQuorumResponseTopicData::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeQuorumResponsePartitionData {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    #[kafka("2+", default = "", ignorable)]
    pub error_message: Option<Str>,
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub high_watermark: i64,
    pub current_voters: Vec<ReplicaState>,
    pub observers: Vec<ReplicaState>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeQuorumResponsePartitionData::current_voters`].
#[derive(Clone, PartialEq, Struct)]
pub struct ReplicaState {
    pub replica_id: i32,
    #[kafka("2+")]
    pub replica_directory_id: Uuid,
    pub log_end_offset: i64,
    #[kafka("1+", default = -1, ignorable)]
    pub last_fetch_timestamp: i64,
    #[kafka("1+", default = -1, ignorable)]
    pub last_caught_up_timestamp: i64,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeQuorumResponse::nodes`].
#[derive(Clone, PartialEq, Struct)]
pub struct Node {
    pub node_id: i32,
    pub listeners: Vec<Listener>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`Node::listeners`].
#[derive(Clone, PartialEq, Struct)]
pub struct Listener {
    pub name: Str,
    pub host: Str,
    pub port: u16,
    pub unknown_tagged_fields: TaggedFields,
}
