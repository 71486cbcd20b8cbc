//! Other people's clients, run as programs: kcat and Python's `confluent-kafka`, both on librdkafka.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{Error, Output, Process, cache};

/// The `kcat` that is installed on this machine.
#[derive(Debug, Clone)]
pub struct Kcat(());

impl Kcat {
    /// Finds it.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] when it is not installed.
    pub fn find() -> Result<Self, Error> {
        match Command::new("kcat").arg("-V").output() {
            Ok(_) => Ok(Self(())),
            Err(error) => Err(Error::missing(
                format!("no kcat ({error})"),
                "install it (Debian: apt-get install kcat)",
            )),
        }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// When it fails or is not done within a minute, with what it printed.
    pub fn run(&self, args: &[&str], input: Option<&[u8]>) -> Output {
        let mut command = Command::new("kcat");
        command.args(args);
        run("kcat", &mut command, args, input)
    }
}

/// A Python with `confluent-kafka`, in a virtual environment of its own.
#[derive(Debug, Clone)]
pub struct Python {
    interpreter: PathBuf,
}

impl Python {
    /// Finds the environment, or makes it.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] without Python 3 and its `venv`, or when `pip` cannot fetch the package.
    pub fn get() -> Result<Self, Error> {
        let dir = cache::entry("python", PACKAGE, make_environment)?;
        Ok(Self {
            interpreter: interpreter(&dir),
        })
    }

    /// Runs `script` to its end.
    ///
    /// # Panics
    ///
    /// When it fails or is not done within a minute, with what it printed.
    pub fn run(&self, script: &str, args: &[&str], input: Option<&[u8]>) -> Output {
        let mut command = Command::new(&self.interpreter);
        command.args(["-c", script]).args(args);
        run("python", &mut command, args, input)
    }
}

fn make_environment(dir: &Path) -> Result<(), Error> {
    let remedy = "install Python 3 with venv and pip (Debian: apt-get install python3-venv), with \
                  access to PyPI or a mirror";
    let step = |what: &str, command: &mut Command| {
        let output = Process::run(what, command, None, FETCH_LIMIT)
            .map_err(|error| Error::missing(error.to_string(), remedy))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::missing(
            format!("{what} failed: {}", output.stderr.trim()),
            remedy,
        ))
    };
    step(
        "python3 -m venv",
        Command::new("python3").args(["-m", "venv"]).arg(dir),
    )?;
    step(
        "pip install confluent-kafka",
        Command::new(interpreter(dir)).args(["-m", "pip", "install", "--quiet", PACKAGE]),
    )
}

fn interpreter(dir: &Path) -> PathBuf {
    dir.join("bin").join("python")
}

fn run(name: &str, command: &mut Command, args: &[&str], input: Option<&[u8]>) -> Output {
    Process::run(name, command, input, RUN_LIMIT)
        .unwrap_or_else(|error| panic!("{error}"))
        .expect_success(&format!("{name} {args:?}"))
}

const PACKAGE: &str = "confluent-kafka==2.16.1";
const FETCH_LIMIT: Duration = Duration::from_secs(300);
const RUN_LIMIT: Duration = Duration::from_secs(60);
