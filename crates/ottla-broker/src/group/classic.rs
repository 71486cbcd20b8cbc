//! A classic consumer group: who its members are, which generation they agree on, and who waits for it.
//!
//! Owns the membership protocol of JoinGroup, SyncGroup, Heartbeat and LeaveGroup for one group, after the
//! rules of Apache Kafka's group coordinator. Never touches a socket, a clock or a random source: requests
//! and `now` come in, replies come out as [`Action`]s that name the waiter they are for. Offsets live in
//! [`super::offsets`].

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_wire::ErrorCode;

/// Names one parked request; the driver knows whose it is.
pub(crate) type Waiter = u64;

/// A classic group.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    state: State,
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
    settings: GroupSettings,
}

/// What a broker's operator may set about groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupSettings {
    pub(crate) session_timeout_min: Duration,
    pub(crate) session_timeout_max: Duration,
    /// How long an empty group waits for more members before its first generation.
    pub(crate) initial_rebalance_delay: Duration,
    pub(crate) members_max: usize,
}

/// What JoinGroup says, whatever its version.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    /// From version 4 a new member is first told its id, and joins with it.
    pub(crate) must_know_its_id: bool,
    /// From version 9 a leader can be told that its assignment still stands.
    pub(crate) can_skip_assignment: bool,
    /// Makes the new member's id unique; drawn by the driver.
    pub(crate) unique: u128,
}

/// The answer to a [`Join`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Joined {
    pub(crate) error: ErrorCode,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) member_id: String,
    pub(crate) skip_assignment: bool,
    /// Only the leader gets these: member id, instance id, metadata.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
}

/// What SyncGroup says.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// The answer to a [`Sync`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Synced {
    pub(crate) error: ErrorCode,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

/// A reply that is due.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Joined(Waiter, Joined),
    Synced(Waiter, Synced),
}

/// Where the group stands, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    /// Waits for members to join until the deadline.
    PreparingRebalance {
        deadline: Instant,
        /// The first generation of an empty group may wait on for late comers, up to this time.
        extendable_until: Option<Instant>,
    },
    /// Waits for the leader's assignment until the deadline.
    CompletingRebalance {
        deadline: Instant,
    },
    Stable,
}

/// A member as DescribeGroups shows it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) assignment: Bytes,
    protocols: Vec<(String, Bytes)>,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    /// When the member counts as gone; does not run while it waits for a reply of ours.
    expires: Instant,
    joining: Option<Waiter>,
    syncing: Option<Waiter>,
}

