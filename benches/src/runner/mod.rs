//! Races the contestants: for every cell (mode, size, codec) and every round, each contestant runs
//! once, one after the other, as a child process against a fresh sink or a live broker. What it cost
//! is read from outside, by the kernel's account of the process.

mod broker;
mod contest;
mod live;
pub(crate) mod process;
mod report;
mod settings;

pub use live::Live;
pub use settings::Settings;

use std::io;

/// Runs everything `settings` asks for and prints tables, ratios and JSON lines.
///
/// # Errors
/// When the sink or the workload cannot be set up. A contestant that fails is reported in its place
/// of the table, and the race goes on.
pub fn run(settings: &Settings) -> io::Result<()> {
    let entrants = contest::entrants(settings)?;
    let cells = settings.cells();
    let mut results = Vec::new();
    for cell in &cells {
        results.push(contest::race(settings, cell, &entrants)?);
    }
    report::print(settings, &results)
}
