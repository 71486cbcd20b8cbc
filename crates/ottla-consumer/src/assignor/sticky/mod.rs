//! `sticky` and `cooperative-sticky`: as even as possible, and of all even distributions one that moves few
//! partitions.
//!
//! | part | does |
//! | --- | --- |
//! | [`claims`] | reads who owned what, and what to believe of it |
//! | [`uniform`] | distributes when all members subscribe to the same topics |
//! | [`general`] | distributes when they do not |
//!
//! The results are Java's, which also means its order of serving members (see [`java_order`](super::java_order)).

mod claims;
mod general;
mod racks;
mod uniform;

use std::collections::HashMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use self::{claims::Claims, general::General, racks::Racks, uniform::Uniform};
use super::{Assignor, GroupTopics, Member, Previous, RebalanceProtocol, java_order};
use crate::{Str, TopicPartition};

/// The `sticky` assignor (KIP-54), which works by eager rebalances. A member tells what it had in its user data.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sticky;

/// The `cooperative-sticky` assignor (KIP-429): the same distribution, reached without a member having to stop
/// reading what it keeps. A partition that changes its owner is given up in one rebalance and handed out in the
/// next. Also works in a group that rebalances eagerly.
#[derive(Debug, Clone, Copy, Default)]
pub struct CooperativeSticky;

impl Assignor for Sticky {
    fn name(&self) -> &str {
        "sticky"
    }

    fn user_data(&self, _topics: &[Str], previous: Option<&Previous>) -> Option<Bytes> {
        // Java's version 1: topics with their partitions, then the generation.
        let previous = previous?;
        let mut topics: Vec<(&Str, Vec<i32>)> = Vec::new();
        let mut places: HashMap<&Str, usize> = HashMap::new();
        for TopicPartition { topic, partition } in &previous.partitions {
            let place = *places.entry(topic).or_insert_with(|| {
                topics.push((topic, Vec::new()));
                topics.len() - 1
            });
            topics[place].1.push(*partition);
        }
        let mut data = BytesMut::new();
        data.put_i32(topics.len() as i32);
        for (topic, partitions) in topics {
            // Topics are named by brokers, which know none longer than 249 characters.
            data.put_i16(topic.len() as i16);
            data.put_slice(topic.as_bytes());
            data.put_i32(partitions.len() as i32);
            for partition in partitions {
                data.put_i32(partition);
            }
        }
        data.put_i32(previous.generation);
        Some(data.freeze())
    }

    fn assign(&self, topics: &GroupTopics, members: &[Member]) -> Vec<Vec<TopicPartition>> {
        distribute(topics, members, had_by_user_data).assignment
    }
}

impl Assignor for CooperativeSticky {
    fn name(&self) -> &str {
        "cooperative-sticky"
    }

    fn rebalance_protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Eager, RebalanceProtocol::Cooperative]
    }

    fn user_data(&self, _topics: &[Str], previous: Option<&Previous>) -> Option<Bytes> {
        let generation = previous.map_or(-1, |previous| previous.generation);
        Some(Bytes::copy_from_slice(&generation.to_be_bytes()))
    }

    fn assign(&self, topics: &GroupTopics, members: &[Member]) -> Vec<Vec<TopicPartition>> {
        let Distribution {
            mut assignment,
            moved,
        } = distribute(topics, members, had_by_subscription);
        // What moves is given up first: its new owner gets it in the rebalance that the old one then asks for.
        let moved = moved.unwrap_or_else(|| owned_by_others(members, &assignment));
        for (partition, to) in moved {
            assignment[to].retain(|kept| *kept != partition);
        }
        assignment
    }
}

/// Who gets what.
struct Distribution {
    /// By member.
    assignment: Vec<Vec<TopicPartition>>,
    /// What is taken from one member and given to another, with whom it goes to, where that is known.
    moved: Option<Vec<(TopicPartition, usize)>>,
}

