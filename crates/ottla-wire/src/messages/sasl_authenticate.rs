//! SaslAuthenticate, API 36: carries one message of the SASL mechanism.

use ottla_wire_derive::Message;

use crate::{Bytes, ErrorCode, Str, TaggedFields};

/// Versions 0-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 36, versions = "0-2", flexible = "2+")]
pub struct SaslAuthenticateRequest {
    pub auth_bytes: Bytes,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-2", flexible = "2+")]
pub struct SaslAuthenticateResponse {
    pub error_code: ErrorCode,
    #[kafka(default = "")]
    pub error_message: Option<Str>,
    pub auth_bytes: Bytes,
    #[kafka("1+", ignorable)]
    pub session_lifetime_ms: i64,
    pub unknown_tagged_fields: TaggedFields,
}
