//! Membership in a group of the consumer protocol (KIP-848): the coordinator says who shall have which partitions, and
//! each member comes there at its own pace.
//!
//! A plain state machine. The driver calls [`ConsumerMembership::poll`] and does what the [`Step`] says; answers
//! come back through the `handle_*` calls, under the attempt number of their request, so that an answer to an earlier
//! life is dropped.
//!
//! One kind of request does it all. A heartbeat tells what this member reads and has: everything when it joins and
//! after a failure, else only what is news. The answer brings the member's epoch and, when that is news, what it shall
//! have. To come there the member first gives up what it shall not have ([`Step::Revoke`], which takes as long as the
//! application takes; heartbeats go on), then takes what is new, then tells at once what it has: until then nobody else
//! is given what it gave up. The coordinator names topics by id; what has no name yet ([`Step::Name`]) is taken when it
//! has.
//!
//! A member that the coordinator does not know any more, or whose epoch is over, has lost what it had, and joins anew
//! with epoch 0, under the same id: the id is this member's own, for as long as it lives (KIP-1082).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use ottla_net::Backoff;
use ottla_wire::{ErrorCode, Uuid};

use super::{
    membership::{CommitAs, Identity, PAUSE_MIN, Step},
    presence::Presence,
};
use crate::{Str, TopicPartition};

#[derive(Debug, Clone)]
pub(crate) struct ConsumerMembershipConfig {
    /// Which no other member has.
    pub(crate) member_id: Str,
    /// With a `group.instance.id` (KIP-345): it says that it will be back when it leaves, and keeps its place until its
    /// session ends.
    pub(crate) is_static: bool,
    pub(crate) max_poll_interval: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) seed: u64,
}

/// A partition as the coordinator names it.
pub(crate) type PartitionId = (Uuid, i32);

/// A ConsumerGroupHeartbeat of one who joins or stays. What is `None` is as the coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) attempt: u64,
    pub(crate) member_id: Str,
    /// 0: joins.
    pub(crate) epoch: i32,
    /// Whether the coordinator is told what never changes, too.
    pub(crate) full: bool,
    pub(crate) topics: Option<Vec<Str>>,
    /// Empty: none.
    pub(crate) pattern: Option<Str>,
    pub(crate) owned: Option<BTreeSet<PartitionId>>,
}

/// The answer to a [`Beat`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Beaten {
    pub(crate) error: ErrorCode,
    /// Brokers of the first version of the protocol may name the member themselves.
    pub(crate) member_id: Option<Str>,
    pub(crate) epoch: i32,
    /// Until the next heartbeat.
    pub(crate) interval: Duration,
    /// What the member shall have, if that is news.
    pub(crate) assignment: Option<BTreeSet<PartitionId>>,
}

#[derive(Debug)]
pub(crate) struct ConsumerMembership {
    config: ConsumerMembershipConfig,
    state: State,
    member_id: Str,
    /// 0: not joined.
    epoch: i32,
    /// Names the latest heartbeat; older answers are dropped.
    attempt: u64,
    /// Whether that one is out.
    out: bool,
    next_beat: Instant,
    /// After a failure nothing is sent before then.
    retry_at: Option<Instant>,
    failures: u32,
    random: fastrand::Rng,
    presence: Presence,
    topics: BTreeSet<Str>,
    pattern: Option<Str>,
    /// What there is to tell, numbered anew whenever it changes.
    news: News,
    /// Of the heartbeat that is out, and of the latest that was accepted; none: the coordinator is told everything.
    telling: News,
    told: Option<News>,
    /// Whether the coordinator may know this member.
    known: bool,
    /// Whether it may know a pattern of its: it keeps that while it keeps the member, also if that joins anew.
    knows_pattern: bool,
    /// Whether it is being told that this member leaves. Joining waits for that: the other way round it would be the
    /// new member that leaves.
    departing: bool,
    /// What it shall have.
    target: BTreeSet<PartitionId>,
    /// Whether there is something left to do to get there, whether the application is to hear of it, and whether the
    /// coordinator is: it counts what it gave and took back as this member's until it is told that it is not, also if
    /// the member had not come to take it.
    unreconciled: bool,
    unannounced: bool,
    unacknowledged: bool,
    /// Whether the coordinator may have been told what this member has, and its answer is unknown: what it shall have and
    /// did not name then may have gone to others.
    doubtful: bool,
    names: HashMap<Uuid, Str>,
    /// Whether names are being looked for; when to look again for what was not found.
    naming: bool,
    name_at: Option<Instant>,
    name_failures: u32,
    /// Whether anything was adopted since it was lost or left; it may have been nothing.
    adopted: bool,
    /// What it has.
    owned: BTreeMap<TopicPartition, Own>,
    /// Those of them that the driver is giving up.
    revoking: Vec<TopicPartition>,
    /// Steps that precede what the state asks for.
    due: Vec<Step>,
}

