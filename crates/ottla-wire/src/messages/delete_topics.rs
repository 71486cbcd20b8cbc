//! DeleteTopics, API 20: deletes topics.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Versions 1-6, flexible from 4.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 20, versions = "1-6", flexible = "4+")]
pub struct DeleteTopicsRequest {
    #[kafka("6+")]
    pub topics: Vec<DeleteTopicState>,
    #[kafka("0-5", ignorable)]
    pub topic_names: Vec<Str>,
    pub timeout_ms: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DeleteTopicsRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct DeleteTopicState {
    pub name: Option<Str>,
    pub topic_id: Uuid,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-6, flexible from 4.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-6", flexible = "4+")]
pub struct DeleteTopicsResponse {
    pub throttle_time_ms: i32,
    pub responses: Vec<DeletableTopicResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DeleteTopicsResponse::responses`].
#[derive(Clone, PartialEq, Struct)]
pub struct DeletableTopicResult {
    #[kafka(nullable = "6+", default = "")]
    pub name: Option<Str>,
    #[kafka("6+", ignorable)]
    pub topic_id: Uuid,
    pub error_code: ErrorCode,
    #[kafka("5+", ignorable)]
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
