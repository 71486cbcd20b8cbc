//! `ottla demo`.

use clap::Args;

use super::{JsonArgs, Listen};

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many clicks, all kept in memory
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) messages: u64,
    /// Leaves the broker running afterwards, until Ctrl-C, and says how to look into the topics
    #[arg(short = 'k', long)]
    pub(crate) keep: bool,
    /// Where the broker listens: HOST:PORT, HOST or PORT; port 0 takes a free one
    #[arg(short = 'l', long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: Listen,
    /// Writes a record that belongs to no click before everything is read back: shows that the counts are counted
    #[arg(long, hide = true)]
    pub(crate) tamper: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}
