//! What becomes of records that are accepted, released, rejected, kept too long, or lost with their member.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ottla_consumer::{
    AcknowledgeOutcome, AcknowledgeType, Error, ShareAcknowledgementMode, ShareAcquireMode,
    ShareConsumer, ShareRecord,
};
use ottla_producer::{ProducerConfig, ProducerRecord, TransactionalProducer};
use ottla_protocol_tests::unique;

use crate::{
    LOCK, LONG, Place,
    client::{PATIENCE, cluster, write},
    group, number, share_consumer, topic,
};

/// The next `count` records.
pub(super) async fn next(consumer: &ShareConsumer, count: usize) -> Vec<ShareRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        records.push(consumer.recv().await.unwrap());
    }
    records.sort_by_key(|record| record.offset());
    records
}

pub(super) fn numbers(records: &[ShareRecord]) -> Vec<u32> {
    records
        .iter()
        .map(|record| number(record.value()))
        .collect()
}

fn counts(records: &[ShareRecord]) -> Vec<i16> {
    records.iter().map(ShareRecord::delivery_count).collect()
}

/// Nothing comes for a while.
async fn nothing_comes(consumer: &ShareConsumer) {
    let records = consumer.poll(Duration::from_secs(2)).await.unwrap();
    assert!(records.is_empty(), "{:?}", numbers(&records));
}

pub(super) async fn what_is_released_comes_again_and_what_is_rejected_does_not(place: &Place) {
    let bootstrap = &place.bootstrap;
    let (topic, group) = (
        topic(place, "kinds", 1).await,
        group(bootstrap, "kinds", &[]).await,
    );
    write(bootstrap, &topic, 1, 0..6).await;
    let told = Arc::<Mutex<Vec<AcknowledgeOutcome>>>::default();
    let tell = told.clone();
    let consumer = share_consumer(bootstrap, &group, |config| {
        config.acknowledge_listener = Some(Arc::new(move |outcome: &AcknowledgeOutcome| {
            tell.lock().unwrap().push(outcome.clone());
        }));
    });
    consumer.subscribe([topic.clone()]).unwrap();
    let records = next(&consumer, 6).await;
    assert_eq!(numbers(&records), [0, 1, 2, 3, 4, 5]);
    assert_eq!(counts(&records), [1; 6]);
    assert_eq!(consumer.acquisition_lock_timeout(), Some(LOCK));
    for record in &records {
        let kind = match record.offset() % 3 {
            0 => AcknowledgeType::Accept,
            1 => AcknowledgeType::Release,
            _ => AcknowledgeType::Reject,
        };
        consumer.acknowledge(record, kind).unwrap();
    }
    let again = consumer.acknowledge(&records[0], AcknowledgeType::Accept);
    assert!(
        matches!(again, Err(Error::NotHeld { offset: 0, .. })),
        "{again:?}"
    );
    consumer.commit_all().await.unwrap();
    {
        let told = told.lock().unwrap();
        assert!(
            told.iter().all(|outcome| outcome.result.is_ok()),
            "{told:?}"
        );
        let offsets: i64 = told
            .iter()
            .flat_map(|outcome| &outcome.offsets)
            .map(|run| run.end() - run.start() + 1)
            .sum();
        assert_eq!(offsets, 6, "{told:?}");
    }

    let records = next(&consumer, 2).await;
    assert_eq!(
        (numbers(&records), counts(&records)),
        (vec![1, 4], vec![2, 2])
    );
    for record in &records {
        consumer
            .acknowledge(record, AcknowledgeType::Accept)
            .unwrap();
    }
    consumer.commit_all().await.unwrap();
    nothing_comes(&consumer).await;
    consumer.close(PATIENCE).await.unwrap();
}

pub(super) async fn what_fails_too_often_is_given_up(place: &Place) {
    let bootstrap = &place.bootstrap;
    let topic = topic(place, "too-often", 1).await;
    let group = group(bootstrap, "too-often", &[]).await;
    write(bootstrap, &topic, 1, 0..1).await;
    let consumer = share_consumer(bootstrap, &group, |_| ());
    consumer.subscribe([topic.clone()]).unwrap();
    // Five times, unless the group says otherwise.
    for time in 1..=5 {
        let records = next(&consumer, 1).await;
        assert_eq!(counts(&records), [time]);
        consumer
            .acknowledge(&records[0], AcknowledgeType::Release)
            .unwrap();
        consumer.commit_all().await.unwrap();
    }
    nothing_comes(&consumer).await;
    consumer.close(PATIENCE).await.unwrap();
}

