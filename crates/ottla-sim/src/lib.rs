//! Client and embedded broker in one paused-clock, single-threaded runtime, over an in-memory network whose every
//! fault comes from a seed.
//!
//! A run draws a cluster, clients and their settings from its seed, lets them work while connections stall, split
//! and break, replies get lost, leaders move and nodes crash; then the weather clears up, everything must end, and
//! the history is checked against the log. `cargo run --release -p ottla-sim -- --seeds 10000` runs many seeds; a failing one
//! prints the command that runs it again.
#![forbid(unsafe_code)]

mod chaos;
mod network;
mod produce;
mod world;

pub use world::run_seed;

/// What clients do in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// One to three idempotent producers, one topic.
    Produce,
}
