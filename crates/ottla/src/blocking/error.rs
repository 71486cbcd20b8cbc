//! What can go wrong in a blocking call.

use std::time::Duration;

use crate::consumer;
use crate::producer::{FlushError, SendAllError, SendError, TransactionError};

/// Why a blocking call failed: what the async call's error is, or that waiting is not allowed here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call would block a thread of an async runtime.
    #[error(
        "{call} would block a thread that an async runtime needs; use the async client there (ottla::Client), or call it on a thread of its own (std::thread::spawn)"
    )]
    InsideRuntime {
        /// The call.
        call: &'static str,
    },
    /// The client's own runtime could not be started.
    #[error("the client's threads could not be started: {0}")]
    Runtime(#[source] std::io::Error),
    /// The client, producer or consumer could not be made.
    #[error(transparent)]
    Client(#[from] crate::Error),
    /// A record was not accepted, or not (certainly) written.
    #[error(transparent)]
    Send(#[from] SendError),
    /// One of several records was not accepted.
    #[error("{}", .0.error)]
    SendAll(#[source] SendAllError),
    /// Records were left at a deadline.
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// A transaction's call failed.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// A consumer's call failed.
    #[error(transparent)]
    Consumer(#[from] consumer::Error),
    /// Nothing came in time.
    #[error("no outcome within {waited:?}; it is still to come")]
    Timeout {
        /// How long the call waited.
        waited: Duration,
    },
}
