//! Ottla's members of a group, for `bench-groups`, which says on standard input which to start and to stop.
//! What is said on standard output is in `groups/team.rs`; the Java program beside the peers says the same.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write as _};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use ottla_bench::groups::{HEARTBEAT, monotonic};
use ottla_consumer::assignor::{CooperativeSticky, Range};
use ottla_consumer::{Consumer, ConsumerConfig, GroupProtocol, OffsetReset};
use ottla_net::{Cluster, ClusterConfig, TcpConnector};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Debug, Clone, Parser)]
struct Args {
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    group: String,
    /// range, cooperative-sticky or consumer.
    #[arg(long)]
    protocol: String,
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let runtime = Runtime::new()?;
    let mut members: HashMap<usize, oneshot::Sender<()>> = HashMap::new();
    println!("ready");
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (order, member) = line.split_once(' ').ok_or("an order has two words")?;
        let member: usize = member.parse()?;
        match order {
            "start" => {
                let (stop, stopped) = oneshot::channel();
                let args = args.clone();
                runtime.spawn(async move {
                    if let Err(error) = read(&args, member, stopped).await {
                        eprintln!("member {member}: {error}");
                        std::process::exit(1);
                    }
                });
                members.insert(member, stop);
            }
            "stop" => drop(members.remove(&member)),
            _ => return Err(format!("unknown order {order}").into()),
        }
    }
    Ok(())
}

async fn read(
    args: &Args,
    member: usize,
    mut stopped: oneshot::Receiver<()>,
) -> Result<(), Failure> {
    let config = ClusterConfig::new([args.bootstrap.parse()?]);
    let cluster = Cluster::new(config, Arc::new(TcpConnector::default()))?;
    let mut config = ConsumerConfig {
        group_id: Some(args.group.clone()),
        auto_offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    match args.protocol.as_str() {
        "consumer" => config.group_protocol = GroupProtocol::Consumer,
        classic => {
            config.session_timeout = Duration::from_secs(6);
            config.heartbeat_interval = HEARTBEAT;
            config.assignors = match classic {
                "range" => vec![Arc::new(Range)],
                "cooperative-sticky" => vec![Arc::new(CooperativeSticky)],
                other => return Err(format!("unknown protocol {other}").into()),
            };
        }
    }
    let consumer = Consumer::new(cluster.clone(), config)?;
    consumer.subscribe([args.topic.as_str()])?;
    let mut held = 0;
    let mut said = String::new();
    loop {
        let polled = tokio::select! {
            polled = consumer.poll(Duration::from_millis(100)) => polled?,
            _ = &mut stopped => break,
        };
        let received = monotonic();
        said.clear();
        for batch in polled {
            for record in &batch {
                let record = record?;
                writeln!(
                    said,
                    "read {} {} {received}",
                    batch.partition(),
                    record.offset()
                )?;
            }
        }
        let holds = consumer.assignment().len();
        if holds != held {
            held = holds;
            writeln!(said, "holds {member} {held}")?;
        }
        say(&said)?;
    }
    consumer.close(Duration::from_secs(30)).await?;
    cluster.close().await;
    say(&format!("stopped {member}\n"))?;
    Ok(())
}

fn say(lines: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(lines.as_bytes())?;
    out.flush()
}
