//! Other people's clients, run as programs: kcat, and Python's.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{Error, Guest, Output, Process, Sample, Seen, cache};

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

    /// Starts it, with pipes on all three standard streams.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn spawn(&self, args: &[&str]) -> Process {
        let mut command = Command::new("kcat");
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Process::spawn("kcat", &mut command).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A Python with `confluent-kafka`, `kafka-python` and `aiokafka`, in a virtual environment of its own.
#[derive(Debug, Clone)]
pub struct Python {
    interpreter: PathBuf,
}

impl Python {
    /// Finds the environment, or makes it.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] without Python 3 and its `venv`, or when `pip` cannot fetch the packages.
    pub fn get() -> Result<Self, Error> {
        let dir = cache::entry("python-clients", PACKAGES, make_environment)?;
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

    /// Starts the scenario of `python/guest/scenario.py` with one of the clients there.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn guest(&self, client: &str, args: &[&str]) -> Guest {
        let mut command = Command::new(&self.interpreter);
        command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/python/guest/scenario.py"
            ))
            .arg(client)
            .args(args)
            // The repository is no place for what Python compiles.
            .env("PYTHONDONTWRITEBYTECODE", "1");
        Guest::start(client, &mut command)
    }

    /// Starts a script of `python/` that goes on step by step.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn script(&self, name: &str, script: &str, args: &[&str]) -> Guest {
        let mut command = Command::new(&self.interpreter);
        command.args(["-c", script]).args(args);
        Guest::start(name, &mut command)
    }

    /// Reads the first `count` records of `topic` with `confluent-kafka`; fewer if there are fewer.
    ///
    /// # Panics
    ///
    /// When the client reports an error.
    pub fn consume(&self, bootstrap: &str, topic: &str, count: usize) -> Vec<Seen> {
        let script = include_str!("../python/consume.py");
        let output = self.run(script, &[bootstrap, topic, &count.to_string()], None);
        let parse =
            |line| seen_from_json(line).unwrap_or_else(|| panic!("Python printed {line:?}"));
        output.text().lines().map(parse).collect()
    }

    /// Writes `samples` to partition 0 of `topic` with `confluent-kafka`, compressed with `codec`.
    ///
    /// # Panics
    ///
    /// When the client could not deliver them all.
    pub fn produce(&self, bootstrap: &str, topic: &str, codec: &str, samples: &[Sample]) {
        let mut input = String::new();
        for sample in samples {
            input.push_str(&json_from_sample(sample).to_string());
            input.push('\n');
        }
        let script = include_str!("../python/produce.py");
        self.run(script, &[bootstrap, topic, codec], Some(input.as_bytes()));
    }
}

fn json_from_sample(sample: &Sample) -> serde_json::Value {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let hexed = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(hex);
    let headers: Vec<_> = sample
        .headers
        .iter()
        .map(|(key, value)| (key, hexed(value)))
        .collect();
    serde_json::json!({
        "timestamp": sample.timestamp,
        "key": hexed(&sample.key),
        "value": hexed(&sample.value),
        "headers": headers,
    })
}

fn seen_from_json(line: &str) -> Option<Seen> {
    let record: serde_json::Value = serde_json::from_str(line).ok()?;
    let unhexed = |value: &serde_json::Value| {
        let digits = value.as_str()?;
        let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        (0..digits.len())
            .step_by(2)
            .map(byte)
            .collect::<Option<Vec<u8>>>()
    };
    let headers = record["headers"].as_array()?.iter();
    Some(Seen {
        partition: record["partition"].as_i64()? as i32,
        offset: record["offset"].as_i64()?,
        log_append_time: false,
        sample: Sample {
            timestamp: record["timestamp"].as_i64()?,
            key: unhexed(&record["key"]),
            value: unhexed(&record["value"]),
            headers: headers
                .map(|header| Some((header[0].as_str()?.to_owned(), unhexed(&header[1]))))
                .collect::<Option<Vec<_>>>()?,
        },
    })
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
    let list = dir.join("requirements.txt");
    std::fs::write(&list, PACKAGES)
        .map_err(|e| Error::io(&format!("writing {}", list.display()), &e))?;
    step(
        "pip install",
        Command::new(interpreter(dir))
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(list),
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

const PACKAGES: &str = include_str!("../python/requirements.txt");
const FETCH_LIMIT: Duration = Duration::from_secs(300);
const RUN_LIMIT: Duration = Duration::from_secs(60);
