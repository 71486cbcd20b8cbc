//! The membership against a coordinator that may do anything.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ottla_net::Backoff;
use ottla_wire::{Bytes, ErrorCode};
use proptest::prelude::*;

use super::{
    classic::{Classic, ClassicConfig, Joined},
    membership::{CommitAs, Step},
    protocol::{Assignment, Subscription},
};
use crate::{Str, TopicPartition, assignor::RebalanceProtocol};

fn classic() -> Classic {
    Classic::new(ClassicConfig {
        is_static: false,
        protocol: RebalanceProtocol::Eager,
        session_timeout: Duration::from_secs(10),
        heartbeat_interval: Duration::from_secs(3),
        max_poll_interval: Duration::from_secs(30),
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
        seed: 1,
    })
}

fn assignment() -> Bytes {
    let partitions = vec![TopicPartition::new("t", 0)];
    Assignment {
        partitions,
        user_data: None,
    }
    .encode()
}

fn joined(generation: i32) -> Joined {
    Joined {
        generation,
        member_id: "me".into(),
        leader: "other".into(),
        assignor: "range".into(),
        ..Default::default()
    }
}

/// Takes it to its first assignment.
fn member(now: Instant) -> Classic {
    let mut classic = classic();
    classic.subscribe([Str::from("t")], now);
    let Step::Join { attempt, .. } = classic.poll(now) else {
        panic!("must join")
    };
    classic.handle_joined(attempt, joined(1), now);
    let Step::Sync {
        attempt,
        generation: 1,
        ..
    } = classic.poll(now)
    else {
        panic!("must sync")
    };
    classic.handle_synced(attempt, Ok(assignment()), now);
    assert!(matches!(classic.poll(now), Step::Adopt(partitions) if partitions.len() == 1));
    classic
}

fn lost() -> Step {
    Step::Lose(vec![TopicPartition::new("t", 0)])
}

fn heartbeat(classic: &mut Classic, now: Instant) -> u64 {
    match classic.poll(now) {
        Step::Heartbeat { attempt, .. } => attempt,
        other => panic!("{other:?}"),
    }
}

#[test]
fn comes_back_at_once_with_the_id_it_was_given() {
    let now = Instant::now();
    let mut classic = classic();
    classic.subscribe([Str::from("t")], now);
    let Step::Join {
        attempt, member_id, ..
    } = classic.poll(now)
    else {
        panic!("must join")
    };
    assert_eq!(member_id, "");
    let error = ErrorCode::MEMBER_ID_REQUIRED;
    classic.handle_joined(
        attempt,
        Joined {
            error,
            member_id: "me".into(),
            ..joined(0)
        },
        now,
    );
    let Step::Join {
        attempt, member_id, ..
    } = classic.poll(now)
    else {
        panic!("must join")
    };
    assert_eq!(member_id, "me");
    let again = Joined { error, ..joined(0) };
    classic.handle_joined(attempt, again, now);
    assert!(
        matches!(classic.poll(now), Step::Wait(Some(at)) if at > now),
        "a busy loop"
    );
}

#[test]
fn a_moving_coordinator_keeps_the_place() {
    let mut now = Instant::now();
    let mut classic = member(now);
    now += Duration::from_secs(3);
    for error in [
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
    ] {
        let attempt = heartbeat(&mut classic, now);
        classic.handle_heartbeat(attempt, error, now);
        assert_eq!(classic.poll(now), Step::Rediscover);
        assert!(
            matches!(classic.poll(now), Step::Wait(Some(at)) if at > now),
            "{error:?}"
        );
        now += Duration::from_secs(2);
    }
    let attempt = heartbeat(&mut classic, now);
    classic.handle_heartbeat(attempt, ErrorCode::NONE, now);
    assert_eq!(classic.identity().generation, 1);
}

#[test]
fn a_lost_heartbeat_is_followed_by_the_next() {
    let mut now = Instant::now();
    let mut classic = member(now);
    for _ in 0..3 {
        now += Duration::from_secs(3);
        let attempt = heartbeat(&mut classic, now);
        classic.handle_unanswered(attempt, now);
        assert_eq!(classic.poll(now), Step::Rediscover);
    }
    now += Duration::from_secs(3);
    let attempt = heartbeat(&mut classic, now);
    classic.handle_heartbeat(attempt, ErrorCode::UNKNOWN_MEMBER_ID, now);
    assert_eq!(classic.poll(now), lost(), "it learns that it was dropped");
}

