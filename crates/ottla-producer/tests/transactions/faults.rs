//! Every fault and every error code at every step: nothing half-committed, nothing forgotten, no hang.

use std::time::Duration;

use ottla_producer::{
    CommitError, SendError, Transaction, TransactionError, TransactionalProducer,
};
use ottla_wire::{ApiKey, ErrorCode};
use tokio::time::{Instant, timeout};

use crate::cluster::{Act, Cluster, ID, group};
use crate::protocol::record;

const APIS: [ApiKey; 6] = [
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::Produce,
    ApiKey::AddOffsetsToTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::EndTxn,
];

/// Those that a protocol generation uses.
fn of_generation(is_v2: bool) -> impl Iterator<Item = ApiKey> {
    let v1_only = [ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn];
    APIS.into_iter()
        .filter(move |api| !is_v2 || !v1_only.contains(api))
}

/// What a program knows of the values it sent.
#[derive(Debug, Default)]
struct Ledger {
    committed: Vec<String>,
    unknown: Vec<String>,
    not_committed: Vec<String>,
    fatal: Option<TransactionError>,
}

impl Ledger {
    fn check(&self, cluster: &Cluster, what: &str) {
        let seen = cluster.committed();
        for value in &self.committed {
            let times = seen.iter().filter(|of| *of == value).count();
            assert_eq!(times, 1, "{what}: {value} was committed; {seen:?} {self:?}");
        }
        for value in &self.not_committed {
            assert!(
                !seen.contains(value),
                "{what}: {value} was not committed; {seen:?} {self:?}"
            );
        }
        for pair in seen.iter().filter(|value| value.ends_with('a')) {
            let other = pair.replace('a', "b");
            assert!(
                seen.contains(&other),
                "{what}: {pair} without {other}; {seen:?}"
            );
        }
    }
}

/// Three transactions, the second aborted, each repeated as its errors ask for.
async fn three_transactions(cluster: &Cluster) -> Ledger {
    let mut ledger = Ledger::default();
    let mut producer = loop {
        match cluster.producer().await {
            Ok(producer) => break producer,
            Err(error) if error.is_retriable() => {}
            Err(error) => {
                ledger.fatal = Some(error);
                return ledger;
            }
        }
    };
    for round in 0..3 {
        for attempt in 0..5 {
            let values = ["a", "b"].map(|part| format!("{round}.{attempt}{part}"));
            match transact(&mut producer, &values, round, round != 1).await {
                Ok(()) if round == 1 => ledger.not_committed.extend(values),
                Ok(()) => ledger.committed.extend(values),
                Err(error) => {
                    match error.possibly_committed() {
                        true => ledger.unknown.extend(values),
                        false => ledger.not_committed.extend(values),
                    }
                    if error.is_fatal() {
                        ledger.fatal = Some(error);
                        return ledger;
                    }
                    continue;
                }
            }
            break;
        }
    }
    if let Err(error) = producer.close(Duration::from_secs(30)).await {
        assert!(!error.is_fatal(), "{error}");
    }
    ledger
}

async fn transact(
    producer: &mut TransactionalProducer,
    values: &[String; 2],
    round: i64,
    commit: bool,
) -> Result<(), TransactionError> {
    let mut transaction = producer.begin().await?;
    for (partition, value) in (0..).zip(values) {
        let sent = transaction.send(record(partition, value)).await;
        if let Err(error) = sent {
            assert!(matches!(
                error,
                SendError::TransactionEnded { .. } | SendError::Fatal { .. }
            ));
        }
    }
    if round != 1 {
        let offsets = [("orders", 0, round)];
        let mut sent = transaction.send_offsets(offsets, &group()).await;
        if sent.as_ref().is_err_and(TransactionError::is_retriable) {
            sent = transaction.send_offsets(offsets, &group()).await;
        }
        if let Err(error) = sent {
            let _ = transaction.abort().await;
            return Err(error);
        }
    }
    if !commit {
        return transaction.abort().await;
    }
    for _ in 0..3 {
        match transaction.commit().await {
            Ok(()) => return Ok(()),
            Err(CommitError {
                error,
                transaction: Some(open),
            }) if error.is_retriable() => transaction = open,
            Err(CommitError {
                error,
                transaction: Some(open),
            }) => {
                assert!(error.requires_abort());
                return match open.abort().await {
                    Err(worse) if worse.is_fatal() => Err(worse),
                    _ => Err(error),
                };
            }
            Err(CommitError { error, .. }) => {
                assert!(error.is_fatal());
                return Err(error);
            }
        }
    }
    panic!("the fault is over long ago");
}

