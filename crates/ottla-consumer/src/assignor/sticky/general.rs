//! The distribution when members subscribe to different topics: keep what may be kept, give the rest to whoever
//! has least, then move single partitions for as long as that makes it more even.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Claims, Had, Racks};
use crate::{
    TopicPartition,
    assignor::{GroupTopics, Member, java_order},
};

pub(super) struct General<'a> {
    members: &'a [Member],
    order: &'a [usize],
    racks: &'a Racks<'a>,
    /// All partitions, those of topics with few readers first. Named by their index from here on.
    partitions: Vec<TopicPartition>,
    index: HashMap<TopicPartition, usize>,
    /// The topic of each partition, by number.
    topic_of: Vec<usize>,
    /// The partitions of each topic.
    of_topic: Vec<std::ops::Range<usize>>,
    /// Who subscribes to each topic.
    readers: Vec<Vec<usize>>,
    /// The topics that each member subscribes to.
    subscribed: Vec<Vec<usize>>,
    /// The place of each member in the order of their ids.
    rank: Vec<usize>,
    /// What each member has. `None` while it takes no part in the balancing.
    assigned: Vec<Option<Vec<usize>>>,
    owner: Vec<Option<usize>>,
    /// Members that take part by how much they have; by id among equals.
    by_load: BTreeSet<(usize, usize, usize)>,
    /// Whether someone has to give up something in any case.
    revokes: bool,
    /// Who had a partition in an older generation.
    before: HashMap<usize, (usize, i32)>,
    generation_max: i32,
    movements: Movements,
}

impl<'a> General<'a> {
    pub(super) fn new(
        topics: &'a GroupTopics,
        members: &'a [Member],
        order: &'a [usize],
        racks: &'a Racks<'a>,
        mut claims: Claims,
    ) -> Self {
        let readers_of = |topic: &str| {
            let readers = order.iter().copied();
            let readers: Vec<usize> = readers
                .filter(|&member| members[member].subscribes(topic))
                .collect();
            readers
        };
        let mut sorted: Vec<_> = topics
            .iter()
            .map(|(topic, count)| (readers_of(topic), topic, count))
            .collect();
        sorted.sort_by(|a, b| a.0.len().cmp(&b.0.len()).then_with(|| a.1.cmp(b.1)));
        let mut partitions = Vec::new();
        let (mut topic_of, mut of_topic) = (Vec::new(), Vec::new());
        let (mut readers, mut subscribed) = (Vec::new(), vec![Vec::new(); members.len()]);
        for (number, (who, topic, count)) in sorted.into_iter().enumerate() {
            of_topic.push(partitions.len()..partitions.len() + count);
            for index in 0..count {
                partitions.push(TopicPartition::new(topic.clone(), index as i32));
                topic_of.push(number);
            }
            for &member in &who {
                subscribed[member].push(number);
            }
            readers.push(who);
        }
        let index: HashMap<TopicPartition, usize> = partitions.iter().cloned().zip(0..).collect();
        let mut by_id: Vec<usize> = (0..members.len()).collect();
        by_id.sort_by(|&a, &b| java_order::compare(&members[a].id, &members[b].id));
        let mut rank = vec![0; members.len()];
        for (place, member) in by_id.into_iter().enumerate() {
            rank[member] = place;
        }
        let mut revokes = false;
        let mut owner = vec![None; partitions.len()];
        let mut assigned = vec![Vec::new(); members.len()];
        for (member, owned) in claims.owned.drain(..).enumerate() {
            for partition in owned {
                let place = index[&partition];
                let subscribes = subscribed[member].contains(&topic_of[place]);
                if !subscribes || racks.mismatch(member, &partition) {
                    revokes = true;
                    continue;
                }
                owner[place] = Some(member);
                assigned[member].push(place);
            }
        }
        Self {
            members,
            order,
            racks,
            partitions,
            index,
            topic_of,
            of_topic,
            readers,
            subscribed,
            rank,
            assigned: assigned.into_iter().map(Some).collect(),
            owner,
            by_load: BTreeSet::new(),
            revokes,
            before: HashMap::new(),
            generation_max: claims.generation_max,
            movements: Movements::default(),
        }
    }

