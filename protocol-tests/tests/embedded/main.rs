//! Other people's clients and Kafka's own tools on the embedded broker, unmodified and over real sockets.
//!
//! What each client says it did is held against what the broker's logs hold, and against what our own consumer
//! reads.
#![allow(clippy::unwrap_used)]

#[path = "../client/mod.rs"]
mod client;
mod consumer_protocol;
mod failover;
mod java;
mod kcat;
mod stage;
mod walk;

use ottla_protocol_tests::{Python, or_skip};

#[test]
fn transactions_of_librdkafka_are_read_as_they_ended() {
    let Some(python) = or_skip(Python::get()) else {
        return;
    };
    let stage = stage::Stage::start(3);
    stage.broker().create_topic("transactions", 1).unwrap();
    client::transactions::are_read_as_they_ended(&python, &stage.bootstrap(), "transactions");
}
