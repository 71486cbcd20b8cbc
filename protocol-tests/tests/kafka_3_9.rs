//! The basics, on the oldest line of Kafka that is still maintained.
#![allow(clippy::unwrap_used)]

mod client;

use client::{
    PATIENCE, busy_member, by_brokers, member, producer, read, reader, reading, send, until, within,
};
use ottla_consumer::{ConsumerConfig, GroupProtocol};
use ottla_producer::{Compression, ProducerConfig};
use ottla_protocol_tests::{KafkaCluster, Options, Sample, Tool, Version, or_skip, sample, unique};

#[test]
fn kafka_3_9_and_we_read_each_other() {
    let options = Options {
        version: Version::V3_9,
        ..Options::default()
    };
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    let topic = unique("old");
    let codecs = Compression::ALL;
    kafka.create_topic(&topic, codecs.len() as i32, &[("retention.ms", "-1")]);
    let mut samples = sample::every_shape();
    samples.push(sample::one_megabyte());
    let bootstrap = kafka.bootstrap();

    within(PATIENCE * 2, async {
        for (partition, compression) in codecs.into_iter().enumerate() {
            let config = ProducerConfig {
                compression,
                ..Default::default()
            };
            let producer = producer(&bootstrap, config);
            let mut deliveries = Vec::new();
            for sample in &samples {
                let to = Some(partition as i32);
                deliveries.push(send(&producer, &topic, to, sample).await.unwrap());
            }
            for delivery in deliveries {
                delivery.await.unwrap();
            }
            producer.close(PATIENCE).await.unwrap();
        }
        let count = samples.len() * codecs.len();
        let consumer = member(&bootstrap, "old-group", &topic);
        let mut ours = read(&consumer, count).await;
        consumer.commit().await.unwrap();
        let described = tokio::task::block_in_place(|| {
            kafka.tools().run(
                Tool::ConsumerGroups,
                &["--describe", "--group", "old-group"],
            )
        });
        assert!(described.text().contains(&topic), "{}", described.text());
        consumer.close(PATIENCE).await.unwrap();
        ours.sort_by_key(|(at, offset, _)| (at.partition, *offset));
        for (codec, read) in codecs.iter().zip(ours.chunks(samples.len())) {
            let read: Vec<_> = read.iter().map(|(_, _, sample)| sample.clone()).collect();
            sample::assert_same(&format!("{codec:?} read by us"), &read, &samples);
        }
    });

    let mut theirs = kafka
        .tools()
        .consume(&topic, samples.len() * codecs.len(), &[]);
    theirs.sort_by_key(|seen| (seen.partition, seen.offset));
    for (codec, read) in codecs.iter().zip(theirs.chunks(samples.len())) {
        let read: Vec<_> = read.iter().map(|seen| seen.sample.clone()).collect();
        sample::assert_same(&format!("{codec:?} read by Kafka 3.9"), &read, &samples);
    }
    for dump in kafka.dump_all(1, &topic, codecs.len() as i32) {
        assert_eq!(dump.records, samples.len());
    }

    // The consumer protocol is too new for it: who insists is told, who leaves the choice reads.
    within(PATIENCE * 2, async {
        let insists = reading(&bootstrap, by_brokers("too-new"), &topic);
        until("it is told", || !insists.errors().is_empty()).await;
        let error = insists.errors().remove(0);
        assert!(error.contains("needs brokers of Kafka 4.0"), "{error}");
        insists.end().await;
        let auto = ConsumerConfig {
            group_protocol: GroupProtocol::Auto,
            ..busy_member("as-it-can")
        };
        let chooses = reading(&bootstrap, auto, &topic);
        let count = samples.len() * codecs.len();
        until("it reads all", || chooses.seen().len() == count).await;
        assert_eq!(chooses.errors(), [""; 0]);
        chooses.leave().await;
    });

    let console = unique("console");
    kafka.create_topic(&console, 1, &[]);
    let written = [Sample::new(Some(b"k"), Some(b"v")).header("h", Some(b"1"))];
    kafka.tools().produce(&console, "gzip", &written);
    let read = within(PATIENCE, async {
        let consumer = reader(&bootstrap, &console, 1);
        let read = read(&consumer, 1).await;
        consumer.close(PATIENCE).await.unwrap();
        read
    });
    assert_eq!(read[0].2.clone().at(0), written[0].clone().at(0));
}
