//! A program that runs beside a test, with what it has printed so far.

use std::{
    io::Read,
    process::{ChildStdin, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::Process;

/// A running program whose output can be looked at while it runs. Dropping it kills it.
#[derive(Debug)]
pub struct Recording {
    process: Process,
    stdin: Option<ChildStdin>,
    stdout: Captured,
    stderr: Captured,
}

impl Process {
    /// Reads what it prints as it prints it, from those of its pipes that were not taken before.
    pub fn record(mut self) -> Recording {
        Recording {
            stdin: self.take_stdin(),
            stdout: self.take_stdout().map(Captured::new).unwrap_or_default(),
            stderr: self.take_stderr().map(Captured::new).unwrap_or_default(),
            process: self,
        }
    }
}

impl Recording {
    /// What it has printed on standard output.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has printed on standard error.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until `holds` of what it has printed on standard output.
    ///
    /// # Panics
    ///
    /// With what it printed, when it ends before or takes over a minute.
    pub fn wait_until(&mut self, what: &str, holds: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + LIMIT;
        loop {
            // In this order: what it printed before its end is seen.
            let ended = self.process.exit_status();
            if holds(&self.stdout()) {
                return;
            }
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "waited until {what}; it ended: {ended:?}; it printed\n{}\n{}",
                self.stdout(),
                self.stderr()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The write end of its standard input; dropping it closes it.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Asks it to end, by SIGTERM, and waits until it has.
    ///
    /// # Panics
    ///
    /// When it does not end within a minute.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.wait_for_end()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    ///
    /// When it does not end within a minute.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let ended = self.process.exits_by(Instant::now() + LIMIT);
        let Some(status) = ended else {
            panic!("it does not end\n{}\n{}", self.stdout(), self.stderr());
        };
        status
    }
}

/// All that came out of a pipe so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    pub(crate) fn new(mut pipe: impl Read + Send + 'static) -> Self {
        let captured = Self::default();
        let all = Arc::clone(&captured.0);
        thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.extend(&chunk[..count]);
            }
        });
        captured
    }

    pub(crate) fn text(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&all).into_owned()
    }
}

const LIMIT: Duration = Duration::from_secs(60);
