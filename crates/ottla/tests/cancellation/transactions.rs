//! The futures of a transactional producer.

use std::time::Duration;

use ottla::consumer::{GroupMetadata, IsolationLevel};
use ottla::prelude::*;
use ottla::producer::{CommitError, RunError};

use crate::{PATIENCE, Run, World, at_every_await, drop_at, record};

#[test]
fn an_init() {
    steps("init");
}

#[test]
fn a_begin() {
    steps("begin");
}

#[test]
fn a_send() {
    steps("send");
}

#[test]
fn the_sending_of_offsets() {
    steps("send_offsets");
}

#[test]
fn a_commit() {
    steps("commit");
}

#[test]
fn an_abort() {
    steps("abort");
}

#[test]
fn a_run() {
    steps("run");
}

#[test]
fn a_close() {
    steps("close");
}

/// With transactions of both generations.
fn steps(step: &'static str) {
    for version in [1, 2] {
        let name = format!("{step}, transaction.version {version}");
        at_every_await(&name, async |run| dropped_in(version, step, run).await);
    }
}

/// One transaction of two records and an offset, of which the future of `step` is dropped; and one after it.
async fn dropped_in(version: i16, step: &str, run: Run) -> bool {
    // So that records are on their way when a transaction ends.
    let world = World::new(run, |config| config.linger = Duration::ZERO);
    world.kafka.set_transaction_version(version).unwrap();
    let run_of = |of: &str| match step == of {
        true => run,
        false => run.to_the_end(),
    };
    let mut completed = true;
    let init = drop_at(run_of("init"), start(&world)).await;
    completed &= init.is_some();
    let mut producer = match init {
        Some(producer) => producer,
        None => start(&world).await,
    };
    if step == "begin" {
        // Something for it to wait for.
        let transaction = producer.begin().await.unwrap();
        transaction
            .send(record(0, "dropped"))
            .await
            .unwrap()
            .await
            .unwrap();
        drop(transaction);
    }
    // What must and what may be read in the end; the offset likewise.
    let (mut committed, mut possible) = (false, false);
    if step == "run" {
        let done = producer.run(3, async |transaction: &Transaction<'_>| {
            for (partition, value) in [(0, "a"), (1, "b")] {
                let _sent = transaction
                    .send(record(partition, value))
                    .await
                    .map_err(|e| e.to_string())?;
            }
            let sent = transaction.send_offsets([("t", 0, 7)], &group()).await;
            sent.map_err(|error| error.to_string())
        });
        let done: Option<Result<(), RunError<String>>> = drop_at(run, done).await;
        completed = done.is_some();
        (committed, possible) = (completed, true);
        done.map(Result::unwrap);
    } else {
        let begun = drop_at(run_of("begin"), producer.begin()).await;
        completed &= begun.is_some();
        if let Some(transaction) = begun {
            let transaction = transaction.unwrap();
            let group = group();
            let sent = drop_at(run_of("send"), transaction.send(record(0, "a"))).await;
            let mut sent_all = sent.map(Result::unwrap).is_some();
            let offsets = transaction.send_offsets([("t", 0, 7)], &group);
            let offsets = drop_at(run_of("send_offsets"), offsets).await;
            completed &= offsets.map(Result::unwrap).is_some();
            // On its way as the transaction ends.
            let sent = drop_at(run_of("send"), transaction.send(record(1, "b"))).await;
            sent_all &= sent.map(Result::unwrap).is_some();
            completed &= sent_all;
            if step == "abort" {
                // The record is under way by then, and the abort waits for it.
                tokio::time::sleep(Duration::from_millis(1)).await;
                let aborted = drop_at(run, transaction.abort()).await;
                completed &= aborted.is_some();
                aborted.map(Result::unwrap);
            } else {
                let commit = drop_at(run_of("commit"), transaction.commit()).await;
                completed &= commit.is_some();
                let done = commit.map(|commit| commit.map_err(CommitError::into_error).unwrap());
                committed = done.is_some() && sent_all;
                possible = true;
            }
        }
    }
    // The next transaction is this producer's or, if it was closed, another's of the same name.
    let mut next = producer;
    if step == "close" {
        // Its abort is not over when the producer is closed.
        let transaction = next.begin().await.unwrap();
        drop(transaction.send(record(0, "dropped")).await.unwrap());
        drop(transaction);
        let closed = drop_at(run, next.close(PATIENCE)).await;
        completed &= closed.is_some();
        closed.map(Result::unwrap);
        next = start(&world).await;
    }
    let begun = tokio::time::timeout(PATIENCE, next.begin()).await;
    let transaction = begun.expect("the next begin hangs").unwrap();
    for partition in 0..2 {
        let value = format!("next {partition}");
        drop(transaction.send(record(partition, &value)).await.unwrap());
    }
    let commit = tokio::time::timeout(PATIENCE, transaction.commit()).await;
    commit
        .expect("the next commit hangs")
        .map_err(CommitError::into_error)
        .unwrap();
    next.close(PATIENCE).await.unwrap();

    let seen = read_committed(&world).await;
    let own: Vec<_> = seen
        .iter()
        .filter(|value| !value.starts_with("next"))
        .collect();
    let whole = own == ["a", "b"];
    // A dropped send leaves one record out; without it, all or nothing.
    let halves = step == "send" && own.len() <= 1;
    assert!(own.is_empty() || whole || halves, "half of it: {seen:?}");
    assert!(whole || !committed, "committed, and not there: {seen:?}");
    assert!(own.is_empty() || possible, "never committed: {seen:?}");
    assert_eq!(seen.len() - own.len(), 2, "{seen:?}");
    let offset = world.kafka.committed("g", "t", 0);
    assert!(
        offset == Some(7) || !committed || step == "send_offsets",
        "{offset:?}"
    );
    assert!(offset.is_none() || possible, "{offset:?}");
    if !matches!(step, "send" | "send_offsets") {
        assert_eq!(offset.is_some(), whole, "{offset:?} with {seen:?}");
    }
    world.end().await;
    completed
}

async fn start(world: &World) -> TransactionalProducer {
    let mut config = world.client.producer_config();
    config.transactional_id = Some("moves".into());
    world
        .client
        .transactional_producer_with(config)
        .await
        .unwrap()
}

fn group() -> GroupMetadata {
    GroupMetadata {
        group_id: "g".into(),
        generation_id: -1,
        member_id: "".into(),
        group_instance_id: None,
    }
}

/// What a `read_committed` consumer is given, sorted; nothing twice.
async fn read_committed(world: &World) -> Vec<String> {
    let mut config = world.client.consumer_config();
    config.isolation_level = IsolationLevel::ReadCommitted;
    let consumer = world.client.consumer_with(config).unwrap();
    consumer
        .assign((0..2).map(|partition| (("t".to_owned(), partition), Offset::Beginning)))
        .unwrap();
    let mut seen = Vec::new();
    while let Ok(next) = tokio::time::timeout(Duration::from_secs(10), consumer.recv()).await {
        seen.push(String::from_utf8(next.unwrap().value().unwrap().to_vec()).unwrap());
    }
    consumer.close(PATIENCE).await.unwrap();
    seen.sort();
    assert!(seen.is_sorted_by(|a, b| a < b), "twice: {seen:?}");
    seen
}
