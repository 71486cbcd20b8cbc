use std::time::Duration;

use ottla_wire::Uuid;

use super::*;

const LIMIT: i16 = 3;

fn holder(name: &str) -> Holder {
    (name.into(), 1)
}

fn batch(first: i64, last: i64) -> LogBatch {
    LogBatch {
        first,
        last,
        hidden: false,
    }
}

fn wanted(name: &str, records_max: usize, strict: bool, until: Instant) -> Wanted {
    Wanted {
        holder: holder(name),
        records_max,
        strict,
        until,
    }
}

fn said(first: i64, last: i64, kind: i8) -> Said {
    Said {
        first,
        last,
        types: vec![kind],
    }
}

fn runs(acquired: &[Acquired]) -> Vec<(i64, i64, i16)> {
    let runs = acquired.iter();
    runs.map(|run| (run.first, run.last, run.deliveries))
        .collect()
}

#[test]
fn whole_batches_or_exactly_so_many() {
    let until = Instant::now();
    let log = [batch(0, 3), batch(4, 9)];
    let mut partition = SharePartition::new(0, 0);
    assert_eq!(
        runs(&partition.acquire(&log, &wanted("a", 2, false, until))),
        [(0, 3, 1)]
    );
    assert_eq!(
        runs(&partition.acquire(&log, &wanted("b", 2, true, until))),
        [(4, 5, 1)]
    );
    assert_eq!(partition.read_from(), Some(6));
    assert_eq!(
        runs(&partition.acquire(&log, &wanted("a", 9, true, until))),
        [(6, 9, 1)]
    );
    assert!(
        partition
            .acquire(&log, &wanted("a", 9, false, until))
            .is_empty()
    );
}

#[test]
fn what_is_said_is_done_all_of_it_or_nothing() {
    let until = Instant::now();
    let mut partition = SharePartition::new(0, 0);
    partition.acquire(&[batch(0, 5)], &wanted("a", 9, false, until));
    let a = holder("a");
    let mut say = |said: &[Said], by: &Holder| {
        let done = partition.acknowledge(by, said, LIMIT, until);
        done.map(|done| done.freed)
    };
    let state = Err(ErrorCode::INVALID_RECORD_STATE);
    assert_eq!(say(&[said(0, 0, 1), said(6, 6, 1)], &a), state);
    assert_eq!(say(&[said(0, 0, 1)], &holder("b")), state);
    assert_eq!(say(&[said(0, i64::MAX, 1)], &a), state);
    let request = Err(ErrorCode::INVALID_REQUEST);
    assert_eq!(say(&[said(i64::MIN, i64::MAX, 1)], &a), request);
    assert_eq!(say(&[said(3, 2, 1)], &a), request);
    assert_eq!(say(&[said(0, 0, 5)], &a), request);
    assert_eq!(say(&[said(1, 1, 1), said(0, 0, 1)], &a), request);
    let mixed = Said {
        first: 0,
        last: 3,
        types: vec![1, 2, 3, 4],
    };
    assert_eq!(say(&[mixed, said(4, 4, 0)], &a), Ok(true));
    assert_eq!(say(&[said(0, 0, 1)], &a), state);
    assert_eq!((partition.start, partition.read_from()), (1, Some(1)));
    let again = partition.acquire(&[batch(0, 5)], &wanted("b", 9, false, until));
    assert_eq!(runs(&again), [(1, 1, 2)]);
}

#[test]
fn a_record_that_fails_too_often_is_given_up() {
    let mut now = Instant::now();
    let mut partition = SharePartition::new(0, 0);
    for round in 1..=LIMIT {
        let until = now + Duration::from_secs(1);
        let acquired = partition.acquire(&[batch(0, 0)], &wanted("a", 1, false, until));
        assert_eq!(runs(&acquired), [(0, 0, round)]);
        assert_eq!(partition.next_timeout(), Some(until));
        assert!(!partition.expire(now, LIMIT));
        now = until;
        assert_eq!(partition.expire(now, LIMIT), round < LIMIT);
    }
    assert_eq!((partition.start, partition.next_timeout()), (1, None));
}

#[test]
fn markers_are_passed_and_a_log_that_was_cut_is_followed() {
    let until = Instant::now();
    let mut partition = SharePartition::new(0, 0);
    let hidden = LogBatch {
        hidden: true,
        ..batch(0, 4)
    };
    let acquired = partition.acquire(&[hidden, batch(5, 9)], &wanted("a", 1, false, until));
    assert_eq!((runs(&acquired), partition.start), (vec![(5, 9, 1)], 5));
    partition.truncate(8);
    assert_eq!(partition.start, 8);
    assert!(partition.release("a", 1, LIMIT));
    assert!(!partition.release("a", 1, LIMIT));
    partition.truncate(100);
    assert_eq!((partition.start, partition.read_from()), (100, Some(100)));
}

#[test]
fn no_more_are_acquired_than_may_be() {
    let until = Instant::now();
    let mut partition = SharePartition::new(0, 0);
    let max = IN_FLIGHT_MAX as i64;
    partition.acquire(&[batch(0, max - 1)], &wanted("a", usize::MAX, false, until));
    assert_eq!(partition.read_from(), None);
    let more = partition.acquire(&[batch(max, max)], &wanted("a", 1, false, until));
    assert!(more.is_empty());
    assert!(partition.release("a", 1, LIMIT));
    assert_eq!(partition.read_from(), Some(0));
}

