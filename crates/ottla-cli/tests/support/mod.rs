//! Runs the tool as a user does.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::thread;

/// The tool with these arguments, and nothing from the environment that would name a cluster.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.args(arguments).env_remove("OTTLA_BOOTSTRAP");
    command
}

/// Runs it to its end, with `input` on its standard input.
pub(crate) fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A tool that ends before it has read everything closes the pipe, which is its right.
    let writer = thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// As [`run`], which must succeed; what it printed.
#[track_caller]
pub(crate) fn text(arguments: &[&str], input: &[u8]) -> String {
    let output = run(arguments, input);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {:?}: {errors}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}
