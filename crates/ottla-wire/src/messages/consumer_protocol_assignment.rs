//! ConsumerProtocolAssignment: what the leader of a classic consumer group tells a member.

use ottla_wire_derive::{Message, Struct};

use crate::{Bytes, Str, TaggedFields};

/// Versions 0-3, never flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-3")]
pub struct ConsumerProtocolAssignment {
    pub assigned_partitions: Vec<TopicPartition>,
    pub user_data: Option<Bytes>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ConsumerProtocolAssignment::assigned_partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicPartition {
    pub topic: Str,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}
