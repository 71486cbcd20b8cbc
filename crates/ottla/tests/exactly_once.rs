//! `ottla::exactly_once`: results are there once, whatever happens to members, coordinators and brokers.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ottla::ErrorCode;
use ottla::consumer::assignor::{Assignor, CooperativeSticky, Range};
use ottla::consumer::{
    ConsumerConfig, Error as ConsumerError, GroupProtocol, IsolationLevel, PartitionStream,
    StreamEnd,
};
use ottla::exactly_once::{ExactlyOnce, Outcome, Step};
use ottla::prelude::*;
use ottla::producer::ProducerConfig;
use ottla::testing::{ApiKey, Fault, Rule, TestCluster};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const PARTITIONS: i32 = 4;
const COUNT: u32 = 800;
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::test(start_paused = true)]
async fn each_result_is_there_once_in_an_eager_group() {
    members_come_and_go(|config| config.assignors = vec![Arc::new(Range) as Arc<dyn Assignor>])
        .await;
}

#[tokio::test(start_paused = true)]
async fn each_result_is_there_once_in_a_cooperative_group() {
    members_come_and_go(|config| config.assignors = vec![Arc::new(CooperativeSticky)]).await;
}

#[tokio::test(start_paused = true)]
async fn each_result_is_there_once_in_a_group_of_the_consumer_protocol() {
    members_come_and_go(|config| config.group_protocol = GroupProtocol::Consumer).await;
}

async fn members_come_and_go(protocol: fn(&mut ConsumerConfig)) {
    let kafka = TestCluster::builder()
        .nodes(3)
        .topic("from", PARTITIONS)
        .topic("to", 1)
        .in_memory()
        .unwrap();
    let client = kafka.client_builder().build().unwrap();
    write(&client).await;
    // Some of what concerns transactions and offsets is not answered, or not served.
    for api in [
        ApiKey::EndTxn,
        ApiKey::TxnOffsetCommit,
        ApiKey::AddOffsetsToTxn,
        ApiKey::Produce,
        ApiKey::OffsetFetch,
    ] {
        for (skip, fault) in [
            (3, Fault::Disconnect),
            (11, Fault::LoseReply),
            (20, Fault::Disconnect),
        ] {
            kafka.inject(Rule {
                api,
                node: None,
                skip,
                times: 1,
                fault,
            });
        }
    }
    let done = Arc::new(AtomicU32::new(0));
    let reached = |share: u32| {
        let done = &done;
        async move {
            let reached = async {
                while done.load(Ordering::Relaxed) < COUNT * share / 10 {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(PATIENCE, reached).await.expect("it goes on");
        }
    };
    let join = || Member::join(&kafka, protocol, &done);
    let first = join();
    reached(1).await;
    let second = join();
    reached(3).await;
    first.leave().await;
    reached(4).await;
    let third = join();
    reached(5).await;
    // One dies, with whatever it is at.
    drop(second);
    reached(7).await;
    let fourth = join();
    reached(8).await;
    third.leave().await;
    reached(10).await;
    fourth.leave().await;

    let mut results = committed(&client, "to").await;
    let written = results.len();
    results.sort_unstable();
    results.dedup();
    assert_eq!(results.len(), written, "some results are there twice");
    assert_eq!(results, (0..COUNT).collect::<Vec<_>>());
    assert!(
        kafka.values("to").len() > written,
        "no transaction was aborted"
    );
    client.close().await;
    kafka.stop().await;
}

/// A program: a client, a consumer that is split, a session for each of its partitions.
struct Member {
    client: Client,
    consumer: Consumer,
    sessions: tokio::task::JoinHandle<()>,
}

impl Member {
    fn join(kafka: &TestCluster, protocol: fn(&mut ConsumerConfig), done: &Arc<AtomicU32>) -> Self {
        let client = kafka
            .client_builder()
            .set("request.timeout.ms", 2_000)
            .build()
            .unwrap();
        let mut config = member_config(&client);
        protocol(&mut config);
        if config.group_protocol == GroupProtocol::Classic {
            config.session_timeout = Duration::from_secs(10);
            config.heartbeat_interval = Duration::from_secs(1);
        }
        let consumer = client.consumer_with(config).unwrap();
        consumer.subscribe(["from"]).unwrap();
        let mut partitions = consumer.split().unwrap();
        let (of, done) = (client.clone(), done.clone());
        let sessions = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok(stream) = partitions.next_partition().await {
                tasks.spawn(session(of.clone(), stream, done.clone()));
            }
            while tasks.join_next().await.is_some() {}
        });
        Self {
            client,
            consumer,
            sessions,
        }
    }

    async fn leave(mut self) {
        self.consumer.close(PATIENCE).await.unwrap();
        (&mut self.sessions).await.unwrap();
        self.client.close().await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.sessions.abort();
    }
}

