//! DescribeAcls, API 29: lists access control entries.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 1-3, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 29, versions = "1-3", flexible = "2+")]
pub struct DescribeAclsRequest {
    pub resource_type_filter: i8,
    #[kafka(default = "")]
    pub resource_name_filter: Option<Str>,
    #[kafka(default = 3)]
    pub pattern_type_filter: i8,
    #[kafka(default = "")]
    pub principal_filter: Option<Str>,
    #[kafka(default = "")]
    pub host_filter: Option<Str>,
    pub operation: i8,
    pub permission_type: i8,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-3, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-3", flexible = "2+")]
pub struct DescribeAclsResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub resources: Vec<DescribeAclsResource>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeAclsResponse::resources`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeAclsResource {
    pub resource_type: i8,
    pub resource_name: Str,
    #[kafka(default = 3)]
    pub pattern_type: i8,
    pub acls: Vec<AclDescription>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeAclsResource::acls`].
#[derive(Clone, PartialEq, Struct)]
pub struct AclDescription {
    pub principal: Str,
    pub host: Str,
    pub operation: i8,
    pub permission_type: i8,
    pub unknown_tagged_fields: TaggedFields,
}
