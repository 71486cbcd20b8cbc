//! Runs many seeds and stops at the first that breaks a promise.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ottla_sim::{Scenario, run_seed};

/// Tortures the client on an embedded broker, one seed at a time.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// What the clients do.
    #[arg(long, value_enum, default_value_t = Scenario::Produce)]
    scenario: Scenario,
    /// Says what happened in every run.
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .init();
    }
    let started = Instant::now();
    for seed in arguments.from..arguments.from + arguments.seeds {
        match run_seed(arguments.scenario, seed) {
            Ok(report) if arguments.verbose => println!("seed {seed}: {report}"),
            Ok(_) => {}
            Err(problem) => {
                println!("seed {seed}: {problem}");
                println!("again: cargo run --release -p ottla-sim -- --seeds 1 --from {seed}");
                return ExitCode::FAILURE;
            }
        }
    }
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let pace = arguments.seeds as f64 / minutes;
    println!(
        "{} seeds kept every promise, {pace:.0} a minute",
        arguments.seeds
    );
    ExitCode::SUCCESS
}
