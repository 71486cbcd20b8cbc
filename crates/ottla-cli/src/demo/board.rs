//! Live progress: a line that moves on a terminal, a line a second elsewhere, nothing when quiet.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use clickstream::Counts;
use indicatif::HumanCount;
use tokio::task::JoinHandle;

use super::count;
use crate::exit::say;
use crate::progress::Progress;

/// Shows progress until it is dropped.
pub(super) struct Board {
    task: Option<JoinHandle<()>>,
}

impl Board {
    /// `total` clicks are to be written; `sent` are.
    pub(super) fn put_up(
        quiet: bool,
        total: u64,
        sent: Arc<AtomicU64>,
        workers: Vec<Arc<Counts>>,
    ) -> Board {
        if quiet {
            return Board { task: None };
        }
        let figures = Figures {
            total,
            sent,
            workers,
        };
        let task = if std::io::stderr().is_terminal() {
            tokio::spawn(figures.move_a_line())
        } else {
            tokio::spawn(figures.add_lines())
        };
        Board { task: Some(task) }
    }
}

impl Board {
    /// Takes it away before something else is shown.
    pub(super) async fn take_down(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // Aborted just now: an error is what is expected.
            let _ = task.await;
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Figures {
    total: u64,
    sent: Arc<AtomicU64>,
    workers: Vec<Arc<Counts>>,
}

impl Figures {
    async fn move_a_line(self) {
        let progress = Progress::new(false, Some(self.total), "clicks");
        loop {
            progress.set(self.consumed());
            progress.message(self.details());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn add_lines(self) {
        let mut told = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let consumed = self.consumed();
            if consumed != told {
                told = consumed;
                say(format_args!(
                    "{} of {} clicks processed: {}",
                    HumanCount(consumed),
                    HumanCount(self.total),
                    self.details()
                ));
            }
        }
    }

    fn consumed(&self) -> u64 {
        self.workers.iter().map(|w| count(&w.consumed)).sum()
    }

    fn details(&self) -> String {
        let sum = |field: fn(&Counts) -> &AtomicU64| {
            HumanCount(self.workers.iter().map(|w| count(field(w))).sum())
        };
        format!(
            "{} written, {} enriched, {} dead letters",
            HumanCount(count(&self.sent)),
            sum(|w| &w.enriched),
            sum(|w| &w.dead_lettered)
        )
    }
}
