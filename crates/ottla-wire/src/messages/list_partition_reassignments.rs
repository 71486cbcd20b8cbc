//! ListPartitionReassignments, API 46: lists the replicas being moved.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 46, versions = "0", flexible = "0+")]
pub struct ListPartitionReassignmentsRequest {
    #[kafka(default = 60000)]
    pub timeout_ms: i32,
    pub topics: Option<Vec<ListPartitionReassignmentsTopics>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ListPartitionReassignmentsRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct ListPartitionReassignmentsTopics {
    pub name: Str,
    pub partition_indexes: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0", flexible = "0+")]
pub struct ListPartitionReassignmentsResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub topics: Vec<OngoingTopicReassignment>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ListPartitionReassignmentsResponse::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct OngoingTopicReassignment {
    pub name: Str,
    pub partitions: Vec<OngoingPartitionReassignment>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`OngoingTopicReassignment::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct OngoingPartitionReassignment {
    pub partition_index: i32,
    pub replicas: Vec<i32>,
    pub adding_replicas: Vec<i32>,
    pub removing_replicas: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}
