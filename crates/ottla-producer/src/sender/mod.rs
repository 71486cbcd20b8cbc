//! From sealed batches to acknowledged ones.
//!
//! [`core`] decides which batch goes where and what an answer means; it is a plain structure that
//! tests drive through any interleaving. `driver` moves bytes between it and the connections.

mod core;
mod driver;
mod lane;
mod message;
mod verdict;

pub(crate) use self::core::{Effect, Protocol, SenderCore, Settings, Slot};
pub(crate) use self::driver::run_broker;

#[cfg(test)]
mod simulation;
