//! The end-to-end benchmark: what a Kafka client costs when nothing but the client limits.
//!
//! - [`workload`]: the records every contestant sends, generated once into a file.
//! - [`contestant`]: the protocol between the runner and a contestant, and its Rust side.
//! - `sink`: a broker that acknowledges at once, stores nothing and serves the same batches for ever.
//! - `floor`: the two hand-made loops that no client can beat by much.
//! - `child`: this program once more, as an embedded broker, and what processes cost.
//! - `groups`: how long a group's partitions stand still while members come and go.
//! - `idle`: what a process costs that rests.
//! - `runner`: races the contestants as child processes and reads what each one cost.
//!
//! `docs/benchmarks.md` says how to run it and what the figures mean. The record encoder, the
//! codecs' framing and the handful of messages used here are written by hand and share nothing with
//! `ottla-wire`: a yardstick made of the thing it measures would move with it.
#![forbid(unsafe_code)]

#[cfg(feature = "contest")]
pub mod batch;
#[cfg(feature = "ottla")]
pub mod child;
#[cfg(feature = "contest")]
pub mod codec;
pub mod contestant;
#[cfg(feature = "contest")]
pub mod floor;
#[cfg(all(feature = "contest", feature = "ottla"))]
pub mod groups;
#[cfg(feature = "ottla")]
pub mod idle;
#[cfg(feature = "contest")]
pub mod runner;
#[cfg(feature = "contest")]
pub mod sink;
pub mod workload;
