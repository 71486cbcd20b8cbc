//! FindCoordinator, API 10: names the broker that coordinates a group or transaction.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-6, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 10, versions = "0-6", flexible = "3+")]
pub struct FindCoordinatorRequest {
    #[kafka("0-3")]
    pub key: Str,
    #[kafka("1+")]
    pub key_type: i8,
    #[kafka("4+")]
    pub coordinator_keys: Vec<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-6, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-6", flexible = "3+")]
pub struct FindCoordinatorResponse {
    #[kafka("1+", ignorable)]
    pub throttle_time_ms: i32,
    #[kafka("0-3")]
    pub error_code: ErrorCode,
    #[kafka("1-3", default = "", ignorable)]
    pub error_message: Option<Str>,
    #[kafka("0-3")]
    pub node_id: i32,
    #[kafka("0-3")]
    pub host: Str,
    #[kafka("0-3")]
    pub port: i32,
    #[kafka("4+")]
    pub coordinators: Vec<Coordinator>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`FindCoordinatorResponse::coordinators`].
#[derive(Clone, PartialEq, Struct)]
pub struct Coordinator {
    pub key: Str,
    pub node_id: i32,
    pub host: Str,
    pub port: i32,
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
