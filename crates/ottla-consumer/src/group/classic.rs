//! Membership in a classic group: join, sync, heartbeat, leave (KIP-62, 345, 394), eager and cooperative
//! rebalance (KIP-429).
//!
//! A plain state machine. The driver calls [`Classic::poll`] and does what the [`Step`] says; answers
//! come back through the `handle_*` calls, under the attempt number of their request, so that an
//! answer to an earlier life is dropped.
//!
//! A rebalance first takes back what the application has: partitions are given up
//! ([`Step::Revoke`]) only when the driver says that the application is done with their records, and
//! until then heartbeats go on. An application that does not come back within `max.poll.interval.ms`
//! costs this member its place; it is asked for again when the application returns.
//!
//! An eager rebalance takes everything back before it joins. A cooperative one joins with what it owns, and takes back
//! only what the new assignment leaves out; then it joins once more, so that others get that.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ottla_net::Backoff;
use ottla_wire::{Bytes, ErrorCode};

use super::{
    membership::{CommitAs, Identity, Step},
    presence::Presence,
    protocol::{Assignment, Subscription},
};
use crate::{
    Str, TopicPartition,
    assignor::{Member, Previous, RebalanceProtocol},
};

#[derive(Debug, Clone)]
pub(crate) struct ClassicConfig {
    /// With a `group.instance.id` (KIP-345): it keeps its place until its session ends, and never says that
    /// it leaves.
    pub(crate) is_static: bool,
    pub(crate) protocol: RebalanceProtocol,
    pub(crate) session_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) max_poll_interval: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) seed: u64,
}

/// A JoinGroup's answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joined {
    pub(crate) error: ErrorCode,
    pub(crate) generation: i32,
    pub(crate) member_id: Str,
    pub(crate) leader: Str,
    pub(crate) assignor: Str,
    /// Member id, instance id and subscription of everyone; only the leader hears of them.
    pub(crate) members: Vec<(Str, Option<Str>, Bytes)>,
    /// The broker has its assignment still, and wants none computed (KIP-814: a static leader came back).
    pub(crate) skip_assignment: bool,
}

#[derive(Debug)]
pub(crate) struct Classic {
    config: ClassicConfig,
    state: State,
    member_id: Str,
    generation: i32,
    /// Names the latest join, sync or lead; older answers are dropped.
    attempt: u64,
    failures: u32,
    random: fastrand::Rng,
    next_heartbeat: Option<Instant>,
    heartbeat_out: bool,
    presence: Presence,
    /// Whether partitions were adopted and not given up; they may be none.
    owns: bool,
    /// Those, each with the generation since which it has been this member's without a break.
    owned: BTreeMap<TopicPartition, i32>,
    /// Those of them that the driver is giving up.
    revoking: Vec<TopicPartition>,
    /// What is subscribed to.
    topics: BTreeSet<Str>,
    /// What was adopted latest, given up since or not.
    previous: Option<Previous>,
    /// Steps that precede what the state asks for.
    due: Vec<Step>,
    /// Whether the subscription changed since the group was told.
    resubscribed: bool,
    /// Of a cooperative group that this member leads: whether partitions are between two members, which have to join
    /// again for that; and until when that is waited for.
    hands_over: bool,
    hand_over_by: Option<Instant>,
    /// What the members said that they own, while this one distributes it.
    claimed: BTreeSet<TopicPartition>,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// No subscription.
    Absent,
    /// Joins at that time.
    Pausing(Instant),
    Joining,
    Leading,
    Syncing,
    Stable,
    /// Waits for the driver to give up partitions, then joins again.
    Revoking,
    /// Lost its place because the application stayed away; joins when it comes back.
    Evicted,
    Failed,
}

impl Classic {
    pub(crate) fn new(config: ClassicConfig) -> Self {
        Self {
            random: fastrand::Rng::with_seed(config.seed),
            presence: Presence::new(config.max_poll_interval),
            config,
            state: State::Absent,
            member_id: Str::new(),
            generation: -1,
            attempt: 0,
            failures: 0,
            next_heartbeat: None,
            heartbeat_out: false,
            owns: false,
            owned: BTreeMap::new(),
            revoking: Vec::new(),
            topics: BTreeSet::new(),
            previous: None,
            due: Vec::new(),
            resubscribed: false,
            hands_over: false,
            hand_over_by: None,
            claimed: BTreeSet::new(),
            reason: "",
        }
    }

