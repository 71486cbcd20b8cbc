//! JoinGroup: who is let in, under which id, and whether that takes a new generation.

use std::time::{Duration, Instant};

use ottla_wire::ErrorCode;

use super::{Action, ClassicGroup, InitialDelay, Join, Joined, Member, State, Waiter};

impl ClassicGroup {
    /// A member asks to join. The reply is an action, now or when the generation is complete.
    pub(crate) fn join(
        &mut self,
        waiter: Waiter,
        join: Join,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if let Err((error, member_id)) = self.try_join(waiter, join, now, actions) {
            actions.push(Action::Joined(waiter, Joined::refused(error, &member_id)));
        }
    }

    /// Whether a member may have such a `session.timeout.ms`.
    pub(crate) fn takes_session(&self, timeout: Duration) -> bool {
        let settings = self.settings;
        (settings.session_timeout_min..=settings.session_timeout_max).contains(&timeout)
    }

    fn try_join(
        &mut self,
        waiter: Waiter,
        join: Join,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Result<(), (ErrorCode, String)> {
        let refuse = |error| Err((error, join.member_id.clone()));
        if !self.takes_session(join.session_timeout) {
            return refuse(ErrorCode::INVALID_SESSION_TIMEOUT);
        }
        if !self.has_room_for(&join.member_id) {
            self.remove(&join.member_id, ErrorCode::UNKNOWN_MEMBER_ID, actions);
            self.after_departure(now, actions);
            return Err((ErrorCode::GROUP_MAX_SIZE_REACHED, String::new()));
        }
        if !self.accepts_protocols(&join) {
            return refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if join.member_id.is_empty() {
            return self.join_new(waiter, join, now, actions);
        }
        if join.instance_id.is_none() && self.pending.remove(&join.member_id).is_some() {
            let id = join.member_id.clone();
            self.add_member(id, waiter, join, now, actions);
            return Ok(());
        }
        if let Err(error) = self.check_member(&join.member_id, join.instance_id.as_deref(), None) {
            return refuse(error);
        }
        self.rejoin(waiter, join, now, actions);
        Ok(())
    }

    /// Whether the group takes this member, with those it has and, during a rebalance, those that came back.
    fn has_room_for(&self, member_id: &str) -> bool {
        let max = self.settings.members_max;
        let known = self.members.get(member_id);
        match self.state {
            State::Empty => self.pending.len() < max,
            State::PreparingRebalance { .. } => {
                let back = self.members.values().filter(|m| m.joining.is_some());
                known.is_some_and(|member| member.joining.is_some()) || back.count() < max
            }
            State::CompletingRebalance | State::Stable => {
                let told = self.pending.contains_key(member_id) && self.members.len() < max;
                known.is_some() || told || self.members.len() + self.pending.len() < max
            }
        }
    }

    fn accepts_protocols(&self, join: &Join) -> bool {
        // Each is looked for among those of all members, while all groups wait.
        if join.protocols.len() > PROTOCOLS_MAX {
            return false;
        }
        if self.is_empty() {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(join.protocol_type.as_str())
            && join
                .protocols
                .iter()
                .any(|(name, _)| self.members.values().all(|member| member.supports(name)))
    }

    fn join_new(
        &mut self,
        waiter: Waiter,
        join: Join,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Result<(), (ErrorCode, String)> {
        let id = join.new_id();
        match &join.instance_id {
            Some(instance) => {
                if let Some(old) = self.instances.get(instance).cloned() {
                    self.replace_static(&old, id, waiter, join, now, actions);
                    return Ok(());
                }
            }
            None if join.must_know_its_id => {
                self.pending.insert(id.clone(), now + join.session_timeout);
                return Err((ErrorCode::MEMBER_ID_REQUIRED, id));
            }
            None => {}
        }
        self.add_member(id, waiter, join, now, actions);
        Ok(())
    }

    fn add_member(
        &mut self,
        id: String,
        waiter: Waiter,
        join: Join,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if let Some(instance) = &join.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members
            .insert(id.clone(), Member::new(id.clone(), waiter, join, now));
        self.leader.get_or_insert(id);
        if let State::PreparingRebalance {
            initial: Some(InitialDelay { extend, .. }),
            ..
        } = &mut self.state
        {
            *extend = true;
        }
        self.prepare_rebalance(now, actions);
    }

    /// A static member came back under its instance id: it takes its place over, and whoever still uses
    /// the old member id is fenced (KIP-345).
    fn replace_static(
        &mut self,
        old: &str,
        id: String,
        waiter: Waiter,
        join: Join,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(member) = self.members.remove(old) else {
            return;
        };
        member.refuse(ErrorCode::FENCED_INSTANCE_ID, actions);
        if let Some(instance) = &join.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        if self.unsynced.remove(old) {
            self.unsynced.insert(id.clone());
        }
        let known_leader = self.leader.clone();
        let leads = known_leader.as_deref() == Some(old);
        if leads {
            self.leader = Some(id.clone());
        }
        let can_skip = join.can_skip_assignment;
        let mut fresh = Member::new(id.clone(), waiter, join, now);
        fresh.assignment = member.assignment;
        fresh.is_new = false;
        fresh.touch(now);
        self.members.insert(id.clone(), fresh);
        // Whatever its new subscription says: it gets its old assignment, which only a rebalance could change.
        if self.is_stable() && self.select_protocol() == self.protocol {
            if let Some(member) = self.members.get_mut(&id) {
                member.joining = None;
            }
            let mut joined = self.joined(&id);
            joined.skip_assignment = leads && can_skip;
            if leads && !can_skip {
                // Told that it leads, it would bring an assignment that nobody asked for; the old id is nobody's.
                joined.leader = known_leader.unwrap_or_default();
                joined.members = Vec::new();
            }
            actions.push(Action::Joined(waiter, joined));
            return;
        }
        self.prepare_rebalance(now, actions);
    }

    fn rejoin(&mut self, waiter: Waiter, join: Join, now: Instant, actions: &mut Vec<Action>) {
        let id = join.member_id.clone();
        let is_leader = self.leader.as_deref() == Some(id.as_str());
        let state = self.state;
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let same = member.protocols == join.protocols;
        // A second JoinGroup of one member takes the first one's place.
        if let Some(earlier) = member.joining.take() {
            actions.push(Action::Joined(
                earlier,
                Joined::refused(ErrorCode::REBALANCE_IN_PROGRESS, &id),
            ));
        }
        member.touch(now);
        let repeats_a_lost_reply = match state {
            State::CompletingRebalance => same,
            State::Stable => same && !is_leader,
            State::Empty | State::PreparingRebalance { .. } => false,
        };
        if repeats_a_lost_reply {
            let joined = self.joined(&id);
            actions.push(Action::Joined(waiter, joined));
            return;
        }
        member.protocols = join.protocols;
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        member.client_id = join.client_id;
        member.client_host = join.client_host;
        member.joining = Some(waiter);
        self.prepare_rebalance(now, actions);
    }

    /// The reply to a member of the present generation.
    pub(super) fn joined(&self, id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let members = if leader == id {
            self.members
                .values()
                .map(|m| (m.id.clone(), m.instance_id.clone(), self.metadata_of(m)))
                .collect()
        } else {
            Vec::new()
        };
        Joined {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader,
            member_id: id.to_owned(),
            skip_assignment: false,
            members,
        }
    }
}

/// Assignors that a member may support.
pub(crate) const PROTOCOLS_MAX: usize = 100;
