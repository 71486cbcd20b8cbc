//! The process that reads: a while, then nothing, then slowly, then as fast as it can.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_core::Stream as _;
use ottla_consumer::{Consumer, ConsumerConfig, Offset, PartitionStream, RecordStream};
use tokio::{task::JoinSet, time::sleep};

use crate::client::{PATIENCE, cluster, within};

/// `queued.max.messages.kbytes`, in bytes.
pub(crate) const BUDGET: usize = 16 << 20;
const PARTITIONS: i32 = 6;

/// By which calls records are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Poll,
    Stream,
    /// One task for each partition.
    Split,
}

/// Resident memory in bytes: before anything was read, and the most while it stood still and while it read.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) at_first: u64,
    pub(crate) standing: u64,
    pub(crate) reading: u64,
    pub(crate) records: usize,
}

impl Told {
    fn print(&self) {
        let Self {
            at_first,
            standing,
            reading,
            records,
        } = self;
        println!("told: {at_first} {standing} {reading} {records}");
    }

    pub(crate) fn parse(printed: &str) -> Self {
        let line = printed.lines().find_map(|line| line.split("told: ").nth(1));
        let line = line.unwrap_or_else(|| panic!("nothing is told: {printed}"));
        let numbers: Vec<u64> = line
            .split(' ')
            .map(|number| number.parse().unwrap())
            .collect();
        let [at_first, standing, reading, records] = numbers[..] else {
            panic!("{line}");
        };
        Self {
            at_first,
            standing,
            reading,
            records: records as usize,
        }
    }
}

#[test]
#[ignore = "the process that another test starts and measures"]
fn reads_slowly() {
    let Ok(job) = std::env::var("OTTLA_SLOW_READER") else {
        return;
    };
    let [bootstrap, topic, way] = job.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{job}");
    };
    let ways = [Way::Poll, Way::Stream, Way::Split];
    let way = ways
        .into_iter()
        .find(|is| format!("{is:?}") == way)
        .unwrap();
    within(PATIENCE, read(bootstrap, topic, way)).print();
}

/// How fast the readers are to read.
#[derive(Default)]
struct Pace {
    /// After so many records they stand still, until there is another limit.
    limit: AtomicUsize,
    slowly: AtomicBool,
    read: AtomicUsize,
    most: AtomicU64,
}

async fn read(bootstrap: &str, topic: &str, way: Way) -> Told {
    let config = ConsumerConfig {
        queued_bytes_max: BUDGET,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(cluster(bootstrap), config).unwrap();
    // Connected, and everything touched that there is but records.
    consumer.partitions_of(topic).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    let at_first = resident();
    let pace = Arc::new(Pace::default());
    pace.limit.store(1_000, Ordering::Relaxed);
    let begin = (0..PARTITIONS).map(|index| ((topic.to_owned(), index), Offset::Beginning));
    consumer.assign(begin).unwrap();
    let reading = tokio::spawn(read_by(way, consumer.clone(), pace.clone()));
    while pace.read.load(Ordering::Relaxed) < 1_000 {
        sleep(Duration::from_millis(10)).await;
    }
    let standing = pace.most_within(Duration::from_secs(2)).await;

    pace.slowly.store(true, Ordering::Relaxed);
    pace.limit.store(usize::MAX, Ordering::Relaxed);
    let slowly = pace.most_within(Duration::from_secs(1)).await;
    pace.slowly.store(false, Ordering::Relaxed);
    let fast = pace.most_within(Duration::from_secs(1)).await;
    // To the end.
    reading.await.unwrap();
    let records = pace.read.load(Ordering::Relaxed);
    consumer.close(PATIENCE).await.unwrap();
    Told {
        at_first,
        standing,
        reading: slowly.max(fast).max(pace.most.load(Ordering::Relaxed)),
        records,
    }
}

impl Pace {
    /// The most memory there is within that time.
    async fn most_within(&self, time: Duration) -> u64 {
        let mut most = 0;
        for _ in 0..time.as_millis() / 10 {
            sleep(Duration::from_millis(10)).await;
            most = most.max(resident());
        }
        most
    }

    /// After `count` more records: goes on when the next ones are wanted.
    async fn go_on_after(&self, count: usize) {
        let read = self.read.fetch_add(count, Ordering::Relaxed) + count;
        if read % 16_384 < count {
            self.most.fetch_max(resident(), Ordering::Relaxed);
        }
        while self.read.load(Ordering::Relaxed) >= self.limit.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(10)).await;
        }
        if self.slowly.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Reads until no more come for a second.
async fn read_by(way: Way, consumer: Consumer, pace: Arc<Pace>) {
    match way {
        Way::Poll => loop {
            let batches = consumer.poll(Duration::from_secs(1)).await.unwrap();
            if batches.is_empty() {
                return;
            }
            let count = batches.iter().map(|batch| batch.records().count()).sum();
            pace.go_on_after(count).await;
        },
        Way::Stream => {
            let mut stream = consumer.stream();
            while let Some(count) = some_of(&mut stream).await {
                pace.go_on_after(count).await;
            }
        }
        Way::Split => {
            let mut partitions = consumer.split().unwrap();
            let mut readers = JoinSet::new();
            for _ in 0..PARTITIONS {
                let stream = partitions.next_partition().await.unwrap();
                readers.spawn(read_one(stream, pace.clone()));
            }
            readers.join_all().await;
        }
    }
}

/// Up to a hundred records; none when none come for a second.
async fn some_of(stream: &mut RecordStream) -> Option<usize> {
    for count in 0..100 {
        let next = poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx));
        match tokio::time::timeout(Duration::from_secs(1), next).await {
            Ok(record) => drop(record.unwrap().unwrap()),
            Err(_) => return (count > 0).then_some(count),
        }
    }
    Some(100)
}

async fn read_one(mut stream: PartitionStream, pace: Arc<Pace>) {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(1), stream.next_batch());
        let Ok(batch) = next.await else { return };
        let count = batch.unwrap().unwrap().records().count();
        pace.go_on_after(count).await;
    }
}

/// Of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}
