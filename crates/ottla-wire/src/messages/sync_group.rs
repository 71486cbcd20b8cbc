//! SyncGroup, API 14: hands out the leader's assignment in a classic group.

use ottla_wire_derive::{Message, Struct};

use crate::{Bytes, ErrorCode, Str, TaggedFields};

/// Versions 0-5, flexible from 4.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 14, versions = "0-5", flexible = "4+")]
pub struct SyncGroupRequest {
    pub group_id: Str,
    pub generation_id: i32,
    pub member_id: Str,
    #[kafka("3+")]
    pub group_instance_id: Option<Str>,
    #[kafka("5+", ignorable)]
    pub protocol_type: Option<Str>,
    #[kafka("5+", ignorable)]
    pub protocol_name: Option<Str>,
    pub assignments: Vec<SyncGroupRequestAssignment>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`SyncGroupRequest::assignments`].
#[derive(Clone, PartialEq, Struct)]
pub struct SyncGroupRequestAssignment {
    pub member_id: Str,
    pub assignment: Bytes,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-5, flexible from 4.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = "4+")]
pub struct SyncGroupResponse {
    #[kafka("1+", ignorable)]
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka("5+", ignorable)]
    pub protocol_type: Option<Str>,
    #[kafka("5+", ignorable)]
    pub protocol_name: Option<Str>,
    pub assignment: Bytes,
    pub unknown_tagged_fields: TaggedFields,
}
