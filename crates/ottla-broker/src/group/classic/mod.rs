//! A classic consumer group: who its members are, which generation they agree on, and who waits for it.
//!
//! Owns the membership protocol of JoinGroup, SyncGroup, Heartbeat and LeaveGroup for one group, after the
//! rules of Apache Kafka's group coordinator. Never touches a socket, a clock or a random source: requests
//! and `now` come in, replies come out as [`Action`]s that name the waiter they are for. Offsets live in
//! [`super::offsets`].

mod join;
mod member;
mod message;
mod rebalance;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_wire::ErrorCode;

use super::{CONSUMER, check_instance};

pub(crate) use join::PROTOCOLS_MAX;
pub(crate) use member::Member;
pub(crate) use message::{Action, Join, Joined, Sync, Synced, Waiter};

/// A classic group.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    state: State,
    /// When the group last became empty; only of use in [`State::Empty`].
    empty_since: Instant,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    /// By member id; the order makes assignments and descriptions reproducible.
    members: BTreeMap<String, Member>,
    /// group.instance.id → member id. Every value is a key of `members`.
    instances: HashMap<String, String>,
    /// Member ids that were handed out and not yet used, with the time at which each lapses.
    pending: HashMap<String, Instant>,
    /// Members of this generation that have not asked for their assignment, each a key of `members`.
    unsynced: BTreeSet<String>,
    /// When those in `unsynced` are given up.
    sync_deadline: Option<Instant>,
    settings: GroupSettings,
}

/// What a broker's operator may set about groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupSettings {
    /// `group.min.session.timeout.ms`
    pub(crate) session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`
    pub(crate) session_timeout_max: Duration,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members before its first generation.
    pub(crate) initial_rebalance_delay: Duration,
    /// `group.max.size`
    pub(crate) members_max: usize,
}

/// Where the group stands, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    /// Waits for members to join until the deadline.
    PreparingRebalance {
        deadline: Instant,
        /// Set for the first generation of an empty group, which waits for late comers.
        initial: Option<InitialDelay>,
    },
    /// Waits for the leader's assignment.
    CompletingRebalance,
    Stable,
}

/// How the first generation of a group is delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InitialDelay {
    /// How much longer than until the deadline the group may wait.
    remaining: Duration,
    /// Somebody joined since the delay began, so others may be about to.
    extend: bool,
}

impl ClassicGroup {
    pub(crate) fn new(settings: GroupSettings, now: Instant) -> Self {
        Self {
            state: State::Empty,
            empty_since: now,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            pending: HashMap::new(),
            unsynced: BTreeSet::new(),
            sync_deadline: None,
            settings,
        }
    }

    /// Takes over what a group without members was before the broker was started again.
    pub(crate) fn restore(&mut self, protocol_type: Option<String>) {
        self.protocol_type = protocol_type;
    }

    pub(crate) fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::PreparingRebalance { .. } => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    /// Nobody is a member, so the group may be deleted.
    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Whether ids were handed out whose owners have not come yet.
    pub(crate) fn expects_members(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn is_stable(&self) -> bool {
        self.state == State::Stable
    }

    /// How long the group has had no members; `None` while it has some.
    pub(crate) fn empty_for(&self, now: Instant) -> Option<Duration> {
        self.is_empty()
            .then(|| now.saturating_duration_since(self.empty_since))
    }

    /// What kind of group its first member made it; `None` for groups of simple consumers, which only commit.
    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    /// The members go on in a group of the other kind, which has taken them along: whoever waits is to ask again.
    pub(crate) fn dissolve(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for member in self.members.values() {
            member.refuse(ErrorCode::REBALANCE_IN_PROGRESS, actions);
        }
        *self = Self {
            protocol_type: self.protocol_type.take(),
            generation: self.generation,
            ..Self::new(self.settings, now)
        };
    }

    /// The group was one of the other kind: no generation comes again under the number of an epoch.
    pub(crate) fn go_on_from(&mut self, epoch: i32) {
        self.generation = self.generation.max(epoch);
    }

    /// Whether that many members would not be too many.
    pub(crate) fn has_room_for_all(&self, members: usize) -> bool {
        members <= self.settings.members_max
    }

    /// Members of a group of the other kind make this one, of that generation, and are to join the next.
    pub(crate) fn take_over(
        &mut self,
        generation: i32,
        members: Vec<Member>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        *self = Self::new(self.settings, now);
        self.state = State::Stable;
        self.generation = generation;
        self.protocol_type = Some(CONSUMER.to_owned());
        self.leader = members.first().map(|member| member.id.clone());
        for member in members {
            if let Some(instance) = &member.instance_id {
                self.instances.insert(instance.clone(), member.id.clone());
            }
            self.members.insert(member.id.clone(), member);
        }
        self.protocol = self.select_protocol();
        self.prepare_rebalance(now, actions);
    }

    /// The assignor in force; known once a generation is complete.
    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The metadata that `member` sent for the assignor in force.
    pub(crate) fn metadata_of(&self, member: &Member) -> Bytes {
        self.protocol
            .as_deref()
            .map(|name| member.metadata(name))
            .unwrap_or_default()
    }

    pub(crate) fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> ErrorCode {
        if let Err(error) = self.check_member(member_id, instance_id, Some(generation)) {
            return error;
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now);
        }
        match self.state {
            State::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
            State::PreparingRebalance { .. } => ErrorCode::REBALANCE_IN_PROGRESS,
            State::CompletingRebalance | State::Stable => ErrorCode::NONE,
        }
    }

    /// One member leaves, by member id or, with an empty one, by instance id.
    pub(crate) fn leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> ErrorCode {
        let id = if member_id.is_empty() {
            // An administrator removes static members by the one name he knows.
            match instance_id.and_then(|instance| self.instances.get(instance)) {
                Some(id) => id.clone(),
                None => return ErrorCode::UNKNOWN_MEMBER_ID,
            }
        } else if self.pending.remove(member_id).is_some() {
            self.complete_if_all_joined(now, actions);
            return ErrorCode::NONE;
        } else {
            if let Err(error) = self.check_member(member_id, instance_id, None) {
                return error;
            }
            member_id.to_owned()
        };
        self.remove(&id, ErrorCode::UNKNOWN_MEMBER_ID, actions);
        self.after_departure(now, actions);
        ErrorCode::NONE
    }

    /// Whether a commit by this member of this generation may be taken. Those of a transaction may come from
    /// producers that know nothing of the group, and during a rebalance.
    pub(crate) fn check_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        transactional: bool,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        if generation < 0 && self.is_empty() {
            // A simple consumer or an administrator: nobody's offsets but theirs are there.
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_member(member_id, instance_id, Some(generation))?;
        } else if !transactional && !self.is_empty() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if !transactional && self.state == State::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now);
        }
        Ok(())
    }

    /// Whether the member exists, is not fenced by another with its instance id, and is of this generation.
    fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: Option<i32>,
    ) -> Result<(), ErrorCode> {
        check_instance(&self.instances, member_id, instance_id)?;
        if !self.members.contains_key(member_id) {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        match generation {
            Some(generation) if generation != self.generation => Err(ErrorCode::ILLEGAL_GENERATION),
            _ => Ok(()),
        }
    }

    /// Takes a member out and answers what it waits for with `error`.
    fn remove(&mut self, id: &str, error: ErrorCode, actions: &mut Vec<Action>) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        self.unsynced.remove(id);
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        member.refuse(error, actions);
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }
}
