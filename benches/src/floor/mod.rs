//! The floor: no client, only what physics asks for with today's codecs. Two threads, each with a
//! blocking socket and one loop that encodes, compresses, checksums and writes, or reads, checks,
//! decompresses and walks. No errors handled, no callbacks, no groups, no producer id.
//!
//! It needs every partition on the bootstrap broker, as the sink and a single live broker have it.

mod connection;
mod consume;
mod latency;
mod produce;

use std::io;
use std::thread;

use crate::contestant::{Args, Mode, Outcome, Phase};
use crate::workload::Workload;

/// Threads of the throughput loops, and connections.
const THREADS: usize = 2;

/// The floor as a contestant.
pub fn run(args: &Args) -> io::Result<()> {
    let pool = Workload::load(&args.workload)?;
    match args.mode {
        Mode::Produce => {
            let mut lanes = lanes(|lane| produce::Lane::connect(args, lane))?;
            crate::contestant::run(args, |phase| {
                in_parallel(&mut lanes, phase, |lane, phase| lane.run(&pool, phase))
            })
        }
        Mode::Consume => {
            let mut lanes = lanes(|lane| consume::Lane::connect(args, lane))?;
            crate::contestant::run(args, |phase| {
                in_parallel(&mut lanes, phase, consume::Lane::run)
            })
        }
        Mode::Latency => {
            let mut lane = latency::Lane::connect(args)?;
            crate::contestant::run(args, |phase| lane.acknowledged(&pool, phase))
        }
        Mode::Endtoend => {
            let mut lane = latency::Lane::connect(args)?;
            crate::contestant::run(args, |phase| lane.arrived(&pool, phase))
        }
    }
}

fn lanes<L>(connect: impl FnMut(usize) -> io::Result<L>) -> io::Result<Vec<L>> {
    (0..THREADS).map(connect).collect()
}

fn in_parallel<L: Send>(
    lanes: &mut [L],
    phase: Phase,
    run: impl Fn(&mut L, Phase) -> io::Result<Outcome> + Sync,
) -> io::Result<Outcome> {
    let phase = phase.shared_by(THREADS as u64);
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = lanes
            .iter_mut()
            .map(|lane| scope.spawn(move || run(lane, phase)))
            .collect();
        let mut total = Outcome::default();
        for thread in threads {
            let outcome = thread
                .join()
                .map_err(|_| io::Error::other("a floor thread panicked"))??;
            total.records += outcome.records;
            total.value_bytes += outcome.value_bytes;
        }
        Ok(total)
    })
}
