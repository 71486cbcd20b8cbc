//! What this process costs while it rests beside a broker that is a process of its own.

use std::error::Error;
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::child::{Child, cpu, resident_mib, serve};

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
    if std::env::args().any(|argument| argument == "serve") {
        return serve(&[(topic, partitions)]);
    }
    let broker = Child::start()?;
    let runtime = Runtime::new()?;
    println!("| process with | resident MiB | CPU ms in 5 s |");
    println!("| --- | --- | --- |");
    row("a runtime", None)?;
    runtime.block_on(measure(&broker.bootstrap_servers))
}

/// Prints how much memory the process has now, and what five seconds of rest cost if they are given.
///
/// # Errors
/// When /proc cannot be read.
pub fn row(what: &str, cpu: Option<f64>) -> Result<(), Failure> {
    let cpu = cpu.map_or(String::new(), |cpu| format!("{cpu:.1}"));
    println!("| {what} | {:.1} | {cpu} |", resident_mib("self")?);
    Ok(())
}

/// Milliseconds of CPU of all threads in five seconds of rest.
///
/// # Errors
/// When /proc cannot be read.
pub fn idle() -> Result<f64, Failure> {
    let before = cpu("self")?;
    thread::sleep(Duration::from_secs(5));
    Ok((cpu("self")? - before).as_secs_f64() * 1e3)
}