#[test]
fn a_static_member_never_says_that_it_leaves() {
    let mut now = Instant::now();
    let mut classic = member(now);
    classic.config_mut().is_static = true;
    now += Duration::from_secs(31);
    assert_eq!(classic.poll(now), lost(), "the application stayed away");
    assert_eq!(classic.poll(now), Step::Wait(None));
    classic.application_polls(true, now);
    assert!(matches!(classic.poll(now), Step::Join { .. }));

    let mut classic = member(now);
    classic.config_mut().is_static = true;
    classic.leave("unsubscribed");
    assert_eq!(classic.poll(now), Step::Drop);
    assert_eq!(classic.poll(now), Step::Wait(None));
}

/// It unsubscribed and came back, in the same generation: that whoever it was before is fenced is as it should be.
#[test]
fn a_commit_of_the_member_before_it_says_nothing_about_a_static_member() {
    let now = Instant::now();
    let mut classic = member(now);
    classic.config_mut().is_static = true;
    let before = classic.identity();
    classic.leave("unsubscribed");
    assert_eq!(classic.poll(now), Step::Drop);
    classic.subscribe([Str::from("t")], now);
    let Step::Join { attempt, .. } = classic.poll(now) else {
        panic!("must join")
    };
    let another = Joined {
        member_id: "me again".into(),
        ..joined(1)
    };
    classic.handle_joined(attempt, another, now);
    let Step::Sync { attempt, .. } = classic.poll(now) else {
        panic!("must sync")
    };
    classic.handle_synced(attempt, Ok(assignment()), now);
    assert!(matches!(classic.poll(now), Step::Adopt(_)));
    let fenced = ErrorCode::FENCED_INSTANCE_ID;
    classic.handle_commit_error(fenced, &before, now);
    assert!(matches!(classic.poll(now), Step::Wait(Some(_))));
    let present = classic.identity();
    classic.handle_commit_error(fenced, &present, now);
    assert_eq!(classic.poll(now), lost());
}

#[test]
fn heartbeats_go_on_until_partitions_are_given_up() {
    let mut now = Instant::now();
    let mut classic = member(now);
    now += Duration::from_secs(3);
    let attempt = heartbeat(&mut classic, now);
    classic.handle_heartbeat(attempt, ErrorCode::REBALANCE_IN_PROGRESS, now);
    assert!(matches!(classic.poll(now), Step::Revoke { all: true, .. }));
    for _ in 0..5 {
        now += Duration::from_secs(3);
        let attempt = heartbeat(&mut classic, now);
        classic.handle_heartbeat(attempt, ErrorCode::REBALANCE_IN_PROGRESS, now);
        assert!(
            matches!(classic.poll(now), Step::Wait(Some(_))),
            "revoked once only"
        );
    }
    classic.handle_revoked(now);
    assert!(matches!(classic.poll(now), Step::Join { member_id, .. } if member_id == "me"));
}

#[test]
fn a_changed_subscription_is_told_without_becoming_two_members() {
    let now = Instant::now();
    let mut classic = classic();
    classic.subscribe([Str::from("t")], now);
    let Step::Join { attempt, .. } = classic.poll(now) else {
        panic!("must join")
    };
    classic.subscribe([Str::from("t")], now);
    assert_eq!(
        classic.poll(now),
        Step::Wait(None),
        "the first join is still out"
    );
    classic.handle_joined(attempt, joined(1), now);
    let Step::Sync { attempt, .. } = classic.poll(now) else {
        panic!("must sync")
    };
    classic.handle_synced(attempt, Ok(assignment()), now);
    assert!(matches!(classic.poll(now), Step::Join { member_id, .. } if member_id == "me"));
}

