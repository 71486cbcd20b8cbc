//! Produce, API 0: appends record batches to partitions.

use ottla_wire_derive::{Message, Struct};

use crate::{Bytes, ErrorCode, Str, TaggedFields, Uuid};

/// Versions 3-13, flexible from 9.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 0, versions = "3-13", flexible = "9+")]
pub struct ProduceRequest {
    pub transactional_id: Option<Str>,
    pub acks: i16,
    pub timeout_ms: i32,
    pub topic_data: Vec<TopicProduceData>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ProduceRequest::topic_data`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicProduceData {
    #[kafka("0-12", ignorable)]
    pub name: Str,
    #[kafka("13+", ignorable)]
    pub topic_id: Uuid,
    pub partition_data: Vec<PartitionProduceData>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`TopicProduceData::partition_data`].
#[derive(Clone, PartialEq, Struct)]
pub struct PartitionProduceData {
    pub index: i32,
    #[kafka(default = [])]
    pub records: Option<Bytes>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 3-13, flexible from 9.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "3-13", flexible = "9+")]
pub struct ProduceResponse {
    pub responses: Vec<TopicProduceResponse>,
    pub throttle_time_ms: i32,
    #[kafka("10+", tag = 0)]
    pub node_endpoints: Vec<NodeEndpoint>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ProduceResponse::responses`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicProduceResponse {
    #[kafka("0-12", ignorable)]
    pub name: Str,
    #[kafka("13+", ignorable)]
    pub topic_id: Uuid,
    pub partition_responses: Vec<PartitionProduceResponse>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`TopicProduceResponse::partition_responses`].
#[derive(Clone, PartialEq, Struct)]
pub struct PartitionProduceResponse {
    pub index: i32,
    pub error_code: ErrorCode,
    pub base_offset: i64,
    #[kafka(default = -1)]
    pub log_append_time_ms: i64,
    #[kafka("5+", default = -1, ignorable)]
    pub log_start_offset: i64,
    #[kafka("8+", ignorable)]
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    #[kafka("8+", ignorable)]
    pub error_message: Option<Str>,
    #[kafka("10+", tag = 0)]
    pub current_leader: LeaderIdAndEpoch,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`PartitionProduceResponse::record_errors`].
#[derive(Clone, PartialEq, Struct)]
pub struct BatchIndexAndErrorMessage {
    pub batch_index: i32,
    pub batch_index_error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`PartitionProduceResponse::current_leader`].
#[derive(Clone, PartialEq, Struct)]
pub struct LeaderIdAndEpoch {
    #[kafka(default = -1)]
    pub leader_id: i32,
    #[kafka(default = -1)]
    pub leader_epoch: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ProduceResponse::node_endpoints`].
#[derive(Clone, PartialEq, Struct)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: Str,
    pub port: i32,
    pub rack: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
