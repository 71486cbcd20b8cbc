//! The embedded broker's figures beside what they may be, as one table.
//!
//! `cargo run --release -p ottla-bench --bin bench-embedded-broker`, on a machine that does nothing else.
//!
//! - Start: of a node in memory, until it answers a client; in this process, and as a process of its own.
//! - Idle: memory and CPU of a process that runs one node and nothing else, from /proc.
//! - Recovery: a data directory of one gigabyte, written by a broker, its files driven out of the system's cache
//!   before. Once in batches as a busy producer makes them, once with one record each.
//! - CPU: the broker on a runtime of one thread and the clients' work on everything else, over memory and over TCP;
//!   what is compared is the broker's CPU time to the client's for the same records.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ottla_bench::child::{Child, cpu as cpu_of, resident_mib, serve};
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_consumer::{Consumer, ConsumerConfig, Offset, TopicPartition};
use ottla_net::{Address, Cluster, ClusterConfig, Connector, Stream, TcpConnector};
use ottla_producer::{Producer, ProducerConfig, ProducerRecord};
use rustix::fs::{Advice, fadvise};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

type Failure = Box<dyn Error>;

const KIB: usize = 1 << 10;
const RECORDS: usize = 400_000;
const GIGABYTE: u64 = 1 << 30;
const PARTITIONS: i32 = 4;
const TOPIC: &str = "figures";

fn main() -> Result<(), Failure> {
    if std::env::args().any(|argument| argument == "serve") {
        return serve(&[]);
    }
    println!("| figure | measured | limit | ratio |");
    println!("| --- | --- | --- | --- |");
    start()?;
    idle()?;
    recovery(64)?;
    recovery(1)?;
    for network in [Network::Memory, Network::Tcp] {
        cpu(network)?;
    }
    Ok(())
}

fn row(figure: &str, measured: f64, limit: f64, unit: &str) {
    let ratio = measured / limit;
    println!("| {figure} | {measured:.3} {unit} | {limit} {unit} | {ratio:.2} |");
}

fn start() -> Result<(), Failure> {
    let mut took = Vec::new();
    for _ in 0..21 {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let started = Instant::now();
        runtime.block_on(async {
            let cluster = EmbeddedCluster::start(BrokerOptions::default()).await?;
            ask(&cluster.bootstrap_servers()).await?;
            took.push(started.elapsed());
            cluster.stop().await;
            Ok::<_, Failure>(())
        })?;
    }
    row("start in this process", median_ms(took), 50.0, "ms");
    let mut took = Vec::new();
    for _ in 0..11 {
        let started = Instant::now();
        let child = Child::start()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(ask(&child.bootstrap_servers))?;
        took.push(started.elapsed());
    }
    row("start as a process", median_ms(took), 50.0, "ms");
    Ok(())
}

fn median_ms(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    took[took.len() / 2].as_secs_f64() * 1e3
}

/// Connects and asks for metadata, as a client's first step.
async fn ask(bootstrap: &str) -> Result<(), Failure> {
    let config = ClusterConfig::new([bootstrap.parse()?]);
    let cluster = Cluster::new(config, Arc::new(TcpConnector::default()))?;
    let deadline = ottla_net::Instant::now() + Duration::from_secs(10);
    cluster.ready(deadline).await?;
    Ok(())
}

fn idle() -> Result<(), Failure> {
    let child = Child::start()?;
    thread::sleep(Duration::from_secs(1));
    let before = cpu_of(&child.id())?;
    let watched = Duration::from_secs(10);
    thread::sleep(watched);
    let used = cpu_of(&child.id())? - before;
    row(
        "idle, resident memory",
        resident_mib(&child.id())?,
        15.0,
        "MiB",
    );
    let share = used.as_secs_f64() / watched.as_secs_f64() * 100.0;
    row("idle, CPU of one core", share, 0.1, "%");
    Ok(())
}

fn recovery(records_per_batch: usize) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let options = BrokerOptions {
        data_dir: Some(dir.path().to_owned()),
        topics: vec![(TOPIC.to_owned(), PARTITIONS)],
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options.clone(), Network::Memory)?;
    let records = (GIGABYTE as usize / KIB) as u64;
    let batch_size = records_per_batch * (KIB + 100);
    produce(&broker, records, batch_size)?;
    broker.stop()?;
    let size = drive_out(dir.path())?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    let found = runtime.block_on(async {
        let cluster = EmbeddedCluster::start_in_memory(options)?;
        let found = (0..PARTITIONS).filter_map(|index| cluster.offsets(TOPIC, index));
        let found: i64 = found.map(|(_, end)| end).sum();
        assert_eq!(cluster.damage(), []);
        let took = started.elapsed();
        cluster.stop().await;
        Ok::<_, Failure>((found, took))
    })?;
    assert_eq!(found.0 as u64, records, "all of it is there");
    let figure = format!(
        "recovery of {:.2} GB, {records_per_batch} KiB a batch",
        size as f64 / 1e9
    );
    row(&figure, found.1.as_secs_f64(), 5.0, "s");
    Ok(())
}

/// Writes back every file below `dir` and has the system forget it. Returns their size.
fn drive_out(dir: &Path) -> Result<u64, Failure> {
    let mut size = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            size += drive_out(&path)?;
            continue;
        }
        let file = File::open(&path)?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
        size += file.metadata()?.len();
    }
    Ok(size)
}

