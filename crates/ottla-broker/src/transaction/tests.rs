//! The state of one transactional id, step by step.

use super::*;

const TIMEOUT_MS: i32 = 60_000;

fn fresh() -> Result<i64, ErrorCode> {
    Ok(99)
}

fn new() -> Transaction {
    Transaction::new((7, 0), TIMEOUT_MS, 0)
}

fn open(epoch: i16) -> Transaction {
    let mut transaction = Transaction::new((7, epoch), TIMEOUT_MS, 0);
    transaction.begin(0);
    transaction.partitions.insert(("t".to_owned(), 0));
    transaction
}

#[test]
fn the_last_offset_of_a_partition_counts() {
    let mut transaction = open(0);
    let offset = |topic: &str, partition, offset| PendingOffset {
        group: "g".to_owned(),
        topic: topic.to_owned(),
        partition,
        offset,
        leader_epoch: -1,
        metadata: String::new(),
    };
    transaction.put_offsets(vec![
        offset("t", 0, 1),
        offset("t", 1, 2),
        offset("t", 0, 3),
    ]);
    transaction.put_offsets(vec![offset("u", 0, 4), offset("t", 1, 5)]);
    let pending = [offset("t", 0, 3), offset("t", 1, 5), offset("u", 0, 4)];
    assert_eq!(transaction.offsets, pending);
}