#[test]
fn a_member_that_left_while_joining_says_so() {
    let now = Instant::now();
    let mut classic = classic();
    classic.subscribe([Str::from("t")], now);
    let Step::Join { attempt, .. } = classic.poll(now) else {
        panic!("must join")
    };
    classic.leave("unsubscribed");
    assert_eq!(classic.poll(now), Step::Wait(None));
    classic.handle_joined(attempt, joined(1), now);
    assert!(matches!(classic.poll(now), Step::Leave { member_id, .. } if member_id == "me"));
}

#[derive(Debug, Clone)]
enum Event {
    Answer(ErrorCode),
    Unanswered,
    /// An answer to an earlier attempt.
    Stale(ErrorCode),
    Revoked,
    Polls(bool),
    Subscribe,
    TopicsChanged,
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let error = || {
        prop::sample::select(vec![
            ErrorCode::NONE,
            ErrorCode::NONE,
            ErrorCode::NONE,
            ErrorCode::REBALANCE_IN_PROGRESS,
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::ILLEGAL_GENERATION,
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::MEMBER_ID_REQUIRED,
        ])
    };
    prop_oneof![
        8 => error().prop_map(Event::Answer),
        1 => Just(Event::Unanswered),
        1 => error().prop_map(Event::Stale),
        3 => Just(Event::Revoked),
        2 => any::<bool>().prop_map(Event::Polls),
        1 => Just(Event::Subscribe),
        1 => Just(Event::TopicsChanged),
        2 => (0..40_u64).prop_map(Event::Wait),
    ]
}

/// What is out and can be answered.
enum Out {
    Join(u64),
    Sync(u64),
    Heartbeat(u64),
}

