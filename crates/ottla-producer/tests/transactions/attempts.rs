//! A transaction that is tried again: by [`TransactionalProducer::run`], and in a loop of the program's own.

use std::time::Duration;

use ottla_producer::{RunError, SendError, Transaction, TransactionError, TransactionalProducer};
use ottla_wire::{ApiKey, ErrorCode};
use tokio::time::Instant;

use crate::cluster::{Act, Cluster};
use crate::protocol::record;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Run,
    Loop,
}

const SHAPES: [Shape; 2] = [Shape::Run, Shape::Loop];

/// Writes one value per attempt and partition: the attempt's number. How many attempts it took.
async fn write(
    producer: &mut TransactionalProducer,
    shape: Shape,
    attempts_max: u32,
) -> Result<u32, RunError<SendError>> {
    let mut number = 0;
    if shape == Shape::Run {
        return producer
            .run(attempts_max, async |transaction: &Transaction<'_>| {
                number += 1;
                write_number(transaction, number).await?;
                Ok(number)
            })
            .await;
    }
    let mut attempts = producer.attempts(attempts_max);
    loop {
        let attempt = attempts.begin().await?;
        number += 1;
        assert_eq!(attempt.number(), number);
        let written = write_number(&attempt, number).await;
        if let Some(()) = attempt.finish(written).await? {
            return Ok(number);
        }
    }
}

