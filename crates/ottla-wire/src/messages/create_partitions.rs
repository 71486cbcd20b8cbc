//! CreatePartitions, API 37: adds partitions to topics.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-3, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 37, versions = "0-3", flexible = "2+")]
pub struct CreatePartitionsRequest {
    pub topics: Vec<CreatePartitionsTopic>,
    pub timeout_ms: i32,
    pub validate_only: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`CreatePartitionsRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct CreatePartitionsTopic {
    pub name: Str,
    pub count: i32,
    #[kafka(default = [])]
    pub assignments: Option<Vec<CreatePartitionsAssignment>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`CreatePartitionsTopic::assignments`].
#[derive(Clone, PartialEq, Struct)]
pub struct CreatePartitionsAssignment {
    pub broker_ids: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-3, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-3", flexible = "2+")]
pub struct CreatePartitionsResponse {
    pub throttle_time_ms: i32,
    pub results: Vec<CreatePartitionsTopicResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`CreatePartitionsResponse::results`].
#[derive(Clone, PartialEq, Struct)]
pub struct CreatePartitionsTopicResult {
    pub name: Str,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
