//! Kafka producer: partitioner, accumulator, sender, idempotence.
#![forbid(unsafe_code)]