/// A record that the broker acknowledges.
async fn write(transaction: &Transaction<'_>, partition: i32, value: &str) {
    let sent = transaction.send(record(partition, value)).await.unwrap();
    sent.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lost_requests_and_lost_answers() {
    let second = Duration::from_secs(1);
    for is_v2 in [false, true] {
        for api in of_generation(is_v2) {
            for nth in 0..3 {
                for act in [
                    Act::Close,
                    Act::Silence,
                    Act::DoAndClose,
                    Act::DoAndSilence,
                    Act::DoSlowly(second / 2),
                    Act::CloseAndDoLater(second / 4),
                    Act::CloseAndDoLater(second * 2),
                ] {
                    let what = format!("V2 {is_v2}, {api} {nth} {act:?}");
                    let cluster = Cluster::start(is_v2);
                    cluster.fault_once(api, nth, act);
                    let ledger = timeout(second * 600, three_transactions(&cluster)).await;
                    let ledger = ledger.unwrap_or_else(|_| panic!("{what}: hangs"));
                    ledger.check(&cluster, &what);
                    // A late InitProducerId of ours is, to the coordinator, a younger instance.
                    let fenced =
                        api == ApiKey::InitProducerId && matches!(act, Act::CloseAndDoLater(_));
                    assert!(fenced || ledger.fatal.is_none(), "{what}: {ledger:?}");
                    assert!(fenced || ledger.committed.len() == 4, "{what}: {ledger:?}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_error_code_at_every_step_of_v1() {
    every_error_code_at_every_step(false).await;
}

#[tokio::test(start_paused = true)]
async fn every_error_code_at_every_step_of_v2() {
    every_error_code_at_every_step(true).await;
}

async fn every_error_code_at_every_step(is_v2: bool) {
    for api in of_generation(is_v2) {
        for code in ErrorCode::all().filter(|code| code.is_err()) {
            let nth = code.0.unsigned_abs() as usize % 2;
            if api == ApiKey::Produce && code == ErrorCode::DUPLICATE_SEQUENCE_NUMBER {
                continue; // Says that the batch was written, which is not so here.
            }
            let what = format!("V2 {is_v2}, {api} {nth} {code}");
            let cluster = Cluster::start(is_v2);
            cluster.fault_once(api, nth, Act::Refuse(code));
            let limit = Duration::from_secs(600);
            let ledger = timeout(limit, three_transactions(&cluster)).await;
            let ledger = ledger.unwrap_or_else(|_| panic!("{what}: hangs"));
            ledger.check(&cluster, &what);
            assert!(
                ledger.unknown.is_empty(),
                "{what}: every answer came; {ledger:?}"
            );
            if code.is_retriable() {
                assert!(ledger.fatal.is_none(), "{what}: {ledger:?}");
                assert_eq!(ledger.committed.len(), 4, "{what}: {ledger:?}");
            }
            if code == ErrorCode::PRODUCER_FENCED && cluster.count(api) > nth {
                assert!(
                    matches!(ledger.fatal, Some(TransactionError::Fenced { .. })),
                    "{what}: {ledger:?}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moves_is_found() {
    for is_v2 in [false, true] {
        let cluster = Cluster::start(is_v2);
        let mut producer = cluster.producer().await.unwrap();
        let transaction = producer.begin().await.unwrap();
        write(&transaction, 0, "a").await;
        cluster.brokers.set_coordinator(ID, Ok(2));
        cluster.fault_once(ApiKey::EndTxn, 0, Act::Refuse(ErrorCode::NOT_COORDINATOR));
        transaction.commit().await.unwrap();
        assert_eq!(cluster.brokers.broker(2).count(ApiKey::EndTxn), 1);
        assert_eq!(cluster.committed(), ["a"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_not_there_changes_nothing() {
    for is_v2 in [false, true] {
        let cluster = Cluster::start(is_v2);
        let mut producer = cluster.producer().await.unwrap();
        let transaction = producer.begin().await.unwrap();
        write(&transaction, 0, "a").await;
        cluster.fault(|api, _| match api {
            ApiKey::EndTxn => Act::Refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            _ => Act::Do,
        });
        let started = Instant::now();
        let failed = transaction.commit().await.unwrap_err();
        assert!(
            started.elapsed() <= Duration::from_secs(11),
            "{:?}",
            started.elapsed()
        );
        assert!(
            matches!(failed.error, TransactionError::NotReached { .. }),
            "{failed}"
        );
        assert!(failed.error.is_retriable() && !failed.error.possibly_committed());
        // Nothing is in doubt, so an abort is still possible, and is made good later.
        let transaction = failed.into_transaction().unwrap();
        let error = transaction.abort().await.unwrap_err();
        assert!(error.is_retriable(), "{error}");
        let error = producer.begin().await.unwrap_err();
        assert!(error.is_retriable(), "{error}");
        cluster.fault(|_, _| Act::Do);
        let transaction = producer.begin().await.unwrap();
        assert_eq!(cluster.world.lock().aborted, ["a"]);
        let _sent = transaction.send(record(0, "b")).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(cluster.committed(), ["b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_does_not_end_holds_up_the_next_begin_only_for_its_time() {
    for is_v2 in [false, true] {
        let cluster = Cluster::start(is_v2);
        let mut producer = cluster.producer().await.unwrap();
        let transaction = producer.begin().await.unwrap();
        transaction
            .send(record(0, "a"))
            .await
            .unwrap()
            .await
            .unwrap();
        cluster.fault(|api, _| match api {
            ApiKey::EndTxn => Act::Refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            _ => Act::Do,
        });
        drop(transaction);
        // The abort in the background begins, and takes its time.
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 0..2 {
            let started = Instant::now();
            let error = producer.begin().await.unwrap_err();
            assert!(error.is_retriable(), "{error}");
            let took = started.elapsed();
            assert!(took <= Duration::from_millis(10_250), "{took:?}");
        }
        cluster.fault(|_, _| Act::Do);
        let transaction = producer.begin().await.unwrap();
        let _sent = transaction.send(record(0, "b")).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(cluster.committed(), ["b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_does_not_wait_for_partitions_that_are_never_added() {
    for drops in [false, true] {
        let cluster = Cluster::start(false);
        let mut producer = cluster.producer().await.unwrap();
        cluster.fault(|api, _| match api {
            ApiKey::AddPartitionsToTxn => Act::Silence,
            _ => Act::Do,
        });
        let transaction = producer.begin().await.unwrap();
        let _sent = transaction.send(record(0, "a")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let started = Instant::now();
        if drops {
            drop(transaction);
        } else {
            transaction.abort().await.unwrap();
        }
        let transaction = producer.begin().await.unwrap();
        // request.timeout.ms, not delivery.timeout.ms.
        let took = started.elapsed();
        assert!(took <= Duration::from_millis(2_250), "{took:?}");
        cluster.fault(|_, _| Act::Do);
        let _sent = transaction.send(record(0, "b")).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(cluster.committed(), ["b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_an_answer_is_neither_one_nor_the_other() {
    for is_v2 in [false, true] {
        for carried_out in [false, true] {
            for given_up in [false, true] {
                let cluster = Cluster::start(is_v2);
                let mut producer = cluster.producer().await.unwrap();
                let transaction = producer.begin().await.unwrap();
                let _sent = transaction.send(record(0, "a")).await.unwrap();
                cluster.fault(move |api, _| match (api, carried_out) {
                    (ApiKey::EndTxn, true) => Act::DoAndSilence,
                    (ApiKey::EndTxn, false) => Act::Silence,
                    _ => Act::Do,
                });
                let failed = transaction.commit().await.unwrap_err();
                assert!(
                    matches!(failed.error, TransactionError::UnknownOutcome { .. }),
                    "{failed}"
                );
                assert!(failed.error.is_retriable() && failed.error.possibly_committed());
                let transaction = failed.into_transaction().unwrap();
                let late = transaction.send(record(0, "late")).await.unwrap_err();
                assert!(late.to_string().contains("commit again"), "{late}");
                let transaction = if given_up {
                    let error = transaction.abort().await.unwrap_err();
                    assert!(error.possibly_committed(), "{error}");
                    cluster.fault(|_, _| Act::Do);
                    producer.begin().await.unwrap()
                } else {
                    cluster.fault(|_, _| Act::Do);
                    transaction.commit().await.unwrap();
                    producer.begin().await.unwrap()
                };
                assert_eq!(cluster.committed(), ["a"]);
                let _sent = transaction.send(record(0, "b")).await.unwrap();
                transaction.commit().await.unwrap();
                assert_eq!(cluster.committed(), ["a", "b"]);
                // Under V1 the first EndTxn could still arrive: the epoch is another one by then.
                let inits = cluster.count(ApiKey::InitProducerId);
                assert_eq!(inits, if is_v2 { 1 } else { 2 });
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_in_doubt_that_is_then_fenced_stays_in_doubt() {
    for is_v2 in [false, true] {
        let cluster = Cluster::start(is_v2);
        let mut producer = cluster.producer().await.unwrap();
        let transaction = producer.begin().await.unwrap();
        write(&transaction, 0, "a").await;
        cluster.fault_once(ApiKey::EndTxn, 0, Act::DoAndSilence);
        let commit = transaction.commit();
        let other = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            cluster.producer().await.unwrap()
        };
        let (commit, _other) = tokio::join!(commit, other);
        let failed = commit.unwrap_err();
        assert!(
            matches!(failed.error, TransactionError::Fenced { .. }),
            "{failed}"
        );
        assert!(failed.error.possibly_committed(), "{failed}");
        assert_eq!(cluster.committed(), ["a"]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_failed_record_dooms_the_transaction_and_the_next_is_sound() {
    for is_v2 in [false, true] {
        for code in [
            ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            ErrorCode::UNKNOWN_PRODUCER_ID,
            ErrorCode::INVALID_PRODUCER_EPOCH,
            ErrorCode::TRANSACTION_ABORTABLE,
        ] {
            let cluster = Cluster::start(is_v2);
            let mut producer = cluster.producer().await.unwrap();
            cluster.fault_once(ApiKey::Produce, 0, Act::Refuse(code));
            let transaction = producer.begin().await.unwrap();
            let first = transaction.send(record(0, "0")).await.unwrap();
            let refused = first.await.unwrap_err();
            assert!(!refused.possibly_written(), "{refused}");
            let more = transaction.send(record(1, "1")).await.unwrap_err();
            assert!(matches!(more, SendError::TransactionEnded { .. }), "{more}");
            let failed = transaction.commit().await.unwrap_err();
            assert!(
                failed.error.requires_abort() && failed.error.code() == Some(code),
                "{failed}"
            );
            // It stays so however often it is tried.
            let failed = failed
                .into_transaction()
                .unwrap()
                .commit()
                .await
                .unwrap_err();
            failed.into_transaction().unwrap().abort().await.unwrap();
            let transaction = producer.begin().await.unwrap();
            for partition in 0..4 {
                let _sent = transaction.send(record(partition, "next")).await.unwrap();
            }
            transaction.commit().await.unwrap();
            assert_eq!(cluster.committed(), ["next"; 4]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_runs_out_of_time_dooms_the_transaction() {
    for is_v2 in [false, true] {
        let cluster = Cluster::start(is_v2);
        let mut producer = cluster.producer().await.unwrap();
        cluster.fault(|api, _| match api {
            ApiKey::Produce => Act::Silence,
            _ => Act::Do,
        });
        let transaction = producer.begin().await.unwrap();
        let stuck = transaction.send(record(0, "stuck")).await.unwrap();
        let started = Instant::now();
        let failed = transaction.commit().await.unwrap_err();
        assert!(failed.error.requires_abort(), "{failed}");
        assert!(
            started.elapsed() <= Duration::from_secs(23),
            "{:?}",
            started.elapsed()
        );
        assert!(stuck.await.unwrap_err().possibly_written());
        cluster.fault(|_, _| Act::Do);
        failed.into_transaction().unwrap().abort().await.unwrap();
        let transaction = producer.begin().await.unwrap();
        let _sent = transaction.send(record(0, "next")).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(cluster.committed(), ["next"]);
        // The lost batch could still arrive under the old epoch.
        let inits = cluster.count(ApiKey::InitProducerId);
        assert_eq!(inits, if is_v2 { 1 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_before_that_is_being_completed_is_waited_for_briefly() {
    for is_v2 in [false, true] {
        for api in APIS {
            let cluster = Cluster::start(is_v2);
            cluster.fault(move |of, nth| match of == api && nth < 2 {
                true => Act::Refuse(ErrorCode::CONCURRENT_TRANSACTIONS),
                false => Act::Do,
            });
            let started = Instant::now();
            let ledger = three_transactions(&cluster).await;
            ledger.check(&cluster, "concurrent");
            assert_eq!(ledger.committed.len(), 4, "{api} {ledger:?}");
            let limit = match api {
                ApiKey::Produce => Duration::from_millis(800), // retry.backoff.ms per batch
                _ => Duration::from_millis(60),
            };
            assert!(started.elapsed() < limit, "{api} {:?}", started.elapsed());
        }
    }
}