/// Copies a partition. Now and then its work fails, or it ends for another reason; then another takes over.
async fn session(client: Client, stream: PartitionStream, done: Arc<AtomicU32>) {
    let id = format!("copier-{}", stream.topic_partition());
    let config = ProducerConfig {
        transactional_id: Some(id),
        linger: Duration::from_millis(1),
        ..client.producer_config()
    };
    let Ok(producer) = client.transactional_producer_with(config).await else {
        return;
    };
    let mut session = ExactlyOnce::new(stream, producer).unwrap();
    let mut calls = 0;
    loop {
        let step = match session.next().await {
            Ok(Some(step)) => step,
            Ok(None) => break,
            // Somebody else's turn.
            Err(_) => break,
        };
        calls += 1;
        let count = step.batch().records().count() as u32;
        copy(&step).await;
        sleep(Duration::from_millis(20)).await;
        if calls % 7 == 3 {
            continue; // It is dropped.
        }
        match step.commit().await {
            Ok(Outcome::Committed(_)) => {
                done.fetch_add(count, Ordering::Relaxed);
            }
            Ok(Outcome::Aborted) => {}
            Err(_) => break,
        }
    }
    let _ = session.close(Duration::from_secs(5)).await;
}

/// Sends each record of the batch; what cannot be sent is found at the commit.
async fn copy(step: &Step<'_>) {
    for record in step.batch() {
        let record = record.unwrap();
        let copy = ProducerRecord::to("to").value(record.value().unwrap());
        drop(step.send(copy).await);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_comes_again_and_what_is_committed_does_not() {
    let kafka = TestCluster::builder()
        .topic("from", 1)
        .topic("to", 1)
        .in_memory()
        .unwrap();
    let client = kafka.client_builder().build().unwrap();
    let producer = client.producer().unwrap();
    for value in ["0", "1"] {
        let record = ProducerRecord::to("from").value(value);
        producer.produce_and_wait(record).await.unwrap();
    }
    let consumer = client.consumer_with(member_config(&client)).unwrap();
    consumer.subscribe(["from"]).unwrap();
    let mut partitions = consumer.split().unwrap();
    let mut session = start(&client, partitions.next_partition().await.unwrap()).await;
    let step = session.next().await.unwrap().unwrap();
    copy(&step).await;
    drop(step);
    let step = session.next().await.unwrap().unwrap();
    copy(&step).await;
    assert_eq!(step.commit().await.unwrap(), Outcome::Committed(1));
    // Another session goes on behind what this one has committed, though it was never asked for more.
    session.close(PATIENCE).await.unwrap();
    let mut session = start(&client, partitions.next_partition().await.unwrap()).await;
    let step = session.next().await.unwrap().unwrap();
    copy(&step).await;
    // The group refuses it once: it comes again.
    kafka.inject(Rule {
        api: ApiKey::TxnOffsetCommit,
        node: None,
        skip: 0,
        times: 1,
        fault: Fault::Answer(ErrorCode::ILLEGAL_GENERATION),
    });
    assert_eq!(step.commit().await.unwrap(), Outcome::Aborted);
    let step = session.next().await.unwrap().unwrap();
    copy(&step).await;
    assert_eq!(step.commit().await.unwrap(), Outcome::Committed(2));
    assert_eq!(committed(&client, "to").await, [0, 1]);
    session.close(PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_that_was_taken_for_dead_writes_nothing_any_more() {
    let kafka = TestCluster::builder()
        .topic("from", 1)
        .topic("to", 1)
        .in_memory()
        .unwrap();
    let client = kafka.client_builder().build().unwrap();
    let producer = client.producer().unwrap();
    let record = ProducerRecord::to("from").value("0");
    producer.produce_and_wait(record).await.unwrap();
    let config = ConsumerConfig {
        max_poll_interval: Duration::from_secs(10),
        ..member_config(&client)
    };
    let consumer = client.consumer_with(config).unwrap();
    consumer.subscribe(["from"]).unwrap();
    let mut partitions = consumer.split().unwrap();
    let mut session = start(&client, partitions.next_partition().await.unwrap()).await;
    let step = session.next().await.unwrap().unwrap();
    copy(&step).await;
    // Meanwhile the group takes its partition for another, who waits for nobody.
    sleep(Duration::from_secs(15)).await;
    assert_eq!(step.commit().await.unwrap(), Outcome::Aborted);
    assert!(session.next().await.unwrap().is_none());
    assert_eq!(session.end(), Some(StreamEnd::Lost));
    assert_eq!(committed(&client, "to").await, Vec::<u32>::new());
    drop(session);
    let mut session = start(&client, partitions.next_partition().await.unwrap()).await;
    let step = session.next().await.unwrap().unwrap();
    copy(&step).await;
    assert_eq!(step.commit().await.unwrap(), Outcome::Committed(1));
    assert_eq!(committed(&client, "to").await, [0]);
}

/// Its group is empty, and would take what nobody in particular commits.
#[tokio::test(start_paused = true)]
async fn a_consumer_without_a_place_has_no_say_in_a_transaction() {
    for group_protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let kafka = TestCluster::builder().topic("from", 1).in_memory().unwrap();
        let client = kafka.client_builder().build().unwrap();
        let producer = client.producer().unwrap();
        let record = ProducerRecord::to("from").value("0");
        producer.produce_and_wait(record).await.unwrap();
        let config = ConsumerConfig {
            max_poll_interval: Duration::from_secs(10),
            group_protocol,
            ..member_config(&client)
        };
        let consumer = client.consumer_with(config).unwrap();
        consumer.subscribe(["from"]).unwrap();
        let record = consumer.recv().await.unwrap();
        let mut producer = client
            .transactional_producer_with(ProducerConfig {
                transactional_id: Some("late".into()),
                ..client.producer_config()
            })
            .await
            .unwrap();
        // It stays away for too long, and leaves.
        sleep(Duration::from_secs(20)).await;
        assert!(consumer.assignment().is_empty());
        let group = consumer.group_metadata().unwrap();
        let transaction = producer.begin().await.unwrap();
        let offset = [("from", 0, record.offset() + 1)];
        let refused = transaction.send_offsets(offset, &group).await.unwrap_err();
        assert!(refused.requires_abort(), "{group_protocol:?}: {refused}");
        transaction.abort().await.unwrap();
        let at = TopicPartition::new("from", 0);
        let committed = consumer.committed(std::slice::from_ref(&at)).await.unwrap();
        assert_eq!(committed[&at], None, "{group_protocol:?}");
        // Back in its place it has its say.
        assert_eq!(consumer.recv().await.unwrap().offset(), 0);
        let group = consumer.group_metadata().unwrap();
        let transaction = producer.begin().await.unwrap();
        transaction.send_offsets(offset, &group).await.unwrap();
        transaction.commit().await.unwrap();
        producer.close(PATIENCE).await.unwrap();
        consumer.close(PATIENCE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_would_commit_otherwise_is_refused() {
    let kafka = TestCluster::builder().topic("from", 1).in_memory().unwrap();
    let client = kafka.client_builder().build().unwrap();
    let consumer = client
        .consumer_with(ConsumerConfig {
            enable_auto_commit: true,
            ..member_config(&client)
        })
        .unwrap();
    consumer.subscribe(["from"]).unwrap();
    let stream = consumer.split().unwrap().next_partition().await.unwrap();
    let config = ProducerConfig {
        transactional_id: Some("x".into()),
        ..client.producer_config()
    };
    let producer = client.transactional_producer_with(config).await.unwrap();
    let refused = ExactlyOnce::new(stream, producer).unwrap_err();
    assert!(matches!(refused, ConsumerError::Usage(_)), "{refused}");
}

async fn start(client: &Client, stream: PartitionStream) -> ExactlyOnce {
    let config = ProducerConfig {
        transactional_id: Some(format!("copier-{}", stream.topic_partition())),
        ..client.producer_config()
    };
    let producer = client.transactional_producer_with(config).await.unwrap();
    ExactlyOnce::new(stream, producer).unwrap()
}

fn member_config(client: &Client) -> ConsumerConfig {
    ConsumerConfig {
        group_id: Some("copiers".into()),
        auto_offset_reset: OffsetReset::Earliest,
        enable_auto_commit: false,
        isolation_level: IsolationLevel::ReadCommitted,
        ..client.consumer_config()
    }
}

/// The numbers below [`COUNT`], some to a batch.
async fn write(client: &Client) {
    let producer = client.producer().unwrap();
    for first in (0..COUNT).step_by(20) {
        for n in first..first + 20 {
            let value = n.to_string();
            let partition = (n / 5) as i32 % PARTITIONS;
            let record = ProducerRecord::to("from")
                .partition(partition)
                .value(&value);
            drop(producer.send(record).await.unwrap());
        }
        producer.flush(PATIENCE).await.unwrap();
    }
    producer.close(PATIENCE).await.unwrap();
}

/// What readers of committed records see in a topic of one partition.
async fn committed(client: &Client, topic: &str) -> Vec<u32> {
    let consumer = client
        .consumer_with(ConsumerConfig {
            isolation_level: IsolationLevel::ReadCommitted,
            ..client.consumer_config()
        })
        .unwrap();
    let partition = TopicPartition::new(topic, 0);
    consumer
        .assign([(partition.clone(), Offset::Beginning)])
        .unwrap();
    let mut values = Vec::new();
    loop {
        let batches = consumer.poll(Duration::from_secs(5)).await.unwrap();
        for record in batches.into_iter().flatten() {
            let value = record.unwrap();
            let value = std::str::from_utf8(value.value().unwrap()).unwrap();
            values.push(value.parse().unwrap());
        }
        let end = consumer.query_watermarks(&partition).await.unwrap().end;
        if consumer.position(&partition).unwrap() == Some(end) {
            break;
        }
    }
    consumer.close(PATIENCE).await.unwrap();
    values
}
