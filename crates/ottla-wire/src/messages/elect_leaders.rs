//! ElectLeaders, API 43: elects leaders of partitions.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 43, versions = "0-2", flexible = "2+")]
pub struct ElectLeadersRequest {
    #[kafka("1+")]
    pub election_type: i8,
    #[kafka(default = [])]
    pub topic_partitions: Option<Vec<TopicPartitions>>,
    #[kafka(default = 60000)]
    pub timeout_ms: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ElectLeadersRequest::topic_partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicPartitions {
    pub topic: Str,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-2", flexible = "2+")]
pub struct ElectLeadersResponse {
    pub throttle_time_ms: i32,
    #[kafka("1+")]
    pub error_code: ErrorCode,
    pub replica_election_results: Vec<ReplicaElectionResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ElectLeadersResponse::replica_election_results`].
#[derive(Clone, PartialEq, Struct)]
pub struct ReplicaElectionResult {
    pub topic: Str,
    pub partition_result: Vec<PartitionResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ReplicaElectionResult::partition_result`].
#[derive(Clone, PartialEq, Struct)]
pub struct PartitionResult {
    pub partition_id: i32,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
