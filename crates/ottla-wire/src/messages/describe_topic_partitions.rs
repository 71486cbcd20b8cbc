//! DescribeTopicPartitions, API 75: describes topics, page by page.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 75, versions = "0", flexible = "0+")]
pub struct DescribeTopicPartitionsRequest {
    pub topics: Vec<TopicRequest>,
    #[kafka(default = 2000)]
    pub response_partition_limit: i32,
    pub cursor: Option<Cursor>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeTopicPartitionsRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicRequest {
    pub name: Str,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeTopicPartitionsRequest::cursor`].
#[derive(Clone, PartialEq, Struct)]
pub struct Cursor {
    pub topic_name: Str,
    pub partition_index: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0", flexible = "0+")]
pub struct DescribeTopicPartitionsResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<DescribeTopicPartitionsResponseTopic>,
    pub next_cursor: Option<Cursor>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeTopicPartitionsResponse::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeTopicPartitionsResponseTopic {
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub name: Option<Str>,
    pub topic_id: Uuid,
    pub is_internal: bool,
    pub partitions: Vec<DescribeTopicPartitionsResponsePartition>,
    #[kafka(default = i32::MIN)]
    pub topic_authorized_operations: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeTopicPartitionsResponseTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeTopicPartitionsResponsePartition {
    pub error_code: ErrorCode,
    pub partition_index: i32,
    pub leader_id: i32,
    #[kafka(default = -1)]
    pub leader_epoch: i32,
    pub replica_nodes: Vec<i32>,
    pub isr_nodes: Vec<i32>,
    pub eligible_leader_replicas: Option<Vec<i32>>,
    pub last_known_elr: Option<Vec<i32>>,
    pub offline_replicas: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}
