//! Consumer groups: their members, and the offsets they commit.
//!
//! Owns every group of the cluster, whichever node coordinates it. A group's protocol is a plain struct in a
//! module of its own; KIP-848 and share groups have their place beside [`classic`].

pub(crate) mod classic;
pub(crate) mod offsets;

use std::collections::BTreeMap;
use std::time::Instant;

use classic::{Action, ClassicGroup, GroupSettings};
use offsets::Offsets;

/// All groups, by id.
#[derive(Debug)]
pub(crate) struct Groups {
    by_id: BTreeMap<String, Group>,
    settings: GroupSettings,
}

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) classic: ClassicGroup,
    pub(crate) offsets: Offsets,
}

impl Groups {
    pub(crate) fn new(settings: GroupSettings) -> Self {
        Self {
            by_id: BTreeMap::new(),
            settings,
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Group> {
        self.by_id.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Group> {
        self.by_id.get_mut(id)
    }

    pub(crate) fn get_or_create(&mut self, id: &str) -> &mut Group {
        let settings = self.settings;
        self.by_id.entry(id.to_owned()).or_insert_with(|| Group {
            classic: ClassicGroup::new(settings),
            offsets: Offsets::default(),
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.by_id.iter().map(|(id, group)| (id.as_str(), group))
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Group> {
        self.by_id.remove(id)
    }

    pub(crate) fn forget_topic(&mut self, topic: &str) {
        for group in self.by_id.values_mut() {
            group.offsets.remove_topic(topic);
        }
    }

    /// Lets time pass in every group.
    pub(crate) fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for group in self.by_id.values_mut() {
            group.classic.advance(now, actions);
        }
    }

    /// When [`Self::advance`] next has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.by_id
            .values()
            .filter_map(|group| group.classic.next_timeout())
            .min()
    }
}
