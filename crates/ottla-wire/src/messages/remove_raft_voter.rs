//! RemoveRaftVoter, API 81: removes a controller from the quorum.

use ottla_wire_derive::Message;

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 81, versions = "0", flexible = "0+")]
pub struct RemoveRaftVoterRequest {
    #[kafka(default = "")]
    pub cluster_id: Option<Str>,
    pub voter_id: i32,
    pub voter_directory_id: Uuid,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0", flexible = "0+")]
pub struct RemoveRaftVoterResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
