//! Who a consumer is in its group, as far as others need to know.

use ottla_wire::Str;

/// A member of a consumer group: what a transactional producer needs to commit offsets for it (KIP-447).
///
/// Here, because the consumer makes it and the producer takes it, and neither knows the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `group.id`.
    pub group_id: Str,
    /// The generation it is a member of; -1 if it is none.
    pub generation_id: i32,
    /// The name the coordinator gave it; empty if it is no member.
    pub member_id: Str,
    /// `group.instance.id`.
    pub group_instance_id: Option<Str>,
}
