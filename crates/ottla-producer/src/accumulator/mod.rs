//! Where records wait: per partition, one open batch and those closed after it.
//!
//! Owns memory and batches up to the moment the sender takes them. Records come from callers'
//! threads under one short lock per partition; sealed batches leave to the broker's sender.

mod queue;
mod ratio;
mod ready;

pub(crate) use queue::{Appended, Event, HEADER_LEN, PartitionQueue, Pulled, Supplies};
pub(crate) use ratio::Ratio;
pub(crate) use ready::Line;
