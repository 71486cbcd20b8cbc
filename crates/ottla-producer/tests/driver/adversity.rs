//! Brokers that forget, topics that change, answers that contradict each other.

use std::sync::Arc;
use std::time::Duration;

use ottla_net::ClusterConfig;
use ottla_producer::{Producer, ProducerConfig, ProducerRecord, SendError};
use ottla_wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_wire::record::Batches;
use ottla_wire::{Bytes, ErrorCode};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::kafka::{Act, Kafka, config, numbers, send};

/// Producer id, epoch and first sequence of a batch.
fn stamp(records: &Bytes) -> (i64, i16, i32) {
    let batch = Batches::new(records.clone()).next().unwrap().unwrap();
    let header = batch.header();
    (
        header.producer_id(),
        header.producer_epoch(),
        header.base_sequence(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_producer_goes_on_under_a_new_epoch() {
    for code in [
        ErrorCode::UNKNOWN_PRODUCER_ID,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
    ] {
        let kafka = Kafka::start(1, 2);
        let stamps = Arc::new(Mutex::new(Vec::new()));
        let (seen, mut count) = (stamps.clone(), 0);
        kafka.fault(move |_, partition, records| {
            count += i32::from(partition == 0);
            seen.lock().push((partition, stamp(records)));
            match (partition, count) {
                (0, 5) => Act::Answer(code),
                _ => Act::Append,
            }
        });
        let producer = kafka.producer(config());
        for n in 0..10 {
            let other = send(&producer, 1, &n.to_string()).await;
            let written = send(&producer, 0, &n.to_string()).await.await.unwrap();
            assert_eq!(written.offset(), Some(i64::from(n)), "{code}");
            other.await.unwrap();
        }
        assert_eq!(kafka.values(0), numbers(10), "{code}");
        assert_eq!(kafka.values(1), numbers(10), "{code}");
        let stamps = stamps.lock();
        let (id, ..) = stamps[0].1;
        let bumped: Vec<_> = stamps
            .iter()
            .filter(|(p, _)| *p == 0)
            .map(|(_, s)| *s)
            .collect();
        assert_eq!(
            bumped[5],
            (id, 1, 0),
            "{code}: the refused batch, first of its epoch"
        );
        assert!(
            stamps
                .iter()
                .all(|(_, (of, epoch, _))| *of == id && *epoch <= 1)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_made_anew_takes_what_comes_after() {
    let kafka = Kafka::start(1, 1);
    let producer = kafka.producer(config());
    for n in 0..5 {
        send(&producer, 0, &n.to_string()).await.await.unwrap();
    }
    let id = kafka.brokers.add_topic("clicks", 1);
    *kafka.only_id.lock() = Some(id);
    kafka.logs.lock().clear();
    let start = Instant::now();
    for n in 0..5 {
        let written = send(&producer, 0, &n.to_string()).await.await.unwrap();
        assert_eq!(written.offset(), Some(n));
    }
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(kafka.values(0), numbers(5));
    assert!(kafka.requests().last().unwrap().ids.contains(&id));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_went_and_came_back_uses_no_sequence_twice() {
    let kafka = Kafka::start(1, 2);
    let stamps = Arc::new(Mutex::new(Vec::new()));
    let seen = stamps.clone();
    kafka.fault(move |_, partition, records| {
        if partition == 1 {
            seen.lock().push(stamp(records));
        }
        Act::Append
    });
    let producer = kafka.producer(config());
    for n in 0..3 {
        send(&producer, 1, &n.to_string()).await.await.unwrap();
    }
    for partitions in [1, 2] {
        let id = kafka.brokers.add_topic("clicks", partitions);
        *kafka.only_id.lock() = Some(id);
        kafka.logs.lock().clear();
        send(&producer, 0, "noticed").await.await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let record = ProducerRecord::to("clicks").partition(1).value("x");
        let sent = producer.send(record).await;
        assert_eq!(sent.is_ok(), partitions == 2);
        if let Ok(delivery) = sent {
            delivery.await.unwrap();
        }
    }
    let mut stamps = stamps.lock().clone();
    let count = stamps.len();
    stamps.sort_unstable();
    stamps.dedup();
    assert_eq!((count, stamps.len()), (4, 4), "{stamps:?}");
}

#[tokio::test(start_paused = true)]
async fn partitions_added_while_it_runs_are_found() {
    let kafka = Kafka::start(1, 2);
    let producer = kafka.producer(config());
    send(&producer, 0, "0").await.await.unwrap();
    kafka.brokers.grow_topic("clicks", 4);
    let record = ProducerRecord::to("clicks").partition(3).value("x");
    let error = producer.send(record).await.unwrap_err();
    assert!(
        matches!(error, SendError::UnknownPartition { count: 2, .. }),
        "{error}"
    );
    // The refusal had the metadata looked at.
    sleep(Duration::from_secs(1)).await;
    producer.send(record).await.unwrap().await.unwrap();
    send(&producer, 0, "1").await.await.unwrap();
    assert_eq!(kafka.values(0), numbers(2));
    assert_eq!(kafka.values(3), ["x"]);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_producer_waits_and_fails_nothing() {
    let kafka = Kafka::start(1, 1);
    let config = ProducerConfig {
        request_timeout: Duration::from_secs(2),
        ..config()
    };
    let producer = kafka.producer(config);
    *kafka.throttle_ms.lock() = 10_000;
    send(&producer, 0, "0").await.await.unwrap();
    let start = Instant::now();
    let deliveries = [send(&producer, 0, "1").await, send(&producer, 0, "2").await];
    for delivery in deliveries {
        assert_eq!(delivery.await.unwrap().attempts(), 1);
    }
    let waited = start.elapsed();
    assert!((10..12).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(kafka.values(0), numbers(3));
}

#[tokio::test(start_paused = true)]
async fn a_topic_tried_without_waiting_is_there_soon() {
    let kafka = Kafka::start(1, 1);
    let producer = kafka.producer(config());
    send(&producer, 0, "0").await.await.unwrap();
    kafka.brokers.add_topic("orders", 1);
    let record = ProducerRecord::to("orders").value("x");
    let start = Instant::now();
    let delivery = loop {
        match producer.try_send(record) {
            Ok(delivery) => break delivery,
            Err(SendError::TopicNotLoaded { .. }) => sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("{error}"),
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    };
    delivery.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_may_be_written_is_not_cut_in_pieces() {
    let kafka = Kafka::start(1, 1);
    let mut count = 0;
    kafka.fault(move |_, _, records| {
        count += 1;
        match count {
            // The limit is lowered while the answer is lost.
            1 => Act::AppendAndClose,
            _ if records.len() > 500 => Act::Answer(ErrorCode::MESSAGE_TOO_LARGE),
            _ => Act::Append,
        }
    });
    let producer = kafka.producer(ProducerConfig::default());
    let mut deliveries = Vec::new();
    for n in 0..20 {
        deliveries.push(send(&producer, 0, &format!("{n:0100}")).await);
    }
    for delivery in deliveries {
        assert!(delivery.await.unwrap_err().possibly_written());
    }
    send(&producer, 0, "after").await.await.unwrap();
    let values = kafka.values(0);
    assert_eq!(values.len(), 21, "{values:?}");
}

#[tokio::test(start_paused = true)]
async fn no_batch_is_larger_than_a_request_may_be() {
    let kafka = Kafka::start(1, 1);
    let largest = Arc::new(Mutex::new(0));
    let seen = largest.clone();
    kafka.fault(move |_, _, records| {
        let mut largest = seen.lock();
        *largest = records.len().max(*largest);
        Act::Append
    });
    let config = ProducerConfig {
        max_request_size: 2_000,
        ..ProducerConfig::default()
    };
    let producer = kafka.producer(config);
    let mut deliveries = Vec::new();
    for n in 0..100 {
        deliveries.push(send(&producer, 0, &format!("{n:0100}")).await);
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let largest = *largest.lock();
    assert!((1_000..=2_000).contains(&largest), "{largest}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_identity_is_told_for_every_topic_also_later_ones() {
    let kafka = Kafka::start(1, 1);
    kafka.brokers.add_topic("orders", 1);
    kafka.brokers.broker(1).on::<InitProducerIdRequest>(|_, _| {
        InitProducerIdResponse {
            error_code: ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
            ..Default::default()
        }
        .into()
    });
    let producer = kafka.producer(config());
    let error = send(&producer, 0, "0").await.await.unwrap_err();
    assert!(matches!(error, SendError::Fatal { .. }), "{error}");
    for topic in ["clicks", "orders"] {
        let sent = producer.send(ProducerRecord::to(topic).value("x")).await;
        assert!(
            matches!(sent, Err(SendError::Fatal { .. })),
            "{topic}: {sent:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn closing_turns_away_who_waits_for_a_topic() {
    let kafka = Kafka::start(1, 1);
    let producer = kafka.producer(config());
    let waiting = producer.clone();
    let waiting = tokio::spawn(async move {
        let record = ProducerRecord::to("nowhere").value("x");
        waiting.send(record).await.map(drop)
    });
    sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    producer.close(Duration::from_secs(5)).await.unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(SendError::Closed)));
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn waiting_for_ever_is_allowed() {
    let kafka = Kafka::start(1, 1);
    let config = ProducerConfig {
        max_block: Duration::MAX,
        ..config()
    };
    let producer = kafka.producer(config);
    let delivery = send(&producer, 0, "0").await;
    producer.flush(Duration::MAX).await.unwrap();
    delivery.await.unwrap();
    producer.close(Duration::MAX).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_patience_below_the_connections_is_refused() {
    let kafka = Kafka::start(1, 1);
    let cluster = kafka.brokers.connect_with(ClusterConfig {
        request_timeout: Duration::from_secs(30),
        ..kafka.brokers.config()
    });
    let config = ProducerConfig {
        request_timeout: Duration::from_secs(5),
        ..config()
    };
    let error = Producer::new(cluster, config).unwrap_err();
    assert_eq!(error.setting, "request.timeout.ms");
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_lost_records_is_not_sent_again_as_fast_as_it_is_refused() {
    let kafka = Kafka::start(1, 2);
    let mut seen = 0;
    kafka.fault(move |_, partition, _| {
        if partition == 1 {
            // Keeps the answer of the whole request waiting.
            return Act::Delay(Duration::from_millis(50));
        }
        seen += 1;
        match seen {
            // The first batch is in doubt, and then lost.
            2 => Act::Answer(ErrorCode::REQUEST_TIMED_OUT),
            5 => Act::Answer(ErrorCode::MESSAGE_TOO_LARGE),
            // The second is not; the third is in doubt, so it must not get other sequences.
            3 => Act::Answer(ErrorCode::NOT_ENOUGH_REPLICAS),
            4 => Act::Close,
            // The log finds that nothing follows what it has.
            _ => Act::Append,
        }
    });
    let producer = kafka.producer(ProducerConfig {
        delivery_timeout: Duration::from_secs(40),
        ..config()
    });
    send(&producer, 0, "0").await.await.unwrap();
    let mut deliveries = Vec::new();
    for n in 1..4 {
        deliveries.push(send(&producer, 0, &n.to_string()).await);
        if n < 3 {
            let _same_request = send(&producer, 1, "x").await;
        }
        sleep(Duration::from_millis(1)).await;
    }
    let third = deliveries.pop().unwrap();
    for delivery in deliveries {
        delivery.await.unwrap_err();
    }
    third.await.unwrap_err();
    let requests = kafka.requests().len();
    assert!((6..100).contains(&requests), "{requests} requests");
    send(&producer, 0, "4").await.await.unwrap();
    assert_eq!(kafka.values(0), ["0", "4"]);
}
