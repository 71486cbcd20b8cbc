//! AlterConfigs, API 33: replaces all settings of topics, brokers and others.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 33, versions = "0-2", flexible = "2+")]
pub struct AlterConfigsRequest {
    pub resources: Vec<AlterConfigsResource>,
    pub validate_only: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterConfigsRequest::resources`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterConfigsResource {
    pub resource_type: i8,
    pub resource_name: Str,
    pub configs: Vec<AlterableConfig>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterConfigsResource::configs`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterableConfig {
    pub name: Str,
    #[kafka(default = "", secret)]
    pub value: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-2", flexible = "2+")]
pub struct AlterConfigsResponse {
    pub throttle_time_ms: i32,
    pub responses: Vec<AlterConfigsResourceResponse>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterConfigsResponse::responses`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterConfigsResourceResponse {
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub resource_type: i8,
    pub resource_name: Str,
    pub unknown_tagged_fields: TaggedFields,
}
