//! Which broker a partition is fetched from: its leader, or the follower that the leader advises because it
//! is nearer (KIP-392).
//!
//! The advice holds for a while and until anything goes wrong with the follower; then the leader is asked
//! again, and may give it anew. Where the log begins and ends is always the leader's to say.

use std::time::{Duration, Instant};

use super::{Core, Leader};

impl<D> Core<D> {
    /// Metadata names a leader, or none. What another one advised is void.
    pub(super) fn set_leader(&mut self, slot: u32, leader: Option<Leader>) {
        let Some(partition) = self.at_mut(slot) else {
            return;
        };
        let before = partition.source();
        let old = std::mem::replace(&mut partition.leader, leader);
        if old.map(|leader| leader.node) != leader.map(|leader| leader.node) {
            partition.preferred = None;
        }
        self.effects.refresh_metadata |= leader.is_none();
        self.move_from(slot, before);
    }

    /// The leader advises to fetch from a follower.
    pub(super) fn ask_follower(&mut self, slot: u32, node: i32, now: Instant) {
        let Some(partition) = self.at_mut(slot) else {
            return;
        };
        let before = partition.source();
        if before == Some(node) {
            // It sends us to itself: at leisure.
            return self.retry_later(slot, now);
        }
        let until = now + ADVICE_AGE_MAX;
        partition.preferred = Some((node, until));
        self.move_from(slot, before);
        if let Some(broker) = self.brokers.get_mut(&node) {
            broker.delayed.insert((until, slot));
        }
    }

    /// Back to the leader.
    pub(super) fn ask_leader(&mut self, slot: u32) {
        let Some(partition) = self.at_mut(slot) else {
            return;
        };
        let before = partition.source();
        partition.preferred = None;
        self.move_from(slot, before);
    }

    /// Goes back to the leader if its advice is too old to be relied upon.
    pub(super) fn check_advice(&mut self, slot: u32, now: Instant) {
        let preferred = self.at(slot).and_then(|partition| partition.preferred);
        if preferred.is_some_and(|(_, until)| until <= now) {
            self.ask_leader(slot);
        }
    }

    /// Moves a partition, with the bytes that are counted for it, from the broker it was fetched from to its
    /// present one.
    fn move_from(&mut self, slot: u32, before: Option<i32>) {
        let Some(partition) = self.at(slot) else {
            return;
        };
        let after = partition.source();
        let bytes = if partition.paused {
            0
        } else {
            partition.queued_bytes
        };
        let name = partition.name.clone();
        if before != after {
            if let Some(broker) = before.and_then(|node| self.brokers.get_mut(&node)) {
                broker.session.set(&name, None);
                broker.partitions.remove(&slot);
                broker.full.remove(&slot);
                broker.queued_bytes -= bytes;
            }
            // Its loop may have to end, or has room now.
            self.effects.brokers.extend(before);
            if let Some(node) = after {
                let broker = self.brokers.entry(node).or_default();
                broker.partitions.insert(slot);
                broker.queued_bytes += bytes;
                self.effects.new_broker |= !broker.has_loop;
            }
        }
        self.note_wanted(slot);
    }
}

/// How long a leader's advice holds: as long as metadata does.
const ADVICE_AGE_MAX: Duration = Duration::from_secs(300);
