//! InitProducerId, API 22: obtains a producer id and epoch, ending what an older producer left open.

use ottla_wire_derive::Message;

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-5, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 22, versions = "0-5", flexible = "2+")]
pub struct InitProducerIdRequest {
    #[kafka(default = "")]
    pub transactional_id: Option<Str>,
    pub transaction_timeout_ms: i32,
    #[kafka("3+", default = -1)]
    pub producer_id: i64,
    #[kafka("3+", default = -1)]
    pub producer_epoch: i16,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-5, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = "2+")]
pub struct InitProducerIdResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[kafka(default = -1)]
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub unknown_tagged_fields: TaggedFields,
}
