//! Logs that are cut short, or become other ones, while nobody looks; and leaders that go away while they are asked.

use super::*;

fn committed(offset: i64, epoch: i32) -> Truth {
    Truth::At(Position {
        offset,
        leader_epoch: Some(epoch),
    })
}

fn ends(offset: i64, epoch: i32) -> Truth {
    Truth::EpochEnd(Some(Position {
        offset,
        leader_epoch: Some(epoch),
    }))
}

fn one_question(core: &mut Core<Data>, now: Instant) -> Question {
    let mut questions = core.take_questions(true, now);
    assert_eq!(questions.len(), 1, "{questions:?}");
    questions.remove(0)
}

/// Ten records of epoch 1 are read.
fn read_by_epoch_one() -> (Core<Data>, Instant) {
    let (mut core, now) = assigned(1, 0);
    order(&mut core, 1, now);
    let read = vec![answer(0, vec![batch(0, 9, 50)])];
    core.handle_fetched(1, ErrorCode::NONE, 7, read, now);
    assert_eq!(deliver(&mut core), Some((0, 0, 9)));
    (core, now)
}

#[test]
fn a_log_that_was_cut_while_it_had_no_leader_sends_the_reader_back() {
    let (mut core, now) = read_by_epoch_one();
    core.update_leaders(|_| None);
    core.update_leaders(|_| leader(2, 3));
    let question = one_question(&mut core, now);
    assert!(matches!(question.what, Asked::EndOfEpoch { .. }));
    core.handle_truth(&question, ends(6, 1), now);
    assert_eq!(position(&core, 0), Some(6));
    core.new_brokers();
    assert_eq!(
        offsets(&order(&mut core, 2, now))[&0],
        6,
        "and not asked again"
    );
}

#[test]
fn a_leader_that_comes_back_as_it_was_is_not_asked() {
    let (mut core, now) = read_by_epoch_one();
    core.update_leaders(|_| None);
    core.update_leaders(|_| leader(1, 1));
    assert!(core.take_questions(true, now).is_empty());
    core.new_brokers();
    assert_eq!(offsets(&order(&mut core, 1, now))[&0], 10);
}

#[test]
fn a_log_of_an_older_leader_is_another_one() {
    let (mut core, now) = read_by_epoch_one();
    // A topic made anew counts its leaders from 0 again, and old brokers do not say that it is another one.
    core.update_leaders(|_| leader(1, 0));
    let question = one_question(&mut core, now);
    core.handle_truth(&question, Truth::EpochEnd(None), now);
    let again = one_question(&mut core, now);
    assert!(matches!(
        again.what,
        Asked::Place {
            place: Offset::Beginning,
            ..
        }
    ));
}

#[test]
fn a_committed_offset_that_was_cut_off_meanwhile_sends_the_reader_back() {
    let mut core: Core<Data> = Core::new(config());
    let now = Instant::now();
    core.assign(tp(0), Offset::Committed, leader(1, 5));
    let question = one_question(&mut core, now);
    core.handle_truth(&question, committed(100, 3), now);
    assert_eq!(position(&core, 0), Some(100));
    core.new_brokers();
    assert!(
        matches!(core.plan_fetch(1, false, now), FetchPlan::Wait(_)),
        "not fetched before the leader was asked"
    );
    let question = one_question(&mut core, now);
    let asked = Position {
        offset: 100,
        leader_epoch: Some(3),
    };
    assert!(matches!(question.what, Asked::EndOfEpoch { position, .. } if position == asked));
    core.handle_truth(&question, ends(90, 3), now);
    assert_eq!(position(&core, 0), Some(90));
    assert_eq!(offsets(&order(&mut core, 1, now))[&0], 90);
}

#[test]
fn a_committed_offset_is_checked_once_a_leader_is_known() {
    let mut core: Core<Data> = Core::new(config());
    let now = Instant::now();
    core.assign(tp(0), Offset::Committed, None);
    let question = one_question(&mut core, now);
    core.handle_truth(&question, committed(100, 3), now);
    assert!(core.take_questions(true, now).is_empty());
    core.update_leaders(|_| leader(1, 5));
    let question = one_question(&mut core, now);
    core.handle_truth(&question, ends(200, 3), now);
    core.new_brokers();
    assert_eq!(offsets(&order(&mut core, 1, now))[&0], 100);
}

