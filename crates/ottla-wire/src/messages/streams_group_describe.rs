//! StreamsGroupDescribe, API 89: describes streams groups.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields};

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 89, versions = "0", flexible = "0+")]
pub struct StreamsGroupDescribeRequest {
    pub group_ids: Vec<Str>,
    pub include_authorized_operations: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 0, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0", flexible = "0+")]
pub struct StreamsGroupDescribeResponse {
    pub throttle_time_ms: i32,
    pub groups: Vec<DescribedGroup>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`StreamsGroupDescribeResponse::groups`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribedGroup {
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub group_id: Str,
    pub group_state: Str,
    pub group_epoch: i32,
    pub assignment_epoch: i32,
    pub topology: Option<Topology>,
    pub members: Vec<Member>,
    #[kafka(default = i32::MIN)]
    pub authorized_operations: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribedGroup::topology`].
#[derive(Clone, PartialEq, Struct)]
pub struct Topology {
    pub epoch: i32,
    pub subtopologies: Option<Vec<Subtopology>>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`Topology::subtopologies`].
#[derive(Clone, PartialEq, Struct)]
pub struct Subtopology {
    pub subtopology_id: Str,
    pub source_topics: Vec<Str>,
    pub repartition_sink_topics: Vec<Str>,
    pub state_changelog_topics: Vec<TopicInfo>,
    pub repartition_source_topics: Vec<TopicInfo>,
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

/// Of [`DescribedGroup::members`].
#[derive(Clone, PartialEq, Struct)]
pub struct Member {
    pub member_id: Str,
    pub member_epoch: i32,
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub topology_epoch: i32,
    pub process_id: Str,
    pub user_endpoint: Option<Endpoint>,
    pub client_tags: Vec<KeyValue>,
    pub task_offsets: Vec<TaskOffset>,
    pub task_end_offsets: Vec<TaskOffset>,
    pub assignment: Assignment,
    pub target_assignment: Assignment,
    pub is_classic: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`Member::user_endpoint`].
#[derive(Clone, PartialEq, Struct)]
pub struct Endpoint {
    pub host: Str,
    pub port: u16,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`Member::task_offsets`].
#[derive(Clone, PartialEq, Struct)]
pub struct TaskOffset {
    pub subtopology_id: Str,
    pub partition: i32,
    pub offset: i64,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`Member::assignment`].
#[derive(Clone, PartialEq, Struct)]
pub struct Assignment {
    pub active_tasks: Vec<TaskIds>,
    pub standby_tasks: Vec<TaskIds>,
    pub warmup_tasks: Vec<TaskIds>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`Assignment::active_tasks`].
#[derive(Clone, PartialEq, Struct)]
pub struct TaskIds {
    pub subtopology_id: Str,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}
