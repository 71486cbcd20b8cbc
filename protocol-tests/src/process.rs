//! A process with a group of its own: killed on drop, watched over, its output collected.

use std::{
    fs,
    io::{Read, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{Error, watchdog::Watchdog};

/// How long a process may take to stand still.
const PAUSE_LIMIT: Duration = Duration::from_secs(5);

/// A running child process. Dropping it kills its whole process group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    watchdog: &'static Watchdog,
    reaped: Option<ExitStatus>,
}

/// What a process printed, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// The exit status.
    pub status: ExitStatus,
    /// Standard output, whole.
    pub stdout: Vec<u8>,
    /// Standard error, whole, with broken UTF-8 replaced.
    pub stderr: String,
}

impl Output {
    /// Standard output as text.
    ///
    /// # Panics
    ///
    /// When it is not UTF-8.
    pub fn text(&self) -> &str {
        match std::str::from_utf8(&self.stdout) {
            Ok(text) => text,
            Err(error) => panic!("not UTF-8 on standard output: {error}"),
        }
    }

    /// This output, if the process succeeded.
    ///
    /// # Panics
    ///
    /// With all that the process printed, when it failed.
    pub fn expect_success(self, what: &str) -> Self {
        assert!(
            self.status.success(),
            "{what} ended with {}\n{}{}",
            self.status,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        );
        self
    }
}

impl Process {
    /// Starts `command` in a process group of its own.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn(name: impl Into<String>, command: &mut Command) -> Result<Self, Error> {
        let name = name.into();
        let watchdog = Watchdog::get()?;
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|e| Error::io(&format!("starting {name}"), &e))?;
        watchdog.watch(child.id());
        Ok(Self {
            name,
            child,
            watchdog,
            reaped: None,
        })
    }

    /// Runs `command` to its end, feeding it `input` and collecting what it prints.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or is not done within `limit`; it is then killed.
    pub fn run(
        name: impl Into<String>,
        command: &mut Command,
        input: Option<&[u8]>,
        limit: Duration,
    ) -> Result<Output, Error> {
        let name = name.into();
        let stdin = if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Self::spawn(name, command)?;
        if let (Some(input), Some(mut pipe)) = (input, process.child.stdin.take()) {
            let input = input.to_vec();
            // Its own thread, for a child that prints before it has read everything would
            // otherwise deadlock with us. A child that ends early closes the pipe: no error.
            thread::spawn(move || drop(pipe.write_all(&input)));
        }
        process.collect(limit)
    }

    /// Waits for the end and collects what was printed on the pipes of this process.
    ///
    /// # Errors
    ///
    /// When it is not done within `limit`; it is then killed.
    pub fn collect(mut self, limit: Duration) -> Result<Output, Error> {
        let (done, finished) = mpsc::channel::<()>();
        let stdout = self
            .child
            .stdout
            .take()
            .map(|pipe| read_all(pipe, done.clone()));
        let stderr = self
            .child
            .stderr
            .take()
            .map(|pipe| read_all(pipe, done.clone()));
        drop(done);
        let deadline = Instant::now() + limit;
        // Nothing is ever sent: the channel disconnects when both pipes are closed.
        let ended = finished.recv_timeout(limit);
        let ended = matches!(ended, Err(mpsc::RecvTimeoutError::Disconnected))
            && self.exits_by(deadline).is_some();
        if !ended {
            self.kill();
        }
        let status = self.kill();
        let join = |reader: Option<JoinHandle<Vec<u8>>>| {
            reader
                .and_then(|thread| thread.join().ok())
                .unwrap_or_default()
        };
        let (stdout, stderr) = (join(stdout), join(stderr));
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        if ended {
            return Ok(Output {
                status,
                stdout,
                stderr,
            });
        }
        Err(Error::failed(format!(
            "{} was not done after {limit:?}; it printed\n{}{stderr}",
            self.name,
            String::from_utf8_lossy(&stdout),
        )))
    }

    /// The operating system's id of the process, which is also that of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The write end of its standard input, if that is a pipe and was not taken before.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The read end of its standard output, if that is a pipe and was not taken before.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// The read end of its standard error, if that is a pipe and was not taken before.
    pub(crate) fn take_stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.child.stderr.take()
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.reaped.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.watchdog.forget(self.child.id());
            self.reaped = Some(status);
        }
        self.reaped
    }

    /// How it ended, if it ends within `limit`.
    pub fn exits(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.exits_by(Instant::now() + limit)
    }

    /// How it ended, if it ends before `deadline`.
    pub(crate) fn exits_by(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            let status = self.exit_status();
            if status.is_some() || Instant::now() >= deadline {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends `signal` to the process group, unless the process has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none() {
            let _ = kill_process_group(Pid::from_child(&self.child), signal);
        }
    }

    /// Stops the process, and waits until none of its threads runs any more: one that is at an answer sends that first, and the
    /// kernel takes its time. Without /proc to look in, that is not waited for.
    pub(crate) fn pause(&mut self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.child.id());
        let runs = |thread: &Path| {
            let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
            // Behind the name, which may have anything in it.
            let state = stat.rsplit_once(") ").map(|(_, state)| state);
            state.is_some_and(|state| !state.starts_with(['T', 't', 'Z', 'X']))
        };
        let deadline = Instant::now() + PAUSE_LIMIT;
        while Instant::now() < deadline {
            let threads = fs::read_dir(&threads).into_iter().flatten().flatten();
            if !threads.into_iter().any(|thread| runs(&thread.path())) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills the process group with -9, unless the process has ended, and says how it ended.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        if let Some(status) = self.reaped {
            return status;
        }
        let status = self
            .child
            .wait()
            .unwrap_or_else(|_| ExitStatus::from_raw(9));
        self.watchdog.forget(self.child.id());
        *self.reaped.insert(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_all(mut pipe: impl Read + Send + 'static, done: mpsc::Sender<()>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        let _ = pipe.read_to_end(&mut all);
        drop(done);
        all
    })
}
