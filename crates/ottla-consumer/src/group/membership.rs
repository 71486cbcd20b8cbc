//! A member of a group, whichever protocol its group speaks: what the driver and the commits deal with.
//!
//! With `group.protocol` = `auto` the protocol is not known until the coordinator's broker has said what it speaks;
//! until then the membership is [`Choosing`].

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ottla_net::Backoff;
use ottla_wire::{Bytes, ErrorCode, Uuid};

use super::{
    classic::Classic,
    consumer::{Beat, ConsumerMembership},
};
use crate::{Str, TopicPartition, assignor::Member};

/// What the driver is to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Find out which protocol the group's coordinator speaks; another membership takes the place of this one then.
    Choose { attempt: u64 },
    /// Send a JoinGroup.
    Join {
        attempt: u64,
        member_id: Str,
        /// What it owns, and goes on reading while the group rebalances.
        owned: Vec<TopicPartition>,
        reason: &'static str,
    },
    /// Compute who gets what, as the group's leader; then [`Classic::handle_led`]. `skip`: only look what there is to
    /// distribute; the coordinator goes by what was distributed before.
    Lead {
        attempt: u64,
        assignor: Str,
        members: Vec<Member>,
        skip: bool,
    },
    /// Send a SyncGroup.
    Sync {
        attempt: u64,
        generation: i32,
        member_id: Str,
        assignor: Str,
        assignments: Vec<(Str, Bytes)>,
    },
    /// Send a Heartbeat.
    Heartbeat {
        attempt: u64,
        generation: i32,
        member_id: Str,
    },
    /// Send a LeaveGroup; nothing waits for the answer.
    Leave {
        member_id: Str,
        reason: &'static str,
    },
    /// Send a ConsumerGroupHeartbeat.
    Beat(Beat),
    /// Send a ConsumerGroupHeartbeat that leaves the group; then [`ConsumerMembership::handle_departed`].
    Depart { member_id: Str, epoch: i32 },
    /// Find out the names of these topics; then [`ConsumerMembership::handle_named`].
    Name(BTreeSet<Uuid>),
    /// Start reading these, beside what was adopted before and not given up.
    Adopt(Vec<TopicPartition>),
    /// Stop reading these, as soon as the application is done with what it was handed of them;
    /// commit; then [`Membership::handle_revoked`]. `all`: that is all that was adopted.
    Revoke {
        partitions: Vec<TopicPartition>,
        all: bool,
    },
    /// Stop reading what was adopted at once: it belongs to others by now.
    Lose(Vec<TopicPartition>),
    /// The same, because the application wanted to leave, and knows.
    Drop,
    /// Look the coordinator up anew.
    Rediscover,
    /// The application has to know; nothing happens until it subscribes anew.
    Fail(ErrorCode),
    /// Nothing until something happens, or until then.
    Wait(Option<Instant>),
}

impl Step {
    /// Whether it tells the coordinator that this member is gone.
    pub(crate) fn is_farewell(&self) -> bool {
        matches!(self, Self::Leave { .. } | Self::Depart { .. })
    }
}

/// Who this member is in its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) member_id: Str,
    /// -1: none. In the consumer protocol this is the member's epoch.
    pub(crate) generation: i32,
}

impl Identity {
    /// Of one who is no member.
    pub(crate) fn nobody() -> Self {
        Self {
            member_id: Str::new(),
            generation: -1,
        }
    }

    /// Of one whom every coordinator refuses: no group has such a member, and a generation that is not negative says that
    /// this is to be one.
    pub(crate) fn stranger() -> Self {
        Self {
            member_id: Str::new(),
            generation: 0,
        }
    }
}

/// On whose behalf to send a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommitAs {
    Member(Identity),
    /// Not before the group has its new assignment.
    Later,
    /// It is for partitions that were others' meanwhile, who may be further by now.
    Nobody(ErrorCode),
}

#[derive(Debug)]
pub(crate) enum Membership {
    Choosing(Choosing),
    Classic(Classic),
    Consumer(ConsumerMembership),
}

/// The same call, of whichever it is.
macro_rules! either {
    ($self:expr, $one:ident => $call:expr) => {
        match $self {
            Membership::Choosing($one) => $call,
            Membership::Classic($one) => $call,
            Membership::Consumer($one) => $call,
        }
    };
}

