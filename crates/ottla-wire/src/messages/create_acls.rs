//! CreateAcls, API 30: adds access control entries.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 1-3, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 30, versions = "1-3", flexible = "2+")]
pub struct CreateAclsRequest {
    pub creations: Vec<AclCreation>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`CreateAclsRequest::creations`].
#[derive(Clone, PartialEq, Struct)]
pub struct AclCreation {
    pub resource_type: i8,
    pub resource_name: Str,
    #[kafka(default = 3)]
    pub resource_pattern_type: i8,
    pub principal: Str,
    pub host: Str,
    pub operation: i8,
    pub permission_type: i8,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-3, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-3", flexible = "2+")]
pub struct CreateAclsResponse {
    pub throttle_time_ms: i32,
    pub results: Vec<AclCreationResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`CreateAclsResponse::results`].
#[derive(Clone, PartialEq, Struct)]
pub struct AclCreationResult {
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
