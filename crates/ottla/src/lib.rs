//! Apache Kafka client in pure Rust.
#![forbid(unsafe_code)]

pub mod config;

#[doc(inline)]
pub use config::{Config, ConfigError};
