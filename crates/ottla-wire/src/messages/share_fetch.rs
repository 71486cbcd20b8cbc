//! ShareFetch, API 78: acquires records for a member of a share group.

use ottla_wire_derive::{Message, Struct};

use crate::{Bytes, ErrorCode, Str, TaggedFields, Uuid};

/// Versions 1-2, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 78, versions = "1-2", flexible = "0+")]
pub struct ShareFetchRequest {
    pub group_id: Option<Str>,
    #[kafka(default = "")]
    pub member_id: Option<Str>,
    pub share_session_epoch: i32,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    #[kafka(default = i32::MAX)]
    pub max_bytes: i32,
    pub max_records: i32,
    pub batch_size: i32,
    #[kafka("2+", ignorable)]
    pub share_acquire_mode: i8,
    #[kafka("2+")]
    pub is_renew_ack: bool,
    pub topics: Vec<FetchTopic>,
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ShareFetchRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct FetchTopic {
    pub topic_id: Uuid,
    pub partitions: Vec<FetchPartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`FetchTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct FetchPartition {
    pub partition_index: i32,
    pub acknowledgement_batches: Vec<AcknowledgementBatch>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`FetchPartition::acknowledgement_batches`].
#[derive(Clone, PartialEq, Struct)]
pub struct AcknowledgementBatch {
    pub first_offset: i64,
    pub last_offset: i64,
    pub acknowledge_types: Vec<i8>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ShareFetchRequest::forgotten_topics_data`].
#[derive(Clone, PartialEq, Struct)]
pub struct ForgottenTopic {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-2, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-2", flexible = "0+")]
pub struct ShareFetchResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub acquisition_lock_timeout_ms: i32,
    pub responses: Vec<ShareFetchableTopicResponse>,
    pub node_endpoints: Vec<NodeEndpoint>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ShareFetchResponse::responses`].
#[derive(Clone, PartialEq, Struct)]
pub struct ShareFetchableTopicResponse {
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionData>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ShareFetchableTopicResponse::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct PartitionData {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub acknowledge_error_code: ErrorCode,
    pub acknowledge_error_message: Option<Str>,
    pub current_leader: LeaderIdAndEpoch,
    pub records: Bytes,
    pub acquired_records: Vec<AcquiredRecords>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`PartitionData::current_leader`].
#[derive(Clone, PartialEq, Struct)]
pub struct LeaderIdAndEpoch {
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`PartitionData::acquired_records`].
#[derive(Clone, PartialEq, Struct)]
pub struct AcquiredRecords {
    pub first_offset: i64,
    pub last_offset: i64,
    pub delivery_count: i16,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ShareFetchResponse::node_endpoints`].
#[derive(Clone, PartialEq, Struct)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: Str,
    pub port: i32,
    pub rack: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
