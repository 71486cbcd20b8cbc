//! GetTelemetrySubscriptions, API 71: asks which metrics the cluster wants.

use ottla_wire_derive::Message;

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 71, versions = "0", flexible = "0+")]
pub struct GetTelemetrySubscriptionsRequest {
    pub client_instance_id: Uuid,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0", flexible = "0+")]
pub struct GetTelemetrySubscriptionsResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub client_instance_id: Uuid,
    pub subscription_id: i32,
    pub accepted_compression_types: Vec<i8>,
    pub push_interval_ms: i32,
    pub telemetry_max_bytes: i32,
    pub delta_temporality: bool,
    pub requested_metrics: Vec<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
