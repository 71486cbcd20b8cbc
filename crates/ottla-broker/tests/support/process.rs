//! A broker in a process of its own, which a test may starve or kill.
//!
//! The process is this test program once more, with the one test `broker_process` to run; that prints
//! `listening on ADDRESS`.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Names the directory that the process may use; set in it, and only there.
pub(crate) const DIR: &str = "OTTLA_TEST_DIR";

/// What starts the process, for a shell that has its program's path as `$0`.
pub(crate) const RUN: &str = "exec \"$0\" --exact broker_process --ignored --nocapture";

/// A running broker. Dropping it kills it, as `kill -9` does.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) address: String,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Has a shell do `before` and start the broker; `None` if it does not start.
    pub(crate) fn start(dir: &Path, before: &str) -> Option<Self> {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{before} {RUN}")])
            .arg(std::env::current_exe().unwrap())
            .env(DIR, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = output.find_map(|line| {
            // The harness prints the test's name before.
            let (_, address) = line.as_ref().unwrap().split_once("listening on ")?;
            Some(address.to_owned())
        });
        let stdin = child.stdin.take();
        let Some(address) = address else {
            child.wait().unwrap();
            return None;
        };
        Some(Self {
            child,
            address,
            stdin,
            output,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
