//! A producer that is faster than its broker stays inside `buffer.memory`, says at once that it is full, and goes on as soon as
//! the broker does.
//!
//! The producer has a process of its own, this test binary run again, so that its resident size is its own.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ottla::prelude::*;
use ottla::producer::SendError;
use ottla::testing::{ApiKey, Fault, Rule, TestCluster};

const BUFFER_MEMORY: usize = 16 << 20;
/// How long the broker takes for each request while it is slow.
const SLOW: Duration = Duration::from_millis(500);
const FLOOD: Duration = Duration::from_secs(3);
const BOOTSTRAP: &str = "OTTLA_TEST_OVERLOAD_BOOTSTRAP";
const CODEC: &str = "OTTLA_TEST_OVERLOAD_CODEC";

#[test]
fn a_flooded_producer_keeps_to_its_memory_and_recovers_at_once() {
    // Beside the records: headers, tickets, the stacks of more threads, and buffers that the producer keeps for the next
    // batches, a quarter of the memory at most.
    flooded_with("none", BUFFER_MEMORY * 3 / 2);
    // And what is compressed has its second form beside the first meanwhile, on each of the threads that compress, whose
    // buffers the allocator keeps apart.
    flooded_with("lz4", BUFFER_MEMORY * 5 / 2);
}

fn flooded_with(codec: &str, resident_max: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let kafka = runtime.block_on(async {
        let cluster = TestCluster::builder().topic("flood", 6);
        cluster.over_tcp().await.unwrap()
    });
    kafka.inject(Rule {
        api: ApiKey::Produce,
        node: None,
        skip: 0,
        times: u64::MAX,
        fault: Fault::Delay(SLOW),
    });
    let mut producer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_producer", "--ignored", "--nocapture"])
        .env(BOOTSTRAP, kafka.bootstrap_servers())
        .env(CODEC, codec)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut tell, said) = (
        producer.stdin.take().unwrap(),
        producer.stdout.take().unwrap(),
    );
    let mut said = BufReader::new(said).lines().map(Result::unwrap);
    let mut next = |what: &str| {
        let line = said.find_map(|line| line.split_once(what).map(|(_, rest)| rest.to_owned()));
        line.unwrap_or_else(|| panic!("the producer ended before it said {what:?}"))
    };
    let numbers = |line: &str| -> Vec<u64> {
        line.split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect()
    };

    let flooded = numbers(&next("flooded:"));
    kafka.clear_faults();
    tell.write_all(b"the broker is well again\n").unwrap();
    let recovered = numbers(&next("recovered:"));
    assert!(producer.wait().unwrap().success());

    let [base_kib, peak_kib, buffered, full, slow_micros] = flooded[..] else {
        panic!("{flooded:?}")
    };
    let [accepted_millis, settled_millis, accepted] = recovered[..] else {
        panic!("{recovered:?}")
    };
    println!(
        "{codec}: resident {base_kib} KiB, {peak_kib} KiB flooded, {buffered} bytes buffered at most; try_send refused {full} times, \
         {slow_micros} us at the 99th percentile; after the broker recovered {accepted_millis} ms to the next \
         acceptance, {settled_millis} ms to the end of all {accepted} records"
    );
    assert!(buffered <= BUFFER_MEMORY as u64);
    assert!(buffered > BUFFER_MEMORY as u64 * 9 / 10, "it was full");
    let grown = (peak_kib - base_kib) << 10;
    assert!(
        grown < resident_max as u64,
        "{codec}: grew by {grown} bytes"
    );
    assert!(full > 100, "{full}");
    assert!(slow_micros < 20_000, "{slow_micros}");
    // Requests that are on their way are slow still.
    let on_their_way = SLOW.as_millis() as u64;
    assert!(accepted_millis < on_their_way + 2_000, "{accepted_millis}");
    assert!(settled_millis < on_their_way + 15_000, "{settled_millis}");
    let there: i64 = (0..6)
        .map(|partition| kafka.offsets("flood", partition).unwrap().1)
        .sum();
    assert_eq!(
        there as u64, accepted,
        "all that was accepted is there, once"
    );
    runtime.block_on(kafka.stop());
}

/// The process of the test above.
#[test]
#[ignore = "is run by the other test"]
fn the_producer() {
    // Without it, somebody runs all ignored tests.
    let Ok(bootstrap) = std::env::var(BOOTSTRAP) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(flood(&bootstrap));
}

async fn flood(bootstrap: &str) {
    let client = Client::builder()
        .bootstrap_servers(bootstrap)
        .set("buffer.memory", BUFFER_MEMORY)
        .set("compression.type", std::env::var(CODEC).unwrap())
        .build()
        .unwrap();
    let producer = client.producer().unwrap();
    producer
        .send(ProducerRecord::to("flood").value("first"))
        .await
        .unwrap()
        .await
        .unwrap();
    let base = resident_kib();
    let ends = Instant::now() + FLOOD;
    let senders: Vec<_> = (0..4_u8)
        .map(|sender| {
            let producer = producer.clone();
            tokio::spawn(async move {
                let (mut value, mut accepted) = ([sender; 1_000], 0_u64);
                let mut random = u64::from(sender) + 1;
                while Instant::now() < ends {
                    // A part of it does not compress.
                    for bytes in value[..400].chunks_mut(8) {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1);
                        bytes.copy_from_slice(&random.swap_bytes().to_le_bytes());
                    }
                    let record = ProducerRecord::to("flood").value(&value);
                    drop(producer.send(record).await.unwrap());
                    accepted += 1;
                }
                accepted
            })
        })
        .collect();

    let value = [b'x'; 1_000];
    let (mut peak, mut buffered, mut refusals) = (0, 0, Vec::new());
    let mut accepted = 1;
    while Instant::now() < ends {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let before = Instant::now();
        let sent = producer.try_send(ProducerRecord::to("flood").value(&value));
        let took = before.elapsed();
        match sent {
            Ok(_) => accepted += 1,
            Err(SendError::BufferFull { capacity, .. }) => {
                assert_eq!(capacity, BUFFER_MEMORY);
                refusals.push(took);
            }
            Err(error) => panic!("{error}"),
        }
        peak = peak.max(resident_kib());
        buffered = buffered.max(producer.buffered_bytes());
    }
    refusals.sort();
    let slow = refusals
        .get(refusals.len() * 99 / 100)
        .map_or(0, Duration::as_micros);
    for sender in senders {
        accepted += sender.await.unwrap();
    }
    // Full again, whatever went out since.
    while producer
        .try_send(ProducerRecord::to("flood").value(&value))
        .is_ok()
    {
        accepted += 1;
    }
    println!(
        "\nflooded: {base} {peak} {buffered} {} {slow}",
        refusals.len()
    );
    tokio::task::block_in_place(|| std::io::stdin().read_line(&mut String::new()).unwrap());
    let well = Instant::now();
    let one = producer
        .send(ProducerRecord::to("flood").value(&value))
        .await
        .unwrap();
    let accepted_millis = well.elapsed().as_millis();
    accepted += 1;
    one.await.unwrap();
    producer.flush(Duration::from_secs(60)).await.unwrap();
    let settled_millis = well.elapsed().as_millis();
    assert_eq!(producer.buffered_bytes(), 0);
    producer
        .try_send(ProducerRecord::to("flood").value("again"))
        .unwrap()
        .await
        .unwrap();
    accepted += 1;
    producer.close(Duration::from_secs(60)).await.unwrap();
    client.close().await;
    println!("\nrecovered: {accepted_millis} {settled_millis} {accepted}");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let words = line.unwrap().split_whitespace();
    words.into_iter().next().unwrap().parse().unwrap()
}
