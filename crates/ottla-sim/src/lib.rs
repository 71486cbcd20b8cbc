//! Client and embedded broker in one paused-clock, single-threaded runtime, over an in-memory network whose every
//! fault comes from a seed.
//!
//! A run draws a cluster, clients and their settings from its seed, lets them work while connections stall, split
//! and break, replies get lost, leaders move and nodes crash; then the weather clears up, everything must end, and
//! the history is checked against the log. `cargo run --release -p ottla-sim -- --seeds 10000` runs many seeds; a failing one
//! prints the command that runs it again.
//!
//! | module | is |
//! | --- | --- |
//! | `world` | one run: its cluster, its clock, its end |
//! | `network`, `chaos`, `faults` | what goes wrong, and how often it did |
//! | `produce` | the scenario for producers, with its own judge |
//! | `consume`, `reader`, `writer` | the scenarios for consumers |
//! | `share` | the scenario for share groups, with its own judge |
//! | `transactions` | the scenario for transactions, with its own judge |
//! | `history`, `tap` | what happened, as applications and coordinators saw it |
//! | `checker` | the judge of consumers |
//! | `violation` | what judges return |
#![forbid(unsafe_code)]

mod chaos;
mod checker;
mod consume;
mod faults;
mod history;
mod network;
mod produce;
mod reader;
mod share;
mod tap;
mod transactions;
mod violation;
mod world;
mod writer;

pub use faults::{FaultCounts, FaultKind};
pub use world::{Counted, Run, SLOWEST, run_seed};

/// What clients do in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// One to three idempotent producers, one topic.
    Produce,
    /// Groups of one to six members, by the classic protocol (eager and cooperative) and the consumer protocol, that come, go,
    /// crash, seek and pause, while producers write.
    Group,
    /// Consumers that take partitions by hand, seek, and lose the beginnings of logs.
    Assign,
    /// Share groups of one to six members that acknowledge in every way, come, go, crash and stall.
    Share,
    /// Instances of transactional ids that fence each other, others that read and write exactly once, and readers.
    Transactions,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: &'static [Self] = &[
        Self::Produce,
        Self::Group,
        Self::Assign,
        Self::Share,
        Self::Transactions,
    ];

    /// What it is called on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Group => "group",
            Self::Assign => "assign",
            Self::Share => "share",
            Self::Transactions => "transactions",
        }
    }
}
