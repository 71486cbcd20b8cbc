//! AlterReplicaLogDirs, API 34: moves replicas between the log directories of a broker.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 1-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 34, versions = "1-2", flexible = "2+")]
pub struct AlterReplicaLogDirsRequest {
    pub dirs: Vec<AlterReplicaLogDir>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterReplicaLogDirsRequest::dirs`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterReplicaLogDir {
    pub path: Str,
    pub topics: Vec<AlterReplicaLogDirTopic>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterReplicaLogDir::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterReplicaLogDirTopic {
    pub name: Str,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 1-2, flexible from 2.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1-2", flexible = "2+")]
pub struct AlterReplicaLogDirsResponse {
    pub throttle_time_ms: i32,
    pub results: Vec<AlterReplicaLogDirTopicResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterReplicaLogDirsResponse::results`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterReplicaLogDirTopicResult {
    pub topic_name: Str,
    pub partitions: Vec<AlterReplicaLogDirPartitionResult>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`AlterReplicaLogDirTopicResult::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct AlterReplicaLogDirPartitionResult {
    pub partition_index: i32,
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}
