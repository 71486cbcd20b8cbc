//! LeaveGroup, API 13: takes members out of a classic group.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-5, flexible from 4.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 13, versions = "0-5", flexible = "4+")]
pub struct LeaveGroupRequest {
    pub group_id: Str,
    #[kafka("0-2")]
    pub member_id: Str,
    #[kafka("3+")]
    pub members: Vec<MemberIdentity>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`LeaveGroupRequest::members`].
#[derive(Clone, PartialEq, Struct)]
pub struct MemberIdentity {
    pub member_id: Str,
    pub group_instance_id: Option<Str>,
    #[kafka("5+", ignorable)]
    pub reason: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-5, flexible from 4.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = "4+")]
pub struct LeaveGroupResponse {
    #[kafka("1+", ignorable)]
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka("3+")]
    pub members: Vec<MemberResponse>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`LeaveGroupResponse::members`].
#[derive(Clone, PartialEq, Struct)]
pub struct MemberResponse {
    pub member_id: Str,
    #[kafka(default = "")]
    pub group_instance_id: Option<Str>,
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}