    pub(super) fn distribute(mut self, had: &[Had]) -> Vec<Vec<TopicPartition>> {
        self.note_older_owners(had);
        for member in 0..self.members.len() {
            self.by_load.insert(self.key(member));
        }
        let initializing = self.by_load.last().is_none_or(|(load, ..)| *load == 0);
        let new: Vec<usize> = (0..self.partitions.len())
            .filter(|&partition| self.owner[partition].is_none())
            .collect();
        let mut left = new.clone();
        if self.racks.heeded {
            left.retain(|&partition| !self.give(partition, true));
        }
        for partition in left {
            self.give(partition, false);
        }

        // Only what more than one member may have, and who may have more or other than it has, can be moved.
        let movable = |partition: &usize| self.readers[self.topic_of[*partition]].len() >= 2;
        let all: Vec<usize> = (0..self.partitions.len()).filter(movable).collect();
        let new: Vec<usize> = new.into_iter().filter(movable).collect();
        let mut fixed: Vec<(usize, Vec<usize>)> = Vec::new();
        for member in 0..self.members.len() {
            if !self.takes_part(member) {
                let key = self.key(member);
                self.by_load.remove(&key);
                fixed.extend(self.assigned[member].take().map(|kept| (member, kept)));
            }
        }

        let before = self.assigned.clone();
        if !self.revokes {
            self.move_about(&new);
        }
        let moved = self.move_about(&all);
        if !initializing && moved && score(&self.assigned) >= score(&before) {
            self.assigned = before;
        }
        for (member, kept) in fixed {
            self.assigned[member] = Some(kept);
        }
        let partitions = &self.partitions;
        self.assigned
            .iter()
            .map(|assigned| {
                let assigned = assigned.iter().flatten();
                assigned.map(|&place| partitions[place].clone()).collect()
            })
            .collect()
    }

    /// Notes to whom partitions belonged in older generations: they go back there if that helps.
    fn note_older_owners(&mut self, had: &[Had]) {
        for &member in self.order {
            let (partitions, generation) = &had[member];
            let generation = match generation {
                Some(generation) if *generation < self.generation_max => *generation,
                None if self.generation_max > -1 => -1,
                _ => continue,
            };
            for partition in partitions {
                let Some(&place) = self.index.get(partition) else {
                    continue;
                };
                // Java would give it back to one that no longer subscribes to it.
                if !self.subscribed[member].contains(&self.topic_of[place]) {
                    continue;
                }
                let before = self.before.entry(place).or_insert((member, generation));
                if generation > before.1 {
                    *before = (member, generation);
                }
            }
        }
    }

    fn key(&self, member: usize) -> (usize, usize, usize) {
        (self.load(member), self.rank[member], member)
    }

    fn load(&self, member: usize) -> usize {
        self.assigned[member].as_ref().map_or(0, Vec::len)
    }

    fn reads(&self, member: usize, partition: usize) -> bool {
        self.subscribed[member].contains(&self.topic_of[partition])
    }

    /// Gives a partition to the member that has least of those that may have it.
    fn give(&mut self, partition: usize, near: bool) -> bool {
        let name = &self.partitions[partition];
        let suits = |&(_, _, member): &(usize, usize, usize)| {
            self.reads(member, partition) && !(near && self.racks.mismatch(member, name))
        };
        let Some(key) = self.by_load.iter().copied().find(suits) else {
            return false;
        };
        let member = key.2;
        self.by_load.remove(&key);
        self.assigned[member]
            .get_or_insert_default()
            .push(partition);
        self.owner[partition] = Some(member);
        self.by_load.insert(self.key(member));
        true
    }

    /// The most that a member can get.
    fn load_max(&self, member: usize) -> usize {
        let topics = self.subscribed[member].iter();
        topics.map(|&topic| self.of_topic[topic].len()).sum()
    }

    fn takes_part(&self, member: usize) -> bool {
        self.load(member) < self.load_max(member)
            || self.assigned[member]
                .iter()
                .flatten()
                .any(|&partition| self.readers[self.topic_of[partition]].len() >= 2)
    }

    fn is_balanced(&self) -> bool {
        let (Some(least), Some(most)) = (self.by_load.first(), self.by_load.last()) else {
            return true;
        };
        if least.0 + 1 >= most.0 {
            return true;
        }
        self.by_load.iter().all(|&(load, _, member)| {
            load == self.load_max(member)
                || self.subscribed[member].iter().all(|&topic| {
                    let owners = self.owner[self.of_topic[topic].clone()].iter().flatten();
                    owners
                        .filter(|&&owner| owner != member)
                        .all(|&owner| self.load(owner) <= load + 1)
                })
        })
    }

