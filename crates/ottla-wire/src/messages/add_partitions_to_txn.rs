//! AddPartitionsToTxn, API 24: adds partitions to a transaction.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-5, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 24, versions = "0-5", flexible = "3+")]
pub struct AddPartitionsToTxnRequest {
    #[kafka("4+")]
    pub transactions: Vec<AddPartitionsToTxnTransaction>,
    #[kafka("0-3")]
    pub v3_and_below_transactional_id: Str,
    #[kafka("0-3")]
    pub v3_and_below_producer_id: i64,
    #[kafka("0-3")]
    pub v3_and_below_producer_epoch: i16,
    #[kafka("0-3")]
    pub v3_and_below_topics: Vec<AddPartitionsToTxnTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AddPartitionsToTxnRequest::transactions`].
#[derive(Clone, PartialEq, Struct)]
pub struct AddPartitionsToTxnTransaction {
    pub transactional_id: Str,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub verify_only: bool,
    pub topics: Vec<AddPartitionsToTxnTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AddPartitionsToTxnTransaction::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct AddPartitionsToTxnTopic {
    pub name: Str,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-5, flexible from 3.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-5", flexible = "3+")]
pub struct AddPartitionsToTxnResponse {
    pub throttle_time_ms: i32,
    #[kafka("4+", ignorable)]
    pub error_code: ErrorCode,
    #[kafka("4+")]
    pub results_by_transaction: Vec<AddPartitionsToTxnResult>,
    #[kafka("0-3")]
    pub results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AddPartitionsToTxnResponse::results_by_transaction`].
#[derive(Clone, PartialEq, Struct)]
pub struct AddPartitionsToTxnResult {
    pub transactional_id: Str,
    pub topic_results: Vec<AddPartitionsToTxnTopicResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AddPartitionsToTxnResult::topic_results`].
#[derive(Clone, PartialEq, Struct)]
pub struct AddPartitionsToTxnTopicResult {
    pub name: Str,
    pub results_by_partition: Vec<AddPartitionsToTxnPartitionResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AddPartitionsToTxnTopicResult::results_by_partition`].
#[derive(Clone, PartialEq, Struct)]
pub struct AddPartitionsToTxnPartitionResult {
    pub partition_index: i32,
    pub partition_error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}
