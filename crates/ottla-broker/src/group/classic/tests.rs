//! The group protocol, driven by hand with a clock of the test's own.

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
            group: ClassicGroup::new(settings, Instant::now()),
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

    fn sync(&mut self, id: &str, generation: i32, parts: &[(&str, &'static [u8])]) -> Vec<Action> {
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
    assert_eq!(
        bench.group.check_commit("", None, -1, false, bench.now),
        Ok(())
    );
    let (first, ..) = bench.enter();
    let now = bench.now;
    assert_eq!(
        bench.group.check_commit(&first, None, 1, false, now),
        Err(ErrorCode::REBALANCE_IN_PROGRESS)
    );
    bench.sync(&first, 1, &[]);
    assert_eq!(
        bench.group.check_commit(&first, None, 1, false, now),
        Ok(())
    );
    assert_eq!(
        bench.group.check_commit(&first, None, 0, false, now),
        Err(ErrorCode::ILLEGAL_GENERATION)
    );
    assert_eq!(
        bench.group.check_commit("", None, -1, false, now),
        Err(ErrorCode::UNKNOWN_MEMBER_ID)
    );
}

fn refusal(actions: &[Action]) -> ErrorCode {
    match actions {
        [Action::Joined(_, joined)] => joined.error,
        [Action::Synced(_, synced)] => synced.error,
        _ => panic!("{actions:?}"),
    }
}

fn request(id: &str, protocols: &[&str]) -> Join {
    Join {
        member_id: id.to_owned(),
        instance_id: None,
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: protocols
            .iter()
            .map(|name| ((*name).to_owned(), Bytes::from_static(b"m")))
            .collect(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        must_know_its_id: false,
        can_skip_assignment: true,
        unique: fastrand::u128(..),
    }
}

fn ask(bench: &mut Bench, join: Join) -> Vec<Action> {
    bench.next_waiter += 1;
    let mut actions = Vec::new();
    bench
        .group
        .join(bench.next_waiter, join, bench.now, &mut actions);
    actions
}

#[test]
fn requests_that_cannot_be_granted_are_refused_and_leave_nothing_behind() {
    let mut bench = Bench::new();
    let with = |change: fn(&mut Join)| {
        let mut join = request("", &["range"]);
        change(&mut join);
        join
    };
    let cases: [(Join, ErrorCode); 5] = [
        (
            with(|j| j.session_timeout = Duration::from_millis(999)),
            ErrorCode::INVALID_SESSION_TIMEOUT,
        ),
        (
            with(|j| j.session_timeout = Duration::from_secs(101)),
            ErrorCode::INVALID_SESSION_TIMEOUT,
        ),
        (
            with(|j| j.protocols.clear()),
            ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        ),
        (
            with(|j| j.protocol_type.clear()),
            ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        ),
        (
            with(|j| j.member_id = "nobody".into()),
            ErrorCode::UNKNOWN_MEMBER_ID,
        ),
    ];
    for (join, expected) in cases {
        assert_eq!(refusal(&ask(&mut bench, join)), expected);
    }
    assert!(bench.group.is_empty() && bench.group.members().count() == 0);
    bench.enter();
    let other_type = with(|j| j.protocol_type = "connect".into());
    let other_protocol = request("", &["roundrobin"]);
    for join in [other_type, other_protocol] {
        let refused = refusal(&ask(&mut bench, join));
        assert_eq!(refused, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut bench = Bench::new();
    let first = ask(&mut bench, request("", &["range"]));
    let first = joined(&first)[0].0.to_owned();
    for _ in 0..10 {
        ask(&mut bench, request("", &["range"]));
    }
    // Ten have joined the next generation: whoever comes too late is out, even the first of all.
    for id in ["", first.as_str()] {
        let actions = ask(&mut bench, request(id, &["range"]));
        assert!(actions.iter().any(|action| matches!(
            action,
            Action::Joined(_, joined) if joined.error == ErrorCode::GROUP_MAX_SIZE_REACHED
        )));
    }
    assert_eq!(bench.group.generation, 2);
}

#[test]
fn the_protocol_that_most_put_first_wins() {
    let mut bench = Bench::new();
    let first = ask(&mut bench, request("", &["range", "sticky"]));
    let id = joined(&first)[0].0.to_owned();
    ask(&mut bench, request("", &["sticky", "range"]));
    ask(&mut bench, request("", &["sticky", "range", "own"]));
    let actions = ask(&mut bench, request(&id, &["range", "sticky"]));
    assert_eq!(joined(&actions).len(), 3);
    assert_eq!(bench.group.protocol(), Some("sticky"));
}

#[test]
fn the_first_generation_waits_for_late_comers_but_not_for_ever() {
    let mut bench = Bench::new();
    let second = Duration::from_secs(1);
    bench.group.settings.initial_rebalance_delay = 3 * second;
    ask(&mut bench, request("", &["range"]));
    assert!(bench.pass(2 * second).is_empty());
    ask(&mut bench, request("", &["range"]));
    assert!(bench.pass(second).is_empty(), "one came, so others may");
    assert!(bench.pass(2 * second).is_empty());
    assert_eq!(joined(&bench.pass(second)).len(), 2);
    let mut bench = Bench::new();
    bench.group.settings.initial_rebalance_delay = 3 * second;
    ask(&mut bench, request("", &["range"]));
    for past in 0..20 {
        ask(&mut bench, request("", &["range"]));
        let actions = bench.pass(3 * second);
        if !actions.is_empty() {
            assert_eq!(
                3 * second * (past + 1),
                REBALANCE,
                "as long as the rebalance timeout"
            );
            return;
        }
    }
    panic!("it never began");
}

#[test]
fn a_member_that_never_asks_for_its_assignment_is_dropped() {
    let mut bench = Bench::new();
    let (first, ..) = bench.enter();
    bench.sync(&first, 1, &[]);
    let (second, ..) = bench.enter();
    bench.join(&first, None);
    let leader = bench.group.leader.clone().unwrap();
    let other = if leader == first { &second } else { &first };
    bench.sync(&leader, 2, &[]);
    assert_eq!(bench.group.state_name(), "Stable");
    // Both are alive.
    for _ in 0..6 {
        bench.pass(REBALANCE / 6);
        bench.group.heartbeat(&leader, None, 2, bench.now);
        bench.group.heartbeat(other, None, 2, bench.now);
    }
    let left: Vec<&str> = bench.group.members().map(|m| m.id.as_str()).collect();
    assert_eq!(left, [leader.as_str()]);
    assert_eq!(bench.group.state_name(), "PreparingRebalance");
}

#[test]
fn a_member_that_gave_up_joining_does_not_stay_for_ever() {
    let mut bench = Bench::new();
    let (first, ..) = bench.enter();
    bench.sync(&first, 1, &[]);
    let mut slow = request("", &["range"]);
    slow.rebalance_timeout = Duration::from_secs(3600);
    ask(&mut bench, slow);
    for _ in 0..100 {
        bench.group.heartbeat(&first, None, 1, bench.now);
        let actions = bench.pass(SESSION / 2);
        if !actions.is_empty() {
            assert_eq!(refusal(&actions), ErrorCode::UNKNOWN_MEMBER_ID);
            assert_eq!(bench.group.members().count(), 1);
            return;
        }
    }
    panic!("it waits for ever");
}

#[test]
fn static_members_that_are_away_keep_their_place_and_delay_only_themselves() {
    let mut bench = Bench::new();
    let (_, actions) = bench.join("", Some("i1"));
    let first = joined(&actions)[0].0.to_owned();
    bench.sync(&first, 1, &[]);
    let (_, actions) = bench.join("", Some("i2"));
    assert!(actions.is_empty());
    bench.pass(SESSION / 2);
    bench.group.heartbeat(&first, Some("i1"), 1, bench.now);
    // The rebalance timeout is longer than the session, so the first lapses before.
    let actions = bench.pass(SESSION);
    assert_eq!(joined(&actions).len(), 1);
    assert_eq!(bench.group.members().count(), 1);
    // Leaving by instance id alone, as an administrator does it.
    let mut actions = Vec::new();
    for (id, instance, expected) in [
        ("", Some("i1"), ErrorCode::UNKNOWN_MEMBER_ID),
        ("", None, ErrorCode::UNKNOWN_MEMBER_ID),
        ("somebody", Some("i2"), ErrorCode::FENCED_INSTANCE_ID),
        ("somebody", None, ErrorCode::UNKNOWN_MEMBER_ID),
        ("", Some("i2"), ErrorCode::NONE),
    ] {
        assert_eq!(
            bench.group.leave(id, instance, bench.now, &mut actions),
            expected
        );
    }
    assert!(bench.group.is_empty());
    assert_eq!(bench.group.protocol_type(), Some("consumer"));
}

#[test]
fn a_static_leader_of_an_old_client_is_not_told_that_it_leads() {
    let mut bench = Bench::new();
    let (_, actions) = bench.join("", Some("i1"));
    let old = joined(&actions)[0].0.to_owned();
    bench.sync(&old, 1, &[(&old, b"all")]);
    let mut again = request("", &["range"]);
    again.instance_id = Some("i1".to_owned());
    again.can_skip_assignment = false;
    let actions = ask(&mut bench, again);
    let [Action::Joined(_, back)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!((back.generation, back.leader.as_str()), (1, old.as_str()));
    assert!(back.members.is_empty() && !back.skip_assignment);
    let id = back.member_id.clone();
    let synced = bench.sync(&id, 1, &[]);
    assert!(matches!(&synced[..], [Action::Synced(_, s)] if s.assignment == "all"));
}

#[test]
fn offsets_may_be_committed_by_whom_kafka_lets() {
    let mut bench = Bench::new();
    let now = bench.now;
    let group = &mut bench.group;
    assert_eq!(
        group.check_commit("tool", None, -1, false, now),
        Ok(()),
        "nobody is there"
    );
    let (first, ..) = bench.enter();
    let group = &mut bench.group;
    let check = |group: &mut ClassicGroup, id: &str, instance, generation, transactional| {
        group.check_commit(id, instance, generation, transactional, now)
    };
    assert_eq!(
        check(group, "", None, -1, false),
        Err(ErrorCode::UNKNOWN_MEMBER_ID)
    );
    assert_eq!(
        check(group, "", None, -1, true),
        Ok(()),
        "a producer of the first generation"
    );
    assert_eq!(
        check(group, &first, None, 1, false),
        Err(ErrorCode::REBALANCE_IN_PROGRESS)
    );
    assert_eq!(check(group, &first, None, 1, true), Ok(()));
    assert_eq!(
        check(group, &first, None, 2, true),
        Err(ErrorCode::ILLEGAL_GENERATION)
    );
    assert_eq!(
        check(group, "x", None, 1, true),
        Err(ErrorCode::UNKNOWN_MEMBER_ID)
    );
    assert_eq!(
        check(group, &first, Some("i"), 1, false),
        Err(ErrorCode::UNKNOWN_MEMBER_ID)
    );
}

#[test]
fn a_member_with_very_many_assignors_is_refused() {
    let mut bench = Bench::new();
    let names = (0..1000).map(|index| (format!("assignor-{index}"), Bytes::new()));
    let join = Join {
        member_id: String::new(),
        instance_id: None,
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: names.collect(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        must_know_its_id: false,
        can_skip_assignment: true,
        unique: 1,
    };
    let mut actions = Vec::new();
    bench.group.join(1, join, bench.now, &mut actions);
    let [Action::Joined(1, joined)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(joined.error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert!(bench.group.is_empty());
}
