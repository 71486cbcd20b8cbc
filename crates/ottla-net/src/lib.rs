//! Connections to Kafka brokers, cluster metadata and coordinators.
#![forbid(unsafe_code)]
