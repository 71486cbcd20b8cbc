//! Kafka's own command-line tools, run with their output captured.

use std::{process::Stdio, sync::Arc, time::Duration};

use crate::{Distribution, Error, Output, Process, Version, session::Session};

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
    Configs,
    DeleteRecords,
    BrokerApiVersions,
    ConsumerPerformance,
    /// Takes its bootstrap servers as a property of the producer's, not from the harness.
    ProducerPerformance,
    /// Takes its bootstrap servers as `--broker-list`, not from the harness.
    TransactionalMessageCopier,
    LeaderElection,
    LogDirs,
    ReassignPartitions,
    /// The harness's own, which lets the assignors of Kafka's consumer distribute the partitions of made-up groups: a
    /// seed and a number of groups. Runs [in one JVM](Tools::in_one_jvm) only.
    Assignors,
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
            (Self::BrokerApiVersions, Version::V3_9) => "kafka.admin.BrokerApiVersionsCommand",
            (Self::BrokerApiVersions, _) => "org.apache.kafka.tools.BrokerApiVersionsCommand",
            (Self::Configs, _) => "kafka.admin.ConfigCommand",
            (Self::DeleteRecords, _) => "org.apache.kafka.tools.DeleteRecordsCommand",
            (Self::ConsumerPerformance, _) => "org.apache.kafka.tools.ConsumerPerformance",
            (Self::ProducerPerformance, _) => "org.apache.kafka.tools.ProducerPerformance",
            (Self::LeaderElection, _) => "org.apache.kafka.tools.LeaderElectionCommand",
            (Self::LogDirs, _) => "org.apache.kafka.tools.LogDirsCommand",
            (Self::ReassignPartitions, _) => {
                "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
            }
            (Self::Assignors, _) => "Assignors",
            (Self::Other(class), _) => class,
            (Self::TransactionalMessageCopier, _) => {
                "org.apache.kafka.tools.TransactionalMessageCopier"
            }
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
        !matches!(
            self,
            Self::DumpLogSegments
                | Self::ProducerPerformance
                | Self::TransactionalMessageCopier
                | Self::Assignors
        )
    }
}

/// Runs the tools of one Kafka version against one cluster.
#[derive(Debug, Clone)]
pub struct Tools {
    kafka: Distribution,
    bootstrap: String,
    session: Option<Arc<Session>>,
}

impl Tools {
    /// The tools of `kafka`, for the cluster at `bootstrap`, which may be of another make.
    pub fn new(kafka: Distribution, bootstrap: String) -> Self {
        Self {
            kafka,
            bootstrap,
            session: None,
        }
    }

    /// The same tools, run one after the other in one JVM, which is much faster where there are many to run.
    /// What is [spawned](Self::spawn) has a JVM of its own all the same.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] without a Java compiler the first time.
    pub fn in_one_jvm(mut self) -> Result<Self, Error> {
        self.session = Some(Arc::new(Session::start(&self.kafka)?));
        Ok(self)
    }

    /// These tools, for another cluster.
    #[must_use]
    pub fn at(&self, bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            ..self.clone()
        }
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
        let args = self.arguments(tool, args);
        let class = tool.class(self.version());
        if let Some(session) = &self.session {
            return session.run(class, &args, input.unwrap_or_default(), limit);
        }
        let mut command = self.kafka.java(192, "WARN", None);
        command.arg(class).args(args);
        Process::run(format!("{tool:?}"), &mut command, input, limit)
    }

    /// Starts `tool`, with pipes on all three standard streams.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn spawn(&self, tool: Tool, args: &[&str]) -> Process {
        let mut command = self.kafka.java(192, "WARN", None);
        command
            .arg(tool.class(self.version()))
            .args(self.arguments(tool, args))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Process::spawn(format!("{tool:?}"), &mut command).unwrap_or_else(|error| panic!("{error}"))
    }

    fn arguments(&self, tool: Tool, args: &[&str]) -> Vec<String> {
        let bootstrap = ["--bootstrap-server", self.bootstrap.as_str()];
        let given = bootstrap.iter().filter(|_| tool.talks_to_a_cluster());
        given.chain(args).map(|&arg| arg.to_owned()).collect()
    }
}

const LIMIT: Duration = Duration::from_secs(120);
