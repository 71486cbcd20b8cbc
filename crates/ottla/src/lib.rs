//! Apache Kafka client in pure Rust.
//!
//! A [`Client`] is made from a [`Config`], which takes settings by the names that Java's clients and
//! librdkafka give them, or typed ones; it hands out producers, consumers and administration, which
//! share its connections.
//!
//! ```no_run
//! use ottla::prelude::*;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder().environment().group_id("billing").build()?;
//! for (topic, described) in client.admin().describe_topics(&["orders"]).await {
//!     println!("{topic} has {} partitions", described?.partitions.len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Programs without tokio use [`blocking`].
//!
//! To test a program without a Kafka, switch the feature `testing` on: its module `testing` runs a cluster inside
//! the test, with leaders that move, nodes that stop and requests that fail when the test says so.
//!
//! This crate is a facade: it owns the table of settings and puts the parts together. The parts are
//! re-exported as [`producer`], [`consumer`], [`admin`], [`net`] and [`wire`].
#![forbid(unsafe_code)]

pub mod blocking;
mod client;
pub mod config;
mod error;
pub mod exactly_once;
#[cfg(feature = "testing")]
pub mod testing;

pub use client::{Client, ClientBuilder};
#[doc(inline)]
pub use config::{Config, ConfigError};
pub use error::Error;

pub use ottla_admin as admin;
pub use ottla_consumer as consumer;
pub use ottla_net as net;
pub use ottla_producer as producer;
pub use ottla_wire as wire;

#[doc(no_inline)]
pub use ottla_wire::ErrorCode;

/// What most programs use, for one `use ottla::prelude::*`.
pub mod prelude {
    #[doc(no_inline)]
    pub use crate::{Client, Config};
    #[doc(no_inline)]
    pub use ottla_admin::{Admin, NewTopic};
    #[doc(no_inline)]
    pub use ottla_consumer::{AcknowledgeType, ShareConsumer, ShareRecord};
    #[doc(no_inline)]
    pub use ottla_consumer::{Consumer, Offset, OffsetReset, TopicPartition};
    #[doc(no_inline)]
    pub use ottla_producer::{Acks, Compression, Header, Producer, ProducerRecord};
    #[doc(no_inline)]
    pub use ottla_producer::{Transaction, TransactionError, TransactionalProducer};
}

/// The README's example must compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// So must the guide's.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/producer.md")]
struct ProducerGuide;
