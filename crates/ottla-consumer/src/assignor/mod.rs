//! Who reads what: the leader of a classic group turns the members' subscriptions into an
//! assignment with an [`Assignor`] that all of them speak.
//!
//! Pure functions. Results equal those of Java's assignors of the same name, because a group may be
//! led by a Java member in one generation and by this one in the next.

mod java_order;
mod racks;
mod range;
mod round_robin;
mod sticky;
mod topics;

use std::{cmp::Ordering, fmt::Debug, sync::Arc};

pub use self::{
    range::Range,
    round_robin::RoundRobin,
    sticky::{CooperativeSticky, Sticky},
    topics::GroupTopics,
};
use crate::{Bytes, Str, TopicPartition};

/// A strategy of assignment. Implement it to bring your own; give it a name of its own, and
/// configure it in every member of the group.
///
/// ```
/// use ottla_consumer::{TopicPartition, assignor::{Assignor, GroupTopics, Member}};
///
/// /// All partitions go to the member with the smallest id; the others stand by.
/// #[derive(Debug)]
/// struct OneReads;
///
/// impl Assignor for OneReads {
///     fn name(&self) -> &str {
///         "one-reads"
///     }
///
///     fn assign(&self, topics: &GroupTopics, members: &[Member]) -> Vec<Vec<TopicPartition>> {
///         let mut assignment = vec![Vec::new(); members.len()];
///         let first = (0..members.len()).min_by_key(|&index| &members[index].id);
///         if let Some(first) = first {
///             assignment[first] = topics.partitions().collect();
///         }
///         assignment
///     }
/// }
/// ```
pub trait Assignor: Debug + Send + Sync {
    /// The name the members agree on, such as `range`.
    fn name(&self) -> &str;

    /// How members may hand partitions over from one assignment of this strategy to the next. A consumer
    /// rebalances cooperatively if all of its assignors allow that. Default: eagerly only.
    ///
    /// A strategy that allows [`RebalanceProtocol::Cooperative`] must give no member a partition that another
    /// one still owns ([`Member::owned`]): it withholds it, and the rebalance that follows when the owner has
    /// given it up hands it out.
    fn rebalance_protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Eager]
    }

    /// Bytes to send along with this member's subscription. `previous` is what it was assigned latest, whether
    /// or not it still owns it; none before the first time. Default: none.
    fn user_data(&self, _topics: &[Str], _previous: Option<&Previous>) -> Option<Bytes> {
        None
    }

    /// Distributes the partitions of `topics` over `members`: entry *i* of the result is what
    /// member *i* gets. Must be deterministic; a topic that no member subscribes to is left out.
    ///
    /// Called on the member that leads the group. A panic makes that member leave it, and its next call for records
    /// fail.
    fn assign(&self, topics: &GroupTopics, members: &[Member]) -> Vec<Vec<TopicPartition>>;
}

/// How a group hands partitions over when it rebalances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RebalanceProtocol {
    /// Every member gives up all partitions before the new assignment is made.
    Eager,
    /// Members read on during a rebalance and give up only what the new assignment takes away; what was given up
    /// is handed out in another rebalance (KIP-429).
    Cooperative,
}

impl RebalanceProtocol {
    /// What a member with these assignors does: the best that all of them allow. So a group moves from eager to
    /// cooperative in two rolling restarts: one that adds `cooperative-sticky` to the old assignor, and one that
    /// removes the old one.
    pub(crate) fn of(assignors: &[Arc<dyn Assignor>]) -> Self {
        let cooperative = |assignor: &Arc<dyn Assignor>| {
            assignor.rebalance_protocols().contains(&Self::Cooperative)
        };
        match !assignors.is_empty() && assignors.iter().all(cooperative) {
            true => Self::Cooperative,
            false => Self::Eager,
        }
    }
}

/// What a member was assigned latest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Previous {
    /// The partitions.
    pub partitions: Vec<TopicPartition>,
    /// The generation of the group in which that was.
    pub generation: i32,
}

