//! DescribeConfigs, API 32: reads the settings of topics, brokers and others.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 1-4, flexible from 4.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 32, versions = "1-4", flexible = "4+")]
pub struct DescribeConfigsRequest {
    pub resources: Vec<DescribeConfigsResource>,
    pub include_synonyms: bool,
    #[kafka("3+")]
    pub include_documentation: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeConfigsRequest::resources`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeConfigsResource {
    pub resource_type: i8,
    pub resource_name: Str,
    #[kafka(default = "")]
    pub configuration_keys: Option<Vec<Str>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-4, flexible from 4.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-4", flexible = "4+")]
pub struct DescribeConfigsResponse {
    pub throttle_time_ms: i32,
    pub results: Vec<DescribeConfigsResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeConfigsResponse::results`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeConfigsResult {
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub resource_type: i8,
    pub resource_name: Str,
    pub configs: Vec<DescribeConfigsResourceResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeConfigsResult::configs`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeConfigsResourceResult {
    pub name: Str,
    #[kafka(default = "")]
    pub value: Option<Str>,
    pub read_only: bool,
    #[kafka(default = -1)]
    pub config_source: i8,
    pub is_sensitive: bool,
    pub synonyms: Vec<DescribeConfigsSynonym>,
    #[kafka("3+", ignorable)]
    pub config_type: i8,
    #[kafka("3+", default = "", ignorable)]
    pub documentation: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeConfigsResourceResult::synonyms`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeConfigsSynonym {
    pub name: Str,
    #[kafka(default = "")]
    pub value: Option<Str>,
    pub source: i8,
    pub unknown_tagged_fields: TaggedFields,
}
