//! Heartbeat, API 12: keeps a member of a classic group alive.

use ottla_wire_derive::Message;

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-4, flexible from 4.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 12, versions = "0-4", flexible = "4+")]
pub struct HeartbeatRequest {
    pub group_id: Str,
    pub generation_id: i32,
    pub member_id: Str,
    #[kafka("3+")]
    pub group_instance_id: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-4, flexible from 4.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-4", flexible = "4+")]
pub struct HeartbeatResponse {
    #[kafka("1+", ignorable)]
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}
