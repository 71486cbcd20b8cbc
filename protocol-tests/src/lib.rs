//! Starts Apache Kafka for tests, runs its tools, and puts faults between it and a client.
//!
//! The conformance tests of `tests/` build on this. Nothing here speaks through Ottla's own
//! clients: the harness is the judge, so it stays apart from what it judges.
//!
//! * [`Kafka::shared`]: one broker for all tests of a test binary, or the cluster that
//!   `OTTLA_BOOTSTRAP` names.
//! * [`KafkaCluster`]: a cluster of one's own, whose nodes can be killed, paused and restarted.
//! * [`Tools`]: Kafka's own command-line tools, their output captured; [`Kcat`], [`Python`] and [`FranzGo`]:
//!   other people's clients. A [`Guest`] is one of these that goes through a scenario step by step.
//! * [`Proxy`]: loses, delays, changes and cuts requests and replies on their way.
//! * [`Impostor`]: what may listen on a port that someone took for Kafka's.
//! * [`verifiable`]: how the binaries print that do what Kafka's verifiable clients do.
//!
//! What a machine lacks (Java, Maven) makes [`or_skip`] print why and what to install; with
//! `OTTLA_REQUIRE_KAFKA=1` it fails the test instead.
//!
//! Unix only: nodes are controlled by signals and watched over by a shell.
#![forbid(unsafe_code)]

mod by_hand;
mod cache;
mod clients;
mod cluster;
mod console;
mod distribution;
mod error;
mod franz_go;
mod guest;
mod impostor;
mod node;
mod process;
mod proxy;
mod recording;
pub mod sample;
mod segment;
mod session;
mod settings;
mod shared;
mod tools;
mod topic;
pub mod verifiable;
mod watchdog;

pub use clients::{Kcat, Python};
pub use cluster::{KafkaCluster, Options};
pub use console::Seen;
pub use distribution::{Distribution, Version};
pub use error::{Error, or_skip};
pub use franz_go::FranzGo;
pub use guest::Guest;
pub use impostor::{Impostor, Manner};
pub use node::NodeId;
pub use process::{Output, Process};
pub use proxy::{Direction, Fate, Passing, Proxy};
pub use recording::Recording;
pub use sample::Sample;
pub use segment::Dump;
pub use shared::{Kafka, Lease, unique};
pub use tools::{Tool, Tools};
