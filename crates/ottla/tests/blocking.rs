//! `ottla::blocking`: plain threads against the embedded broker.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ottla::ErrorCode;
use ottla::admin::{AlterConfig, Resource};
use ottla::blocking::{
    Client, Consumer, Error, ExactlyOnce, RebalanceListener, RunError, TransactionalProducer,
};
use ottla::consumer::{
    CommitOutcome, ConsumerConfig, Error as ConsumerError, IsolationLevel,
    ShareAcknowledgementMode, ShareConsumerConfig, StreamEnd,
};
use ottla::exactly_once::Outcome;
use ottla::prelude::*;
use ottla::producer::{ProducerConfig, Purge, SendError};
use ottla::testing::{ApiKey, Fault, Rule, TestCluster};

const PATIENCE: Duration = Duration::from_secs(30);

/// A broker on a runtime of its own, as another process would be.
struct Broker {
    kafka: TestCluster,
    runtime: tokio::runtime::Runtime,
}

fn broker(topic: &str, partitions: i32) -> Broker {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let started = TestCluster::builder()
        .topic(topic, partitions)
        .topic("to", 1)
        .over_tcp();
    let kafka = runtime.block_on(started).unwrap();
    Broker { kafka, runtime }
}

impl Broker {
    fn client(&self) -> Client {
        self.kafka
            .client_builder()
            .group_id("g")
            .set("auto.offset.reset", "earliest")
            .build_blocking()
            .unwrap()
    }

    /// A share group that begins with the first record.
    fn begin_share_group(&self, group: &str) {
        let client = self
            .runtime
            .block_on(async { self.kafka.client().unwrap() });
        let set = |value: &str| AlterConfig::Set(value.into());
        let changes = BTreeMap::from([
            ("share.auto.offset.reset".to_owned(), set("earliest")),
            ("share.heartbeat.interval.ms".to_owned(), set("500")),
        ]);
        let (admin, group) = (client.admin(), Resource::Group(group.into()));
        let altered = admin.alter_configs(&group, &changes, false);
        self.runtime.block_on(altered).unwrap();
        self.runtime.block_on(client.close());
    }
}

#[test]
fn plain_threads_write_and_read() {
    let broker = broker("t", 3);
    let client = broker.client();
    let producer = client.producer().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let producer = producer.clone();
            scope.spawn(move || {
                let texts: Vec<String> = (0..250).map(|n| format!("{thread}-{n}")).collect();
                let records = texts
                    .iter()
                    .map(|text| ProducerRecord::to("t").key(text).value(text));
                let mut deliveries = producer.send_all(records).unwrap();
                let last = deliveries.pop().unwrap();
                last.wait().unwrap();
                for mut delivery in deliveries {
                    delivery.wait_for(PATIENCE).unwrap();
                }
            });
        }
    });
    let record = ProducerRecord::to("t").value("last");
    let written = producer.produce_and_wait(record).unwrap();
    assert_eq!(written.attempts(), 1);
    producer.flush(PATIENCE).unwrap();
    assert_eq!((producer.len(), producer.buffered_bytes()), (0, 0));
    assert_eq!(producer.metrics().records_delivered, 1001);
    producer.close(PATIENCE).unwrap();
    let refused = producer.send(record).unwrap_err();
    assert!(
        matches!(refused, Error::Send(SendError::Closed)),
        "{refused}"
    );

    let consumer = client.consumer().unwrap();
    consumer.subscribe(["t"]).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 1001 {
        let record = consumer.recv_for(PATIENCE).unwrap().unwrap();
        seen.push(record.value().unwrap().to_vec());
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 1001);
    assert!(
        consumer
            .recv_for(Duration::from_millis(50))
            .unwrap()
            .is_none()
    );
    consumer.commit().unwrap();
    let partitions = consumer.assignment();
    let committed = consumer.committed(&partitions).unwrap();
    let committed: i64 = committed.values().flatten().map(|c| c.offset).sum();
    assert_eq!(committed, 1001);
    consumer.close(PATIENCE).unwrap();
    client.close().unwrap();
}

