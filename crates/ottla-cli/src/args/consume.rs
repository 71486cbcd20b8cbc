//! `ottla consume`.

use clap::Args;

use super::{Bytes, separator};
use crate::consume::Offset;

#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    /// A topic to read without a group, all its partitions or those of -p
    #[arg(
        short = 't',
        long,
        value_name = "TOPIC",
        conflicts_with = "group",
        required_unless_present = "group"
    )]
    pub(crate) topic: Option<String>,

    /// Only these partitions, comma separated
    #[arg(short = 'p', long = "partition", value_name = "N", value_delimiter = ',',
          conflicts_with = "group", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partitions: Vec<i32>,

    /// Where to start: beginning, end, stored, N, -N (so many before the end), s@MS (a time); and
    /// e@MS to stop at a time [default: beginning]
    #[arg(
        short = 'o',
        long = "offset",
        value_name = "OFFSET",
        allow_hyphen_values = true,
        conflicts_with = "group"
    )]
    pub(crate) offsets: Vec<Offset>,

    /// Joins this group and reads the topics given as arguments, from where the group has come to
    #[arg(short = 'G', long, value_name = "GROUP", requires = "topics")]
    pub(crate) group: Option<String>,

    /// Topics for the group to read
    #[arg(value_name = "TOPIC", requires = "group")]
    pub(crate) topics: Vec<String>,

    /// Stops at what is the end of every partition now
    #[arg(short = 'e', long)]
    pub(crate) exit_at_end: bool,

    /// Stops after so many records
    #[arg(short = 'c', long, value_name = "N")]
    pub(crate) count: Option<u64>,

    /// Prints each record by this format: %t topic, %p partition, %o offset, %T timestamp, %k key,
    /// %s value, %h headers, %K and %S lengths of key and value, %R length of the value in four
    /// bytes, %% and escapes
    #[arg(short = 'f', long, value_name = "FORMAT", conflicts_with_all = ["json", "key_delimiter",
          "delimiter"], value_parser = crate::consume::check_format)]
    pub(crate) format: Option<String>,

    /// Prints each record as a JSON object on a line of its own
    #[arg(short = 'J', long, conflicts_with_all = ["key_delimiter", "delimiter"])]
    pub(crate) json: bool,

    /// Prints the key and DELIM before the value. Escapes: \t \n \r \0 \\ \xHH
    #[arg(short = 'K', long, value_name = "DELIM", value_parser = separator)]
    pub(crate) key_delimiter: Option<Bytes>,

    /// What to print after each record [default: a line feed]
    #[arg(short = 'D', long, value_name = "DELIM", value_parser = separator)]
    pub(crate) delimiter: Option<Bytes>,

    /// Prints a null key or value as NULL rather than as nothing
    #[arg(short = 'Z', long)]
    pub(crate) null: bool,

    /// Writes every record out at once, not when there is time
    #[arg(short = 'u', long)]
    pub(crate) unbuffered: bool,
}
