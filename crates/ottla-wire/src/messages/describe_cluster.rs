//! DescribeCluster, API 60: names the cluster, its brokers and its controller.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Versions 0-2, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 60, versions = "0-2", flexible = "0+")]
pub struct DescribeClusterRequest {
    pub include_cluster_authorized_operations: bool,
    #[kafka("1+", default = 1)]
    pub endpoint_type: i8,
    #[kafka("2+")]
    pub include_fenced_brokers: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Versions 0-2, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-2", flexible = "0+")]
pub struct DescribeClusterResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    #[kafka("1+", default = 1)]
    pub endpoint_type: i8,
    pub cluster_id: Str,
    #[kafka(default = -1)]
    pub controller_id: i32,
    pub brokers: Vec<DescribeClusterBroker>,
    #[kafka(default = i32::MIN)]
    pub cluster_authorized_operations: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribeClusterResponse::brokers`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribeClusterBroker {
    pub broker_id: i32,
    pub host: Str,
    pub port: i32,
    pub rack: Option<Str>,
    #[kafka("2+")]
    pub is_fenced: bool,
    pub unknown_tagged_fields: TaggedFields,
}
