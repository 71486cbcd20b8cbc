//! ShareGroupHeartbeat, API 76: joins, keeps alive and leaves a share group.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Version 1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 76, versions = "1", flexible = "0+")]
pub struct ShareGroupHeartbeatRequest {
    pub group_id: Str,
    pub member_id: Str,
    pub member_epoch: i32,
    pub rack_id: Option<Str>,
    pub subscribed_topic_names: Option<Vec<Str>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1", flexible = "0+")]
pub struct ShareGroupHeartbeatResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub member_id: Option<Str>,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    pub assignment: Option<Assignment>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ShareGroupHeartbeatResponse::assignment`].
#[derive(Clone, PartialEq, Struct)]
pub struct Assignment {
    pub topic_partitions: Vec<TopicPartitions>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`Assignment::topic_partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicPartitions {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}
