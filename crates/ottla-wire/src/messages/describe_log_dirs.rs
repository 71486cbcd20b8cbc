//! DescribeLogDirs, API 35: describes a broker's log directories.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 1-5, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 35, versions = "1-5", flexible = "2+")]
pub struct DescribeLogDirsRequest {
    #[kafka(default = [])]
    pub topics: Option<Vec<DescribableLogDirTopic>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeLogDirsRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribableLogDirTopic {
    pub topic: Str,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-5, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-5", flexible = "2+")]
pub struct DescribeLogDirsResponse {
    pub throttle_time_ms: i32,
    #[kafka("3+", ignorable)]
    pub error_code: ErrorCode,
    pub results: Vec<DescribeLogDirsResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeLogDirsResponse::results`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeLogDirsResult {
    pub error_code: ErrorCode,
    pub log_dir: Str,
    pub topics: Vec<DescribeLogDirsTopic>,
    #[kafka("4+", default = -1, ignorable)]
    pub total_bytes: i64,
    #[kafka("4+", default = -1, ignorable)]
    pub usable_bytes: i64,
    #[kafka("5+", ignorable)]
    pub is_cordoned: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeLogDirsResult::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeLogDirsTopic {
    pub name: Str,
    pub partitions: Vec<DescribeLogDirsPartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeLogDirsTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeLogDirsPartition {
    pub partition_index: i32,
    pub partition_size: i64,
    pub offset_lag: i64,
    pub is_future_key: bool,
    pub unknown_tagged_fields: TaggedFields,
}
