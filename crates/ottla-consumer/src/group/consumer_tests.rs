//! The membership by the consumer protocol: single answers, and whole groups against a coordinator that keeps the rules
//! of KIP-848 while requests and answers get lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ottla_net::Backoff;
use ottla_wire::{ErrorCode, Uuid};
use proptest::prelude::*;

use super::{
    consumer::{Beat, Beaten, ConsumerMembership, ConsumerMembershipConfig, PartitionId},
    membership::{Choosing, CommitAs, Identity, Membership, Step},
};
use crate::{Str, TopicPartition};

const INTERVAL: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_secs(60);

fn config(id: &str) -> ConsumerMembershipConfig {
    ConsumerMembershipConfig {
        member_id: id.into(),
        is_static: false,
        max_poll_interval: POLL_INTERVAL,
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
        seed: 1,
    }
}

fn id(topic: u8) -> Uuid {
    Uuid([topic; 16])
}

fn ids(topic: u8, partitions: impl IntoIterator<Item = i32>) -> BTreeSet<PartitionId> {
    let partitions = partitions.into_iter();
    partitions.map(|partition| (id(topic), partition)).collect()
}

fn name_of(topic: Uuid) -> Str {
    format!("t{}", topic.0[0]).into()
}

fn parts(topic: u8, partitions: impl IntoIterator<Item = i32>) -> Vec<TopicPartition> {
    let partitions = partitions.into_iter();
    partitions
        .map(|partition| TopicPartition::new(name_of(id(topic)), partition))
        .collect()
}

fn given(epoch: i32, assignment: BTreeSet<PartitionId>) -> Beaten {
    Beaten {
        assignment: Some(assignment),
        ..accepted(epoch)
    }
}

fn accepted(epoch: i32) -> Beaten {
    Beaten {
        epoch,
        interval: INTERVAL,
        ..Default::default()
    }
}

fn refused(error: ErrorCode) -> Beaten {
    Beaten {
        error,
        ..Default::default()
    }
}

/// One member, what it is to do, and the time.
struct Stage {
    member: ConsumerMembership,
    now: Instant,
}

impl Stage {
    fn new(config: ConsumerMembershipConfig) -> Self {
        let now = Instant::now();
        Self {
            member: ConsumerMembership::new(config, now),
            now,
        }
    }

    /// With the four partitions of a topic, in epoch 1.
    fn joined(config: ConsumerMembershipConfig) -> Self {
        let mut stage = Self::new(config);
        stage.subscribe(&["t1"]);
        let join = stage.beat();
        assert_eq!((join.epoch, join.full), (0, true));
        stage.answer(&join, given(1, ids(1, 0..4)));
        stage.names(1);
        assert_eq!(stage.poll(), Step::Adopt(parts(1, 0..4)));
        let beat = stage.beat();
        assert_eq!(beat.owned, Some(ids(1, 0..4)));
        stage.answer(&beat, accepted(1));
        stage.waits(INTERVAL);
        stage
    }

    fn subscribe(&mut self, topics: &[&str]) {
        let topics = topics.iter().map(|topic| Str::from(*topic));
        self.member.subscribe(topics, self.now);
    }

    fn poll(&mut self) -> Step {
        self.member.poll(self.now)
    }

