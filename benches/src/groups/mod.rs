//! How long a group's partitions stand still while members come and go: Ottla's members beside Java's, against one
//! live broker, with the same settings.
//!
//! - `timeline`: what arrived when, and what that says.
//! - `team`: the members, as processes that are told to start and stop some.
//! - `race`: the scenarios, and the table.

mod race;
mod team;
mod timeline;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

pub use race::run;
pub use team::monotonic;

/// Measures how long the partitions of a group stand still when a member is killed, when one leaves, and while all are
/// restarted one after the other.
///
/// The broker should let sessions end as fast in both protocols; with the conformance tests' own:
/// `cargo run -p ottla-protocol-tests --bin kafka -- --set group.consumer.min.session.timeout.ms=6000
/// --set group.consumer.session.timeout.ms=6000 --set group.consumer.min.heartbeat.interval.ms=2000
/// --set group.consumer.heartbeat.interval.ms=2000`.
#[derive(Debug, Parser)]
pub struct Settings {
    /// The live broker, `host:port`.
    #[arg(long, env = "OTTLA_BOOTSTRAP")]
    pub live: String,
    /// What the group divides partitions by: range and cooperative-sticky (classic groups), consumer (KIP-848).
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "range,cooperative-sticky,consumer"
    )]
    pub protocols: Vec<String>,
    /// What happens: kill, leave, rolling.
    #[arg(long, value_delimiter = ',', default_value = "kill,leave,rolling")]
    pub scenarios: Vec<Scenario>,
    /// How often each is measured, a part of a heartbeat interval later each time; the median counts.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Where the peers' programs lie, as `benches/peers/build` leaves them.
    #[arg(long, env = "OTTLA_BENCH_PEERS", default_value = "benches/peers/bin")]
    pub peers: PathBuf,
}

/// Between two heartbeats of a member.
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// What happens to the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// One of three members is killed (SIGKILL); its session of 6 s has to run out.
    Kill,
    /// One of three members closes its consumer.
    Leave,
    /// Ten members close and come back, one after the other, each when its predecessor has partitions again.
    Rolling,
}
