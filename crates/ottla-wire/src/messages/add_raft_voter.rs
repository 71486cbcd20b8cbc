//! AddRaftVoter, API 80: adds a controller to the quorum.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Versions 0-1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 80, versions = "0-1", flexible = "0+")]
pub struct AddRaftVoterRequest {
    #[kafka(default = "")]
    pub cluster_id: Option<Str>,
    pub timeout_ms: i32,
    pub voter_id: i32,
    pub voter_directory_id: Uuid,
    pub listeners: Vec<Listener>,
    #[kafka("1+", default = true)]
    pub ack_when_committed: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AddRaftVoterRequest::listeners`].
#[derive(Clone, PartialEq, Struct)]
pub struct Listener {
    pub name: Str,
    pub host: Str,
    pub port: u16,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-1", flexible = "0+")]
pub struct AddRaftVoterResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
