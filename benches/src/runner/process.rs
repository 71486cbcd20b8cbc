//! A child process that speaks in lines, and what the kernel says it has cost.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::thread;
use std::time::Duration;

/// A running program. Dropping it ends it.
pub(crate) struct Process {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Process {
    pub(crate) fn start<S: AsRef<OsStr>>(
        name: &str,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> io::Result<Self> {
        let mut child = Command::new(&program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("{}: {error}", program.as_ref().display()),
                )
            })?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self {
            name: name.into(),
            child,
            input,
            lines: read_lines(output),
        })
    }

    /// The next line, or an error that says what became of the program.
    pub(crate) fn line(&mut self, within: Duration) -> io::Result<String> {
        self.lines.recv_timeout(within).map_err(|error| {
            io::Error::other(match error {
                RecvTimeoutError::Timeout => {
                    format!("{} said nothing for {} s", self.name, within.as_secs())
                }
                RecvTimeoutError::Disconnected => match self.child.wait() {
                    Ok(status) => format!("{} ended early: {status}", self.name),
                    Err(error) => format!("{} ended early: {error}", self.name),
                },
            })
        })
    }

    /// The next line if it has come already.
    pub(crate) fn line_if_any(&mut self) -> io::Result<Option<String>> {
        match self.lines.try_recv() {
            Ok(line) => Ok(Some(line)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => self.line(Duration::ZERO).map(Some),
        }
    }

    pub(crate) fn say(&mut self, line: &str) -> io::Result<()> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(input, "{line}")?;
        input.flush()
    }

    /// User and system time of the process and all its threads so far, in seconds; the kernel counts
    /// in ticks of 10 ms. `None` once the process is gone.
    pub(crate) fn cpu_seconds(&self) -> io::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let ticks = cpu_ticks(&stat)
            .ok_or_else(|| io::Error::other("/proc/PID/stat is not as documented in proc(5)"))?;
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Hangs up and waits for the end, for at most two seconds.
    pub(crate) fn finish(mut self) {
        self.input = None;
        for _ in 0..200 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// utime + stime: fields 14 and 15, counted from the parenthesis that ends the program's name.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_program_name() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 1100 22 13 14 15";
        assert_eq!(cpu_ticks(stat), Some(1122));
        assert_eq!(cpu_ticks("42 (short) S 1"), None);
    }

    #[test]
    fn a_program_that_dies_is_reported_by_name_and_status() {
        let mut process = Process::start("sh", "sh", ["-c", "echo one; exit 3"]).unwrap();
        assert_eq!(process.line(Duration::from_secs(5)).unwrap(), "one");
        let error = process
            .line(Duration::from_secs(5))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("sh ended early") && error.contains('3'),
            "{error}"
        );
    }
}
