//! Commits in order: one request at a time, so that an older commit can never land after a newer one,
//! however often it is retried. Commits that queue up behind one that is out become one request, in
//! which the later offset of a partition counts.
//!
//! A plain state machine: [`Committer::poll`] says what to send, the answers settle the tickets of
//! those who wait.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use ottla_net::Backoff;
use ottla_wire::ErrorCode;

use super::membership::Identity;
use crate::{CommittedOffset, TopicPartition};

pub(crate) type Offsets = BTreeMap<TopicPartition, CommittedOffset>;

/// Names a commit to the one who asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    /// The coordinator refused this partition (or, if none, the whole).
    Refused {
        partition: Option<TopicPartition>,
        error: ErrorCode,
    },
    /// Its deadline passed. `sent`: it may have been stored all the same.
    Expired {
        sent: bool,
        last: ErrorCode,
    },
}

impl Outcome {
    /// Of a commit that failed: whether it may have been stored for this partition all the same.
    pub(crate) fn may_have_stored(&self, name: &TopicPartition) -> bool {
        match self {
            Self::Committed => true,
            Self::Refused { partition, .. } => partition.as_ref().is_some_and(|p| p != name),
            Self::Expired { sent, .. } => *sent,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommitStep {
    /// Send an OffsetCommit on behalf of this member.
    Send {
        identity: Identity,
        offsets: Offsets,
    },
    Wait(Option<Instant>),
}

/// What an answer says about the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommitAnswer {
    Partitions(Vec<(TopicPartition, ErrorCode)>),
    /// Nobody answered. `sent`: someone may have read it.
    None {
        sent: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Committer {
    queue: VecDeque<Job>,
    out: bool,
    /// Whether the first job was sent without an answer.
    unsure: bool,
    /// Why the first job is tried again; [`UNKNOWN`] if it is for nothing but topics that the coordinator does not know.
    last: ErrorCode,
    failures: u32,
    retry_at: Option<Instant>,
    tickets: u64,
    settled: Vec<(Ticket, Outcome)>,
    /// Who waits for all tickets before their own.
    barriers: Vec<(Ticket, Instant)>,
    backoff: Backoff,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Job {
    identity: Identity,
    /// What is neither stored nor refused.
    offsets: Offsets,
    waiters: Vec<Waiter>,
    /// Since when the coordinator has said of these that it does not know their topics.
    unknown: BTreeMap<TopicPartition, Instant>,
}

/// Who waits for a job, for as much of it as it asked for.
#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    deadline: Instant,
    /// What of it is neither stored nor refused.
    left: BTreeSet<TopicPartition>,
    refused: Option<(TopicPartition, ErrorCode)>,
}

impl Waiter {
    /// How it ends for this one, unless it is `otherwise`.
    fn outcome(self, otherwise: Outcome) -> (Ticket, Outcome) {
        let outcome = match self.refused {
            Some((partition, error)) => Outcome::Refused {
                partition: Some(partition),
                error,
            },
            None => otherwise,
        };
        (self.ticket, outcome)
    }
}

impl Committer {
    pub(crate) fn new(backoff: Backoff, seed: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            out: false,
            unsure: false,
            last: ErrorCode::NONE,
            failures: 0,
            retry_at: None,
            tickets: 0,
            settled: Vec::new(),
            barriers: Vec::new(),
            backoff,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Queues a commit. It is tried until `deadline`.
    pub(crate) fn commit(
        &mut self,
        identity: Identity,
        offsets: Offsets,
        deadline: Instant,
    ) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        if offsets.is_empty() {
            self.settled.push((ticket, Outcome::Committed));
            return ticket;
        }
        let waiter = Waiter {
            ticket,
            deadline,
            left: offsets.keys().cloned().collect(),
            refused: None,
        };
        if self.last == UNKNOWN {
            // Nobody else waits for a topic that may never come.
            self.retry_at = None;
        }
        // The first job may be out already; what it says is settled.
        let first_fixed = usize::from(self.out);
        let queued = self.queue.len() > first_fixed;
        match self
            .queue
            .back_mut()
            .filter(|last| queued && last.identity == identity)
        {
            Some(last) => {
                last.offsets.extend(offsets);
                last.waiters.push(waiter);
            }
            None => {
                self.queue.push_back(Job {
                    identity,
                    offsets,
                    waiters: vec![waiter],
                    unknown: BTreeMap::new(),
                });
            }
        }
        ticket
    }

    /// Queues nothing: the ticket is settled, as [`Outcome::Committed`], once all before it are, however they ended.
    pub(crate) fn barrier(&mut self, deadline: Instant) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.barriers.push((ticket, deadline));
        ticket
    }

    /// What to do now.
    pub(crate) fn poll(&mut self, now: Instant) -> CommitStep {
        self.expire(now);
        let waiters = self.queue.iter().flat_map(|job| &job.waiters);
        let barriers = self.barriers.iter().map(|(_, deadline)| *deadline);
        let deadline = waiters.map(|waiter| waiter.deadline).chain(barriers).min();
        let Some(job) = self.queue.front().filter(|_| !self.out) else {
            return CommitStep::Wait(deadline);
        };
        if let Some(at) = self.retry_at.filter(|&at| now < at) {
            return CommitStep::Wait(deadline.map(|deadline| deadline.min(at)));
        }
        self.out = true;
        CommitStep::Send {
            identity: job.identity.clone(),
            offsets: job.offsets.clone(),
        }
    }

    /// What [`CommitStep::Send`] asked for cannot be done yet.
    pub(crate) fn put_off(&mut self, now: Instant) {
        self.out = false;
        self.retry_at = Some(now + PUT_OFF);
    }

    /// What [`CommitStep::Send`] asked for must not be done any more.
    pub(crate) fn refuse(&mut self, error: ErrorCode) {
        self.out = false;
        self.settle(|| Outcome::Refused {
            partition: None,
            error,
        });
    }

    /// The answer to the request that is out. `later` says which errors of the member's will pass, `gone` of which
    /// partitions the cluster knows no more. Returns the error that concerns the membership, if any.
    pub(crate) fn handle_answer(
        &mut self,
        answer: CommitAnswer,
        later: impl Fn(ErrorCode) -> bool,
        gone: impl Fn(&TopicPartition) -> bool,
        now: Instant,
    ) -> Option<ErrorCode> {
        self.out = false;
        let partitions = match answer {
            CommitAnswer::Partitions(partitions) => partitions,
            CommitAnswer::None { sent } => {
                self.unsure |= sent;
                self.last = ErrorCode::COORDINATOR_NOT_AVAILABLE;
                self.retry_later(now);
                return None;
            }
        };
        let mut errors = partitions.iter().map(|(_, error)| *error);
        if let Some(error) = errors.find(|error| concerns_member(*error) && !later(*error)) {
            self.settle(|| Outcome::Refused {
                partition: None,
                error,
            });
            return Some(error);
        }
        let errors: BTreeMap<_, _> = partitions.into_iter().filter(|(_, e)| e.is_err()).collect();
        let job = self.queue.front_mut()?;
        let unknown = &mut job.unknown;
        unknown.retain(|name, _| errors.get(name) == Some(&UNKNOWN));
        let (mut retry, mut refused) = (None, BTreeMap::new());
        job.offsets.retain(|name, _| {
            // A partition the answer leaves out was asked for and not refused: Java takes that as done.
            let Some(&error) = errors.get(name) else {
                return false;
            };
            let passes = match error {
                UNKNOWN => {
                    // Right after it was created not all brokers know it.
                    let since = *unknown.entry(name.clone()).or_insert(now);
                    now < since + UNKNOWN_MIN || !gone(name)
                }
                error => may_retry(error) || later(error),
            };
            if !passes {
                refused.insert(name.clone(), error);
            } else if retry.is_none_or(|other| other == UNKNOWN) {
                retry = Some(error);
            }
            passes
        });
        for waiter in &mut job.waiters {
            let mut own = refused
                .iter()
                .filter(|(name, _)| waiter.left.contains(*name));
            if let Some((name, error)) = own.next() {
                waiter.refused.get_or_insert((name.clone(), *error));
            }
            waiter.left.retain(|name| job.offsets.contains_key(name));
        }
        let done = job.waiters.extract_if(.., |waiter| waiter.left.is_empty());
        self.settled
            .extend(done.map(|waiter| waiter.outcome(Outcome::Committed)));
        let Some(error) = retry else {
            self.settle(|| Outcome::Committed);
            return None;
        };
        self.last = error;
        self.retry_later(now);
        (error.rediscovers_coordinator() || concerns_member(error)).then_some(error)
    }

    /// Of which partitions the coordinator said in its latest answer that it does not know them.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &TopicPartition> {
        self.queue
            .front()
            .into_iter()
            .flat_map(|job| job.unknown.keys())
    }

    /// Commits that ended since the last call.
    pub(crate) fn take_settled(&mut self) -> Vec<(Ticket, Outcome)> {
        if self.barriers.is_empty() {
            return std::mem::take(&mut self.settled);
        }
        let waiters = self.queue.iter().flat_map(|job| &job.waiters);
        let first = waiters.map(|waiter| waiter.ticket).min();
        let reached = |barrier: &mut (Ticket, Instant)| first.is_none_or(|first| barrier.0 < first);
        let reached = self.barriers.extract_if(.., reached);
        self.settled
            .extend(reached.map(|(ticket, _)| (ticket, Outcome::Committed)));
        std::mem::take(&mut self.settled)
    }

    /// Whether anything waits or is out.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.out
    }

    fn settle(&mut self, outcome: impl Fn() -> Outcome) {
        if let Some(job) = self.queue.pop_front() {
            let waiters = job.waiters.into_iter();
            self.settled
                .extend(waiters.map(|waiter| waiter.outcome(outcome())));
        }
        self.unsure = false;
        self.last = ErrorCode::NONE;
        self.failures = 0;
        self.retry_at = None;
    }

    fn retry_later(&mut self, now: Instant) {
        self.failures += 1;
        let pause = self.backoff.delay(self.failures, self.random.f64());
        self.retry_at = Some(now + pause);
    }

    /// Drops tickets whose deadline passed, and jobs nobody waits for that are not out.
    fn expire(&mut self, now: Instant) {
        for (index, job) in self.queue.iter_mut().enumerate() {
            let sent = index == 0 && (self.out || self.unsure);
            let last = if index == 0 {
                self.last
            } else {
                ErrorCode::NONE
            };
            let late = job.waiters.extract_if(.., |waiter| now >= waiter.deadline);
            self.settled
                .extend(late.map(|waiter| waiter.outcome(Outcome::Expired { sent, last })));
        }
        let late = self.barriers.extract_if(.., |barrier| now >= barrier.1);
        self.settled.extend(late.map(|(ticket, _)| {
            let last = self.last;
            (ticket, Outcome::Expired { sent: false, last })
        }));
        while self.queue.front().is_some_and(|job| job.waiters.is_empty()) && !self.out {
            self.settle(|| Outcome::Committed);
        }
        let fixed = usize::from(self.out);
        let mut index = 0;
        self.queue.retain(|job| {
            index += 1;
            index <= fixed || !job.waiters.is_empty()
        });
    }
}

/// How long what cannot be committed during a rebalance waits before it is looked at again.
const PUT_OFF: Duration = Duration::from_millis(50);

/// How long a topic must have been unknown to the coordinator, too, to be taken for one that is gone.
const UNKNOWN_MIN: Duration = Duration::from_secs(1);

const UNKNOWN: ErrorCode = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;

/// Whether the same request may be accepted later, by this coordinator or another.
fn may_retry(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::REQUEST_TIMED_OUT
    )
}

