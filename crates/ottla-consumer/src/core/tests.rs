//! The core against a model of brokers and of an application, one decision at a time.

use std::collections::HashMap;

use ottla_wire::{ErrorCode, Uuid};
use proptest::prelude::*;

use super::{fetch::FetchOrder, *};
use crate::TopicPartition;

/// A batch of the model: offsets `.0` to `.1`.
type Data = (i64, i64);

fn config() -> CoreConfig {
    CoreConfig {
        fetch_max_bytes: 1000,
        max_partition_fetch_bytes: 100,
        queued_bytes_max: 1000,
        queued_partition_bytes_max: 300,
        reset: OffsetReset::Earliest,
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
        seed: 1,
    }
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn leader(node: i32, epoch: i32) -> Option<Leader> {
    Some(Leader {
        node,
        epoch,
        topic_id: Uuid::ZERO,
    })
}

fn watermarks() -> Watermarks {
    Watermarks {
        low: 0,
        high: 1000,
        last_stable: 1000,
    }
}

fn batch(first: i64, last: i64, bytes: usize) -> Entry<Data> {
    let next = Position {
        offset: last + 1,
        leader_epoch: Some(1),
    };
    Entry {
        body: Body::Batch((first, last), 0),
        next,
        bytes,
    }
}

fn answer(partition: i32, entries: Vec<Entry<Data>>) -> FetchedPartition<Data> {
    FetchedPartition {
        topic: "t".into(),
        topic_id: Uuid::ZERO,
        partition,
        error: ErrorCode::NONE,
        watermarks: watermarks(),
        entries,
    }
}

fn refusal(partition: i32, error: ErrorCode) -> FetchedPartition<Data> {
    FetchedPartition {
        error,
        ..answer(partition, vec![])
    }
}

fn order(core: &mut Core<Data>, node: i32, now: Instant) -> FetchOrder {
    match core.plan_fetch(node, false, now) {
        FetchPlan::Send(order) => order,
        other => panic!("{other:?}"),
    }
}

fn offsets(order: &FetchOrder) -> HashMap<i32, i64> {
    order
        .session
        .partitions
        .iter()
        .map(|(p, want)| (p.partition, want.offset))
        .collect()
}

fn assigned(partitions: i32, at: i64) -> (Core<Data>, Instant) {
    let mut core = Core::new(config());
    for partition in 0..partitions {
        core.assign(tp(partition), Offset::At(at), leader(1, 1));
    }
    assert_eq!(core.new_brokers(), [1]);
    (core, Instant::now())
}

fn deliver(core: &mut Core<Data>) -> Option<(i32, i64, i64)> {
    match core.next_handout() {
        Handout::Batch(d) => {
            core.advance(d.token, d.next);
            Some((d.name.partition, d.from.max(d.data.0), d.data.1))
        }
        Handout::Nothing => None,
        Handout::Error(error) => panic!("{error}"),
    }
}

fn position(core: &Core<Data>, partition: i32) -> Option<i64> {
    core.position(&tp(partition))
        .unwrap()
        .map(|position| position.offset)
}

#[test]
fn a_late_answer_never_overrides_a_seek() {
    let (mut core, now) = assigned(2, 10);
    order(&mut core, 1, now);
    core.seek(&tp(0), Offset::At(500)).unwrap();
    let late = vec![
        answer(0, vec![batch(10, 19, 50)]),
        answer(1, vec![batch(10, 14, 50)]),
    ];
    core.handle_fetched(1, ErrorCode::NONE, 7, late, now);
    assert_eq!(deliver(&mut core), Some((1, 10, 14)));
    assert_eq!(deliver(&mut core), None);
    assert_eq!(
        (position(&core, 0), position(&core, 1)),
        (Some(500), Some(15))
    );
    assert_eq!(
        offsets(&order(&mut core, 1, now)),
        HashMap::from([(0, 500), (1, 15)])
    );
}

#[test]
fn a_late_lookup_never_overrides_a_seek() {
    let mut core: Core<Data> = Core::new(config());
    let now = Instant::now();
    core.assign(tp(0), Offset::End, leader(1, 1));
    let question = core.take_questions(true, now).remove(0);
    core.seek(&tp(0), Offset::At(3)).unwrap();
    core.handle_truth(question.token, Truth::At(Position::at(900)), now);
    assert_eq!(position(&core, 0), Some(3));
}

#[test]
fn reading_goes_on_behind_a_batch_that_lost_its_tail_or_is_empty() {
    let (mut core, now) = assigned(1, 10);
    order(&mut core, 1, now);
    // Compaction kept the ends of the batch in its header; of the next one, nothing but the header.
    let mut empty = batch(30, 39, 61);
    empty.body = Body::Nothing;
    core.handle_fetched(
        1,
        ErrorCode::NONE,
        7,
        vec![answer(0, vec![batch(10, 29, 50), empty])],
        now,
    );
    assert_eq!(deliver(&mut core), Some((0, 10, 29)));
    assert_eq!(deliver(&mut core), None);
    assert_eq!(position(&core, 0), Some(40));
    assert_eq!(offsets(&order(&mut core, 1, now))[&0], 40);
}

#[test]
fn batches_before_the_position_make_no_busy_loop() {
    let (mut core, now) = assigned(1, 10);
    order(&mut core, 1, now);
    core.handle_fetched(
        1,
        ErrorCode::NONE,
        7,
        vec![answer(0, vec![batch(0, 9, 50)])],
        now,
    );
    let FetchPlan::Wait(Some(at)) = core.plan_fetch(1, false, now) else {
        panic!("must pause")
    };
    assert!(at > now);
    // The session still holds offset 10, so that nothing has to be said.
    assert!(order(&mut core, 1, at).session.partitions.is_empty());
}

#[test]
fn the_budget_holds_and_reading_makes_room() {
    let mut core = Core::new(CoreConfig {
        queued_partition_bytes_max: 10_000,
        ..config()
    });
    let now = Instant::now();
    core.assign(tp(0), Offset::At(0), leader(1, 1));
    core.new_brokers();
    let mut next = 0;
    while let FetchPlan::Send(order) = core.plan_fetch(1, false, now) {
        assert_eq!(order.max_bytes, 100);
        core.handle_fetched(
            1,
            ErrorCode::NONE,
            7,
            vec![answer(0, vec![batch(next, next, 100)])],
            now,
        );
        next += 1;
    }
    assert_eq!(next, 10, "1000 bytes of budget");
    core.effects = Effects::default();
    assert!(deliver(&mut core).is_some());
    assert_eq!(core.effects.brokers, [1], "its loop is woken");
    order(&mut core, 1, now);
}

#[test]
fn a_full_partition_leaves_the_session_and_the_others_go_on() {
    let (mut core, now) = assigned(2, 0);
    order(&mut core, 1, now);
    let all = vec![
        answer(0, vec![batch(0, 2, 250)]),
        answer(1, vec![batch(0, 0, 10)]),
    ];
    core.handle_fetched(1, ErrorCode::NONE, 7, all, now);
    let next = order(&mut core, 1, now);
    assert_eq!(offsets(&next), HashMap::from([(1, 1)]));
    assert_eq!(next.session.forgotten, [(tp(0), Uuid::ZERO)]);
}

#[test]
fn an_idle_broker_does_not_hold_the_others_budget() {
    let mut core = Core::new(CoreConfig {
        queued_partition_bytes_max: 10_000,
        ..config()
    });
    let now = Instant::now();
    core.assign(tp(0), Offset::At(0), leader(1, 1));
    core.assign(tp(1), Offset::At(0), leader(2, 1));
    // Broker 1 keeps its fetch for ever; broker 2 fills its half.
    order(&mut core, 1, now);
    let mut next = 0;
    while let FetchPlan::Send(_) = core.plan_fetch(2, false, now) {
        core.handle_fetched(
            2,
            ErrorCode::NONE,
            7,
            vec![answer(1, vec![batch(next, next, 100)])],
            now,
        );
        next += 1;
    }
    assert_eq!(next, 5);
}

#[test]
fn paused_data_is_kept_and_starves_nobody() {
    let mut core = Core::new(CoreConfig {
        queued_partition_bytes_max: 10_000,
        ..config()
    });
    let now = Instant::now();
    core.assign(tp(0), Offset::At(0), leader(1, 1));
    core.assign(tp(1), Offset::At(0), leader(1, 1));
    order(&mut core, 1, now);
    let full = (0..9).map(|i| batch(i, i, 100)).collect();
    core.handle_fetched(1, ErrorCode::NONE, 7, vec![answer(0, full)], now);
    assert!(matches!(core.plan_fetch(1, false, now), FetchPlan::Wait(_)));
    core.pause(&tp(0), true).unwrap();
    let next = order(&mut core, 1, now);
    assert_eq!(
        next.session.forgotten.len(),
        1,
        "the paused one is not fetched"
    );
    core.handle_fetched(
        1,
        ErrorCode::NONE,
        7,
        vec![answer(1, vec![batch(0, 0, 10)])],
        now,
    );
    assert_eq!(deliver(&mut core), Some((1, 0, 0)));
    assert_eq!(deliver(&mut core), None);
    core.pause(&tp(0), false).unwrap();
    for i in 0..9 {
        assert_eq!(
            deliver(&mut core),
            Some((0, i, i)),
            "nothing was thrown away"
        );
    }
}

#[test]
fn a_moved_partition_keeps_what_was_fetched() {
    let (mut core, now) = assigned(2, 0);
    order(&mut core, 1, now);
    core.handle_fetched(
        1,
        ErrorCode::NONE,
        7,
        vec![answer(0, vec![batch(0, 4, 50)])],
        now,
    );
    core.update_leaders(|name| {
        if name.partition == 0 {
            leader(2, 2)
        } else {
            leader(1, 1)
        }
    });
    assert_eq!(core.new_brokers(), [2]);
    assert_eq!(
        deliver(&mut core),
        Some((0, 0, 4)),
        "buffered data is still good"
    );
    // The new leader is asked whether it has what was read, before it is fetched from.
    assert!(matches!(core.plan_fetch(2, false, now), FetchPlan::Wait(_)));
    let question = core.take_questions(true, now).remove(0);
    let end = Position {
        offset: 100,
        leader_epoch: Some(1),
    };
    core.handle_truth(question.token, Truth::EpochEnd(Some(end)), now);
    assert_eq!(offsets(&order(&mut core, 2, now)), HashMap::from([(0, 5)]));
    let forgets = order(&mut core, 1, now).session.forgotten;
    assert_eq!(forgets, [(tp(0), Uuid::ZERO)]);
}

#[test]
fn a_truncated_log_sends_the_reader_back() {
    let (mut core, now) = assigned(1, 0);
    order(&mut core, 1, now);
    core.handle_fetched(
        1,
        ErrorCode::NONE,
        7,
        vec![answer(0, vec![batch(0, 9, 50)])],
        now,
    );
    assert_eq!(deliver(&mut core), Some((0, 0, 9)));
    core.update_leaders(|_| leader(2, 2));
    let question = core.take_questions(true, now).remove(0);
    let end = Position {
        offset: 6,
        leader_epoch: Some(1),
    };
    core.handle_truth(question.token, Truth::EpochEnd(Some(end)), now);
    assert_eq!(position(&core, 0), Some(6));
}

#[test]
fn out_of_range_waits_for_what_was_fetched_before() {
    let (mut core, now) = assigned(1, 0);
    order(&mut core, 1, now);
    core.handle_fetched(
        1,
        ErrorCode::NONE,
        7,
        vec![answer(0, vec![batch(0, 4, 50)])],
        now,
    );
    order(&mut core, 1, now);
    core.handle_fetched(
        1,
        ErrorCode::NONE,
        7,
        vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)],
        now,
    );
    assert_eq!(deliver(&mut core), Some((0, 0, 4)));
    assert_eq!(deliver(&mut core), None);
    assert_eq!(position(&core, 0), None, "being reset");
    let question = core.take_questions(true, now).remove(0);
    assert!(matches!(
        question.what,
        Asked::Place {
            place: Offset::Beginning,
            ..
        }
    ));
    core.handle_truth(question.token, Truth::At(Position::at(77)), now);
    assert_eq!(position(&core, 0), Some(77));
}