async fn write_number(transaction: &Transaction<'_>, number: u32) -> Result<(), SendError> {
    let value = number.to_string();
    for partition in 0..2 {
        let _sent = transaction.send(record(partition, &value)).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_now_is_done_again_after_a_pause() {
    for (shape, is_v2) in SHAPES.into_iter().zip([true, false]) {
        let cluster = Cluster::start(is_v2);
        let mut producer = cluster.producer().await.unwrap();
        cluster.fault(|api, nth| match api {
            ApiKey::Produce if nth < 2 => Act::Refuse(ErrorCode::TRANSACTION_ABORTABLE),
            _ => Act::Do,
        });
        let started = Instant::now();
        let attempts = write(&mut producer, shape, 5).await.unwrap();
        // A refused request may have carried either partition's record, or both.
        assert!((2..=3).contains(&attempts), "{shape:?}: {attempts}");
        let last = attempts.to_string();
        assert_eq!(cluster.committed(), [last.clone(), last], "{shape:?}");
        assert!(
            started.elapsed() >= Duration::from_millis(50),
            "{shape:?} took {:?}",
            started.elapsed()
        );
        producer.close(Duration::from_secs(10)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn after_as_many_attempts_it_gives_up_and_the_next_is_sound() {
    for shape in SHAPES {
        for attempts_max in [1, 3] {
            let cluster = Cluster::start(true);
            let mut producer = cluster.producer().await.unwrap();
            let refusal = Act::Refuse(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
            cluster.fault(move |api, _| match api {
                ApiKey::Produce => refusal,
                _ => Act::Do,
            });
            let before = cluster.count(ApiKey::Produce);
            let failed = write(&mut producer, shape, attempts_max).await.unwrap_err();
            assert!(
                matches!(&failed, RunError::Transaction(error) if error.requires_abort()
                    && error.code() == Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED)),
                "{shape:?}: {failed}"
            );
            let asked = cluster.count(ApiKey::Produce) - before;
            let range = attempts_max as usize..=2 * attempts_max as usize;
            assert!(range.contains(&asked), "{shape:?}: {asked} requests");
            cluster.fault(|_, _| Act::Do);
            assert_eq!(write(&mut producer, shape, 1).await.unwrap(), 1);
            assert_eq!(cluster.committed(), ["1"; 2], "{shape:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_fails_in_a_sound_transaction_is_not_done_again() {
    let cluster = Cluster::start(true);
    let mut producer = cluster.producer().await.unwrap();
    let mut attempts = producer.attempts(3);
    let attempt = attempts.begin().await.unwrap();
    write_number(&attempt, 1).await.unwrap();
    let failed = attempt.finish(Err::<(), _>("no")).await;
    assert!(matches!(failed, Err(RunError::Work("no"))), "{failed:?}");
    let failed = producer
        .run(3, async |transaction: &Transaction<'_>| {
            write_number(transaction, 2).await.unwrap();
            Err::<(), _>("no")
        })
        .await;
    assert!(matches!(failed, Err(RunError::Work("no"))), "{failed:?}");
    assert_eq!(cluster.committed(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_an_answer_is_repeated_and_not_the_work() {
    for shape in SHAPES {
        let cluster = Cluster::start(true);
        let mut producer = cluster.producer().await.unwrap();
        // None of the answers within `max.block.ms` of the first commit.
        let silent_until = Instant::now() + Duration::from_secs(11);
        cluster.fault(move |api, nth| match api {
            ApiKey::EndTxn if nth == 0 => Act::DoAndSilence,
            ApiKey::EndTxn if Instant::now() < silent_until => Act::Silence,
            _ => Act::Do,
        });
        assert_eq!(write(&mut producer, shape, 3).await.unwrap(), 1);
        assert_eq!(cluster.committed(), ["1"; 2], "{shape:?}");
        assert!(Instant::now() >= silent_until, "{shape:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_that_nobody_hears_is_made_good_by_the_next_attempt() {
    for shape in SHAPES {
        let cluster = Cluster::start(true);
        let mut producer = cluster.producer().await.unwrap();
        // Longer than `max.block.ms`.
        let deaf_until = Instant::now() + Duration::from_secs(11);
        cluster.fault(move |api, nth| match api {
            ApiKey::Produce if nth < 2 => Act::Refuse(ErrorCode::TRANSACTION_ABORTABLE),
            ApiKey::EndTxn if Instant::now() < deaf_until => {
                Act::Refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE)
            }
            _ => Act::Do,
        });
        let attempts = write(&mut producer, shape, 5).await.unwrap();
        assert!((2..=3).contains(&attempts), "{shape:?}: {attempts}");
        let last = attempts.to_string();
        assert_eq!(cluster.committed(), [last.clone(), last], "{shape:?}");
        assert!(Instant::now() >= deaf_until, "{shape:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_is_fenced_is_told_at_once() {
    for shape in SHAPES {
        let cluster = Cluster::start(true);
        let mut older = cluster.producer().await.unwrap();
        let mut younger = cluster.producer().await.unwrap();
        let failed = write(&mut older, shape, 3).await.unwrap_err();
        assert!(
            matches!(&failed, RunError::Transaction(error) if error.is_fatal()),
            "{shape:?}: {failed}"
        );
        assert_eq!(write(&mut younger, shape, 3).await.unwrap(), 1);
        assert_eq!(cluster.committed(), ["1"; 2], "{shape:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_dropped_counts_and_leaves_nothing() {
    let cluster = Cluster::start(true);
    let mut producer = cluster.producer().await.unwrap();
    let mut attempts = producer.attempts(2);
    let first = attempts.begin().await.unwrap();
    write_number(&first, 1).await.unwrap();
    drop(first);
    let second = attempts.begin().await.unwrap();
    assert_eq!(second.number(), 2);
    write_number(&second, 2).await.unwrap();
    let done = second.finish(Ok::<_, TransactionError>("done")).await;
    assert_eq!(done.unwrap(), Some("done"));
    assert_eq!(cluster.committed(), ["2"; 2]);
    // And another transaction, with attempts of its own.
    let third = attempts.begin().await.unwrap();
    assert_eq!(third.number(), 1);
    write_number(&third, 3).await.unwrap();
    let done = third.finish(Ok::<_, TransactionError>(())).await;
    assert_eq!(done.unwrap(), Some(()));
    assert_eq!(cluster.committed(), ["2", "2", "3", "3"]);
}
