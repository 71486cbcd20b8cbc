//! Kafka consumer: group membership, fetcher, offsets.
#![forbid(unsafe_code)]
