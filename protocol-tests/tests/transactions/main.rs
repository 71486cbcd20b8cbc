//! Transactions on live Kafka: 4.3 with transactions V2, 3.9 with AddPartitionsToTxn.
#![allow(clippy::unwrap_used)]

#[path = "../client/mod.rs"]
mod client;
mod copiers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use client::{PATIENCE, cluster, cluster_config, member, producer, read, within};
use ottla_consumer::{Consumer, ConsumerConfig, GroupMetadata, IsolationLevel, Offset};
use ottla_producer::{
    Compression, ProducerConfig, ProducerRecord, RunError, SendError, Transaction,
    TransactionError, TransactionalProducer,
};
use ottla_protocol_tests::{Direction, Fate, KafkaCluster, Options, Version, or_skip, unique};
use tokio::task::block_in_place;

#[test]
fn on_the_newest_kafka() {
    on(Version::default());
}

#[test]
fn on_the_oldest_kafka() {
    on(Version::V3_9);
}

fn on(version: Version) {
    let options = Options {
        version,
        proxied: true,
        ..Options::default()
    };
    // So that a transaction that is open for too long is noticed soon.
    let options = options.set(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        500,
    );
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    within(PATIENCE * 6, async {
        the_protocol_is_that_of(&kafka, version).await;
        what_is_committed_is_seen_and_what_is_aborted_is_not(&kafka).await;
        an_open_transaction_is_invisible_and_a_dropped_one_is_aborted(&kafka).await;
        a_failed_record_allows_only_an_abort(&kafka).await;
        a_group_that_moved_on_allows_only_an_abort(&kafka).await;
        every_record_is_processed_once_though_the_first_instance_is_replaced(&kafka).await;
        a_transaction_that_takes_too_long_is_aborted_by_the_broker(&kafka).await;
        work_is_run_again_after_a_transaction_that_must_be_aborted(&kafka).await;
        one_transaction_after_the_other(&kafka).await;
        copiers::kafkas_and_ours_pass_everything_on_once(&kafka).await;
        nothing_is_lost_or_doubled_when_answers_are(&kafka).await;
        a_commit_whose_answer_is_lost_can_be_repeated(&kafka).await;
    });
}

/// 4.3 has transactions V2 switched on, 3.9 does not: both flows are tested, and no other.
async fn the_protocol_is_that_of(kafka: &KafkaCluster, version: Version) {
    let cluster = cluster(&kafka.bootstrap());
    let deadline = ottla_net::Instant::now() + PATIENCE;
    let lane = ottla_net::Lane::Coordination;
    cluster.ready(deadline).await.unwrap();
    let connection = cluster.connection(1, lane, deadline).await.unwrap();
    let level = connection
        .versions()
        .finalized_feature("transaction.version");
    assert_eq!(level >= 2, version != Version::V3_9, "level {level}");
    cluster.close().await;
}

async fn what_is_committed_is_seen_and_what_is_aborted_is_not(kafka: &KafkaCluster) {
    let topic = create(kafka, "committed", 3, &[]);
    let mut producer = transactional(kafka, &unique("seen")).await;
    let mut kept = Vec::new();
    let mut all = Vec::new();
    for (round, commit) in [(0, true), (1, false), (2, true)] {
        let transaction = producer.begin().await.unwrap();
        for n in 0..10 {
            let value = format!("{round}-{n}");
            put(&transaction, &topic, n % 3, &value).await;
            all.push(value.clone());
            if commit {
                kept.push(value);
            }
        }
        match commit {
            true => transaction.commit().await.unwrap(),
            false => transaction.abort().await.unwrap(),
        }
    }
    producer.close(PATIENCE).await.unwrap();
    kept.sort();
    all.sort();

    for (isolation, level, expected) in [
        ("read_committed", IsolationLevel::ReadCommitted, &kept),
        ("read_uncommitted", IsolationLevel::ReadUncommitted, &all),
    ] {
        assert_eq!(
            values(kafka, &topic, 3, level, expected.len()).await,
            *expected
        );
        let theirs = block_in_place(|| {
            let args = ["--isolation-level", isolation];
            kafka.tools().consume(&topic, expected.len(), &args)
        });
        let mut theirs: Vec<_> = theirs
            .into_iter()
            .map(|seen| text(seen.sample.value))
            .collect();
        theirs.sort();
        assert_eq!(theirs, *expected, "read by Kafka's consumer, {isolation}");
    }
}

