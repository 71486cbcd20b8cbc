//! Membership of a share group (KIP-932), as a plain state machine: when to send a ShareGroupHeartbeat, and what its
//! answer means.
//!
//! Partitions of a share group have any number of owners, so that an assignment is adopted at once and nothing has to be
//! given up before. The member makes its own id.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ottla_net::Backoff;
use ottla_wire::{ErrorCode, Str, Uuid};

/// Partitions by topic id, as the coordinator names them.
pub(super) type Assignment = Vec<(Uuid, Vec<i32>)>;

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Send a heartbeat; its outcome comes back with the same number.
    Heartbeat(Heartbeat),
    /// These are the member's partitions from now on.
    Assign(Assignment),
    /// The coordinator that answered is none any more.
    Rediscover,
    /// The group does not take this member; nothing more comes before the next subscription.
    Fail(ErrorCode, Option<Str>),
    /// Nothing before then, or before something happens.
    Wait(Option<Instant>),
}

/// A ShareGroupHeartbeat to send.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Heartbeat {
    pub(super) attempt: u64,
    /// 0 joins, -1 leaves.
    pub(super) epoch: i32,
    /// The subscription, where the coordinator may not know it.
    pub(super) topics: Option<Vec<Str>>,
}

/// The coordinator's answer to a heartbeat.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) error: ErrorCode,
    pub(super) message: Option<Str>,
    pub(super) epoch: i32,
    pub(super) interval: Duration,
    /// None if it is the same as before.
    pub(super) assignment: Option<Assignment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Subscribed to nothing.
    Idle,
    /// A heartbeat is to join, or has.
    Member,
    /// The application has not come for records for too long; joins again when it does.
    Away,
    /// The group refuses this member.
    Refused,
    /// Leaves for good.
    Closed,
}

/// The membership of one consumer.
#[derive(Debug)]
pub(super) struct Membership {
    max_poll_interval: Duration,
    backoff: Backoff,
    random: fastrand::Rng,
    state: State,
    /// 0: not joined (yet, or again).
    epoch: i32,
    topics: Vec<Str>,
    /// Whether the coordinator knows that.
    told: bool,
    /// Whether a leave has to be sent.
    leaves: bool,
    interval: Duration,
    next_at: Option<Instant>,
    /// The epoch of the heartbeat that is not answered yet.
    in_flight: Option<i32>,
    /// Numbers heartbeats. An answer to any but the latest is of no use.
    attempt: u64,
    failures: u32,
    /// When the application will have been away for too long; none while it waits for records.
    away_at: Option<Instant>,
    news: VecDeque<Step>,
}

impl Membership {
    pub(super) fn new(max_poll_interval: Duration, backoff: Backoff, seed: u64) -> Self {
        Self {
            max_poll_interval,
            backoff,
            random: fastrand::Rng::with_seed(seed),
            state: State::Idle,
            epoch: 0,
            topics: Vec::new(),
            told: false,
            leaves: false,
            interval: INTERVAL,
            next_at: None,
            in_flight: None,
            attempt: 0,
            failures: 0,
            away_at: None,
            news: VecDeque::new(),
        }
    }

    pub(super) fn topics(&self) -> &[Str] {
        &self.topics
    }

    /// Wants these topics from now on.
    pub(super) fn subscribe(&mut self, topics: Vec<Str>, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        if self.state == State::Member && self.topics == topics {
            return;
        }
        self.topics = topics;
        self.told = false;
        self.away_at = Some(now + self.max_poll_interval);
        self.join(now);
    }

    /// Wants nothing any more.
    pub(super) fn unsubscribe(&mut self) {
        self.topics.clear();
        self.leave(State::Idle);
    }

    /// Leaves and does nothing more.
    pub(super) fn close(&mut self) {
        self.leave(State::Closed);
    }

