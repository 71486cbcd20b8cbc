//! A process of its own reads from a long log, with pauses, and tells how much memory it has.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use ottla_producer::{Compression, ProducerConfig, ProducerRecord};
use ottla_protocol_tests::{Kafka, Process, unique};

use crate::{
    client::{PATIENCE, producer, within},
    reader::{BUDGET, Told, Way},
};

const PARTITIONS: i32 = 6;
/// Of each record's value.
const SIZE: usize = 1024;
/// Some hundred MiB, so many times what the reader may hold.
const RECORDS: usize = 120_000;
/// What a process has beside what it fetched: the batch that the application holds, an answer that is used up but for its
/// last batch, and the bookkeeping.
const BESIDE: u64 = 12 << 20;

#[test]
fn memory_stays_within_the_budget() {
    let Some(kafka) = Kafka::shared() else { return };
    for compression in [Compression::None, Compression::Lz4] {
        let topic = unique("long");
        kafka.create_topic(&topic, PARTITIONS, &[]);
        fill(kafka.bootstrap(), &topic, compression);
        std::thread::scope(|scope| {
            for way in [Way::Poll, Way::Stream, Way::Split] {
                let (kafka, topic) = (&kafka, &topic);
                let name = format!("{compression:?}, {way:?}");
                scope.spawn(move || check(&name, &measure(kafka.bootstrap(), topic, way)));
            }
        });
    }
}

fn check(name: &str, told: &Told) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{name}: {:.1} MiB at the beginning, {:.1} more while it stood still, {:.1} more at the most while it read {} records",
        mib(told.at_first),
        mib(told.standing - told.at_first),
        mib(told.reading - told.at_first),
        told.records
    );
    let budget = BUDGET as u64;
    let standing = told.standing - told.at_first;
    assert!(standing > budget / 4, "{name}: something is fetched ahead");
    assert!(standing < budget + BESIDE, "{name}: {standing}");
    let reading = told.reading - told.at_first;
    assert!(reading < budget + BESIDE, "{name}: {reading}");
    assert_eq!(told.records, RECORDS, "{name}: all is read");
}

/// Values that take a tenth when they are compressed.
fn fill(bootstrap: &str, topic: &str, compression: Compression) {
    within(PATIENCE, async {
        let config = ProducerConfig {
            compression,
            batch_size: 64 << 10,
            ..ProducerConfig::default()
        };
        let producer = producer(bootstrap, config);
        for number in 0..RECORDS {
            let value = format!("{number:064}").repeat(SIZE / 64);
            let record = ProducerRecord::to(topic)
                .partition(number as i32 % PARTITIONS)
                .value(&value);
            drop(producer.send(record).await.unwrap());
        }
        producer.flush(PATIENCE).await.unwrap();
        producer.close(PATIENCE).await.unwrap();
    });
}

fn measure(bootstrap: &str, topic: &str, way: Way) -> Told {
    let mut reader = Command::new(std::env::current_exe().unwrap());
    reader
        .args([
            "reader::reads_slowly",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env("OTTLA_SLOW_READER", format!("{bootstrap} {topic} {way:?}"))
        // What is freed goes back at once, so that what is left is held. With its defaults glibc keeps large blocks that were
        // freed: then there were 37 MiB at the most.
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .env("MALLOC_TRIM_THRESHOLD_", "65536")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = Process::run("a reader", &mut reader, None, Duration::from_secs(60));
    let output = output.unwrap().expect_success("reading");
    Told::parse(output.text())
}
