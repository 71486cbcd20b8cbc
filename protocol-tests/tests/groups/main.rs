//! Our group members beside other clients', topics that change under them, and transactions of others, on a live
//! Kafka.
#![allow(clippy::unwrap_used)]

#[path = "../client/mod.rs"]
mod client;
mod consumer_protocol;
mod exactly_once;
mod mixed;
mod streams;
mod topic_changes;

use ottla_protocol_tests::{Kafka, Python, or_skip, unique};

#[test]
fn transactions_of_librdkafka_are_read_as_they_ended() {
    let Some(kafka) = Kafka::shared() else { return };
    let Some(python) = or_skip(Python::get()) else {
        return;
    };
    let topic = unique("transactions");
    kafka.create_topic(&topic, 1, &[]);
    client::transactions::are_read_as_they_ended(&python, kafka.bootstrap(), &topic);
}
