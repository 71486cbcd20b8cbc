//! `ottla perf`.

use clap::{Args, Subcommand};

use super::JsonArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum PerfCommand {
    /// Sends records as fast as they go, or at a rate
    Produce(PerfProduceArgs),
    /// Reads records as fast as they come
    Consume(PerfConsumeArgs),
    /// Sends records at a rate and reads them back: how long each is on its way
    Latency(PerfLatencyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PerfProduceArgs {
    /// The topic
    #[arg(short = 't', long, value_name = "TOPIC")]
    pub(crate) topic: String,
    /// How many records
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: u64,
    /// How many bytes the value of each has
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = 100)]
    pub(crate) size: usize,
    /// How many records per second; 0 is as fast as they go
    #[arg(short = 'r', long, value_name = "N", default_value_t = 0)]
    pub(crate) rate: u64,
    /// The codec: none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, value_name = "CODEC")]
    pub(crate) compression: Option<String>,
    /// Who must have a record: all, 1 or 0
    #[arg(short = 'a', long, value_name = "ACKS")]
    pub(crate) acks: Option<String>,
    /// How many different keys; 0 sends no keys
    #[arg(short = 'k', long, value_name = "N", default_value_t = 0)]
    pub(crate) keys: u64,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PerfConsumeArgs {
    /// The topic
    #[arg(short = 't', long, value_name = "TOPIC")]
    pub(crate) topic: String,
    /// How many records [default: all there are at the start]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: Option<u64>,
    /// Reads as a member of this group instead of all partitions at once
    #[arg(short = 'G', long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PerfLatencyArgs {
    /// The topic; records of others in it are passed over
    #[arg(short = 't', long, value_name = "TOPIC")]
    pub(crate) topic: String,
    /// How many records
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: u64,
    /// How many bytes the value of each has, at least 16
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = 100)]
    pub(crate) size: usize,
    /// How many records per second
    #[arg(short = 'r', long, value_name = "N", default_value_t = 1_000,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) rate: u64,
    /// The codec: none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, value_name = "CODEC")]
    pub(crate) compression: Option<String>,
    /// Who must have a record: all or 1
    #[arg(short = 'a', long, value_name = "ACKS")]
    pub(crate) acks: Option<String>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}
