//! EndTxn, API 26: commits or aborts a transaction.

use ottla_wire_derive::Message;

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-5, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 26, versions = "0-5", flexible = "3+")]
pub struct EndTxnRequest {
    pub transactional_id: Str,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub committed: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-5, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = "3+")]
pub struct EndTxnResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka("5+", default = -1, ignorable)]
    pub producer_id: i64,
    #[kafka("5+", default = -1, ignorable)]
    pub producer_epoch: i16,
    pub unknown_tagged_fields: TaggedFields,
}
