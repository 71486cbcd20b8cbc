//! JoinGroup, API 11: joins a classic group and begins a rebalance.

use ottla_wire_derive::{Message, Struct};

use crate::{Bytes, ErrorCode, Str, TaggedFields};

/// Versions 0-9, flexible from 6.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 11, versions = "0-9", flexible = "6+")]
pub struct JoinGroupRequest {
    pub group_id: Str,
    pub session_timeout_ms: i32,
    #[kafka("1+", default = -1, ignorable)]
    pub rebalance_timeout_ms: i32,
    pub member_id: Str,
    #[kafka("5+")]
    pub group_instance_id: Option<Str>,
    pub protocol_type: Str,
    pub protocols: Vec<JoinGroupRequestProtocol>,
    #[kafka("8+", ignorable)]
    pub reason: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`JoinGroupRequest::protocols`].
#[derive(Clone, PartialEq, Struct)]
pub struct JoinGroupRequestProtocol {
    pub name: Str,
    pub metadata: Bytes,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-9, flexible from 6.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-9", flexible = "6+")]
pub struct JoinGroupResponse {
    #[kafka("2+", ignorable)]
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka(default = -1)]
    pub generation_id: i32,
    #[kafka("7+", ignorable)]
    pub protocol_type: Option<Str>,
    #[kafka(nullable = "7+", default = "")]
    pub protocol_name: Option<Str>,
    pub leader: Str,
    #[kafka("9+")]
    pub skip_assignment: bool,
    pub member_id: Str,
    pub members: Vec<JoinGroupResponseMember>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`JoinGroupResponse::members`].
#[derive(Clone, PartialEq, Struct)]
pub struct JoinGroupResponseMember {
    pub member_id: Str,
    #[kafka("5+", ignorable)]
    pub group_instance_id: Option<Str>,
    pub metadata: Bytes,
    pub unknown_tagged_fields: TaggedFields,
}
