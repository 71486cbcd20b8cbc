//! What a producer tells of its work: figures and interceptors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_producer::{
    Acknowledgement, Compression, Header, InterceptedRecord, Interceptors, ProducerConfig,
    ProducerInterceptor, ProducerRecord, SendError,
};
use ottla_wire::ErrorCode;
use parking_lot::Mutex;

use crate::kafka::{Act, Kafka, send};

#[tokio::test(start_paused = true)]
async fn figures_add_up() {
    let kafka = Kafka::start(1, 2);
    let mut seen = 0;
    kafka.fault(move |_, partition, records| {
        seen += 1;
        match (seen, partition) {
            (1, 0) if records.len() > 100 => Act::Answer(ErrorCode::MESSAGE_TOO_LARGE),
            (2..4, 0) => Act::Answer(ErrorCode::NOT_ENOUGH_REPLICAS),
            (_, 1) => Act::Answer(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            _ => Act::Delay(Duration::from_millis(40)),
        }
    });
    let producer = kafka.producer(ProducerConfig {
        linger: Duration::from_millis(20),
        compression: Compression::Lz4,
        ..Default::default()
    });
    *kafka.throttle_ms.lock() = 3;
    let mut deliveries = Vec::new();
    for _ in 0..40 {
        deliveries.push(send(&producer, 0, &"x".repeat(300)).await);
    }
    deliveries.push(send(&producer, 1, "no").await);
    tokio::time::sleep(Duration::from_millis(25)).await;
    producer.flush(Duration::from_secs(20)).await.unwrap();
    let metrics = producer.metrics();
    assert_eq!(metrics.records_accepted, 41);
    assert_eq!((metrics.records_delivered, metrics.records_failed), (40, 1));
    assert_eq!(
        (
            metrics.records_possibly_written,
            metrics.records_outstanding()
        ),
        (0, 0)
    );
    assert_eq!((metrics.batches_split, metrics.batches_failed), (1, 1));
    assert!(metrics.batches_delivered >= 2, "{metrics:?}");
    assert!(
        metrics.retries >= 3,
        "two refusals and the pieces: {metrics:?}"
    );
    assert!(metrics.compression_ratio() < 0.5, "{metrics:?}");
    assert_eq!(metrics.delivery_latency.count(), metrics.batches_delivered);
    assert_eq!(metrics.batch_records.sum(), 40);
    assert_eq!(metrics.request_latency.count(), metrics.requests_sent);
    let latency = metrics.request_latency.time(1.0);
    assert!(
        latency >= Duration::from_millis(40) && latency < Duration::from_secs(1),
        "{latency:?}"
    );
    assert!(
        metrics.queue_latency.time(0.0) >= Duration::from_millis(20),
        "lingering counts"
    );
    assert!(metrics.throttled >= Duration::from_millis(3), "{metrics:?}");
    assert_eq!((metrics.buffered_bytes, metrics.waiting_callers), (0, 0));
}

/// The partition, how many records, and their first offset or what went wrong.
type Told = (Option<i32>, u32, Result<Option<i64>, String>);

#[derive(Default)]
struct Watching {
    sent: AtomicU64,
    told: Mutex<Vec<Told>>,
}

impl ProducerInterceptor for Watching {
    fn on_send(&self, record: &mut InterceptedRecord<'_>) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        assert_eq!(record.headers().count(), 1);
        record.add_header("trace", Some(b"7"));
        if record.value() == Some(b"secret") {
            record.set_value(Some(b"hidden".to_vec()));
        }
        assert_ne!(record.value(), Some(b"panic".as_slice()), "on purpose");
    }

    fn on_acknowledgement(&self, outcome: &Acknowledgement<'_>) {
        assert_eq!(outcome.topic(), "clicks");
        let result = match outcome.error() {
            None => Ok(outcome.base_offset()),
            Some(error) => Err(error.to_string()),
        };
        self.told
            .lock()
            .push((outcome.partition(), outcome.records(), result));
    }
}

#[tokio::test(start_paused = true)]
async fn interceptors_see_and_change_records_and_hear_of_outcomes() {
    let kafka = Kafka::start(1, 2);
    kafka.fault(|_, partition, _| match partition {
        1 => Act::Answer(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        _ => Act::Append,
    });
    let watching = Arc::new(Watching::default());
    let producer = kafka.producer(ProducerConfig {
        linger: Duration::from_millis(20),
        interceptors: Interceptors::default().with(watching.clone()),
        ..Default::default()
    });
    let headers = [Header {
        key: "own",
        value: None,
    }];
    let mut deliveries = Vec::new();
    for (partition, value) in [(0, "open"), (0, "secret"), (0, "panic"), (1, "no")] {
        let record = ProducerRecord::to("clicks")
            .partition(partition)
            .value(value)
            .headers(&headers);
        let sent = producer.send(record).await;
        deliveries.push(sent.unwrap());
    }
    let record = ProducerRecord::to("clicks").partition(9).headers(&headers);
    assert!(matches!(
        producer.try_send(record),
        Err(SendError::UnknownPartition { .. })
    ));
    producer.flush(Duration::from_secs(5)).await.unwrap();
    assert_eq!(kafka.values(0), ["open", "hidden", "panic"]);
    assert_eq!(watching.sent.load(Ordering::Relaxed), 5);
    let told = watching.told.lock();
    assert_eq!(told.len(), 3, "one per batch, and the refusal: {told:?}");
    assert!(told.contains(&(Some(0), 3, Ok(Some(0)))), "{told:?}");
    let failures: Vec<_> = told
        .iter()
        .filter_map(|(at, n, told)| Some((at, n, told.as_ref().err()?)))
        .collect();
    assert!(
        failures
            .iter()
            .any(|(at, n, error)| (**at, **n) == (Some(9), 1) && error.contains("no partition 9")),
        "{failures:?}"
    );
    assert!(
        failures
            .iter()
            .any(|(at, n, error)| (**at, **n) == (Some(1), 1) && error.contains("AUTHORIZATION")),
        "{failures:?}"
    );
}
