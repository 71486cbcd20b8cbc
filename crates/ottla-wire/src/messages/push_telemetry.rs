//! PushTelemetry, API 72: hands in the client's metrics.

use ottla_wire_derive::Message;

use crate::{Bytes, ErrorCode, TaggedFields, Uuid};

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 72, versions = "0", flexible = "0+")]
pub struct PushTelemetryRequest {
    pub client_instance_id: Uuid,
    pub subscription_id: i32,
    pub terminating: bool,
    pub compression_type: i8,
    pub metrics: Bytes,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0", flexible = "0+")]
pub struct PushTelemetryResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}
