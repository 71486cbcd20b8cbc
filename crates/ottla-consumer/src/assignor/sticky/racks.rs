//! Who is near what, as the sticky assignors heed it: for all topics or for none.

use crate::{
    Str, TopicPartition,
    assignor::{GroupTopics, Member, racks},
};

pub(super) struct Racks<'a> {
    topics: &'a GroupTopics,
    members: &'a [Member],
    /// Whether they are heeded.
    pub(super) heeded: bool,
}

impl<'a> Racks<'a> {
    pub(super) fn new(topics: &'a GroupTopics, members: &'a [Member]) -> Self {
        let partitions: Vec<TopicPartition> = topics.partitions().collect();
        let of: Vec<&[Str]> = partitions.iter().map(|p| topics.racks(p)).collect();
        let heeded = racks::matter(
            members.iter().filter_map(Member::known_rack),
            of.iter().copied(),
        );
        Self {
            topics,
            members,
            heeded,
        }
    }

    /// Whether a member has a rack in which a partition has no replica.
    pub(super) fn mismatch(&self, member: usize, partition: &TopicPartition) -> bool {
        self.heeded
            && self.members[member]
                .known_rack()
                .is_some_and(|rack| !self.topics.racks(partition).contains(rack))
    }

    /// Whether a member has a rack, and a partition a replica in it.
    pub(super) fn match_up(&self, member: usize, partition: &TopicPartition) -> bool {
        self.heeded
            && self.members[member]
                .known_rack()
                .is_some_and(|rack| self.topics.racks(partition).contains(rack))
    }

    /// Puts partitions first that few members are near to.
    pub(super) fn sort(&self, partitions: &mut [TopicPartition]) {
        if self.heeded {
            partitions.sort_by_cached_key(|partition| {
                let near = |member: &usize| self.match_up(*member, partition);
                (0..self.members.len()).filter(near).count()
            });
        }
    }

    /// The first of `members`, looking from `from` on and around, that is near a partition.
    pub(super) fn next_near(
        &self,
        partition: &TopicPartition,
        members: &[usize],
        from: usize,
    ) -> Option<usize> {
        (0..members.len())
            .map(|step| (from + step) % members.len())
            .find(|&place| self.match_up(members[place], partition))
    }
}
