//! DescribeProducers, API 61: lists the producers active on partitions.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 61, versions = "0", flexible = "0+")]
pub struct DescribeProducersRequest {
    pub topics: Vec<TopicRequest>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeProducersRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicRequest {
    pub name: Str,
    pub partition_indexes: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0", flexible = "0+")]
pub struct DescribeProducersResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<TopicResponse>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeProducersResponse::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicResponse {
    pub name: Str,
    pub partitions: Vec<PartitionResponse>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`TopicResponse::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct PartitionResponse {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub active_producers: Vec<ProducerState>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`PartitionResponse::active_producers`].
#[derive(Clone, PartialEq, Struct)]
pub struct ProducerState {
    pub producer_id: i64,
    pub producer_epoch: i32,
    #[kafka(default = -1)]
    pub last_sequence: i32,
    #[kafka(default = -1)]
    pub last_timestamp: i64,
    pub coordinator_epoch: i32,
    #[kafka(default = -1)]
    pub current_txn_start_offset: i64,
    pub unknown_tagged_fields: TaggedFields,
}
