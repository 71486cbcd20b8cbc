//! Disks that are really full: a tiny file system where the system lets us have one, and a limit on file size.
//!
//! The broker runs as a process of its own and is asked over TCP, as by any client.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_wire::ErrorCode;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::net::TcpStream;

mod support;
use support::Client;
use support::process::{DIR, Process, RUN};

#[tokio::test]
#[ignore = "started by the other tests, as a process of its own"]
async fn broker_process() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let options = BrokerOptions {
        data_dir: Some(Path::new(&dir).join("data")),
        topics: vec![("t".into(), 1)],
        ..Default::default()
    };
    let cluster = EmbeddedCluster::start(options).await.unwrap();
    println!("listening on {}", cluster.bootstrap_servers());
    // A line on standard input makes room; its end is the end.
    let lines = std::thread::spawn(move || {
        for _ in std::io::stdin().lines() {
            fs::remove_file(Path::new(&dir).join("filler")).unwrap();
            println!("there is room");
        }
    });
    while !lines.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    cluster.stop().await;
}

struct Broker {
    process: Process,
    client: Client<TcpStream>,
    acknowledged: BTreeMap<i64, Vec<u8>>,
}

impl Broker {
    async fn start(dir: &Path, before: &str) -> Option<Self> {
        let process = Process::start(dir, before)?;
        let client = Client::new(TcpStream::connect(&process.address).await.unwrap());
        Some(Self {
            process,
            client,
            acknowledged: BTreeMap::new(),
        })
    }

    /// Produces a record and returns what the broker says to it.
    async fn produce(&mut self, len: usize) -> ErrorCode {
        let value = vec![self.acknowledged.len() as u8; len];
        let answer = self.client.produce("t", 0, &[&value]).await.unwrap();
        if answer.error_code.is_ok() {
            self.acknowledged.insert(answer.base_offset, value);
        } else {
            let message = answer.error_message.unwrap();
            assert!(
                message.contains("cannot write to its data directory"),
                "{message}"
            );
        }
        answer.error_code
    }

    /// Produces until the disk is full; small records after large ones, so that it gets really full.
    async fn fill(&mut self) {
        for len in [50_000, 5_000, 500] {
            let mut tries = 0;
            loop {
                match self.produce(len).await {
                    ErrorCode::NONE => {}
                    error => {
                        assert_eq!(error, ErrorCode::KAFKA_STORAGE_ERROR);
                        break;
                    }
                }
                tries += 1;
                assert!(tries < 1000, "it never gets full");
            }
        }
        assert!(self.acknowledged.len() > 3);
    }

    /// Everything acknowledged can be fetched.
    async fn check(&mut self) {
        for (offset, value) in &self.acknowledged {
            let data = self.client.fetch("t", 0, *offset).await.unwrap();
            assert_eq!(data.error_code, ErrorCode::NONE);
            let batch = data.records.unwrap();
            assert_eq!(batch[..8], offset.to_be_bytes());
            assert!(batch.windows(value.len()).any(|window| window == value));
        }
    }
}

async fn check_directory(data_dir: &Path, acknowledged: &BTreeMap<i64, Vec<u8>>) {
    let options = BrokerOptions {
        data_dir: Some(data_dir.to_owned()),
        ..Default::default()
    };
    let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
    let there: BTreeMap<i64, Vec<u8>> = cluster
        .records("t", 0)
        .unwrap()
        .into_iter()
        .map(|(offset, value)| (offset, value.unwrap()))
        .collect();
    assert!(there == *acknowledged);
    cluster.stop().await;
}

#[tokio::test]
async fn a_file_that_may_not_grow_is_refused_cleanly_and_goes_on_when_it_may() {
    let dir = tempfile::tempdir().unwrap();
    // Without SIGXFSZ, which kills, writing beyond the limit is an error.
    let before = "trap '' XFSZ; ulimit -S -f 1000;";
    let mut broker = Broker::start(dir.path(), before).await.unwrap();
    broker.fill().await;
    broker.check().await;
    // It also starts while there is no room.
    let acknowledged = broker.acknowledged;
    drop(broker.process);
    let mut broker = Broker::start(dir.path(), before).await.unwrap();
    broker.acknowledged = acknowledged;
    broker.check().await;
    assert_eq!(broker.produce(50_000).await, ErrorCode::KAFKA_STORAGE_ERROR);
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let pid = Pid::from_child(&broker.process.child);
    prlimit(Some(pid), Resource::Fsize, unlimited).unwrap();
    for _ in 0..20 {
        assert_eq!(broker.produce(10_000).await, ErrorCode::NONE);
    }
    broker.check().await;
    drop(broker.process);
    let acknowledged = broker.acknowledged;
    check_directory(&dir.path().join("data"), &acknowledged).await;
}

#[tokio::test]
async fn a_full_file_system_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    // A file system of two megabytes that only this process sees; half of it is taken.
    let before = format!(
        "if [ -z \"$INNER\" ]; then INNER=1 exec unshare -rm sh -c '
            mount -t tmpfs -o size=2m tmpfs \"${DIR}\" || exit 1
            head -c 1000000 /dev/zero > \"${DIR}/filler\"
            {RUN}' \"$0\"; fi;"
    );
    let Some(mut broker) = Broker::start(dir.path(), &before).await else {
        eprintln!("SKIPPED: no file system can be mounted here (unshare -rm)");
        return;
    };
    broker.fill().await;
    broker.check().await;
    // Reading goes on, producing is refused.
    assert_eq!(broker.produce(50_000).await, ErrorCode::KAFKA_STORAGE_ERROR);
    broker
        .process
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"\n")
        .unwrap();
    let told = broker
        .process
        .output
        .find(|line| line.as_ref().unwrap().contains("there is room"));
    assert!(told.is_some());
    for _ in 0..10 {
        assert_eq!(broker.produce(50_000).await, ErrorCode::NONE);
    }
    broker.check().await;
    broker.fill().await;
    broker.check().await;
    drop(broker.process.stdin.take());
    assert!(broker.process.child.wait().unwrap().success());
}
