//! DescribeTransactions, API 65: describes transactions.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 65, versions = "0", flexible = "0+")]
pub struct DescribeTransactionsRequest {
    pub transactional_ids: Vec<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0", flexible = "0+")]
pub struct DescribeTransactionsResponse {
    pub throttle_time_ms: i32,
    pub transaction_states: Vec<TransactionState>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeTransactionsResponse::transaction_states`].
#[derive(Clone, PartialEq, Struct)]
pub struct TransactionState {
    pub error_code: ErrorCode,
    pub transactional_id: Str,
    pub transaction_state: Str,
    pub transaction_timeout_ms: i32,
    pub transaction_start_time_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub topics: Vec<TopicData>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`TransactionState::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicData {
    pub topic: Str,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}
