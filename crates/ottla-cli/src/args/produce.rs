//! `ottla produce`.

use std::path::PathBuf;

use clap::Args;

use super::{Bytes, delimiter};
use crate::produce::HeaderArg;

#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// The topic
    #[arg(short = 't', long, value_name = "TOPIC")]
    pub(crate) topic: String,

    /// The partition; without it, the hash of the key decides, or where batches fill best
    #[arg(short = 'p', long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partition: Option<i32>,

    /// Splits each line into key and value at the first DELIM; a line without it has no key.
    /// Escapes: \t \n \r \0 \\ \xHH
    #[arg(short = 'K', long, value_name = "DELIM", value_parser = delimiter)]
    pub(crate) key_delimiter: Option<Bytes>,

    /// The key of records whose line has none
    #[arg(short = 'k', long, value_name = "KEY")]
    pub(crate) key: Option<String>,

    /// What ends a record [default: a line feed]
    #[arg(short = 'D', long, value_name = "DELIM", value_parser = delimiter)]
    pub(crate) delimiter: Option<Bytes>,

    /// Sends an empty key or value as null
    #[arg(short = 'Z', long)]
    pub(crate) null: bool,

    /// A header of every record; without `=`, its value is null
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<HeaderArg>,

    /// The timestamp of every record, in milliseconds since 1970 [default: now]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(0..))]
    pub(crate) timestamp: Option<i64>,

    /// The codec: none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, value_name = "CODEC")]
    pub(crate) compression: Option<String>,

    /// Stops after so many records
    #[arg(short = 'c', long, value_name = "N")]
    pub(crate) count: Option<u64>,

    /// Copies what is sent to standard output as well
    #[arg(short = 'T', long)]
    pub(crate) tee: bool,

    /// Sends each file as one record, however many lines it has
    #[arg(long, requires = "files", conflicts_with_all = ["delimiter", "key_delimiter"])]
    pub(crate) whole: bool,

    /// Reads records line by line from files: the default here, accepted for kcat's sake
    #[arg(short = 'l', hide = true)]
    pub(crate) lines: bool,

    /// Files to read instead of standard input; `-` is standard input
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}
