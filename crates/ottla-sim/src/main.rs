//! Runs many seeds and stops at the first that breaks a promise.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ottla_sim::{Counted, FaultCounts, Run, Scenario, run_seed};

/// Tortures the clients on an embedded broker, one seed at a time.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// What the clients do; may be given several times. Without it, each seed runs every scenario.
    #[arg(long, value_enum)]
    scenario: Vec<Scenario>,
    /// Says how every run went; for a failing one, all that happened in it.
    #[arg(long, short)]
    verbose: bool,
    /// Goes on after a failure, and counts them.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .init();
    }
    let scenarios = match arguments.scenario.as_slice() {
        [] => Scenario::ALL,
        some => some,
    };
    let started = Instant::now();
    let mut faults = FaultCounts::new();
    let (mut runs, mut failures) = (0_u64, 0_u64);
    for seed in arguments.from..arguments.from + arguments.seeds {
        for scenario in scenarios {
            let run = run_seed(*scenario, seed);
            runs += 1;
            for (kind, count) in &run.faults {
                *faults.entry(*kind).or_default() += count;
            }
            if run.outcome.is_err() {
                failures += 1;
                report(*scenario, seed, &run, arguments.verbose);
                if !arguments.keep_going {
                    return ExitCode::FAILURE;
                }
            } else if arguments.verbose {
                println!("seed {seed}, {}: {run}; {:016x}", scenario.name(), run.hash);
            }
        }
    }
    let pace = arguments.seeds as f64 / (started.elapsed().as_secs_f64() / 60.0);
    println!("faults: {}", Counted(&faults));
    println!(
        "{runs} runs of {} seeds, {pace:.0} seeds a minute",
        arguments.seeds
    );
    if failures > 0 {
        println!("{failures} runs broke a promise");
        return ExitCode::FAILURE;
    }
    println!("every promise was kept");
    ExitCode::SUCCESS
}

fn report(scenario: Scenario, seed: u64, run: &Run, verbose: bool) {
    if verbose {
        for line in run.trace() {
            println!("{line}");
        }
    }
    println!("seed {seed}, {}: {run}", scenario.name());
    println!(
        "again: cargo run --release -p ottla-sim -- --scenario {} --seeds 1 --from {seed} -v",
        scenario.name()
    );
}
