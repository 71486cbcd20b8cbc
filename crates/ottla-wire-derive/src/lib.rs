//! Derive macro for Kafka message definitions.
#![forbid(unsafe_code)]
