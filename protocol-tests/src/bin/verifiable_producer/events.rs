//! The lines on standard output: one JSON object each, with the names and the order of fields that Java's have.

use std::{
    io::{self, BufWriter, Write as _},
    thread,
};

use ottla_protocol_tests::sample::now_ms;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

#[derive(Debug, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub(crate) enum Event {
    StartupComplete,
    ProducerSendSuccess {
        key: Option<String>,
        value: String,
        /// -1 if the broker does not tell.
        offset: i64,
        topic: String,
        partition: i32,
    },
    ProducerSendError {
        topic: String,
        key: Option<String>,
        value: String,
        exception: String,
        message: String,
    },
    ShutdownComplete,
    ToolData {
        sent: u64,
        acked: u64,
        target_throughput: i64,
        avg_throughput: f64,
    },
}

#[derive(Serialize)]
struct Line {
    timestamp: i64,
    #[serde(flatten)]
    event: Event,
}

/// Where events are told; a thread of its own prints them. Who tells them waits while nobody reads.
#[derive(Debug)]
pub(crate) struct Events {
    lines: mpsc::Sender<Message>,
}

enum Message {
    Line(Line),
    End(oneshot::Sender<io::Result<()>>),
}

impl Events {
    pub(crate) fn start() -> Self {
        let (lines, told) = mpsc::channel(UNREAD_MAX);
        thread::spawn(move || print(told));
        Self { lines }
    }

    pub(crate) async fn tell(&self, event: Event) {
        let timestamp = now_ms();
        // The printer is gone only after `end`, or if it panicked.
        let line = Message::Line(Line { timestamp, event });
        let _ = self.lines.send(line).await;
    }

    /// Returns when all is printed, or says that something was not.
    pub(crate) async fn end(&self) -> io::Result<()> {
        let (sender, ended) = oneshot::channel();
        let _ = self.lines.send(Message::End(sender)).await;
        ended
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }
}

fn print(mut told: mpsc::Receiver<Message>) {
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