#[test]
fn inside_a_runtime_waiting_is_an_error_and_not_a_panic() {
    let broker = broker("t", 1);
    let client = broker.client();
    let producer = client.producer().unwrap();
    let record = ProducerRecord::to("t").value("x");
    producer.produce_and_wait(record).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let error = producer.send(record).unwrap_err();
        assert!(matches!(error, Error::InsideRuntime { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("blocking::Producer::send") && text.contains("ottla::Client"),
            "{text}"
        );
        // What never waits works, and so do making and dropping a client.
        let mut delivery = producer.try_send(record).unwrap();
        let error = delivery.wait_for(PATIENCE).unwrap_err();
        assert!(matches!(error, Error::InsideRuntime { .. }), "{error}");
        let other = broker.client();
        let its_producer = other.producer().unwrap();
        let _ = its_producer.try_send(record);
        drop(other);
        drop(its_producer);
    });

    // The same in a callback, which runs on the client's own threads.
    let (tell, told) = std::sync::mpsc::channel();
    let again = producer.clone();
    producer.send(record).unwrap().on_outcome(move |outcome| {
        let blocked = again.send(ProducerRecord::to("t").value("y"));
        let tried = again.try_send(ProducerRecord::to("t").value("z"));
        tell.send((outcome.is_ok(), blocked.is_err(), tried.is_ok()))
            .unwrap();
    });
    assert_eq!(told.recv_timeout(PATIENCE), Ok((true, true, true)));
    producer.close(PATIENCE).unwrap();
    assert_eq!(broker.kafka.values("t").len(), 4);
}

#[test]
fn waiting_ends_at_its_time_and_what_waits_can_be_purged() {
    let broker = broker("t", 1);
    broker.kafka.inject(Rule {
        api: ApiKey::Produce,
        node: None,
        skip: 0,
        times: 1,
        fault: Fault::Delay(Duration::from_secs(3600)),
    });
    let producer = broker.client().producer().unwrap();
    let mut delivery = producer.send(ProducerRecord::to("t").value("x")).unwrap();
    let start = Instant::now();
    let error = delivery.wait_for(Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let error = producer.flush(Duration::from_millis(100)).unwrap_err();
    assert!(
        error.to_string().contains("1 records not delivered"),
        "{error}"
    );
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(delivery.try_outcome().is_none());
    producer.purge(Purge::ALL);
    let error = delivery.wait().unwrap_err();
    assert!(
        matches!(&error, Error::Send(error) if error.possibly_written()),
        "{error}"
    );
}

#[test]
fn each_partition_is_read_by_a_thread_of_its_own() {
    let broker = broker("t", 3);
    let client = broker.client();
    let producer = client.producer().unwrap();
    let texts: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let records = texts
        .iter()
        .map(|text| ProducerRecord::to("t").key(text).value(text));
    drop(producer.send_all(records).unwrap());
    producer.close(PATIENCE).unwrap();

    let consumer = client.consumer().unwrap();
    consumer.subscribe(["t"]).unwrap();
    let mut partitions = consumer.split().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let mut threads = Vec::new();
    for _ in 0..3 {
        let mut stream = partitions.next_partition().unwrap();
        let tell = tell.clone();
        threads.push(std::thread::spawn(move || {
            for record in &mut stream {
                tell.send(record.unwrap().offset()).unwrap();
            }
            stream.commit().unwrap();
            stream.end()
        }));
    }
    let none = partitions.next_partition_for(Duration::from_millis(50));
    assert!(none.unwrap().is_none());
    for _ in 0..300 {
        told.recv_timeout(PATIENCE).unwrap();
    }
    consumer.close(PATIENCE).unwrap();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Some(StreamEnd::Closed));
    }
    let late = partitions.next_partition().unwrap_err();
    assert!(matches!(late, Error::Consumer(_)), "{late}");
    let again = client.consumer().unwrap();
    let names = again.partitions_of("t").unwrap();
    let committed = again.committed(&names).unwrap();
    let sum: i64 = committed.values().flatten().map(|at| at.offset).sum();
    assert_eq!(sum, 300);
    again.close(PATIENCE).unwrap();
}

/// Twenty numbered records in `from`, a member that commits nothing by itself and reads them, and a transactional producer.
fn copying(client: &Client) -> (Consumer, TransactionalProducer) {
    let producer = client.producer().unwrap();
    for n in 0..20 {
        let text = n.to_string();
        let record = ProducerRecord::to("from").value(&text);
        producer.send(record).unwrap().wait().unwrap();
    }
    producer.close(PATIENCE).unwrap();
    let consumer = client
        .consumer_with(ConsumerConfig {
            enable_auto_commit: false,
            ..client.consumer_config()
        })
        .unwrap();
    consumer.subscribe(["from"]).unwrap();
    let copier = client
        .transactional_producer_with(ProducerConfig {
            transactional_id: Some("copier".into()),
            ..client.producer_config()
        })
        .unwrap();
    (consumer, copier)
}

