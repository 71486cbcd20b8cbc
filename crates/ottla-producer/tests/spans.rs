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

use std::time::Duration;

use ottla_net::testing::SpanLog;
use ottla_producer::{ProducerConfig, ProducerRecord};
use ottla_wire::ErrorCode;

use crate::kafka::{Act, Kafka, config};

#[tokio::test(start_paused = true)]
async fn batches_are_traced_under_opentelemetrys_names() {
    let spans = SpanLog::install(&["ottla_producer::", "test"]).unwrap();
    for trace_records in [false, true] {
        let kafka = Kafka::start(1, 2);
        kafka.fault(|_, partition, _| match partition {
            1 => Act::Answer(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            _ => Act::Append,
        });
        let before = spans.named("send").len();
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

        let batches = spans.named("send").split_off(before);
        assert_eq!(batches.len(), 3, "{batches:?}");
        let written = &batches[1];
        written.check(&[
            ("messaging.system", "kafka"),
            ("messaging.operation.type", "send"),
            ("messaging.destination.name", "clicks"),
            ("messaging.destination.partition.id", "0"),
            ("messaging.batch.message_count", "3"),
            ("messaging.kafka.offset", "1"),
            ("messaging.client.id", "ottla"),
            ("otel.name", "send clicks"),
            ("otel.kind", "producer"),
        ]);
        assert!(written.closed && !written.fields.contains_key("error.type"));
        let refused = &batches[2];
        refused.check(&[
            ("error.type", "TOPIC_AUTHORIZATION_FAILED"),
            ("otel.status_code", "ERROR"),
        ]);

        let records = spans.named("create");
        assert_eq!(records.len(), if trace_records { 5 } else { 0 });
        if trace_records {
            let ids: Vec<u64> = records[1..4].iter().map(|record| record.id).collect();
            assert_eq!(written.follows, ids);
            let caller = caller.id().unwrap().into_u64();
            let record = &records[2];
            assert!(record.closed && record.parent == Some(caller), "{record:?}");
            assert_eq!(record.fields["messaging.kafka.message.key"], "k");
            assert_eq!(record.fields["messaging.message.body.size"], "1");
        }
        drop(deliveries);
    }
}
