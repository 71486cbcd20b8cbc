//! Other people's clients and Kafka's own tools on the embedded broker, unmodified and over real sockets.
//!
//! What each client says it did is held against what the broker's logs hold, and against what our own consumer
//! reads.
#![allow(clippy::unwrap_used)]

#[path = "../client/mod.rs"]
mod client;
mod failover;
mod java;
mod kcat;
mod stage;
mod walk;