/// That `to` has each of the twenty once, in order, for who reads what is committed.
fn all_are_copied(client: &Client) {
    let reader = client
        .consumer_with(ConsumerConfig {
            group_id: Some("readers".into()),
            isolation_level: IsolationLevel::ReadCommitted,
            ..client.consumer_config()
        })
        .unwrap();
    reader.subscribe(["to"]).unwrap();
    for n in 0..20 {
        let record = reader.recv().unwrap();
        assert_eq!(record.value(), Some(n.to_string().as_bytes()));
    }
    let more = reader.recv_for(Duration::from_millis(200)).unwrap();
    assert!(more.is_none(), "{more:?}");
    reader.close(PATIENCE).unwrap();
}

#[test]
fn a_thread_copies_in_transactions() {
    let broker = broker("from", 1);
    let client = broker.client();
    let (consumer, mut copier) = copying(&client);
    assert_eq!(copier.transactional_id(), "copier");
    // Every other transaction is aborted, one by dropping it, and its records are copied again.
    let mut next = 0;
    for round in 0..8 {
        let transaction = copier.begin().unwrap();
        for record in consumer.records().take(5) {
            let record = record.unwrap();
            assert!(record.offset() >= next);
            let copy = ProducerRecord::to("to").value(record.value().unwrap());
            drop(transaction.send(copy).unwrap());
        }
        let group = consumer.group_metadata().unwrap();
        transaction
            .send_offsets([("from", 0, next + 5)], &group)
            .unwrap();
        match round % 4 {
            0 => transaction.abort().unwrap(),
            2 => drop(transaction),
            _ => {
                transaction.commit().map_err(|failed| failed.error).unwrap();
                next += 5;
                continue;
            }
        }
        let at = TopicPartition::new("from", 0);
        consumer.seek(&at, Offset::At(next)).unwrap();
    }
    assert_eq!(next, 20);
    copier.close(PATIENCE).unwrap();
    let at = TopicPartition::new("from", 0);
    let committed = consumer.committed(std::slice::from_ref(&at)).unwrap();
    assert_eq!(committed[&at].as_ref().unwrap().offset, 20);
    consumer.close(PATIENCE).unwrap();
    all_are_copied(&client);
}

#[test]
fn a_thread_copies_exactly_once() {
    let broker = broker("from", 1);
    let client = broker.client();
    let (consumer, copier) = copying(&client);
    let mut partitions = consumer.split().unwrap();
    let stream = partitions.next_partition().unwrap();
    assert_eq!(stream.topic(), "from");
    assert!(stream.group_metadata().is_some());
    let mut session = ExactlyOnce::new(stream, copier).unwrap();
    assert_eq!(session.topic_partition().partition, 0);
    // The first transaction is dropped, and its batch comes again.
    let (mut copied, mut dropped) = (0, false);
    while copied < 20 {
        let step = session.next().unwrap().unwrap();
        let mut records = 0;
        for record in step.batch() {
            let record = record.unwrap();
            let copy = ProducerRecord::to("to").value(record.value().unwrap());
            drop(step.send(copy).unwrap());
            records += 1;
        }
        if !std::mem::replace(&mut dropped, true) {
            continue;
        }
        assert!(matches!(step.commit().unwrap(), Outcome::Committed(_)));
        copied += records;
    }
    assert_eq!(session.end(), None);
    session.close(PATIENCE).unwrap();
    consumer.close(PATIENCE).unwrap();
    all_are_copied(&client);
}

