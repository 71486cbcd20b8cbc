//! ListConfigResources, API 74: lists what has settings.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 74, versions = "0-1", flexible = "0+")]
pub struct ListConfigResourcesRequest {
    #[kafka("1+")]
    pub resource_types: Vec<i8>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-1", flexible = "0+")]
pub struct ListConfigResourcesResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub config_resources: Vec<ConfigResource>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ListConfigResourcesResponse::config_resources`].
#[derive(Clone, PartialEq, Struct)]
pub struct ConfigResource {
    pub resource_name: Str,
    #[kafka("1+", default = 16, ignorable)]
    pub resource_type: i8,
    pub unknown_tagged_fields: TaggedFields,
}