proptest! {
    /// Whatever the coordinator answers and whenever: partitions are adopted only by who owns none; a join
    /// goes out only when none are owned; one join or sync is out at a time; and in the end, with a
    /// coordinator that is well, the member has its place.
    #[test]
    fn never_two_owners(events in prop::collection::vec(event(), 1..80)) {
        let mut now = Instant::now();
        let mut classic = classic();
        classic.subscribe([Str::from("t")], now);
        let (mut owns, mut revoking, mut generation) = (false, false, 0);
        let mut out: Vec<Out> = Vec::new();
        // Ends with calm: the application waits for records, every answer is good.
        let calm = (0..40).flat_map(|_| {
            [Event::Polls(true), Event::Revoked, Event::Answer(ErrorCode::NONE), Event::Wait(4)]
        });
        let calm_from = events.len() + 80;
        let mut calm_heartbeats = 0;
        for (number, event) in events.into_iter().chain(calm).enumerate() {
            match event {
                Event::Wait(seconds) => now += Duration::from_secs(seconds),
                Event::Polls(waiting) => classic.application_polls(waiting, now),
                Event::Subscribe => classic.subscribe([Str::from("t")], now),
                Event::TopicsChanged => classic.topics_changed(now),
                Event::Revoked if revoking => {
                    (revoking, owns) = (false, false);
                    classic.handle_revoked(now);
                }
                Event::Revoked => {}
                Event::Stale(error) => {
                    classic.handle_heartbeat(0, error, now);
                    classic.handle_synced(0, Err(error), now);
                    classic.handle_joined(0, Joined { error, ..joined(9) }, now);
                }
                Event::Unanswered => {
                    if let Some(request) = out.pop() {
                        let (Out::Join(n) | Out::Sync(n) | Out::Heartbeat(n)) = request;
                        classic.handle_unanswered(n, now);
                    }
                }
                Event::Answer(error) => match out.pop() {
                    Some(Out::Join(n)) => {
                        generation += 1;
                        classic.handle_joined(n, Joined { error, ..joined(generation) }, now);
                    }
                    Some(Out::Sync(n)) => {
                        let result = error.ok().map(|()| assignment());
                        // A sync knows no 79.
                        if error != ErrorCode::MEMBER_ID_REQUIRED {
                            classic.handle_synced(n, result, now);
                        } else {
                            out.push(Out::Sync(n));
                        }
                    }
                    Some(Out::Heartbeat(n)) => {
                        let known = error != ErrorCode::MEMBER_ID_REQUIRED;
                        classic.handle_heartbeat(n, if known { error } else { ErrorCode::NONE }, now);
                    }
                    None => {}
                },
            }
            for steps in 0.. {
                prop_assert!(steps < 20, "a busy loop");
                match classic.poll(now) {
                    Step::Wait(until) => {
                        prop_assert!(until.is_none_or(|until| until > now), "nothing was due");
                        break;
                    }
                    Step::Join { attempt, .. } => {
                        prop_assert!(!owns, "joins with partitions in hand");
                        out.retain(|out| matches!(out, Out::Heartbeat(_)));
                        out.push(Out::Join(attempt));
                    }
                    Step::Sync { attempt, .. } => out.push(Out::Sync(attempt)),
                    Step::Heartbeat { attempt, generation: of, .. } => {
                        prop_assert!(owns && of == generation);
                        calm_heartbeats += usize::from(number >= calm_from);
                        out.push(Out::Heartbeat(attempt));
                    }
                    Step::Adopt(_) => {
                        prop_assert!(!owns, "two assignments at once");
                        owns = true;
                    }
                    Step::Revoke { .. } => {
                        prop_assert!(owns);
                        revoking = true;
                    }
                    Step::Lose(_) | Step::Drop => {
                        prop_assert!(owns);
                        (owns, revoking) = (false, false);
                    }
                    Step::Leave { member_id, .. } => prop_assert_ne!(member_id, Str::new()),
                    Step::Rediscover => {}
                    Step::Lead { .. } => prop_assert!(false, "someone else leads"),
                    Step::Fail(error) => prop_assert!(false, "{}", error),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
        prop_assert!(owns, "still without its place");
        prop_assert!(calm_heartbeats >= 15, "{} heartbeats in 80 s", calm_heartbeats);
    }
}

/// A cooperative member, and what the application reads on its behalf.
struct Cooperative {
    classic: Classic,
    now: Instant,
    reads: BTreeSet<TopicPartition>,
    generation: i32,
}

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic.to_owned(), partition)
}

impl Cooperative {
    fn new(topics: &[&str]) -> Self {
        let now = Instant::now();
        let mut classic = classic();
        classic.config_mut().protocol = RebalanceProtocol::Cooperative;
        classic.subscribe(
            topics.iter().map(|topic| Str::from((*topic).to_owned())),
            now,
        );
        Self {
            classic,
            now,
            reads: BTreeSet::new(),
            generation: 0,
        }
    }

    /// The next step that is none of adopting.
    fn step(&mut self) -> Step {
        loop {
            match self.classic.poll(self.now) {
                Step::Adopt(partitions) => {
                    for partition in partitions {
                        assert!(self.reads.insert(partition), "adopted twice");
                    }
                }
                step => return step,
            }
        }
    }

    /// What it says it owns when it joins.
    fn joins(&mut self) -> Vec<TopicPartition> {
        let Step::Join { attempt, owned, .. } = self.step() else {
            panic!("must join")
        };
        self.generation += 1;
        let joined = joined(self.generation);
        self.classic.handle_joined(attempt, joined, self.now);
        owned
    }

    fn syncs(&mut self, assigned: &[TopicPartition]) {
        let Step::Sync { attempt, .. } = self.step() else {
            panic!("must sync")
        };
        let assignment = Assignment {
            partitions: assigned.to_vec(),
            user_data: None,
        };
        let bytes = Ok(assignment.encode());
        self.classic.handle_synced(attempt, bytes, self.now);
    }

    /// Leads the group, whose other member owns that.
    fn leads(&mut self, others: &[TopicPartition]) -> (u64, Str) {
        let Step::Join { attempt, owned, .. } = self.step() else {
            panic!("must join")
        };
        self.generation += 1;
        let subscription = |owned: &[TopicPartition]| {
            let subscription = Subscription {
                topics: vec!["t".into()],
                owned: owned.to_vec(),
                generation: Some(self.generation - 1),
                ..Default::default()
            };
            subscription.encode()
        };
        let joined = Joined {
            leader: "me".into(),
            members: vec![
                ("me".into(), None, subscription(&owned)),
                ("other".into(), Some("static".into()), subscription(others)),
            ],
            ..joined(self.generation)
        };
        self.classic.handle_joined(attempt, joined, self.now);
        match self.step() {
            Step::Lead {
                attempt, assignor, ..
            } => (attempt, assignor),
            other => panic!("{other:?}"),
        }
    }

    /// Whether it joins by itself within so many seconds.
    fn joins_within(&mut self, seconds: u64) -> bool {
        (0..seconds).any(|_| {
            self.now += Duration::from_secs(1);
            self.classic.application_polls(false, self.now);
            match self.step() {
                Step::Heartbeat { attempt, .. } => {
                    let fine = ErrorCode::NONE;
                    self.classic.handle_heartbeat(attempt, fine, self.now);
                    false
                }
                Step::Wait(_) => false,
                Step::Join { .. } => true,
                other => panic!("{other:?}"),
            }
        })
    }

    fn rebalances(&mut self) {
        self.now += Duration::from_secs(3);
        let attempt = heartbeat(&mut self.classic, self.now);
        let error = ErrorCode::REBALANCE_IN_PROGRESS;
        self.classic.handle_heartbeat(attempt, error, self.now);
    }

    fn revokes(&mut self) -> Vec<TopicPartition> {
        match self.step() {
            Step::Revoke {
                partitions,
                all: false,
            } => {
                for partition in &partitions {
                    assert!(self.reads.remove(partition));
                }
                self.classic.handle_revoked(self.now);
                partitions
            }
            other => panic!("{other:?}"),
        }
    }

    fn reads(&self) -> Vec<TopicPartition> {
        self.reads.iter().cloned().collect()
    }
}

#[test]
fn a_cooperative_member_keeps_what_it_may_and_joins_again_for_what_it_may_not() {
    let mut member = Cooperative::new(&["t"]);
    assert_eq!(member.joins(), []);
    member.syncs(&[tp("t", 0), tp("t", 1), tp("t", 2)]);
    assert!(matches!(member.step(), Step::Wait(Some(_))));
    member.rebalances();
    // It is not asked to give anything up to join, and tells what it has.
    assert_eq!(member.joins(), [tp("t", 0), tp("t", 1), tp("t", 2)]);
    assert_eq!(member.reads().len(), 3, "it reads on");
    member.syncs(&[tp("t", 0), tp("t", 3)]);
    assert_eq!(member.revokes(), [tp("t", 1), tp("t", 2)]);
    assert_eq!(member.reads(), [tp("t", 0), tp("t", 3)]);
    assert_eq!(member.joins(), [tp("t", 0), tp("t", 3)]);
    member.syncs(&[tp("t", 0), tp("t", 3)]);
    assert!(matches!(member.step(), Step::Wait(Some(_))));
    assert_eq!(member.classic.previous().unwrap().generation, 3);
}

#[test]
fn what_is_not_subscribed_to_any_more_is_given_up_before_a_cooperative_member_joins() {
    let mut member = Cooperative::new(&["t", "u"]);
    member.joins();
    member.syncs(&[tp("t", 0), tp("u", 0)]);
    assert!(matches!(member.step(), Step::Wait(Some(_))));
    member.classic.subscribe([Str::from("t")], member.now);
    assert_eq!(member.revokes(), [tp("u", 0)]);
    assert_eq!(member.joins(), [tp("t", 0)]);
    // Subscribed anew while the join is out: it comes to that as soon as it can.
    member.classic.subscribe([Str::from("u")], member.now);
    member.syncs(&[tp("t", 0)]);
    assert_eq!(member.revokes(), [tp("t", 0)]);
    assert_eq!(member.joins(), []);
}

#[test]
fn a_cooperative_member_that_is_dropped_loses_all_and_one_that_stays_away_too() {
    for error in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::ILLEGAL_GENERATION] {
        let mut member = Cooperative::new(&["t"]);
        member.joins();
        member.syncs(&[tp("t", 0)]);
        member.step();
        member.rebalances();
        let Step::Join { attempt, .. } = member.step() else {
            panic!("must join")
        };
        let refused = Joined { error, ..joined(0) };
        member.classic.handle_joined(attempt, refused, member.now);
        assert_eq!(member.step(), lost(), "{error}");
        member.now += Duration::from_secs(2);
        assert_eq!(member.joins(), []);
    }
    let mut member = Cooperative::new(&["t"]);
    member.joins();
    member.syncs(&[tp("t", 0)]);
    member.step();
    member.rebalances();
    assert!(matches!(member.step(), Step::Join { .. }));
    // It waits for the others to join, and the application for nothing.
    member.now += Duration::from_secs(30);
    assert_eq!(member.step(), lost());
    assert!(matches!(member.step(), Step::Leave { .. }));
    assert_eq!(member.step(), Step::Wait(None));
    member.classic.application_polls(true, member.now);
    assert_eq!(member.joins(), []);
}

