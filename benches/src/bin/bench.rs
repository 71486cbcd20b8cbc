//! The runner. `docs/benchmarks.md` says what it measures and how.

use clap::Parser;
use ottla_bench::runner::{Settings, run};

fn main() -> std::io::Result<()> {
    run(&Settings::parse().resolved())
}
