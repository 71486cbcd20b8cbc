//! Tracing spans under OpenTelemetry's names for messaging: one per batch, request, commit and rebalance, never one
//! per record.
//!
//! Without a subscriber that wants them they cost a look at a flag each. Those of what the application calls are children
//! of its own span; those of background tasks are children of none. None is entered across an await.

use std::fmt::Display;

use ottla_net::Cluster;
use ottla_wire::ErrorCode;
use tracing::{Level, Span, field::Empty};

use crate::{
    Str, TopicPartition,
    group::commit::{Offsets, Outcome},
};

/// What all spans of one consumer share.
#[derive(Debug, Clone)]
pub(crate) struct Spans {
    client_id: Str,
    group: Option<Str>,
}

/// A span of a client, with what all of them say.
macro_rules! span {
    ($of:expr, $level:expr, $operation:literal, $(parent: $parent:expr,)? name: $name:expr, $($fields:tt)*) => {
        tracing::span!(
            target: concat!("ottla_consumer::", $operation),
            $(parent: $parent,)?
            $level,
            $operation,
            otel.name = $name,
            otel.kind = "client",
            otel.status_code = Empty,
            otel.status_description = Empty,
            error.type = Empty,
            messaging.system = "kafka",
            messaging.operation.name = $operation,
            messaging.client.id = &*$of.client_id,
            messaging.consumer.group.name = $of.group.as_deref(),
            $($fields)*
        )
    };
}

impl Spans {
    pub(crate) fn new(cluster: &Cluster, group: Option<&str>) -> Self {
        Self {
            client_id: cluster.config().client_id.as_str().into(),
            group: group.map(Into::into),
        }
    }

    /// A batch is taken for the application, and decoded.
    pub(crate) fn poll(&self, at: &TopicPartition) -> Span {
        span!(
            self,
            Level::INFO,
            "poll",
            name: format!("poll {}", at.topic),
            messaging.operation.type = "receive",
            messaging.destination.name = &*at.topic,
            messaging.destination.partition.id = at.partition,
            messaging.batch.message_count = Empty,
            messaging.kafka.offset = Empty,
        )
    }

    /// A broker is asked for records. As detailed as it is frequent: an idle consumer asks all the time.
    pub(crate) fn fetch(&self, node: i32) -> Span {
        span!(
            self,
            Level::DEBUG,
            "fetch",
            parent: None,
            name: "fetch",
            node,
            partitions = Empty,
            bytes = Empty,
        )
    }

    /// A commit is asked for.
    pub(crate) fn commit(&self, offsets: &Offsets) -> Span {
        let span = span!(
            self,
            Level::INFO,
            "commit",
            name: named("commit", offsets.keys()),
            messaging.operation.type = "settle",
            messaging.destination.name = Empty,
            messaging.destination.partition.id = Empty,
            messaging.kafka.offset = Empty,
            partitions = offsets.len(),
        );
        if !span.is_disabled() {
            record_destination(&span, offsets.keys());
            if let (1, Some(offset)) = (offsets.len(), offsets.values().next()) {
                span.record("messaging.kafka.offset", offset.offset);
            }
        }
        span
    }

    /// Records of a share group are acknowledged by a request to a broker, which may be a fetch.
    pub(crate) fn acknowledge(
        &self,
        node: i32,
        records: u64,
        partitions: impl Fn() -> Vec<TopicPartition>,
        fetch: &Span,
    ) -> Span {
        let span = span!(
            self,
            Level::INFO,
            "acknowledge",
            parent: fetch,
            name: named("acknowledge", partitions().iter()),
            messaging.operation.type = "settle",
            messaging.destination.name = Empty,
            messaging.destination.partition.id = Empty,
            messaging.batch.message_count = records,
            node,
        );
        if !span.is_disabled() {
            record_destination(&span, partitions().iter());
        }
        span
    }

    /// The group rebalances, or is joined.
    pub(crate) fn rebalance(&self) -> Span {
        span!(
            self,
            Level::INFO,
            "rebalance",
            parent: None,
            name: "rebalance",
            partitions.assigned = Empty,
            partitions.revoked = Empty,
        )
    }
}

/// Writes into its span what a batch is. `records`: how many, if that is known.
pub(crate) fn taken(span: &Span, first: i64, records: Option<u64>) {
    span.record("messaging.kafka.offset", first);
    if let Some(records) = records {
        span.record("messaging.batch.message_count", records);
    }
}

/// Writes a commit's outcome into its span.
pub(crate) fn settled(span: &Span, outcome: &Outcome) {
    match outcome {
        Outcome::Committed => {}
        Outcome::Refused { error, .. } => refused(span, *error),
        Outcome::Expired { sent: true, last } => fail(span, "COMMIT_UNKNOWN", last),
        Outcome::Expired { sent: false, last } => fail(span, "TIMED_OUT", last),
    }
}

/// Writes into a span what a broker said.
pub(crate) fn refused(span: &Span, error: ErrorCode) {
    fail(span, error.name(), error);
}

/// Writes into a span how what it stands for failed. `kind`: a few words for many errors, what a dashboard groups by.
pub(crate) fn fail(span: &Span, kind: &str, error: impl Display) {
    if span.is_disabled() {
        return;
    }
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", error.to_string());
    span.record("error.type", kind);
}

/// What requests that were not answered are grouped by.
pub(crate) const NO_ANSWER: &str = "NO_ANSWER";

/// What batches are grouped by that cannot be read.
pub(crate) const UNREADABLE: &str = "UNREADABLE";

/// The topic and the partition, where there is but one.
fn record_destination<'a>(span: &Span, partitions: impl Iterator<Item = &'a TopicPartition>) {
    let mut partitions = partitions.peekable();
    let Some(first) = partitions.next() else {
        return;
    };
    let single = partitions.peek().is_none();
    if partitions.all(|other| other.topic == first.topic) {
        span.record("messaging.destination.name", &*first.topic);
    }
    if single {
        span.record("messaging.destination.partition.id", first.partition);
    }
}

/// A span's name: that of an operation, and of its topic if there is but one.
fn named<'a>(operation: &str, mut partitions: impl Iterator<Item = &'a TopicPartition>) -> String {
    match partitions.next() {
        Some(first) if partitions.all(|other| other.topic == first.topic) => {
            format!("{operation} {}", first.topic)
        }
        _ => operation.to_owned(),
    }
}