    fn beat(&mut self) -> Beat {
        match self.poll() {
            Step::Beat(beat) => beat,
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, beat: &Beat, beaten: Beaten) {
        self.member.handle_beaten(beat.attempt, beaten, self.now);
    }

    fn names(&mut self, topic: u8) {
        assert_eq!(self.poll(), Step::Name(BTreeSet::from([id(topic)])));
        self.member
            .handle_named([(id(topic), name_of(id(topic)))], self.now);
    }

    fn waits(&mut self, time: Duration) {
        assert_eq!(self.poll(), Step::Wait(Some(self.now + time)));
    }

    /// Until whatever comes next.
    fn pass(&mut self) {
        match self.poll() {
            Step::Wait(Some(until)) => {
                assert!(until > self.now, "a busy loop");
                self.now = until;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn everything_is_said_once_and_then_only_what_is_news() {
    let mut stage = Stage::joined(config("me"));
    stage.pass();
    let beat = stage.beat();
    assert_eq!((&*beat.member_id, beat.epoch, beat.full), ("me", 1, false));
    assert_eq!((beat.topics, beat.pattern, beat.owned), (None, None, None));
    stage.member.handle_unanswered(beat.attempt, stage.now);
    assert_eq!(stage.poll(), Step::Rediscover);
    stage.pass();
    let beat = stage.beat();
    assert!(beat.full, "the coordinator may know nothing of the latest");
    assert_eq!(beat.topics, Some(vec!["t1".into()]));
    assert_eq!(beat.owned, Some(ids(1, 0..4)));
    // It is told again what it shall have, and has it.
    stage.answer(&beat, given(2, ids(1, 0..4)));
    stage.waits(INTERVAL);
    assert_eq!(stage.member.identity().generation, 2);
}

#[test]
fn a_subscription_that_changes_is_told_at_once() {
    let mut stage = Stage::joined(config("me"));
    stage.subscribe(&["t1", "t2"]);
    let beat = stage.beat();
    assert_eq!(beat.topics, Some(vec!["t1".into(), "t2".into()]));
    assert_eq!((beat.pattern.clone(), beat.owned.clone()), (None, None));
    // Changed again before the answer.
    stage.member.subscribe_pattern("t.*".into(), stage.now);
    stage.answer(&beat, accepted(1));
    let beat = stage.beat();
    assert_eq!(
        (beat.topics.clone(), beat.pattern.clone()),
        (Some(vec![]), Some("t.*".into()))
    );
    stage.answer(&beat, accepted(1));
    stage.waits(INTERVAL);
    stage.subscribe(&["t1"]);
    let beat = stage.beat();
    assert_eq!(beat.pattern, Some(Str::new()), "the pattern is over");
    assert_eq!(beat.topics, Some(vec!["t1".into()]));
}

#[test]
fn what_is_given_up_is_given_up_before_anything_is_said_or_taken() {
    let mut stage = Stage::joined(config("me"));
    stage.pass();
    let beat = stage.beat();
    stage.answer(&beat, given(1, ids(1, 0..2)));
    let gone = parts(1, 2..4);
    assert_eq!(
        stage.poll(),
        Step::Revoke {
            partitions: gone.clone(),
            all: false
        }
    );
    for _ in 0..3 {
        stage.pass();
        let beat = stage.beat();
        assert_eq!(beat.owned, None, "it still has them");
        stage.answer(&beat, accepted(1));
    }
    assert!(stage.member.is_revoking());
    stage.member.handle_revoked();
    assert_eq!(stage.poll(), Step::Adopt(vec![]), "nothing new");
    let beat = stage.beat();
    assert_eq!(beat.owned, Some(ids(1, 0..2)));
    stage.answer(&beat, given(2, &ids(1, 0..2) | &ids(2, 0..1)));
    stage.names(2);
    assert_eq!(stage.poll(), Step::Adopt(parts(2, 0..1)));
    assert_eq!(stage.beat().owned, Some(&ids(1, 0..2) | &ids(2, 0..1)));
}

#[test]
fn a_target_that_changes_meanwhile_counts() {
    let mut stage = Stage::joined(config("me"));
    stage.pass();
    let beat = stage.beat();
    stage.answer(&beat, given(1, ids(1, 0..2)));
    assert!(matches!(stage.poll(), Step::Revoke { .. }));
    stage.pass();
    let beat = stage.beat();
    // It shall have 3 again, and not 0.
    stage.answer(&beat, given(1, ids(1, [1, 3])));
    stage.waits(INTERVAL);
    stage.member.handle_revoked();
    assert_eq!(
        stage.poll(),
        Step::Revoke {
            partitions: parts(1, [0]),
            all: false
        }
    );
    stage.member.handle_revoked();
    assert_eq!(stage.poll(), Step::Adopt(parts(1, [3])));
    assert_eq!(stage.beat().owned, Some(ids(1, [1, 3])));
}

#[test]
fn a_topic_without_a_name_waits_for_it_and_delays_no_other() {
    let mut stage = Stage::joined(config("me"));
    stage.pass();
    let beat = stage.beat();
    stage.answer(
        &beat,
        given(2, &ids(1, 0..4) | &(&ids(2, 0..1) | &ids(3, 0..1))),
    );
    let both = BTreeSet::from([id(2), id(3)]);
    assert_eq!(stage.poll(), Step::Name(both));
    stage
        .member
        .handle_named([(id(3), name_of(id(3)))], stage.now);
    assert_eq!(stage.poll(), Step::Adopt(parts(3, 0..1)));
    let beat = stage.beat();
    assert_eq!(beat.owned, Some(&ids(1, 0..4) | &ids(3, 0..1)));
    stage.answer(&beat, accepted(2));
    stage.pass();
    stage.names(2);
    assert_eq!(stage.poll(), Step::Adopt(parts(2, 0..1)));
    let all = &(&ids(1, 0..4) | &ids(2, 0..1)) | &ids(3, 0..1);
    assert_eq!(stage.beat().owned, Some(all));
}

#[test]
fn what_was_taken_back_before_it_was_taken_is_acknowledged() {
    let mut stage = Stage::new(config("me"));
    stage.subscribe(&["t1"]);
    let join = stage.beat();
    stage.answer(&join, given(1, ids(1, 0..4)));
    assert!(matches!(stage.poll(), Step::Name(_)));
    stage.pass();
    let beat = stage.beat();
    stage.answer(&beat, given(1, BTreeSet::new()));
    assert_eq!(stage.poll(), Step::Adopt(vec![]));
    assert_eq!(stage.beat().owned, Some(BTreeSet::new()));
}

#[test]
fn what_it_said_it_does_not_have_is_not_taken_any_more() {
    let mut stage = Stage::joined(config("me"));
    stage.pass();
    let beat = stage.beat();
    stage.answer(&beat, given(2, &ids(1, 0..4) | &ids(2, 0..1)));
    assert!(matches!(stage.poll(), Step::Name(_)));
    stage.pass();
    let beat = stage.beat();
    stage.member.handle_unanswered(beat.attempt, stage.now);
    assert_eq!(stage.poll(), Step::Rediscover);
    stage.pass();
    let beat = stage.beat();
    assert_eq!(beat.owned, Some(ids(1, 0..4)), "without the one of topic 2");
    // Which may be another's since the coordinator heard that, whatever became of its answer.
    let named = [(id(2), name_of(id(2)))];
    stage.member.handle_named(named, stage.now);
    stage.member.handle_unanswered(beat.attempt, stage.now);
    assert_eq!(stage.poll(), Step::Rediscover);
    stage.pass();
    let beat = stage.beat();
    stage.answer(&beat, given(3, &ids(1, 0..4) | &ids(2, 0..1)));
    assert_eq!(stage.poll(), Step::Adopt(parts(2, 0..1)));
}

#[test]
fn a_topic_made_anew_is_another() {
    let mut stage = Stage::joined(config("me"));
    stage.pass();
    let beat = stage.beat();
    stage.answer(&beat, given(2, ids(9, 0..1)));
    assert_eq!(
        stage.poll(),
        Step::Revoke {
            partitions: parts(1, 0..4),
            all: false
        }
    );
    stage.member.handle_revoked();
    assert_eq!(stage.poll(), Step::Name(BTreeSet::from([id(9)])));
    stage
        .member
        .handle_named([(id(9), name_of(id(1)))], stage.now);
    assert_eq!(stage.poll(), Step::Adopt(parts(1, 0..1)));
    assert_eq!(stage.beat().owned, Some(ids(9, 0..1)));
}

#[test]
fn who_lost_its_place_joins_anew_under_its_own_id() {
    for error in [
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::FENCED_MEMBER_EPOCH,
        ErrorCode::GROUP_ID_NOT_FOUND,
    ] {
        let mut stage = Stage::joined(config("me"));
        stage.pass();
        let beat = stage.beat();
        stage.answer(&beat, refused(error));
        assert_eq!(stage.poll(), Step::Lose(parts(1, 0..4)), "{error}");
        assert_eq!(
            stage.member.committer(),
            Err(ErrorCode::UNKNOWN_MEMBER_ID),
            "and has no say until then"
        );
        stage.pass();
        let join = stage.beat();
        assert_eq!((&*join.member_id, join.epoch, join.full), ("me", 0, true));
        assert_eq!(join.owned, Some(BTreeSet::new()));
        stage.answer(&join, given(5, ids(1, 0..1)));
        assert_eq!(stage.poll(), Step::Adopt(parts(1, 0..1)));
    }
}

#[test]
fn what_no_other_try_can_mend_is_told() {
    for error in [
        ErrorCode::UNRELEASED_INSTANCE_ID,
        ErrorCode::FENCED_INSTANCE_ID,
        ErrorCode::UNSUPPORTED_ASSIGNOR,
        ErrorCode::UNSUPPORTED_VERSION,
        ErrorCode::GROUP_MAX_SIZE_REACHED,
        ErrorCode::INVALID_REGULAR_EXPRESSION,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ErrorCode::INVALID_REQUEST,
        // To who joins it means that the group is one of classic members.
        ErrorCode::GROUP_ID_NOT_FOUND,
    ] {
        let mut stage = Stage::new(config("me"));
        stage.subscribe(&["t1"]);
        let join = stage.beat();
        stage.answer(&join, refused(error));
        assert_eq!(stage.poll(), Step::Fail(error));
        assert_eq!(stage.poll(), Step::Wait(None));
        assert!(stage.member.is_idle());
        stage.subscribe(&["t1"]);
        assert_eq!(stage.beat().epoch, 0, "a new try");
    }
}

#[test]
fn a_pattern_is_over_also_for_who_joins_anew() {
    let mut stage = Stage::joined(config("me"));
    stage.member.subscribe_pattern("x{".into(), stage.now);
    let beat = stage.beat();
    assert_eq!(beat.pattern, Some("x{".into()));
    let error = ErrorCode::INVALID_REGULAR_EXPRESSION;
    stage.answer(&beat, refused(error));
    assert_eq!(stage.poll(), Step::Lose(parts(1, 0..4)));
    assert!(
        matches!(stage.poll(), Step::Depart { epoch: -1, .. }),
        "others wait for what it had"
    );
    assert_eq!(stage.poll(), Step::Fail(error));
    stage.member.handle_departed();
    stage.subscribe(&["t1"]);
    let join = stage.beat();
    assert_eq!((join.epoch, join.pattern), (0, Some(Str::new())));
}

#[test]
fn a_coordinator_that_moves_or_loads_costs_time_only() {
    let mut stage = Stage::joined(config("me"));
    for error in [
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    ] {
        stage.pass();
        let beat = stage.beat();
        stage.answer(&beat, refused(error));
        if error != ErrorCode::COORDINATOR_LOAD_IN_PROGRESS {
            assert_eq!(stage.poll(), Step::Rediscover);
        }
    }
    stage.pass();
    let beat = stage.beat();
    assert_eq!((beat.epoch, beat.full), (1, true));
    stage.answer(&beat, given(1, ids(1, 0..4)));
    stage.waits(INTERVAL);
}

#[test]
fn who_stays_away_leaves_and_comes_back() {
    for (is_static, farewell) in [(false, -1), (true, -2)] {
        let mut stage = Stage::joined(ConsumerMembershipConfig {
            is_static,
            ..config("me")
        });
        stage.member.application_polls(true, stage.now);
        stage.now += 3 * POLL_INTERVAL;
        let beat = stage.beat();
        stage.answer(&beat, accepted(1));
        stage.waits(INTERVAL); // It may wait for records for as long as it likes.
        stage.member.application_polls(false, stage.now);
        stage.now += POLL_INTERVAL;
        assert_eq!(stage.poll(), Step::Lose(parts(1, 0..4)));
        let member_id: Str = "me".into();
        assert_eq!(
            stage.poll(),
            Step::Depart {
                member_id,
                epoch: farewell
            }
        );
        assert_eq!(stage.poll(), Step::Wait(None));
        stage.member.application_polls(false, stage.now);
        assert_eq!(stage.poll(), Step::Wait(None), "not before it has left");
        stage.member.handle_departed();
        assert_eq!(stage.beat().epoch, 0);
    }
}

#[test]
fn who_stays_away_before_it_was_given_anything_is_looked_out_for() {
    let mut stage = Stage::new(config("me"));
    stage.subscribe(&["t1"]);
    let join = stage.beat();
    stage.answer(&join, given(1, ids(1, 0..4)));
    assert!(matches!(stage.poll(), Step::Name(_)));
    stage.now += POLL_INTERVAL;
    // Nothing would wake the driver when the application comes back.
    assert_eq!(stage.poll(), Step::Lose(vec![]));
    assert!(matches!(stage.poll(), Step::Depart { epoch: -1, .. }));
}

#[test]
fn who_left_joins_only_when_that_was_said() {
    let mut stage = Stage::joined(config("me"));
    stage.pass();
    let beat = stage.beat();
    stage.member.leave();
    stage.subscribe(&["t1"]);
    assert_eq!(stage.poll(), Step::Drop);
    assert!(matches!(stage.poll(), Step::Depart { epoch: -1, .. }));
    // Left again, before it was anything: that is said already.
    stage.member.leave();
    stage.subscribe(&["t1"]);
    stage.answer(&beat, given(2, ids(1, 0..1)));
    assert_eq!(stage.poll(), Step::Wait(None), "an answer to another life");
    stage.member.handle_departed();
    let join = stage.beat();
    assert_eq!(join.epoch, 0);
    // Left while it joins: the coordinator may know it.
    stage.member.leave();
    assert!(matches!(stage.poll(), Step::Depart { epoch: -1, .. }));
    assert_eq!(stage.member.identity(), Identity::nobody());
}

#[test]
fn a_farewell_outlives_the_next_one() {
    let mut stage = Stage::joined(config("me"));
    stage.member.leave();
    stage.member.leave();
    assert!(matches!(stage.poll(), Step::Depart { .. }));
}

#[test]
fn commits_go_with_the_epoch_and_stay_with_the_partition() {
    let mut stage = Stage::joined(config("me"));
    let made_by = stage.member.committer().unwrap();
    assert_eq!(made_by.generation, 1);
    let stale = ErrorCode::STALE_MEMBER_EPOCH;
    let commit =
        |stage: &Stage, partitions: &[TopicPartition]| stage.member.commit_as(&made_by, partitions);
    // The coordinator is further: the next heartbeat, at once, says how far.
    assert!(stage.member.may_commit_later(&made_by, stale));
    stage.member.handle_commit_error(stale, &made_by, stage.now);
    let beat = stage.beat();
    stage.answer(&beat, given(2, ids(1, 0..2)));
    let later = Identity {
        generation: 2,
        ..made_by.clone()
    };
    assert_eq!(
        commit(&stage, &parts(1, 0..4)),
        CommitAs::Member(later.clone())
    );
    assert!(matches!(stage.poll(), Step::Revoke { .. }));
    assert_eq!(
        commit(&stage, &parts(1, 2..3)),
        CommitAs::Member(later.clone())
    );
    stage.member.handle_revoked();
    assert_eq!(commit(&stage, &parts(1, 2..3)), CommitAs::Nobody(stale));
    assert_eq!(commit(&stage, &parts(1, 0..2)), CommitAs::Member(later));
    // It comes back: somebody else had it in between.
    assert_eq!(stage.poll(), Step::Adopt(vec![]));
    let beat = stage.beat();
    stage.answer(&beat, given(3, ids(1, 0..3)));
    assert_eq!(stage.poll(), Step::Adopt(parts(1, 2..3)));
    assert_eq!(commit(&stage, &parts(1, 0..3)), CommitAs::Nobody(stale));
    assert!(matches!(commit(&stage, &parts(1, 0..2)), CommitAs::Member(by) if by.generation == 3));
    // It is no member any more: nothing later helps, and the coordinator says no.
    let beat = stage.beat();
    stage.answer(&beat, refused(ErrorCode::UNKNOWN_MEMBER_ID));
    assert!(!stage.member.may_commit_later(&made_by, stale));
    assert_eq!(
        commit(&stage, &parts(1, 0..1)),
        CommitAs::Member(made_by.clone())
    );
}

#[test]
fn an_epoch_that_cannot_be_is_not_believed() {
    let mut stage = Stage::new(config("me"));
    stage.subscribe(&["t1"]);
    for epoch in [0, -1, i32::MIN] {
        let join = stage.beat();
        stage.answer(&join, given(epoch, ids(1, 0..4)));
        stage.pass();
    }
    let join = stage.beat();
    let hasty = Beaten {
        interval: Duration::ZERO,
        ..given(1, BTreeSet::new())
    };
    stage.answer(&join, hasty);
    assert_eq!(
        stage.poll(),
        Step::Adopt(vec![]),
        "nothing is an assignment, too"
    );
    let beat = stage.beat();
    let hasty = Beaten {
        interval: Duration::ZERO,
        ..accepted(1)
    };
    stage.answer(&beat, hasty);
    stage.pass();
}

#[test]
fn which_protocol_is_asked_until_somebody_answers() {
    let backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
    let mut now = Instant::now();
    let mut membership = Membership::Choosing(Choosing::new(backoff, 1));
    assert_eq!(
        membership.poll(now),
        Step::Wait(None),
        "nobody needs to know"
    );
    assert_eq!(membership.committer(), Ok(Identity::nobody()));
    membership.subscribe([], now);
    assert!(membership.committer().is_err());
    for _ in 0..3 {
        let Step::Choose { attempt } = membership.poll(now) else {
            panic!("must ask")
        };
        assert_eq!(membership.poll(now), Step::Wait(None), "asked once");
        membership.handle_unanswered(attempt, now);
        assert_eq!(membership.poll(now), Step::Rediscover);
        match membership.poll(now) {
            Step::Wait(Some(until)) if until > now => now = until,
            other => panic!("{other:?}"),
        }
    }
    let Step::Choose { attempt } = membership.poll(now) else {
        panic!("must ask")
    };
    let error = ErrorCode::GROUP_AUTHORIZATION_FAILED;
    membership.handle_refused(attempt, error, now);
    assert_eq!(membership.poll(now), Step::Fail(error));
    assert!(membership.is_idle());
}

/// A coordinator that hands out the partitions of one topic by KIP-848.
#[derive(Default)]
struct Coordinator {
    epoch: i32,
    members: BTreeMap<Str, Known>,
    target: BTreeMap<Str, BTreeSet<i32>>,
}

#[derive(Default)]
struct Known {
    epoch: i32,
    previous: i32,
    assigned: BTreeSet<i32>,
    revoking: BTreeSet<i32>,
}

impl Coordinator {
    /// Partition number p goes to member number (p × step) mod members.
    fn share_out(&mut self, step: usize) {
        self.epoch += 1;
        self.target = self
            .members
            .keys()
            .map(|id| (id.clone(), BTreeSet::new()))
            .collect();
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for partition in 0..PARTITIONS {
            if !ids.is_empty() {
                let to = &ids[(partition as usize * step) % ids.len()];
                self.target.get_mut(to).unwrap().insert(partition);
            }
        }
    }

    fn remove(&mut self, id: &Str) {
        if self.members.remove(id).is_some() {
            self.share_out(1);
        }
    }

    fn beat(&mut self, beat: &Beat) -> Beaten {
        let id = &beat.member_id;
        let owned = beat
            .owned
            .as_ref()
            .map(|owned| owned.iter().map(|(_, p)| *p).collect::<BTreeSet<_>>());
        let Some(known) = self.members.get(id) else {
            if beat.epoch != 0 {
                return refused(ErrorCode::UNKNOWN_MEMBER_ID);
            }
            assert!(beat.full && owned == Some(BTreeSet::new()));
            self.members.insert(id.clone(), Known::default());
            self.share_out(1);
            return self.reconcile(id, owned, true);
        };
        let again = beat.epoch == known.previous
            && owned
                .as_ref()
                .is_some_and(|owned| owned.is_subset(&known.assigned));
        if beat.epoch != 0 && beat.epoch != known.epoch && !again {
            return refused(ErrorCode::FENCED_MEMBER_EPOCH);
        }
        let tell = beat.full || beat.epoch != known.epoch;
        self.reconcile(id, owned, tell)
    }

    fn reconcile(&mut self, id: &Str, owned: Option<BTreeSet<i32>>, tell: bool) -> Beaten {
        let target = self.target[id].clone();
        let mut known = self.members.remove(id).unwrap();
        let has = |set: &BTreeSet<i32>| owned.as_ref().is_none_or(|owned| !owned.is_disjoint(set));
        let before = known.assigned.clone();
        if known.revoking.is_empty() || !has(&known.revoking) {
            known.revoking.clear();
            let gone = &known.assigned - &target;
            if !gone.is_empty() && has(&gone) {
                known.assigned = &known.assigned & &target;
                known.revoking = gone;
            } else {
                let others = self.members.values();
                let taken: BTreeSet<i32> = others
                    .flat_map(|other| &other.assigned | &other.revoking)
                    .collect();
                known.assigned = &target - &(&taken - &known.assigned);
                if known.epoch != self.epoch {
                    known.previous = known.epoch;
                    known.epoch = self.epoch;
                }
            }
        }
        let tell = tell || known.assigned != before;
        let answer = Beaten {
            assignment: tell.then(|| ids(1, known.assigned.iter().copied())),
            ..accepted(known.epoch.max(1))
        };
        self.members.insert(id.clone(), known);
        answer
    }
}

const PARTITIONS: i32 = 6;

/// What happens to one of the members.
#[derive(Debug, Clone)]
enum Event {
    Subscribe,
    Leave,
    /// The application gives up what it shall.
    Revoked,
    Polls(bool),
    /// Its heartbeat arrives and is answered; or either of both is lost.
    Answered,
    RequestLost,
    AnswerLost,
    Departs,
    Names,
    /// The coordinator takes it for dead.
    PutOut,
    ShareOut(usize),
    Wait(u64),
}

fn event() -> impl Strategy<Value = (usize, Event)> {
    let event = prop_oneof![
        2 => Just(Event::Subscribe),
        1 => Just(Event::Leave),
        4 => Just(Event::Revoked),
        2 => any::<bool>().prop_map(Event::Polls),
        12 => Just(Event::Answered),
        1 => Just(Event::RequestLost),
        2 => Just(Event::AnswerLost),
        2 => Just(Event::Departs),
        4 => Just(Event::Names),
        1 => Just(Event::PutOut),
        2 => (1..4_usize).prop_map(Event::ShareOut),
        4 => (0..20_u64).prop_map(Event::Wait),
    ];
    (0..MEMBERS, event)
}

const MEMBERS: usize = 3;

struct Actor {
    id: Str,
    member: ConsumerMembership,
    /// What its application reads.
    has: BTreeSet<TopicPartition>,
    revoking: Option<Vec<TopicPartition>>,
    out: Option<Beat>,
    departing: bool,
    naming: bool,
    subscribed: bool,
}

impl Actor {
    /// Does all that there is to do.
    fn run(&mut self, now: Instant) {
        for round in 0.. {
            assert!(round < 100, "a busy loop");
            match self.member.poll(now) {
                Step::Wait(until) => {
                    assert!(until.is_none_or(|until| until > now), "a busy loop");
                    return;
                }
                Step::Beat(beat) => self.out = Some(beat),
                Step::Depart { .. } => {
                    assert!(!self.departing);
                    // The driver drops what is not sent yet.
                    (self.out, self.departing) = (None, true);
                }
                Step::Name(_) => {
                    assert!(!self.naming);
                    self.naming = true;
                }
                Step::Adopt(new) => {
                    assert!(self.revoking.is_none(), "given up before anything is taken");
                    for partition in new {
                        assert!(self.has.insert(partition), "adopted once");
                    }
                }
                Step::Revoke { partitions, all } => {
                    assert!(!all && partitions.iter().all(|p| self.has.contains(p)));
                    assert!(self.revoking.replace(partitions).is_none());
                }
                Step::Lose(lost) => {
                    assert_eq!(lost.into_iter().collect::<BTreeSet<_>>(), self.has);
                    (self.has, self.revoking) = (BTreeSet::new(), None);
                }
                Step::Drop => (self.has, self.revoking) = (BTreeSet::new(), None),
                Step::Rediscover => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

proptest! {
    /// Whatever gets lost, whoever comes and goes: what one member reads no other does that the coordinator counts
    /// among the members; and when all is calm, each partition is read by one of those who subscribe.
    #[test]
    fn never_two_owners(events in prop::collection::vec(event(), 1..120)) {
        let mut now = Instant::now();
        let mut coordinator = Coordinator::default();
        let mut actors: Vec<Actor> = (0..MEMBERS)
            .map(|number| {
                let id: Str = format!("m{number}").into();
                Actor {
                    member: ConsumerMembership::new(config(&id), now),
                    id,
                    has: BTreeSet::new(),
                    revoking: None,
                    out: None,
                    departing: false,
                    naming: false,
                    subscribed: false,
                }
            })
            .collect();
        let calm = (0..40).flat_map(|_| {
            (0..MEMBERS).flat_map(|member| {
                [
                    Event::Polls(true),
                    Event::Departs,
                    Event::Answered,
                    Event::Names,
                    Event::Revoked,
                    Event::Wait(2),
                ]
                .map(|event| (member, event))
            })
        });
        for (number, event) in events.into_iter().chain(calm) {
            let actor = &mut actors[number];
            match event {
                Event::Subscribe => {
                    actor.subscribed = true;
                    actor.member.subscribe([Str::from("t1")], now);
                }
                Event::Leave => {
                    actor.subscribed = false;
                    actor.member.leave();
                }
                Event::Revoked => {
                    if let Some(partitions) = actor.revoking.take() {
                        for partition in &partitions {
                            actor.has.remove(partition);
                        }
                        actor.member.handle_revoked();
                    }
                }
                Event::Polls(waiting) => actor.member.application_polls(waiting, now),
                Event::Answered => {
                    if let Some(beat) = actor.out.take() {
                        let answer = coordinator.beat(&beat);
                        actor.member.handle_beaten(beat.attempt, answer, now);
                    }
                }
                Event::RequestLost => {
                    if let Some(beat) = actor.out.take() {
                        actor.member.handle_unanswered(beat.attempt, now);
                    }
                }
                Event::AnswerLost => {
                    if let Some(beat) = actor.out.take() {
                        coordinator.beat(&beat);
                        actor.member.handle_unanswered(beat.attempt, now);
                    }
                }
                Event::Departs => {
                    if std::mem::take(&mut actor.departing) {
                        coordinator.remove(&actor.id);
                        actor.member.handle_departed();
                    }
                }
                Event::Names => {
                    if std::mem::take(&mut actor.naming) {
                        actor.member.handle_named([(id(1), name_of(id(1)))], now);
                    }
                }
                Event::PutOut => coordinator.remove(&actor.id),
                Event::ShareOut(step) => {
                    if !coordinator.members.is_empty() {
                        coordinator.share_out(step);
                    }
                }
                Event::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            for actor in &mut actors {
                actor.run(now);
            }
            // Who was put out reads on until it hears of it.
            let mut read = BTreeSet::new();
            for actor in &actors {
                let epoch = actor.member.identity().generation;
                let known = coordinator.members.get(&actor.id);
                if known.is_some_and(|known| epoch > 0 && (epoch == known.epoch || epoch == known.previous)) {
                    for partition in &actor.has {
                        prop_assert!(read.insert(partition.clone()), "{partition} is read twice");
                    }
                }
            }
        }
        let subscribed = actors.iter().filter(|actor| actor.subscribed).count();
        let read: usize = actors.iter().map(|actor| actor.has.len()).sum();
        prop_assert_eq!(read, if subscribed > 0 { PARTITIONS as usize } else { 0 });
        prop_assert_eq!(coordinator.members.len(), subscribed);
    }
}