/// Of a partition that this member has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Own {
    topic_id: Uuid,
    /// The epoch since which it has it without a break.
    since: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct News {
    subscription: u64,
    owned: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No subscription.
    Absent,
    /// A member, or about to be.
    Present,
    /// Gave up its place because the application stayed away; joins when it comes back.
    Evicted,
    Failed,
}

impl ConsumerMembership {
    pub(crate) fn new(config: ConsumerMembershipConfig, now: Instant) -> Self {
        Self {
            state: State::Absent,
            member_id: config.member_id.clone(),
            epoch: 0,
            attempt: 0,
            out: false,
            next_beat: now,
            retry_at: None,
            failures: 0,
            random: fastrand::Rng::with_seed(config.seed),
            presence: Presence::new(config.max_poll_interval),
            topics: BTreeSet::new(),
            pattern: None,
            news: News::default(),
            telling: News::default(),
            told: None,
            known: false,
            knows_pattern: false,
            departing: false,
            target: BTreeSet::new(),
            unreconciled: false,
            unannounced: false,
            unacknowledged: false,
            doubtful: false,
            names: HashMap::new(),
            naming: false,
            name_at: None,
            name_failures: 0,
            adopted: false,
            owned: BTreeMap::new(),
            revoking: Vec::new(),
            due: Vec::new(),
            config,
        }
    }

    /// What to do now. Call it again after each step, until it says to wait.
    pub(crate) fn poll(&mut self, now: Instant) -> Step {
        self.check_application(now);
        if !self.due.is_empty() {
            return self.due.remove(0);
        }
        if let Some(step) = self.reconcile(now) {
            return step;
        }
        match self.beat_at(now) {
            Some(at) if at <= now => self.beat(),
            beat_at => {
                let name_at = self.name_at.filter(|_| self.unreconciled && !self.naming);
                let times = [beat_at, name_at, self.poll_deadline()];
                Step::Wait(times.into_iter().flatten().min())
            }
        }
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
        !self.revoking.is_empty()
    }

    /// Whether the driver is giving this up on this machine's behalf.
    pub(crate) fn revokes(&self, partition: &TopicPartition) -> bool {
        self.revoking.contains(partition)
    }

    /// There is a subscription by names, perhaps another than before.
    pub(crate) fn subscribe(&mut self, topics: impl IntoIterator<Item = Str>, now: Instant) {
        self.resubscribe(topics.into_iter().collect(), None, now);
    }

    /// There is a subscription by a pattern that the brokers match.
    pub(crate) fn subscribe_pattern(&mut self, pattern: Str, now: Instant) {
        self.resubscribe(BTreeSet::new(), Some(pattern), now);
    }

    /// The group is left, and not joined again until there is a subscription.
    pub(crate) fn leave(&mut self) {
        self.due.retain(Step::is_farewell);
        if self.adopted {
            self.due.push(Step::Drop);
        }
        self.forget_assignment();
        self.say_goodbye();
        self.state = State::Absent;
    }

    /// The group is left though the application did not ask for it.
    pub(crate) fn lose_and_leave(&mut self) {
        self.lose();
        self.say_goodbye();
        self.state = State::Absent;
    }

    /// The application came for records (`waiting`), or stopped waiting for them.
    pub(crate) fn application_polls(&mut self, waiting: bool, now: Instant) {
        self.presence.polls(waiting, now);
        if self.state == State::Evicted {
            self.state = State::Present;
        }
    }

