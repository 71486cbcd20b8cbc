//! ListTransactions, API 66: lists a coordinator's transactions.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-2, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 66, versions = "0-2", flexible = "0+")]
pub struct ListTransactionsRequest {
    pub state_filters: Vec<Str>,
    pub producer_id_filters: Vec<i64>,
    #[kafka("1+", default = -1)]
    pub duration_filter: i64,
    #[kafka("2+")]
    pub transactional_id_pattern: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-2, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-2", flexible = "0+")]
pub struct ListTransactionsResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub unknown_state_filters: Vec<Str>,
    pub transaction_states: Vec<TransactionState>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ListTransactionsResponse::transaction_states`].
#[derive(Clone, PartialEq, Struct)]
pub struct TransactionState {
    pub transactional_id: Str,
    pub producer_id: i64,
    pub transaction_state: Str,
    pub unknown_tagged_fields: TaggedFields,
}
