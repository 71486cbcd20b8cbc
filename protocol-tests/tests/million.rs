//! A million records through a group of three consumers: each arrives once, in order.
#![allow(clippy::unwrap_used)]

mod client;

use std::time::{Duration, Instant};

use client::{PATIENCE, member, producer, within};
use ottla_consumer::Consumer;
use ottla_producer::{Compression, ProducerConfig, ProducerRecord};
use ottla_protocol_tests::{Kafka, unique};
use tokio::sync::mpsc;

const RECORDS: usize = 1_000_000;
const PARTITIONS: usize = 12;
const LIMIT: Duration = Duration::from_secs(150);

#[test]
fn a_million_records_reach_a_group_of_three_exactly_once() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (unique("million"), unique("three"));
    kafka.create_topic(&topic, PARTITIONS as i32, &[]);
    within(LIMIT, async {
        let (sender, mut seen) = mpsc::channel::<Vec<(usize, usize)>>(64);
        let members: Vec<_> = (0..3)
            .map(|number| {
                let consumer = member(kafka.bootstrap(), &group, &topic);
                let reading = read_numbers(consumer.clone(), number, sender.clone());
                (consumer, tokio::spawn(reading))
            })
            .collect();
        drop(sender);
        // Before the first record, so that no rebalance hands records of one member to another.
        for (consumer, _) in &members {
            while consumer.assignment().len() != PARTITIONS / 3 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }

        let start = Instant::now();
        let producing = async {
            let config = ProducerConfig {
                compression: Compression::Lz4,
                ..Default::default()
            };
            let producer = producer(kafka.bootstrap(), config);
            for number in 0..RECORDS {
                let value = format!("{number:08}");
                let partition = (number % PARTITIONS) as i32;
                let record = ProducerRecord::to(&topic)
                    .partition(partition)
                    .value(&value);
                drop(producer.send(record).await.unwrap());
            }
            producer.close(PATIENCE).await.unwrap();
            println!("produced in {:?}", start.elapsed());
        };
        let counting = async {
            let mut times = vec![0_u8; RECORDS];
            let mut next = [0; PARTITIONS];
            let mut by_member = [0; 3];
            let mut total = 0;
            while total < RECORDS {
                for (member, number) in seen.recv().await.expect("the members go on") {
                    times[number] += 1;
                    let partition = number % PARTITIONS;
                    assert_eq!(
                        next[partition],
                        number / PARTITIONS,
                        "partition {partition} in order"
                    );
                    next[partition] += 1;
                    by_member[member] += 1;
                    total += 1;
                }
            }
            println!("consumed in {:?}, by member {by_member:?}", start.elapsed());
            assert!(times.iter().all(|&times| times == 1), "each record once");
            assert!(
                by_member.iter().all(|&count| count > RECORDS / 4),
                "{by_member:?}"
            );
        };
        tokio::join!(producing, counting);
        for (consumer, reading) in members {
            consumer.close(PATIENCE).await.unwrap();
            reading.await.unwrap();
        }
        assert!(seen.recv().await.is_none(), "and nothing else arrives");
    });
}

/// Passes on the numbers that a member reads, until it is closed.
async fn read_numbers(
    consumer: Consumer,
    member: usize,
    sender: mpsc::Sender<Vec<(usize, usize)>>,
) {
    loop {
        let batches = match consumer.poll_max(10_000, Duration::from_secs(1)).await {
            Ok(batches) => batches,
            Err(ottla_consumer::Error::Closed) => return,
            Err(error) => panic!("member {member}: {error}"),
        };
        let mut numbers = Vec::new();
        for batch in &batches {
            for record in batch {
                let value = record.unwrap().value().unwrap();
                numbers.push((member, std::str::from_utf8(value).unwrap().parse().unwrap()));
            }
        }
        if !numbers.is_empty() {
            sender.send(numbers).await.unwrap();
        }
    }
}
