//! A program on another client that tells a test, step by step, what it did and what it was told.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{Process, recording::Captured};

/// A running program that prints one JSON object a line, with its `step`, and goes on when it is told to.
///
/// Dropping it kills it.
#[derive(Debug)]
pub struct Guest {
    name: String,
    process: Process,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    complaints: Captured,
}

impl Guest {
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Process::spawn(name, command).unwrap_or_else(|error| panic!("{error}"));
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = process.take_stdout() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let complaints = process.take_stderr().map(Captured::new).unwrap_or_default();
        Self {
            name: name.to_owned(),
            stdin: process.take_stdin(),
            process,
            lines,
            complaints,
        }
    }

    /// Waits until the program has done the step `name`, and returns what it says of it.
    ///
    /// # Panics
    ///
    /// With what it complained of, when it says something else, ends before, or takes over a minute.
    pub fn expect(&mut self, name: &str) -> serde_json::Value {
        let Ok(line) = self.lines.recv_timeout(STEP_LIMIT) else {
            panic!("{}", self.failure(name));
        };
        let said: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{} printed {line:?}: {error}", self.name));
        assert_eq!(said["step"], name, "{} said {line}", self.name);
        said
    }

    /// Lets it do its next step.
    pub fn go_on(&mut self) {
        let told = self.stdin.as_mut().map(|stdin| stdin.write_all(b"\n"));
        // One that has ended is noticed by who expects its next step.
        drop(told);
    }

    /// Lets it end.
    ///
    /// # Panics
    ///
    /// When it fails, or goes on for longer than a minute.
    pub fn finish(mut self) {
        self.stdin = None;
        match self.process.exits_by(Instant::now() + STEP_LIMIT) {
            Some(status) if status.success() => {}
            _ => panic!("{}", self.failure("its end")),
        }
    }

    fn failure(&mut self, waited_for: &str) -> String {
        let ended = self
            .process
            .exits_by(Instant::now() + Duration::from_secs(1));
        let how = match ended {
            Some(status) => format!("ended with {status}"),
            None => format!("was not done after {STEP_LIMIT:?}"),
        };
        let (name, complaints) = (&self.name, self.complaints.text());
        format!("waiting for {waited_for} of {name}: it {how}\n{complaints}")
    }
}

const STEP_LIMIT: Duration = Duration::from_secs(60);
