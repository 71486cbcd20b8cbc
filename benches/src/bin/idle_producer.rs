//! What a producer costs that knows ten thousand partitions and has nothing to do: memory and CPU of its process.
//!
//! `cargo run --release -p ottla-bench --bin bench-idle-producer`. The broker is an embedded one in a process of its own.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_net::{Cluster, ClusterConfig, TcpConnector};
use ottla_producer::{Producer, ProducerConfig, ProducerRecord};
use tokio::runtime::Runtime;

type Failure = Box<dyn Error>;

const TOPIC: &str = "idle";
const PARTITIONS: i32 = 10_000;
const MARK_MIB: f64 = 20.0;

fn main() -> Result<(), Failure> {
    if std::env::args().any(|argument| argument == "serve") {
        return serve();
    }
    let mut broker = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdout(Stdio::piped())
        .spawn()?;
    let output = broker.stdout.take().ok_or("no output")?;
    let mut bootstrap = String::new();
    BufReader::new(output).read_line(&mut bootstrap)?;
    let measured = Runtime::new()?.block_on(measure(bootstrap.trim()));
    broker.kill()?;
    broker.wait()?;
    measured
}

/// The broker, until it is killed.
fn serve() -> Result<(), Failure> {
    Runtime::new()?.block_on(async {
        let cluster = EmbeddedCluster::start(BrokerOptions::default()).await?;
        cluster.create_topic(TOPIC, PARTITIONS)?;
        println!("{}", cluster.bootstrap_servers());
        std::future::pending().await
    })
}

async fn measure(bootstrap: &str) -> Result<(), Failure> {
    println!("| process with | resident MiB | CPU ms in 5 s |");
    println!("| --- | --- | --- |");
    row("a runtime", None)?;
    let config = ClusterConfig::new([bootstrap.parse()?]);
    let cluster = Cluster::new(config, Arc::new(TcpConnector::default()))?;
    let producer = Producer::new(cluster.clone(), ProducerConfig::default())?;
    let value = [b'.'; 100];
    let to = |partition| ProducerRecord::to(TOPIC).value(&value).partition(partition);
    producer.send(to(0)).await?.await?;
    row("one partition of 10,000 written to", Some(idle()?))?;
    for partition in 0..PARTITIONS {
        drop(producer.send(to(partition)).await?);
    }
    producer.flush(Duration::from_secs(60)).await?;
    row("all of them written to once", Some(idle()?))?;
    for _ in 0..10 {
        for partition in 0..PARTITIONS {
            drop(producer.send(to(partition)).await?);
        }
    }
    producer.flush(Duration::from_secs(60)).await?;
    row("all of them written to ten times more", Some(idle()?))?;
    producer.close(Duration::from_secs(10)).await?;
    cluster.close().await;
    println!("\nThe mark is {MARK_MIB} MiB.");
    Ok(())
}

fn row(what: &str, cpu: Option<f64>) -> Result<(), Failure> {
    let cpu = cpu.map_or(String::new(), |cpu| format!("{cpu:.1}"));
    println!("| {what} | {:.1} | {cpu} |", resident_mib()?);
    Ok(())
}

fn resident_mib() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("no VmRSS")?.parse::<f64>()? / 1024.0)
}

/// Milliseconds of CPU of all threads in five seconds of rest.
fn idle() -> Result<f64, Failure> {
    let before = cpu_ms()?;
    thread::sleep(Duration::from_secs(5));
    Ok(cpu_ms()? - before)
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