#[test]
fn a_thread_need_not_wait_for_its_commits() {
    let broker = broker("t", 1);
    let client = broker.client();
    let producer = client.producer().unwrap();
    for _ in 0..3 {
        let record = ProducerRecord::to("t").value("v");
        producer.send(record).unwrap().wait().unwrap();
    }
    let (tell, told) = std::sync::mpsc::channel();
    let listener = move |outcome: &CommitOutcome| {
        let place = outcome.offsets.iter().map(|(_, to)| to.offset).next();
        let _ = tell.send((place, outcome.result.is_ok()));
    };
    let consumer = client
        .consumer_with(ConsumerConfig {
            enable_auto_commit: false,
            commit_listener: Some(Arc::new(listener)),
            ..client.consumer_config()
        })
        .unwrap();
    assert!(!consumer.config().enable_auto_commit);
    consumer.subscribe(["t"]).unwrap();
    consumer.recv().unwrap();
    drop(consumer.commit_async().unwrap());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (Some(1), true));
    let name = consumer.assignment().remove(0);
    let begun = consumer.commit_offsets_async([(name.clone(), 2.into())]);
    begun.unwrap().wait().unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (Some(2), true));
    consumer.enforce_rebalance().unwrap();
    let mut partitions = consumer.split().unwrap();
    let mut stream = partitions.next_partition().unwrap();
    // Which may be the one from before the rebalance.
    let record = loop {
        match stream.recv_for(PATIENCE).unwrap() {
            Some(record) => break record,
            None => {
                drop(stream);
                stream = partitions.next_partition().unwrap();
            }
        }
    };
    assert!(record.offset() >= 1);
    stream.mark_processed();
    stream.commit().unwrap();
    let place = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(place, (Some(record.offset() + 1), true));
    let late = loop {
        match stream.recv_for(Duration::from_millis(200)) {
            Ok(Some(_)) => {}
            outcome => break outcome,
        }
    };
    assert!(matches!(late, Err(Error::Timeout { .. })), "{late:?}");
}

#[test]
fn threads_work_through_a_share_group() {
    let broker = broker("t", 2);
    broker.begin_share_group("pool");
    let client = broker.client();
    let producer = client.producer().unwrap();
    let texts: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    let records = texts
        .iter()
        .map(|text| ProducerRecord::to("t").key(text).value(text));
    drop(producer.send_all(records).unwrap());
    producer.close(PATIENCE).unwrap();

    let config = || ShareConsumerConfig {
        group_id: "pool".into(),
        acknowledgement_mode: ShareAcknowledgementMode::Explicit,
        max_poll_records: 10,
        ..client.share_consumer_config()
    };
    let (tell, told) = std::sync::mpsc::channel();
    let mut workers = Vec::new();
    for _ in 0..3 {
        let consumer = client.share_consumer_with(config()).unwrap();
        consumer.subscribe(["t"]).unwrap();
        assert_eq!(consumer.subscription(), ["t"]);
        let (tell, worker) = (tell.clone(), consumer.clone());
        let thread = std::thread::spawn(move || {
            for record in worker.records() {
                let record = record.unwrap();
                // Every third is not done at the first attempt.
                let again = record.offset() % 3 == 0 && record.delivery_count() == 1;
                let kind = match again {
                    true => AcknowledgeType::Release,
                    false => AcknowledgeType::Accept,
                };
                worker.acknowledge(&record, kind).unwrap();
                if !again {
                    tell.send(record.value().unwrap().to_vec()).unwrap();
                }
            }
        });
        workers.push((consumer, thread));
    }
    let mut done: Vec<_> = (0..60)
        .map(|_| told.recv_timeout(PATIENCE).unwrap())
        .collect();
    done.sort_unstable();
    done.dedup();
    assert_eq!(done.len(), 60, "each once");
    let (mut accepted, mut released, mut redelivered) = (0, 0, 0);
    for (consumer, thread) in workers {
        consumer.commit_all().unwrap();
        consumer.close(PATIENCE).unwrap();
        thread.join().unwrap();
        let metrics = consumer.metrics();
        accepted += metrics.accepted;
        released += metrics.released;
        redelivered += metrics.records_redelivered;
        assert_eq!(metrics.acknowledge_failures, 0);
    }
    assert_eq!((accepted, released), (60, redelivered));
    assert!(released >= 10, "{released}");

    let other = client.share_consumer_with(config()).unwrap();
    other.subscribe(["t"]).unwrap();
    let none = other.recv_for(Duration::from_millis(300)).unwrap();
    assert!(none.is_none());
    assert!(other.poll(Duration::ZERO).unwrap().is_empty());
    assert!(other.try_recv().unwrap().is_none());
    other.unsubscribe().unwrap();
    other.close(PATIENCE).unwrap();
}

