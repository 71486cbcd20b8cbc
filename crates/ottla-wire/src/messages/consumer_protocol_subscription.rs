//! ConsumerProtocolSubscription: what a member of a classic consumer group tells its leader.

use ottla_wire_derive::{Message, Struct};

use crate::{Bytes, Str, TaggedFields};

/// Versions 0-3, never flexible.
#[derive(Clone, PartialEq, Message)]
#[kafka(versions = "0-3")]
pub struct ConsumerProtocolSubscription {
    pub topics: Vec<Str>,
    pub user_data: Option<Bytes>,
    #[kafka("1+", ignorable)]
    pub owned_partitions: Vec<TopicPartition>,
    #[kafka("2+", default = -1, ignorable)]
    pub generation_id: i32,
    #[kafka("3+", ignorable)]
    pub rack_id: Option<Str>,
    pub unknown_tagged_fields: TaggedFields,
}

/// Of [`ConsumerProtocolSubscription::owned_partitions`].
#[derive(Clone, PartialEq, Struct)]
pub struct TopicPartition {
    pub topic: Str,
    pub partitions: Vec<i32>,
    pub unknown_tagged_fields: TaggedFields,
}
