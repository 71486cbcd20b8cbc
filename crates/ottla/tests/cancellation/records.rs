//! The futures of a producer without transactions.

use std::time::Duration;

use ottla::prelude::*;
use ottla::producer::{Delivery, ProducerConfig, SendError, delivery_stream};

use crate::{PATIENCE, Run, World, at_every_await, drop_at, record};

#[test]
fn a_send_to_a_new_topic() {
    at_every_await("send to a new topic", async |run| {
        let (world, producer) = start(run, |_| {});
        let sent = drop_at(run, producer.send(record(0, "new"))).await;
        let completed = sent.is_some();
        let delivery = sent.map(Result::unwrap);
        let accepted = if completed { vec!["new"] } else { vec![] };
        go_on(world, producer, &accepted, &[], delivery).await;
        completed
    });
}

#[test]
fn a_send_into_a_full_buffer() {
    at_every_await("send into a full buffer", async |run| {
        let (world, producer) = start(run, small_buffer);
        let mut full = fill(&producer).await;
        let large = format!("large {}", "x".repeat(700));
        let sent = drop_at(run, producer.send(record(1, &large))).await;
        let completed = sent.is_some();
        full.extend(completed.then_some(large));
        let accepted: Vec<_> = full.iter().map(String::as_str).collect();
        go_on(world, producer, &accepted, &[], sent.map(Result::unwrap)).await;
        completed
    });
}

/// Two that wait in line for memory: if the first goes, the second is not forgotten.
#[test]
fn a_send_that_others_queue_behind() {
    at_every_await("send before another", async |run| {
        let (world, producer) = start(run, small_buffer);
        let mut full = fill(&producer).await;
        let (first, second) = (format!("first {}", "x".repeat(900)), "second".to_owned());
        let (sent, next) = tokio::join!(
            drop_at(run, producer.send(record(1, &first))),
            tokio::time::timeout(PATIENCE, producer.send(record(1, &second)))
        );
        let next = next.expect("the second hangs").unwrap();
        let completed = sent.is_some();
        full.extend(completed.then_some(first));
        full.push(second);
        let accepted: Vec<_> = full.iter().map(String::as_str).collect();
        go_on(world, producer, &accepted, &[], Some(next)).await;
        completed
    });
}

#[test]
fn a_delivery() {
    at_every_await("delivery", async |run| {
        let (world, producer) = start(run, |_| {});
        let delivery = producer.send(record(0, "one")).await.unwrap();
        let other = producer.send(record(0, "two")).await.unwrap();
        let completed = drop_at(run, delivery).await;
        let is_some = completed.is_some();
        completed.map(Result::unwrap);
        go_on(world, producer, &["one", "two"], &[], Some(other)).await;
        is_some
    });
}

#[test]
fn a_delivery_stream() {
    at_every_await("delivery stream", async |run| {
        let (world, producer) = start(run, |_| {});
        let (sink, mut stream) = delivery_stream();
        for value in ["one", "two"] {
            sink.add(producer.send(record(0, value)).await.unwrap(), value);
        }
        drop(sink);
        let first = drop_at(run, stream.next()).await;
        let completed = first.is_some();
        let mut told: Vec<_> = first.into_iter().flatten().collect();
        while let Some(next) = stream.next().await {
            told.push(next);
        }
        let told: Vec<_> = told
            .into_iter()
            .map(|(tag, at)| (tag, at.unwrap().offset()))
            .collect();
        assert_eq!(told, [("one", Some(0)), ("two", Some(1))]);
        go_on(world, producer, &["one", "two"], &[], None).await;
        completed
    });
}

#[test]
fn a_flush() {
    at_every_await("flush", async |run| {
        let (world, producer) = start(run, |config| config.linger = Duration::from_secs(30));
        let mut last = None;
        for (partition, value) in [(0, "one"), (1, "two"), (0, "three")] {
            last = Some(producer.send(record(partition, value)).await.unwrap());
        }
        let flushed = drop_at(run, producer.flush(PATIENCE)).await;
        let completed = flushed.is_some();
        flushed.map(Result::unwrap);
        if completed {
            assert_eq!(world.values(), ["one", "three", "two"]);
        }
        go_on(world, producer, &["one", "three", "two"], &[], last).await;
        completed
    });
}

