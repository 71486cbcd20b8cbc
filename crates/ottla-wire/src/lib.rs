//! The Kafka wire format: messages, record batches, compression.
#![forbid(unsafe_code)]