/// The assignor of one of the names of `partition.assignment.strategy`: `range`, `roundrobin`, `sticky` or
/// `cooperative-sticky`, or the name of the Java class that Java's clients would be given.
pub fn by_name(name: &str) -> Option<Arc<dyn Assignor>> {
    match name
        .strip_prefix("org.apache.kafka.clients.consumer.")
        .unwrap_or(name)
    {
        "range" | "RangeAssignor" => Some(Arc::new(Range)),
        "roundrobin" | "RoundRobinAssignor" => Some(Arc::new(RoundRobin)),
        "sticky" | "StickyAssignor" => Some(Arc::new(Sticky)),
        "cooperative-sticky" | "CooperativeStickyAssignor" => Some(Arc::new(CooperativeSticky)),
        _ => None,
    }
}

/// A member of the group, as the assignor sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The id the coordinator gave it.
    pub id: Str,
    /// `group.instance.id`, for a static member.
    pub instance_id: Option<Str>,
    /// The topics it subscribes to.
    pub topics: Vec<Str>,
    /// The partitions it still owns from an earlier generation.
    pub owned: Vec<TopicPartition>,
    /// The generation it owns them from.
    pub generation: Option<i32>,
    /// `client.rack`.
    pub rack: Option<Str>,
    /// What its assignor sent along.
    pub user_data: Option<Bytes>,
}

impl Member {
    fn subscribes(&self, topic: &str) -> bool {
        self.topics.iter().any(|t| **t == *topic)
    }
}

/// Indices of `members` in the order in which Java's assignors serve them: static members first, by
/// instance id, which survives restarts; then the others by member id.
fn in_order(members: &[Member]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&members[a], &members[b]);
        match (&a.instance_id, &b.instance_id) {
            (Some(a), Some(b)) => java_order::compare(a, b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => java_order::compare(&a.id, &b.id),
        }
    });
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn member(id: &str, topics: &[&str]) -> Member {
        Member {
            id: id.into(),
            topics: topics.iter().map(|t| (*t).into()).collect(),
            ..Default::default()
        }
    }

    pub(super) fn topics(counts: &[(&str, usize)]) -> GroupTopics {
        counts.iter().copied().collect()
    }

    #[test]
    fn java_class_names_are_understood() {
        let name = "org.apache.kafka.clients.consumer.RoundRobinAssignor";
        assert_eq!(
            by_name(name).map(|a| a.name().to_owned()).as_deref(),
            Some("roundrobin")
        );
        assert_eq!(
            by_name("range").map(|a| a.name().to_owned()).as_deref(),
            Some("range")
        );
        assert!(by_name("ranges").is_none());
    }

    #[test]
    fn static_members_come_first() {
        let mut members = vec![member("a", &[]), member("z", &[]), member("y", &[])];
        members[1].instance_id = Some("2".into());
        members[2].instance_id = Some("1".into());
        assert_eq!(in_order(&members), [2, 1, 0]);
    }

    proptest! {
        /// Every partition of a subscribed topic has one owner, who subscribes to it.
        #[test]
        fn each_partition_goes_to_one_subscriber(
            counts in prop::collection::vec(0..7_usize, 1..5),
            subscriptions in prop::collection::vec(prop::collection::vec(0..5_usize, 0..5), 1..6),
        ) {
            let topics: GroupTopics = counts
                .iter()
                .enumerate()
                .map(|(i, count)| (format!("t{i}"), *count))
                .collect();
            let members: Vec<Member> = subscriptions
                .iter()
                .enumerate()
                .map(|(i, subscribed)| Member {
                    id: format!("m{i}").into(),
                    topics: subscribed.iter().map(|t| format!("t{t}").into()).collect(),
                    ..Default::default()
                })
                .collect();
            for assignor in [&Range as &dyn Assignor, &RoundRobin, &Sticky, &CooperativeSticky] {
                let assignment = assignor.assign(&topics, &members);
                prop_assert_eq!(assignment.len(), members.len());
                let mut given = Vec::new();
                for (member, partitions) in members.iter().zip(&assignment) {
                    for partition in partitions {
                        prop_assert!(member.subscribes(&partition.topic));
                        given.push(partition.clone());
                    }
                }
                given.sort();
                let due: Vec<TopicPartition> = topics
                    .partitions()
                    .filter(|partition| members.iter().any(|m| m.subscribes(&partition.topic)))
                    .collect();
                prop_assert_eq!(given, due);
            }
        }
    }
}
