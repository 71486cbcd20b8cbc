//! Runs many seeds, some at a time, and stops when one breaks a promise.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use ottla_sim::{Counted, FaultCounts, Run, SLOWEST, Scenario, run_seed};

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
    let endless = run_all(arguments, scenarios, |scenario, seed, run| {
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
    if let Some((scenario, seed)) = endless {
        let problem = format!("a busy loop: the run has not ended within {PATIENCE:?}");
        writeln!(out, "seed {seed}, {}: {problem}", scenario.name())?;
        again(out, scenario, seed)?;
        return Ok(false);
    }
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

/// Hands every outcome to `heed` as it comes, until that says that it is enough, or a run does not end: which one.
fn run_all(
    arguments: &Arguments,
    scenarios: &[Scenario],
    mut heed: impl FnMut(Scenario, u64, Run) -> io::Result<bool>,
) -> io::Result<Option<(Scenario, u64)>> {
    let jobs = arguments.jobs.or(thread::available_parallelism().ok());
    let jobs = jobs.map_or(1, NonZero::get);
    let work = Arc::new(Work::new(arguments, scenarios));
    // Bounded: a run's history is large.
    let (sender, outcomes) = mpsc::sync_channel(jobs);
    for job in 0..jobs {
        let (sender, work) = (sender.clone(), Arc::clone(&work));
        // Nobody waits for it: one that spins would be waited for forever.
        thread::spawn(move || {
            while let Some((scenario, seed, run)) = work.run_next(job) {
                // Nobody wants to know any more: a promise was broken.
                if sender.send((scenario, seed, run)).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    loop {
        match outcomes.recv_timeout(WATCH_EVERY) {
            Ok((scenario, seed, run)) => {
                if !heed(scenario, seed, run)? {
                    return Ok(None);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let endless = endless(&work.running(), Instant::now());
        if endless.is_some() {
            return Ok(endless);
        }
    }
}

/// What is still to be run, and what is being run.
struct Work {
    scenarios: Vec<Scenario>,
    twice: bool,
    end: u64,
    /// The next seed, and which of the scenarios.
    next: Mutex<(u64, usize)>,
    running: Mutex<Running>,
}

/// What runs by the number of its job, and since when.
type Running = BTreeMap<usize, (Scenario, u64, Instant)>;

impl Work {
    fn new(arguments: &Arguments, scenarios: &[Scenario]) -> Self {
        Self {
            scenarios: scenarios.to_vec(),
            twice: arguments.twice,
            end: arguments.from.saturating_add(arguments.seeds),
            next: Mutex::new((arguments.from, 0)),
            running: Mutex::default(),
        }
    }

    fn run_next(&self, job: usize) -> Option<(Scenario, u64, Run)> {
        let (scenario, seed) = self.take_next()?;
        self.running().insert(job, (scenario, seed, Instant::now()));
        let mut run = run_seed(scenario, seed);
        if self.twice
            && run.outcome.is_ok()
            && let Some(parting) = run.parting(&run_seed(scenario, seed))
        {
            run.outcome = Err(format!("it runs in two ways:\n{parting}"));
        }
        self.running().remove(&job);
        Some((scenario, seed, run))
    }

    fn take_next(&self) -> Option<(Scenario, u64)> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let (seed, at) = *next;
        let scenario = *self.scenarios.get(at).filter(|_| seed < self.end)?;
        *next = match at + 1 < self.scenarios.len() {
            true => (seed, at + 1),
            false => (seed + 1, 0),
        };
        Some((scenario, seed))
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that cannot end any more: it stands still in its own time, or it would have been ended.
fn endless(running: &Running, now: Instant) -> Option<(Scenario, u64)> {
    let mut running = running.values();
    let endless = running.find(|(_, _, since)| now.duration_since(*since) > PATIENCE);
    endless.map(|(scenario, seed, _)| (*scenario, *seed))
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
    again(out, scenario, seed)
}

fn again(out: &mut impl Write, scenario: Scenario, seed: u64) -> io::Result<()> {
    writeln!(
        out,
        "again: cargo run --release -p ottla-sim -- --scenario {} --seeds 1 --from {seed} -v",
        scenario.name()
    )
}

/// How long a run is waited for; with `--twice` it is two.
const PATIENCE: Duration = Duration::from_secs(2 * SLOWEST.as_secs());

/// How often to look whether a run has become endless.
const WATCH_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_runs_every_scenario_once() {
        let arguments = Arguments::parse_from(["ottla-sim", "--seeds", "2", "--from", "7"]);
        let work = Work::new(&arguments, &[Scenario::Group, Scenario::Share]);
        let taken = std::iter::from_fn(|| work.take_next());
        assert_eq!(
            taken.collect::<Vec<_>>(),
            [
                (Scenario::Group, 7),
                (Scenario::Share, 7),
                (Scenario::Group, 8),
                (Scenario::Share, 8)
            ]
        );
    }

    #[test]
    fn a_run_that_does_not_end_is_named() {
        let now = Instant::now();
        let running = Running::from([
            (0, (Scenario::Group, 1, now + PATIENCE)),
            (1, (Scenario::Share, 2, now)),
        ]);
        assert_eq!(endless(&running, now + PATIENCE), None);
        let later = now + PATIENCE + Duration::from_millis(1);
        assert_eq!(endless(&running, later), Some((Scenario::Share, 2)));
    }
}
