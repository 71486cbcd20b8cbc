//! SaslHandshake, API 17: chooses the SASL mechanism.

use ottla_wire_derive::Message;

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-1, never flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 17, versions = "0-1")]
pub struct SaslHandshakeRequest {
    pub mechanism: Str,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-1, never flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-1")]
pub struct SaslHandshakeResponse {
    pub error_code: ErrorCode,
    pub mechanisms: Vec<Str>,
    pub unknown_tagged_fields: TaggedFields,
}
