//! What this process costs while it rests beside a broker that is a process of its own.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use ottla_broker::{BrokerOptions, EmbeddedCluster};
use tokio::runtime::Runtime;

type Failure = Box<dyn Error>;

/// Starts this program once more as a broker that has one topic, and measures with its address. The broker's process is
/// killed afterwards.
///
/// # Errors
/// When the broker does not start, and what `measure` fails with.
pub fn beside_a_broker(
    topic: &str,
    partitions: i32,
    measure: impl AsyncFnOnce(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime = Runtime::new()?;
    if std::env::args().any(|argument| argument == "serve") {
        return runtime.block_on(serve(topic, partitions));
    }
    let mut broker = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdout(Stdio::piped())
        .spawn()?;
    let output = broker.stdout.take().ok_or("no output")?;
    let mut bootstrap = String::new();
    BufReader::new(output).read_line(&mut bootstrap)?;
    println!("| process with | resident MiB | CPU ms in 5 s |");
    println!("| --- | --- | --- |");
    row("a runtime", None)?;
    let measured = runtime.block_on(measure(bootstrap.trim()));
    broker.kill()?;
    broker.wait()?;
    measured
}

/// The broker, until it is killed.
async fn serve(topic: &str, partitions: i32) -> Result<(), Failure> {
    let cluster = EmbeddedCluster::start(BrokerOptions::default()).await?;
    cluster.create_topic(topic, partitions)?;
    println!("{}", cluster.bootstrap_servers());
    std::future::pending().await
}

/// Prints how much memory the process has now, and what five seconds of rest cost if they are given.
///
/// # Errors
/// When /proc cannot be read.
pub fn row(what: &str, cpu: Option<f64>) -> Result<(), Failure> {
    let cpu = cpu.map_or(String::new(), |cpu| format!("{cpu:.1}"));
    println!("| {what} | {:.1} | {cpu} |", resident_mib()?);
    Ok(())
}

/// Milliseconds of CPU of all threads in five seconds of rest.
///
/// # Errors
/// When /proc cannot be read.
pub fn idle() -> Result<f64, Failure> {
    let before = cpu_ms()?;
    thread::sleep(Duration::from_secs(5));
    Ok(cpu_ms()? - before)
}

fn resident_mib() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("no VmRSS")?.parse::<f64>()? / 1024.0)
}

fn cpu_ms() -> Result<f64, Failure> {
    let mut nanoseconds = 0_u64;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let ran = text.split_whitespace().next().ok_or("an empty schedstat")?;
        nanoseconds += ran.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e6)
}
