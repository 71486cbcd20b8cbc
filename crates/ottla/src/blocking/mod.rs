//! The client for programs without tokio: the same, with calls that wait instead of futures.
//!
//! A [`Client`] has a runtime of its own, whose few threads do what the async client's tasks do; it ends with the last
//! of what came from it. All types may be used from any number of plain threads.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use ottla::blocking;
//! use ottla::prelude::*;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client: blocking::Client = ottla::Client::builder()
//!         .bootstrap_servers("localhost:9092")
//!         .build_blocking()?;
//!
//!     let producer = client.producer()?;
//!     let mut deliveries = Vec::new();
//!     for line in ["one", "two", "three"] {
//!         deliveries.push(producer.send(ProducerRecord::to("lines").value(line))?);
//!     }
//!     for delivery in deliveries {
//!         println!("written at offset {:?}", delivery.wait()?.offset());
//!     }
//!     producer.close(Duration::from_secs(10))?;
//!     Ok(())
//! }
//! ```
//!
//! On a thread of an async runtime, a callback of the producer's included, a call that may wait would stop everything else on
//! that thread; it fails with [`Error::InsideRuntime`] instead. That includes tokio's `spawn_blocking`, where the
//! async client with `Handle::block_on` does the same.

mod client;
mod consumer;
mod error;
mod exactly_once;
mod listener;
mod producer;
mod runtime;
mod share;
mod streams;
mod transaction;

pub use client::Client;
pub use consumer::{Commit, Consumer, Records};
pub use error::Error;
pub use exactly_once::{ExactlyOnce, Step};
pub use listener::RebalanceListener;
pub use producer::{Delivery, Producer};
pub use share::{ShareConsumer, ShareRecords};
pub use streams::{PartitionStream, PartitionStreams};
pub use transaction::{CommitError, RunError, Transaction, TransactionalProducer};