#[test]
fn a_committed_offset_of_the_present_leader_is_taken_as_it_is() {
    let mut core: Core<Data> = Core::new(config());
    let now = Instant::now();
    core.assign(tp(0), Offset::Committed, leader(1, 3));
    let question = one_question(&mut core, now);
    core.handle_truth(&question, committed(100, 3), now);
    assert!(core.take_questions(true, now).is_empty());
    core.new_brokers();
    assert_eq!(offsets(&order(&mut core, 1, now))[&0], 100);
}

#[test]
fn what_an_earlier_leader_says_of_the_log_is_not_heard() {
    let (mut core, now) = read_by_epoch_one();
    core.update_leaders(|_| leader(2, 2));
    let old = one_question(&mut core, now);
    core.update_leaders(|_| leader(3, 3));
    // Before the newest one is asked, and after that.
    core.handle_truth(&old, ends(100, 1), now);
    let new = one_question(&mut core, now);
    core.handle_truth(&old, ends(100, 1), now);
    core.handle_truth(&old, Truth::Retry, now);
    core.handle_truth(&new, ends(6, 1), now);
    assert_eq!(position(&core, 0), Some(6));
}

#[test]
fn nothing_is_due_while_there_is_no_leader_to_ask() {
    let (mut core, now) = assigned(1, 0);
    order(&mut core, 1, now);
    let read = vec![answer(0, vec![batch(0, 9, 50), batch(10, 19, 50)])];
    core.handle_fetched(1, ErrorCode::NONE, 7, read, now);
    assert_eq!(deliver(&mut core), Some((0, 0, 9)));
    core.update_leaders(|_| leader(2, 2));
    let asked = one_question(&mut core, now);
    core.update_leaders(|_| None);
    core.handle_truth(&asked, Truth::Retry, now);
    let Handout::Batch(second) = core.next_handout() else {
        panic!("what was fetched is still good")
    };
    core.handle_unreadable(second.token, now);
    let later = now + Duration::from_secs(10);
    assert!(core.take_questions(true, later).is_empty());
    assert_eq!(
        core.next_question(),
        None,
        "or the asking goes round in circles"
    );
    core.update_leaders(|_| leader(1, 3));
    let question = one_question(&mut core, later);
    core.handle_truth(&question, ends(100, 1), later);
    core.new_brokers();
    assert_eq!(offsets(&order(&mut core, 1, later))[&0], 10);
}

#[test]
fn a_question_about_a_batch_that_cannot_be_read_is_asked_anew() {
    let (mut core, now) = assigned(1, 0);
    order(&mut core, 1, now);
    let read = vec![answer(0, vec![batch(0, 9, 50), batch(10, 19, 50)])];
    core.handle_fetched(1, ErrorCode::NONE, 7, read, now);
    assert_eq!(deliver(&mut core), Some((0, 0, 9)));
    core.update_leaders(|_| leader(2, 2));
    one_question(&mut core, now);
    let Handout::Batch(second) = core.next_handout() else {
        panic!("what was fetched is still good")
    };
    core.handle_unreadable(second.token, now);
    let later = now + Duration::from_secs(10);
    let again = one_question(&mut core, later);
    assert!(matches!(again.what, Asked::EndOfEpoch { position, .. } if position.offset == 10));
}

#[test]
fn a_leader_that_is_gone_does_not_speak_for_the_log() {
    let (mut core, now) = assigned(1, 20);
    order(&mut core, 1, now);
    core.update_leaders(|_| leader(2, 2));
    let gone = refusal(0, ErrorCode::OFFSET_OUT_OF_RANGE);
    core.handle_fetched(1, ErrorCode::NONE, 7, vec![gone], now);
    assert_eq!(deliver(&mut core), None);
    assert_eq!(position(&core, 0), Some(20), "not reset");
    core.new_brokers();
    assert_eq!(offsets(&order(&mut core, 2, now))[&0], 20);
}

#[test]
fn every_partition_that_stands_still_is_told() {
    let mut core: Core<Data> = Core::new(CoreConfig {
        reset: OffsetReset::Fail,
        ..config()
    });
    let now = Instant::now();
    for partition in 0..300 {
        core.assign(tp(partition), Offset::Committed, leader(1, 1));
    }
    // What is said again and again leaves them room.
    for _ in 0..200 {
        core.report(Error::Closed);
    }
    for question in core.take_questions(true, now) {
        core.handle_truth(&question, Truth::NotCommitted, now);
    }
    let mut told = Vec::new();
    while let Handout::Error(error) = core.next_handout() {
        if let Error::NoOffset { partition } = error {
            told.push(partition.partition);
        }
    }
    assert_eq!(told, Vec::from_iter(0..300));
}
