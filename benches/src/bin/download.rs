//! How much a consumer downloads for what it hands out: twelve partitions, a reader slower than the broker, and again one that
//! pauses half of them in turn. Bytes are counted at the sockets.
//!
//! `cargo run --release -p ottla-bench --bin bench-download`. The broker is an embedded one in this process; `--live HOST:PORT`
//! takes a live one of one node.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use clap::Parser;
use ottla_bench::runner::Live;
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_consumer::{Consumer, ConsumerConfig, Offset, TopicPartition};
use ottla_net::{Address, Cluster, ClusterConfig, Connector, Stream, TcpConnector};
use ottla_producer::{Producer, ProducerConfig, ProducerRecord};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;

type Failure = Box<dyn Error>;

const PARTITIONS: i32 = 12;
const RECORDS: u64 = 60_000;
const VALUE: usize = 1 << 10;
/// Records in a second; a tenth of what the broker can give.
const PACE: f64 = 20_000.0;
const MARK: f64 = 1.05;

#[derive(Debug, Parser)]
struct Options {
    /// A live broker, `host:port`, instead of the embedded one.
    #[arg(long)]
    live: Option<String>,
}

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    Runtime::new()?.block_on(async {
        let embedded = match &options.live {
            Some(_) => None,
            None => Some(EmbeddedCluster::start(BrokerOptions::default()).await?),
        };
        let bootstrap = match (&options.live, &embedded) {
            (Some(live), _) => live.clone(),
            (None, Some(embedded)) => embedded.bootstrap_servers(),
            (None, None) => return Err("no broker".into()),
        };
        let topic = Live::create(
            &bootstrap,
            format!("ottla-bench-download-{}", std::process::id()),
        )?;
        write(&bootstrap, &topic.topic).await?;
        println!("| reader | budget MiB | downloaded to delivered |");
        println!("| --- | --- | --- |");
        for budget in [64 << 20, 4 << 20] {
            for pausing in [false, true] {
                let what = if pausing {
                    "slow, half of it paused in turn"
                } else {
                    "slow"
                };
                let ratio = read(&bootstrap, &topic.topic, budget, pausing).await?;
                println!("| {what} | {} | {ratio:.3} |", budget >> 20);
            }
        }
        println!("\nThe mark is {MARK}.");
        topic.delete_topic()?;
        Ok(())
    })
}

async fn write(bootstrap: &str, topic: &str) -> Result<(), Failure> {
    let cluster = Cluster::new(
        ClusterConfig::new([bootstrap.parse()?]),
        Arc::new(TcpConnector::default()),
    )?;
    let config = ProducerConfig {
        batch_size: 100_000,
        linger: Duration::from_millis(5),
        ..ProducerConfig::default()
    };
    let producer = Producer::new(cluster.clone(), config)?;
    let value = [b'.'; VALUE];
    for index in 0..RECORDS {
        let partition = (index % PARTITIONS as u64) as i32;
        let record = ProducerRecord::to(topic).value(&value).partition(partition);
        drop(producer.send(record).await?);
    }
    producer.close(Duration::from_secs(60)).await?;
    cluster.close().await;
    Ok(())
}

/// Bytes from the sockets to bytes of values.
async fn read(bootstrap: &str, topic: &str, budget: usize, pausing: bool) -> Result<f64, Failure> {
    let connector = Arc::new(Counting::default());
    let read = Arc::clone(&connector.read);
    let cluster = Cluster::new(ClusterConfig::new([bootstrap.parse()?]), connector)?;
    let config = ConsumerConfig {
        enable_auto_commit: false,
        queued_bytes_max: budget,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(cluster.clone(), config)?;
    let all: Vec<TopicPartition> = (0..PARTITIONS)
        .map(|partition| TopicPartition::new(topic, partition))
        .collect();
    consumer.assign(
        all.iter()
            .map(|partition| (partition.clone(), Offset::Beginning)),
    )?;
    let started = Instant::now();
    let (mut records, mut delivered, mut calls) = (0_u64, 0_u64, 0_u64);
    while records < RECORDS {
        if pausing && calls % 40 == 0 {
            let (even, odd): (Vec<_>, Vec<_>) = all
                .iter()
                .cloned()
                .partition(|partition| partition.partition % 2 == 0);
            let (stop, go) = if calls % 80 == 0 {
                (even, odd)
            } else {
                (odd, even)
            };
            consumer.resume(&go)?;
            consumer.pause(&stop)?;
        }
        calls += 1;
        for batch in consumer.poll_max(100, Duration::from_millis(20)).await? {
            for record in &batch {
                delivered += record?.value().map_or(0, <[u8]>::len) as u64;
                records += 1;
            }
        }
        let due = Duration::from_secs_f64(records as f64 / PACE);
        tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
    }
    consumer.close(Duration::from_secs(10)).await?;
    cluster.close().await;
    Ok(read.load(Ordering::Relaxed) as f64 / delivered as f64)
}

/// TCP that counts what is read.
#[derive(Debug, Default)]
struct Counting {
    tcp: TcpConnector,
    read: Arc<AtomicU64>,
}

impl Connector for Counting {
    fn connect<'a>(
        &'a self,
        address: &'a Address,
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>> {
        Box::pin(async move {
            let stream = self.tcp.connect(address, timeout).await?;
            let read = Arc::clone(&self.read);
            Ok(Box::new(Counted { stream, read }) as Box<dyn Stream>)
        })
    }
}

struct Counted {
    stream: Box<dyn Stream>,
    read: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.read
            .fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
