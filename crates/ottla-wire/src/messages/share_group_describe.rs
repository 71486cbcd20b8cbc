//! ShareGroupDescribe, API 77: describes share groups.

use ottla_wire_derive::{Message, Struct};

use crate::{ErrorCode, Str, TaggedFields, Uuid};

/// Version 1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(key = 77, versions = "1", flexible = "0+")]
pub struct ShareGroupDescribeRequest {
    pub group_ids: Vec<Str>,
    pub include_authorized_operations: bool,
    pub unknown_tagged_fields: TaggedFields,
}

/// Version 1, flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "1", flexible = "0+")]
pub struct ShareGroupDescribeResponse {
    pub throttle_time_ms: i32,
    pub groups: Vec<DescribedGroup>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ShareGroupDescribeResponse::groups`].
#[derive(Clone, PartialEq, Struct)]
pub struct DescribedGroup {
    pub error_code: ErrorCode,
    pub error_message: Option<Str>,
    pub group_id: Str,
    pub group_state: Str,
    pub group_epoch: i32,
    pub assignment_epoch: i32,
    pub assignor_name: Str,
    pub members: Vec<Member>,
    #[kafka(default = i32::MIN)]
    pub authorized_operations: i32,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`DescribedGroup::members`].
#[derive(Clone, PartialEq, Struct)]
pub struct Member {
    pub member_id: Str,
    pub rack_id: Option<Str>,
    pub member_epoch: i32,
    pub client_id: Str,
    pub client_host: Str,
    pub subscribed_topic_names: Vec<Str>,
    pub assignment: Assignment,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`Member::assignment`].
#[derive(Clone, PartialEq, Struct)]
pub struct Assignment {
    pub topic_partitions: Vec<TopicPartitions>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`Assignment::topic_partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicPartitions {
    pub topic_id: Uuid,
    pub topic_name: Str,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}