pub(super) async fn a_lock_that_times_out_gives_the_record_to_another(place: &Place) {
    let bootstrap = &place.bootstrap;
    let (topic, group) = (
        topic(place, "late", 1).await,
        group(bootstrap, "late", &[]).await,
    );
    write(bootstrap, &topic, 1, 0..2).await;
    let slow = share_consumer(bootstrap, &group, |_| ());
    slow.subscribe([topic.clone()]).unwrap();
    let had = next(&slow, 2).await;
    let since = Instant::now();
    let other = share_consumer(bootstrap, &group, |_| ());
    other.subscribe([topic.clone()]).unwrap();
    let again = next(&other, 2).await;
    assert!(since.elapsed() > LOCK / 2, "{:?}", since.elapsed());
    assert_eq!((numbers(&again), counts(&again)), (vec![0, 1], vec![2, 2]));
    let late = slow.acknowledge(&had[0], AcknowledgeType::Accept);
    assert!(matches!(late, Err(Error::NotHeld { .. })), "{late:?}");
    for record in &again {
        other.acknowledge(record, AcknowledgeType::Accept).unwrap();
    }
    other.commit_all().await.unwrap();
    slow.close(PATIENCE).await.unwrap();
    other.close(PATIENCE).await.unwrap();
}

pub(super) async fn a_lock_that_is_renewed_does_not(place: &Place) {
    let bootstrap = &place.bootstrap;
    let (topic, group) = (
        topic(place, "renewed", 1).await,
        group(bootstrap, "renewed", &[]).await,
    );
    write(bootstrap, &topic, 1, 0..2).await;
    let slow = share_consumer(bootstrap, &group, |_| ());
    slow.subscribe([topic.clone()]).unwrap();
    let records = next(&slow, 2).await;
    slow.acknowledge(&records[1], AcknowledgeType::Accept)
        .unwrap();
    let other = share_consumer(bootstrap, &group, |_| ());
    other.subscribe([topic.clone()]).unwrap();
    let renewing = async {
        for _ in 0..3 {
            tokio::time::sleep(LOCK * 2 / 3).await;
            slow.acknowledge(&records[0], AcknowledgeType::Renew)
                .unwrap();
            slow.commit_all().await.unwrap();
        }
    };
    let (records_of_other, ()) = tokio::join!(other.poll(LOCK * 2), renewing);
    let records_of_other = records_of_other.unwrap();
    assert!(
        records_of_other.is_empty(),
        "{:?}",
        numbers(&records_of_other)
    );
    slow.acknowledge(&records[0], AcknowledgeType::Accept)
        .unwrap();
    slow.commit_all().await.unwrap();
    nothing_comes(&other).await;
    slow.close(PATIENCE).await.unwrap();
    other.close(PATIENCE).await.unwrap();
}

pub(super) async fn closing_gives_back_what_was_not_accepted(place: &Place) {
    let bootstrap = &place.bootstrap;
    let (topic, group) = (
        topic(place, "back", 1).await,
        group(bootstrap, "back", &[LONG]).await,
    );
    write(bootstrap, &topic, 1, 0..4).await;
    let implicit = |config: &mut ottla_consumer::ShareConsumerConfig| {
        config.acknowledgement_mode = ShareAcknowledgementMode::Implicit;
    };
    let first = share_consumer(bootstrap, &group, implicit);
    first.subscribe([topic.clone()]).unwrap();
    // Coming for each accepts the one before.
    let mut had = Vec::new();
    for _ in 0..3 {
        had.push(number(first.recv().await.unwrap().value()));
    }
    assert_eq!(had, [0, 1, 2]);
    let since = Instant::now();
    first.close(PATIENCE).await.unwrap();
    let second = share_consumer(bootstrap, &group, implicit);
    second.subscribe([topic.clone()]).unwrap();
    let records = next(&second, 2).await;
    assert!(since.elapsed() < PATIENCE / 2, "{:?}", since.elapsed());
    assert_eq!(numbers(&records), [2, 3]);
    assert_eq!(counts(&records)[0], 2);
    second.commit_all().await.unwrap();
    second.close(PATIENCE).await.unwrap();
}