    /// Whether nothing is left to do after [`Membership::close`].
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Closed && !self.leaves && self.in_flight.is_none()
    }

    /// The application came for records, or waits for them. Whether there is something to do now.
    pub(super) fn application_polls(&mut self, waits: bool, now: Instant) -> bool {
        self.away_at = (!waits).then(|| now + self.max_poll_interval);
        let comes_back = self.state == State::Away;
        if comes_back {
            self.join(now);
        }
        comes_back
    }

    /// There is something for an application that waited: if it does not come, it waits no longer.
    pub(super) fn application_is_told(&mut self, now: Instant) {
        self.away_at.get_or_insert(now + self.max_poll_interval);
    }

    pub(super) fn poll(&mut self, now: Instant) -> Step {
        if self.state == State::Member && self.away_at.is_some_and(|at| at <= now) {
            tracing::warn!(
                "the application has not come for records for max.poll.interval.ms ({:?}): leaving the share group until \
                 it does",
                self.max_poll_interval
            );
            self.leave(State::Away);
        }
        if let Some(news) = self.news.pop_front() {
            return news;
        }
        if self.in_flight.is_some() {
            let away_at = self.away_at.filter(|_| self.state == State::Member);
            return Step::Wait(away_at);
        }
        if self.leaves {
            self.leaves = false;
            return self.heartbeat(LEAVE, None);
        }
        if self.state != State::Member {
            return Step::Wait(None);
        }
        let due = self.next_at.unwrap_or(now);
        if due > now {
            return Step::Wait(Some(self.away_at.map_or(due, |at| at.min(due))));
        }
        let topics = (!self.told).then(|| self.topics.clone());
        self.told = true;
        self.heartbeat(self.epoch, topics)
    }

    pub(super) fn handle_answer(&mut self, attempt: u64, answer: Answer, now: Instant) {
        if !self.settle(attempt) {
            return;
        }
        match answer.error {
            ErrorCode::NONE if answer.epoch <= 0 => {
                tracing::error!(
                    epoch = answer.epoch,
                    "the coordinator gave this member an epoch that none can have"
                );
                self.told = false;
                self.retry(now);
            }
            ErrorCode::NONE => {
                self.failures = 0;
                self.epoch = answer.epoch;
                // Neither a busy loop nor, with a limit of a day, a deaf member.
                self.interval = answer.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
                self.next_at = Some(if self.told { now + self.interval } else { now });
                if let Some(assignment) = answer.assignment {
                    self.news.push_back(Step::Assign(assignment));
                }
            }
            ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID => {
                tracing::info!(error = %answer.error, "the share group has dropped this member: joining again");
                self.news.push_back(Step::Assign(Vec::new()));
                self.epoch = 0;
                self.told = false;
                self.retry(now);
            }
            error if error.rediscovers_coordinator() => {
                self.news.push_back(Step::Rediscover);
                self.told = false;
                self.retry(now);
            }
            error if error.is_retriable() => {
                self.told = false;
                self.retry(now);
            }
            error => self.refuse(error, answer.message),
        }
    }

    /// No answer came; whoever coordinates the group is looked for anew.
    pub(super) fn handle_unanswered(&mut self, attempt: u64, now: Instant) {
        if self.settle(attempt) {
            self.told = false;
            self.retry(now);
        }
    }

    /// Nobody will coordinate this group.
    pub(super) fn handle_refused(&mut self, attempt: u64, error: ErrorCode) {
        if self.settle(attempt) {
            self.refuse(error, None);
        }
    }

    /// Whether the outcome of this heartbeat still matters.
    fn settle(&mut self, attempt: u64) -> bool {
        if attempt != self.attempt {
            return false;
        }
        // What a leave is answered with does not matter, nor what is answered when one is to follow.
        let joins = self.in_flight.take().is_some_and(|epoch| epoch != LEAVE);
        joins && self.state == State::Member && !self.leaves
    }

    fn refuse(&mut self, error: ErrorCode, message: Option<Str>) {
        self.state = State::Refused;
        self.epoch = 0;
        self.news.push_back(Step::Assign(Vec::new()));
        self.news.push_back(Step::Fail(error, message));
    }

    fn join(&mut self, now: Instant) {
        self.state = State::Member;
        self.told = false;
        self.next_at = Some(now);
        self.failures = 0;
    }

    fn leave(&mut self, state: State) {
        // With a join in flight the coordinator may know this member already.
        if self.state == State::Member
            && (self.epoch > 0 || self.in_flight.is_some_and(|epoch| epoch != LEAVE))
        {
            self.leaves = true;
        }
        if self.state != State::Closed {
            self.state = state;
        }
        self.epoch = 0;
        self.told = false;
        self.news.clear();
        self.news.push_back(Step::Assign(Vec::new()));
    }

    fn heartbeat(&mut self, epoch: i32, topics: Option<Vec<Str>>) -> Step {
        self.attempt += 1;
        self.in_flight = Some(epoch);
        Step::Heartbeat(Heartbeat {
            attempt: self.attempt,
            epoch,
            topics,
        })
    }

    fn retry(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.backoff.delay(self.failures, self.random.f64());
        self.next_at = Some(now + pause);
    }
}

