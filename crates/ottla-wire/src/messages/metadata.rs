//! Metadata, API 3: names brokers, topics, partitions and their leaders.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Versions 0-13, flexible from 9.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 3, versions = "0-13", flexible = "9+")]
pub struct MetadataRequest {
    #[kafka(nullable = "1+", default = [])]
    pub topics: Option<Vec<MetadataRequestTopic>>,
    #[kafka("4+", default = true)]
    pub allow_auto_topic_creation: bool,
    #[kafka("8-10")]
    pub include_cluster_authorized_operations: bool,
    #[kafka("8+")]
    pub include_topic_authorized_operations: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`MetadataRequest::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct MetadataRequestTopic {
    #[kafka("10+", ignorable)]
    pub topic_id: Uuid,
    #[kafka(nullable = "10+", default = "")]
    pub name: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-13, flexible from 9.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-13", flexible = "9+")]
pub struct MetadataResponse {
    #[kafka("3+", ignorable)]
    pub throttle_time_ms: i32,
    pub brokers: Vec<MetadataResponseBroker>,
    #[kafka("2+", ignorable)]
    pub cluster_id: Option<Str>,
    #[kafka("1+", default = -1, ignorable)]
    pub controller_id: i32,
    pub topics: Vec<MetadataResponseTopic>,
    #[kafka("8-10", default = i32::MIN)]
    pub cluster_authorized_operations: i32,
    #[kafka("13+", ignorable)]
    pub error_code: ErrorCode,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`MetadataResponse::brokers`].
#[derive(Clone, PartialEq, Struct)]
pub struct MetadataResponseBroker {
    pub node_id: i32,
    pub host: Str,
    pub port: i32,
    #[kafka("1+", ignorable)]
    pub rack: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`MetadataResponse::topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct MetadataResponseTopic {
    pub error_code: ErrorCode,
    #[kafka(nullable = "12+", default = "")]
    pub name: Option<Str>,
    #[kafka("10+", ignorable)]
    pub topic_id: Uuid,
    #[kafka("1+", ignorable)]
    pub is_internal: bool,
    pub partitions: Vec<MetadataResponsePartition>,
    #[kafka("8+", default = i32::MIN)]
    pub topic_authorized_operations: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`MetadataResponseTopic::partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct MetadataResponsePartition {
    pub error_code: ErrorCode,
    pub partition_index: i32,
    pub leader_id: i32,
    #[kafka("7+", default = -1, ignorable)]
    pub leader_epoch: i32,
    pub replica_nodes: Vec<i32>,
    pub isr_nodes: Vec<i32>,
    #[kafka("5+", ignorable)]
    pub offline_replicas: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}
