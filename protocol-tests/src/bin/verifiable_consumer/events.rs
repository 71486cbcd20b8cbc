//! What it tells, with the names and the order of fields that Java's events have.

use ottla::consumer::TopicPartition;
use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub(crate) enum Event {
    StartupComplete,
    PartitionsAssigned {
        partitions: Vec<Partition>,
    },
    /// Or lost: Java's tells no difference.
    PartitionsRevoked {
        partitions: Vec<Partition>,
    },
    RecordData {
        key: Option<String>,
        value: Option<String>,
        topic: String,
        partition: i32,
        offset: i64,
    },
    RecordsConsumed {
        /// Of the call for records; the partitions' stop at `--max-messages`.
        count: usize,
        partitions: Vec<Consumed>,
    },
    OffsetsCommitted {
        offsets: Vec<Committed>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        success: bool,
    },
    ShutdownRequested,
    ShutdownComplete,
}

#[derive(Debug, Serialize)]
pub(crate) struct Partition {
    topic: String,
    partition: i32,
}

impl From<&TopicPartition> for Partition {
    fn from(name: &TopicPartition) -> Self {
        Self {
            topic: name.topic.to_string(),
            partition: name.partition,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Consumed {
    #[serde(flatten)]
    pub(crate) partition: Partition,
    pub(crate) count: usize,
    pub(crate) min_offset: i64,
    pub(crate) max_offset: i64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Committed {
    #[serde(flatten)]
    pub(crate) partition: Partition,
    /// Of the next record to read.
    pub(crate) offset: i64,
}
