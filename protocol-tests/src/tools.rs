//! Kafka's own command-line tools, run with their output captured.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use crate::{Distribution, Error, Output, Process, Version};

/// A tool that ships with Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "Kafka's documentation says what each does")]
#[non_exhaustive]
pub enum Tool {
    ConsoleProducer,
    ConsoleConsumer,
    VerifiableProducer,
    VerifiableConsumer,
    Topics,
    ConsumerGroups,
    GetOffsets,
    DumpLogSegments,
    /// Any other that talks to a cluster, by its class.
    Other(&'static str),
}

impl Tool {
    fn class(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::ConsoleProducer, Version::V3_9) => "kafka.tools.ConsoleProducer",
            (Self::DumpLogSegments, Version::V3_9) => "kafka.tools.DumpLogSegments",
            (Self::ConsoleProducer, _) => "org.apache.kafka.tools.ConsoleProducer",
            (Self::DumpLogSegments, _) => "org.apache.kafka.tools.DumpLogSegments",
            (Self::ConsoleConsumer, _) => "org.apache.kafka.tools.consumer.ConsoleConsumer",
            (Self::Other(class), _) => class,
            (Self::VerifiableProducer, _) => "org.apache.kafka.tools.VerifiableProducer",
            (Self::VerifiableConsumer, _) => "org.apache.kafka.tools.VerifiableConsumer",
            (Self::Topics, _) => "org.apache.kafka.tools.TopicCommand",
            (Self::GetOffsets, _) => "org.apache.kafka.tools.GetOffsetShell",
            (Self::ConsumerGroups, _) => {
                "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
            }
        }
    }

    fn talks_to_a_cluster(self) -> bool {
        self != Self::DumpLogSegments
    }
}

/// Runs the tools of one Kafka version against one cluster.
#[derive(Debug, Clone)]
pub struct Tools {
    kafka: Distribution,
    bootstrap: String,
}

impl Tools {
    pub(crate) fn new(kafka: Distribution, bootstrap: String) -> Self {
        Self { kafka, bootstrap }
    }

    /// The version of the tools.
    pub fn version(&self) -> Version {
        self.kafka.version()
    }

    /// Runs `tool` to its end; `--bootstrap-server` is given by the harness.
    ///
    /// # Panics
    ///
    /// When it fails or is not done within two minutes, with what it printed.
    pub fn run(&self, tool: Tool, args: &[&str]) -> Output {
        self.try_run(tool, args, None, LIMIT)
            .unwrap_or_else(|error| panic!("{error}"))
            .expect_success(&format!("{tool:?} {args:?}"))
    }

    /// Like [`run`](Self::run), with `input` on standard input.
    ///
    /// # Panics
    ///
    /// When it fails or is not done within two minutes, with what it printed.
    pub fn feed(&self, tool: Tool, args: &[&str], input: &[u8]) -> Output {
        self.try_run(tool, args, Some(input), LIMIT)
            .unwrap_or_else(|error| panic!("{error}"))
            .expect_success(&format!("{tool:?} {args:?}"))
    }

    /// Runs `tool` to its end, whatever that is.
    ///
    /// # Errors
    ///
    /// When it does not start, or is not done within `limit`.
    pub fn try_run(
        &self,
        tool: Tool,
        args: &[&str],
        input: Option<&[u8]>,
        limit: Duration,
    ) -> Result<Output, Error> {
        let mut command = self.command(tool);
        command.args(args);
        Process::run(format!("{tool:?}"), &mut command, input, limit)
    }

    /// Starts `tool`, with pipes on all three standard streams.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn spawn(&self, tool: Tool, args: &[&str]) -> Process {
        let mut command = self.command(tool);
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Process::spawn(format!("{tool:?}"), &mut command).unwrap_or_else(|error| panic!("{error}"))
    }

    fn command(&self, tool: Tool) -> Command {
        let mut command = self.kafka.java(192, "WARN");
        command.arg(tool.class(self.kafka.version()));
        if tool.talks_to_a_cluster() {
            command.args(["--bootstrap-server", &self.bootstrap]);
        }
        command
    }
}

const LIMIT: Duration = Duration::from_secs(120);
