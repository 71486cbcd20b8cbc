//! Our group members beside other clients', topics that change under them, and transactions of others, on a live
//! Kafka.
#![allow(clippy::unwrap_used)]

#[path = "../client/mod.rs"]
mod client;
mod mixed;
mod topic_changes;
mod transactions;
