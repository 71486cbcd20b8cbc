//! Tracing spans under OpenTelemetry's names for messaging: one per batch, and one per record only when
//! asked for.
//!
//! Without a subscriber that wants them they cost a look at a flag per batch. A batch's span is open
//! from its first record to its outcome; with [records traced](crate::ProducerConfig::trace_records)
//! it follows from the spans of its records, which are children of the caller's.

use std::sync::Arc;

use tracing::Span;
use tracing::field::Empty;

use crate::delivery::Outcome;
use crate::error::{SendError, TopicPartition};
use crate::record::ProducerRecord;

/// What all spans of one producer share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spans {
    pub(crate) client_id: Arc<str>,
}

impl Spans {
    /// A batch was opened.
    pub(crate) fn batch(&self, at: &TopicPartition) -> Span {
        tracing::info_span!(
            target: "ottla_producer::batch",
            parent: None,
            "send",
            otel.name = format!("send {}", at.topic),
            otel.kind = "producer",
            otel.status_code = Empty,
            otel.status_description = Empty,
            error.type = Empty,
            messaging.system = "kafka",
            messaging.operation.name = "send",
            messaging.operation.type = "send",
            messaging.client.id = &*self.client_id,
            messaging.destination.name = &*at.topic,
            messaging.destination.partition.id = at.partition,
            messaging.batch.message_count = Empty,
            messaging.kafka.offset = Empty,
        )
    }

    /// A record was accepted into the batch that `batch` stands for.
    pub(crate) fn record(&self, record: &ProducerRecord<'_>, partition: i32, batch: &Span) {
        let span = tracing::info_span!(
            target: "ottla_producer::record",
            "create",
            otel.name = format!("create {}", record.topic),
            otel.kind = "producer",
            messaging.system = "kafka",
            messaging.operation.name = "create",
            messaging.operation.type = "create",
            messaging.client.id = &*self.client_id,
            messaging.destination.name = record.topic,
            messaging.destination.partition.id = partition,
            messaging.message.body.size = record.value.map_or(0, <[u8]>::len),
            messaging.kafka.message.key = record.key.and_then(|key| std::str::from_utf8(key).ok()),
            messaging.kafka.message.tombstone = record.value.is_none(),
        );
        batch.follows_from(&span);
    }
}

/// Writes a batch's outcome into its span.
pub(crate) fn end(span: &Span, records: u32, outcome: &Outcome) {
    if span.is_disabled() {
        return;
    }
    span.record("messaging.batch.message_count", records);
    match outcome {
        Outcome::Written(written) if written.base_offset >= 0 => {
            span.record("messaging.kafka.offset", written.base_offset);
        }
        Outcome::Written(_) | Outcome::Split(_) => {}
        Outcome::Failed { error, .. } => {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", error.to_string());
            span.record("error.type", error_type(error));
        }
    }
}

/// A few words for many errors: what a dashboard groups by.
fn error_type(error: &SendError) -> &str {
    match error {
        SendError::Refused { code, .. } => code.name(),
        SendError::RecordTooLarge { .. } => "RECORD_TOO_LARGE",
        SendError::InvalidRecord { .. } => "INVALID_RECORD",
        SendError::TimedOut { .. } => "TIMED_OUT",
        SendError::PossiblyWritten { .. } => "POSSIBLY_WRITTEN",
        SendError::TransactionEnded { .. } => "TRANSACTION_ENDED",
        SendError::Purged => "PURGED",
        SendError::Closed => "CLOSED",
        _ => "FATAL",
    }
}
