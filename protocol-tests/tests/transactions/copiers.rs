//! Records that are copied transactionally from topic to topic: by Kafka's own consume-transform-produce program and by one of
//! ours, each of which aborts now and then.

use std::collections::BTreeMap;

use ottla_consumer::{Consumer, ConsumerConfig, IsolationLevel, Offset, OffsetReset};
use ottla_producer::ProducerRecord;
use ottla_protocol_tests::{KafkaCluster, Tool, unique};
use tokio::task::block_in_place;

use crate::client::{PATIENCE, cluster, read};
use crate::{create, put, text, transactional, values};

const COUNT: usize = 120;

/// We write, Kafka's copier copies, ours copies what that one wrote, and Kafka's consumer and ours read it: at each step what
/// was committed is there once, and nothing that was aborted.
pub(crate) async fn kafkas_and_ours_pass_everything_on_once(kafka: &KafkaCluster) {
    let written = create(kafka, "written", 1, &[]);
    let by_kafka = create(kafka, "copied-by-kafka", 1, &[]);
    let by_us = create(kafka, "copied-by-us", 2, &[]);
    write(kafka, &written).await;
    block_in_place(|| copy_with_kafkas(kafka, &written, &by_kafka));
    let level = IsolationLevel::ReadCommitted;
    check(
        values(kafka, &by_kafka, 1, level, COUNT).await,
        "what Kafka's copier wrote",
    );
    copy_with_ours(kafka, &by_kafka, &by_us).await;
    check(
        values(kafka, &by_us, 2, level, COUNT).await,
        "what ours wrote",
    );
    let theirs = block_in_place(|| {
        let args = ["--isolation-level", "read_committed"];
        kafka.tools().consume(&by_us, COUNT, &args)
    });
    let theirs = theirs.into_iter().map(|seen| text(seen.sample.value));
    check(
        theirs.collect(),
        "what ours wrote, read by Kafka's consumer",
    );
}

/// The numbers below [`COUNT`], committed, between records that are not.
async fn write(kafka: &KafkaCluster, topic: &str) {
    let mut producer = transactional(kafka, &unique("to-copy")).await;
    for first in (0..COUNT).step_by(20) {
        let transaction = producer.begin().await.unwrap();
        put(&transaction, topic, 0, "aborted").await;
        transaction.abort().await.unwrap();
        let transaction = producer.begin().await.unwrap();
        for n in first..first + 20 {
            let value = n.to_string();
            let record = ProducerRecord::to(topic).value(&value);
            let _sent = transaction.send(record).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }
    producer.close(PATIENCE).await.unwrap();
}

fn copy_with_kafkas(kafka: &KafkaCluster, from: &str, to: &str) {
    let (count, id, group) = (COUNT.to_string(), unique("copier"), unique("copiers"));
    let bootstrap = kafka.bootstrap();
    let args = [
        "--broker-list",
        &bootstrap,
        "--input-topic",
        from,
        "--input-partition",
        "0",
        "--output-topic",
        to,
        "--max-messages",
        &count,
        "--transaction-size",
        "15",
        "--transactional-id",
        &id,
        "--consumer-group",
        &group,
        "--enable-random-aborts",
        "--use-group-metadata",
    ];
    kafka.tools().run(Tool::TransactionalMessageCopier, &args);
}

/// Every third transaction is aborted, and its records are copied again.
async fn copy_with_ours(kafka: &KafkaCluster, from: &str, to: &str) {
    let config = ConsumerConfig {
        group_id: Some(unique("our-copiers")),
        auto_offset_reset: OffsetReset::Earliest,
        enable_auto_commit: false,
        isolation_level: IsolationLevel::ReadCommitted,
        ..Default::default()
    };
    let consumer = Consumer::new(cluster(&kafka.bootstrap()), config).unwrap();
    consumer.subscribe([from.to_owned()]).unwrap();
    let mut producer = transactional(kafka, &unique("our-copier")).await;
    let (mut copied, mut rounds) = (0, 0);
    while copied < COUNT {
        let size = (COUNT - copied).min(11);
        let transaction = producer.begin().await.unwrap();
        let mut positions = BTreeMap::new();
        for (at, offset, sample) in read(&consumer, size).await {
            let value = text(sample.value);
            let record = ProducerRecord::to(to).key(&value).value(&value);
            let _sent = transaction.send(record).await.unwrap();
            positions.insert(at.partition, offset + 1);
        }
        let offsets: Vec<_> = positions
            .iter()
            .map(|(&partition, &offset)| (from.to_owned(), partition, offset))
            .collect();
        let group = consumer.group_metadata().unwrap();
        transaction.send_offsets(offsets, &group).await.unwrap();
        rounds += 1;
        if rounds % 3 == 0 {
            transaction.abort().await.unwrap();
            for at in consumer.assignment() {
                consumer.seek(&at, Offset::Committed).unwrap();
            }
        } else {
            transaction.commit().await.unwrap();
            copied += size;
        }
    }
    consumer.close(PATIENCE).await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

fn check(values: Vec<String>, what: &str) {
    let mut seen: Vec<usize> = values.iter().map(|value| value.parse().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..COUNT).collect::<Vec<_>>(), "{what}");
}
