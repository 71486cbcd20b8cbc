//! ListGroups, API 16: lists a broker's groups.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-5, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 16, versions = "0-5", flexible = "3+")]
pub struct ListGroupsRequest {
    #[kafka("4+")]
    pub states_filter: Vec<Str>,
    #[kafka("5+")]
    pub types_filter: Vec<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-5, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = "3+")]
pub struct ListGroupsResponse {
    #[kafka("1+", ignorable)]
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub groups: Vec<ListedGroup>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ListGroupsResponse::groups`].
#[derive(Clone, PartialEq, Struct)]
pub struct ListedGroup {
    pub group_id: Str,
    pub protocol_type: Str,
    #[kafka("4+", ignorable)]
    pub group_state: Str,
    #[kafka("5+", ignorable)]
    pub group_type: Str,
    pub unknown_tagged_fields: TaggedFields,
}