async fn an_open_transaction_is_invisible_and_a_dropped_one_is_aborted(kafka: &KafkaCluster) {
    let topic = create(kafka, "open", 1, &[]);
    let mut producer = transactional(kafka, &unique("open")).await;
    let reader = reader(kafka, &topic, 1, IsolationLevel::ReadCommitted);
    for round in 0..3 {
        let transaction = producer.begin().await.unwrap();
        put(&transaction, &topic, 0, "dropped").await;
        let early = tokio::time::timeout(Duration::from_millis(700), reader.recv()).await;
        assert!(early.is_err(), "{early:?} was seen before its commit");
        drop(transaction);
        let transaction = producer.begin().await.unwrap();
        let kept = format!("kept {round}");
        put(&transaction, &topic, 0, &kept).await;
        transaction.commit().await.unwrap();
        assert_eq!(text(read(&reader, 1).await.remove(0).2.value), kept);
    }
    reader.close(PATIENCE).await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

async fn a_failed_record_allows_only_an_abort(kafka: &KafkaCluster) {
    let topic = create(kafka, "failed", 2, &[("max.message.bytes", "1000")]);
    let mut producer = transactional(kafka, &unique("failed")).await;
    for round in 0..2 {
        let transaction = producer.begin().await.unwrap();
        put(&transaction, &topic, 0, "lost with the other").await;
        let record = ProducerRecord::to(&topic).partition(1).value("x");
        let large = "y".repeat(5_000);
        let refused = transaction
            .send(ProducerRecord::to(&topic).partition(1).value(&large))
            .await
            .unwrap()
            .await
            .unwrap_err();
        assert!(
            matches!(refused, SendError::RecordTooLarge { .. }),
            "{refused}"
        );
        let late = transaction.send(record).await.unwrap_err();
        assert!(matches!(late, SendError::TransactionEnded { .. }), "{late}");
        let failed = transaction.commit().await.unwrap_err();
        assert!(failed.error.requires_abort(), "{failed}");
        failed.into_transaction().unwrap().abort().await.unwrap();

        let transaction = producer.begin().await.unwrap();
        for partition in 0..2 {
            put(&transaction, &topic, partition, &format!("kept {round}")).await;
        }
        transaction.commit().await.unwrap();
    }
    producer.close(PATIENCE).await.unwrap();
    let seen = values(kafka, &topic, 2, IsolationLevel::ReadCommitted, 4).await;
    assert_eq!(seen, ["kept 0", "kept 0", "kept 1", "kept 1"]);
}

async fn a_group_that_moved_on_allows_only_an_abort(kafka: &KafkaCluster) {
    let topic = create(kafka, "moved", 1, &[]);
    let group = unique("moved");
    fill(kafka, &topic, 1, 3).await;
    let consumer = member(&kafka.bootstrap(), &group, &topic);
    read(&consumer, 1).await;
    let current = consumer.group_metadata().unwrap();
    let mut stale = current.clone();
    stale.generation_id += 7;

    let mut producer = transactional(kafka, &unique("moved")).await;
    let transaction = producer.begin().await.unwrap();
    let refused = transaction
        .send_offsets([(topic.clone(), 0, 1)], &stale)
        .await;
    assert!(
        refused.as_ref().unwrap_err().requires_abort(),
        "{refused:?}"
    );
    let failed = transaction.commit().await.unwrap_err();
    assert!(failed.error.requires_abort(), "{failed}");
    failed.into_transaction().unwrap().abort().await.unwrap();

    // A transaction of offsets alone, aborted and then committed.
    let at = [consumer.partitions_of(&topic).await.unwrap().remove(0)];
    let transaction = producer.begin().await.unwrap();
    transaction
        .send_offsets([(topic.clone(), 0, 1)], &current)
        .await
        .unwrap();
    transaction.abort().await.unwrap();
    assert_eq!(consumer.committed(&at).await.unwrap()[&at[0]], None);
    let transaction = producer.begin().await.unwrap();
    transaction
        .send_offsets([(topic.clone(), 0, 1)], &current)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let committed = consumer.committed(&at).await.unwrap()[&at[0]].clone();
    assert_eq!(committed.unwrap().offset, 1);
    consumer.close(PATIENCE).await.unwrap();
    producer.close(PATIENCE).await.unwrap();
}

async fn every_record_is_processed_once_though_the_first_instance_is_replaced(
    kafka: &KafkaCluster,
) {
    const COUNT: usize = 100;
    let input = create(kafka, "input", 2, &[]);
    let output = create(kafka, "output", 2, &[]);
    let (id, group) = (unique("copier"), unique("copiers"));
    fill(kafka, &input, 2, COUNT).await;

    let mut first = transactional(kafka, &id).await;
    let consumer = member(&kafka.bootstrap(), &group, &input);
    let transaction = first.begin().await.unwrap();
    copy(&consumer, &transaction, &output, 30).await;
    transaction.commit().await.unwrap();
    // The first instance stops here for a while, and is taken for dead.
    let zombie = first.begin().await.unwrap();
    copy(&consumer, &zombie, &output, 20).await;
    drop(consumer);

    let mut second = transactional(kafka, &id).await;
    let fenced = zombie.commit().await.unwrap_err();
    assert!(fenced.transaction.is_none());
    let fenced = fenced.into_error();
    assert!(
        matches!(fenced, TransactionError::Fenced { .. }),
        "{fenced}"
    );
    assert!(fenced.is_fatal() && !fenced.possibly_committed());
    let dead = first.begin().await.unwrap_err();
    assert!(dead.to_string().contains("transactional.id"), "{dead}");
    let _ = first.close(PATIENCE).await;

    let consumer = member(&kafka.bootstrap(), &group, &input);
    let mut left = COUNT - 30;
    while left > 0 {
        let transaction = second.begin().await.unwrap();
        let count = left.min(25);
        copy(&consumer, &transaction, &output, count).await;
        transaction.commit().await.unwrap();
        left -= count;
    }
    consumer.close(PATIENCE).await.unwrap();
    second.close(PATIENCE).await.unwrap();

    let mut seen: Vec<usize> = values(kafka, &output, 2, IsolationLevel::ReadCommitted, COUNT)
        .await
        .iter()
        .map(|value| value.parse().unwrap())
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..COUNT).collect::<Vec<_>>());
}