#[test]
fn another_leader_knows_what_was_said_and_not_what_was_acquired() {
    let until = Instant::now();
    let mut partition = SharePartition::new(0, 0);
    assert_eq!(partition.led(4), Ok(()));
    partition.acquire(&[batch(0, 3)], &wanted("a", 9, false, until));
    let a = holder("a");
    partition
        .acknowledge(&a, &[said(0, 0, 1), said(2, 2, 2)], LIMIT, until)
        .unwrap();
    assert_eq!(partition.led(5), Ok(()));
    assert_eq!(partition.led(4), Err(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    let late = partition.acknowledge(&a, &[said(1, 1, 1)], LIMIT, until);
    assert_eq!(late.unwrap_err(), ErrorCode::INVALID_RECORD_STATE);
    let again = partition.acquire(&[batch(0, 3)], &wanted("b", 9, false, until));
    assert_eq!(runs(&again), [(1, 1, 1), (2, 2, 2), (3, 3, 1)]);
}

#[test]
fn what_cannot_be_kept_is_acquired_still_unless_another_leads_or_the_log_was_cut() {
    let until = Instant::now();
    let a = holder("a");
    let acknowledged = || {
        let mut partition = SharePartition::new(0, 0);
        partition.acquire(&[batch(0, 3)], &wanted("a", 9, false, until));
        let said = partition.acknowledge(&a, &[said(0, 3, 1)], LIMIT, until);
        (partition, said.unwrap().undo)
    };
    let (mut partition, undo) = acknowledged();
    assert_eq!(partition.start, 4);
    partition.undo(undo);
    assert_eq!((partition.start, partition.read_from()), (0, Some(4)));
    let again = partition.acknowledge(&a, &[said(0, 3, 1)], LIMIT, until);
    assert_eq!(again.unwrap().undo.ended.len(), 4);

    let (mut partition, undo) = acknowledged();
    partition.led(1).unwrap();
    partition.undo(undo);
    assert_eq!(partition.read_from(), Some(0));

    let (mut partition, undo) = acknowledged();
    partition.cut(2);
    partition.undo(undo);
    assert_eq!((partition.start, partition.next), (0, 2));
}

#[test]
fn what_compaction_removed_keeps_nobody_waiting() {
    let until = Instant::now();
    let mut partition = SharePartition::new(0, 0);
    partition.acquire(&[batch(0, 9)], &wanted("a", 99, false, until));
    partition
        .acknowledge(&holder("a"), &[said(5, 9, 1)], LIMIT, until)
        .unwrap();
    assert!(partition.release("a", 1, LIMIT));
    // Of the first five nothing is left.
    let log = [batch(5, 9), batch(12, 13)];
    assert_eq!(partition.read_from(), Some(0));
    partition.pass_gaps(0, &log);
    let acquired = partition.acquire(&log, &wanted("b", 99, false, until));
    assert_eq!(runs(&acquired), [(12, 13, 1)]);
    assert_eq!(partition.start, 12);
}

#[test]
fn what_is_kept_is_what_another_leader_would_know() {
    let until = Instant::now();
    let id = (Uuid([7; 16]), 3);
    let log = (0, 100);
    let mut partition = SharePartition::new(10, 2);
    assert!(partition.is_unkept());
    let kept = partition.keep(id);
    assert!(!partition.is_unkept());
    assert_eq!(kept.id(), Some(id));
    partition.acquire(&[batch(10, 19)], &wanted("a", 99, false, until));
    assert!(!partition.is_unkept(), "nothing was said yet");
    let all = [said(10, 11, 1), said(13, 14, 2), said(16, 16, 3)];
    partition
        .acknowledge(&holder("a"), &all, LIMIT, until)
        .unwrap();
    assert!(partition.is_unkept());
    let text = serde_json::to_string(&partition.keep(id)).unwrap();
    let kept: Kept = serde_json::from_str(&text).unwrap();
    let mut restored = kept.restore(log).unwrap();
    assert_eq!((restored.start, restored.state_epoch), (12, 2));
    let lag = restored.progress().lag(100);
    assert_eq!(
        lag, 87,
        "twelve before the start, and one behind it, are done with"
    );
    let again = restored.acquire(&[batch(10, 19)], &wanted("b", 99, false, until));
    let expected = [(12, 12, 1), (13, 14, 2), (15, 15, 1), (17, 19, 1)];
    assert_eq!(runs(&again), expected);
    // The log's beginning went, and a crash cost its end.
    let mut restored = kept.restore((14, 17)).unwrap();
    let again = restored.acquire(&[batch(14, 30)], &wanted("b", 99, false, until));
    assert_eq!(runs(&again), [(14, 14, 2), (15, 15, 1), (17, 30, 1)]);
    assert_eq!(kept.restore((200, 300)).unwrap().start, 200);
    assert_eq!(kept.restore((0, 5)).unwrap().start, 5);
}

#[test]
fn what_no_partition_can_be_is_refused() {
    let restored = |start: i64, next: i64, available: &str| {
        let text = format!(
            r#"{{"topic":"x","partition":0,"state_epoch":0,"start":{start},"next":{next},"available":{available}}}"#
        );
        let kept: Kept = serde_json::from_str(&text).unwrap();
        kept.restore((0, 100)).map(|partition| partition.start)
    };
    assert_eq!(restored(3, 9, "[[4,5,1],[6,8,0]]"), Ok(4));
    assert!(restored(-1, 9, "[]").is_err());
    assert!(restored(9, 8, "[]").is_err());
    for available in [
        "[[2,5,1]]",
        "[[5,4,1]]",
        "[[5,9,1]]",
        "[[5,6,-1]]",
        "[[5,6,1],[6,7,1]]",
    ] {
        assert!(
            restored(3, 9, available)
                .unwrap_err()
                .contains("cannot be there")
        );
    }
    // However much it says to be there, no more is made of it than the log has.
    assert_eq!(restored(0, i64::MAX, "[[0,9223372036854775806,0]]"), Ok(0));
}