#[test]
fn out_of_range_without_a_policy_is_the_applications() {
    let mut core: Core<Data> = Core::new(CoreConfig {
        reset: OffsetReset::Fail,
        ..config()
    });
    let now = Instant::now();
    core.assign(tp(0), Offset::At(9), leader(1, 1));
    core.new_brokers();
    order(&mut core, 1, now);
    core.handle_fetched(
        1,
        ErrorCode::NONE,
        7,
        vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)],
        now,
    );
    let Handout::Error(Error::OffsetOutOfRange { offset: 9, .. }) = core.next_handout() else {
        panic!("the error must name the offset")
    };
    assert!(matches!(
        core.plan_fetch(1, false, now),
        FetchPlan::Wait(None)
    ));
    core.seek(&tp(0), Offset::At(3)).unwrap();
    assert_eq!(offsets(&order(&mut core, 1, now))[&0], 3);
}

#[test]
fn no_committed_offset_falls_back_to_the_policy_once_known() {
    let mut core: Core<Data> = Core::new(config());
    let now = Instant::now();
    core.assign(tp(0), Offset::Committed, leader(1, 1));
    let question = core.take_questions(true, now).remove(0);
    assert_eq!(question.what, Asked::Committed);
    // The coordinator moving is no reason to reset.
    core.handle_truth(question.token, Truth::Retry, now);
    assert!(core.take_questions(true, now).is_empty());
    let at = core.next_question().unwrap();
    let again = core.take_questions(true, at).remove(0);
    assert_eq!(again.what, Asked::Committed);
    core.handle_truth(again.token, Truth::NotCommitted, at);
    let place = core.take_questions(true, at).remove(0);
    assert!(matches!(
        place.what,
        Asked::Place {
            place: Offset::Beginning,
            ..
        }
    ));
}

