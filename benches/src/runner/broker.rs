//! What the contestants run against: a sink of their own, or the live broker.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::process::Process;
use super::settings::Cell;
use crate::contestant::Mode;

/// A sink process that serves one cell.
pub(super) struct SinkProcess {
    process: Process,
    pub(super) bootstrap: String,
}

impl SinkProcess {
    pub(super) fn start(programs: &Path, cell: &Cell, workload: &Path) -> io::Result<Self> {
        let mut args = Vec::new();
        if cell.mode == Mode::Consume {
            args.extend(["--workload".into(), workload.display().to_string()]);
            args.extend(["--codec".into(), cell.codec.clone()]);
        }
        let mut process = Process::start("sink", programs.join("bench-sink"), args)?;
        let bootstrap = process.line(Duration::from_secs(60))?;
        Ok(Self { process, bootstrap })
    }

    /// What went through since it started, and its own CPU seconds.
    pub(super) fn counts(&mut self) -> io::Result<Counts> {
        self.process.say("counts")?;
        let line = self.process.line(Duration::from_secs(5))?;
        let json: serde_json::Value = serde_json::from_str(&line)?;
        let count = |name: &str| json[name].as_u64().unwrap_or(0);
        Ok(Counts {
            requests: count("produce_requests") + count("fetch_requests"),
            bytes: count("produce_bytes") + count("fetch_bytes"),
            records: count("produce_records"),
            cpu_seconds: self.process.cpu_seconds()?,
        })
    }
}

/// Running totals of a sink.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    pub(super) records: u64,
    pub(super) cpu_seconds: f64,
}
