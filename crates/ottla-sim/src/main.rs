//! Runs many seeds, some at a time, and stops when one breaks a promise.

use std::io::{self, ErrorKind, Write};
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
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
    /// How many seeds to run at a time, each on a thread of its own; without it, as many as there are cores.
    #[arg(long, short)]
    jobs: Option<NonZero<usize>>,
    /// Says how every run went; for a failing one, all that happened in it.
    #[arg(long, short)]
    verbose: bool,
    /// Runs every seed twice: both runs must be the same, or no failure could be run again.
    #[arg(long)]
    twice: bool,
    /// Goes on after a failure, and counts them.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match simulate(&arguments, &mut io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read it has seen enough, as `head` has; the seeds were not all run.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ottla-sim cannot write its report: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise was kept.
fn simulate(arguments: &Arguments, out: &mut impl Write) -> io::Result<bool> {
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(io::stderr)
            .init();
    }
    let scenarios = match arguments.scenario.as_slice() {
        [] => Scenario::ALL,
        some => some,
    };
    let started = Instant::now();
    let mut faults = FaultCounts::new();
    let (mut runs, mut failures) = (0_u64, 0_u64);
    run_all(arguments, scenarios, |scenario, seed, run| {
        runs += 1;
        for (kind, count) in &run.faults {
            *faults.entry(*kind).or_default() += count;
        }
        if run.outcome.is_err() {
            failures += 1;
            report(out, scenario, seed, &run, arguments.verbose)?;
            return Ok(arguments.keep_going);
        }
        if arguments.verbose {
            let name = scenario.name();
            writeln!(out, "seed {seed}, {name}: {run}; {:016x}", run.hash)?;
        }
        Ok(true)
    })?;
    if failures > 0 && !arguments.keep_going {
        return Ok(false);
    }
    let pace = arguments.seeds as f64 / (started.elapsed().as_secs_f64() / 60.0);
    writeln!(out, "faults: {}", Counted(&faults))?;
    writeln!(
        out,
        "{runs} runs of {} seeds, {pace:.0} seeds a minute",
        arguments.seeds
    )?;
    if failures > 0 {
        writeln!(out, "{failures} runs broke a promise")?;
    } else {
        writeln!(out, "every promise was kept")?;
    }
    Ok(failures == 0)
}

/// Hands every outcome to `heed` as it comes, until that says that it is enough.
fn run_all(
    arguments: &Arguments,
    scenarios: &[Scenario],
    mut heed: impl FnMut(Scenario, u64, Run) -> io::Result<bool>,
) -> io::Result<()> {
    let jobs = arguments.jobs.or(thread::available_parallelism().ok());
    let jobs = jobs.map_or(1, NonZero::get);
    let seeds = arguments.from..arguments.from.saturating_add(arguments.seeds);
    let wanted = seeds.flat_map(|seed| scenarios.iter().map(move |scenario| (*scenario, seed)));
    let wanted = Mutex::new(wanted);
    thread::scope(|scope| {
        // Bounded: a run's history is large.
        let (sender, outcomes) = mpsc::sync_channel(jobs);
        for _ in 0..jobs {
            let (sender, wanted) = (sender.clone(), &wanted);
            scope.spawn(move || {
                let next = || wanted.lock().unwrap_or_else(PoisonError::into_inner).next();
                while let Some((scenario, seed)) = next() {
                    let mut run = run_seed(scenario, seed);
                    if arguments.twice
                        && run.outcome.is_ok()
                        && let Some(parting) = run.parting(&run_seed(scenario, seed))
                    {
                        run.outcome = Err(format!("it runs in two ways:\n{parting}"));
                    }
                    // Nobody wants to know any more: a promise was broken.
                    if sender.send((scenario, seed, run)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (scenario, seed, run) in outcomes {
            if !heed(scenario, seed, run)? {
                break;
            }
        }
        Ok(())
    })
}

fn report(
    out: &mut impl Write,
    scenario: Scenario,
    seed: u64,
    run: &Run,
    verbose: bool,
) -> io::Result<()> {
    if verbose {
        for line in run.trace() {
            writeln!(out, "{line}")?;
        }
    }
    writeln!(out, "seed {seed}, {}: {run}", scenario.name())?;
    writeln!(
        out,
        "again: cargo run --release -p ottla-sim -- --scenario {} --seeds 1 --from {seed} -v",
        scenario.name()
    )
}
