//! Connections to Kafka brokers, cluster metadata and coordinators.
//!
//! The layer between [`ottla_wire`], which knows bytes and messages, and the producer, consumer and
//! admin client, which know what to ask. It answers three questions for them: *who* (metadata, leaders,
//! coordinators), *how to get there* (connections, one per broker and [`Lane`]) and *what if not*
//! ([`Error`], [`Backoff`], deadlines). It never looks into records.
//!
//! | module | concept |
//! | --- | --- |
//! | [`transport`] | streams of bytes: TCP, in memory, a seam for TLS |
//! | `connection` | requests and replies on one stream; versions; a seam for SASL |
//! | `pool` | connections by broker and lane, made on demand, shared |
//! | `cluster` | metadata, coordinators, calls with retry |
//!
//! # Time
//! Deadlines are [`Instant`]s of tokio's clock, so that tests can pause it.
#![forbid(unsafe_code)]

mod address;
mod backoff;
mod cluster;
mod config;
mod connection;
mod error;
mod group;
mod histogram;
mod pool;
mod race;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transport;
mod watch;

pub use address::{Address, ParseAddressError};
pub use backoff::Backoff;
pub use cluster::{Broker, Cluster, CoordinatorKind, LeaderHint, Metadata, Partition, To, Topic};
pub use config::{AddressFamily, ClusterConfig, MetadataRecovery};
pub use connection::{
    Authenticator, BrokerVersions, Connection, ConnectionStats, Handshake, Pending, Session,
    Written,
};
pub use error::{CloseCause, Error, ForeignAnswer, Peer, Sent};
pub use group::GroupMetadata;
pub use histogram::{Histogram, Recorder};
pub use pool::Lane;
pub use transport::{Connector, Stream, TcpConnector, TcpOptions};

pub use tokio::time::Instant;
