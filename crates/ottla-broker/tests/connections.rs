//! Clients that behave badly as connections: silent, slow, deaf, gone, too large, too many.
//!
//! Those over memory run on a clock that stands still, so that minutes of silence cost nothing.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_wire::messages::api_versions::ApiVersionsRequest;
use ottla_wire::messages::metadata::MetadataRequest;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

mod support;
use support::process::{DIR, Process};
use support::{Client, LONG, batch, fetch_request, paused, produce_request};

const IDLE_MAX: Duration = Duration::from_secs(600);

fn options() -> BrokerOptions {
    BrokerOptions {
        topics: vec![("t".into(), 1)],
        ..Default::default()
    }
}

/// Runs a test over memory, with the clock standing still.
fn in_memory<F: Future<Output = ()>>(test: impl FnOnce(EmbeddedCluster) -> F) {
    paused().block_on(async {
        let cluster = EmbeddedCluster::start_in_memory(options()).unwrap();
        test(cluster).await;
    });
}

async fn is_closed(stream: &mut DuplexStream) -> bool {
    matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_))
}

async fn serves(cluster: &EmbeddedCluster) {
    let mut client = Client::new(cluster.connect(1).unwrap());
    let answer = client.produce("t", 0, &[b"still here"]).await.unwrap();
    assert!(answer.error_code.is_ok());
}

/// As by Kafka: a client that reads no answers hears of a new leader by losing its connection.
#[test]
fn a_failed_produce_without_an_answer_closes_the_connection() {
    in_memory(|cluster| async move {
        let mut client = Client::new(cluster.connect(1).unwrap());
        let mut request = produce_request("t", 0, batch(&[b"a"]));
        request.acks = 0;
        client.send(&request, 9).await.unwrap();
        let answer = client.produce("t", 0, &[b"b"]).await.unwrap();
        assert_eq!(answer.base_offset, 1, "all went well: it stays open");
        let mut request = produce_request("nowhere", 0, batch(&[b"c"]));
        request.acks = 0;
        client.send(&request, 9).await.unwrap();
        assert!(client.receive_frame().await.is_err());
        serves(&cluster).await;
    });
}

#[test]
fn who_says_nothing_is_closed_after_the_time_for_that() {
    in_memory(|cluster| async move {
        let start = Instant::now();
        let mut silent = cluster.connect(1).unwrap();
        assert!(is_closed(&mut silent).await);
        assert_eq!(start.elapsed(), IDLE_MAX);
        // Each request starts it anew.
        let start = Instant::now();
        let mut client = Client::new(cluster.connect(1).unwrap());
        for _ in 0..3 {
            tokio::time::sleep(IDLE_MAX / 2).await;
            client.ask(&ApiVersionsRequest::default(), 0).await.unwrap();
        }
        assert!(is_closed(&mut client.stream).await);
        assert_eq!(start.elapsed(), IDLE_MAX * 5 / 2);
    });
}

#[test]
fn a_request_that_trickles_in_is_given_up() {
    in_memory(|cluster| async move {
        let start = Instant::now();
        let mut slow = cluster.connect(1).unwrap();
        slow.write_all(&1000_u32.to_be_bytes()).await.unwrap();
        let (mut read, mut write) = tokio::io::split(slow);
        let trickle = async {
            while write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(IDLE_MAX / 100).await;
            }
        };
        let closed = async { read.read(&mut [0; 8]).await.unwrap_or(0) };
        let (_, read) = tokio::join!(trickle, closed);
        assert_eq!(read, 0);
        assert!(start.elapsed() < IDLE_MAX + IDLE_MAX / 50);
        serves(&cluster).await;
    });
}

#[test]
fn half_a_request_and_the_end() {
    in_memory(|cluster| async move {
        for bytes in [&b"\0"[..], b"\0\0\0\x08", b"\0\0\0\x08\0\x12"] {
            let mut stream = cluster.connect(1).unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            let start = Instant::now();
            assert!(is_closed(&mut stream).await);
            assert!(start.elapsed() < Duration::from_secs(1));
        }
        serves(&cluster).await;
    });
}

