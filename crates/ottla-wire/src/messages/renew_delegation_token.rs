//! RenewDelegationToken, API 39: prolongs a delegation token.

use ottla_wire_derive::Message;

use crate::{Bytes, ErrorCode, TaggedFields};

/// Versions 1-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 39, versions = "1-2", flexible = "2+")]
pub struct RenewDelegationTokenRequest {
    pub hmac: Bytes,
    pub renew_period_ms: i64,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-2", flexible = "2+")]
pub struct RenewDelegationTokenResponse {
    pub error_code: ErrorCode,
    pub expiry_timestamp_ms: i64,
    pub throttle_time_ms: i32,
    pub unknown_tagged_fields: TaggedFields,
}
