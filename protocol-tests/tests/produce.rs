//! What our producer writes, Kafka's tools and other clients read.
#![allow(clippy::unwrap_used)]

mod client;

use std::{collections::BTreeMap, time::Duration};

use client::{PATIENCE, producer, send, within};
use ottla_producer::{Acks, Compression, ProducerConfig, SendError};
use ottla_protocol_tests::{Kafka, Python, Sample, or_skip, sample, unique};

#[test]
fn every_codec_and_shape_is_read_by_kafka_and_librdkafka() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("produced");
    let codecs = Compression::ALL;
    // One codec, one partition.
    kafka.create_topic(&topic, codecs.len() as i32, &[("retention.ms", "-1")]);
    let mut samples = sample::every_shape();
    samples.push(sample::one_megabyte());
    within(PATIENCE, async {
        for (partition, compression) in codecs.into_iter().enumerate() {
            let config = ProducerConfig {
                compression,
                ..Default::default()
            };
            let producer = producer(kafka.bootstrap(), config);
            let mut deliveries = Vec::new();
            for sample in &samples {
                let to = Some(partition as i32);
                deliveries.push(send(&producer, &topic, to, sample).await.unwrap());
            }
            for (offset, delivery) in deliveries.into_iter().enumerate() {
                let written = delivery.await.unwrap();
                assert_eq!(written.partition(), partition as i32);
                assert_eq!(
                    written.offset(),
                    Some(offset as i64),
                    "in the order of sending"
                );
                assert_eq!(written.timestamp(), samples[offset].timestamp);
            }
            producer.close(PATIENCE).await.unwrap();
        }
    });

    let count = samples.len() * codecs.len();
    let mut by_kafka = kafka.tools().consume(&topic, count, &[]);
    by_kafka.sort_by_key(|seen| (seen.partition, seen.offset));
    for (codec, read) in codecs.iter().zip(by_kafka.chunks(samples.len())) {
        let read: Vec<_> = read.iter().map(|seen| seen.sample.clone()).collect();
        sample::assert_same(&format!("{codec:?} read by Kafka"), &read, &samples);
    }
    assert_eq!(by_kafka.len(), count);
    if let Some(python) = or_skip(Python::get()) {
        let mut by_python = python.consume(kafka.bootstrap(), &topic, count);
        by_python.sort_by_key(|seen| (seen.partition, seen.offset));
        let (python, java) = (samples_of(by_python), samples_of(by_kafka));
        sample::assert_same("librdkafka reads what Kafka reads", &python, &java);
    }

    let Some(cluster) = kafka.cluster() else {
        return;
    };
    let dumps = cluster.dump_all(1, &topic, codecs.len() as i32);
    for (codec, dump) in codecs.iter().zip(&dumps) {
        assert_eq!(dump.records, samples.len());
        assert!(
            dump.batches
                .iter()
                .any(|batch| batch["compresscodec"] == codec.name())
        );
        assert!(
            dump.numbers("producerId").iter().all(|&id| id >= 0),
            "idempotent by default"
        );
        assert_numbered(&dump.numbers("baseSequence"), &dump.numbers("count"));
    }
}

#[test]
fn each_setting_of_acks_arrives() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("acks");
    kafka.create_topic(&topic, 1, &[]);
    within(PATIENCE, async {
        for (acks, value) in [(Acks::None, "0"), (Acks::Leader, "1"), (Acks::All, "all")] {
            let config = ProducerConfig {
                acks,
                ..Default::default()
            };
            assert_eq!(config.idempotent(), acks == Acks::All);
            let producer = producer(kafka.bootstrap(), config);
            let sample = Sample::new(None, Some(value.as_bytes()));
            let delivery = send(&producer, &topic, None, &sample).await.unwrap();
            let offset = delivery.await.unwrap().offset();
            assert_eq!(offset.is_none(), acks == Acks::None, "acks=0 has no answer");
            producer.close(PATIENCE).await.unwrap();
        }
    });
    let read = kafka.tools().consume(&topic, 3, &[]);
    let mut values: Vec<_> = read
        .into_iter()
        .map(|seen| seen.sample.value.unwrap())
        .collect();
    values.sort(); // nobody waited for the record of acks=0
    assert_eq!(values, [&b"0"[..], b"1", b"all"]);
}