/// Reads `count` records, and writes them and the positions behind them in the transaction.
async fn copy(consumer: &Consumer, transaction: &Transaction<'_>, output: &str, count: usize) {
    let mut positions = std::collections::BTreeMap::new();
    for (at, offset, sample) in read(consumer, count).await {
        let value = text(sample.value);
        let record = ProducerRecord::to(output).key(&value).value(&value);
        let _sent = transaction.send(record).await.unwrap();
        positions.insert((at.topic.to_string(), at.partition), offset + 1);
    }
    let offsets = positions
        .into_iter()
        .map(|((topic, partition), offset)| (topic, partition, offset));
    let group = consumer.group_metadata().unwrap();
    transaction.send_offsets(offsets, &group).await.unwrap();
}

async fn a_transaction_that_takes_too_long_is_aborted_by_the_broker(kafka: &KafkaCluster) {
    let topic = create(kafka, "timeout", 1, &[]);
    let id = unique("timeout");
    let config = ProducerConfig {
        transaction_timeout: Duration::from_secs(1),
        ..config(&id)
    };
    let mut producer = TransactionalProducer::init(cluster(&kafka.bootstrap()), config)
        .await
        .unwrap();
    let transaction = producer.begin().await.unwrap();
    put(&transaction, &topic, 0, "too late").await;
    let reader = reader(kafka, &topic, 1, IsolationLevel::ReadCommitted);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let failed = transaction.commit().await.unwrap_err();
    assert!(
        !failed.error.is_retriable() && !failed.error.possibly_committed(),
        "{failed}"
    );
    println!("a commit after transaction.timeout.ms: {failed}");
    let is_fatal = failed.error.is_fatal();
    match failed.into_transaction() {
        Some(transaction) => transaction.abort().await.unwrap(),
        None => assert!(is_fatal),
    }
    if is_fatal {
        let _ = producer.close(PATIENCE).await;
        producer = transactional(kafka, &id).await;
    }
    let transaction = producer.begin().await.unwrap();
    put(&transaction, &topic, 0, "in time").await;
    transaction.commit().await.unwrap();
    producer.close(PATIENCE).await.unwrap();
    assert_eq!(text(read(&reader, 1).await.remove(0).2.value), "in time");
    reader.close(PATIENCE).await.unwrap();
}

async fn work_is_run_again_after_a_transaction_that_must_be_aborted(kafka: &KafkaCluster) {
    let topic = create(kafka, "again", 1, &[("max.message.bytes", "1000")]);
    let mut producer = transactional(kafka, &unique("again")).await;
    let mut attempt = 0;
    let topic_name = &topic;
    let done: Result<i32, RunError<SendError>> = producer
        .run(3, async |transaction: &Transaction<'_>| {
            attempt += 1;
            let small = ProducerRecord::to(topic_name).value("small");
            let _sent = transaction.send(small).await?;
            let second = "x".repeat(if attempt == 1 { 3_000 } else { 3 });
            // Not awaited: the commit is what fails.
            let _sent = transaction
                .send(ProducerRecord::to(topic_name).value(&second))
                .await?;
            Ok(attempt)
        })
        .await;
    assert_eq!(done.unwrap(), 2);
    let gone: Result<(), RunError<&str>> = producer
        .run(3, async |transaction: &Transaction<'_>| {
            let record = ProducerRecord::to(topic_name).value("never");
            let _sent = transaction.send(record).await.unwrap();
            Err("changed my mind")
        })
        .await;
    assert!(matches!(gone, Err(RunError::Work("changed my mind"))));
    producer.close(PATIENCE).await.unwrap();
    let seen = values(kafka, &topic, 1, IsolationLevel::ReadCommitted, 2).await;
    assert_eq!(seen, ["small", "xxx"]);
}

