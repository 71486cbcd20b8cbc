//! IncrementalAlterConfigs, API 44: changes single settings of topics, brokers and others.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-1, flexible from 1.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 44, versions = "0-1", flexible = "1+")]
pub struct IncrementalAlterConfigsRequest {
    pub resources: Vec<AlterConfigsResource>,
    pub validate_only: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`IncrementalAlterConfigsRequest::resources`].
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
    pub config_operation: i8,
    #[kafka(default = "", secret)]
    pub value: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-1, flexible from 1.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-1", flexible = "1+")]
pub struct IncrementalAlterConfigsResponse {
    pub throttle_time_ms: i32,
    pub responses: Vec<AlterConfigsResourceResponse>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`IncrementalAlterConfigsResponse::responses`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterConfigsResourceResponse {
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub resource_type: i8,
    pub resource_name: Str,
    pub unknown_tagged_fields: TaggedFields,
}
