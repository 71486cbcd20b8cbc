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
    /// Another broker, of this process or another, uses the data directory.
    #[error(
        "the data directory {} is in use by another broker; stop that one or choose another directory",
        path.display()
    )]
    DataDirInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The data directory is not one that this version of the broker writes.
    #[error(
        "the data directory {} holds {found}; this broker reads and writes version {} of the layout only; choose another directory",
        path.display(),
        crate::storage::VERSION
    )]
    DataDirVersion {
        /// The directory.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// A file without which the broker cannot know what it has to serve is not as it was written. Nothing was
    /// changed. Damage to record batches is none of these: see [`Damage`](crate::Damage).
    #[error(
        "{} is damaged: {what}; bring it back from a copy, or remove it if what it holds may be lost",
        file.display()
    )]
    DataDirDamaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
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

/// Why a request, or a part of it, is refused: what the client gets to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) error: ErrorCode,
    pub(crate) message: String,
}