#[test]
fn a_transaction_is_run_again_until_it_is_committed() {
    let broker = broker("from", 1);
    let client = broker.client();
    let mut producer = client
        .transactional_producer_with(ProducerConfig {
            transactional_id: Some("runner".into()),
            ..client.producer_config()
        })
        .unwrap();
    // The first record is refused, so that its transaction must be aborted.
    broker.kafka.inject(Rule {
        api: ApiKey::Produce,
        node: None,
        skip: 0,
        times: 1,
        fault: Fault::Answer(ErrorCode::TRANSACTION_ABORTABLE),
    });
    let mut attempts = 0;
    let value = producer.run(3, |transaction| {
        attempts += 1;
        let text = attempts.to_string();
        let record = ProducerRecord::to("to").value(&text);
        let _sent = transaction.send(record)?;
        Ok::<_, Error>(attempts)
    });
    assert_eq!(value.unwrap(), 2);
    // Work that fails by itself is not run again, and leaves nothing.
    let failed = producer.run(3, |transaction| {
        attempts += 1;
        let record = ProducerRecord::to("to").value("never");
        let _sent = transaction.send(record).map_err(|_| "unexpected")?;
        Err::<(), _>("no")
    });
    assert!(matches!(failed, Err(RunError::Work("no"))), "{failed:?}");
    assert_eq!(attempts, 3);
    producer.close(PATIENCE).unwrap();

    let reader = client
        .consumer_with(ConsumerConfig {
            group_id: Some("readers".into()),
            isolation_level: IsolationLevel::ReadCommitted,
            ..client.consumer_config()
        })
        .unwrap();
    reader.subscribe(["to"]).unwrap();
    assert_eq!(reader.recv().unwrap().value(), Some(&b"2"[..]));
    let more = reader.recv_for(Duration::from_millis(300)).unwrap();
    assert!(more.is_none(), "{more:?}");
    reader.close(PATIENCE).unwrap();
}

/// Writes down what it hears, and commits what it is about to lose.
#[derive(Debug)]
struct Scribe(Mutex<std::sync::mpsc::Sender<String>>);

impl Scribe {
    fn note(&self, what: &str, partitions: &[TopicPartition]) {
        let note = format!("{what} {}", partitions.len());
        let _ = self.0.lock().unwrap().send(note);
    }
}

impl RebalanceListener for Scribe {
    fn partitions_assigned(&self, consumer: &Consumer, partitions: &[TopicPartition]) {
        for partition in partitions {
            consumer.seek(partition, Offset::At(1)).unwrap();
        }
        self.note("assigned", partitions);
    }

    fn partitions_revoked(&self, consumer: &Consumer, partitions: &[TopicPartition]) {
        consumer.commit().unwrap();
        // What would wait for the rebalance that waits for this.
        let refused = [
            consumer.recv().map(drop),
            consumer.unsubscribe(),
            consumer.close(PATIENCE),
        ];
        for refused in refused {
            let misuse = matches!(refused, Err(Error::Consumer(ConsumerError::Usage(_))));
            assert!(misuse, "{refused:?}");
        }
        self.note("revoked", partitions);
        panic!("the group must go on");
    }
}

#[test]
fn a_listener_that_blocks_may_use_the_consumer() {
    let broker = broker("t", 1);
    let client = broker.client();
    let producer = client.producer().unwrap();
    for text in ["0", "1"] {
        let record = ProducerRecord::to("t").value(text);
        producer.produce_and_wait(record).unwrap();
    }
    let (tell, told) = std::sync::mpsc::channel();
    let config = ConsumerConfig {
        enable_auto_commit: false,
        ..client.consumer_config()
    };
    let scribe = Scribe(Mutex::new(tell));
    let consumer = client.consumer_with_listener(config, scribe).unwrap();
    consumer.subscribe(["t"]).unwrap();
    let record = consumer.recv().unwrap();
    assert_eq!(record.offset(), 1, "it was sought before");
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "assigned 1");
    consumer.unsubscribe().unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "revoked 1");
    let at = TopicPartition::new("t", 0);
    let committed = consumer.committed(std::slice::from_ref(&at)).unwrap();
    assert_eq!(committed[&at].as_ref().unwrap().offset, 2);
    consumer.close(PATIENCE).unwrap();
}
