//! Messages and record batches on a live broker, without any client between.
#![allow(clippy::unwrap_used)]

mod connection;
mod every_api;
mod records;
