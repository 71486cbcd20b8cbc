//! `ottla topics`.

use clap::{Args, Subcommand};

use super::JsonArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Creates a topic
    Create(CreateTopicArgs),
    /// Lists topics
    #[command(visible_alias = "ls")]
    List(ListTopicsArgs),
    /// Shows partitions, offsets and settings of topics
    Describe(DescribeTopicsArgs),
    /// Changes settings, or adds partitions
    Alter(AlterTopicArgs),
    /// Deletes topics and all their records
    #[command(visible_alias = "rm")]
    Delete(DeleteTopicsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateTopicArgs {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,
    /// How many partitions [default: the broker's num.partitions]
    #[arg(short = 'p', long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) partitions: Option<i32>,
    /// How many replicas of each [default: the broker's default.replication.factor]
    #[arg(short = 'r', long = "replicas", value_name = "N",
          value_parser = clap::value_parser!(i16).range(1..))]
    pub(crate) replicas: Option<i16>,
    /// A setting of the topic, such as cleanup.policy=compact
    #[arg(short = 'c', long = "config", id = "topic_config", value_name = "KEY=VALUE",
          value_parser = pair)]
    pub(crate) configs: Vec<(String, String)>,
    /// Succeeds if the topic exists already
    #[arg(long)]
    pub(crate) if_not_exists: bool,
    /// Only asks whether it could be created
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListTopicsArgs {
    /// Shows Kafka's own topics too
    #[arg(long)]
    pub(crate) internal: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DescribeTopicsArgs {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,
    /// Shows all settings, not only those that were set
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AlterTopicArgs {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: String,
    /// Raises the number of partitions to this. Records with keys may go to other partitions then
    #[arg(short = 'p', long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..),
          required_unless_present_any = ["topic_config", "delete", "append", "subtract"])]
    pub(crate) partitions: Option<i32>,
    /// Gives a setting a value
    #[arg(short = 'c', long = "config", id = "topic_config", value_name = "KEY=VALUE",
          value_parser = pair)]
    pub(crate) configs: Vec<(String, String)>,
    /// Takes a setting back, so that the default holds
    #[arg(short = 'd', long, value_name = "KEY")]
    pub(crate) delete: Vec<String>,
    /// Adds to a setting that is a list
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) append: Vec<(String, String)>,
    /// Takes from a setting that is a list
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) subtract: Vec<(String, String)>,
    /// Only asks whether it could be changed
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteTopicsArgs {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,
    /// Succeeds if a topic does not exist
    #[arg(long)]
    pub(crate) if_exists: bool,
    #[command(flatten)]
    pub(crate) json: JsonArgs,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err("expected KEY=VALUE".into()),
    }
}