async fn one_transaction_after_the_other(kafka: &KafkaCluster) {
    let topic = create(kafka, "many", 4, &[]);
    let config = ProducerConfig {
        compression: Compression::Lz4,
        ..config(&unique("many"))
    };
    let mut producer = TransactionalProducer::init(cluster(&kafka.bootstrap()), config)
        .await
        .unwrap();
    let started = Instant::now();
    let mut kept = Vec::new();
    for round in 0..60 {
        let transaction = producer.begin().await.unwrap();
        for n in 0..20 {
            let value = format!("{round:03}-{n:03}");
            let record = ProducerRecord::to(&topic).partition(n % 4).value(&value);
            let _sent = transaction.send(record).await.unwrap();
            if round % 3 != 1 {
                kept.push(value);
            }
        }
        match round % 3 {
            1 => transaction.abort().await.unwrap(),
            _ => transaction.commit().await.unwrap(),
        }
    }
    println!("60 transactions of 20 records: {:?}", started.elapsed());
    producer.close(PATIENCE).await.unwrap();
    kept.sort();
    let seen = values(kafka, &topic, 4, IsolationLevel::ReadCommitted, kept.len()).await;
    assert_eq!(seen, kept);
}

/// Every fourth answer of those that transactions live on never comes.
async fn nothing_is_lost_or_doubled_when_answers_are(kafka: &KafkaCluster) {
    const ROUNDS: usize = 25;
    let topic = create(kafka, "lossy", 3, &[]);
    let group = GroupMetadata {
        group_id: unique("lossy").into(),
        generation_id: -1,
        member_id: "".into(),
        group_instance_id: None,
    };
    let (answers, lost) = (AtomicU32::new(0), Arc::new(AtomicU32::new(0)));
    let losses = lost.clone();
    kafka.proxy(1).rule(move |passing| {
        let counts = passing.direction == Direction::Reply && APIS.contains(&passing.api_key);
        if counts && answers.fetch_add(1, Ordering::Relaxed) % 4 == 3 {
            losses.fetch_add(1, Ordering::Relaxed);
            return Fate::Close;
        }
        Fate::Pass
    });
    let cluster = cluster(&kafka.proxied_bootstrap());
    let mut producer = TransactionalProducer::init(cluster, config(&unique("lossy")))
        .await
        .unwrap();
    let mut expected = Vec::new();
    for round in 0..ROUNDS {
        let values: Vec<_> = (0..6).map(|n| format!("{round:03}-{n}")).collect();
        let (values_of, topic_of, group_of) = (&values, &topic, &group);
        producer
            .run(10, async |transaction: &Transaction<'_>| {
                for (n, value) in (0..).zip(values_of) {
                    let record = ProducerRecord::to(topic_of).partition(n % 3).value(value);
                    let _sent = transaction.send(record).await;
                }
                let offsets = [(topic_of.clone(), 0, round as i64)];
                transaction.send_offsets(offsets, group_of).await
            })
            .await
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        expected.extend(values);
    }
    producer.close(PATIENCE).await.unwrap();
    kafka.proxy(1).pass_all();
    let lost = lost.load(Ordering::Relaxed);
    println!("{ROUNDS} transactions in spite of {lost} lost answers");
    assert!(lost > 20, "{lost}");
    let level = IsolationLevel::ReadCommitted;
    let seen = values(kafka, &topic, 3, level, expected.len()).await;
    assert_eq!(seen, expected);
    let reader = member(&kafka.bootstrap(), &group.group_id, &topic);
    let at = [reader.partitions_of(&topic).await.unwrap().remove(0)];
    let committed = reader.committed(&at).await.unwrap()[&at[0]].clone();
    assert_eq!(committed.unwrap().offset, ROUNDS as i64 - 1);
    reader.close(PATIENCE).await.unwrap();
}