#[test]
fn an_unreadable_batch_stays_until_sought_past() {
    let (mut core, now) = assigned(1, 0);
    order(&mut core, 1, now);
    core.handle_fetched(
        1,
        ErrorCode::NONE,
        7,
        vec![answer(0, vec![batch(0, 4, 50), batch(5, 9, 50)])],
        now,
    );
    let Handout::Batch(d) = core.next_handout() else {
        panic!()
    };
    core.handle_unreadable(d.token, now);
    assert_eq!(
        deliver(&mut core),
        None,
        "what follows must not be handed out first"
    );
    let FetchPlan::Wait(Some(at)) = core.plan_fetch(1, false, now) else {
        panic!("must pause")
    };
    // From the position; the session still holds it.
    assert!(order(&mut core, 1, at).session.partitions.is_empty());
    core.seek(&tp(0), Offset::At(5)).unwrap();
    core.handle_fetched(
        1,
        ErrorCode::NONE,
        7,
        vec![answer(0, vec![batch(0, 4, 50)])],
        at,
    );
    assert_eq!(offsets(&order(&mut core, 1, at))[&0], 5);
}

#[test]
fn only_what_was_handed_out_before_is_committed() {
    let (mut core, now) = assigned(1, 0);
    order(&mut core, 1, now);
    core.handle_fetched(
        1,
        ErrorCode::NONE,
        7,
        vec![answer(0, vec![batch(0, 4, 50), batch(5, 9, 50)])],
        now,
    );
    core.mark_processed();
    assert!(deliver(&mut core).is_some());
    assert!(
        core.take_processed().is_empty(),
        "the application may still be at it"
    );
    core.mark_processed();
    assert!(deliver(&mut core).is_some());
    let committed = core.take_processed();
    assert_eq!(
        committed.iter().map(|(_, p)| p.offset).collect::<Vec<_>>(),
        [5]
    );
    assert!(core.take_processed().is_empty(), "once is enough");
    core.auto_commit_failed([&tp(0)]);
    assert_eq!(core.take_processed().len(), 1);
}

