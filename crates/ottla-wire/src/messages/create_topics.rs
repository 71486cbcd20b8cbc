//! CreateTopics, API 19: creates topics.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Versions 2-7, flexible from 5.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 19, versions = "2-7", flexible = "5+")]
pub struct CreateTopicsRequest {
    pub topics: Vec<CreatableTopic>,
    #[kafka(default = 60000)]
    pub timeout_ms: i32,
    pub validate_only: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`CreateTopicsRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct CreatableTopic {
    pub name: Str,
    pub num_partitions: i32,
    pub replication_factor: i16,
    pub assignments: Vec<CreatableReplicaAssignment>,
    pub configs: Vec<CreatableTopicConfig>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`CreatableTopic::assignments`].
#[derive(Clone, PartialEq, Struct)]
pub struct CreatableReplicaAssignment {
    pub partition_index: i32,
    pub broker_ids: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`CreatableTopic::configs`].
#[derive(Clone, PartialEq, Struct)]
pub struct CreatableTopicConfig {
    pub name: Str,
    #[kafka(default = "")]
    pub value: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 2-7, flexible from 5.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "2-7", flexible = "5+")]
pub struct CreateTopicsResponse {
    pub throttle_time_ms: i32,
    pub topics: Vec<CreatableTopicResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`CreateTopicsResponse::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct CreatableTopicResult {
    pub name: Str,
    #[kafka("7+", ignorable)]
    pub topic_id: Uuid,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    #[kafka("5+", tag = 0, ignorable)]
    pub topic_config_error_code: ErrorCode,
    #[kafka("5+", default = -1, ignorable)]
    pub num_partitions: i32,
    #[kafka("5+", default = -1, ignorable)]
    pub replication_factor: i16,
    #[kafka("5+", default = [], ignorable)]
    pub configs: Option<Vec<CreatableTopicConfigs>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`CreatableTopicResult::configs`].
#[derive(Clone, PartialEq, Struct)]
pub struct CreatableTopicConfigs {
    pub name: Str,
    #[kafka(default = "")]
    pub value: Option<Str>,
    pub read_only: bool,
    #[kafka(default = -1)]
    pub config_source: i8,
    pub is_sensitive: bool,
    pub unknown_tagged_fields: TaggedFields,
}
