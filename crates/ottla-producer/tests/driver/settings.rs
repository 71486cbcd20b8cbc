//! Settings that change what happens to records: bounds, guarantees, topics of their own.

use std::time::Duration;

use ottla_producer::{
    Acks, Compression, Partitioning, ProducerConfig, ProducerRecord, SendError, TopicConfig,
};
use ottla_wire::ErrorCode;

use crate::kafka::{Act, Kafka, config, send};

#[tokio::test(start_paused = true)]
async fn no_more_records_are_under_way_than_allowed() {
    let kafka = Kafka::start(1, 2);
    kafka.fault(|_, _, _| Act::Delay(Duration::from_millis(100)));
    let producer = kafka.producer(ProducerConfig {
        buffer_records_max: 10,
        linger: Duration::from_secs(10),
        max_block: Duration::from_millis(50),
        ..Default::default()
    });
    let record = ProducerRecord::to("clicks").value("x");
    let first = producer.send(record).await.unwrap();
    let mut deliveries = vec![first];
    for _ in 1..10 {
        deliveries.push(producer.try_send(record).unwrap());
    }
    let error = producer.try_send(record).unwrap_err();
    assert!(
        matches!(
            error,
            SendError::QueueFull {
                records_max: 10,
                ..
            }
        ),
        "{error}"
    );
    let error = producer.send(record).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("queue.buffering.max.messages (10)"),
        "{error}"
    );
    // Who waits has the others' batches sent, although they linger.
    tokio::time::sleep(Duration::from_millis(60)).await;
    for _ in 0..30 {
        let sent = loop {
            match producer.send(record).await {
                Ok(sent) => break sent,
                Err(SendError::QueueFull { .. }) => assert!(producer.len() <= 10),
                Err(error) => panic!("{error}"),
            }
        };
        assert!(producer.len() <= 10);
        deliveries.push(sent);
    }
    // A record that is refused for another reason takes no place.
    for _ in 0..30 {
        producer.try_send(record.partition(9)).unwrap_err();
        producer.try_send(record.timestamp(-1)).unwrap_err();
    }
    producer.flush(Duration::from_secs(5)).await.unwrap();
    for _ in 0..10 {
        deliveries.push(producer.try_send(record).unwrap());
    }
    producer.close(Duration::from_secs(5)).await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_gap_a_gapless_producer_sends_nothing_more() {
    for gapless in [true, false] {
        let kafka = Kafka::start(1, 2);
        kafka.fault(|_, partition, records| match partition {
            1 if records.windows(3).any(|part| part == b"bad") => {
                Act::Answer(ErrorCode::INVALID_RECORD)
            }
            _ => Act::Append,
        });
        let producer = kafka.producer(ProducerConfig {
            gapless,
            ..config()
        });
        send(&producer, 1, "good").await.await.unwrap();
        let bad = send(&producer, 1, "bad").await;
        let refused = bad.await.unwrap_err();
        assert!(matches!(refused, SendError::Refused { .. }), "{refused}");
        for partition in [0, 1] {
            let record = ProducerRecord::to("clicks")
                .partition(partition)
                .value("next");
            let next = producer.produce_and_wait(record).await;
            match gapless {
                false => drop(next.unwrap()),
                true => {
                    let error = next.unwrap_err();
                    assert!(matches!(error, SendError::Fatal { .. }), "{error}");
                    let text = error.to_string();
                    assert!(
                        text.contains("enable.gapless.guarantee")
                            && text.contains("INVALID_RECORD"),
                        "{text}"
                    );
                }
            }
        }
        assert_eq!(kafka.values(1).len(), if gapless { 1 } else { 2 });
        producer.close(Duration::from_secs(1)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn time_that_ran_out_leaves_a_gapless_producer_alone() {
    let kafka = Kafka::start(1, 1);
    let mut requests = 0;
    kafka.fault(move |_, _, _| {
        requests += 1;
        match requests {
            ..100 => Act::Answer(ErrorCode::NOT_ENOUGH_REPLICAS),
            _ => Act::Append,
        }
    });
    let producer = kafka.producer(ProducerConfig {
        gapless: true,
        delivery_timeout: Duration::from_secs(31),
        retry_backoff: Duration::from_secs(1),
        ..config()
    });
    let error = send(&producer, 0, "late").await.await.unwrap_err();
    assert!(matches!(error, SendError::TimedOut { .. }), "{error}");
    kafka.fault(|_, _, _| Act::Append);
    send(&producer, 0, "next").await.await.unwrap();
}

#[test]
fn a_gapless_producer_needs_idempotence() {
    let config = ProducerConfig {
        gapless: true,
        acks: Acks::Leader,
        ..Default::default()
    };
    assert_eq!(
        config.validate().unwrap_err().setting,
        "enable.gapless.guarantee"
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_does_not_get_smaller_goes_out_plain() {
    for compression in [
        Compression::Gzip,
        Compression::Lz4,
        Compression::Snappy,
        Compression::Zstd,
    ] {
        let kafka = Kafka::start(1, 2);
        let codecs = std::sync::Arc::new(parking_lot::Mutex::new([99; 2]));
        let seen = codecs.clone();
        kafka.fault(move |_, partition, records| {
            seen.lock()[partition as usize] = records[22] & 7;
            Act::Append
        });
        let producer = kafka.producer(ProducerConfig {
            compression,
            linger: Duration::from_millis(5),
            ..Default::default()
        });
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
            .take(2000)
            .collect();
        let record = ProducerRecord::to("clicks");
        let plain = producer
            .send(record.partition(0).value(&noise))
            .await
            .unwrap();
        let packed = producer
            .send(record.partition(1).value(&[7; 2000]))
            .await
            .unwrap();
        plain.await.unwrap();
        packed.await.unwrap();
        let codecs = *codecs.lock();
        assert_eq!(codecs[0], 0, "{compression:?}");
        assert_ne!(codecs[1], 0, "{compression:?}");
        let metrics = producer.metrics();
        assert!(metrics.sealed_bytes < metrics.plain_bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_may_differ_from_its_producer() {
    let kafka = Kafka::start(1, 1);
    let own = TopicConfig {
        acks: Some(Acks::Leader),
        compression: Some(Compression::Gzip),
        compression_level: Some(9),
        partitioner: Some(Partitioning::Explicit),
        delivery_timeout: Some(Duration::from_secs(40)),
    };
    let mut settings = ProducerConfig {
        enable_idempotence: Some(false),
        linger: Duration::from_millis(20),
        ..Default::default()
    };
    settings.topics.insert("views".into(), own);
    kafka.brokers.add_topic("views", 1);
    let codecs = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = codecs.clone();
    kafka.fault(move |_, _, records| {
        seen.lock().push(records[22] & 7);
        Act::Append
    });
    let producer = kafka.producer(settings);
    let record =
        |topic| ProducerRecord::to(topic).value("the same the same the same the same the same");
    let error = producer.send(record("views")).await.unwrap_err();
    assert!(error.to_string().contains("names no partition"), "{error}");
    let clicks = producer.send(record("clicks")).await.unwrap();
    let views = producer.send(record("views").partition(0)).await.unwrap();
    clicks.await.unwrap();
    views.await.unwrap();
    let seen = kafka.requests();
    // Both leave at the same moment, to the same broker, and cannot share a request.
    let mut acks: Vec<i16> = seen.iter().map(|seen| seen.acks).collect();
    acks.sort_unstable();
    assert_eq!(acks, [-1, 1]);
    let mut codecs = codecs.lock().clone();
    codecs.sort_unstable();
    assert_eq!(codecs, [0, 1], "none and gzip");

    kafka.fault(|_, _, _| Act::Answer(ErrorCode::NOT_ENOUGH_REPLICAS));
    let start = tokio::time::Instant::now();
    let views = producer.send(record("views").partition(0)).await.unwrap();
    let clicks = producer.send(record("clicks")).await.unwrap();
    views.await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 40);
    clicks.await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 120);
}

#[test]
fn a_topics_settings_are_checked() {
    let with = |topic: TopicConfig| {
        let mut config = ProducerConfig {
            enable_idempotence: Some(true),
            ..Default::default()
        };
        config.topics.insert("views".into(), topic);
        config.validate().unwrap_err().setting
    };
    let acks = TopicConfig {
        acks: Some(Acks::None),
        ..Default::default()
    };
    assert_eq!(with(acks), "acks");
    let timeout = TopicConfig {
        delivery_timeout: Some(Duration::from_secs(1)),
        ..Default::default()
    };
    assert_eq!(with(timeout), "delivery.timeout.ms");
    let level = TopicConfig {
        compression: Some(Compression::Gzip),
        compression_level: Some(77),
        ..Default::default()
    };
    assert_eq!(with(level), "compression.level");
}