#[test]
fn keys_go_where_kafkas_producer_sends_them() {
    let Some(kafka) = Kafka::shared() else { return };
    let (ours, theirs) = (unique("ours"), unique("theirs"));
    let samples: Vec<_> = (0..200)
        .map(|index| Sample::new(Some(format!("key-{index}-\u{e9}").as_bytes()), Some(b"v")))
        .collect();
    for topic in [&ours, &theirs] {
        kafka.create_topic(topic, 7, &[]);
    }
    kafka.tools().produce(&theirs, "none", &samples);
    within(PATIENCE, async {
        let producer = producer(kafka.bootstrap(), ProducerConfig::default());
        for sample in &samples {
            drop(send(&producer, &ours, None, sample).await.unwrap());
        }
        producer.close(PATIENCE).await.unwrap();
    });
    let places = |topic: &str| -> BTreeMap<Vec<u8>, i32> {
        let seen = kafka.tools().consume(topic, samples.len(), &[]);
        seen.into_iter()
            .map(|seen| (seen.sample.key.unwrap(), seen.partition))
            .collect()
    };
    let (ours, theirs) = (places(&ours), places(&theirs));
    assert_eq!(ours.len(), samples.len());
    assert_eq!(ours, theirs);
}

#[test]
fn a_topic_with_log_append_time_answers_with_the_brokers_time() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("append-time");
    kafka.create_topic(&topic, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let before = sample::now_ms();
    let written = within(PATIENCE, async {
        let producer = producer(kafka.bootstrap(), ProducerConfig::default());
        let sample = Sample::new(None, Some(b"x")).at(1);
        let delivery = send(&producer, &topic, None, &sample).await.unwrap();
        producer.close(PATIENCE).await.unwrap();
        delivery.await.unwrap()
    });
    assert!(written.timestamp() >= before);
    let read = kafka.tools().consume(&topic, 1, &[]);
    assert!(read[0].log_append_time);
    assert_eq!(read[0].sample.timestamp, written.timestamp());
}

#[test]
fn what_cannot_be_written_says_why_in_time() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("refusals");
    kafka.create_topic(
        &topic,
        1,
        &[
            ("max.message.bytes", "10000"),
            ("cleanup.policy", "compact"),
        ],
    );
    within(PATIENCE, async {
        let config = ProducerConfig {
            max_block: Duration::from_secs(2),
            ..Default::default()
        };
        let producer = producer(kafka.bootstrap(), config);
        let sent = async |topic: &str, partition, size: usize, key| {
            let sample = Sample::new(key, Some(&vec![b'x'; size]));
            match send(&producer, topic, partition, &sample).await {
                Ok(delivery) => delivery.await.map(|_| ()),
                Err(error) => Err(error),
            }
        };
        let key = Some(&b"k"[..]);

        let error = sent(&topic, None, 2_000_000, key).await.unwrap_err();
        assert!(matches!(error, SendError::RecordTooLarge { .. }), "{error}");
        assert!(error.to_string().contains("max.request.size"), "{error}");

        let error = sent(&topic, None, 20_000, key).await.unwrap_err();
        assert!(matches!(error, SendError::RecordTooLarge { .. }), "{error}");
        assert!(error.to_string().contains("max.message.bytes"), "{error}");
        assert!(error.to_string().contains(&topic), "{error}");

        let error = sent(&topic, Some(7), 10, key).await.unwrap_err();
        assert!(
            matches!(error, SendError::UnknownPartition { count: 1, .. }),
            "{error}"
        );

        let error = sent(&topic, None, 10, None).await.unwrap_err();
        assert!(
            matches!(error, SendError::InvalidRecord { .. }),
            "no key on a compacted topic: {error}"
        );

        let unknown = unique("nowhere");
        let error = sent(&unknown, None, 10, key).await.unwrap_err();
        assert!(
            matches!(error, SendError::TopicUnavailable { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(&unknown), "{error}");

        sent(&topic, None, 10, key).await.unwrap();
        producer.close(PATIENCE).await.unwrap();
    });
    assert_eq!(kafka.tools().consume(&topic, 1, &[]).len(), 1);
}

fn samples_of(seen: Vec<ottla_protocol_tests::Seen>) -> Vec<Sample> {
    seen.into_iter().map(|seen| seen.sample).collect()
}

/// Each batch's first sequence is the number of records before it.
fn assert_numbered(base_sequences: &[i64], counts: &[i64]) {
    let mut next = 0;
    for (base, count) in base_sequences.iter().zip(counts) {
        assert_eq!(*base, next);
        next += count;
    }
}
