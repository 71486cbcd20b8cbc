//! `ottla::blocking`: plain threads against the embedded broker.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::time::{Duration, Instant};

use ottla::blocking::{Client, Error};
use ottla::prelude::*;
use ottla::producer::{Purge, SendError};
use ottla::testing::{ApiKey, Fault, Rule, TestCluster};

const PATIENCE: Duration = Duration::from_secs(30);

/// A broker on a runtime of its own, as another process would be.
struct Broker {
    kafka: TestCluster,
    _runtime: tokio::runtime::Runtime,
}

fn broker(topic: &str, partitions: i32) -> Broker {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let started = TestCluster::builder().topic(topic, partitions).over_tcp();
    let kafka = runtime.block_on(started).unwrap();
    Broker {
        kafka,
        _runtime: runtime,
    }
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