    /// What to do now. Call it again after each step, until it says to wait.
    pub(crate) fn poll(&mut self, now: Instant) -> Step {
        self.check_application(now);
        self.check_hand_over(now);
        if !self.due.is_empty() {
            return self.due.remove(0);
        }
        match self.state {
            State::Pausing(at) if at <= now => {
                self.state = State::Joining;
                self.resubscribed = false;
                (self.hands_over, self.hand_over_by) = (false, None);
                self.attempt += 1;
                Step::Join {
                    attempt: self.attempt,
                    member_id: self.member_id.clone(),
                    owned: self.owned.keys().cloned().collect(),
                    reason: self.reason,
                }
            }
            State::Stable | State::Revoking
                if !self.heartbeat_out && self.next_heartbeat.is_some_and(|at| at <= now) =>
            {
                self.heartbeat_out = true;
                self.next_heartbeat = Some(now + self.config.heartbeat_interval);
                Step::Heartbeat {
                    attempt: self.attempt,
                    generation: self.generation,
                    member_id: self.member_id.clone(),
                }
            }
            _ => Step::Wait(self.next_timeout()),
        }
    }

    #[cfg(test)]
    pub(super) fn config_mut(&mut self) -> &mut ClassicConfig {
        &mut self.config
    }

    /// Whether nothing happens until there is a subscription.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Absent | State::Failed)
    }

    /// Whether this is the member's: adopted, and neither given up nor lost.
    pub(crate) fn owns(&self, partition: &TopicPartition) -> bool {
        self.owned.contains_key(partition)
    }

    /// Whether the driver is giving partitions up on this machine's behalf.
    pub(crate) fn is_revoking(&self) -> bool {
        self.state == State::Revoking
    }

    /// Whether the driver is giving this up on this machine's behalf.
    pub(crate) fn revokes(&self, partition: &TopicPartition) -> bool {
        self.is_revoking() && self.revoking.contains(partition)
    }

    /// There is a subscription, perhaps another than before.
    pub(crate) fn subscribe(&mut self, topics: impl IntoIterator<Item = Str>, now: Instant) {
        self.topics = topics.into_iter().collect();
        match self.state {
            State::Absent | State::Failed => {
                self.failures = 0;
                self.presence.begins(now);
                self.state = State::Pausing(now);
            }
            // What is under way tells the group the old subscription; another join next to it would make this
            // two members.
            State::Joining | State::Leading | State::Syncing => self.resubscribed = true,
            State::Stable => self.rebalance(now, "subscription changed"),
            // They join with the new one, when they have given up what it leaves out.
            State::Pausing(_) if self.owns => self.rebalance(now, "subscription changed"),
            State::Pausing(_) | State::Revoking | State::Evicted => {}
        }
    }

    /// The partitions of a subscribed topic changed: the leader must distribute them anew.
    pub(crate) fn topics_changed(&mut self, now: Instant) {
        if self.state == State::Stable {
            self.rebalance(now, "topics changed");
        }
    }

    /// The group is to distribute its partitions anew; that it is about to is enough.
    pub(crate) fn enforce_rebalance(&mut self, now: Instant) {
        if self.state == State::Stable {
            self.rebalance(now, "the application asked for a rebalance");
        }
    }

    /// The group is left, and not joined again until there is a subscription. The coordinator is told,
    /// unless this is a static member, which may be back.
    pub(crate) fn leave(&mut self, reason: &'static str) {
        self.due.retain(Step::is_farewell);
        if self.owns {
            self.disown();
            self.due.push(Step::Drop);
        }
        self.say_goodbye(reason);
        self.forget_membership();
        self.state = State::Absent;
    }

    /// The application came for records (`waiting`), or stopped waiting for them.
    pub(crate) fn application_polls(&mut self, waiting: bool, now: Instant) {
        self.presence.polls(waiting, now);
        if self.state == State::Evicted {
            self.state = State::Pausing(now);
        }
    }

    /// What was to be given up is.
    pub(crate) fn handle_revoked(&mut self, now: Instant) {
        for partition in std::mem::take(&mut self.revoking) {
            self.owned.remove(&partition);
        }
        if !self.is_cooperative() {
            self.disown();
        }
        if self.state == State::Revoking {
            self.rebalance(now, self.reason);
        }
    }

    pub(crate) fn handle_joined(&mut self, attempt: u64, joined: Joined, now: Instant) {
        if attempt != self.attempt || self.state != State::Joining {
            if self.state == State::Absent && joined.error.is_ok() && !self.config.is_static {
                // The group was left before it was known under which name.
                self.due.push(Step::Leave {
                    member_id: joined.member_id,
                    reason: "unsubscribed",
                });
            }
            return;
        }
        match joined.error {
            ErrorCode::NONE if joined.generation < 0 || joined.member_id.is_empty() => {
                tracing::error!(
                    generation = joined.generation,
                    member_id = %joined.member_id,
                    "the coordinator let this member join as one that none can be"
                );
                return self.pause(now, "no such member");
            }
            ErrorCode::NONE => {}
            ErrorCode::MEMBER_ID_REQUIRED => {
                // KIP-394: the coordinator remembers only members that come back with their id. One that has
                // been given an id and comes with it is not told so again.
                let first = self.member_id.is_empty() && !joined.member_id.is_empty();
                self.member_id = joined.member_id;
                match first {
                    true => self.state = State::Pausing(now),
                    false => self.pause(now, "given another id"),
                }
                return;
            }
            error => return self.handle_error(error, now),
        }
        // Its place was kept while a generation began without it, in which others may have been given what it reads. Where the
        // coordinator assigns (KIP-848), nobody leads, and it counts otherwise.
        let passed = joined.generation > self.generation.saturating_add(1)
            && self.config.is_static
            && !joined.leader.is_empty();
        self.member_id = joined.member_id;
        self.generation = joined.generation;
        if passed && !self.owned.is_empty() {
            self.lose();
            return self.rejoin(now, "a generation passed without this member");
        }
        self.next_heartbeat = Some(now + self.config.heartbeat_interval);
        let leads = joined.leader == self.member_id;
        if leads {
            self.state = State::Leading;
            let members = joined
                .members
                .into_iter()
                .map(|(id, instance_id, metadata)| {
                    // A member whose subscription cannot be read gets nothing, and hurts only itself.
                    let s = Subscription::decode(metadata).unwrap_or_default();
                    Member {
                        id,
                        instance_id,
                        topics: s.topics,
                        owned: s.owned,
                        generation: s.generation,
                        rack: s.rack,
                        user_data: s.user_data,
                    }
                });
            let members: Vec<Member> = members.collect();
            let skip = joined.skip_assignment;
            match skip {
                // A leader that is back does not know what the one before it was about to hand over.
                true => {
                    self.claimed.clear();
                    self.hands_over = self.is_cooperative();
                }
                false => self.note_claims(&members),
            }
            self.due.push(Step::Lead {
                attempt,
                assignor: joined.assignor,
                members,
                skip,
            });
        } else {
            self.sync(joined.assignor, Vec::new());
        }
    }

    /// The assignment, computed as the group's leader; none if it was to be skipped. Whether it is of use.
    pub(crate) fn handle_led(
        &mut self,
        attempt: u64,
        assignor: Str,
        assignments: Vec<(Str, Vec<TopicPartition>)>,
    ) -> bool {
        if attempt != self.attempt || self.state != State::Leading {
            return false;
        }
        let mut withheld = std::mem::take(&mut self.claimed);
        for partition in assignments.iter().flat_map(|(_, partitions)| partitions) {
            withheld.remove(partition);
        }
        self.hands_over |= !withheld.is_empty();
        let assignments = assignments
            .into_iter()
            .map(|(member, partitions)| {
                (
                    member,
                    Assignment {
                        partitions,
                        user_data: None,
                    }
                    .encode(),
                )
            })
            .collect();
        self.sync(assignor, assignments);
        true
    }

    pub(crate) fn handle_synced(
        &mut self,
        attempt: u64,
        result: Result<Bytes, ErrorCode>,
        now: Instant,
    ) {
        if attempt != self.attempt || self.state != State::Syncing {
            return;
        }
        let assignment = match result.map(Assignment::decode) {
            Ok(Ok(assignment)) => assignment,
            Ok(Err(_)) => {
                tracing::error!("the group's leader sent an assignment that cannot be read");
                return self.pause(now, "unreadable assignment");
            }
            Err(error) => return self.handle_error(error, now),
        };
        self.failures = 0;
        if self.resubscribed {
            return self.rebalance(now, "subscription changed");
        }
        self.state = State::Stable;
        self.owns = true;
        self.heartbeat_out = false;
        self.next_heartbeat = Some(now + self.config.heartbeat_interval);
        let patience = self.config.session_timeout;
        self.hand_over_by = self.hands_over.then(|| now + patience);
        self.previous = Some(Previous {
            partitions: assignment.partitions.clone(),
            generation: self.generation,
        });
        let assigned = assignment.partitions.into_iter();
        let assigned: BTreeSet<TopicPartition> = assigned.filter(|p| p.partition >= 0).collect();
        let (generation, owned) = (self.generation, &mut self.owned);
        let gone: Vec<_> = owned
            .keys()
            .filter(|p| !assigned.contains(p))
            .cloned()
            .collect();
        let new: Vec<_> = assigned
            .into_iter()
            .filter(|p| !owned.contains_key(p))
            .collect();
        owned.extend(new.iter().map(|partition| (partition.clone(), generation)));
        // Nobody else has these. What is taken away is withheld from others until it is given up.
        self.due.push(Step::Adopt(new));
        if !gone.is_empty() {
            self.revoke(gone, "gave partitions up for others");
        }
    }

    pub(crate) fn handle_heartbeat(&mut self, attempt: u64, error: ErrorCode, now: Instant) {
        if attempt != self.attempt || !matches!(self.state, State::Stable | State::Revoking) {
            return;
        }
        self.heartbeat_out = false;
        match error {
            ErrorCode::NONE => self.failures = 0,
            ErrorCode::REBALANCE_IN_PROGRESS => {
                if self.state == State::Stable {
                    self.rebalance(now, "group rebalances");
                }
            }
            error => self.handle_error(error, now),
        }
    }

    /// A request of this member could not be answered at all; the same may work later.
    pub(crate) fn handle_unanswered(&mut self, attempt: u64, now: Instant) {
        if attempt == self.attempt {
            // Were it a heartbeat: without the next one the coordinator would drop this member, unnoticed.
            self.heartbeat_out = false;
            self.handle_error(ErrorCode::COORDINATOR_NOT_AVAILABLE, now);
        }
    }

    /// The application's assignor panicked while this member led its group: others may lead it better.
    /// Nothing happens until the application subscribes anew.
    pub(crate) fn handle_panic(&mut self) {
        if self.state == State::Leading {
            self.lose_and_leave("assignor panicked");
        }
    }

    /// The group is left though the application did not ask for it.
    pub(crate) fn lose_and_leave(&mut self, reason: &'static str) {
        self.lose();
        let lost = std::mem::take(&mut self.due);
        self.leave(reason);
        self.due.splice(0..0, lost);
    }

    /// The cluster will not say who coordinates this group.
    pub(crate) fn handle_refused(&mut self, attempt: u64, error: ErrorCode, now: Instant) {
        if attempt == self.attempt {
            self.heartbeat_out = false;
            self.handle_error(error, now);
        }
    }

    /// A commit, which speaks for this member too, met this error.
    pub(crate) fn handle_commit_error(
        &mut self,
        error: ErrorCode,
        sent_as: &Identity,
        now: Instant,
    ) {
        // A static member that comes back is another one in the same generation: what the one before is told is
        // nothing to it.
        let ours = *sent_as == self.identity();
        let stays = matches!(self.state, State::Stable | State::Revoking);
        let joins = self.owns && matches!(self.state, State::Pausing(_) | State::Joining);
        if !ours || !stays && !joins {
            return;
        }
        match error {
            // Who joins and reads on meanwhile would hear the same when its join gets there, which may take long.
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID => {
                self.handle_error(error, now);
            }
            ErrorCode::ILLEGAL_GENERATION if stays => self.handle_error(error, now),
            ErrorCode::REBALANCE_IN_PROGRESS if self.state == State::Stable => {
                self.rebalance(now, "group rebalances");
            }
            _ => {}
        }
    }

    /// What this member was assigned latest, for its assignors to tell the group.
    pub(crate) fn previous(&self) -> Option<&Previous> {
        self.previous.as_ref()
    }

    /// On whose behalf a commit that was made earlier is sent. In a cooperative rebalance a member keeps partitions
    /// from one generation to the next, and what it commits for them holds in the next as well.
    pub(crate) fn commit_as<'a>(
        &self,
        made_by: &Identity,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> CommitAs {
        let same = made_by.member_id == self.member_id;
        if !self.is_cooperative() || !self.owns || !same {
            return CommitAs::Member(made_by.clone());
        }
        if matches!(self.state, State::Leading | State::Syncing) {
            // The coordinator takes no commit before it has the new assignment.
            return CommitAs::Later;
        }
        if made_by.generation == self.generation {
            return CommitAs::Member(made_by.clone());
        }
        let kept = |partition: &TopicPartition| {
            let since = self.owned.get(partition);
            since.is_some_and(|since| *since <= made_by.generation)
        };
        match partitions.into_iter().all(kept) {
            true => CommitAs::Member(self.identity()),
            false => CommitAs::Nobody(ErrorCode::ILLEGAL_GENERATION),
        }
    }

    /// Whether a commit that met this error may be accepted in the generation that is coming up.
    pub(crate) fn may_commit_later(&self, sent_as: &Identity, error: ErrorCode) -> bool {
        let over = sent_as.generation != self.generation;
        self.is_cooperative()
            && self.owns
            && sent_as.member_id == self.member_id
            && (error == ErrorCode::REBALANCE_IN_PROGRESS
                || error == ErrorCode::ILLEGAL_GENERATION && over)
    }

    /// Whether its join waits at the coordinator, which answers nothing else on that connection meanwhile.
    pub(crate) fn is_joining(&self) -> bool {
        self.state == State::Joining
    }

    /// On whose behalf a commit is made now. Without a subscription that is nobody's, for partitions that were assigned
    /// by hand. A member that lost its place has no say: an empty group would take its commit as one by hand.
    pub(crate) fn committer(&self) -> Result<Identity, ErrorCode> {
        if self.state == State::Absent {
            return Ok(self.identity());
        }
        if self.member_id.is_empty() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if self.generation < 0 {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok(self.identity())
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            member_id: self.member_id.clone(),
            generation: self.generation,
        }
    }

    fn handle_error(&mut self, error: ErrorCode, now: Instant) {
        match error {
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => {
                self.due.push(Step::Rediscover);
                self.pause(now, "coordinator moved");
            }
            ErrorCode::REBALANCE_IN_PROGRESS => self.pause(now, "group rebalances"),
            ErrorCode::UNKNOWN_MEMBER_ID => {
                self.lose();
                self.forget_membership();
                self.pause(now, "unknown to the coordinator");
            }
            ErrorCode::ILLEGAL_GENERATION => {
                self.lose();
                self.generation = -1;
                self.pause(now, "generation is over");
            }
            error if error.is_retriable() => self.pause(now, "tries again"),
            error => {
                self.lose();
                self.forget_membership();
                self.state = State::Failed;
                self.due.push(Step::Fail(error));
            }
        }
    }

    /// Tries again after a pause: the heartbeat of a member that still has its place, else the join.
    fn pause(&mut self, now: Instant, reason: &'static str) {
        self.failures += 1;
        let at = now + self.config.backoff.delay(self.failures, self.random.f64());
        if self.owns && matches!(self.state, State::Stable | State::Revoking) {
            self.next_heartbeat = Some(at);
            return;
        }
        self.reason = reason;
        self.attempt += 1;
        self.state = State::Pausing(at);
    }

    /// Joins anew, when what has to be given up before that is.
    fn rebalance(&mut self, now: Instant, reason: &'static str) {
        let out = |partition: &&TopicPartition| {
            !self.is_cooperative() || !self.topics.contains(&partition.topic)
        };
        let out: Vec<_> = self.owned.keys().filter(out).cloned().collect();
        if out.is_empty() {
            if !self.is_cooperative() {
                self.disown();
            }
            self.rejoin(now, reason);
        } else {
            self.revoke(out, reason);
        }
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>, reason: &'static str) {
        self.reason = reason;
        self.state = State::Revoking;
        self.revoking.clone_from(&partitions);
        let all = !self.is_cooperative();
        self.due.push(Step::Revoke { partitions, all });
    }

    fn lose(&mut self) {
        self.due
            .retain(|step| matches!(step, Step::Leave { .. } | Step::Adopt(_)));
        if self.owns {
            let lost = self.disown();
            self.due.push(Step::Lose(lost));
        }
    }

    fn disown(&mut self) -> Vec<TopicPartition> {
        self.owns = false;
        self.revoking.clear();
        std::mem::take(&mut self.owned).into_keys().collect()
    }

    fn is_cooperative(&self) -> bool {
        self.config.protocol == RebalanceProtocol::Cooperative
    }

    fn rejoin(&mut self, now: Instant, reason: &'static str) {
        self.reason = reason;
        self.attempt += 1;
        self.heartbeat_out = false;
        self.due
            .retain(|step| !matches!(step, Step::Lead { .. } | Step::Sync { .. }));
        self.state = State::Pausing(now);
    }

    fn sync(&mut self, assignor: Str, assignments: Vec<(Str, Bytes)>) {
        self.state = State::Syncing;
        self.due.push(Step::Sync {
            attempt: self.attempt,
            generation: self.generation,
            member_id: self.member_id.clone(),
            assignor,
            assignments,
        });
    }

    fn say_goodbye(&mut self, reason: &'static str) {
        if !self.member_id.is_empty() && !self.config.is_static {
            self.due.push(Step::Leave {
                member_id: self.member_id.clone(),
                reason,
            });
        }
    }

    fn forget_membership(&mut self) {
        self.member_id = Str::new();
        self.generation = -1;
        self.attempt += 1;
        self.heartbeat_out = false;
        self.next_heartbeat = None;
    }

    fn check_application(&mut self, now: Instant) {
        if self.poll_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.presence.warn();
        self.lose();
        self.say_goodbye("max.poll.interval.ms exceeded");
        self.forget_membership();
        self.state = State::Evicted;
    }

    /// What members own, of what is to be distributed now.
    fn note_claims(&mut self, members: &[Member]) {
        self.claimed.clear();
        if !self.is_cooperative() {
            return;
        }
        let topics: BTreeSet<&Str> = members.iter().flat_map(|member| &member.topics).collect();
        let owned = members.iter().flat_map(|member| &member.owned);
        let owned = owned.filter(|partition| topics.contains(&partition.topic));
        self.claimed.extend(owned.cloned());
    }

    /// Who gives a partition up for another member joins again, so that that one gets it. One that is gone meanwhile does
    /// not: the others hear of it when its session ends; but a static member that is back in time has forgotten, and
    /// nobody would have the partition.
    fn check_hand_over(&mut self, now: Instant) {
        if self.state == State::Stable && self.hand_over_by.is_some_and(|at| at <= now) {
            self.hand_over_by = None;
            self.rebalance(now, "partitions were not handed over");
        }
    }

    fn poll_deadline(&self) -> Option<Instant> {
        let member = match self.state {
            State::Stable | State::Revoking => true,
            State::Pausing(_) | State::Joining | State::Leading | State::Syncing => self.owns,
            State::Absent | State::Evicted | State::Failed => false,
        };
        self.presence.deadline().filter(|_| member)
    }

    fn next_timeout(&self) -> Option<Instant> {
        let heartbeat = self.next_heartbeat.filter(|_| {
            !self.heartbeat_out && matches!(self.state, State::Stable | State::Revoking)
        });
        let join = match self.state {
            State::Pausing(at) => Some(at),
            _ => None,
        };
        let hand_over = self.hand_over_by.filter(|_| self.state == State::Stable);
        [heartbeat, join, hand_over, self.poll_deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}
