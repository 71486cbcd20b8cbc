//! What goes over the wire when nothing fails, and the rules of each protocol generation.

use std::time::Duration;

use ottla_producer::{
    Producer, ProducerConfig, ProducerRecord, SendError, TransactionError, TransactionalProducer,
};
use ottla_wire::{ApiKey, ErrorCode, VersionRange};
use tokio::time::Instant;

use crate::cluster::{Act, Cluster, ID, group};

pub(crate) fn record(partition: i32, value: &str) -> ProducerRecord<'_> {
    ProducerRecord::to("clicks")
        .partition(partition)
        .value(value)
}

#[tokio::test(start_paused = true)]
async fn each_generation_speaks_its_own_requests() {
    for is_v2 in [false, true] {
        let cluster = Cluster::start(is_v2);
        let mut producer = cluster.producer().await.unwrap();
        assert_eq!(producer.transactional_id(), ID);
        for round in 0..3 {
            let transaction = producer.begin().await.unwrap();
            for partition in 0..4 {
                let value = format!("{round}-{partition}");
                let _sent = transaction.send(record(partition, &value)).await.unwrap();
            }
            transaction
                .send_offsets([("orders", 0, round)], &group())
                .await
                .unwrap();
            assert!(cluster.world.lock().committed.len() <= 4 * round as usize);
            transaction.commit().await.unwrap();
            assert_eq!(cluster.committed().len(), 4 * (round as usize + 1));
            assert_eq!(cluster.world.lock().committed_offset, Some(round));
        }
        assert_eq!(cluster.count(ApiKey::EndTxn), 3);
        assert_eq!(
            cluster.count(ApiKey::InitProducerId),
            1,
            "epochs go on by themselves"
        );
        assert_eq!(
            cluster.count(ApiKey::AddOffsetsToTxn),
            if is_v2 { 0 } else { 3 }
        );
        let added = cluster.count(ApiKey::AddPartitionsToTxn);
        match is_v2 {
            true => assert_eq!(added, 0),
            // Partitions that come together are added together.
            false => assert!((3..12).contains(&added), "{added} requests"),
        }
        producer.close(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_generation_needs_the_requests_as_well_as_the_feature() {
    let cluster = Cluster::start(false);
    for broker in cluster.brokers.brokers() {
        broker.finalize_feature("transaction.version", 2);
        broker.speak(ApiKey::EndTxn, Some(VersionRange::new(0, 4)));
    }
    let mut producer = cluster.producer().await.unwrap();
    let transaction = producer.begin().await.unwrap();
    let _sent = transaction.send(record(0, "a")).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(cluster.committed(), ["a"]);
    assert_eq!(cluster.count(ApiKey::AddPartitionsToTxn), 1);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_of_nothing_asks_nobody() {
    for is_v2 in [false, true] {
        let cluster = Cluster::start(is_v2);
        let mut producer = cluster.producer().await.unwrap();
        producer.begin().await.unwrap().commit().await.unwrap();
        producer.begin().await.unwrap().abort().await.unwrap();
        drop(producer.begin().await.unwrap());
        let transaction = producer.begin().await.unwrap();
        let nothing: [(&str, i32, i64); 0] = [];
        transaction.send_offsets(nothing, &group()).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(cluster.count(ApiKey::EndTxn), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_takes_back_what_did_not_leave() {
    for is_v2 in [false, true] {
        let cluster = Cluster::start(is_v2);
        let mut producer = cluster.producer().await.unwrap();
        let transaction = producer.begin().await.unwrap();
        transaction
            .send(record(0, "sent"))
            .await
            .unwrap()
            .await
            .unwrap();
        // Its leader is gone: it waits.
        cluster.brokers.move_leader("clicks", 1, -1);
        cluster.fault(|api, _| match api {
            ApiKey::Produce => Act::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
            _ => Act::Do,
        });
        let waiting = transaction.send(record(1, "kept back")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let started = Instant::now();
        transaction.abort().await.unwrap();
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
        let error = waiting.await.unwrap_err();
        assert!(
            matches!(error, SendError::TransactionEnded { .. }),
            "{error}"
        );
        assert!(!error.possibly_written() && !error.is_retriable());
        assert_eq!(cluster.world.lock().aborted, ["sent"]);
        assert!(cluster.committed().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_waits_for_what_is_in_flight() {
    for is_v2 in [false, true] {
        let cluster = Cluster::start(is_v2);
        let mut producer = cluster.producer().await.unwrap();
        cluster.fault_once(
            ApiKey::Produce,
            0,
            Act::DoSlowly(Duration::from_millis(900)),
        );
        let transaction = producer.begin().await.unwrap();
        let slow = transaction.send(record(0, "slow")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let started = Instant::now();
        transaction.abort().await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(700));
        assert_eq!(
            slow.await.unwrap().offset(),
            Some(0),
            "written, and aborted"
        );
        assert_eq!(cluster.world.lock().aborted, ["slow"]);
        let seen = cluster.world.lock().seen.clone();
        assert_eq!(seen.last().unwrap().0, ApiKey::EndTxn);
    }
}

#[tokio::test(start_paused = true)]
async fn a_younger_instance_fences_the_older_one() {
    for is_v2 in [false, true] {
        let cluster = Cluster::start(is_v2);
        let mut old = cluster.producer().await.unwrap();
        let zombie = old.begin().await.unwrap();
        zombie
            .send(record(0, "zombie"))
            .await
            .unwrap()
            .await
            .unwrap();
        let mut young = cluster.producer().await.unwrap();
        assert_eq!(cluster.world.lock().aborted, ["zombie"]);
        let _ = zombie
            .send(record(0, "too late"))
            .await
            .unwrap()
            .await
            .unwrap_err();
        let failed = zombie.commit().await.unwrap_err();
        assert!(failed.error.requires_abort(), "{failed}");
        let fenced = failed
            .into_transaction()
            .unwrap()
            .abort()
            .await
            .unwrap_err();
        assert!(
            matches!(fenced, TransactionError::Fenced { .. }),
            "{fenced}"
        );
        assert!(fenced.is_fatal() && !fenced.possibly_committed());
        assert!(old.begin().await.unwrap_err().is_fatal());
        let _ = old.close(Duration::from_secs(1)).await;

        let transaction = young.begin().await.unwrap();
        let _sent = transaction.send(record(0, "young")).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(cluster.committed(), ["young"]);
    }
}

#[tokio::test(start_paused = true)]
async fn settings_are_checked() {
    let cluster = Cluster::start(true);
    let without = ProducerConfig {
        transactional_id: None,
        ..cluster.config()
    };
    let error = TransactionalProducer::init(cluster.brokers.connect(), without)
        .await
        .unwrap_err();
    assert!(
        error.is_fatal() && error.to_string().contains("transactional.id"),
        "{error}"
    );
    let error = Producer::new(cluster.brokers.connect(), cluster.config()).unwrap_err();
    assert_eq!(error.setting, "transactional.id");
    for broken in [
        ProducerConfig {
            enable_idempotence: Some(false),
            ..cluster.config()
        },
        ProducerConfig {
            transactional_id: Some(String::new()),
            ..cluster.config()
        },
        ProducerConfig {
            transaction_timeout: Duration::ZERO,
            ..cluster.config()
        },
    ] {
        let error = TransactionalProducer::init(cluster.brokers.connect(), broken)
            .await
            .unwrap_err();
        assert!(matches!(error, TransactionError::Config(_)), "{error}");
    }
    assert_eq!(cluster.count(ApiKey::InitProducerId), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_a_dropped_transaction() {
    for is_v2 in [false, true] {
        let cluster = Cluster::start(is_v2);
        let mut producer = cluster.producer().await.unwrap();
        let transaction = producer.begin().await.unwrap();
        transaction
            .send(record(0, "dropped"))
            .await
            .unwrap()
            .await
            .unwrap();
        drop(transaction);
        producer.close(Duration::from_secs(5)).await.unwrap();
        assert_eq!(cluster.world.lock().aborted, ["dropped"]);

        // And dropping both leaves it to the background.
        let mut producer = cluster.producer().await.unwrap();
        let transaction = producer.begin().await.unwrap();
        let flying = transaction.send(record(0, "dropped too")).await.unwrap();
        flying.await.unwrap();
        drop(transaction);
        drop(producer);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(cluster.world.lock().aborted, ["dropped", "dropped too"]);
    }
}
