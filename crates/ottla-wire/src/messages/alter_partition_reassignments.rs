//! AlterPartitionReassignments, API 45: begins or cancels moving replicas to other brokers.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 45, versions = "0-1", flexible = "0+")]
pub struct AlterPartitionReassignmentsRequest {
    #[kafka(default = 60000)]
    pub timeout_ms: i32,
    #[kafka("1+", default = true)]
    pub allow_replication_factor_change: bool,
    pub topics: Vec<ReassignableTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterPartitionReassignmentsRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct ReassignableTopic {
    pub name: Str,
    pub partitions: Vec<ReassignablePartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ReassignableTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct ReassignablePartition {
    pub partition_index: i32,
    pub replicas: Option<Vec<i32>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-1", flexible = "0+")]
pub struct AlterPartitionReassignmentsResponse {
    pub throttle_time_ms: i32,
    #[kafka("1+", default = true, ignorable)]
    pub allow_replication_factor_change: bool,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub responses: Vec<ReassignableTopicResponse>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterPartitionReassignmentsResponse::responses`].
#[derive(Clone, PartialEq, Struct)]
pub struct ReassignableTopicResponse {
    pub name: Str,
    pub partitions: Vec<ReassignablePartitionResponse>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ReassignableTopicResponse::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct ReassignablePartitionResponse {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