/// Whether the error says that this member has no say any more.
fn concerns_member(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::FENCED_INSTANCE_ID
            | ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::STALE_MEMBER_EPOCH
            | ErrorCode::GROUP_AUTHORIZATION_FAILED
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn committer() -> Committer {
        Committer::new(
            Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
            1,
        )
    }

    fn me(generation: i32) -> Identity {
        Identity {
            member_id: "m".into(),
            generation,
        }
    }

    fn offsets(pairs: &[(i32, i64)]) -> Offsets {
        pairs
            .iter()
            .map(|&(p, o)| (TopicPartition::new("t", p), o.into()))
            .collect()
    }

    fn all(offsets: &Offsets, error: ErrorCode) -> CommitAnswer {
        CommitAnswer::Partitions(offsets.keys().map(|p| (p.clone(), error)).collect())
    }

    fn sent(committer: &mut Committer, now: Instant) -> Offsets {
        match committer.poll(now) {
            CommitStep::Send { offsets, .. } => offsets,
            CommitStep::Wait(until) => panic!("waits until {until:?}"),
        }
    }

    /// The answer, where no error of the member's passes and no partition is gone.
    fn hears(committer: &mut Committer, answer: CommitAnswer, now: Instant) -> Option<ErrorCode> {
        committer.handle_answer(answer, |_| false, |_| false, now)
    }

    #[test]
    fn what_queues_behind_a_request_becomes_one_and_the_latest_counts() {
        let (mut c, now) = (committer(), Instant::now());
        let later = now + Duration::from_secs(60);
        let first = c.commit(me(1), offsets(&[(0, 1)]), later);
        let out = sent(&mut c, now);
        let second = c.commit(me(1), offsets(&[(0, 5), (1, 5)]), later);
        let third = c.commit(me(1), offsets(&[(0, 7)]), later);
        assert!(matches!(c.poll(now), CommitStep::Wait(_)), "one at a time");
        hears(&mut c, all(&out, ErrorCode::NONE), now);
        assert_eq!(c.take_settled(), [(first, Outcome::Committed)]);
        let out = sent(&mut c, now);
        assert_eq!(out, offsets(&[(0, 7), (1, 5)]));
        hears(&mut c, all(&out, ErrorCode::NONE), now);
        assert_eq!(
            c.take_settled(),
            [(second, Outcome::Committed), (third, Outcome::Committed)]
        );
    }

    #[test]
    fn a_moving_coordinator_costs_time_only() {
        let (mut c, mut now) = (committer(), Instant::now());
        let ticket = c.commit(me(1), offsets(&[(0, 1)]), now + Duration::from_secs(60));
        for error in [
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ] {
            let out = sent(&mut c, now);
            hears(&mut c, all(&out, error), now);
            assert!(
                matches!(c.poll(now), CommitStep::Wait(Some(_))),
                "{error:?}: a pause first"
            );
            now += Duration::from_secs(1);
        }
        let out = sent(&mut c, now);
        hears(&mut c, all(&out, ErrorCode::NONE), now);
        assert_eq!(c.take_settled(), [(ticket, Outcome::Committed)]);
    }

    #[test]
    fn a_lost_answer_is_asked_for_again_and_never_called_a_failure() {
        let (mut c, now) = (committer(), Instant::now());
        let ticket = c.commit(me(1), offsets(&[(0, 1)]), now + Duration::from_secs(5));
        sent(&mut c, now);
        hears(&mut c, CommitAnswer::None { sent: true }, now);
        let end = now + Duration::from_secs(5);
        assert_eq!(c.poll(end), CommitStep::Wait(None));
        let last = ErrorCode::COORDINATOR_NOT_AVAILABLE;
        assert_eq!(
            c.take_settled(),
            [(ticket, Outcome::Expired { sent: true, last })]
        );
    }

    #[test]
    fn a_commit_keeps_the_generation_it_was_made_in() {
        let (mut c, now) = (committer(), Instant::now());
        let later = now + Duration::from_secs(60);
        c.commit(me(1), offsets(&[(0, 1)]), later);
        sent(&mut c, now);
        c.commit(me(1), offsets(&[(0, 2)]), later);
        c.commit(me(2), offsets(&[(0, 3)]), later);
        hears(&mut c, all(&offsets(&[(0, 1)]), ErrorCode::NONE), now);
        assert_eq!(
            c.poll(now),
            CommitStep::Send {
                identity: me(1),
                offsets: offsets(&[(0, 2)])
            }
        );
        let told = hears(
            &mut c,
            all(&offsets(&[(0, 2)]), ErrorCode::ILLEGAL_GENERATION),
            now,
        );
        assert_eq!(told, Some(ErrorCode::ILLEGAL_GENERATION));
        assert_eq!(
            c.poll(now),
            CommitStep::Send {
                identity: me(2),
                offsets: offsets(&[(0, 3)])
            }
        );
    }

    #[test]
    fn a_barrier_waits_for_what_is_before_it() {
        let (mut c, now) = (committer(), Instant::now());
        let later = now + Duration::from_secs(60);
        let nothing = c.barrier(later);
        assert_eq!(c.take_settled(), [(nothing, Outcome::Committed)]);
        let first = c.commit(me(1), offsets(&[(0, 1)]), later);
        let out = sent(&mut c, now);
        let second = c.commit(me(1), offsets(&[(0, 2)]), later);
        let (barrier, hasty) = (c.barrier(later), c.barrier(now + Duration::from_secs(1)));
        // Made one request with the second, which nobody can tell apart.
        let third = c.commit(me(1), offsets(&[(0, 3)]), later);
        let last = ErrorCode::NONE;
        assert_eq!(
            c.poll(now),
            CommitStep::Wait(Some(now + Duration::from_secs(1)))
        );
        assert_eq!(
            c.poll(now + Duration::from_secs(1)),
            CommitStep::Wait(Some(later))
        );
        assert_eq!(
            c.take_settled(),
            [(hasty, Outcome::Expired { sent: false, last })]
        );
        hears(&mut c, all(&out, ErrorCode::NONE), now);
        assert_eq!(c.take_settled(), [(first, Outcome::Committed)]);
        let out = sent(&mut c, now);
        let fatal = ErrorCode::OFFSET_METADATA_TOO_LARGE;
        hears(&mut c, all(&out, fatal), now);
        let settled: Vec<Ticket> = c.take_settled().into_iter().map(|s| s.0).collect();
        assert_eq!(settled, [second, third, barrier], "however they ended");
    }

    #[test]
    fn a_refusal_names_the_partition() {
        let (mut c, now) = (committer(), Instant::now());
        let ticket = c.commit(
            me(1),
            offsets(&[(0, 1), (1, 1)]),
            now + Duration::from_secs(60),
        );
        sent(&mut c, now);
        let bad = TopicPartition::new("t", 1);
        let error = ErrorCode::OFFSET_METADATA_TOO_LARGE;
        let answer = vec![
            (TopicPartition::new("t", 0), ErrorCode::NONE),
            (bad.clone(), error),
        ];
        hears(&mut c, CommitAnswer::Partitions(answer), now);
        let partition = Some(bad);
        assert_eq!(
            c.take_settled(),
            [(ticket, Outcome::Refused { partition, error })]
        );
    }

    #[test]
    fn each_hears_of_its_own_partitions() {
        let (mut c, now) = (committer(), Instant::now());
        let later = now + Duration::from_secs(60);
        let fine = c.commit(me(1), offsets(&[(0, 1)]), later);
        let both = c.commit(me(1), offsets(&[(0, 2), (1, 1)]), later);
        let patient = c.commit(me(1), offsets(&[(2, 1)]), later);
        assert_eq!(sent(&mut c, now), offsets(&[(0, 2), (1, 1), (2, 1)]));
        let error = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
        let answer = vec![
            (TopicPartition::new("t", 0), ErrorCode::NONE),
            (TopicPartition::new("t", 1), error),
            (
                TopicPartition::new("t", 2),
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ),
            // Nobody asked about that one.
            (TopicPartition::new("t", 7), error),
        ];
        let answer = CommitAnswer::Partitions(answer);
        hears(&mut c, answer, now);
        let partition = Some(TopicPartition::new("t", 1));
        let refused = Outcome::Refused { partition, error };
        assert_eq!(
            c.take_settled(),
            [(fine, Outcome::Committed), (both, refused)]
        );
        let out = sent(&mut c, now + Duration::from_secs(1));
        assert_eq!(out, offsets(&[(2, 1)]));
        hears(&mut c, all(&out, ErrorCode::NONE), now);
        assert_eq!(c.take_settled(), [(patient, Outcome::Committed)]);
        assert!(c.is_idle());
    }

    #[test]
    fn a_topic_that_is_gone_holds_up_nobody() {
        let (mut c, mut now) = (committer(), Instant::now());
        let later = now + Duration::from_secs(60);
        let gone = TopicPartition::new("t", 1);
        let is_gone = |name: &TopicPartition| *name == gone;
        let answered = |out: &Offsets| {
            let error_of = |name: &TopicPartition| match is_gone(name) {
                true => UNKNOWN,
                false => ErrorCode::NONE,
            };
            let answers = out.keys().map(|name| (name.clone(), error_of(name)));
            CommitAnswer::Partitions(answers.collect())
        };
        let first = c.commit(me(1), offsets(&[(0, 1), (1, 1)]), later);
        let out = sent(&mut c, now);
        assert_eq!(
            c.handle_answer(answered(&out), |_| false, is_gone, now),
            None
        );
        assert_eq!(c.take_settled(), [], "a new topic is not known to all");
        assert_eq!(c.unknown().collect::<Vec<_>>(), [&gone]);

        // Another commit leaves at once.
        let second = c.commit(me(1), offsets(&[(0, 2)]), later);
        let out = sent(&mut c, now);
        assert_eq!(out, offsets(&[(0, 2), (1, 1)]));
        c.handle_answer(answered(&out), |_| false, is_gone, now);
        assert_eq!(c.take_settled(), [(second, Outcome::Committed)]);

        let started = now;
        let (error, partition) = (UNKNOWN, Some(gone.clone()));
        let refused = Outcome::Refused { partition, error };
        loop {
            match c.poll(now) {
                CommitStep::Wait(until) => now = until.unwrap(),
                CommitStep::Send { offsets: out, .. } => {
                    assert_eq!(out, offsets(&[(1, 1)]));
                    c.handle_answer(answered(&out), |_| false, is_gone, now);
                }
            }
            let settled = c.take_settled();
            if !settled.is_empty() {
                assert_eq!(settled, [(first, refused)]);
                break;
            }
        }
        let took = now - started;
        assert!(took >= UNKNOWN_MIN && took < UNKNOWN_MIN * 3, "{took:?}");
        assert!(c.is_idle());
    }

    #[test]
    fn a_topic_that_others_know_is_waited_for() {
        let (mut c, mut now) = (committer(), Instant::now());
        let ticket = c.commit(me(1), offsets(&[(0, 1)]), now + Duration::from_secs(60));
        for _ in 0..20 {
            let out = sent(&mut c, now);
            hears(&mut c, all(&out, UNKNOWN), now);
            now += Duration::from_secs(2);
        }
        let out = sent(&mut c, now);
        hears(&mut c, all(&out, ErrorCode::NONE), now);
        assert_eq!(c.take_settled(), [(ticket, Outcome::Committed)]);
    }

    proptest! {
        /// With answers lost at random, before or after they took effect, the stored offset of a log that
        /// is only read forwards never goes back, and in the end it is the last one committed.
        #[test]
        fn never_a_rewind(events in prop::collection::vec(0..5_u8, 1..80)) {
            let (mut c, mut now) = (committer(), Instant::now());
            let (mut next, mut stored) = (0_i64, 0_i64);
            let mut out = None;
            for event in events {
                now += Duration::from_millis(150);
                match (event, out.take()) {
                    (0 | 1, kept) => {
                        next += 1;
                        c.commit(me(1), offsets(&[(0, next)]), now + Duration::from_secs(3600));
                        out = kept;
                    }
                    (2, Some(request)) => {
                        let request: Offsets = request;
                        let offset = request[&TopicPartition::new("t", 0)].offset;
                        prop_assert!(offset >= stored);
                        stored = offset;
                        hears(&mut c, all(&request, ErrorCode::NONE), now);
                    }
                    (3, Some(request)) => {
                        let request: Offsets = request;
                        stored = request[&TopicPartition::new("t", 0)].offset;
                        hears(&mut c, CommitAnswer::None { sent: true }, now);
                    }
                    (_, Some(_)) => {
                        hears(&mut c, CommitAnswer::None { sent: false }, now);
                    }
                    (_, None) => {
                        if let CommitStep::Send { offsets, .. } = c.poll(now) {
                            out = Some(offsets);
                        }
                    }
                }
            }
            let mut guard = 0;
            while !c.is_idle() {
                guard += 1;
                prop_assert!(guard < 9);
                now += Duration::from_secs(2);
                if let Some(request) = out.take() {
                    stored = request[&TopicPartition::new("t", 0)].offset;
                    hears(&mut c, all(&request, ErrorCode::NONE), now);
                } else if let CommitStep::Send { offsets, .. } = c.poll(now) {
                    out = Some(offsets);
                }
            }
            prop_assert_eq!(stored, next);
        }
    }
}