    /// What was to be given up is.
    pub(crate) fn handle_revoked(&mut self) {
        for partition in std::mem::take(&mut self.revoking) {
            self.owned.remove(&partition);
            self.news.owned += 1;
        }
    }

    pub(crate) fn handle_beaten(&mut self, attempt: u64, beaten: Beaten, now: Instant) {
        if !self.takes(attempt) {
            return;
        }
        if beaten.error.is_err() {
            return self.handle_error(beaten.error, now);
        }
        if beaten.epoch <= 0 {
            tracing::error!(
                epoch = beaten.epoch,
                "the coordinator gave this member an epoch that none can have"
            );
            return self.pause(now);
        }
        let joined = self.epoch == 0;
        // Given once: commits and answers under way are those of the member that it is.
        if let Some(id) = beaten.member_id.filter(|id| joined && !id.is_empty()) {
            self.member_id = id;
        }
        self.failures = 0;
        self.retry_at = None;
        self.doubtful = false;
        self.told = Some(self.telling);
        self.epoch = beaten.epoch;
        self.next_beat = now + beaten.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        let Some(assignment) = beaten.assignment else {
            return;
        };
        // Told again after a failure, it is mostly what it was.
        if joined || assignment != self.target {
            self.target = assignment;
            self.unreconciled = true;
            self.unannounced = true;
            self.unacknowledged = true;
            self.name_at = None;
            let owned: BTreeSet<Uuid> = self.owned.values().map(|own| own.topic_id).collect();
            let target = &self.target;
            let is_used = |id: &Uuid| {
                owned.contains(id)
                    || target
                        .range((*id, i32::MIN)..=(*id, i32::MAX))
                        .next()
                        .is_some()
            };
            self.names.retain(|id, _| is_used(id));
        }
    }

    /// A heartbeat could not be answered at all; the same may work later.
    pub(crate) fn handle_unanswered(&mut self, attempt: u64, now: Instant) {
        if self.takes(attempt) {
            self.handle_error(ErrorCode::COORDINATOR_NOT_AVAILABLE, now);
        }
    }

    /// The cluster will not say who coordinates this group.
    pub(crate) fn handle_refused(&mut self, attempt: u64, error: ErrorCode, now: Instant) {
        if self.takes(attempt) {
            self.handle_error(error, now);
        }
    }

    /// The coordinator was told that this member leaves, or could not be.
    pub(crate) fn handle_departed(&mut self) {
        self.departing = false;
    }

    /// The names that were found of those [`Step::Name`] asked for.
    pub(crate) fn handle_named(
        &mut self,
        names: impl IntoIterator<Item = (Uuid, Str)>,
        now: Instant,
    ) {
        self.naming = false;
        let target = &self.target;
        let wanted = |id: Uuid| {
            target
                .range((id, i32::MIN)..=(id, i32::MAX))
                .next()
                .is_some()
        };
        let names = names.into_iter().filter(|(id, _)| wanted(*id));
        self.names.extend(names);
        let missing = target.iter().any(|(id, _)| !self.names.contains_key(id));
        if missing {
            self.name_failures += 1;
            let pause = self
                .config
                .backoff
                .delay(self.name_failures, self.random.f64());
            self.name_at = Some(now + pause.max(PAUSE_MIN));
        } else {
            self.name_failures = 0;
            self.name_at = None;
        }
    }

    /// A commit, which speaks for this member too, met this error.
    pub(crate) fn handle_commit_error(
        &mut self,
        error: ErrorCode,
        sent_as: &Identity,
        now: Instant,
    ) {
        let ours = self.epoch > 0 && *sent_as == self.identity();
        let doubted = matches!(
            error,
            ErrorCode::STALE_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID
        );
        if ours && doubted {
            // The next heartbeat brings the new epoch, or says that there is none.
            self.next_beat = self.next_beat.min(now);
        }
    }

