//! The server's assignors: who shall have which partitions.

use std::collections::{BTreeMap, BTreeSet};

use ottla_wire::Uuid;

use super::message::TopicPartition;

/// A way to share partitions out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assignor {
    /// As evenly as subscriptions allow, and with as few moves as that takes.
    Uniform,
    /// Of each topic a row of partitions to each member, so that topics with the same keys come together.
    Range,
}

/// A member, as far as an assignor looks at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(super) id: &'a str,
    pub(super) instance_id: Option<&'a str>,
    pub(super) topics: &'a BTreeSet<Uuid>,
    /// What it shall have so far.
    pub(super) current: &'a BTreeSet<TopicPartition>,
}

/// What each member shall have, by its id.
pub(crate) type Target = BTreeMap<String, BTreeSet<TopicPartition>>;

impl Assignor {
    /// In order of preference.
    pub(crate) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|assignor| assignor.name() == name)
    }

    /// Gives each partition of the topics that anybody reads to one of those who read it. `partitions` says how many
    /// each topic has.
    pub(super) fn assign(self, wishes: &[Wish<'_>], partitions: &BTreeMap<Uuid, i32>) -> Target {
        let shares = match self {
            Self::Uniform => uniform(wishes, partitions),
            Self::Range => range(wishes, partitions),
        };
        let ids = wishes.iter().map(|wish| wish.id.to_owned());
        ids.zip(shares).collect()
    }
}

fn readers(wishes: &[Wish<'_>], topic: &Uuid) -> Vec<usize> {
    (0..wishes.len())
        .filter(|member| wishes[*member].topics.contains(topic))
        .collect()
}

fn range(wishes: &[Wish<'_>], partitions: &BTreeMap<Uuid, i32>) -> Vec<BTreeSet<TopicPartition>> {
    let mut shares = vec![BTreeSet::new(); wishes.len()];
    for (topic, count) in partitions {
        let mut readers = readers(wishes, topic);
        // A static member keeps its place when it comes back under another id.
        readers.sort_by_key(|member| {
            let wish = &wishes[*member];
            (
                wish.instance_id.is_none(),
                wish.instance_id.unwrap_or(wish.id),
            )
        });
        let count = usize::try_from(*count).unwrap_or(0);
        for partition in 0..count {
            // The first members have one more where it does not come out even.
            let (each, more) = (count / readers.len().max(1), count % readers.len().max(1));
            let place = if partition < more * (each + 1) {
                partition / (each + 1)
            } else {
                more + (partition - more * (each + 1)) / each.max(1)
            };
            if let Some(member) = readers.get(place) {
                shares[*member].insert((*topic, partition as i32));
            }
        }
    }
    shares
}

fn uniform(wishes: &[Wish<'_>], partitions: &BTreeMap<Uuid, i32>) -> Vec<BTreeSet<TopicPartition>> {
    let readers: BTreeMap<Uuid, Vec<usize>> = partitions
        .keys()
        .map(|topic| (*topic, readers(wishes, topic)))
        .collect();
    let mut taken = BTreeSet::new();
    let mut shares: Vec<BTreeSet<TopicPartition>> = wishes
        .iter()
        .map(|wish| {
            let is_there = |(topic, index): &&TopicPartition| {
                wish.topics.contains(topic)
                    && partitions.get(topic).is_some_and(|count| index < count)
            };
            let kept = wish.current.iter().filter(is_there).copied();
            kept.filter(|partition| taken.insert(*partition)).collect()
        })
        .collect();
    // Those with the fewest readers first: they have the least choice.
    let mut topics: Vec<(&Uuid, &Vec<usize>)> = readers.iter().collect();
    topics.sort_by_key(|(_, readers)| readers.len());
    for (topic, readers) in &topics {
        for index in 0..partitions[*topic] {
            let partition = (**topic, index);
            if !taken.contains(&partition)
                && let Some(member) = least_loaded(readers, &shares)
            {
                shares[member].insert(partition);
            }
        }
    }
    // Each move makes the shares more even, so this ends.
    while let Some((from, to, partition)) = next_move(&readers, &shares) {
        shares[from].remove(&partition);
        shares[to].insert(partition);
    }
    shares
}

fn least_loaded(readers: &[usize], shares: &[BTreeSet<TopicPartition>]) -> Option<usize> {
    readers
        .iter()
        .copied()
        .min_by_key(|member| shares[*member].len())
}

/// A partition that moves from a member to one that has at least two less.
fn next_move(
    readers: &BTreeMap<Uuid, Vec<usize>>,
    shares: &[BTreeSet<TopicPartition>],
) -> Option<(usize, usize, TopicPartition)> {
    let mut members: Vec<usize> = (0..shares.len()).collect();
    members.sort_by_key(|member| std::cmp::Reverse(shares[*member].len()));
    let least = members.last().map(|member| shares[*member].len())?;
    for from in members {
        let load = shares[from].len();
        if load < least + 2 {
            return None;
        }
        let mut looked_at = None;
        for partition in shares[from].iter().rev() {
            // Partitions of one topic have the same readers, and stand together.
            if looked_at.replace(partition.0) == Some(partition.0) {
                continue;
            }
            let to = least_loaded(&readers[&partition.0], shares)?;
            if load >= shares[to].len() + 2 {
                return Some((from, to, *partition));
            }
        }
    }
    None
}