/// Its join may be on its way for long, and meanwhile it reads.
#[test]
fn a_cooperative_member_that_joins_hears_from_a_commit_that_its_place_is_gone() {
    let is_lost = |error, asks: bool, is_its: bool| {
        let mut member = Cooperative::new(&["t"]);
        member.joins();
        member.syncs(&[tp("t", 0)]);
        member.step();
        let mut sent_as = member.classic.identity();
        if !is_its {
            sent_as.member_id = "another".into();
        }
        member.rebalances();
        if asks {
            assert!(matches!(member.step(), Step::Join { .. }));
        }
        (member.classic).handle_commit_error(error, &sent_as, member.now);
        member.step() == lost()
    };
    for asks in [true, false] {
        for gone in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::FENCED_INSTANCE_ID] {
            assert!(is_lost(gone, asks, true), "{gone}");
            assert!(!is_lost(gone, asks, false), "{gone}");
        }
        // The next generation may have begun, in which it is.
        let over = ErrorCode::ILLEGAL_GENERATION;
        assert!(!is_lost(over, asks, true));
    }
}

#[test]
fn commits_of_a_cooperative_member_hold_from_one_generation_to_the_next() {
    let mut member = Cooperative::new(&["t"]);
    member.joins();
    member.syncs(&[tp("t", 0), tp("t", 1)]);
    member.step();
    let made_by = member.classic.identity();
    let commit_as = |member: &Cooperative, partitions: &[TopicPartition]| {
        member.classic.commit_as(&made_by, partitions)
    };
    let kept = [tp("t", 0)];
    let both = [tp("t", 0), tp("t", 1)];
    member.rebalances();
    let Step::Join { attempt, .. } = member.step() else {
        panic!("must join")
    };
    assert_eq!(commit_as(&member, &both), CommitAs::Member(made_by.clone()));
    member.generation += 1;
    member.classic.handle_joined(attempt, joined(2), member.now);
    assert_eq!(commit_as(&member, &both), CommitAs::Later);
    member.syncs(&kept);
    member.revokes();
    let newer = member.classic.identity();
    assert_eq!(newer.generation, 2);
    assert_eq!(commit_as(&member, &kept), CommitAs::Member(newer.clone()));
    assert_eq!(
        commit_as(&member, &both),
        CommitAs::Nobody(ErrorCode::ILLEGAL_GENERATION)
    );
    // The other one comes back: what was committed before it went is not repeated.
    member.joins();
    member.syncs(&both);
    member.step();
    assert_eq!(
        commit_as(&member, &both),
        CommitAs::Nobody(ErrorCode::ILLEGAL_GENERATION)
    );
    assert_eq!(
        commit_as(&member, &kept),
        CommitAs::Member(member.classic.identity())
    );
    let over = ErrorCode::ILLEGAL_GENERATION;
    assert!(member.classic.may_commit_later(&newer, over));
    assert!(
        !member
            .classic
            .may_commit_later(&member.classic.identity(), over)
    );
    let eager = self::member(member.now);
    assert_eq!(
        eager.commit_as(&made_by, &both),
        CommitAs::Member(made_by.clone())
    );
    assert!(!eager.may_commit_later(&made_by, ErrorCode::REBALANCE_IN_PROGRESS));
}