impl Membership {
    /// What to do now. Call it again after each step, until it says to wait.
    pub(crate) fn poll(&mut self, now: Instant) -> Step {
        either!(self, one => one.poll(now))
    }

    pub(crate) fn classic(&mut self) -> Option<&mut Classic> {
        match self {
            Self::Classic(classic) => Some(classic),
            _ => None,
        }
    }

    pub(crate) fn consumer(&mut self) -> Option<&mut ConsumerMembership> {
        match self {
            Self::Consumer(consumer) => Some(consumer),
            _ => None,
        }
    }

    pub(crate) fn is_choosing(&self) -> bool {
        matches!(self, Self::Choosing(_))
    }

    /// Whether nothing happens until there is a subscription.
    pub(crate) fn is_idle(&self) -> bool {
        either!(self, one => one.is_idle())
    }

    /// Whether this is the member's: adopted, and neither given up nor lost.
    pub(crate) fn owns(&self, partition: &TopicPartition) -> bool {
        match self {
            Self::Choosing(_) => false,
            Self::Classic(classic) => classic.owns(partition),
            Self::Consumer(consumer) => consumer.owns(partition),
        }
    }

    /// Whether the driver is giving partitions up on this machine's behalf.
    pub(crate) fn is_revoking(&self) -> bool {
        match self {
            Self::Choosing(_) => false,
            Self::Classic(classic) => classic.is_revoking(),
            Self::Consumer(consumer) => consumer.is_revoking(),
        }
    }

    /// Whether the driver is giving this up on this machine's behalf.
    pub(crate) fn revokes(&self, partition: &TopicPartition) -> bool {
        match self {
            Self::Choosing(_) => false,
            Self::Classic(classic) => classic.revokes(partition),
            Self::Consumer(consumer) => consumer.revokes(partition),
        }
    }

    /// There is a subscription by names, perhaps another than before.
    pub(crate) fn subscribe(&mut self, topics: impl IntoIterator<Item = Str>, now: Instant) {
        match self {
            Self::Choosing(choosing) => choosing.subscribe(),
            Self::Classic(classic) => classic.subscribe(topics, now),
            Self::Consumer(consumer) => consumer.subscribe(topics, now),
        }
    }

    /// The group is left, and not joined again until there is a subscription.
    pub(crate) fn leave(&mut self, reason: &'static str) {
        match self {
            Self::Choosing(choosing) => choosing.wanted = false,
            Self::Classic(classic) => classic.leave(reason),
            Self::Consumer(consumer) => consumer.leave(),
        }
    }

    /// The group is left though the application did not ask for it.
    pub(crate) fn lose_and_leave(&mut self, reason: &'static str) {
        match self {
            Self::Choosing(choosing) => choosing.wanted = false,
            Self::Classic(classic) => classic.lose_and_leave(reason),
            Self::Consumer(consumer) => consumer.lose_and_leave(),
        }
    }

    /// The application came for records (`waiting`), or stopped waiting for them.
    pub(crate) fn application_polls(&mut self, waiting: bool, now: Instant) {
        match self {
            Self::Choosing(_) => {}
            Self::Classic(classic) => classic.application_polls(waiting, now),
            Self::Consumer(consumer) => consumer.application_polls(waiting, now),
        }
    }

    /// What was to be given up is.
    pub(crate) fn handle_revoked(&mut self, now: Instant) {
        match self {
            Self::Choosing(_) => {}
            Self::Classic(classic) => classic.handle_revoked(now),
            Self::Consumer(consumer) => consumer.handle_revoked(),
        }
    }

    /// A request of this member could not be answered at all; the same may work later.
    pub(crate) fn handle_unanswered(&mut self, attempt: u64, now: Instant) {
        match self {
            Self::Choosing(choosing) => choosing.handle_unanswered(attempt, now),
            Self::Classic(classic) => classic.handle_unanswered(attempt, now),
            Self::Consumer(consumer) => consumer.handle_unanswered(attempt, now),
        }
    }

    /// The cluster will not say who coordinates this group.
    pub(crate) fn handle_refused(&mut self, attempt: u64, error: ErrorCode, now: Instant) {
        match self {
            Self::Choosing(choosing) => choosing.handle_refused(attempt, error),
            Self::Classic(classic) => classic.handle_refused(attempt, error, now),
            Self::Consumer(consumer) => consumer.handle_refused(attempt, error, now),
        }
    }