#[test]
fn a_new_start_fences_the_producer_before() {
    let mut transaction = new();
    assert_eq!(
        transaction.init(None, TIMEOUT_MS, fresh, 1),
        Ok(Next::Nothing)
    );
    assert_eq!(transaction.identity, (7, 1));
    assert_eq!(transaction.check((7, 0)), Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(
        transaction.check((8, 1)),
        Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
    );
    assert_eq!(transaction.check((7, 1)), Ok(()));
    let late = transaction.init(Some((7, 0)), TIMEOUT_MS, fresh, 2);
    assert_eq!(late, Err(ErrorCode::PRODUCER_FENCED));
}

#[test]
fn a_new_start_aborts_what_was_open_and_nobody_writes_between() {
    let mut transaction = open(0);
    assert_eq!(
        transaction.init(None, TIMEOUT_MS, fresh, 1),
        Ok(Next::Complete)
    );
    assert_eq!(transaction.marker(), Some(((7, 1), false)));
    assert_eq!(
        transaction.check((7, 1)),
        Err(ErrorCode::CONCURRENT_TRANSACTIONS)
    );
    let again = transaction.init(None, TIMEOUT_MS, fresh, 1);
    assert_eq!(again, Err(ErrorCode::CONCURRENT_TRANSACTIONS));
    transaction.complete();
    assert_eq!(
        transaction.init(None, TIMEOUT_MS, fresh, 1),
        Ok(Next::Nothing)
    );
    assert_eq!(
        (transaction.identity, transaction.state),
        ((7, 2), State::Empty)
    );
}

#[test]
fn a_producer_that_bumps_its_own_epoch_may_ask_twice() {
    let mut transaction = new();
    for _ in 0..2 {
        let next = transaction.init(Some((7, 0)), TIMEOUT_MS, fresh, 1);
        assert_eq!((next, transaction.identity), (Ok(Next::Nothing), (7, 1)));
    }
    transaction.begin(2);
    let late = transaction.init(Some((7, 0)), TIMEOUT_MS, fresh, 3);
    assert_eq!(
        late,
        Err(ErrorCode::PRODUCER_FENCED),
        "the new one is at work"
    );
}

#[test]
fn the_first_generation_ends_under_the_same_epoch_and_may_repeat_itself() {
    let mut transaction = open(4);
    let end =
        |transaction: &mut Transaction, commit| transaction.end((7, 4), commit, false, fresh, 1);
    assert_eq!(end(&mut transaction, true), Ok(Next::Complete));
    assert_eq!(transaction.marker(), Some(((7, 4), true)));
    assert_eq!(
        end(&mut transaction, true),
        Ok(Next::Complete),
        "it was interrupted"
    );
    assert_eq!(
        end(&mut transaction, false),
        Err(ErrorCode::INVALID_TXN_STATE)
    );
    transaction.complete();
    assert_eq!(
        end(&mut transaction, true),
        Ok(Next::Nothing),
        "its answer was lost"
    );
    assert_eq!(
        end(&mut transaction, false),
        Err(ErrorCode::INVALID_TXN_STATE)
    );
    assert_eq!(transaction.identity, (7, 4));
    assert!(transaction.partitions.is_empty() && transaction.started_ms == -1);
    let mut empty = new();
    let nothing = empty.end((7, 0), false, false, fresh, 1);
    assert_eq!(nothing, Err(ErrorCode::INVALID_TXN_STATE));
}

#[test]
fn the_second_generation_gives_every_transaction_an_epoch() {
    let mut transaction = open(4);
    let end =
        |transaction: &mut Transaction, commit| transaction.end((7, 4), commit, true, fresh, 1);
    assert_eq!(end(&mut transaction, true), Ok(Next::Complete));
    assert_eq!(transaction.marker(), Some(((7, 5), true)));
    assert_eq!(
        end(&mut transaction, true),
        Ok(Next::Complete),
        "it was interrupted"
    );
    transaction.complete();
    assert_eq!(
        end(&mut transaction, true),
        Ok(Next::Nothing),
        "its answer was lost"
    );
    assert_eq!(
        end(&mut transaction, false),
        Err(ErrorCode::PRODUCER_FENCED)
    );
    assert_eq!(transaction.identity, (7, 5));
    assert_eq!(transaction.check((7, 4)), Err(ErrorCode::PRODUCER_FENCED));
    transaction.begin(2);
    assert_eq!(
        end(&mut transaction, true),
        Err(ErrorCode::PRODUCER_FENCED),
        "long over"
    );
}

#[test]
fn an_abort_of_nothing_bumps_and_a_commit_of_nothing_is_refused() {
    let mut transaction = new();
    let commit = transaction.end((7, 0), true, true, fresh, 1);
    assert_eq!(commit, Err(ErrorCode::INVALID_TXN_STATE));
    assert_eq!(
        transaction.end((7, 0), false, true, fresh, 1),
        Ok(Next::Complete)
    );
    transaction.complete();
    assert_eq!(
        (transaction.identity, transaction.state),
        ((7, 1), State::CompleteAbort)
    );
}

#[test]
fn epochs_that_run_out_make_a_new_id_while_markers_keep_the_old() {
    let mut transaction = open(i16::MAX - 1);
    let identity = (7, i16::MAX - 1);
    assert_eq!(
        transaction.end(identity, true, true, fresh, 1),
        Ok(Next::Complete)
    );
    assert_eq!(transaction.marker(), Some(((7, i16::MAX), true)));
    assert_eq!(transaction.identity, (99, 0));
    transaction.complete();
    assert_eq!(
        transaction.end(identity, true, true, fresh, 1),
        Ok(Next::Nothing)
    );
    let mut unlucky = open(i16::MAX - 1);
    let none = unlucky.end(
        identity,
        true,
        true,
        || Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        1,
    );
    assert_eq!(none, Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
}

#[test]
fn what_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut transaction = open(0);
    assert!(!transaction.is_overdue(59_999) && transaction.is_overdue(60_000));
    transaction.fence(60_000);
    assert_eq!(transaction.marker(), Some(((7, 1), false)));
    transaction.complete();
    for bumps in [false, true] {
        let late = transaction.end((7, 0), true, bumps, fresh, 60_001);
        assert_eq!(late, Err(ErrorCode::PRODUCER_FENCED));
    }
    assert!(!transaction.is_overdue(i64::MAX));
}
