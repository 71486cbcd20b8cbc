//! ExpireDelegationToken, API 40: ends a delegation token.

use ottla_wire_derive::Message;

use crate::{Bytes, ErrorCode, TaggedFields};

/// Versions 1-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 40, versions = "1-2", flexible = "2+")]
pub struct ExpireDelegationTokenRequest {
    pub hmac: Bytes,
    pub expiry_time_period_ms: i64,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-2", flexible = "2+")]
pub struct ExpireDelegationTokenResponse {
    pub error_code: ErrorCode,
    pub expiry_timestamp_ms: i64,
    pub throttle_time_ms: i32,
    pub unknown_tagged_fields: TaggedFields,
}
