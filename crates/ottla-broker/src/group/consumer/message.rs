//! What members of a consumer group say and hear, whatever the version of the API.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use ottla_wire::Uuid;

/// A partition by its topic's id.
pub(crate) type TopicPartition = (Uuid, i32);

/// What ConsumerGroupHeartbeat says; what is `None` is as it was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heartbeat {
    pub(crate) member_id: String,
    /// 0 to join, -1 or [`LEAVE_FOR_A_WHILE`] to leave, else the epoch that the member is in.
    pub(crate) epoch: i32,
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout: Option<Duration>,
    pub(crate) topics: Option<BTreeSet<String>>,
    /// A pattern that the names of topics match; empty for none.
    pub(crate) pattern: Option<String>,
    pub(crate) server_assignor: Option<String>,
    /// The partitions that the member has now.
    pub(crate) owned: Option<BTreeSet<TopicPartition>>,
}

/// The answer to a [`Heartbeat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beaten {
    pub(crate) epoch: i32,
    /// The partitions that the member may have from now on, if they are news to it.
    pub(crate) assignment: Option<BTreeSet<TopicPartition>>,
    /// Something about the group is not as it was.
    pub(crate) changed: bool,
}

/// Which topics there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicsView {
    /// Another number whenever anything else is different.
    pub(crate) version: u64,
    /// Id and number of partitions, by name.
    pub(crate) by_name: BTreeMap<String, (Uuid, i32)>,
}

impl TopicsView {
    /// What the topics are called.
    pub(crate) fn names(&self) -> HashMap<Uuid, &str> {
        let topics = self.by_name.iter();
        topics.map(|(name, (id, _))| (*id, name.as_str())).collect()
    }
}

/// The epoch of a static member that leaves and will be back.
pub(crate) const LEAVE_FOR_A_WHILE: i32 = -2;