    /// Moves partitions to members with less until that does not help any more. Whether any was moved.
    fn move_about(&mut self, movable: &[usize]) -> bool {
        // Each move makes it more even, so that this many are never needed.
        let mut left = self.partitions.len().saturating_mul(self.members.len());
        let mut moved = false;
        loop {
            let mut again = false;
            for &partition in movable {
                if left == 0 || self.is_balanced() {
                    break;
                }
                let Some(owner) = self.owner[partition] else {
                    continue;
                };
                let load = self.load(owner);
                let earlier = self.before.get(&partition).map(|(member, _)| *member);
                let back = earlier.filter(|&member| {
                    self.assigned[member].is_some() && load > self.load(member) + 1
                });
                let to = back.or_else(|| {
                    let readers = &self.readers[self.topic_of[partition]];
                    let helps = readers.iter().any(|&other| load > self.load(other) + 1);
                    let reads = |key: &&(usize, usize, usize)| self.reads(key.2, partition);
                    let least = || self.by_load.iter().find(reads).map(|key| key.2);
                    helps.then(least).flatten()
                });
                if let Some(to) = to {
                    self.reassign(partition, owner, to);
                    (again, moved) = (true, true);
                    left -= 1;
                }
            }
            if !again {
                return moved;
            }
        }
    }

    fn reassign(&mut self, partition: usize, from: usize, to: usize) {
        let topic = self.topic_of[partition];
        let hash = |place: usize| java_order::partition_hash(&self.partitions[place]);
        let partition = self.movements.really(topic, partition, from, to, hash);
        let Some(from) = self.owner[partition] else {
            return;
        };
        if from == to {
            return;
        }
        self.by_load.remove(&self.key(from));
        self.by_load.remove(&self.key(to));
        self.movements.note(topic, partition, from, to);
        if let Some(assigned) = &mut self.assigned[from]
            && let Some(place) = assigned.iter().position(|&other| other == partition)
        {
            assigned.swap_remove(place);
        }
        self.assigned[to].get_or_insert_default().push(partition);
        self.owner[partition] = Some(to);
        self.by_load.insert(self.key(to));
        self.by_load.insert(self.key(from));
    }
}

/// How uneven it is: the sum of the differences between any two members.
fn score(assigned: &[Option<Vec<usize>>]) -> u64 {
    let loads: Vec<usize> = assigned.iter().flatten().map(Vec::len).collect();
    let pairs = loads.iter().enumerate().flat_map(|(index, a)| {
        let others = loads[index + 1..].iter();
        others.map(|b| a.abs_diff(*b) as u64)
    });
    pairs.sum()
}

/// What was moved from whom to whom. Of two partitions of one topic that would change places, neither is moved.
#[derive(Default)]
struct Movements {
    moved: HashMap<usize, (usize, usize)>,
    by_topic: BTreeMap<usize, HashMap<(usize, usize), Moved>>,
}

/// The partitions that moved between two members, in the order in which they came.
#[derive(Default)]
struct Moved {
    partitions: Vec<usize>,
    len_max: usize,
}

impl Movements {
    /// The partition to move instead of this one: one that came the other way.
    fn really(
        &self,
        topic: usize,
        partition: usize,
        from: usize,
        to: usize,
        hash: impl Fn(usize) -> u32,
    ) -> usize {
        let from = self.moved.get(&partition).map_or(from, |moved| moved.0);
        let back = self.by_topic.get(&topic).and_then(|of| of.get(&(to, from)));
        let Some(back) = back else { return partition };
        let first = back.partitions.iter().copied();
        first
            .min_by_key(|&place| java_order::bucket(hash(place), back.len_max))
            .unwrap_or(partition)
    }

    fn note(&mut self, topic: usize, partition: usize, from: usize, to: usize) {
        let mut pair = (from, to);
        if let Some(earlier) = self.moved.remove(&partition) {
            if let Some(of) = self.by_topic.get_mut(&topic)
                && let Some(moved) = of.get_mut(&earlier)
            {
                moved.partitions.retain(|&other| other != partition);
                if moved.partitions.is_empty() {
                    of.remove(&earlier);
                }
            }
            if earlier.0 == to {
                return; // It is back where it was.
            }
            pair = (earlier.0, to);
        }
        self.moved.insert(partition, pair);
        let moved = self
            .by_topic
            .entry(topic)
            .or_default()
            .entry(pair)
            .or_default();
        moved.partitions.push(partition);
        moved.len_max = moved.len_max.max(moved.partitions.len());
    }
}
