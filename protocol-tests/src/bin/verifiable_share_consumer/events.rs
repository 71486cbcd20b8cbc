//! What it tells, with the names and the order of fields that Java's events have.

use std::collections::BTreeSet;

use ottla::consumer::TopicPartition;
use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub(crate) enum Event {
    StartupComplete,
    OffsetResetStrategySet {
        #[serde(rename = "offsetResetStrategy")]
        strategy: String,
    },
    RecordData {
        key: Option<String>,
        value: Option<String>,
        topic: String,
        partition: i32,
        offset: i64,
    },
    RecordsConsumed {
        count: usize,
        partitions: Vec<Offsets>,
    },
    OffsetsAcknowledged {
        count: usize,
        partitions: Vec<Offsets>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        success: bool,
    },
    ShutdownComplete,
}

/// Of one partition.
#[derive(Debug, Serialize)]
pub(crate) struct Offsets {
    topic: String,
    partition: i32,
    count: usize,
    offsets: BTreeSet<i64>,
}

impl Offsets {
    pub(crate) fn of(name: &TopicPartition, offsets: BTreeSet<i64>) -> Self {
        Self {
            topic: name.topic.to_string(),
            partition: name.partition,
            count: offsets.len(),
            offsets,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }
}
