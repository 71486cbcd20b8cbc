//! How the tool ends: exit status and the one paragraph on standard error.

use std::fmt::Display;
use std::process::ExitCode;

use ottla::{admin, config, consumer, net};

/// Everything asked for was done.
pub(crate) const DONE: u8 = 0;
/// Some or all of it failed.
pub(crate) const FAILED: u8 = 1;
/// Mistaken options or settings.
pub(crate) const USAGE: u8 = 2;
/// The cluster could not be reached in time.
pub(crate) const UNREACHABLE: u8 = 3;
/// A topic, group or partition does not exist.
pub(crate) const NOT_FOUND: u8 = 4;
/// Interrupted before it was done; 128 and the number of SIGINT, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;
/// Told to terminate a second time; 128 and the number of SIGTERM.
#[cfg(unix)]
pub(crate) const TERMINATED: u8 = 143;

/// Why a command did not do all it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    /// For people; empty when everything has been said or nobody listens any more.
    text: String,
}

impl Failure {
    pub(crate) fn new(status: u8, text: impl Display) -> Failure {
        Failure {
            status,
            text: text.to_string(),
        }
    }

    pub(crate) fn failed(text: impl Display) -> Failure {
        Failure::new(FAILED, text)
    }

    pub(crate) fn usage(text: impl Display) -> Failure {
        Failure::new(USAGE, text)
    }

    pub(crate) fn not_found(text: impl Display) -> Failure {
        Failure::new(NOT_FOUND, text)
    }

    /// Whoever read standard output has seen enough. That is no failure.
    pub(crate) fn nobody_listens() -> Failure {
        Failure {
            status: DONE,
            text: String::new(),
        }
    }

    pub(crate) fn interrupted() -> Failure {
        Failure {
            status: INTERRUPTED,
            text: String::new(),
        }
    }

    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Says what went wrong, if anything did, and turns it into the exit status.
pub(crate) fn end(outcome: Result<(), Failure>, quiet: bool) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::from(DONE),
        Err(failure) => {
            if !failure.text.is_empty() {
                say(format_args!("error: {}", failure.text));
            } else if failure.status == INTERRUPTED && !quiet {
                say("interrupted");
            }
            ExitCode::from(failure.status)
        }
    }
}

/// A line on standard error. Nobody may be listening there either.
pub(crate) fn say(line: impl Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl From<config::ConfigError> for Failure {
    fn from(error: config::ConfigError) -> Failure {
        Failure::usage(error)
    }
}

impl From<net::Error> for Failure {
    fn from(error: net::Error) -> Failure {
        Failure::new(status_of(&error), &error)
    }
}

impl From<admin::Error> for Failure {
    fn from(error: admin::Error) -> Failure {
        let status = match &error {
            admin::Error::Net(error) => status_of(error),
            error => error.code().map_or(FAILED, status_of_code),
        };
        Failure::new(status, error)
    }
}

impl From<ottla_broker::Error> for Failure {
    fn from(error: ottla_broker::Error) -> Failure {
        match error {
            ottla_broker::Error::Options(_) | ottla_broker::Error::Topic { .. } => {
                Failure::usage(error)
            }
            error => Failure::failed(error),
        }
    }
}

impl From<consumer::Error> for Failure {
    fn from(error: consumer::Error) -> Failure {
        match error {
            consumer::Error::Net(error) => error.into(),
            consumer::Error::UnknownTopic { .. } => Failure::not_found(error),
            error => Failure::failed(error),
        }
    }
}

impl From<ottla::Error> for Failure {
    fn from(error: ottla::Error) -> Failure {
        match error {
            ottla::Error::Config(error) => error.into(),
            ottla::Error::Net(error) => error.into(),
            ottla::Error::Consumer(error) => error.into(),
            other => Failure::failed(other),
        }
    }
}

fn status_of(error: &net::Error) -> u8 {
    match error {
        net::Error::Config { .. } => USAGE,
        net::Error::Connect { .. }
        | net::Error::NotKafka { .. }
        | net::Error::Handshake { .. }
        | net::Error::Disconnected { .. }
        | net::Error::TimedOut { .. }
        | net::Error::NoAnswerYet { .. }
        | net::Error::NotKnownYet { .. }
        | net::Error::UnknownBroker { .. } => UNREACHABLE,
        net::Error::Deadline {
            last: Some(last), ..
        } => status_of(last),
        net::Error::Deadline { last: None, .. } => UNREACHABLE,
        net::Error::NoPartitions { .. } => NOT_FOUND,
        error => error.code().map_or(FAILED, status_of_code),
    }
}

/// Whether a broker's refusal means that there is no such thing.
pub(crate) fn status_of_code(code: ottla::ErrorCode) -> u8 {
    use ottla::ErrorCode;
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::GROUP_ID_NOT_FOUND => NOT_FOUND,
        _ => FAILED,
    }
}