pub(super) async fn what_a_killed_member_had_comes_again(place: &Place) {
    let bootstrap = &place.bootstrap;
    let (topic, group) = (
        topic(place, "killed", 1).await,
        group(bootstrap, "killed", &[LONG]).await,
    );
    write(bootstrap, &topic, 1, 0..10).await;
    let (address, of, reads) = (bootstrap.clone(), group.clone(), topic.clone());
    // On a runtime of its own, which takes all its tasks and sockets along.
    tokio::task::spawn_blocking(move || {
        let runtime = crate::client::runtime();
        let consumer = runtime.block_on(async {
            let consumer = share_consumer(&address, &of, |_| ());
            consumer.subscribe([reads]).unwrap();
            assert_eq!(next(&consumer, 10).await.len(), 10);
            consumer
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        drop(consumer);
    })
    .await
    .unwrap();
    let survivor = share_consumer(bootstrap, &group, |_| ());
    survivor.subscribe([topic.clone()]).unwrap();
    let records = next(&survivor, 10).await;
    assert_eq!(numbers(&records), (0..10).collect::<Vec<_>>());
    assert_eq!(counts(&records), [2; 10]);
    survivor.close(PATIENCE).await.unwrap();
}

pub(super) async fn a_record_limit_is_kept(place: &Place) {
    let bootstrap = &place.bootstrap;
    let (topic, group) = (
        topic(place, "limit", 1).await,
        group(bootstrap, "limit", &[]).await,
    );
    write(bootstrap, &topic, 1, 0..20).await;
    let limited = |config: &mut ottla_consumer::ShareConsumerConfig| {
        config.acquire_mode = ShareAcquireMode::RecordLimit;
        config.max_poll_records = 3;
    };
    let first = share_consumer(bootstrap, &group, limited);
    let second = share_consumer(bootstrap, &group, limited);
    first.subscribe([topic.clone()]).unwrap();
    second.subscribe([topic.clone()]).unwrap();
    let had = first.poll(PATIENCE).await.unwrap();
    assert_eq!(numbers(&had), [0, 1, 2]);
    // The same batch, of which the first has the beginning.
    let others = second.poll(PATIENCE).await.unwrap();
    assert_eq!(numbers(&others), [3, 4, 5]);
    first.close(PATIENCE).await.unwrap();
    second.close(PATIENCE).await.unwrap();
}

pub(super) async fn only_committed_transactions_are_seen(place: &Place) {
    let bootstrap = &place.bootstrap;
    let committed = [("share.isolation.level", "read_committed")];
    let topic = topic(place, "transactions", 1).await;
    let group = group(bootstrap, "transactions", &committed).await;
    let config = ProducerConfig {
        transactional_id: Some(unique("writer")),
        ..Default::default()
    };
    let mut producer = TransactionalProducer::init(cluster(bootstrap), config)
        .await
        .unwrap();
    for round in 0..4 {
        let transaction = producer.begin().await.unwrap();
        for index in 0..5 {
            let value = (round * 5 + index).to_string();
            let record = ProducerRecord::to(&topic).partition(0).value(&value);
            drop(transaction.send(record).await.unwrap());
        }
        match round % 2 {
            0 => transaction.commit().await.unwrap(),
            _ => transaction.abort().await.unwrap(),
        }
    }
    let consumer = share_consumer(bootstrap, &group, |_| ());
    consumer.subscribe([topic.clone()]).unwrap();
    let records = next(&consumer, 10).await;
    let expected: Vec<u32> = (0..5).chain(10..15).collect();
    assert_eq!(numbers(&records), expected);
    for record in &records {
        consumer
            .acknowledge(record, AcknowledgeType::Accept)
            .unwrap();
    }
    consumer.commit_all().await.unwrap();
    nothing_comes(&consumer).await;
    consumer.close(PATIENCE).await.unwrap();
}

pub(super) async fn what_is_refused_is_said(place: &Place) {
    let bootstrap = &place.bootstrap;
    let topic = topic(place, "other-kind", 1).await;
    // A group of the other kind.
    let group = unique("other-kind");
    let member = crate::client::member(bootstrap, &group, &topic);
    write(bootstrap, &topic, 1, 0..1).await;
    member.recv().await.unwrap();
    let consumer = share_consumer(bootstrap, &group, |_| ());
    consumer.subscribe([topic.clone()]).unwrap();
    let error = consumer.recv().await.unwrap_err();
    assert!(matches!(error, Error::ShareGroup { .. }), "{error:?}");
    assert!(error.to_string().contains(&group), "{error}");
    consumer.close(PATIENCE).await.unwrap();
    member.close(PATIENCE).await.unwrap();
}
