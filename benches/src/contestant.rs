//! The protocol between the runner and a contestant.
//!
//! A contestant is a program. It loads the workload, connects, and warms up for as long as it is told
//! (a JVM compiles its hot loops, everyone fills caches and learns metadata). Then it prints `ready`
//! and waits. The runner reads the process's CPU time, writes `go`, and the contestant runs one
//! measured phase: until the time is up or the record limit is reached, *and* every record it handed
//! over is acknowledged. It prints one line of JSON and waits until its standard input is closed, so
//! that the runner can read the CPU time again before tearing down begins.
//!
//! This file is the Rust side; the Java and Go contestants speak the same.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use crate::workload::{Event, PARTITIONS, Workload};

/// What a contestant is asked to do.
#[derive(Debug, Clone, Parser)]
pub struct Args {
    /// Broker to start from, `host:port`.
    #[arg(long)]
    pub bootstrap: String,
    /// Topic to use; it exists and has `--partitions` partitions.
    #[arg(long, default_value = "clicks")]
    pub topic: String,
    /// Partitions of the topic.
    #[arg(long, default_value_t = PARTITIONS)]
    pub partitions: usize,
    /// What to measure.
    #[arg(long)]
    pub mode: Mode,
    /// File of records, see `workload`.
    #[arg(long)]
    pub workload: PathBuf,
    /// Compression: none, gzip, snappy, lz4 or zstd.
    #[arg(long, default_value = "none")]
    pub codec: String,
    /// Length of the warm-up.
    #[arg(long, default_value_t = 1.0)]
    pub warmup_seconds: f64,
    /// Length of the measured phase.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Most records in the warm-up; 0 is no limit.
    #[arg(long, default_value_t = 0)]
    pub warmup_records: u64,
    /// Most records in the measured phase; 0 is no limit.
    #[arg(long, default_value_t = 0)]
    pub records: u64,
    /// Bytes of records that a batch is filled to, before compression where the client counts so; 1,000,000 for clients, 128 KiB
    /// for the floor when not given.
    #[arg(long)]
    pub batch_bytes: Option<usize>,
    /// Records per second in the latency modes.
    #[arg(long, default_value_t = 1000)]
    pub rate: u32,
}

impl Args {
    /// What a client fills its batches to.
    pub fn client_batch_bytes(&self) -> usize {
        self.batch_bytes.unwrap_or(1_000_000)
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Send as fast as possible, acks=all, linger 5 ms, batches up to 1 MB, 64 MiB of buffer.
    Produce,
    /// Read all partitions from the start as fast as possible and touch every value.
    Consume,
    /// Send at a fixed rate with linger 0; time from handing a record over to its acknowledgement.
    Latency,
    /// The same, to its arrival at a consumer in the same process.
    Endtoend,
}

/// One timed phase.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    until: Instant,
    records_max: u64,
}

impl Phase {
    /// Whether to go on after `records` records. Reads the clock: ask once per chunk of records.
    pub fn open(&self, records: u64) -> bool {
        records < self.records_max && Instant::now() < self.until
    }

    /// The same phase for one of `parts` that share its records evenly.
    pub fn shared_by(self, parts: u64) -> Self {
        Self {
            records_max: self.records_max.div_ceil(parts),
            ..self
        }
    }

    /// Time left, for waiting calls.
    pub fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// What happened in a phase.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Records acknowledged or received.
    pub records: u64,
    /// Bytes of their values.
    pub value_bytes: u64,
    /// In the latency modes, the latency of each record in µs.
    pub latencies_us: Vec<u32>,
}

/// Runs a latency phase: hands one record over every `1 / rate` seconds, or at once when the one
/// before took longer, and keeps the time that `once` says it took.
///
/// # Errors
/// Those of `once`.
pub fn paced<E>(
    phase: Phase,
    rate: u32,
    pool: &Workload,
    mut once: impl FnMut(Event<'_>) -> Result<Duration, E>,
) -> Result<Outcome, E> {
    let interval = Duration::from_secs(1) / rate;
    let mut outcome = Outcome::default();
    let mut due = Instant::now();
    while phase.open(outcome.records) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due = (due + interval).max(Instant::now());
        let event = pool.event(outcome.records as usize % pool.len());
        let latency = once(event)?;
        outcome.latencies_us.push(latency.as_micros() as u32);
        outcome.records += 1;
        outcome.value_bytes += event.value.len() as u64;
    }
    Ok(outcome)
}

/// Runs `phase` twice, to warm up and to be measured, and speaks the protocol around it.
///
/// # Errors
/// Those of `phase`, and those of standard input and output.
pub fn run<E>(args: &Args, mut phase: impl FnMut(Phase) -> Result<Outcome, E>) -> Result<(), E>
where
    E: From<io::Error>,
{
    let open = |seconds: f64, records: u64| Phase {
        until: Instant::now() + Duration::from_secs_f64(seconds),
        records_max: if records == 0 { u64::MAX } else { records },
    };
    phase(open(args.warmup_seconds, args.warmup_records))?;
    say("ready")?;
    io::stdin().lock().read_line(&mut String::new())?;
    let started = Instant::now();
    let outcome = phase(open(args.seconds, args.records))?;
    let seconds = started.elapsed().as_secs_f64();
    let mut report = serde_json::json!({
        "records": outcome.records,
        "value_bytes": outcome.value_bytes,
        "seconds": seconds,
    });
    if !outcome.latencies_us.is_empty() {
        let mut sorted = outcome.latencies_us;
        sorted.sort_unstable();
        report["p50_us"] = percentile(&sorted, 0.50).into();
        report["p99_us"] = percentile(&sorted, 0.99).into();
        report["max_us"] = sorted[sorted.len() - 1].into();
    }
    say(&report.to_string())?;
    // Until the runner has read the CPU time and hangs up.
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// The smallest value that at least `share` of the (sorted, non-empty) values do not exceed.
fn percentile(sorted: &[u32], share: f64) -> u32 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let sorted: Vec<u32> = (1..=200).collect();
        assert_eq!(percentile(&sorted, 0.50), 100);
        assert_eq!(percentile(&sorted, 0.99), 198);
        assert_eq!(percentile(&[7], 0.99), 7);
    }

    #[test]
    fn a_phase_ends_by_records_or_by_time() {
        let now = Instant::now();
        let phase = Phase {
            until: now + Duration::from_secs(60),
            records_max: 10,
        };
        assert!(phase.open(9));
        assert!(!phase.open(10));
        assert!(
            !Phase {
                until: now,
                records_max: u64::MAX
            }
            .open(0)
        );
    }
}
