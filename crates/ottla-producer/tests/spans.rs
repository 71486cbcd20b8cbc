//! Spans under OpenTelemetry's names.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests, helper functions included"
)]

#[path = "driver/kafka.rs"]
#[allow(dead_code, reason = "shared with the tests of the driver")]
mod kafka;
#[path = "model/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the tests of the driver"
)]
mod model;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_producer::{ProducerConfig, ProducerRecord};
use ottla_wire::ErrorCode;
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};

use crate::kafka::{Act, Kafka, config};

/// Keeps every span there was.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<HashMap<u64, Seen>>>);

#[derive(Clone, Debug, Default)]
struct Seen {
    name: &'static str,
    fields: HashMap<&'static str, String>,
    follows: Vec<u64>,
    parent: Option<u64>,
    closed: bool,
    references: u32,
}

thread_local! {
    static CURRENT: std::cell::RefCell<Vec<u64>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

impl tracing::Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("ottla_producer::") || metadata.target() == "test"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut spans = self.0.lock();
        let id = spans.len() as u64 + 1;
        let mut seen = Seen {
            name: span.metadata().name(),
            references: 1,
            ..Seen::default()
        };
        seen.parent = match span.is_contextual() {
            true => CURRENT.with_borrow(|current| current.last().copied()),
            false => span.parent().map(Id::into_u64),
        };
        span.record(&mut seen);
        spans.insert(id, seen);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(self.0.lock().get_mut(&span.into_u64()).unwrap());
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        let mut spans = self.0.lock();
        spans
            .get_mut(&span.into_u64())
            .unwrap()
            .follows
            .push(follows.into_u64());
    }

    fn event(&self, _: &tracing::Event<'_>) {}

    fn enter(&self, span: &Id) {
        CURRENT.with_borrow_mut(|current| current.push(span.into_u64()));
    }

    fn exit(&self, _: &Id) {
        CURRENT.with_borrow_mut(|current| {
            current.pop();
        });
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.0.lock().get_mut(&id.into_u64()).unwrap().references += 1;
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut spans = self.0.lock();
        let seen = spans.get_mut(&id.into_u64()).unwrap();
        seen.references -= 1;
        seen.closed = seen.references == 0;
        seen.closed
    }
}

impl Spans {
    fn named(&self, name: &str) -> Vec<(u64, Seen)> {
        let spans = self.0.lock();
        let mut named: Vec<_> = spans.iter().filter(|(_, seen)| seen.name == name).collect();
        named.sort_by_key(|(id, _)| **id);
        named
            .into_iter()
            .map(|(id, seen)| (*id, seen.clone()))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn batches_are_traced_under_opentelemetrys_names() {
    // For the whole process, whose only test this is: callsites remember what the first subscriber said.
    let spans = Spans::default();
    tracing::subscriber::set_global_default(spans.clone()).unwrap();
    for trace_records in [false, true] {
        let kafka = Kafka::start(1, 2);
        kafka.fault(|_, partition, _| match partition {
            1 => Act::Answer(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            _ => Act::Append,
        });
        spans.0.lock().clear();
        let producer = kafka.producer(ProducerConfig {
            linger: Duration::from_millis(5),
            trace_records,
            ..config()
        });
        let caller = tracing::info_span!(target: "test", "caller");
        let record = ProducerRecord::to("clicks")
            .partition(0)
            .key("k")
            .value("v");
        producer.send(record).await.unwrap().await.unwrap();
        let mut deliveries = Vec::new();
        caller.in_scope(|| {
            for _ in 0..3 {
                deliveries.push(producer.try_send(record).unwrap());
            }
            deliveries.push(producer.try_send(record.partition(1)).unwrap());
        });
        producer.flush(Duration::from_secs(5)).await.unwrap();

        let batches = spans.named("send");
        assert_eq!(batches.len(), 3, "{batches:?}");
        let (_, written) = &batches[1];
        for (field, value) in [
            ("messaging.system", "kafka"),
            ("messaging.operation.type", "send"),
            ("messaging.destination.name", "clicks"),
            ("messaging.destination.partition.id", "0"),
            ("messaging.batch.message_count", "3"),
            ("messaging.kafka.offset", "1"),
            ("messaging.client.id", "ottla"),
            ("otel.name", "send clicks"),
            ("otel.kind", "producer"),
        ] {
            assert_eq!(
                written.fields.get(field).map(String::as_str),
                Some(value),
                "{field}"
            );
        }
        assert!(written.closed && !written.fields.contains_key("error.type"));
        let (_, refused) = &batches[2];
        assert_eq!(refused.fields["error.type"], "TOPIC_AUTHORIZATION_FAILED");
        assert_eq!(refused.fields["otel.status_code"], "ERROR");

        let records = spans.named("create");
        assert_eq!(records.len(), if trace_records { 5 } else { 0 });
        if trace_records {
            let ids: Vec<u64> = records[1..4].iter().map(|(id, _)| *id).collect();
            assert_eq!(written.follows, ids);
            let caller = caller.id().unwrap().into_u64();
            let (_, record) = &records[2];
            assert!(record.closed && record.parent == Some(caller), "{record:?}");
            assert_eq!(record.fields["messaging.kafka.message.key"], "k");
            assert_eq!(record.fields["messaging.message.body.size"], "1");
        }
        drop(deliveries);
    }
}