/// The epoch that leaves.
const LEAVE: i32 = -1;

/// Until the coordinator says another one (`group.share.heartbeat.interval.ms`).
const INTERVAL: Duration = Duration::from_secs(5);
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Uuid = Uuid([7; 16]);

    struct Stage {
        membership: Membership,
        now: Instant,
    }

    impl Stage {
        fn new() -> Self {
            let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
            let now = Instant::now();
            let mut membership = Membership::new(Duration::from_secs(300), backoff, 1);
            assert_eq!(membership.poll(now), Step::Wait(None));
            membership.subscribe(vec!["clicks".into()], now);
            Self { membership, now }
        }

        fn step(&mut self) -> Step {
            self.membership.poll(self.now)
        }

        fn heartbeat(&mut self) -> Heartbeat {
            match self.step() {
                Step::Heartbeat(heartbeat) => heartbeat,
                other => panic!("{other:?}"),
            }
        }

        fn answer(&mut self, attempt: u64, error: ErrorCode, epoch: i32) {
            let answer = Answer {
                error,
                message: None,
                epoch,
                interval: Duration::from_secs(5),
                assignment: error.is_ok().then(|| vec![(TOPIC, vec![0, 1])]),
            };
            self.membership.handle_answer(attempt, answer, self.now);
        }

        fn join(&mut self) {
            let join = self.heartbeat();
            assert_eq!((join.epoch, join.topics.map(|t| t.len())), (0, Some(1)));
            self.answer(join.attempt, ErrorCode::NONE, 3);
            assert_eq!(self.step(), Step::Assign(vec![(TOPIC, vec![0, 1])]));
        }

        fn after(&mut self, millis: u64) {
            self.now += Duration::from_millis(millis);
        }
    }

    #[test]
    fn joins_then_says_no_more_than_that_it_is_alive() {
        let mut stage = Stage::new();
        stage.join();
        assert_eq!(
            stage.step(),
            Step::Wait(Some(stage.now + Duration::from_secs(5)))
        );
        stage.after(5000);
        let alive = stage.heartbeat();
        assert_eq!((alive.epoch, alive.topics), (3, None));
        assert!(matches!(stage.step(), Step::Wait(_)), "one at a time");
        stage.answer(alive.attempt, ErrorCode::NONE, 4);
        let _assigned = stage.step();
        stage
            .membership
            .subscribe(vec!["clicks".into(), "orders".into()], stage.now);
        let changed = stage.heartbeat();
        assert_eq!(
            (changed.epoch, changed.topics.map(|t| t.len())),
            (4, Some(2))
        );
    }

    #[test]
    fn a_member_that_was_dropped_gives_all_up_and_joins_again() {
        for error in [ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::UNKNOWN_MEMBER_ID] {
            let mut stage = Stage::new();
            stage.join();
            stage.after(5000);
            let alive = stage.heartbeat();
            stage.answer(alive.attempt, error, 0);
            assert_eq!(stage.step(), Step::Assign(Vec::new()));
            assert!(matches!(stage.step(), Step::Wait(Some(_))), "not at once");
            stage.after(200);
            stage.join();
        }
    }

    #[test]
    fn looks_for_the_coordinator_and_repeats_what_it_may_not_have_heard() {
        let mut stage = Stage::new();
        stage.join();
        stage.after(5000);
        let alive = stage.heartbeat();
        stage.answer(alive.attempt, ErrorCode::NOT_COORDINATOR, 0);
        assert_eq!(stage.step(), Step::Rediscover);
        stage.after(200);
        let again = stage.heartbeat();
        assert_eq!((again.epoch, again.topics.is_some()), (3, true));
        stage.membership.handle_unanswered(again.attempt, stage.now);
        stage.after(1000);
        assert!(stage.heartbeat().topics.is_some());
    }

    #[test]
    fn pauses_grow_while_it_is_refused_and_a_final_refusal_is_told() {
        let mut stage = Stage::new();
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let join = stage.heartbeat();
            stage.answer(join.attempt, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, 0);
            let Step::Wait(Some(at)) = stage.step() else {
                panic!()
            };
            pauses.push(at - stage.now);
            stage.now = at;
        }
        assert!(
            pauses[4] > pauses[0] * 4 && pauses[4] <= Duration::from_secs(1),
            "{pauses:?}"
        );
        let join = stage.heartbeat();
        stage.answer(join.attempt, ErrorCode::GROUP_AUTHORIZATION_FAILED, 0);
        assert_eq!(stage.step(), Step::Assign(Vec::new()));
        assert_eq!(
            stage.step(),
            Step::Fail(ErrorCode::GROUP_AUTHORIZATION_FAILED, None)
        );
        stage.after(60_000);
        assert_eq!(stage.step(), Step::Wait(None));
        stage.membership.subscribe(vec!["clicks".into()], stage.now);
        stage.join();
    }

    #[test]
    fn who_stays_away_leaves_and_comes_back() {
        let mut stage = Stage::new();
        stage.join();
        stage.membership.application_polls(true, stage.now);
        for _ in 0..100 {
            stage.after(5000);
            let alive = stage.heartbeat();
            stage.answer(alive.attempt, ErrorCode::NONE, 3);
            let _assigned = stage.step();
        }
        stage.membership.application_polls(false, stage.now);
        stage.after(300_000);
        assert_eq!(stage.step(), Step::Assign(Vec::new()));
        let leave = stage.heartbeat();
        assert_eq!(leave.epoch, -1);
        stage.answer(leave.attempt, ErrorCode::NONE, -1);
        assert_eq!(stage.step(), Step::Wait(None));
        stage.membership.application_polls(false, stage.now);
        stage.join();
    }

    #[test]
    fn closing_during_a_join_leaves_behind_it() {
        let mut stage = Stage::new();
        let join = stage.heartbeat();
        stage.membership.close();
        assert_eq!(stage.step(), Step::Assign(Vec::new()));
        assert_eq!(stage.step(), Step::Wait(None));
        assert!(!stage.membership.is_over());
        stage.answer(join.attempt, ErrorCode::NONE, 1);
        let leave = stage.heartbeat();
        assert_eq!(leave.epoch, -1);
        stage.membership.handle_unanswered(leave.attempt, stage.now);
        assert!(stage.membership.is_over());
        assert_eq!(stage.step(), Step::Wait(None));
    }

    #[test]
    fn unsubscribing_and_subscribing_again_waits_for_the_leave() {
        let mut stage = Stage::new();
        stage.join();
        stage.membership.unsubscribe();
        stage.membership.subscribe(vec!["clicks".into()], stage.now);
        assert_eq!(stage.step(), Step::Assign(Vec::new()));
        let leave = stage.heartbeat();
        assert_eq!(leave.epoch, -1);
        stage.answer(leave.attempt, ErrorCode::NONE, -1);
        stage.join();
    }
}