/// The coordinator keeps its place while a generation begins in which it is silent, and others may have been given what it
/// reads. It would go on behind them, and commit that.
#[test]
fn a_static_member_without_which_a_generation_passed_has_lost_what_it_had() {
    let story = |is_static, passed, leader: &'static str| {
        let mut member = Cooperative::new(&["t"]);
        member.classic.config_mut().is_static = is_static;
        member.joins();
        member.syncs(&[tp("t", 0)]);
        member.step();
        member.rebalances();
        let Step::Join { attempt, owned, .. } = member.step() else {
            panic!("must join")
        };
        assert_eq!(owned, [tp("t", 0)]);
        member.generation += 1 + passed;
        let joined = Joined {
            leader: leader.into(),
            ..joined(member.generation)
        };
        (member.classic).handle_joined(attempt, joined, member.now);
        member
    };
    let mut member = story(true, 1, "other");
    assert_eq!(member.step(), lost());
    // Whoever gets that now, waits for nothing.
    assert_eq!(member.joins(), []);
    member.reads.clear();
    member.syncs(&[tp("t", 0)]);
    assert!(matches!(member.step(), Step::Wait(Some(_))));
    assert_eq!(member.reads(), [tp("t", 0)]);
    // It was in all of them; the coordinator drops those that are not static; and where it assigns itself, it gives nobody
    // what a member has not given up.
    let keep = [
        story(true, 0, "other"),
        story(false, 1, "other"),
        story(true, 1, ""),
    ];
    for mut member in keep {
        member.syncs(&[tp("t", 0)]);
        assert!(matches!(member.step(), Step::Wait(Some(_))));
        assert_eq!(member.reads(), [tp("t", 0)]);
    }
}

