//! DescribeDelegationToken, API 41: lists delegation tokens.

use ottla_wire_derive::{Message, Struct};

use crate::{Bytes, ErrorCode, Str, TaggedFields};

/// Versions 1-3, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 41, versions = "1-3", flexible = "2+")]
pub struct DescribeDelegationTokenRequest {
    #[kafka(default = [])]
    pub owners: Option<Vec<DescribeDelegationTokenOwner>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeDelegationTokenRequest::owners`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeDelegationTokenOwner {
    pub principal_type: Str,
    pub principal_name: Str,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-3, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-3", flexible = "2+")]
pub struct DescribeDelegationTokenResponse {
    pub error_code: ErrorCode,
    pub tokens: Vec<DescribedDelegationToken>,
    pub throttle_time_ms: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeDelegationTokenResponse::tokens`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribedDelegationToken {
    pub principal_type: Str,
    pub principal_name: Str,
    #[kafka("3+")]
    pub token_requester_principal_type: Str,
    #[kafka("3+")]
    pub token_requester_principal_name: Str,
    pub issue_timestamp: i64,
    pub expiry_timestamp: i64,
    pub max_timestamp: i64,
    pub token_id: Str,
    pub hmac: Bytes,
    pub renewers: Vec<DescribedDelegationTokenRenewer>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribedDelegationToken::renewers`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribedDelegationTokenRenewer {
    pub principal_type: Str,
    pub principal_name: Str,
    pub unknown_tagged_fields: TaggedFields,
}
