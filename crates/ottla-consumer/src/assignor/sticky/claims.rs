//! Who may be believed to own what: of two members that claim a partition the one of the newer generation, and
//! of two of one generation neither.

use std::collections::{HashMap, HashSet};

use super::Had;
use crate::{
    Str, TopicPartition,
    assignor::{GroupTopics, Member},
};

pub(super) struct Claims {
    pub(super) same_subscriptions: bool,
    /// What each member owned and still exists.
    pub(super) owned: Vec<Vec<TopicPartition>>,
    /// What two members of one generation claimed.
    pub(super) disputed: HashSet<TopicPartition>,
    /// The newest generation anyone has; -1 if none.
    pub(super) generation_max: i32,
}

impl Claims {
    pub(super) fn new(
        topics: &GroupTopics,
        members: &[Member],
        order: &[usize],
        had: &[Had],
    ) -> Self {
        let mut owned: Vec<Vec<TopicPartition>> = vec![Vec::new(); members.len()];
        let mut owners: HashMap<&TopicPartition, usize> = HashMap::new();
        let mut disputed = HashSet::new();
        let mut subscribed: Option<HashSet<&Str>> = None;
        let mut same_subscriptions = true;
        let mut generation_max = NONE;
        for &index in order {
            let member = &members[index];
            // Java takes one without topics, whose pattern matches nothing yet, for one that has them all.
            let subscribed = subscribed.get_or_insert_with(|| member.topics.iter().collect());
            // Java looks for each of the member's topics only, so one that is named twice hides one that is not.
            same_subscriptions &= member.topics.len() == subscribed.len()
                && member.topics.iter().collect::<HashSet<_>>() == *subscribed;
            let (partitions, generation) = &had[index];
            let generation = generation.unwrap_or(NONE);
            generation_max = generation_max.max(generation);
            for partition in partitions {
                // A topic that was made anew may have fewer.
                if !exists(topics, partition) {
                    continue;
                }
                let Some(&other) = owners.get(partition) else {
                    owned[index].push(partition.clone());
                    owners.insert(partition, index);
                    continue;
                };
                let others = members[other].generation.unwrap_or(NONE);
                if generation >= others {
                    owned[other].retain(|kept| kept != partition);
                    owners.insert(partition, index);
                }
                if generation == others {
                    disputed.insert(partition.clone());
                } else if generation > others {
                    owned[index].push(partition.clone());
                }
            }
        }
        Self {
            same_subscriptions,
            owned,
            disputed,
            generation_max,
        }
    }
}

fn exists(topics: &GroupTopics, partition: &TopicPartition) -> bool {
    usize::try_from(partition.partition)
        .is_ok_and(|index| index < topics.partition_count(&partition.topic))
}

/// Of a member that has no generation yet.
const NONE: i32 = -1;