fn cpu(network: Network) -> Result<(), Failure> {
    let options = BrokerOptions {
        topics: vec![(TOPIC.to_owned(), PARTITIONS)],
        ..BrokerOptions::default()
    };
    let (mut produced, mut fetched) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let broker = Broker::start(options.clone(), network)?;
        produced.push(broker.compare(|| produce(&broker, RECORDS as u64, 1_000_000))?);
        fetched.push(broker.compare(|| fetch(&broker, RECORDS as u64))?);
        broker.stop()?;
    }
    for (what, mut runs) in [("produce", produced), ("fetch", fetched)] {
        runs.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
        let median = &runs[runs.len() / 2];
        let figure = format!("{what} of 1 KiB records over {network:?}, CPU of the broker");
        let per_million = |cpu: Duration| cpu.as_secs_f64() * 1e6 / RECORDS as f64;
        row(
            &figure,
            per_million(median.broker),
            (per_million(median.client) * 1e3).round() / 1e3,
            "s a million, the client's",
        );
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Network {
    Memory,
    Tcp,
}

/// CPU times for the same work.
struct Compared {
    broker: Duration,
    client: Duration,
}

impl Compared {
    fn ratio(&self) -> f64 {
        self.broker.as_secs_f64() / self.client.as_secs_f64()
    }
}

/// A broker on a thread of its own.
struct Broker {
    cluster: Arc<EmbeddedCluster>,
    handle: Handle,
    network: Network,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Broker {
    fn start(options: BrokerOptions, network: Network) -> Result<Self, Failure> {
        let (started, start) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let cluster = match network {
                    Network::Memory => EmbeddedCluster::start_in_memory(options),
                    Network::Tcp => EmbeddedCluster::start(options).await,
                };
                let cluster = Arc::new(cluster.expect("a broker"));
                let handle = Handle::current();
                started
                    .send((Arc::clone(&cluster), handle))
                    .expect("wanted");
                // An error means that nobody needs it any more.
                let _ = stopped.await;
                if let Some(cluster) = Arc::into_inner(cluster) {
                    cluster.stop().await;
                }
            });
        });
        let (cluster, handle) = start.recv()?;
        Ok(Self {
            cluster,
            handle,
            network,
            stop,
            thread,
        })
    }

    fn stop(self) -> Result<(), Failure> {
        drop(self.cluster);
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| "the broker panicked".into())
    }

    /// CPU time of the broker's thread.
    fn cpu(&self) -> Result<Duration, Failure> {
        let (sender, receiver) = mpsc::channel();
        self.handle.spawn(async move {
            let _ = sender.send(clock(ClockId::ThreadCPUTime));
        });
        Ok(receiver.recv()?)
    }

    /// The CPU time that `work` costs on the broker's thread, and on all others.
    fn compare(&self, work: impl FnOnce() -> Result<(), Failure>) -> Result<Compared, Failure> {
        let (broker, all) = (self.cpu()?, clock(ClockId::ProcessCPUTime));
        work()?;
        let broker = self.cpu()? - broker;
        let all = clock(ClockId::ProcessCPUTime) - all;
        Ok(Compared {
            broker,
            client: all - broker,
        })
    }

    fn client(&self) -> Result<Cluster, Failure> {
        let bootstrap: Vec<Address> = self
            .cluster
            .bootstrap_servers()
            .split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let connector: Arc<dyn Connector> = match self.network {
            Network::Tcp => Arc::new(TcpConnector::default()),
            Network::Memory => Arc::new(InProcess {
                cluster: Arc::downgrade(&self.cluster),
                handle: self.handle.clone(),
            }),
        };
        Ok(Cluster::new(ClusterConfig::new(bootstrap), connector)?)
    }
}

/// Connects to a broker of this process without a socket.
#[derive(Debug)]
struct InProcess {
    cluster: std::sync::Weak<EmbeddedCluster>,
    handle: Handle,
}

impl Connector for InProcess {
    fn connect<'a>(
        &'a self,
        address: &'a Address,
        _: Duration,
    ) -> Pin<Box<dyn Future<Output = std::io::Result<Box<dyn Stream>>> + Send + 'a>> {
        Box::pin(async move {
            // In memory, nodes have their own number for a port.
            let _inside = self.handle.enter();
            let cluster = self.cluster.upgrade();
            let stream = cluster.and_then(|cluster| cluster.connect(i32::from(address.port())));
            let stream = stream.ok_or(std::io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

fn clock(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Sends records and waits until all are acknowledged.
fn produce(broker: &Broker, records: u64, batch_size: usize) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let value = vec![7; KIB];
    runtime.block_on(async {
        let config = ProducerConfig {
            linger: Duration::from_millis(5),
            batch_size,
            max_request_size: 2_000_000,
            buffer_memory: 64 << 20,
            ..ProducerConfig::default()
        };
        let producer = Producer::new(broker.client()?, config)?;
        for index in 0..records {
            let record = ProducerRecord::to(TOPIC)
                .partition((index % PARTITIONS as u64) as i32)
                .value(&value);
            // The flush below fails if any of them does.
            drop(producer.send(record).await?);
        }
        producer.flush(Duration::from_secs(600)).await?;
        producer.close(Duration::from_secs(10)).await?;
        Ok(())
    })
}

/// Reads that many records and looks at each.
fn fetch(broker: &Broker, records: u64) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = ConsumerConfig {
            enable_auto_commit: false,
            ..ConsumerConfig::default()
        };
        let consumer = Consumer::new(broker.client()?, config)?;
        consumer.assign(
            (0..PARTITIONS).map(|index| (TopicPartition::new(TOPIC, index), Offset::Beginning)),
        )?;
        let (mut seen, mut touched) = (0, 0);
        while seen < records {
            for batch in consumer.poll_max(1_000, Duration::from_secs(10)).await? {
                for record in &batch {
                    touched += u64::from(record?.value().unwrap_or_default()[0]);
                    seen += 1;
                }
            }
        }
        assert_eq!(touched, seen * 7);
        consumer.close(Duration::from_secs(10)).await?;
        Ok(())
    })
}