    /// On whose behalf a commit that was made earlier is sent. What this member kept since then, it commits in its
    /// present epoch.
    pub(crate) fn commit_as<'a>(
        &self,
        made_by: &Identity,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> CommitAs {
        let same = made_by.member_id == self.member_id;
        if !self.adopted || !same || made_by.generation == self.epoch {
            // Should it not be a member's any more, the coordinator says so.
            return CommitAs::Member(made_by.clone());
        }
        let kept = |partition: &TopicPartition| {
            let own = self.owned.get(partition);
            own.is_some_and(|own| own.since <= made_by.generation)
        };
        match partitions.into_iter().all(kept) {
            true => CommitAs::Member(self.identity()),
            false => CommitAs::Nobody(ErrorCode::STALE_MEMBER_EPOCH),
        }
    }

    /// Whether a commit that met this error may be accepted in the epoch that the next heartbeat brings.
    pub(crate) fn may_commit_later(&self, sent_as: &Identity, error: ErrorCode) -> bool {
        self.adopted
            && sent_as.member_id == self.member_id
            && error == ErrorCode::STALE_MEMBER_EPOCH
    }

    /// On whose behalf a commit is made now; see [`super::membership::Membership::committer`].
    pub(crate) fn committer(&self) -> Result<Identity, ErrorCode> {
        match self.state {
            State::Absent => Ok(Identity::nobody()),
            _ if self.epoch > 0 => Ok(self.identity()),
            _ => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// With epoch 0 for one that has lost its place: no coordinator takes that for a commit by hand.
    pub(crate) fn identity(&self) -> Identity {
        match self.state {
            State::Absent => Identity::nobody(),
            _ => Identity {
                member_id: self.member_id.clone(),
                generation: self.epoch,
            },
        }
    }

    fn resubscribe(&mut self, topics: BTreeSet<Str>, pattern: Option<Str>, now: Instant) {
        if self.topics != topics || self.pattern != pattern {
            self.topics = topics;
            self.pattern = pattern;
            self.news.subscription += 1;
        }
        if self.is_idle() {
            self.failures = 0;
            self.retry_at = None;
            self.presence.begins(now);
            self.state = State::Present;
        }
    }

    /// The next step towards what this member shall have.
    fn reconcile(&mut self, now: Instant) -> Option<Step> {
        if !self.unreconciled || self.is_revoking() {
            return None;
        }
        let gone = self.owned.iter().filter(|(partition, own)| {
            let id = (own.topic_id, partition.partition);
            !self.target.contains(&id)
        });
        let gone: Vec<_> = gone.map(|(partition, _)| partition.clone()).collect();
        if !gone.is_empty() {
            self.revoking.clone_from(&gone);
            return Some(Step::Revoke {
                partitions: gone,
                all: false,
            });
        }
        let mut nameless = BTreeSet::new();
        let mut new = Vec::new();
        for (topic_id, partition) in &self.target {
            let Some(name) = self.names.get(topic_id) else {
                nameless.insert(*topic_id);
                continue;
            };
            let partition = TopicPartition::new(name.clone(), *partition);
            if !self.owned.contains_key(&partition) {
                new.push((partition, *topic_id));
            }
        }
        let complete = nameless.is_empty();
        if !complete && !self.naming && self.name_at.is_none_or(|at| at <= now) {
            self.naming = true;
            return Some(Step::Name(nameless));
        }
        if self.doubtful {
            return None;
        }
        self.unreconciled = !complete;
        if self.unacknowledged && (complete || !self.naming) {
            self.unacknowledged = false;
            self.news.owned += 1;
        }
        if new.is_empty() && !(complete && self.unannounced) {
            return None;
        }
        self.unannounced = false;
        self.adopted = true;
        let mut names = Vec::with_capacity(new.len());
        for (partition, topic_id) in new {
            let own = Own {
                topic_id,
                since: self.epoch,
            };
            self.owned.insert(partition.clone(), own);
            self.news.owned += 1;
            names.push(partition);
        }
        Some(Step::Adopt(names))
    }

    /// When to send the next heartbeat; at once if there is something to tell.
    fn beat_at(&self, now: Instant) -> Option<Instant> {
        if self.state != State::Present || self.out || self.departing {
            return None;
        }
        let news = self.epoch == 0 || self.told != Some(self.news);
        match (self.retry_at, news) {
            (Some(at), _) => Some(at),
            (None, true) => Some(now),
            (None, false) => Some(self.next_beat),
        }
    }

    fn beat(&mut self) -> Step {
        self.out = true;
        self.known = true;
        self.attempt += 1;
        self.telling = self.news;
        let told = self.told;
        let full = told.is_none() || self.epoch == 0;
        let reads = full || told.is_some_and(|told| told.subscription != self.news.subscription);
        let has = full || told.is_some_and(|told| told.owned != self.news.owned);
        // That there is no pattern is worth a word only where there was one.
        let pattern = match &self.pattern {
            Some(pattern) => Some(pattern.clone()),
            None => self.knows_pattern.then(Str::new),
        };
        let pattern = pattern.filter(|_| reads);
        self.knows_pattern |= pattern.is_some();
        self.doubtful |= has;
        Step::Beat(Beat {
            attempt: self.attempt,
            member_id: self.member_id.clone(),
            epoch: self.epoch,
            full,
            topics: reads.then(|| self.topics.iter().cloned().collect()),
            pattern,
            owned: has.then(|| {
                let owned = self.owned.iter();
                owned
                    .map(|(partition, own)| (own.topic_id, partition.partition))
                    .collect()
            }),
        })
    }

    /// Whether the answer is to the heartbeat that is out, which it is not any more then.
    fn takes(&mut self, attempt: u64) -> bool {
        let takes = attempt == self.attempt && self.out;
        if takes {
            self.out = false;
        }
        takes
    }

    fn handle_error(&mut self, error: ErrorCode, now: Instant) {
        // What the coordinator knows by now is uncertain.
        self.told = None;
        let joined = self.epoch > 0;
        match error {
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => {
                self.due.push(Step::Rediscover);
                self.pause(now);
            }
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_MEMBER_EPOCH => {
                self.lose();
                self.pause(now);
            }
            // The group is gone, with all its members.
            ErrorCode::GROUP_ID_NOT_FOUND if joined => {
                self.lose();
                self.pause(now);
            }
            error if error.is_retriable() => self.pause(now),
            error => {
                self.lose();
                if joined {
                    // Who is refused is a member still, and others wait for what it had.
                    self.say_goodbye();
                }
                self.known = false;
                self.state = State::Failed;
                self.due.push(Step::Fail(error));
            }
        }
    }

    fn pause(&mut self, now: Instant) {
        self.told = None;
        self.failures += 1;
        let pause = self.config.backoff.delay(self.failures, self.random.f64());
        self.retry_at = Some(now + pause.max(PAUSE_MIN));
    }

    fn lose(&mut self) {
        self.due.retain(Step::is_farewell);
        if self.adopted {
            let lost = self.owned.keys().cloned().collect();
            self.due.push(Step::Lose(lost));
        }
        self.forget_assignment();
    }

    fn forget_assignment(&mut self) {
        self.epoch = 0;
        self.told = None;
        self.out = false;
        self.target.clear();
        self.unreconciled = false;
        self.unannounced = false;
        self.unacknowledged = false;
        self.doubtful = false;
        self.adopted = false;
        self.owned.clear();
        self.revoking.clear();
        self.news.owned += 1;
    }

    fn say_goodbye(&mut self) {
        self.retry_at = None;
        if std::mem::take(&mut self.known) {
            self.departing = true;
            self.due.push(Step::Depart {
                member_id: self.member_id.clone(),
                epoch: match self.config.is_static {
                    true => LEAVE_FOR_A_WHILE,
                    false => LEAVE,
                },
            });
        }
    }

    fn check_application(&mut self, now: Instant) {
        if self.poll_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.presence.warn();
        // Also with nothing in hand: the driver looks out for the application then.
        self.adopted = true;
        self.lose();
        self.say_goodbye();
        self.state = State::Evicted;
    }

    fn poll_deadline(&self) -> Option<Instant> {
        let member = self.state == State::Present && self.epoch > 0;
        self.presence.deadline().filter(|_| member)
    }
}

/// The epoch of a member that leaves, and that of a static one which may be back.
const LEAVE: i32 = -1;
const LEAVE_FOR_A_WHILE: i32 = -2;

/// What a coordinator may ask for between heartbeats: neither a busy loop nor a member that hears of nothing.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
