//! DescribeGroups, API 15: describes classic groups and their members.

use ottla_wire_derive::{Message, Struct};

use crate::{Bytes, ErrorCode, Str, TaggedFields};

/// Versions 0-6, flexible from 5.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 15, versions = "0-6", flexible = "5+")]
pub struct DescribeGroupsRequest {
    pub groups: Vec<Str>,
    #[kafka("3+")]
    pub include_authorized_operations: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-6, flexible from 5.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-6", flexible = "5+")]
pub struct DescribeGroupsResponse {
    #[kafka("1+", ignorable)]
    pub throttle_time_ms: i32,
    pub groups: Vec<DescribedGroup>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeGroupsResponse::groups`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribedGroup {
    pub error_code: ErrorCode,
    #[kafka("6+")]
    pub error_message: Option<Str>,
    pub group_id: Str,
    pub group_state: Str,
    pub protocol_type: Str,
    pub protocol_data: Str,
    pub members: Vec<DescribedGroupMember>,
    #[kafka("3+", default = i32::MIN)]
    pub authorized_operations: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribedGroup::members`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribedGroupMember {
    pub member_id: Str,
    #[kafka("4+", ignorable)]
    pub group_instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub member_metadata: Bytes,
    pub member_assignment: Bytes,
    pub unknown_tagged_fields: TaggedFields,
}