async fn a_commit_whose_answer_is_lost_can_be_repeated(kafka: &KafkaCluster) {
    let topic = create(kafka, "doubt", 1, &[]);
    let config = ProducerConfig {
        request_timeout: Duration::from_secs(1),
        max_block: Duration::from_millis(2500),
        ..config(&unique("doubt"))
    };
    let net = ottla_net::ClusterConfig {
        request_timeout: config.request_timeout,
        ..cluster_config(&kafka.proxied_bootstrap())
    };
    let cluster = ottla_net::Cluster::over_tcp(net).unwrap();
    let mut producer = TransactionalProducer::init(cluster, config).await.unwrap();
    for give_up in [false, true] {
        let transaction = producer.begin().await.unwrap();
        put(&transaction, &topic, 0, "in doubt").await;
        kafka.proxy(1).rule(|passing| {
            match passing.direction == Direction::Reply && passing.api_key == END_TXN {
                true => Fate::Lose,
                false => Fate::Pass,
            }
        });
        let failed = transaction.commit().await.unwrap_err();
        println!("a commit without an answer: {failed}");
        assert!(failed.error.possibly_committed() && failed.error.is_retriable());
        kafka.proxy(1).pass_all();
        let transaction = failed.into_transaction().unwrap();
        match give_up {
            true => assert!(transaction.abort().await.unwrap_err().possibly_committed()),
            false => transaction.commit().await.unwrap(),
        }
        let transaction = producer.begin().await.unwrap();
        put(&transaction, &topic, 0, "after it").await;
        transaction.commit().await.unwrap();
    }
    producer.close(PATIENCE).await.unwrap();
    let seen = values(kafka, &topic, 1, IsolationLevel::ReadCommitted, 4).await;
    assert_eq!(seen, ["after it", "after it", "in doubt", "in doubt"]);
}

const END_TXN: i16 = 26;
/// Produce, InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, TxnOffsetCommit.
const APIS: [i16; 6] = [0, 22, 24, 25, END_TXN, 28];

fn create(kafka: &KafkaCluster, name: &str, partitions: i32, configs: &[(&str, &str)]) -> String {
    let topic = unique(name);
    block_in_place(|| kafka.create_topic(&topic, partitions, configs));
    topic
}

fn config(id: &str) -> ProducerConfig {
    ProducerConfig {
        transactional_id: Some(id.to_owned()),
        ..Default::default()
    }
}

async fn transactional(kafka: &KafkaCluster, id: &str) -> TransactionalProducer {
    TransactionalProducer::init(cluster(&kafka.bootstrap()), config(id))
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Sends one record and waits until it is in the log.
async fn put(transaction: &Transaction<'_>, topic: &str, partition: i32, value: &str) {
    let record = ProducerRecord::to(topic).partition(partition).value(value);
    transaction.send(record).await.unwrap().await.unwrap();
}

/// Writes the numbers below `count` to `topic`, in no transaction.
async fn fill(kafka: &KafkaCluster, topic: &str, partitions: i32, count: usize) {
    let producer = producer(&kafka.bootstrap(), ProducerConfig::default());
    for n in 0..count {
        let value = n.to_string();
        let record = ProducerRecord::to(topic)
            .partition(n as i32 % partitions)
            .value(&value);
        let _sent = producer.send(record).await.unwrap();
    }
    producer.close(PATIENCE).await.unwrap();
}

fn reader(kafka: &KafkaCluster, topic: &str, partitions: i32, level: IsolationLevel) -> Consumer {
    let config = ConsumerConfig {
        isolation_level: level,
        ..Default::default()
    };
    let consumer = Consumer::new(cluster(&kafka.bootstrap()), config).unwrap();
    consumer
        .assign((0..partitions).map(|index| ((topic.to_owned(), index), Offset::Beginning)))
        .unwrap();
    consumer
}

/// The values of the first `count` records that such a reader sees, sorted; and that there is no more.
async fn values(
    kafka: &KafkaCluster,
    topic: &str,
    partitions: i32,
    level: IsolationLevel,
    count: usize,
) -> Vec<String> {
    let consumer = reader(kafka, topic, partitions, level);
    let mut values: Vec<_> = read(&consumer, count)
        .await
        .into_iter()
        .map(|(_, _, sample)| text(sample.value))
        .collect();
    let more = tokio::time::timeout(Duration::from_millis(700), consumer.recv()).await;
    assert!(more.is_err(), "one more than {count}: {more:?}");
    consumer.close(PATIENCE).await.unwrap();
    values.sort();
    values
}

fn text(value: Option<Vec<u8>>) -> String {
    String::from_utf8(value.unwrap()).unwrap()
}
