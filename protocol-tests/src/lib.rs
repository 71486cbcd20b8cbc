//! Conformance tests against live Apache Kafka.
#![forbid(unsafe_code)]
