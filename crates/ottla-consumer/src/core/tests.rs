//! The core against a model of brokers and of an application, one decision at a time.

use std::collections::HashMap;

mod contradictions;
mod ends;
mod followers;
mod interleavings;
mod leases;
mod truncation;

use ottla_wire::{ErrorCode, Uuid};

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
        tells_ends: false,
        committed_only: false,
        stores_handed_out: true,
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
        follower: None,
        entries,
        detach: None,
        answer_bytes: 0,
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
    core.handle_truth(&question, Truth::At(Position::at(900)), now);
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
        vec![answer(0, vec![batch(10, 29, 30), empty])],
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
fn a_broker_that_waits_for_room_is_woken_also_after_its_share_grew() {
    let mut core = Core::new(CoreConfig {
        queued_partition_bytes_max: 10_000,
        ..config()
    });
    let now = Instant::now();
    core.assign(tp(0), Offset::At(0), leader(1, 1));
    core.assign(tp(1), Offset::At(0), leader(2, 1));
    for next in 0..5 {
        order(&mut core, 1, now);
        let full = vec![answer(0, vec![batch(next, next, 100)])];
        core.handle_fetched(1, ErrorCode::NONE, 7, full, now);
    }
    let full = core.plan_fetch(1, false, now);
    assert_eq!(full, FetchPlan::Wait(None), "its half of the budget");
    // It has all of the budget now, and so much room that handing out makes none that matters.
    core.unassign(&tp(1));
    assert_eq!(core.plan_fetch(2, false, now), FetchPlan::Gone);
    core.effects = Effects::default();
    assert!(deliver(&mut core).is_some());
    assert_eq!(core.effects.brokers, [1], "its loop is woken");
    order(&mut core, 1, now);
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
    for i in 0..9 {
        order(&mut core, 1, now);
        let next = answer(0, vec![batch(i, i, 100)]);
        core.handle_fetched(1, ErrorCode::NONE, 7, vec![next], now);
    }
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
    core.handle_truth(&question, Truth::EpochEnd(Some(end)), now);
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
    core.handle_truth(&question, Truth::EpochEnd(Some(end)), now);
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
    core.handle_truth(&question, Truth::At(Position::at(77)), now);
    assert_eq!(position(&core, 0), Some(77));
}

#[test]
fn after_a_commit_nothing_from_before_a_reset_is_committed() {
    let (mut core, now) = assigned(1, 0);
    order(&mut core, 1, now);
    let read = vec![answer(0, vec![batch(0, 4, 50)])];
    core.handle_fetched(1, ErrorCode::NONE, 7, read, now);
    order(&mut core, 1, now);
    let gone = vec![refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE)];
    core.handle_fetched(1, ErrorCode::NONE, 7, gone, now);
    assert_eq!(deliver(&mut core), Some((0, 0, 4)));
    core.mark_processed();
    assert_eq!(deliver(&mut core), None);
    let question = core.take_questions(true, now).remove(0);
    core.handle_truth(&question, Truth::At(Position::at(77)), now);
    // The application commits its position; automatic commit must not take that back.
    core.mark_committed();
    let written: Vec<i64> = core.take_processed().iter().map(|of| of.1.offset).collect();
    assert_eq!(written, [77]);
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
    core.handle_truth(&question, Truth::Retry, now);
    assert!(core.take_questions(true, now).is_empty());
    let at = core.next_question().unwrap();
    let again = core.take_questions(true, at).remove(0);
    assert_eq!(again.what, Asked::Committed);
    core.handle_truth(&again, Truth::NotCommitted, at);
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
fn a_new_leader_is_asked_though_the_old_one_has_not_answered() {
    let (mut core, now) = assigned(1, 0);
    core.seek(&tp(0), Offset::End).unwrap();
    let old = core.take_questions(true, now).remove(0);
    assert!(core.take_questions(true, now).is_empty());
    core.update_leaders(|_| leader(2, 2));
    let new = core.take_questions(true, now).remove(0);
    assert!(matches!(new.what, Asked::Place { leader, .. } if leader.node == 2));
    core.handle_truth(&new, Truth::At(Position::at(7)), now);
    core.handle_truth(&old, Truth::At(Position::at(3)), now);
    assert_eq!(
        position(&core, 0),
        Some(7),
        "the late answer is nobody's any more"
    );
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
        committed
            .iter()
            .map(|(_, p, _)| p.offset)
            .collect::<Vec<_>>(),
        [5]
    );
    assert!(core.take_processed().is_empty(), "once is enough");
    core.auto_commit_failed(&tp(0), 4);
    assert!(core.take_processed().is_empty(), "an earlier one");
    core.auto_commit_failed(&tp(0), 5);
    assert_eq!(core.take_processed().len(), 1);
}

#[test]
fn what_was_committed_once_is_not_what_the_group_has_after_a_new_start() {
    let read_all = |core: &mut Core<Data>, now| {
        order(core, 1, now);
        let read = vec![answer(0, vec![batch(0, 4, 50)])];
        core.handle_fetched(1, ErrorCode::NONE, 7, read, now);
        assert!(deliver(core).is_some());
        core.mark_processed();
    };
    let written = |core: &mut Core<Data>| {
        let written = core.take_processed().into_iter();
        written.map(|of| of.1.offset).collect::<Vec<_>>()
    };
    let (mut core, now) = assigned(1, 0);
    read_all(&mut core, now);
    assert_eq!(written(&mut core), [5]);
    core.seek(&tp(0), Offset::At(0)).unwrap();
    read_all(&mut core, now);
    assert_eq!(written(&mut core), [5]);
    // The topic is deleted, and created again.
    let anew = Leader {
        topic_id: Uuid([9; 16]),
        ..leader(1, 1).unwrap()
    };
    let before = Leader {
        topic_id: Uuid([8; 16]),
        ..anew
    };
    core.update_leaders(|_| Some(before));
    core.update_leaders(|_| Some(anew));
    let question = core.take_questions(true, now).remove(0);
    core.handle_truth(&question, Truth::At(Position::at(0)), now);
    let FetchPlan::Send(order) = core.plan_fetch(1, false, now) else {
        panic!("nothing is fetched")
    };
    assert_eq!(offsets(&order)[&0], 0);
    let mut read = answer(0, vec![batch(0, 4, 50)]);
    read.topic_id = anew.topic_id;
    core.handle_fetched(1, ErrorCode::NONE, 7, vec![read], now);
    assert!(deliver(&mut core).is_some());
    core.mark_processed();
    assert_eq!(written(&mut core), [5]);
    // The application rewinds the group, and then stores where it is.
    core.note_commit([(&tp(0), 2)]);
    core.store(&tp(0), Position::at(5), Str::new()).unwrap();
    assert_eq!(written(&mut core), [5]);
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
    let since = |core: &Core<Data>| core.slots[0].as_ref().unwrap().since;
    let before = since(&core);
    core.seek(&tp(0), Offset::At(60)).unwrap();
    assert!(core.is_assigned_since(&tp(0), before));
    core.update_leaders(|_| id(2));
    assert_eq!(position(&core, 0), None);
    assert!(
        !core.is_assigned_since(&tp(0), before),
        "the old one's offsets are not to be committed to it"
    );
    assert!(core.is_assigned_since(&tp(0), since(&core)));
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
