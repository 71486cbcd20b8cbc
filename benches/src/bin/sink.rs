//! The sink broker as a program. Prints its address, serves until standard input is closed, and
//! answers every line on it with what went through so far, as one line of JSON.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use clap::Parser;
use ottla_bench::codec::Codec;
use ottla_bench::sink::{Served, Sink};
use ottla_bench::workload::Workload;

#[derive(Parser)]
struct Args {
    /// Serve fetches from this workload file; without it, partitions are empty.
    #[arg(long)]
    workload: Option<PathBuf>,
    /// Codec of the served batches.
    #[arg(long, default_value = "none")]
    codec: Codec,
    /// Size of a served batch before compression.
    #[arg(long, default_value_t = 256 << 10)]
    batch_bytes: usize,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let served = match &args.workload {
        Some(path) => Served::build(&Workload::load(path)?, args.codec, args.batch_bytes)?,
        None => Served::nothing(),
    };
    let sink = Sink::bind(served)?;
    let mut out = io::stdout().lock();
    writeln!(out, "127.0.0.1:{}", sink.port())?;
    out.flush()?;
    let running = sink.start();
    for line in io::stdin().lock().lines() {
        line?;
        writeln!(out, "{}", running.counts().json())?;
        out.flush()?;
    }
    Ok(())
}
