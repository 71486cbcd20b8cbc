//! Brokers that contradict themselves, and applications that do not come: no busy loop, no queue without
//! a bound.

use super::*;

/// A stretch of the log that holds nothing for the application.
fn nothing(last: i64) -> Entry<Data> {
    Entry {
        body: Body::Nothing,
        bytes: 0,
        ..batch(0, last, 0)
    }
}

fn answered(core: &mut Core<Data>, entries: Vec<Entry<Data>>, now: Instant) {
    core.handle_fetched(1, ErrorCode::NONE, 7, vec![answer(0, entries)], now);
}

fn out_of_range(core: &mut Core<Data>, now: Instant) {
    let refused = refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE);
    core.handle_fetched(1, ErrorCode::NONE, 7, vec![refused], now);
}

#[test]
fn out_of_range_is_not_asked_again_before_it_is_dealt_with() {
    let (mut core, now) = assigned(1, 5);
    order(&mut core, 1, now);
    out_of_range(&mut core, now);
    for _ in 0..3 {
        // The application is busy. The position is out of range still: nothing to ask.
        assert_eq!(core.plan_fetch(1, false, now), FetchPlan::Wait(None));
    }
    assert_eq!(deliver(&mut core), None);
    let question = core.take_questions(true, now).remove(0);
    core.handle_truth(&question, Truth::At(Position::at(9)), now);
    assert_eq!(offsets(&order(&mut core, 1, now))[&0], 9);
}

#[test]
fn a_log_that_lacks_the_offset_it_names_is_asked_at_leisure() {
    let (mut core, mut now) = assigned(1, 5);
    for round in 0..8 {
        let planned = core.plan_fetch(1, false, now);
        if round > 1 {
            let FetchPlan::Wait(Some(at)) = planned else {
                panic!("round {round}: {planned:?}")
            };
            assert!(at > now);
            now = at;
            order(&mut core, 1, now);
        }
        out_of_range(&mut core, now);
        assert_eq!(deliver(&mut core), None);
        let question = core.take_questions(true, now).remove(0);
        core.handle_truth(&question, Truth::At(Position::at(9)), now);
    }
    // One good answer, and all is forgotten.
    let FetchPlan::Wait(Some(at)) = core.plan_fetch(1, false, now) else {
        panic!("must wait")
    };
    now = at;
    order(&mut core, 1, now);
    answered(&mut core, vec![batch(5, 9, 50)], now);
    order(&mut core, 1, now);
    out_of_range(&mut core, now);
    assert!(deliver(&mut core).is_some());
    assert_eq!(deliver(&mut core), None);
    let question = core.take_questions(true, now).remove(0);
    core.handle_truth(&question, Truth::At(Position::at(9)), now);
    order(&mut core, 1, now);
}

#[test]
fn an_offset_below_zero_is_no_answer() {
    let mut core: Core<Data> = Core::new(config());
    let now = Instant::now();
    core.assign(tp(0), Offset::End, leader(1, 1));
    let question = core.take_questions(true, now).remove(0);
    core.handle_truth(&question, Truth::At(Position::at(-1)), now);
    assert_eq!(position(&core, 0), None);
    assert!(core.take_questions(true, now).is_empty(), "after a pause");
    let at = core.next_question().unwrap();
    assert_eq!(core.take_questions(true, at).len(), 1);
}

#[test]
fn a_log_of_nothing_takes_no_memory() {
    let (mut core, now) = assigned(1, 0);
    for n in 0..1000 {
        order(&mut core, 1, now);
        answered(&mut core, vec![nothing(2 * n), nothing(2 * n + 1)], now);
    }
    let queued: usize = core.slots.iter().flatten().map(|p| p.queue.len()).sum();
    assert_eq!(queued, 1);
    assert_eq!(deliver(&mut core), None);
    assert_eq!(position(&core, 0), Some(2000));
}

#[test]
fn answers_to_what_was_not_asked_start_over_after_a_pause() {
    let (mut core, now) = assigned(1, 0);
    order(&mut core, 1, now);
    let uncalled_for = answer(7, vec![batch(0, 4, 50)]);
    core.handle_fetched(1, ErrorCode::NONE, 7, vec![uncalled_for], now);
    assert_eq!(deliver(&mut core), None);
    let FetchPlan::Wait(Some(at)) = core.plan_fetch(1, false, now) else {
        panic!("must pause")
    };
    assert!(at > now);
    let order = order(&mut core, 1, at);
    assert_eq!((order.session.session_epoch, offsets(&order)[&0]), (0, 0));
}

