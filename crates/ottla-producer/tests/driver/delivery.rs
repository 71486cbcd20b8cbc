//! What becomes of records: order, offsets, retries, errors, memory.

use std::collections::HashSet;
use std::time::Duration;

use ottla_producer::{Acks, Compression, ProducerConfig, ProducerRecord, SendError};
use ottla_wire::{ApiKey, ErrorCode, Uuid, VersionRange};

use crate::kafka::{Act, Kafka, config, numbers, send};

#[tokio::test(start_paused = true)]
async fn records_arrive_in_order_with_their_offsets() {
    let kafka = Kafka::start(3, 6);
    let producer = kafka.producer(config());
    for n in 0..100 {
        let written = send(&producer, n % 6, &n.to_string()).await.await.unwrap();
        assert_eq!(
            (written.partition(), written.offset()),
            (n % 6, Some(i64::from(n / 6)))
        );
    }
    producer.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!(producer.buffered_bytes(), 0);
    let seen = kafka.requests();
    assert!(
        seen.iter()
            .all(|seen| seen.version == 13 && !seen.ids.contains(&Uuid::ZERO))
    );
    assert!(
        seen.iter()
            .all(|seen| seen.partitions.iter().all(|p| p % 3 + 1 == seen.node))
    );
}

#[tokio::test(start_paused = true)]
async fn every_codec_and_acknowledgement_level_delivers() {
    for compression in Compression::ALL {
        for acks in [Acks::None, Acks::Leader, Acks::All] {
            let kafka = Kafka::start(1, 2);
            let config = ProducerConfig {
                compression,
                acks,
                batch_size: 20_000,
                ..Default::default()
            };
            let producer = kafka.producer(config);
            let value = |n: usize| format!("{n:06} {}", "payload ".repeat(20));
            let mut deliveries = Vec::new();
            for n in 0..1000 {
                deliveries.push(send(&producer, (n % 2) as i32, &value(n)).await);
            }
            producer.flush(Duration::from_secs(30)).await.unwrap();
            for delivery in deliveries {
                let written = delivery.await.unwrap();
                assert_eq!(written.offset().is_some(), acks != Acks::None);
            }
            producer.close(Duration::from_secs(5)).await.unwrap();
            let expected: Vec<String> = (0..500).map(|n| value(n * 2)).collect();
            // Without acknowledgement the last bytes may still be on their way.
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(kafka.values(0), expected, "{compression:?} {acks}");
            assert!(kafka.requests().iter().all(|seen| seen.acks == acks.wire()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_writes_nothing_twice() {
    for fate in 0..3 {
        let kafka = Kafka::start(1, 1);
        let mut count = 0;
        kafka.fault(move |_, _, _| {
            count += 1;
            match (count % 3, fate) {
                (0, 0) => Act::AppendAndClose,
                (0, 1) => Act::Close,
                (0, _) => Act::AppendAndSilence,
                _ => Act::Append,
            }
        });
        let producer = kafka.producer(config());
        let mut deliveries = Vec::new();
        for n in 0..40 {
            deliveries.push(send(&producer, 0, &n.to_string()).await);
            if n % 2 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        for (n, delivery) in deliveries.into_iter().enumerate() {
            assert_eq!(delivery.await.unwrap().offset(), Some(n as i64));
        }
        assert_eq!(kafka.values(0), numbers(40));
        producer.close(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn batches_follow_a_leader_that_moves() {
    for told in [false, true] {
        let kafka = Kafka::start(2, 1);
        let producer = kafka.producer(config());
        send(&producer, 0, "0").await.await.unwrap();
        let epoch = kafka.brokers.move_leader("clicks", 0, 2);
        kafka.fault(move |call, _, _| match (call.node, told) {
            (1, true) => Act::AnswerLeader(2, epoch),
            (1, false) => Act::Answer(ErrorCode::NOT_LEADER_OR_FOLLOWER),
            _ => Act::Append,
        });
        let start = tokio::time::Instant::now();
        for n in 1..20 {
            send(&producer, 0, &n.to_string()).await.await.unwrap();
        }
        assert_eq!(kafka.values(0), numbers(20));
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(1), "{waited:?}");
        if told {
            assert!(
                waited < Duration::from_millis(20),
                "a hint needs no backoff: {waited:?}"
            );
        }
        assert!(
            kafka
                .requests()
                .iter()
                .rev()
                .take(10)
                .all(|seen| seen.node == 2)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_fails_alone_and_its_sequences_are_not_used_again() {
    let kafka = Kafka::start(1, 2);
    let mut seen = 0;
    kafka.fault(move |_, partition, _| {
        seen += i32::from(partition == 0);
        match (partition, seen) {
            (0, 3) => Act::Answer(ErrorCode::INVALID_RECORD),
            _ => Act::Append,
        }
    });
    let producer = kafka.producer(config());
    let mut outcomes = Vec::new();
    for n in 0..6 {
        let other = send(&producer, 1, &n.to_string()).await;
        outcomes.push(send(&producer, 0, &n.to_string()).await.await);
        other.await.unwrap();
    }
    assert!(matches!(
        &outcomes[2],
        Err(SendError::Refused {
            code: ErrorCode::INVALID_RECORD,
            broker: 1,
            ..
        })
    ));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 5);
    assert_eq!(kafka.values(0), ["0", "1", "3", "4", "5"]);
    assert_eq!(kafka.values(1), numbers(6));
}

#[tokio::test(start_paused = true)]
async fn a_batch_too_large_is_split_and_a_record_too_large_is_refused() {
    let kafka = Kafka::start(1, 1);
    kafka.fault(|_, _, records| match records.len() > 2000 {
        true => Act::Answer(ErrorCode::MESSAGE_TOO_LARGE),
        false => Act::Append,
    });
    let producer = kafka.producer(ProducerConfig::default());
    let mut deliveries = Vec::new();
    for n in 0..100 {
        deliveries.push(send(&producer, 0, &format!("{n:0100}")).await);
    }
    deliveries.push(send(&producer, 0, &"x".repeat(5000)).await);
    deliveries.push(send(&producer, 0, "last").await);
    let mut refused = 0;
    for (n, delivery) in deliveries.into_iter().enumerate() {
        match delivery.await {
            Ok(written) if n < 100 => assert_eq!(written.offset(), Some(n as i64)),
            Ok(written) => assert_eq!((n, written.offset()), (101, Some(100))),
            Err(SendError::RecordTooLarge { size, limit, .. }) => {
                assert!(size > 5000 && limit.contains("max.message.bytes"));
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 1);
    let too_large = vec![0; 2 << 20];
    let record = ProducerRecord::to("clicks").value(&too_large);
    let error = producer.send(record).await.unwrap_err();
    assert!(error.to_string().contains("max.request.size"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_takes_no_batch_at_all_refuses_each_record_once() {
    let kafka = Kafka::start(1, 1);
    kafka.fault(|_, _, _| Act::Answer(ErrorCode::MESSAGE_TOO_LARGE));
    for compression in [Compression::None, Compression::Gzip] {
        let producer = kafka.producer(ProducerConfig {
            compression,
            ..Default::default()
        });
        let mut deliveries = Vec::new();
        for n in 0..7 {
            deliveries.push(send(&producer, 0, &n.to_string()).await);
        }
        let before = kafka.requests().len();
        for delivery in deliveries {
            let refused = tokio::time::timeout(Duration::from_secs(5), delivery).await;
            let refused = refused.expect("asked over and over").unwrap_err();
            assert!(
                matches!(refused, SendError::RecordTooLarge { .. }),
                "{refused}"
            );
        }
        // Seven in one batch; three and four; and so on down to single records.
        let requests = kafka.requests().len() - before;
        assert!(requests <= 16, "{requests}");
        assert_eq!(producer.buffered_bytes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_ran_out_of_time_says_whether_it_may_be_written() {
    let config = ProducerConfig {
        linger: Duration::ZERO,
        request_timeout: Duration::from_secs(2),
        delivery_timeout: Duration::from_secs(5),
        ..Default::default()
    };
    for (act, doubt) in [(0, false), (1, true)] {
        let kafka = Kafka::start(1, 1);
        let producer = kafka.producer(config.clone());
        send(&producer, 0, "0").await.await.unwrap();
        kafka.fault(move |_, _, _| match act {
            0 => Act::Answer(ErrorCode::NOT_ENOUGH_REPLICAS),
            _ => Act::Silence,
        });
        let start = tokio::time::Instant::now();
        let error = send(&producer, 0, "1").await.await.unwrap_err();
        assert_eq!(error.possibly_written(), doubt, "{error}");
        assert!(
            start.elapsed() <= Duration::from_millis(5100),
            "{:?}",
            start.elapsed()
        );
        if !doubt {
            assert!(error.to_string().contains("NOT_ENOUGH_REPLICAS"), "{error}");
        }
        // And the partition goes on, with sequences of its own.
        kafka.fault(|_, _, _| Act::Append);
        let written = send(&producer, 0, "2").await.await.unwrap();
        assert_eq!(written.offset(), Some(1));
        assert_eq!(kafka.values(0), ["0", "2"]);
        producer.close(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn five_requests_are_in_flight_and_all_else_waits_in_batches() {
    let kafka = Kafka::start(1, 1);
    let producer = kafka.producer(config());
    send(&producer, 0, "first").await.await.unwrap();
    kafka.fault(|_, _, _| Act::Delay(Duration::from_millis(50)));
    let mut deliveries = Vec::new();
    for n in 0..200 {
        deliveries.push(send(&producer, 0, &n.to_string()).await);
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    // One before; five while the first is answered; what came meanwhile in few more.
    assert!(kafka.requests().len() <= 10, "{}", kafka.requests().len());
    assert_eq!(kafka.values(0).len(), 201);
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_makes_callers_wait_and_try_send_fail() {
    let kafka = Kafka::start(1, 1);
    let config = ProducerConfig {
        buffer_memory: 10_000,
        max_request_size: 10_000,
        linger: Duration::from_secs(10),
        max_block: Duration::from_secs(3),
        ..Default::default()
    };
    let producer = kafka.producer(config);
    send(&producer, 0, "first").await.await.unwrap();
    kafka.fault(|_, _, _| Act::Answer(ErrorCode::NOT_ENOUGH_REPLICAS));
    let value = "x".repeat(1000);
    let record = ProducerRecord::to("clicks").partition(0).value(&value);
    let mut deliveries = Vec::new();
    let error = loop {
        match producer.try_send(record) {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => break error,
        }
    };
    assert!(matches!(
        error,
        SendError::BufferFull {
            capacity: 10_000,
            ..
        }
    ));
    assert!((7..=9).contains(&deliveries.len()), "{}", deliveries.len());
    let start = tokio::time::Instant::now();
    let error = producer.send(record).await.unwrap_err();
    assert!(matches!(error, SendError::BufferFull { .. }), "{error}");
    assert_eq!(start.elapsed(), Duration::from_secs(3));

    // A caller that gives up leaves nothing behind; one that stays is served.
    for patience in 0..20 {
        let send = producer.send(record);
        let _ = tokio::time::timeout(Duration::from_millis(patience), send).await;
    }
    kafka.fault(|_, _, _| Act::Append);
    deliveries.push(producer.send(record).await.unwrap());
    producer.flush(Duration::from_secs(20)).await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_lingers_is_sent_together_when_its_time_is_over_or_at_a_flush() {
    let kafka = Kafka::start(1, 8);
    let config = ProducerConfig {
        linger: Duration::from_millis(50),
        ..Default::default()
    };
    let producer = kafka.producer(config);
    let start = tokio::time::Instant::now();
    let mut last = None;
    for n in 0..80 {
        last = Some(send(&producer, n % 8, "x").await);
    }
    last.unwrap().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert!(kafka.requests().len() <= 2, "{:?}", kafka.requests());

    let start = tokio::time::Instant::now();
    let delivery = send(&producer, 0, "x").await;
    producer.flush(Duration::from_secs(5)).await.unwrap();
    assert!(
        start.elapsed() < Duration::from_millis(50),
        "flush does not linger"
    );
    delivery.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn close_ends_by_its_deadline_and_tells_what_was_not_delivered() {
    let kafka = Kafka::start(1, 2);
    let producer = kafka.producer(config());
    send(&producer, 0, "0").await.await.unwrap();
    kafka.fault(|_, _, _| Act::Silence);
    let in_flight = send(&producer, 0, "1").await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let clone = producer.clone();
    let start = tokio::time::Instant::now();
    let error = producer.close(Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(error.records(), 1);
    assert!(error.to_string().contains("clicks[0] (1)"), "{error}");
    assert!(in_flight.await.unwrap_err().possibly_written());
    let refused = clone.send(ProducerRecord::to("clicks").value("2")).await;
    assert!(matches!(refused, Err(SendError::Closed)));
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_producer_leaves_no_delivery_waiting() {
    let kafka = Kafka::start(1, 1);
    kafka.fault(|_, _, _| Act::Silence);
    let producer = kafka.producer(ProducerConfig {
        linger: Duration::from_secs(60),
        ..Default::default()
    });
    let lingering = send(&producer, 0, "0").await;
    drop(producer);
    assert!(matches!(lingering.await, Err(SendError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_is_waited_for_and_named() {
    let kafka = Kafka::start(1, 1);
    let config = ProducerConfig {
        max_block: Duration::from_secs(4),
        ..config()
    };
    let producer = kafka.producer(config);
    let record = ProducerRecord::to("orders").value("x");
    let (start, brokers) = (tokio::time::Instant::now(), kafka.brokers.clone());
    let error = producer.send(record).await.unwrap_err();
    assert!(matches!(error, SendError::TopicUnavailable { .. }));
    assert!(error.to_string().contains("orders"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 4);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        brokers.add_topic("orders", 1);
    });
    producer.send(record).await.unwrap().await.unwrap();

    let record = ProducerRecord::to("clicks").value("x").partition(7);
    let error = producer.send(record).await.unwrap_err();
    assert!(error.to_string().contains("has 1 partitions"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_partition_without_a_leader_waits_and_holds_up_no_other() {
    let kafka = Kafka::start(2, 2);
    kafka.brokers.move_leader("clicks", 0, -1);
    let producer = kafka.producer(config());
    let waits = send(&producer, 0, "0").await;
    for n in 0..10 {
        send(&producer, 1, &n.to_string()).await.await.unwrap();
    }
    kafka.brokers.move_leader("clicks", 0, 2);
    waits.await.unwrap();
    assert_eq!(kafka.values(0), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_down_is_named_when_time_runs_out() {
    let kafka = Kafka::start(2, 2);
    let config = ProducerConfig {
        request_timeout: Duration::from_secs(2),
        delivery_timeout: Duration::from_secs(5),
        ..config()
    };
    let producer = kafka.producer(config);
    send(&producer, 0, "0").await.await.unwrap();
    kafka.brokers.broker(2).kill();
    let lost = send(&producer, 1, "1").await;
    send(&producer, 0, "2").await.await.unwrap();
    let error = lost.await.unwrap_err();
    assert!(
        !error.possibly_written() && error.to_string().contains("broker 2"),
        "{error}"
    );
    kafka.brokers.broker(2).restart();
    send(&producer, 1, "3").await.await.unwrap();
    assert_eq!(kafka.values(1), ["3"]);
}

#[tokio::test(start_paused = true)]
async fn topics_are_named_where_brokers_know_no_ids() {
    let kafka = Kafka::start(1, 1);
    for broker in kafka.brokers.brokers() {
        broker.speak(ApiKey::Produce, Some(VersionRange { min: 3, max: 9 }));
    }
    let producer = kafka.producer(config());
    send(&producer, 0, "0").await.await.unwrap();
    assert!(
        kafka
            .requests()
            .iter()
            .all(|seen| seen.version == 9 && seen.named)
    );
}

#[tokio::test(start_paused = true)]
async fn keyless_records_stick_and_keyed_ones_go_where_java_puts_them() {
    let kafka = Kafka::start(1, 12);
    let producer = kafka.producer(config());
    let record = ProducerRecord::to("clicks").value("x");
    let written = producer
        .send(record.key("foobar"))
        .await
        .unwrap()
        .await
        .unwrap();
    assert_eq!(written.partition(), (-790_332_482i32 & i32::MAX) % 12);
    let mut partitions = HashSet::new();
    for _ in 0..100 {
        partitions.insert(
            producer
                .send(record)
                .await
                .unwrap()
                .await
                .unwrap()
                .partition(),
        );
    }
    assert_eq!(partitions.len(), 1);
}
