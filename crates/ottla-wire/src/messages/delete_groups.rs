//! DeleteGroups, API 42: deletes groups.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 42, versions = "0-2", flexible = "2+")]
pub struct DeleteGroupsRequest {
    pub groups_names: Vec<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-2", flexible = "2+")]
pub struct DeleteGroupsResponse {
    pub throttle_time_ms: i32,
    pub results: Vec<DeletableGroupResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DeleteGroupsResponse::results`].
#[derive(Clone, PartialEq, Struct)]
pub struct DeletableGroupResult {
    pub group_id: Str,
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}
