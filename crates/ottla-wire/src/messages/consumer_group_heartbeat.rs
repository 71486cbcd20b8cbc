//! ConsumerGroupHeartbeat, API 68: joins, keeps alive and leaves a consumer group of the new protocol.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Versions 0-1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 68, versions = "0-1", flexible = "0+")]
pub struct ConsumerGroupHeartbeatRequest {
    pub group_id: Str,
    pub member_id: Str,
    pub member_epoch: i32,
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    #[kafka(default = -1)]
    pub rebalance_timeout_ms: i32,
    pub subscribed_topic_names: Option<Vec<Str>>,
    #[kafka("1+")]
    pub subscribed_topic_regex: Option<Str>,
    pub server_assignor: Option<Str>,
    pub topic_partitions: Option<Vec<TopicPartitions>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ConsumerGroupHeartbeatRequest::topic_partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicPartitions {
    pub topic_id: Uuid,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-1", flexible = "0+")]
pub struct ConsumerGroupHeartbeatResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub member_id: Option<Str>,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    pub assignment: Option<Assignment>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ConsumerGroupHeartbeatResponse::assignment`].
#[derive(Clone, PartialEq, Struct)]
pub struct Assignment {
    pub topic_partitions: Vec<TopicPartitions>,
    pub unknown_tagged_fields: TaggedFields,
}