/// What a member says it had, and since which generation.
type Had = (Vec<TopicPartition>, Option<i32>);

fn distribute(
    topics: &GroupTopics,
    members: &[Member],
    had: impl Fn(&Member) -> Had,
) -> Distribution {
    if members.is_empty() {
        return Distribution {
            assignment: Vec::new(),
            moved: None,
        };
    }
    // Java lists nothing of a topic that nobody subscribes to.
    let mut wanted = GroupTopics::default();
    for (topic, count) in topics.iter() {
        if count > 0 && members.iter().any(|member| member.subscribes(topic)) {
            let racks = (0..count as i32).map(|index| {
                topics
                    .racks(&TopicPartition::new(topic.clone(), index))
                    .to_vec()
            });
            wanted.insert(topic.clone(), racks.collect());
        }
    }
    let order = java_order::of_hash_map(members.iter().map(|member| &*member.id));
    let had: Vec<Had> = members.iter().map(had).collect();
    let claims = Claims::new(&wanted, members, &order, &had);
    let racks = Racks::new(&wanted, members);
    if claims.same_subscriptions {
        Uniform::new(&wanted, members, &order, &racks, claims).distribute()
    } else {
        let assignment = General::new(&wanted, members, &order, &racks, claims).distribute(&had);
        Distribution {
            assignment,
            moved: None,
        }
    }
}

/// Partitions that someone gets whom they did not belong to, and someone else does not get whom they did.
fn owned_by_others(
    members: &[Member],
    assignment: &[Vec<TopicPartition>],
) -> Vec<(TopicPartition, usize)> {
    let mut owners: HashMap<&TopicPartition, Vec<usize>> = HashMap::new();
    for (index, member) in members.iter().enumerate() {
        for partition in &member.owned {
            owners.entry(partition).or_default().push(index);
        }
    }
    let mut moved = Vec::new();
    for (index, partitions) in assignment.iter().enumerate() {
        for partition in partitions {
            if let Some(owners) = owners.get(partition)
                && !owners.contains(&index)
            {
                moved.push((partition.clone(), index));
            }
        }
    }
    moved
}

fn had_by_subscription(member: &Member) -> Had {
    // Members before KIP-792 tell their generation in the user data only.
    let told = || {
        let mut data = member.user_data.clone()?;
        Some(data.try_get_i32().unwrap_or(-1))
    };
    (member.owned.clone(), member.generation.or_else(told))
}

fn had_by_user_data(member: &Member) -> Had {
    let data = member.user_data.clone().filter(|data| !data.is_empty());
    match data.map(previous) {
        Some(Some((partitions, generation))) => (partitions, generation),
        // It makes no sense: whatever it had is not known.
        Some(None) => (Vec::new(), Some(-1)),
        None => (Vec::new(), None),
    }
}

