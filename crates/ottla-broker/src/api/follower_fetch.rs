//! Which replica a consumer reads from (KIP-392): its leader, or a follower in the consumer's rack that the leader
//! advises.
//!
//! All nodes share one log, so that a follower has what its leader has; a test may let one lag behind.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use ottla_wire::ErrorCode;

use crate::cluster::PartitionState;
use crate::context::Context;

/// The nodes in a consumer's rack.
#[derive(Debug, Default)]
pub(super) struct Nearby {
    /// Whether followers are read from at all.
    is_on: bool,
    nodes: BTreeSet<i32>,
}

/// As what a node is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Leader,
    Follower,
}

impl Nearby {
    pub(super) fn of(context: &Context, rack: &str) -> Self {
        if !context.shared.options.rack_aware_reads || context.version < RACKS_FROM {
            return Self::default();
        }
        let cluster = context.shared.cluster.read();
        let nodes = cluster.nodes.values();
        let nodes = nodes.filter(|node| !rack.is_empty() && node.rack.as_deref() == Some(rack));
        Self {
            is_on: true,
            nodes: nodes.map(|node| node.id).collect(),
        }
    }

    /// Whether a node may serve the partition to a consumer that believes in `epoch`, and as what.
    pub(super) fn role(
        &self,
        state: &PartitionState,
        node: i32,
        epoch: i32,
    ) -> Result<Role, ErrorCode> {
        if self.is_on && state.is_follower(node) {
            state.check_epoch(epoch)?;
            return Ok(Role::Follower);
        }
        state.check_leader(node, epoch)?;
        Ok(Role::Leader)
    }

    /// The follower that the leader sends a consumer to that is at `offset`: of those that are near and have it, the one
    /// that has most.
    pub(super) fn preferred(&self, state: &PartitionState, offset: i64) -> Option<i32> {
        if state
            .leader
            .is_none_or(|leader| self.nodes.contains(&leader))
        {
            return None;
        }
        let near = state.in_sync.iter().copied().enumerate();
        let near = near.filter(|(_, node)| self.nodes.contains(node));
        let has_it = near.filter(|(_, node)| offset <= state.end_at(*node));
        has_it
            .max_by_key(|(place, node)| (state.end_at(*node), Reverse(*place)))
            .map(|(_, node)| node)
    }
}

/// From here on consumers say where they are.
const RACKS_FROM: i16 = 11;
