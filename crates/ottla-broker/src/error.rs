//! What can go wrong with an embedded cluster itself; clients get Kafka's error codes.

use std::io;
use std::path::PathBuf;

use ottla_wire::ErrorCode;

/// An embedded cluster could not be started or controlled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option makes no sense.
    #[error("{0}")]
    Options(String),
    /// A node's address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another broker using it?")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}: {source}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A topic could not be created.
    #[error("topic {topic}: {message}")]
    Topic {
        /// The topic.
        topic: String,
        /// Why not.
        message: String,
    },
    /// Something was asked of the cluster that it cannot do now.
    #[error("{what}: {}", error.meaning())]
    Broker {
        /// What was asked.
        what: String,
        /// Why it cannot be done.
        error: ErrorCode,
    },
}
