//! StreamsGroupHeartbeat, API 88: joins, keeps alive and leaves a streams group.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 88, versions = "0", flexible = "0+")]
pub struct StreamsGroupHeartbeatRequest {
    pub group_id: Str,
    pub member_id: Str,
    pub member_epoch: i32,
    pub endpoint_information_epoch: i32,
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    #[kafka(default = -1)]
    pub rebalance_timeout_ms: i32,
    pub topology: Option<Topology>,
    pub active_tasks: Option<Vec<TaskIds>>,
    pub standby_tasks: Option<Vec<TaskIds>>,
    pub warmup_tasks: Option<Vec<TaskIds>>,
    pub process_id: Option<Str>,
    pub user_endpoint: Option<Endpoint>,
    pub client_tags: Option<Vec<KeyValue>>,
    pub task_offsets: Option<Vec<TaskOffset>>,
    pub task_end_offsets: Option<Vec<TaskOffset>>,
    pub shutdown_application: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`StreamsGroupHeartbeatRequest::topology`].
#[derive(Clone, PartialEq, Struct)]
pub struct Topology {
    pub epoch: i32,
    pub subtopologies: Vec<Subtopology>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`Topology::subtopologies`].
#[derive(Clone, PartialEq, Struct)]
pub struct Subtopology {
    pub subtopology_id: Str,
    pub source_topics: Vec<Str>,
    pub source_topic_regex: Vec<Str>,
    pub state_changelog_topics: Vec<TopicInfo>,
    pub repartition_sink_topics: Vec<Str>,
    pub repartition_source_topics: Vec<TopicInfo>,
    pub copartition_groups: Vec<CopartitionGroup>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`Subtopology::state_changelog_topics`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicInfo {
    pub name: Str,
    pub partitions: i32,
    pub replication_factor: i16,
    pub topic_configs: Vec<KeyValue>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`TopicInfo::topic_configs`].
#[derive(Clone, PartialEq, Struct)]
pub struct KeyValue {
    pub key: Str,
    pub value: Str,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`Subtopology::copartition_groups`].
#[derive(Clone, PartialEq, Struct)]
pub struct CopartitionGroup {
    pub source_topics: Vec<i16>,
    pub source_topic_regex: Vec<i16>,
    pub repartition_source_topics: Vec<i16>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`StreamsGroupHeartbeatRequest::active_tasks`].
#[derive(Clone, PartialEq, Struct)]
pub struct TaskIds {
    pub subtopology_id: Str,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`StreamsGroupHeartbeatRequest::user_endpoint`].
#[derive(Clone, PartialEq, Struct)]
pub struct Endpoint {
    pub host: Str,
    pub port: u16,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`StreamsGroupHeartbeatRequest::task_offsets`].
#[derive(Clone, PartialEq, Struct)]
pub struct TaskOffset {
    pub subtopology_id: Str,
    pub partition: i32,
    pub offset: i64,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0", flexible = "0+")]
pub struct StreamsGroupHeartbeatResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub member_id: Str,
    pub member_epoch: i32,
    pub heartbeat_interval_ms: i32,
    pub acceptable_recovery_lag: i32,
    pub task_offset_interval_ms: i32,
    #[kafka(default = [])]
    pub status: Option<Vec<Status>>,
    pub active_tasks: Option<Vec<TaskIds>>,
    pub standby_tasks: Option<Vec<TaskIds>>,
    pub warmup_tasks: Option<Vec<TaskIds>>,
    pub endpoint_information_epoch: i32,
    pub partitions_by_user_endpoint: Option<Vec<EndpointToPartitions>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`StreamsGroupHeartbeatResponse::status`].
#[derive(Clone, PartialEq, Struct)]
pub struct Status {
    pub status_code: i8,
    pub status_detail: Str,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`StreamsGroupHeartbeatResponse::partitions_by_user_endpoint`].
#[derive(Clone, PartialEq, Struct)]
pub struct EndpointToPartitions {
    pub user_endpoint: Endpoint,
    pub active_partitions: Vec<TopicPartition>,
    pub standby_partitions: Vec<TopicPartition>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`EndpointToPartitions::active_partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicPartition {
    pub topic: Str,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}