#[test]
fn a_topic_created_anew_starts_over() {
    let mut core: Core<Data> = Core::new(config());
    let id = |n| {
        Some(Leader {
            node: 1,
            epoch: 1,
            topic_id: Uuid([n; 16]),
        })
    };
    core.assign(tp(0), Offset::At(50), id(1));
    core.update_leaders(|_| id(2));
    assert_eq!(position(&core, 0), None);
}

#[test]
fn session_errors_in_a_row_pause() {
    let (mut core, now) = assigned(1, 0);
    order(&mut core, 1, now);
    core.handle_fetched(1, ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0, vec![], now);
    assert_eq!(
        order(&mut core, 1, now).session.session_epoch,
        0,
        "the first simply starts anew"
    );
    core.handle_fetched(1, ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0, vec![], now);
    assert!(matches!(core.plan_fetch(1, false, now), FetchPlan::Wait(Some(at)) if at > now));
}

#[derive(Debug, Clone)]
enum Step {
    Fetch(i32),
    Answer { node: i32, batches: usize },
    Fail { node: i32, seen: bool },
    Refuse { node: i32, error: ErrorCode },
    Deliver(usize),
    Seek(i32, i64),
    Pause(i32, bool),
    Move(i32, i32),
    Unassign(i32),
    Assign(i32, i64),
    Work,
    Return,
    Truths,
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 1..3_i32;
    let part = || 0..3_i32;
    prop_oneof![
        6 => node().prop_map(Step::Fetch),
        6 => (node(), 0..5_usize).prop_map(|(node, batches)| Step::Answer { node, batches }),
        1 => (node(), any::<bool>()).prop_map(|(node, seen)| Step::Fail { node, seen }),
        1 => (node(), prop::sample::select(vec![
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::UNKNOWN_LEADER_EPOCH,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ])).prop_map(|(node, error)| Step::Refuse { node, error }),
        8 => (1..6_usize).prop_map(Step::Deliver),
        1 => (part(), 0..200_i64).prop_map(|(p, o)| Step::Seek(p, o)),
        1 => (part(), any::<bool>()).prop_map(|(p, paused)| Step::Pause(p, paused)),
        1 => (part(), node()).prop_map(|(p, n)| Step::Move(p, n)),
        1 => part().prop_map(Step::Unassign),
        1 => (part(), 0..200_i64).prop_map(|(p, o)| Step::Assign(p, o)),
        2 => Just(Step::Work),
        2 => Just(Step::Return),
        3 => Just(Step::Truths),
        1 => Just(Step::Wait),
    ]
}