#[test]
fn errors_that_nobody_asks_for_do_not_pile_up() {
    let (mut core, mut now) = assigned(1, 0);
    for _ in 0..1000 {
        if let FetchPlan::Send(_) = core.plan_fetch(1, false, now) {
            let refused = refusal(0, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
            core.handle_fetched(1, ErrorCode::NONE, 7, vec![refused], now);
        }
        now += Duration::from_secs(2);
    }
    let mut told = 0;
    while let Handout::Error(Error::Fetch { .. }) = core.next_handout() {
        told += 1;
    }
    assert_eq!(told, 100);
}

#[test]
fn what_waits_behind_others_keeps_no_large_answer_alive() {
    let (mut core, now) = assigned(1, 0);
    let detached = |core: &Core<Data>| {
        let queue = &core.slots[0].as_ref().unwrap().queue;
        let first = |entry: &Entry<Data>| match entry.body {
            Body::Batch((first, _), _) => first < 0,
            _ => panic!("{entry:?}"),
        };
        queue.iter().map(first).collect::<Vec<_>>()
    };
    for at in 0..4 {
        order(&mut core, 1, now);
        let trickle = FetchedPartition {
            detach: Some(|data: &mut Data| data.0 = -1),
            answer_bytes: 100,
            ..answer(0, vec![batch(at, at, 5)])
        };
        core.handle_fetched(1, ErrorCode::NONE, 7, vec![trickle], now);
    }
    assert_eq!(detached(&core), [false, false, true, true]);
    // A good part of its answer stays in it.
    order(&mut core, 1, now);
    answered(&mut core, vec![batch(4, 4, 10)], now);
    assert_eq!(detached(&core), [false, false, true, true, false]);
}

/// Kept as it came is what was asked for, and one batch that is larger.
#[test]
fn what_goes_beyond_what_was_asked_for_is_dropped_and_fetched_again() {
    // 100 bytes of each partition.
    let (mut core, now) = assigned(3, 0);
    order(&mut core, 1, now);
    let excess = vec![
        answer(0, vec![batch(0, 0, 60), batch(1, 1, 60), batch(2, 2, 10)]),
        answer(1, vec![batch(0, 0, 300), batch(1, 1, 10)]),
        answer(2, vec![batch(0, 0, 300)]),
    ];
    core.handle_fetched(1, ErrorCode::NONE, 7, excess, now);
    let told: Vec<_> = std::iter::from_fn(|| deliver(&mut core)).collect();
    assert_eq!(told, [(0, 0, 0), (1, 0, 0)]);
    // The third brought nothing of use: not at once.
    let again = order(&mut core, 1, now);
    assert_eq!(offsets(&again), HashMap::from([(0, 1), (1, 1)]));
    core.handle_fetched(1, ErrorCode::NONE, 7, vec![], now);
    let FetchPlan::Send(again) = core.plan_fetch(1, false, now + Duration::from_secs(2)) else {
        panic!("must ask");
    };
    assert!(
        again
            .session
            .partitions
            .iter()
            .any(|(of, want)| { (of.partition, want.offset) == (2, 0) })
    );
    core.handle_fetched(
        1,
        ErrorCode::NONE,
        7,
        vec![answer(2, vec![batch(0, 0, 300)])],
        now,
    );
    assert_eq!(deliver(&mut core), Some((2, 0, 0)));
}

#[test]
fn an_answer_that_is_larger_than_asked_for_is_kept_only_by_most_of_it() {
    let detached = |answer_bytes, bytes| {
        let (mut core, now) = assigned(1, 0);
        order(&mut core, 1, now);
        let fetched = FetchedPartition {
            detach: Some(|data: &mut Data| data.0 = -1),
            answer_bytes,
            ..answer(0, vec![batch(0, 0, bytes)])
        };
        core.handle_fetched(1, ErrorCode::NONE, 7, vec![fetched], now);
        let queue = &core.slots[0].as_ref().unwrap().queue;
        matches!(queue[0].body, Body::Batch((-1, _), _))
    };
    // Asked for were 100.
    assert!(!detached(100, 10));
    assert!(detached(101, 10));
    assert!(!detached(300, 300), "a batch that is larger");
    assert!(detached(1_000, 300));
}
