//! CreateDelegationToken, API 38: creates a delegation token.

use ottla_wire_derive::{Message, Struct};

use crate::{Bytes, ErrorCode, Str, TaggedFields};

/// Versions 1-3, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 38, versions = "1-3", flexible = "2+")]
pub struct CreateDelegationTokenRequest {
    #[kafka("3+", default = "")]
    pub owner_principal_type: Option<Str>,
    #[kafka("3+", default = "")]
    pub owner_principal_name: Option<Str>,
    pub renewers: Vec<CreatableRenewers>,
    pub max_lifetime_ms: i64,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`CreateDelegationTokenRequest::renewers`].
#[derive(Clone, PartialEq, Struct)]
pub struct CreatableRenewers {
    pub principal_type: Str,
    pub principal_name: Str,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-3, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-3", flexible = "2+")]
pub struct CreateDelegationTokenResponse {
    pub error_code: ErrorCode,
    pub principal_type: Str,
    pub principal_name: Str,
    #[kafka("3+")]
    pub token_requester_principal_type: Str,
    #[kafka("3+")]
    pub token_requester_principal_name: Str,
    pub issue_timestamp_ms: i64,
    pub expiry_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub token_id: Str,
    pub hmac: Bytes,
    pub throttle_time_ms: i32,
    pub unknown_tagged_fields: TaggedFields,
}
