//! What it tells, with the names and the order of fields that Java's events have.

use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub(crate) enum Event {
    StartupComplete,
    ProducerSendSuccess {
        key: Option<String>,
        value: String,
        /// -1 if the broker does not tell.
        offset: i64,
        topic: String,
        partition: i32,
    },
    ProducerSendError {
        topic: String,
        key: Option<String>,
        value: String,
        exception: String,
        message: String,
    },
    ShutdownComplete,
    ToolData {
        sent: u64,
        acked: u64,
        target_throughput: i64,
        avg_throughput: f64,
    },
}
