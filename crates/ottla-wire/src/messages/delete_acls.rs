//! DeleteAcls, API 31: removes access control entries.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 1-3, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 31, versions = "1-3", flexible = "2+")]
pub struct DeleteAclsRequest {
    pub filters: Vec<DeleteAclsFilter>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DeleteAclsRequest::filters`].
#[derive(Clone, PartialEq, Struct)]
pub struct DeleteAclsFilter {
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
pub struct DeleteAclsResponse {
    pub throttle_time_ms: i32,
    pub filter_results: Vec<DeleteAclsFilterResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DeleteAclsResponse::filter_results`].
#[derive(Clone, PartialEq, Struct)]
pub struct DeleteAclsFilterResult {
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub matching_acls: Vec<DeleteAclsMatchingAcl>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DeleteAclsFilterResult::matching_acls`].
#[derive(Clone, PartialEq, Struct)]
pub struct DeleteAclsMatchingAcl {
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub resource_type: i8,
    pub resource_name: Str,
    #[kafka(default = 3)]
    pub pattern_type: i8,
    pub principal: Str,
    pub host: Str,
    pub operation: i8,
    pub permission_type: i8,
    pub unknown_tagged_fields: TaggedFields,
}
