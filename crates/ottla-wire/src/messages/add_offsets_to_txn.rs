//! AddOffsetsToTxn, API 25: adds a group's offsets to a transaction.

use ottla_wire_derive::Message;

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-4, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 25, versions = "0-4", flexible = "3+")]
pub struct AddOffsetsToTxnRequest {
    pub transactional_id: Str,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub group_id: Str,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-4, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-4", flexible = "3+")]
pub struct AddOffsetsToTxnResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}
