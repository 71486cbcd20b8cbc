//! What can be typed: commands and options, with kcat's letters where kcat has one.

mod broker;
mod consume;
mod demo;
mod perf;
mod produce;
mod topics;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use broker::{BrokerArgs, Listen};
pub(crate) use consume::ConsumeArgs;
pub(crate) use demo::DemoArgs;
pub(crate) use perf::{PerfCommand, PerfConsumeArgs, PerfLatencyArgs, PerfProduceArgs};
pub(crate) use produce::ProduceArgs;
pub(crate) use topics::{
    AlterTopicArgs, CreateTopicArgs, DeleteTopicsArgs, DescribeTopicsArgs, ListTopicsArgs,
    TopicsCommand,
};

/// Talk to Apache Kafka: produce, consume, look after topics, measure.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Options that every command has.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Brokers to start from, host:port, comma separated [default: OTTLA_BOOTSTRAP, then
    /// localhost:9092]
    #[arg(short = 'b', long = "bootstrap", global = true, value_name = "BROKERS")]
    pub(crate) bootstrap: Option<String>,

    /// Sets a client setting (for `broker`: one of the broker) by Kafka's or librdkafka's name; `-X list`
    /// lists all of them, `-X dump` those in force
    #[arg(short = 'X', long = "set", global = true, value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,

    /// Reads settings from a Java properties file, before -X
    #[arg(short = 'F', long = "properties", global = true, value_name = "FILE")]
    pub(crate) properties: Vec<PathBuf>,

    /// How long to try to reach the cluster, and how long an administrative call may take
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 15.0,
          value_parser = seconds)]
    pub(crate) timeout: f64,

    /// Says less: no progress, no summaries, no warnings
    #[arg(short = 'q', long, global = true)]
    pub(crate) quiet: bool,

    /// Says more, in the log on standard error; -vv says most (or set OTTLA_LOG, as in
    /// ottla_net=debug)
    #[arg(short = 'v', long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Writes lines of standard input, or of files, to a topic
    #[command(visible_alias = "p")]
    Produce(ProduceArgs),
    /// Prints the records of topics
    #[command(visible_alias = "c")]
    Consume(ConsumeArgs),
    /// Creates, lists, describes, alters and deletes topics
    #[command(subcommand, visible_alias = "topic")]
    Topics(TopicsCommand),
    /// Lists and describes consumer groups
    #[command(subcommand, visible_alias = "group")]
    Groups(GroupsCommand),
    /// Shows the cluster and its brokers
    Cluster(ClusterArgs),
    /// Measures how fast records go in and out, and how long they take
    #[command(subcommand)]
    Perf(PerfCommand),
    /// Shows it all on this machine: clicks are made, checked, enriched and counted
    ///
    /// Starts a broker in this process and lets a stream processor run on it: a generator writes clicks to
    /// user_clicks, three workers of one consumer group validate them and write enriched_clicks, or user_clicks_dlq
    /// where a click is malformed. Then reads everything back and counts. Exit status 0 says that every count adds up.
    Demo(DemoArgs),
    /// Runs a broker in this process, for development and tests
    ///
    /// Any Kafka client can use it. One process with all its nodes: made to develop against and to test with, not to
    /// keep what must not be lost. Ctrl-C or SIGTERM end it in order.
    Broker(BrokerArgs),
    /// Prints completions for a shell
    Completions(CompletionsArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupsCommand {
    /// Lists the cluster's groups
    #[command(visible_alias = "ls")]
    List(JsonArgs),
    /// Shows members, committed offsets and lag
    Describe(DescribeGroupsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DescribeGroupsArgs {
    /// The groups
    #[arg(required = true, value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Shows the settings of a broker as well: those that somebody set, or all with --all
    #[arg(long, value_name = "BROKER")]
    pub(crate) configs: Option<i32>,
    /// With --configs, shows defaults too
    #[arg(long, requires = "configs")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct JsonArgs {
    /// Prints JSON for programs, one document on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell; for bash: source <(ottla completions bash)
    pub(crate) shell: clap_complete::Shell,
}

/// A positive number of seconds that fits a deadline.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 1e6 => Ok(seconds),
        _ => Err("expected a number of seconds above 0, at most 1000000".into()),
    }
}

/// A delimiter, with escapes.
fn delimiter(text: &str) -> Result<Bytes, String> {
    let bytes = crate::escape::unescape(text)?;
    if bytes.is_empty() {
        return Err("a delimiter needs at least one byte".into());
    }
    Ok(Bytes(bytes))
}

/// What to print between things: a delimiter, or nothing.
fn separator(text: &str) -> Result<Bytes, String> {
    crate::escape::unescape(text).map(Bytes)
}

/// Bytes given on the command line; a type of its own, since clap takes a `Vec` for many values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

const AFTER_HELP: &str = "\
Exit status: 0 done; 1 some or all of it failed; 2 mistaken options or settings; 3 the cluster could \
not be reached in time; 4 a topic, group or partition does not exist; 130 interrupted before it was done.

Examples:
  seq 1000 | ottla produce -t numbers
  ottla consume -t numbers -e | head -3
  ottla consume -G billing -f '%t/%p/%o %k=%s\\n' orders refunds
  ottla topics create clicks --partitions 12 --config retention.ms=3600000
  ottla broker --topic clicks:12 --data-dir ./kafka-data
  ottla demo";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn kcats_letters() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for line in [
            "ottla produce -b a:1,b:2 -t t -p 3 -K : -H a=1 -H b=2 -Z -z zstd -X acks=1 file",
            "ottla consume -b a:1 -t t -p 0,1 -o -5 -e -c 10 -K \\t -D ; -q -Z",
            "ottla consume -b a:1 -t t -f %s\\n",
            "ottla consume -b a:1 -t t -o s@1 -o e@2 -J",
            "ottla consume -G group -X auto.offset.reset=earliest a b c",
            "ottla -b a:1 consume -t t -o beginning -u",
            "ottla topics list -b a:1 --json",
            "ottla produce -t t -F client.properties file",
            "ottla consume -t t -F client.properties",
            "ottla -X list",
            "ottla broker -X list",
            "ottla broker --listen 127.0.0.1:0 --nodes 3 --data-dir d --topic a:3 --topic b --set num.partitions=2",
            "ottla demo -q --messages 10 --keep --json",
        ] {
            parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
        for line in [
            "ottla produce",
            "ottla consume",
            "ottla consume -t t -G g a",
            "ottla consume -t t -f %q",
            "ottla consume -t t -J -f %s",
            "ottla produce -t t -K",
            "ottla consume -t t -c -1",
            "ottla topics create t --partitions 0",
            "ottla --timeout 0 cluster",
            "ottla broker --nodes 0",
            "ottla broker --topic a:0",
            "ottla broker --listen here:99999",
            "ottla demo --messages 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
