//! What to run: the command line, and the cells it stands for.

use std::fmt;
use std::path::PathBuf;

use clap::Parser;

use crate::contestant::Mode;

/// Races Kafka clients against a sink that never limits them, or against a live broker.
#[derive(Debug, Parser)]
#[command(name = "ottla-bench")]
pub struct Settings {
    /// Measure against this live broker (`host:port`, one node) instead of the sink. Topics of its own
    /// are created in it and deleted again.
    #[arg(long, env = "OTTLA_BOOTSTRAP")]
    pub live: Option<String>,
    /// Modes to run.
    #[arg(long, value_delimiter = ',', default_value = "produce,consume,latency")]
    pub modes: Vec<Mode>,
    /// Sizes of a record's value in bytes.
    #[arg(long, value_delimiter = ',', default_value = "100,1024")]
    pub sizes: Vec<usize>,
    /// Codecs of the throughput modes: none, gzip, snappy, lz4, zstd. Latency runs with none.
    #[arg(long, value_delimiter = ',', default_value = "none,lz4,zstd")]
    pub codecs: Vec<String>,
    /// Only these contestants, by name; all that are found when not given.
    #[arg(long, value_delimiter = ',')]
    pub contestants: Vec<String>,
    /// How often each contestant runs in each cell; the median counts.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Length of a measured phase.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Length of the warm-up before it.
    #[arg(long, default_value_t = 1.0)]
    pub warmup_seconds: f64,
    /// Size in MiB of the topic that is read from a live broker.
    #[arg(long, default_value_t = 500)]
    pub live_megabytes: u64,
    /// Bytes of records that everyone, the floor too, fills a batch to; only rskafka's contestant, which makes its batches
    /// itself, keeps to its own. Not given, clients fill 1 MB and the floor 128 KiB.
    #[arg(long)]
    pub batch_bytes: Option<usize>,
    /// Where the peers' programs lie, as `benches/peers/build` leaves them.
    #[arg(long, env = "OTTLA_BENCH_PEERS", default_value = "benches/peers/bin")]
    pub peers: PathBuf,
    /// Append one JSON line per run to this file.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// A look in under 90 seconds: one round of short phases, uncompressed and lz4 at 100 B, and only
    /// the floor, Ottla, librdkafka and franz-go.
    #[arg(long)]
    pub quick: bool,
}

/// One line of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) mode: Mode,
    pub(super) size: usize,
    pub(super) codec: String,
}

impl Cell {
    /// The mode as contestants are told it.
    pub(super) fn mode_name(&self) -> &'static str {
        match self.mode {
            Mode::Produce => "produce",
            Mode::Consume => "consume",
            Mode::Latency => "latency",
            Mode::Endtoend => "endtoend",
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} B, {}", self.mode_name(), self.size, self.codec)
    }
}

impl Settings {
    /// Applies what `--quick` stands for.
    pub fn resolved(mut self) -> Self {
        if self.quick {
            self.rounds = 1;
            self.seconds = 1.0;
            self.warmup_seconds = 0.7;
            self.sizes = vec![100];
            self.codecs = vec!["none".into(), "lz4".into()];
            if self.contestants.is_empty() {
                let quick = ["floor", "ottla", "librdkafka", "franz-go"];
                self.contestants = quick.map(String::from).to_vec();
            }
        }
        self
    }

    pub(super) fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &mode in &self.modes {
            if matches!(mode, Mode::Latency | Mode::Endtoend) {
                cells.push(Cell {
                    mode,
                    size: self.sizes[0],
                    codec: "none".into(),
                });
                continue;
            }
            for &size in &self.sizes {
                for codec in &self.codecs {
                    cells.push(Cell {
                        mode,
                        size,
                        codec: codec.clone(),
                    });
                }
            }
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_runs_once_and_uncompressed() {
        let settings = Settings::parse_from(["ottla-bench"]);
        let cells = settings.cells();
        assert_eq!(cells.len(), 2 * 2 * 3 + 1);
        assert_eq!(
            cells.last(),
            Some(&Cell {
                mode: Mode::Latency,
                size: 100,
                codec: "none".into()
            })
        );
    }
}
