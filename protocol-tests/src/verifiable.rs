//! What Ottla's twins of Kafka's verifiable clients have in common: how they take their options, where their events go,
//! and what ends them. What they do with records is theirs.

use std::{
    error::Error,
    io::{self, BufWriter, Write as _},
    process::ExitCode,
    thread,
};

use clap::{Parser, error::ErrorKind};
use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};
use tracing_subscriber::EnvFilter;

use crate::sample::now_ms;

/// Runs a tool: `run` with its options, which returns the exit status.
pub async fn main<A: Parser>(
    name: &str,
    run: impl AsyncFnOnce(A) -> Result<u8, Box<dyn Error>>,
) -> ExitCode {
    let arguments = match options::<A>() {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    log_to_stderr();
    match run(arguments).await {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("{name}: error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The options of the command line, as `A` describes them.
///
/// # Errors
///
/// With how the process is to end, after saying what is wrong, or what was asked for: as Java's do, with 0 after help, also
/// when nothing was asked for, and with 1 otherwise.
fn options<A: Parser>() -> Result<A, ExitCode> {
    if std::env::args_os().len() < 2 {
        // Nobody to tell if that fails.
        let _ = A::command().print_help();
        return Err(ExitCode::SUCCESS);
    }
    A::try_parse().map_err(|error| {
        let asked_for = matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        );
        // Nobody to tell if that fails.
        let _ = error.print();
        match asked_for {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    })
}

/// Warnings go to standard error; `OTTLA_LOG` says which.
fn log_to_stderr() {
    let filter = std::env::var("OTTLA_LOG").unwrap_or_else(|_| "warn".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr)
        .init();
}

/// Says of an option that it has a new name, in Java's words and where Java does.
pub fn deprecated(old: &str, new: &str) {
    println!(
        "Option {old} has been deprecated and will be removed in a future version. Use {new} instead."
    );
}

/// The signals that ask the process to end.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on a signal ends nothing by itself.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one, and returns the status that a JVM ends with after it. Cancel-safe.
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => INTERRUPTED,
            _ = self.terminate.recv() => TERMINATED,
        }
    }

    /// From now on the next one ends the process at once.
    pub fn end_the_process(mut self) {
        tokio::spawn(async move { std::process::exit(self.next().await.into()) });
    }
}

/// Where events are told: lines on standard output, one JSON object each, with the time first. A thread of its own
/// prints them; who tells them waits while nobody reads.
#[derive(Debug)]
pub struct Events<E> {
    lines: mpsc::Sender<Message<E>>,
}

impl<E> Clone for Events<E> {
    fn clone(&self) -> Self {
        let lines = self.lines.clone();
        Self { lines }
    }
}

#[derive(Debug, Serialize)]
struct Line<E> {
    timestamp: i64,
    #[serde(flatten)]
    event: E,
}

#[derive(Debug)]
enum Message<E> {
    Line(Line<E>),
    End(oneshot::Sender<io::Result<()>>),
}

impl<E: Serialize + Send + 'static> Events<E> {
    /// Starts the thread that prints.
    pub fn start() -> Self {
        let (lines, told) = mpsc::channel(UNREAD_MAX);
        thread::spawn(move || print(told));
        Self { lines }
    }

    /// Has `event` printed, with the time of now.
    pub async fn tell(&self, event: E) {
        let timestamp = now_ms();
        // The printer is gone only after `end`, or if it panicked.
        let line = Message::Line(Line { timestamp, event });
        let _ = self.lines.send(line).await;
    }

    /// Returns when all is printed.
    ///
    /// # Errors
    ///
    /// When something was not.
    pub async fn end(&self) -> io::Result<()> {
        let (sender, ended) = oneshot::channel();
        let _ = self.lines.send(Message::End(sender)).await;
        ended
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }
}

fn print<E: Serialize>(mut told: mpsc::Receiver<Message<E>>) {
    let mut out = BufWriter::new(io::stdout());
    let mut failed = Ok(());
    while let Some(first) = told.blocking_recv() {
        // What came meanwhile goes out in one write.
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    let written = serde_json::to_writer(&mut out, &line)
                        .map_err(io::Error::from)
                        .and_then(|()| out.write_all(b"\n"));
                    failed = failed.and(written);
                }
                Message::End(ended) => {
                    let flushed = out.flush();
                    let _ = ended.send(failed.and(flushed));
                    return;
                }
            }
            next = told.try_recv().ok();
        }
        failed = failed.and(out.flush());
    }
}

const UNREAD_MAX: usize = 10_000;
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;
