//! Kafka administration: topics, configurations, cluster.
#![forbid(unsafe_code)]
