//! The floor as a contestant.

use clap::Parser;
use ottla_bench::contestant::Args;

fn main() -> std::io::Result<()> {
    ottla_bench::floor::run(&Args::parse())
}