    /// A commit, which speaks for this member too, met this error.
    pub(crate) fn handle_commit_error(
        &mut self,
        error: ErrorCode,
        sent_as: &Identity,
        now: Instant,
    ) {
        match self {
            Self::Choosing(_) => {}
            Self::Classic(classic) => classic.handle_commit_error(error, sent_as, now),
            Self::Consumer(consumer) => consumer.handle_commit_error(error, sent_as, now),
        }
    }

    /// On whose behalf a commit that was made earlier is sent.
    pub(crate) fn commit_as<'a>(
        &self,
        made_by: &Identity,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> CommitAs {
        match self {
            Self::Choosing(_) => CommitAs::Member(made_by.clone()),
            Self::Classic(classic) => classic.commit_as(made_by, partitions),
            Self::Consumer(consumer) => consumer.commit_as(made_by, partitions),
        }
    }

    /// Whether a commit that met this error may be accepted later, in another generation or epoch.
    pub(crate) fn may_commit_later(&self, sent_as: &Identity, error: ErrorCode) -> bool {
        match self {
            Self::Choosing(_) => false,
            Self::Classic(classic) => classic.may_commit_later(sent_as, error),
            Self::Consumer(consumer) => consumer.may_commit_later(sent_as, error),
        }
    }

    /// Whether a request waits at the coordinator, which answers nothing else on that connection meanwhile.
    pub(crate) fn is_joining(&self) -> bool {
        matches!(self, Self::Classic(classic) if classic.is_joining())
    }

    /// On whose behalf a commit is made now. Without a subscription that is nobody's, for partitions that were assigned
    /// by hand. A member that lost its place has no say: an empty group would take its commit as one by hand.
    pub(crate) fn committer(&self) -> Result<Identity, ErrorCode> {
        match self {
            Self::Choosing(choosing) if choosing.wanted => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Self::Choosing(_) => Ok(Identity::nobody()),
            Self::Classic(classic) => classic.committer(),
            Self::Consumer(consumer) => consumer.committer(),
        }
    }

    /// Who it is for those who write offsets on its behalf. One that lost its place, or has none yet, must not look like
    /// nobody, whose offsets a group takes that is empty.
    pub(crate) fn spokesman(&self) -> Identity {
        self.committer().unwrap_or_else(|_| Identity::stranger())
    }
}

/// Waits to hear which protocol the coordinator speaks, once there is a subscription.
#[derive(Debug)]
pub(crate) struct Choosing {
    wanted: bool,
    out: bool,
    /// Not before then.
    retry_at: Option<Instant>,
    attempt: u64,
    failures: u32,
    due: Option<Step>,
    backoff: Backoff,
    random: fastrand::Rng,
}

impl Choosing {
    pub(crate) fn new(backoff: Backoff, seed: u64) -> Self {
        Self {
            wanted: false,
            out: false,
            retry_at: None,
            attempt: 0,
            failures: 0,
            due: None,
            backoff,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn is_idle(&self) -> bool {
        !self.wanted
    }

    fn subscribe(&mut self) {
        if !self.wanted {
            (self.wanted, self.failures, self.retry_at) = (true, 0, None);
        }
    }

    fn poll(&mut self, now: Instant) -> Step {
        if let Some(step) = self.due.take() {
            return step;
        }
        if !self.wanted || self.out {
            return Step::Wait(None);
        }
        if let Some(at) = self.retry_at.filter(|at| now < *at) {
            return Step::Wait(Some(at));
        }
        self.out = true;
        self.attempt += 1;
        Step::Choose {
            attempt: self.attempt,
        }
    }

    fn handle_unanswered(&mut self, attempt: u64, now: Instant) {
        if attempt == self.attempt {
            self.out = false;
            self.failures += 1;
            let pause = self.backoff.delay(self.failures, self.random.f64());
            self.retry_at = Some(now + pause.max(PAUSE_MIN));
            self.due = Some(Step::Rediscover);
        }
    }

    fn handle_refused(&mut self, attempt: u64, error: ErrorCode) {
        if attempt == self.attempt {
            (self.out, self.wanted) = (false, false);
            self.due = Some(Step::Fail(error));
        }
    }
}

/// `retry.backoff.ms` may be 0, and an answer that cannot be used may come at the speed of the network.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(10);