impl ClassicGroup {
    pub(crate) fn new(settings: GroupSettings) -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            pending: HashMap::new(),
            settings,
        }
    }

    pub(crate) fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::PreparingRebalance { .. } => "PreparingRebalance",
            State::CompletingRebalance { .. } => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
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

    fn try_join(
        &mut self,
        waiter: Waiter,
        join: Join,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Result<(), (ErrorCode, String)> {
        let member_id = join.member_id.clone();
        let refuse = |error| Err((error, member_id));
        if join.session_timeout < self.settings.session_timeout_min
            || join.session_timeout > self.settings.session_timeout_max
        {
            return refuse(ErrorCode::INVALID_SESSION_TIMEOUT);
        }
        if !self.accepts_protocols(&join) {
            return refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if join.member_id.is_empty() {
            return self.join_new(waiter, join, now, actions);
        }
        if let Some(instance) = &join.instance_id {
            match self.instances.get(instance) {
                None => return refuse(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(id) if *id != join.member_id => return refuse(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.pending.remove(&join.member_id).is_some() {
            let id = join.member_id.clone();
            self.add_member(id, waiter, join, now, actions);
            return Ok(());
        }
        if !self.members.contains_key(&join.member_id) {
            return refuse(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.rejoin(waiter, join, now, actions);
        Ok(())
    }

    fn join_new(
        &mut self,
        waiter: Waiter,
        join: Join,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Result<(), (ErrorCode, String)> {
        let prefix = join.instance_id.as_deref().unwrap_or(&join.client_id);
        let id = format!("{prefix}-{}", hyphenated(join.unique));
        if let Some(instance) = &join.instance_id {
            if let Some(old) = self.instances.get(instance).cloned() {
                self.replace_static(&old, id, waiter, join, now, actions);
                return Ok(());
            }
        } else if join.must_know_its_id {
            if self.members.len() + self.pending.len() >= self.settings.members_max {
                return Err((ErrorCode::GROUP_MAX_SIZE_REACHED, String::new()));
            }
            self.pending.insert(id.clone(), now + join.session_timeout);
            return Err((ErrorCode::MEMBER_ID_REQUIRED, id));
        }
        if self.members.len() >= self.settings.members_max {
            return Err((ErrorCode::GROUP_MAX_SIZE_REACHED, String::new()));
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
            deadline,
            extendable_until: Some(until),
        } = &mut self.state
        {
            *deadline = (now + self.settings.initial_rebalance_delay).min(*until);
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
        let Some(mut member) = self.members.remove(old) else {
            return;
        };
        if let Some(waiting) = member.joining.take() {
            actions.push(Action::Joined(
                waiting,
                Joined::refused(ErrorCode::FENCED_INSTANCE_ID, old),
            ));
        }
        if let Some(waiting) = member.syncing.take() {
            actions.push(Action::Synced(
                waiting,
                Synced::refused(ErrorCode::FENCED_INSTANCE_ID),
            ));
        }
        if let Some(instance) = &join.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        let was_leader = self.leader.as_deref() == Some(old);
        if was_leader {
            self.leader = Some(id.clone());
        }
        let same_protocols = member.protocols == join.protocols;
        let can_skip = join.can_skip_assignment;
        let assignment = member.assignment.clone();
        let mut fresh = Member::new(id.clone(), waiter, join, now);
        fresh.assignment = assignment;
        if self.state == State::Stable && same_protocols && (!was_leader || can_skip) {
            fresh.joining = None;
            self.members.insert(id.clone(), fresh);
            let mut joined = self.joined(&id);
            joined.skip_assignment = was_leader;
            actions.push(Action::Joined(waiter, joined));
            return;
        }
        self.members.insert(id, fresh);
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
            State::CompletingRebalance { .. } => same,
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

    /// A member asks for its assignment; the leader brings everybody's.
    pub(crate) fn sync(
        &mut self,
        waiter: Waiter,
        sync: Sync,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let refused = self.check_member(
            &sync.member_id,
            sync.instance_id.as_deref(),
            sync.generation,
        );
        let inconsistent = sync.protocol_type.is_some() && sync.protocol_type != self.protocol_type
            || sync.protocol.is_some() && sync.protocol != self.protocol;
        let state = self.state;
        let error = match (refused, state) {
            (Err(error), _) => error,
            (Ok(()), _) if inconsistent => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
            (Ok(()), State::Empty) => ErrorCode::UNKNOWN_MEMBER_ID,
            (Ok(()), State::PreparingRebalance { .. }) => ErrorCode::REBALANCE_IN_PROGRESS,
            (Ok(()), State::CompletingRebalance { .. } | State::Stable) => ErrorCode::NONE,
        };
        if error != ErrorCode::NONE {
            actions.push(Action::Synced(waiter, Synced::refused(error)));
            return;
        }
        if let Some(member) = self.members.get_mut(&sync.member_id) {
            member.touch(now);
            if let Some(earlier) = member.syncing.replace(waiter) {
                actions.push(Action::Synced(
                    earlier,
                    Synced::refused(ErrorCode::REBALANCE_IN_PROGRESS),
                ));
            }
        }
        if let State::CompletingRebalance { .. } = state {
            if self.leader.as_deref() != Some(sync.member_id.as_str()) {
                return;
            }
            for member in self.members.values_mut() {
                member.assignment = Bytes::new();
            }
            for (id, assignment) in sync.assignments {
                if let Some(member) = self.members.get_mut(&id) {
                    member.assignment = assignment;
                }
            }
            self.state = State::Stable;
        }
        self.answer_syncs(now, actions);
    }

    fn answer_syncs(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for member in self.members.values_mut() {
            if let Some(waiter) = member.syncing.take() {
                member.touch(now);
                let synced = Synced {
                    error: ErrorCode::NONE,
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment: member.assignment.clone(),
                };
                actions.push(Action::Synced(waiter, synced));
            }
        }
    }

    pub(crate) fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> ErrorCode {
        if let Err(error) = self.check_member(member_id, instance_id, generation) {
            return error;
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now);
        }
        match self.state {
            State::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
            State::PreparingRebalance { .. } => ErrorCode::REBALANCE_IN_PROGRESS,
            State::CompletingRebalance { .. } | State::Stable => ErrorCode::NONE,
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
        let id = match instance_id {
            Some(instance) => match self.instances.get(instance) {
                None => return ErrorCode::UNKNOWN_MEMBER_ID,
                Some(id) if !member_id.is_empty() && id != member_id => {
                    return ErrorCode::FENCED_INSTANCE_ID;
                }
                Some(id) => id.clone(),
            },
            None if self.pending.remove(member_id).is_some() => {
                self.complete_if_all_joined(now, actions);
                return ErrorCode::NONE;
            }
            None => member_id.to_owned(),
        };
        if !self.members.contains_key(&id) {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        }
        self.remove(&id, ErrorCode::UNKNOWN_MEMBER_ID, actions);
        self.after_departure(now, actions);
        ErrorCode::NONE
    }

    /// Whether a commit by this member of this generation may be taken.
    pub(crate) fn check_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            // A simple consumer keeps its offsets under a group that nobody is a member of.
            return match self.state {
                State::Empty => Ok(()),
                _ => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            };
        }
        self.check_member(member_id, instance_id, generation)?;
        if let State::CompletingRebalance { .. } = self.state {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(now);
        }
        Ok(())
    }

    /// Lets time pass: lapsed members go, and a rebalance that waited long enough goes on without them.
    pub(crate) fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let pending = self.pending.len();
        self.pending.retain(|_, lapses| *lapses > now);
        let lapsed: Vec<String> = self
            .members
            .values()
            .filter(|member| member.is_lapsed(now))
            .map(|member| member.id.clone())
            .collect();
        for id in &lapsed {
            self.remove(id, ErrorCode::UNKNOWN_MEMBER_ID, actions);
        }
        if !lapsed.is_empty() {
            self.after_departure(now, actions);
        } else if pending != self.pending.len() {
            self.complete_if_all_joined(now, actions);
        }
        match self.state {
            State::PreparingRebalance { deadline, .. } if deadline <= now => {
                self.complete_join(now, actions);
            }
            State::CompletingRebalance { deadline } if deadline <= now => {
                // The leader never sent an assignment, or members never asked for theirs.
                let silent: Vec<String> = self
                    .members
                    .values()
                    .filter(|member| member.syncing.is_none())
                    .map(|member| member.id.clone())
                    .collect();
                for id in &silent {
                    self.remove(id, ErrorCode::UNKNOWN_MEMBER_ID, actions);
                }
                self.prepare_rebalance(now, actions);
            }
            _ => {}
        }
    }

    /// When [`Self::advance`] next has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let rebalance = match self.state {
            State::PreparingRebalance { deadline, .. }
            | State::CompletingRebalance { deadline } => Some(deadline),
            State::Empty | State::Stable => None,
        };
        let members = self
            .members
            .values()
            .filter(|m| !m.is_waiting())
            .map(|m| m.expires);
        members
            .chain(self.pending.values().copied())
            .chain(rebalance)
            .min()
    }

    fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            match self.instances.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(id) if id != member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if !self.members.contains_key(member_id) {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok(())
    }

    fn accepts_protocols(&self, join: &Join) -> bool {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return false;
        }
        let others: Vec<&Member> = self
            .members
            .values()
            .filter(|member| member.id != join.member_id)
            .collect();
        if others.is_empty() {
            return true;
        }
        self.protocol_type.as_deref() == Some(join.protocol_type.as_str())
            && join
                .protocols
                .iter()
                .any(|(name, _)| others.iter().all(|m| m.supports(name)))
    }

    fn prepare_rebalance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            State::PreparingRebalance { .. } => {}
            State::Empty => {
                let delay = self.settings.initial_rebalance_delay;
                let until = now + self.rebalance_timeout().max(delay);
                self.state = State::PreparingRebalance {
                    deadline: now + delay,
                    extendable_until: (!delay.is_zero()).then_some(until),
                };
                if delay.is_zero() {
                    self.complete_join(now, actions);
                }
                return;
            }
            State::CompletingRebalance { .. } | State::Stable => {
                for member in self.members.values_mut() {
                    if let Some(waiter) = member.syncing.take() {
                        member.touch(now);
                        actions.push(Action::Synced(
                            waiter,
                            Synced::refused(ErrorCode::REBALANCE_IN_PROGRESS),
                        ));
                    }
                }
                self.state = State::PreparingRebalance {
                    deadline: now + self.rebalance_timeout(),
                    extendable_until: None,
                };
            }
        }
        self.complete_if_all_joined(now, actions);
    }

    fn complete_if_all_joined(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let State::PreparingRebalance {
            extendable_until: None,
            ..
        } = self.state
        else {
            return;
        };
        if self.pending.is_empty() && self.members.values().all(|m| m.joining.is_some()) {
            self.complete_join(now, actions);
        }
    }

    /// Ends the joining phase: members that did not come are dropped (static ones keep their place), and
    /// everyone who waits learns the new generation.
    fn complete_join(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let absent: Vec<String> = self
            .members
            .values()
            .filter(|member| member.joining.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in &absent {
            self.remove(id, ErrorCode::UNKNOWN_MEMBER_ID, actions);
        }
        self.generation += 1;
        if self.members.is_empty() {
            self.state = State::Empty;
            self.protocol = None;
            self.leader = None;
            return;
        }
        let leader_present = self
            .leader
            .as_ref()
            .and_then(|id| self.members.get(id))
            .is_some_and(|member| member.joining.is_some());
        if !leader_present {
            self.leader = self
                .members
                .values()
                .find(|member| member.joining.is_some())
                .or_else(|| self.members.values().next())
                .map(|member| member.id.clone());
        }
        self.protocol = self.select_protocol();
        self.state = State::CompletingRebalance {
            deadline: now + self.rebalance_timeout(),
        };
        let waiting: Vec<(String, Waiter)> = self
            .members
            .values_mut()
            .filter_map(|member| {
                member
                    .joining
                    .take()
                    .map(|waiter| (member.id.clone(), waiter))
            })
            .collect();
        for (id, waiter) in waiting {
            if let Some(member) = self.members.get_mut(&id) {
                member.touch(now);
            }
            actions.push(Action::Joined(waiter, self.joined(&id)));
        }
    }

    /// Among the assignors that all support, the one that most members put first.
    fn select_protocol(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let candidates: Vec<&str> = first
            .protocols
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| self.members.values().all(|member| member.supports(name)))
            .collect();
        let votes = |candidate: &str| {
            self.members
                .values()
                .filter(|member| {
                    member
                        .protocols
                        .iter()
                        .find(|(name, _)| candidates.contains(&name.as_str()))
                        .is_some_and(|(name, _)| name == candidate)
                })
                .count()
        };
        // `max_by_key` takes the last of equals; reversed, the first member's order decides.
        candidates
            .iter()
            .rev()
            .max_by_key(|name| votes(name))
            .map(|name| (*name).to_owned())
    }

    fn joined(&self, id: &str) -> Joined {
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

    fn remove(&mut self, id: &str, error: ErrorCode, actions: &mut Vec<Action>) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        if let Some(waiter) = member.joining {
            actions.push(Action::Joined(waiter, Joined::refused(error, id)));
        }
        if let Some(waiter) = member.syncing {
            actions.push(Action::Synced(waiter, Synced::refused(error)));
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    fn after_departure(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            State::Empty => {}
            State::PreparingRebalance {
                extendable_until: Some(_),
                ..
            } => {}
            State::PreparingRebalance { .. } => self.complete_if_all_joined(now, actions),
            State::CompletingRebalance { .. } | State::Stable => {
                self.prepare_rebalance(now, actions);
            }
        }
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default()
    }
}

impl Member {
    fn new(id: String, waiter: Waiter, join: Join, now: Instant) -> Self {
        Self {
            id,
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            assignment: Bytes::new(),
            protocols: join.protocols,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            expires: now + join.session_timeout,
            joining: Some(waiter),
            syncing: None,
        }
    }

    fn touch(&mut self, now: Instant) {
        self.expires = now + self.session_timeout;
    }

    fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }

    fn is_lapsed(&self, now: Instant) -> bool {
        !self.is_waiting() && self.expires <= now
    }

    fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }
}

impl Joined {
    fn refused(error: ErrorCode, member_id: &str) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

impl Synced {
    fn refused(error: ErrorCode) -> Self {
        Self {
            error,
            protocol_type: None,
            protocol: None,
            assignment: Bytes::new(),
        }
    }
}

fn hyphenated(unique: u128) -> String {
    let hex = format!("{unique:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(10);
    const REBALANCE: Duration = Duration::from_secs(30);

    struct Bench {
        group: ClassicGroup,
        now: Instant,
        next_waiter: Waiter,
    }

    impl Bench {
        fn new() -> Self {
            let settings = GroupSettings {
                session_timeout_min: Duration::from_secs(1),
                session_timeout_max: Duration::from_secs(100),
                initial_rebalance_delay: Duration::ZERO,
                members_max: 10,
            };
            Self {
                group: ClassicGroup::new(settings),
                now: Instant::now(),
                next_waiter: 0,
            }
        }

        fn join(&mut self, member_id: &str, instance_id: Option<&str>) -> (Waiter, Vec<Action>) {
            self.next_waiter += 1;
            let join = Join {
                member_id: member_id.to_owned(),
                instance_id: instance_id.map(str::to_owned),
                client_id: "c".to_owned(),
                client_host: "h".to_owned(),
                protocol_type: "consumer".to_owned(),
                protocols: vec![("range".to_owned(), Bytes::from_static(b"m"))],
                session_timeout: SESSION,
                rebalance_timeout: REBALANCE,
                must_know_its_id: true,
                can_skip_assignment: true,
                unique: u128::from(self.next_waiter),
            };
            let mut actions = Vec::new();
            self.group
                .join(self.next_waiter, join, self.now, &mut actions);
            (self.next_waiter, actions)
        }

        /// Joins a new dynamic member: first its id, then the group.
        fn enter(&mut self) -> (String, Waiter, Vec<Action>) {
            let (_, actions) = self.join("", None);
            let [Action::Joined(_, refused)] = &actions[..] else {
                panic!("{actions:?}")
            };
            assert_eq!(refused.error, ErrorCode::MEMBER_ID_REQUIRED);
            let id = refused.member_id.clone();
            let (waiter, actions) = self.join(&id, None);
            (id, waiter, actions)
        }

        fn sync(
            &mut self,
            id: &str,
            generation: i32,
            parts: &[(&str, &'static [u8])],
        ) -> Vec<Action> {
            self.next_waiter += 1;
            let sync = Sync {
                member_id: id.to_owned(),
                instance_id: None,
                generation,
                protocol_type: None,
                protocol: None,
                assignments: parts
                    .iter()
                    .map(|(id, part)| ((*id).to_owned(), Bytes::from_static(part)))
                    .collect(),
            };
            let mut actions = Vec::new();
            self.group
                .sync(self.next_waiter, sync, self.now, &mut actions);
            actions
        }

        fn pass(&mut self, time: Duration) -> Vec<Action> {
            self.now += time;
            let mut actions = Vec::new();
            self.group.advance(self.now, &mut actions);
            actions
        }
    }

    fn joined(actions: &[Action]) -> Vec<(&str, i32)> {
        actions
            .iter()
            .filter_map(|action| match action {
                Action::Joined(_, joined) if joined.error.is_ok() => {
                    Some((joined.member_id.as_str(), joined.generation))
                }
                _ => None,
            })
            .collect()
    }

    #[test]
    fn two_members_agree_on_a_generation_and_the_leader_assigns() {
        let mut bench = Bench::new();
        let (first, _, actions) = bench.enter();
        assert_eq!(joined(&actions), [(first.as_str(), 1)]);
        assert!(
            matches!(&bench.sync(&first, 1, &[(&first, b"all")])[..], [Action::Synced(_, synced)] if synced.assignment == "all")
        );
        let (second, _, actions) = bench.enter();
        assert!(
            actions.is_empty(),
            "the second waits for the first to rejoin"
        );
        assert_eq!(
            bench.group.heartbeat(&first, None, 1, bench.now),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        let (_, actions) = bench.join(&first, None);
        assert_eq!(joined(&actions).len(), 2);
        assert!(
            bench.sync(&second, 2, &[]).is_empty(),
            "a follower waits for the leader"
        );
        let actions = bench.sync(&first, 2, &[(&first, b"a"), (&second, b"b")]);
        assert_eq!(actions.len(), 2);
        assert_eq!(bench.group.state_name(), "Stable");
        assert_eq!(
            bench.group.heartbeat(&second, None, 2, bench.now),
            ErrorCode::NONE
        );
        assert_eq!(
            bench.group.heartbeat(&second, None, 1, bench.now),
            ErrorCode::ILLEGAL_GENERATION
        );
    }

    #[test]
    fn a_silent_member_lapses_and_the_rest_goes_on() {
        let mut bench = Bench::new();
        let (first, ..) = bench.enter();
        bench.sync(&first, 1, &[]);
        let (second, ..) = bench.enter();
        bench.join(&first, None);
        bench.sync(&first, 2, &[]);
        bench.sync(&second, 2, &[]);
        bench.pass(SESSION / 2);
        assert_eq!(
            bench.group.heartbeat(&first, None, 2, bench.now),
            ErrorCode::NONE
        );
        bench.pass(SESSION / 2);
        assert_eq!(bench.group.members().count(), 1);
        assert_eq!(
            bench.group.heartbeat(&first, None, 2, bench.now),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        let (_, actions) = bench.join(&first, None);
        assert_eq!(joined(&actions), [(first.as_str(), 3)]);
    }

    #[test]
    fn a_member_that_does_not_rejoin_is_dropped_at_the_rebalance_timeout() {
        let mut bench = Bench::new();
        let (first, ..) = bench.enter();
        bench.sync(&first, 1, &[]);
        let (second, ..) = bench.enter();
        // The first keeps heartbeating but never rejoins.
        for _ in 0..6 {
            bench.group.heartbeat(&first, None, 1, bench.now);
            let actions = bench.pass(REBALANCE / 6);
            if let [.., (id, generation)] = joined(&actions)[..] {
                assert_eq!((id, generation), (second.as_str(), 2));
                return;
            }
        }
        panic!("the second member never got its generation");
    }

    #[test]
    fn a_static_member_comes_back_without_a_rebalance_and_fences_its_old_self() {
        let mut bench = Bench::new();
        let (_, actions) = bench.join("", Some("i1"));
        let old = joined(&actions)[0].0.to_owned();
        bench.sync(&old, 1, &[(&old, b"all")]);
        let (_, actions) = bench.join("", Some("i1"));
        let [Action::Joined(_, back)] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert!(back.skip_assignment && back.generation == 1 && back.member_id != old);
        assert_eq!(bench.group.state_name(), "Stable");
        assert_eq!(
            bench.group.heartbeat(&old, Some("i1"), 1, bench.now),
            ErrorCode::FENCED_INSTANCE_ID
        );
    }

    #[test]
    fn an_id_that_is_never_used_lapses_and_does_not_block_the_group() {
        let mut bench = Bench::new();
        let (first, ..) = bench.enter();
        bench.sync(&first, 1, &[]);
        bench.join("", None);
        let (_, actions) = bench.join(&first, None);
        assert!(actions.is_empty(), "the group waits for the pending member");
        let actions = bench.pass(SESSION);
        assert_eq!(joined(&actions), [(first.as_str(), 2)]);
    }

    #[test]
    fn commits_need_the_current_generation_and_no_rebalance_in_its_second_half() {
        let mut bench = Bench::new();
        assert_eq!(bench.group.check_commit("", None, -1, bench.now), Ok(()));
        let (first, ..) = bench.enter();
        let now = bench.now;
        assert_eq!(
            bench.group.check_commit(&first, None, 1, now),
            Err(ErrorCode::REBALANCE_IN_PROGRESS)
        );
        bench.sync(&first, 1, &[]);
        assert_eq!(bench.group.check_commit(&first, None, 1, now), Ok(()));
        assert_eq!(
            bench.group.check_commit(&first, None, 0, now),
            Err(ErrorCode::ILLEGAL_GENERATION)
        );
        assert_eq!(
            bench.group.check_commit("", None, -1, now),
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        );
    }
}
