//! DeleteShareGroupOffsets, API 92: deletes where a share group begins.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 92, versions = "0", flexible = "0+")]
pub struct DeleteShareGroupOffsetsRequest {
    pub group_id: Str,
    pub topics: Vec<DeleteShareGroupOffsetsRequestTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DeleteShareGroupOffsetsRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct DeleteShareGroupOffsetsRequestTopic {
    pub topic_name: Str,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0", flexible = "0+")]
pub struct DeleteShareGroupOffsetsResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub responses: Vec<DeleteShareGroupOffsetsResponseTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DeleteShareGroupOffsetsResponse::responses`].
#[derive(Clone, PartialEq, Struct)]
pub struct DeleteShareGroupOffsetsResponseTopic {
    pub topic_name: Str,
    pub topic_id: Uuid,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
