//! This program once more, as an embedded broker; and what a process costs, as /proc has it.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{self, Command, Stdio};
use std::time::Duration;

use ottla_broker::{BrokerOptions, EmbeddedCluster};
use tokio::runtime::Runtime;

type Failure = Box<dyn Error>;

/// A broker in a process of its own, which is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    /// Where it is.
    pub bootstrap_servers: String,
}

impl Child {
    /// Starts this program with the argument `serve`, upon which it is to call [`serve`], and waits until it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> Result<Self, Failure> {
        let mut child = Self {
            process: Command::new(std::env::current_exe()?)
                .arg("serve")
                .stdout(Stdio::piped())
                .spawn()?,
            bootstrap_servers: String::new(),
        };
        let output = child.process.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().strip_prefix("bootstrap.servers=");
        address
            .ok_or("the broker does not start")?
            .clone_into(&mut child.bootstrap_servers);
        Ok(child)
    }

    /// Its number, as /proc names it.
    pub fn id(&self) -> String {
        self.process.id().to_string()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the child does: one node with these topics, until it is killed.
///
/// # Errors
/// When it cannot start.
pub fn serve(topics: &[(&str, i32)]) -> Result<(), Failure> {
    Runtime::new()?.block_on(async {
        let cluster = EmbeddedCluster::start(BrokerOptions::default()).await?;
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions)?;
        }
        println!("bootstrap.servers={}", cluster.bootstrap_servers());
        std::future::pending().await
    })
}

/// Resident memory of a process in MiB: `self`, or a number.
///
/// # Errors
/// When /proc cannot be read.
pub fn resident_mib(process: &str) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("no VmRSS")?.parse::<f64>()? / 1024.0)
}

/// CPU time of all threads of a process that there are now, by the scheduler's clock: `self`, or a number.
///
/// # Errors
/// When /proc cannot be read.
pub fn cpu(process: &str) -> Result<Duration, Failure> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let ran = text.split_whitespace().next().ok_or("no schedstat")?;
        nanoseconds += ran.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}