#[test]
fn a_send_of_many() {
    at_every_await("send_all", async |run| {
        let (world, producer) = start(run, small_buffer);
        let values: Vec<_> = (0..12)
            .map(|n| format!("{n:02}{}", "x".repeat(500)))
            .collect();
        let records = values.iter().map(|value| record(0, value));
        let sent = drop_at(run, producer.send_all(records)).await;
        let completed = sent.is_some();
        if let Some(sent) = sent {
            for delivery in sent.unwrap() {
                delivery.await.unwrap();
            }
        } else {
            producer.flush(PATIENCE).await.unwrap();
        }
        // As many as were accepted, from the first on.
        let there = world.values();
        assert_eq!(there, values[..there.len()]);
        assert!(!completed || there.len() == values.len());
        let there: Vec<_> = there.iter().map(String::as_str).collect();
        go_on(world, producer, &there, &[], None).await;
        completed
    });
}

#[test]
fn a_send_with_its_outcome() {
    at_every_await("produce_and_wait", async |run| {
        let (world, producer) = start(run, |config| config.linger = Duration::from_secs(30));
        let written = drop_at(run, producer.produce_and_wait(record(0, "one"))).await;
        let completed = written.is_some();
        written.map(Result::unwrap);
        let accepted: &[_] = if completed { &["one"] } else { &[] };
        go_on(world, producer, accepted, &["one"], None).await;
        completed
    });
}

#[test]
fn a_close() {
    at_every_await("close", async |run| {
        let (world, producer) = start(run, |config| config.linger = Duration::from_millis(20));
        let mut deliveries = Vec::new();
        for (partition, value) in [(0, "one"), (1, "two"), (0, "three")] {
            deliveries.push((
                value,
                producer.send(record(partition, value)).await.unwrap(),
            ));
        }
        let closed = drop_at(run, producer.close(PATIENCE)).await;
        let completed = closed.is_some();
        closed.map(Result::unwrap);
        let late = producer.send(record(0, "late")).await.unwrap_err();
        assert!(matches!(late, SendError::Closed), "{late}");
        let late = producer.try_send(record(0, "late")).unwrap_err();
        assert!(matches!(late, SendError::Closed), "{late}");
        // Its last handle.
        drop(producer);
        let mut outcomes = Vec::new();
        for (value, delivery) in deliveries {
            let outcome = tokio::time::timeout(PATIENCE, delivery).await;
            outcomes.push((value, outcome.expect("a delivery hangs")));
        }
        tokio::time::sleep(PATIENCE).await;
        let there = world.values();
        for (value, outcome) in outcomes {
            match outcome {
                Ok(_) => assert!(there.contains(&value.to_owned()), "{value} is lost"),
                Err(error) => {
                    assert!(!completed, "{error}");
                    let absent = !there.contains(&value.to_owned());
                    assert!(absent || error.possibly_written(), "{value}: {error}");
                }
            }
        }
        world.end().await;
        completed
    });
}

fn start(run: Run, tweak: fn(&mut ProducerConfig)) -> (World, Producer) {
    let world = World::new(run, tweak);
    let producer = world.client.producer().unwrap();
    (world, producer)
}

fn small_buffer(config: &mut ProducerConfig) {
    config.max_request_size = 1_500;
    config.batch_size = 1_000;
    config.buffer_memory = 4_000;
}

/// Sends until no more goes in; what was sent.
async fn fill(producer: &Producer) -> Vec<String> {
    let mut sent = Vec::new();
    loop {
        let value = format!("full {} {}", sent.len(), "x".repeat(600));
        if sent.is_empty() {
            drop(producer.send(record(0, &value)).await.unwrap());
        } else if producer.try_send(record(0, &value)).is_err() {
            return sent;
        }
        sent.push(value);
    }
}

/// The producer goes on, gives all memory back, and ends; the log then has what was `accepted`, perhaps what is `doubtful`,
/// and nothing else.
async fn go_on(
    world: World,
    producer: Producer,
    accepted: &[&str],
    doubtful: &[&str],
    open: Option<Delivery>,
) {
    if let Some(open) = open {
        let outcome = tokio::time::timeout(PATIENCE, open).await;
        outcome.expect("an earlier delivery hangs").unwrap();
    }
    for (partition, value) in [(0, "~later"), (1, "~later still")] {
        let later = producer.produce_and_wait(record(partition, value));
        let later = tokio::time::timeout(PATIENCE, later).await;
        later.expect("a later record hangs").unwrap();
    }
    producer.flush(PATIENCE).await.unwrap();
    assert_eq!(producer.buffered_bytes(), 0, "memory is leaked");
    assert_eq!(producer.len(), 0);
    producer.close(PATIENCE).await.unwrap();
    let mut there = world.values();
    there.retain(|value| !doubtful.contains(&value.as_str()) || accepted.contains(&value.as_str()));
    let mut expected = [accepted, &["~later", "~later still"]].concat();
    expected.sort_unstable();
    assert_eq!(there, expected);
    world.end().await;
}