/// What the broker's session fetches, by the book, plus what is out.
#[derive(Default)]
struct Session {
    held: HashMap<TopicPartition, i64>,
    out: Option<FetchOrder>,
}

impl Session {
    fn receive(&mut self, order: &FetchOrder) {
        if order.session.session_epoch == 0 {
            self.held.clear();
        }
        for (name, want) in &order.session.partitions {
            self.held.insert(name.clone(), want.offset);
        }
        for (name, _) in &order.session.forgotten {
            self.held.remove(name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happens in whatever order: the application sees each partition without gap, repetition or
    /// reordering, from where it was assigned or sought; paused and lost partitions hand out nothing; the
    /// budget holds; and in the end everything is read.
    #[test]
    fn any_interleaving_reads_each_log_in_order(steps in prop::collection::vec(step(), 1..150)) {
        let mut core: Core<Data> = Core::new(config());
        let mut now = Instant::now();
        let mut sessions: HashMap<i32, Session> = HashMap::new();
        let mut expected: HashMap<i32, i64> = HashMap::new();
        let mut leaders: HashMap<i32, (i32, i32)> = (0..3).map(|p| (p, (1 + p % 2, 1))).collect();
        let mut paused: HashMap<i32, bool> = HashMap::new();
        let mut work = Vec::new();

        // A batch holds five offsets; the log never ends.
        let batches = |offset: i64, n: usize| -> Vec<Entry<Data>> {
            (0..n as i64).map(|i| {
                let first = offset / 5 * 5 + i * 5;
                batch(first, first + 4, 40)
            }).collect()
        };
        for step in steps {
            now += Duration::from_millis(40);
            match step {
                Step::Fetch(node) => {
                    core.new_brokers();
                    let session = sessions.entry(node).or_default();
                    if session.out.is_none()
                        && let FetchPlan::Send(order) = core.plan_fetch(node, false, now)
                    {
                        session.out = Some(order);
                    }
                }
                Step::Answer { node, batches: n } => {
                    let session = sessions.entry(node).or_default();
                    let Some(order) = session.out.take() else { continue };
                    session.receive(&order);
                    let per_partition = (order.max_bytes as usize / 40).max(1).min(n);
                    let mut room = (order.max_bytes as usize / 40).max(1);
                    let mut answers = Vec::new();
                    for (name, offset) in &session.held {
                        let n = per_partition.min(room).min(2);
                        room -= n;
                        answers.push(answer(name.partition, batches(*offset, n)));
                    }
                    core.handle_fetched(node, ErrorCode::NONE, 5, answers, now);
                }
                Step::Fail { node, seen } => {
                    let session = sessions.entry(node).or_default();
                    let Some(order) = session.out.take() else { continue };
                    if seen {
                        session.receive(&order);
                    }
                    core.handle_fetch_failure(node, now);
                }
                Step::Refuse { node, error } => {
                    let session = sessions.entry(node).or_default();
                    let Some(order) = session.out.take() else { continue };
                    session.receive(&order);
                    let answers =
                        session.held.keys().map(|name| refusal(name.partition, error)).collect();
                    core.handle_fetched(node, ErrorCode::NONE, 5, answers, now);
                }
                Step::Deliver(n) => {
                    for _ in 0..n {
                        let Some((p, first, last)) = deliver(&mut core) else { break };
                        prop_assert_eq!(expected.get(&p), Some(&first), "partition {}", p);
                        prop_assert!(!paused.get(&p).copied().unwrap_or(false));
                        expected.insert(p, last + 1);
                    }
                }
                Step::Seek(p, offset) => {
                    if core.seek(&tp(p), Offset::At(offset)).is_ok() {
                        expected.insert(p, offset);
                    }
                }
                Step::Pause(p, pause) => {
                    if core.pause(&tp(p), pause).is_ok() {
                        paused.insert(p, pause);
                    }
                }
                Step::Move(p, node) => {
                    let (_, epoch) = leaders[&p];
                    leaders.insert(p, (node, epoch + 1));
                    core.update_leaders(|name| {
                        let (node, epoch) = leaders[&name.partition];
                        leader(node, epoch)
                    });
                }
                Step::Unassign(p) => {
                    core.unassign(&tp(p));
                    expected.remove(&p);
                    paused.remove(&p);
                }
                Step::Assign(p, offset) => {
                    let (node, epoch) = leaders[&p];
                    core.assign(tp(p), Offset::At(offset), leader(node, epoch));
                    expected.insert(p, offset);
                }
                Step::Work => work.extend(core.take_work(200, |_| true)),
                Step::Return => {
                    if let Some((token, number, data)) = work.pop() {
                        core.return_work(token, number, data, 60);
                    }
                }
                Step::Truths => {
                    for question in core.take_questions(true, now) {
                        let end = Position { offset: i64::MAX, leader_epoch: Some(99) };
                        core.handle_truth(question.token, Truth::EpochEnd(Some(end)), now);
                    }
                }
                Step::Wait => now += Duration::from_secs(2),
            }
            // What decompression added beyond the budget is no more than what was taken for it.
            let queued: usize =
                core.slots.iter().flatten().filter(|p| !p.paused).map(|p| p.queued_bytes).sum();
            let counted: usize = core.brokers.values().map(|broker| broker.queued_bytes).sum();
            prop_assert_eq!(queued, counted);
            let grown = core.slots.iter().flatten().flat_map(|p| &p.queue)
                .filter(|e| e.bytes == 60).count() * 20;
            prop_assert!(core.slots.iter().flatten().all(|p| p.queued_bytes <= 380 + grown));
        }

        // Then all is well, and every partition gets somewhere.
        for (token, number, data) in work {
            core.return_work(token, number, data, 60);
        }
        let names: Vec<_> = core.assignment().cloned().collect();
        for name in &names {
            core.pause(name, false).unwrap();
        }
        let start = expected.clone();
        for _ in 0..60 {
            now += Duration::from_secs(2);
            core.new_brokers();
            for question in core.take_questions(true, now) {
                let end = Position { offset: i64::MAX, leader_epoch: Some(99) };
                core.handle_truth(question.token, Truth::EpochEnd(Some(end)), now);
            }
            for node in 1..3 {
                let session = sessions.entry(node).or_default();
                if session.out.is_none()
                    && let FetchPlan::Send(order) = core.plan_fetch(node, false, now)
                {
                    session.out = Some(order);
                }
                let Some(order) = session.out.take() else { continue };
                session.receive(&order);
                let answers = session
                    .held
                    .iter()
                    .map(|(name, offset)| answer(name.partition, batches(*offset, 1)))
                    .collect();
                core.handle_fetched(node, ErrorCode::NONE, 5, answers, now);
            }
            while let Some((p, first, last)) = deliver(&mut core) {
                prop_assert_eq!(expected.get(&p), Some(&first));
                expected.insert(p, last + 1);
            }
        }
        for name in &names {
            let p = name.partition;
            prop_assert!(expected[&p] > start[&p] + 20, "partition {} is stuck", p);
        }
    }
}