/// The other member is told to give a partition up, dies, and is back before its session ends: it has nothing to give up
/// any more, and does not join a second time.
#[test]
fn what_a_static_member_forgot_to_hand_over_is_distributed_again() {
    let mut member = Cooperative::new(&["t"]);
    let all = [tp("t", 0), tp("t", 1)];
    let (attempt, assignor) = member.leads(&all);
    let to = |mine: &[TopicPartition], others: &[TopicPartition]| {
        vec![
            (Str::from("me"), mine.to_vec()),
            ("other".into(), others.to_vec()),
        ]
    };
    // Partition 1 is to be this member's, once the other has given it up.
    (member.classic).handle_led(attempt, assignor, to(&[], &all[..1]));
    member.syncs(&[]);
    assert!(!member.joins_within(9), "it is given time");
    assert!(member.joins_within(2), "partition 1 is nobody's");

    let mut member = Cooperative::new(&["t"]);
    let (attempt, assignor) = member.leads(&all[..1]);
    (member.classic).handle_led(attempt, assignor, to(&all[1..], &all[..1]));
    member.syncs(&all[1..]);
    assert!(!member.joins_within(40), "there is nothing to hand over");
    // Of a topic that nobody wants any more there is nothing to hand over either.
    member.rebalances();
    let (attempt, assignor) = member.leads(&[tp("gone", 0), tp("t", 0)]);
    (member.classic).handle_led(attempt, assignor, to(&all[1..], &all[..1]));
    member.syncs(&all[1..]);
    assert!(!member.joins_within(40));
}

#[test]
fn a_leader_that_is_back_looks_after_what_it_may_have_been_handing_over() {
    for protocol in [RebalanceProtocol::Cooperative, RebalanceProtocol::Eager] {
        let mut member = Cooperative::new(&["t"]);
        member.classic.config_mut().protocol = protocol;
        let Step::Join { attempt, .. } = member.step() else {
            panic!("must join")
        };
        let back = Joined {
            leader: "me".into(),
            members: vec![("me".into(), None, Subscription::default().encode())],
            skip_assignment: true,
            ..joined(7)
        };
        member.classic.handle_joined(attempt, back, member.now);
        let Step::Lead {
            attempt,
            assignor,
            members,
            skip: true,
        } = member.step()
        else {
            panic!("must look what there is")
        };
        assert_eq!(members.len(), 1);
        assert!(member.classic.handle_led(attempt, assignor, Vec::new()));
        member.syncs(&[]);
        let joins = protocol == RebalanceProtocol::Cooperative;
        assert_eq!(member.joins_within(11), joins);
    }
}