#[test]
fn more_than_socket_request_max_bytes_is_refused_before_it_comes() {
    let options = BrokerOptions {
        request_bytes_max: 1000,
        ..options()
    };
    let runtime = paused();
    let used = measure(|| {
        runtime.block_on(async {
            let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
            for len in [1001, i32::MAX, -1, i32::MIN] {
                let mut stream = cluster.connect(1).unwrap();
                stream.write_all(&len.to_be_bytes()).await.unwrap();
                assert!(is_closed(&mut stream).await, "{len}");
            }
            // What is announced and allowed costs nothing until it comes.
            let mut waiting = Vec::new();
            for _ in 0..100 {
                let mut stream = cluster.connect(1).unwrap();
                stream.write_all(&1000_u32.to_be_bytes()).await.unwrap();
                waiting.push(stream);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            serves(&cluster).await;
        });
    });
    assert!(used.bytes_max < 4 << 20, "{}", used.bytes_max);
}

#[test]
fn a_large_frame_that_is_announced_costs_what_has_come() {
    let runtime = paused();
    let used = measure(|| {
        runtime.block_on(async {
            let cluster = EmbeddedCluster::start_in_memory(options()).unwrap();
            let mut waiting = Vec::new();
            for _ in 0..100 {
                let mut stream = cluster.connect(1).unwrap();
                stream
                    .write_all(&(100_u32 << 20).to_be_bytes())
                    .await
                    .unwrap();
                stream.write_all(&[0; 1000]).await.unwrap();
                waiting.push(stream);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            serves(&cluster).await;
        });
    });
    assert!(used.bytes_max < 8 << 20, "{}", used.bytes_max);
}

#[test]
fn who_never_reads_gets_one_answer_and_is_closed() {
    let mut cluster = None;
    let runtime = paused();
    runtime.block_on(async {
        let started = EmbeddedCluster::start_in_memory(options()).unwrap();
        let mut client = Client::new(started.connect(1).unwrap());
        let value = vec![7; 700_000];
        for _ in 0..8 {
            client.produce("t", 0, &[&value]).await.unwrap();
        }
        cluster = Some(started);
    });
    let cluster = cluster.unwrap();
    let used = measure(|| {
        runtime.block_on(async {
            let start = Instant::now();
            let mut deaf = Client::new(cluster.connect(1).unwrap());
            // Each answer has five megabytes.
            let mut sent = 0;
            while timeout(2 * IDLE_MAX, deaf.send(&fetch_request("t", 0, 0, 0), 12))
                .await
                .unwrap()
                .is_ok()
            {
                sent += 1;
                assert!(sent < 100_000, "it takes requests without end");
            }
            assert!(start.elapsed() <= IDLE_MAX + Duration::from_secs(1));
            serves(&cluster).await;
        });
    });
    // One answer, and the pipes, which hold a quarter of a megabyte in each direction.
    assert!(used.bytes_max < 7 << 20, "{}", used.bytes_max);
}

#[test]
fn a_request_that_waits_is_given_up_when_its_client_goes() {
    let options = BrokerOptions {
        connections_max: 1,
        ..options()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let cluster = EmbeddedCluster::start(options).await.unwrap();
        let address = cluster.bootstrap_servers();
        let mut waiting = Client::new(TcpStream::connect(&address).await.unwrap());
        waiting
            .send(&fetch_request("t", 0, 0, 600_000), 12)
            .await
            .unwrap();
        // Refused meanwhile, for max.connections is one.
        let mut refused = Client::new(TcpStream::connect(&address).await.unwrap());
        let answer = refused.ask(&ApiVersionsRequest::default(), 0).await;
        assert!(answer.is_err());
        drop(waiting);
        let next = async {
            loop {
                let mut client = Client::new(TcpStream::connect(&address).await.unwrap());
                if client.ask(&ApiVersionsRequest::default(), 0).await.is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), next).await.unwrap();
    });
}

#[test]
fn who_closes_its_sending_half_still_gets_its_answers() {
    in_memory(|cluster| async move {
        let mut client = Client::new(cluster.connect(1).unwrap());
        client
            .send(&produce_request("t", 0, batch(&[b"x"])), 9)
            .await
            .unwrap();
        client.send(&MetadataRequest::default(), 9).await.unwrap();
        client.stream.shutdown().await.unwrap();
        client.receive_frame().await.unwrap();
        client.receive_frame().await.unwrap();
        assert!(is_closed(&mut client.stream).await);
    });
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    in_memory(|cluster| async move {
        let mut client = Client::new(cluster.connect(1).unwrap());
        // The first waits for a while, with the others behind it.
        client
            .send(&fetch_request("t", 0, 0, 5000), 12)
            .await
            .unwrap();
        for _ in 0..200 {
            client.send(&MetadataRequest::default(), 9).await.unwrap();
        }
        for expected in 1..=201_u32 {
            let body: Bytes = client.receive_frame().await.unwrap();
            assert_eq!(body[..4], expected.to_be_bytes());
        }
    });
}

#[tokio::test]
#[ignore = "started by the other tests, as a process of its own"]
async fn broker_process() {
    if std::env::var_os(DIR).is_none() {
        return;
    }
    // As many files as the system lets us.
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let cluster = EmbeddedCluster::start(options()).await.unwrap();
    println!("listening on {}", cluster.bootstrap_servers());
    std::future::pending::<()>().await;
}

/// Resident memory in bytes.
fn memory(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes << 10
}

/// Opens so many connections to a broker in a process of its own, has each ask something, leaves them open, and
/// measures the broker's memory.
async fn many_connections(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|max| max < count + 100) {
        eprintln!(
            "SKIPPED: only {:?} files may be open here, {count} are needed",
            limit.maximum
        );
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let process = Process::start(Path::new(""), "").unwrap();
    let address = &process.address;
    let mut first = Client::new(TcpStream::connect(address).await.unwrap());
    first.produce("t", 0, &[b"before"]).await.unwrap();
    let before = memory(&process);
    let mut clients = Vec::new();
    for _ in 0..count {
        let stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                // The queue of the listener was full for a moment.
                Err(error) if error.kind() == ErrorKind::TimedOut => {}
                Err(error) => panic!("{error}"),
            }
        };
        clients.push(Client::new(stream));
    }
    for client in &mut clients {
        client.ask(&MetadataRequest::default(), 9).await.unwrap();
    }
    let each = memory(&process).saturating_sub(before) / count;
    println!("{count} connections: {each} bytes each");
    assert!(each < 16 << 10, "{each} bytes for an idle connection");
    // A tenth of them waits for records, and all are told at once.
    let waiting = clients.len() / 10;
    for client in &mut clients[..waiting] {
        client
            .send(&fetch_request("t", 0, 1, 60_000), 12)
            .await
            .unwrap();
    }
    first.produce("t", 0, &[b"after"]).await.unwrap();
    for client in &mut clients[..waiting] {
        let frame = timeout(LONG, client.receive_frame())
            .await
            .unwrap()
            .unwrap();
        assert!(frame.windows(5).any(|window| window == b"after"));
    }
    drop(clients);
    first.produce("t", 0, &[b"end"]).await.unwrap();
}

#[tokio::test]
async fn five_hundred_connections() {
    many_connections(500).await;
}

#[tokio::test]
#[ignore = "takes a while, and twenty thousand open files"]
async fn ten_thousand_connections() {
    many_connections(10_000).await;
}
