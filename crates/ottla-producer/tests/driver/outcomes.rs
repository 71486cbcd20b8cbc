//! The ways to learn outcomes, and to give up on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ottla_producer::{
    Compression, ProducerConfig, ProducerRecord, Purge, SendError, delivery_stream,
};
use ottla_wire::ErrorCode;
use parking_lot::Mutex;

use crate::kafka::{Act, Kafka, config, numbers, send};

const LINGERING: Duration = Duration::from_secs(30);

fn lingering() -> ProducerConfig {
    ProducerConfig {
        linger: LINGERING,
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_does_not_linger() {
    let kafka = Kafka::start(1, 2);
    let producer = kafka.producer(lingering());
    let neighbour = send(&producer, 0, "0").await;
    let elsewhere = send(&producer, 1, "0").await;
    let start = tokio::time::Instant::now();
    let record = ProducerRecord::to("clicks").partition(0).value("1");
    let written = producer.produce_and_wait(record).await.unwrap();
    assert!(start.elapsed() < LINGERING / 10);
    assert_eq!(written.offset(), Some(1));
    assert_eq!(neighbour.await.unwrap().offset(), Some(0), "the same batch");
    assert!(start.elapsed() < LINGERING / 10);
    let mut elsewhere = elsewhere;
    assert!(
        elsewhere.try_outcome().is_none(),
        "no other batch is hurried"
    );
}

#[tokio::test(start_paused = true)]
async fn many_are_sent_with_one_call_and_a_refusal_tells_what_was_accepted() {
    let kafka = Kafka::start(1, 1);
    let producer = kafka.producer(config());
    let texts = numbers(500);
    let records = || {
        let records = texts.iter();
        records.map(|text| ProducerRecord::to("clicks").partition(0).value(text))
    };
    let deliveries = producer.send_all(records()).await.unwrap();
    for (n, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset(), Some(n as i64));
    }
    let nowhere = ProducerRecord::to("clicks").partition(7);
    let records = records().take(3).chain([nowhere]).chain(records());
    let error = producer.send_all(records).await.unwrap_err();
    assert!(
        matches!(error.error, SendError::UnknownPartition { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("record 3 "), "{error}");
    for delivery in error.accepted {
        delivery.await.unwrap();
    }
    assert_eq!(kafka.values(0).len(), 503);
}

#[tokio::test(start_paused = true)]
async fn callbacks_are_called_once_each_before_a_flush_returns() {
    let kafka = Kafka::start(1, 1);
    let mut requests = 0;
    kafka.fault(move |_, _, records| {
        requests += 1;
        match requests {
            1 if records.len() > 200 => Act::Answer(ErrorCode::MESSAGE_TOO_LARGE),
            _ => Act::Append,
        }
    });
    let producer = kafka.producer(lingering());
    let seen = Arc::new(Mutex::new(Vec::new()));
    for n in 0..50 {
        let seen = seen.clone();
        let delivery = send(&producer, 0, &n.to_string()).await;
        delivery.on_outcome(move |outcome| {
            seen.lock().push((n, outcome.unwrap().offset()));
            assert_ne!(n, 20, "a callback that panics harms nobody");
        });
    }
    producer.flush(Duration::from_secs(5)).await.unwrap();
    let mut told = seen.lock().clone();
    told.sort_unstable();
    let expected: Vec<_> = (0..50).map(|n| (n, Some(i64::from(n)))).collect();
    assert_eq!(told, expected, "also of a batch that was cut in pieces");

    // One whose outcome is known is told at once.
    let delivery = send(&producer, 0, "x").await;
    producer.flush(Duration::from_secs(5)).await.unwrap();
    let called = Arc::new(AtomicU32::new(0));
    let own = called.clone();
    delivery.on_outcome(move |outcome| {
        own.fetch_add(u32::from(outcome.is_ok()), Ordering::Relaxed);
    });
    assert_eq!(called.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_every_outcome_with_its_tag_and_ends() {
    let kafka = Kafka::start(2, 4);
    let mut requests = 0;
    kafka.fault(move |_, partition, records| {
        requests += 1;
        match (partition, requests) {
            (2, _) => Act::Answer(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            (_, ..6) if records.len() > 300 => Act::Answer(ErrorCode::MESSAGE_TOO_LARGE),
            _ => Act::Append,
        }
    });
    let producer = kafka.producer(ProducerConfig {
        linger: Duration::from_millis(20),
        ..Default::default()
    });
    let (sink, mut reports) = delivery_stream();
    let sending = {
        let (producer, sink) = (producer.clone(), sink.clone());
        tokio::spawn(async move {
            for n in 0..400 {
                sink.add(send(&producer, n % 4, &n.to_string()).await, n);
                if n % 40 == 0 {
                    tokio::time::sleep(Duration::from_millis(7)).await;
                }
            }
        })
    };
    drop(sink);
    let mut told = Vec::new();
    while let Some((n, outcome)) = reports.next().await {
        match outcome {
            Ok(written) => {
                assert_eq!((written.partition(), n % 4 == 2), (n % 4, false));
                assert_eq!(written.offset(), Some(i64::from(n / 4)));
                assert!(written.attempts() >= 1 && written.queued() <= written.latency());
            }
            Err(error) => assert!(
                n % 4 == 2 && error.to_string().contains("clicks[2]"),
                "{error}"
            ),
        }
        told.push(n);
    }
    sending.await.unwrap();
    told.sort_unstable();
    assert_eq!(told, (0..400).collect::<Vec<_>>());
    assert_eq!(reports.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_last_sink_also_while_it_is_awaited() {
    let (sink, mut reports) = delivery_stream::<()>();
    let waiting = tokio::spawn(async move { reports.next().await.is_none() });
    tokio::task::yield_now().await;
    let other = sink.clone();
    drop(sink);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(other);
    assert!(waiting.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_keeps_nothing() {
    let kafka = Kafka::start(1, 1);
    let producer = kafka.producer(config());
    let (sink, reports) = delivery_stream();
    let tag = Arc::new(());
    sink.add(send(&producer, 0, "known").await, tag.clone());
    producer.flush(Duration::from_secs(5)).await.unwrap();
    sink.add(send(&producer, 0, "open").await, tag.clone());
    assert_eq!((Arc::strong_count(&tag), reports.open()), (3, 1));
    drop(reports);
    sink.add(send(&producer, 0, "late").await, tag.clone());
    assert_eq!(Arc::strong_count(&tag), 1);
    producer.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!(kafka.values(0), ["known", "open", "late"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_can_be_purged_and_what_comes_after_is_sent() {
    for compression in [Compression::None, Compression::Zstd] {
        let kafka = Kafka::start(1, 3);
        let producer = kafka.producer(ProducerConfig {
            compression,
            ..lingering()
        });
        let mut doomed = Vec::new();
        for n in 0..300 {
            doomed.push(send(&producer, n % 3, &"x".repeat(500)).await);
        }
        assert_eq!(producer.len(), 300);
        producer.purge(Purge::QUEUED);
        for delivery in doomed {
            let error = delivery.await.unwrap_err();
            assert!(matches!(error, SendError::Purged), "{error}");
        }
        assert!(producer.is_empty());
        assert_eq!(producer.buffered_bytes(), 0);
        let record = ProducerRecord::to("clicks").partition(1).value("after");
        assert_eq!(
            producer.produce_and_wait(record).await.unwrap().offset(),
            Some(0)
        );
        assert_eq!(kafka.values(1), ["after"]);
        producer.close(Duration::from_secs(1)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn purging_says_of_what_left_that_nobody_knows() {
    let kafka = Kafka::start(1, 1);
    let answering = Arc::new(AtomicU32::new(0));
    let mode = answering.clone();
    kafka.fault(move |_, _, _| match mode.load(Ordering::Relaxed) {
        0 => Act::Delay(Duration::from_secs(5)),
        1 => Act::Answer(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        _ => Act::Append,
    });
    let producer = kafka.producer(config());
    let mut flying = send(&producer, 0, "flying").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut waiting = send(&producer, 0, "waiting").await;
    producer.purge(Purge::QUEUED);
    assert!(flying.try_outcome().is_none());
    assert!(matches!(
        waiting.try_outcome(),
        Some(Err(SendError::Purged))
    ));
    producer.purge(Purge::IN_FLIGHT);
    let error = flying.try_outcome().unwrap().unwrap_err();
    assert!(error.possibly_written(), "{error}");
    assert!(error.to_string().contains("purged"), "{error}");
    assert_eq!(producer.len(), 0);

    // What is being sent again after an answer that left a doubt is in doubt, too.
    answering.store(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let again = send(&producer, 0, "again").await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    producer.purge(Purge::ALL);
    assert!(again.await.unwrap_err().possibly_written());

    // The producer goes on, and no sequence is used for two batches.
    answering.store(2, Ordering::Relaxed);
    for n in 0..20 {
        send(&producer, 0, &n.to_string()).await.await.unwrap();
    }
    let mut expected = vec!["flying".to_owned()];
    expected.extend(numbers(20));
    assert_eq!(kafka.values(0), expected);
    producer.close(Duration::from_secs(1)).await.unwrap();
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_open_records_is_exact() {
    let kafka = Kafka::start(1, 2);
    kafka.fault(|_, _, _| Act::Delay(Duration::from_millis(100)));
    let producer = kafka.producer(ProducerConfig {
        linger: Duration::from_millis(10),
        ..Default::default()
    });
    let mut last = Vec::new();
    for n in 0..100 {
        assert_eq!(producer.len(), n);
        last.push(send(&producer, (n % 2) as i32, "x").await);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(producer.len(), 100, "in flight");
    producer.flush(Duration::from_secs(1)).await.unwrap();
    assert!(producer.is_empty());
    drop(last);
    let metrics = producer.metrics();
    assert_eq!(
        (metrics.records_accepted, metrics.records_delivered),
        (100, 100)
    );
}
