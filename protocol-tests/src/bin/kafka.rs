//! Starts a Kafka cluster to try things on, and runs it until it is interrupted.
#![forbid(unsafe_code)]

use std::{process::ExitCode, thread, time::Duration};

use clap::Parser;
use ottla_protocol_tests::{KafkaCluster, Options, Version};

/// Starts an Apache Kafka cluster on free ports of the loopback address, prints its bootstrap
/// addresses on the first line of standard output, and runs it until Ctrl-C or SIGTERM.
///
/// Its data is removed at the end, however this program ends.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// The version of Kafka: 4.3.1 or 3.9.2.
    #[arg(long, default_value = "4.3.1")]
    version: Version,
    /// The port of the first node; the others' follow. Free ports if not given.
    #[arg(long)]
    port: Option<u16>,
    /// Heap of each node in MiB.
    #[arg(long, default_value_t = 256)]
    heap_mb: u32,
    /// A broker setting, as in server.properties.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

fn main() -> ExitCode {
    let Arguments {
        nodes,
        version,
        port,
        heap_mb,
        set,
    } = Arguments::parse();
    let options = Options {
        version,
        nodes,
        heap_mb,
        properties: set,
        first_port: port,
        ..Options::default()
    };
    let cluster = match KafkaCluster::start(options) {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", cluster.bootstrap());
    for id in cluster.nodes() {
        let (address, data) = (cluster.address(id), cluster.log_dir(id));
        let pid = cluster.process_id(id).unwrap_or_default();
        println!(
            "node {id}: {address}, process {pid}, data in {}",
            data.display()
        );
    }
    // A signal ends this process without a word; the watchdog then ends the cluster.
    while cluster.nodes().any(|id| cluster.is_running(id)) {
        thread::sleep(Duration::from_millis(500));
    }
    eprintln!("all nodes have ended");
    cluster.keep_logs();
    ExitCode::FAILURE
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err("expected KEY=VALUE".to_owned()),
    }
}
