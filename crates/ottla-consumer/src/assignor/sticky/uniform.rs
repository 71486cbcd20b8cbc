//! The distribution when all members subscribe to the same topics: each gets `quota_min` partitions, and as many
//! as there are left over get one more.

use std::collections::{HashMap, HashSet};

use super::{Claims, Distribution, Racks};
use crate::{
    TopicPartition,
    assignor::{GroupTopics, Member, java_order},
};

pub(super) struct Uniform<'a> {
    topics: &'a GroupTopics,
    members: &'a [Member],
    order: &'a [usize],
    racks: &'a Racks<'a>,
    claims: Claims,
    quota_min: usize,
    quota_max: usize,
    /// How many members get `quota_max`, if that is more than `quota_min`.
    over_min_due: usize,
    /// How many have it by now.
    over_min: usize,
    /// Members that lack something to `quota_min`.
    below_min: Vec<usize>,
    /// Members with `quota_min` that may get one more.
    at_min: Vec<usize>,
    assignment: Vec<Vec<TopicPartition>>,
    /// What members may have to give up, and who.
    given_up: HashMap<TopicPartition, usize>,
    moved: Vec<(TopicPartition, usize)>,
    /// Where in `below_min` to look first for a neighbour.
    turn: usize,
}

impl<'a> Uniform<'a> {
    pub(super) fn new(
        topics: &'a GroupTopics,
        members: &'a [Member],
        order: &'a [usize],
        racks: &'a Racks<'a>,
        claims: Claims,
    ) -> Self {
        let partitions: usize = topics.iter().map(|(_, count)| count).sum();
        Self {
            topics,
            members,
            order,
            racks,
            claims,
            quota_min: partitions / members.len(),
            quota_max: partitions.div_ceil(members.len()),
            over_min_due: partitions % members.len(),
            over_min: 0,
            below_min: Vec::new(),
            at_min: Vec::new(),
            assignment: vec![Vec::new(); members.len()],
            given_up: HashMap::new(),
            moved: Vec::new(),
            turn: 0,
        }
    }

    pub(super) fn distribute(mut self) -> Distribution {
        self.keep_owned();
        let kept: HashSet<&TopicPartition> = self.assignment.iter().flatten().collect();
        let mut left: Vec<TopicPartition> = self
            .topics
            .partitions()
            .filter(|partition| !kept.contains(partition))
            .collect();
        let by_id =
            |a: &usize, b: &usize| java_order::compare(&self.members[*a].id, &self.members[*b].id);
        self.below_min.sort_by(by_id);
        self.at_min.sort_by(by_id);
        self.racks.sort(&mut left);
        if self.racks.heeded {
            left.retain(|partition| !self.give_to_neighbour(partition));
        }
        self.give_in_turns(left);
        Distribution {
            assignment: self.assignment,
            moved: Some(self.moved),
        }
    }

    /// Members keep what they own, up to their quota.
    fn keep_owned(&mut self) {
        for &member in self.order {
            let mut owned = std::mem::take(&mut self.claims.owned[member]);
            owned.retain(|partition| {
                let mismatch = self.racks.mismatch(member, partition);
                if mismatch {
                    self.given_up.insert(partition.clone(), member);
                }
                !mismatch && !self.claims.disputed.contains(partition)
            });
            owned.sort_by(|a, b| {
                let topics = || a.topic.cmp(&b.topic);
                a.partition.cmp(&b.partition).then_with(topics)
            });
            let keep = if owned.len() < self.quota_min {
                self.below_min.push(member);
                owned.len()
            } else if owned.len() >= self.quota_max && self.over_min < self.over_min_due {
                self.note_over_min();
                self.quota_max
            } else {
                if self.over_min < self.over_min_due {
                    self.at_min.push(member);
                }
                self.quota_min
            };
            for partition in owned.drain(keep..) {
                self.given_up.insert(partition, member);
            }
            self.assignment[member] = owned;
        }
    }

    fn note_over_min(&mut self) {
        self.over_min += 1;
        if self.over_min == self.over_min_due {
            self.at_min.clear();
        }
    }

    /// Gives a partition to a member near it that may still get one. Whether there is one.
    fn give_to_neighbour(&mut self, partition: &TopicPartition) -> bool {
        // Java goes on behind the member that it served last.
        if let Some(place) = self.racks.next_near(partition, &self.below_min, self.turn) {
            let member = self.below_min[place];
            let count = self.assignment[member].len() + 1;
            let mut next = place;
            if count >= self.quota_min {
                self.below_min.remove(place);
                if count < self.quota_max && self.over_min < self.over_min_due {
                    self.at_min.push(member);
                }
            } else {
                next += 1;
            }
            self.turn = next.checked_rem(self.below_min.len()).unwrap_or(0);
            self.give(partition, member);
            return true;
        }
        let Some(place) = self.racks.next_near(partition, &self.at_min, 0) else {
            return false;
        };
        let member = self.at_min[place];
        if self.assignment[member].len() + 1 == self.quota_max {
            self.at_min.remove(place);
            self.note_over_min();
        }
        self.give(partition, member);
        true
    }

    /// Deals out what is left: first to those below the lower quota, in turns, then one each.
    fn give_in_turns(&mut self, left: Vec<TopicPartition>) {
        let mut turn = 0;
        for partition in left {
            if self.below_min.is_empty() {
                let member = match self.at_min.is_empty() {
                    false => self.at_min.remove(0),
                    // The quotas add up to what there is, so that this is never reached.
                    true => self.least_loaded(),
                };
                self.give(&partition, member);
                continue;
            }
            if turn >= self.below_min.len() {
                turn = 0;
            }
            let member = self.below_min[turn];
            self.give(&partition, member);
            if self.assignment[member].len() == self.quota_min {
                self.below_min.remove(turn);
                self.at_min.push(member);
            } else {
                turn += 1;
            }
        }
    }

    fn give(&mut self, partition: &TopicPartition, member: usize) {
        let before = self.given_up.get(partition);
        if before.is_some_and(|before| *before != member)
            || self.claims.disputed.contains(partition)
        {
            self.moved.push((partition.clone(), member));
        }
        self.assignment[member].push(partition.clone());
    }

    fn least_loaded(&self) -> usize {
        let members = 0..self.members.len();
        members
            .min_by_key(|&member| self.assignment[member].len())
            .unwrap_or(0)
    }
}