/// Reads the user data of [`Sticky`]; version 0 has no generation.
fn previous(mut data: Bytes) -> Option<(Vec<TopicPartition>, Option<i32>)> {
    let mut partitions = Vec::new();
    for _ in 0..data.try_get_i32().ok()? {
        let len = usize::try_from(data.try_get_i16().ok()?).ok()?;
        if len > data.remaining() {
            return None;
        }
        let topic = Str::try_from(data.split_to(len)).ok()?;
        for _ in 0..data.try_get_i32().ok()? {
            let partition = data.try_get_i32().ok()?;
            partitions.push(TopicPartition::new(topic.clone(), partition));
        }
    }
    Some((partitions, data.try_get_i32().ok()))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    fn tp(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition::new(topic.to_owned(), partition)
    }

    #[test]
    fn a_topic_that_a_subscription_names_twice_does_not_stand_for_another() {
        let topics = topics(&[("a", 2), ("b", 2)]);
        let members = [member("one", &["a", "b"]), member("two", &["a", "a"])];
        let assignment = Sticky.assign(&topics, &members);
        assert!(
            assignment[1].iter().all(|given| *given.topic == *"a"),
            "{assignment:?}"
        );
        assert_eq!(assignment.iter().flatten().count(), 4);
    }

    #[test]
    fn user_data_is_javas() {
        let previous_one = Previous {
            partitions: vec![tp("ab", 3), tp("ab", 1)],
            generation: 7,
        };
        let bytes = b"\0\0\0\x01\0\x02ab\0\0\0\x02\0\0\0\x03\0\0\0\x01\0\0\0\x07";
        let data = Sticky.user_data(&[], Some(&previous_one)).unwrap();
        assert_eq!(&data[..], bytes);
        assert_eq!(
            previous(data),
            Some((previous_one.partitions.clone(), Some(7)))
        );
        assert_eq!(Sticky.user_data(&[], None), None);
        let data = CooperativeSticky.user_data(&[], Some(&previous_one));
        assert_eq!(data.as_deref(), Some(&b"\0\0\0\x07"[..]));
        let data = CooperativeSticky.user_data(&[], None);
        assert_eq!(data.as_deref(), Some(&b"\xff\xff\xff\xff"[..]));
    }

    #[test]
    fn foreign_user_data_is_believed_as_far_as_it_makes_sense() {
        let version_0 = Bytes::from_static(b"\0\0\0\x01\0\x01a\0\0\0\x01\0\0\0\x02");
        assert_eq!(previous(version_0), Some((vec![tp("a", 2)], None)));
        for hostile in [
            &b"\0\0\0\x01\xff\xff"[..],
            b"\x7f\xff\xff\xff",
            b"\0\0\0\x01\0\x01a\x7f\xff\xff\xff\0\0\0\0",
            b"\0\0\0\x01\0\x09a",
            b"!",
        ] {
            assert_eq!(previous(Bytes::from_static(hostile)), None, "{hostile:?}");
        }
    }

    fn owning(id: &str, topics: &[&str], owned: &[TopicPartition], generation: i32) -> Member {
        Member {
            owned: owned.to_vec(),
            generation: Some(generation),
            ..member(id, topics)
        }
    }

    #[test]
    fn what_moves_is_withheld_until_it_is_given_up() {
        let topics = topics(&[("a", 4)]);
        let had: Vec<_> = (0..4).map(|p| tp("a", p)).collect();
        let old = owning("old", &["a"], &had, 1);
        let first = CooperativeSticky.assign(&topics, &[old.clone(), member("new", &["a"])]);
        assert_eq!(first[0], had[..2]);
        assert_eq!(first[1], []);
        let members = [
            owning("old", &["a"], &first[0], 2),
            owning("new", &["a"], &[], 2),
        ];
        let second = CooperativeSticky.assign(&topics, &members);
        assert_eq!(second[0], had[..2]);
        assert_eq!(second[1], had[2..]);
        // The eager one has no such step.
        let user_data = Sticky.user_data(
            &[],
            Some(&Previous {
                partitions: had.clone(),
                generation: 1,
            }),
        );
        let at_once = Sticky.assign(
            &topics,
            &[Member { user_data, ..old }, member("new", &["a"])],
        );
        assert_eq!(at_once[1], had[2..]);
    }

    #[test]
    fn two_who_claim_one_partition_are_both_doubted_and_the_newer_is_believed() {
        let topics = topics(&[("a", 2)]);
        let both = [tp("a", 0)];
        let members = [
            owning("c1", &["a"], &both, 3),
            owning("c2", &["a"], &both, 3),
        ];
        let doubted = CooperativeSticky.assign(&topics, &members);
        let given: usize = doubted.iter().map(Vec::len).sum();
        assert_eq!(given, 1, "neither may have it before both gave it up");
        let members = [
            owning("c1", &["a"], &both, 3),
            owning("c2", &["a"], &both, 4),
        ];
        let newer = CooperativeSticky.assign(&topics, &members);
        assert_eq!(newer[1], both);
    }
}
