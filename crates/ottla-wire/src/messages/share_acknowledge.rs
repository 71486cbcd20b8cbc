//! ShareAcknowledge, API 79: acknowledges records of a share group.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Versions 1-2, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 79, versions = "1-2", flexible = "0+")]
pub struct ShareAcknowledgeRequest {
    pub group_id: Option<Str>,
    #[kafka(default = "")]
    pub member_id: Option<Str>,
    pub share_session_epoch: i32,
    #[kafka("2+")]
    pub is_renew_ack: bool,
    pub topics: Vec<AcknowledgeTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ShareAcknowledgeRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct AcknowledgeTopic {
    pub topic_id: Uuid,
    pub partitions: Vec<AcknowledgePartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AcknowledgeTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct AcknowledgePartition {
    pub partition_index: i32,
    pub acknowledgement_batches: Vec<AcknowledgementBatch>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AcknowledgePartition::acknowledgement_batches`].
#[derive(Clone, PartialEq, Struct)]
pub struct AcknowledgementBatch {
    pub first_offset: i64,
    pub last_offset: i64,
    pub acknowledge_types: Vec<i8>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-2, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-2", flexible = "0+")]
pub struct ShareAcknowledgeResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    #[kafka("2+", ignorable)]
    pub acquisition_lock_timeout_ms: i32,
    pub responses: Vec<ShareAcknowledgeTopicResponse>,
    pub node_endpoints: Vec<NodeEndpoint>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ShareAcknowledgeResponse::responses`].
#[derive(Clone, PartialEq, Struct)]
pub struct ShareAcknowledgeTopicResponse {
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionData>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ShareAcknowledgeTopicResponse::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct PartitionData {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub current_leader: LeaderIdAndEpoch,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`PartitionData::current_leader`].
#[derive(Clone, PartialEq, Struct)]
pub struct LeaderIdAndEpoch {
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ShareAcknowledgeResponse::node_endpoints`].
#[derive(Clone, PartialEq, Struct)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: Str,
    pub port: i32,
    pub rack: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
