//! The futures of a consumer that is read as a whole, as a member of a group of either protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla::consumer::{Error, GroupProtocol};
use ottla::prelude::*;

use crate::{PATIENCE, Run, World, at_every_await, drop_at};

/// Records of each of the two partitions.
const COUNT: i64 = 8;

#[test]
fn a_record() {
    in_both("recv", async |run, protocol| {
        let (world, consumer) = start(run, protocol).await;
        let first = drop_at(run, consumer.recv()).await;
        let completed = first.is_some();
        let mut read = BTreeMap::new();
        if let Some(record) = first {
            note(&mut read, &record.unwrap());
        }
        read_on(&consumer, &mut read).await;
        assert_eq!(read, all(), "once, and in order");
        end(world, consumer).await;
        completed
    });
}

#[test]
fn some_batches() {
    in_both("poll", async |run, protocol| {
        let (world, consumer) = start(run, protocol).await;
        let first = drop_at(run, consumer.poll_max(3, PATIENCE)).await;
        let completed = first.is_some();
        let mut read = BTreeMap::new();
        for record in first.into_iter().flat_map(Result::unwrap).flatten() {
            note(&mut read, &record.unwrap());
        }
        read_on(&consumer, &mut read).await;
        assert_eq!(read, all(), "once, and in order");
        end(world, consumer).await;
        completed
    });
}

#[test]
fn a_commit() {
    in_both("commit of a consumer", async |run, protocol| {
        let (world, consumer) = start(run, protocol).await;
        let mut read = BTreeMap::new();
        for _ in 0..5 {
            note(&mut read, &consumer.recv().await.unwrap());
        }
        let committed = drop_at(run, consumer.commit()).await;
        let completed = committed.is_some();
        committed.map(Result::unwrap);
        tokio::time::sleep(SETTLED).await;
        // It went on.
        for (partition, offsets) in &read {
            let at = TopicPartition::new("t", *partition);
            let committed = consumer.committed(std::slice::from_ref(&at)).await.unwrap();
            let committed = committed[&at].as_ref().unwrap();
            assert_eq!(committed.offset, offsets.last().unwrap() + 1);
        }
        read_on(&consumer, &mut read).await;
        assert_eq!(read, all());
        end(world, consumer).await;
        completed
    });
}

#[test]
fn what_is_committed() {
    in_both("committed", async |run, protocol| {
        let (world, consumer) = start(run, protocol).await;
        consumer.recv().await.unwrap();
        consumer.commit().await.unwrap();
        let at: Vec<_> = (0..2).map(|p| TopicPartition::new("t", p)).collect();
        let told = drop_at(run, consumer.committed(&at)).await;
        let completed = told.is_some();
        let told = match told {
            Some(told) => told.unwrap(),
            None => consumer.committed(&at).await.unwrap(),
        };
        let sum: i64 = told
            .values()
            .flatten()
            .map(|committed| committed.offset)
            .sum();
        assert_eq!(sum, 1);
        end(world, consumer).await;
        completed
    });
}

/// Whether or not the group was left, and what was read committed: nothing is left out.
#[test]
fn an_unsubscription() {
    in_both("unsubscribe", async |run, protocol| {
        let (world, consumer) = start(run, protocol).await;
        consumer.close(PATIENCE).await.unwrap();
        let consumer = world.member(protocol, true);
        let mut read = BTreeMap::new();
        for _ in 0..5 {
            note(&mut read, &consumer.recv().await.unwrap());
        }
        let left = drop_at(run, consumer.unsubscribe()).await;
        let completed = left.is_some();
        left.map(Result::unwrap);
        if completed {
            assert!(consumer.assignment().is_empty());
        }
        consumer.unsubscribe().await.unwrap();
        consumer.subscribe(["t"]).unwrap();
        while read.values().flatten().collect::<BTreeSet<_>>().len() < COUNT as usize
            || read
                .values()
                .any(|offsets| offsets.last() != Some(&(COUNT - 1)))
            || read.len() < 2
        {
            let next = tokio::time::timeout(2 * PATIENCE, consumer.recv()).await;
            let next = next.unwrap_or_else(|_| panic!("stuck after {read:?}"));
            note(&mut read, &next.unwrap());
        }
        for offsets in read.values_mut() {
            let twice = !offsets.is_sorted();
            assert!(!twice || !completed, "{offsets:?}");
            offsets.sort_unstable();
            offsets.dedup();
        }
        assert_eq!(read, all());
        end(world, consumer).await;
        completed
    });
}

#[test]
fn a_close() {
    in_both("close of a consumer", async |run, protocol| {
        let (world, consumer) = start(run, protocol).await;
        let mut read = BTreeMap::new();
        for _ in 0..5 {
            note(&mut read, &consumer.recv().await.unwrap());
        }
        consumer.commit().await.unwrap();
        let closed = drop_at(run, consumer.close(PATIENCE)).await;
        let completed = closed.is_some();
        closed.map(Result::unwrap);
        let late = consumer.recv().await.unwrap_err();
        assert!(matches!(late, Error::Closed), "{late}");
        drop(consumer);
        // Its successor waits for a session to run out at the most.
        let next = world.member(protocol, false);
        read_on(&next, &mut read).await;
        assert_eq!(read, all(), "once, and in order");
        end(world, next).await;
        completed
    });
}

fn in_both(name: &str, scenario: impl AsyncFn(Run, GroupProtocol) -> bool) {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let name = format!("{name}, {protocol:?}");
        at_every_await(&name, async |run| scenario(run, protocol).await);
    }
}

async fn start(run: Run, protocol: GroupProtocol) -> (World, Consumer) {
    let world = World::of_a_group(run, COUNT).await;
    let consumer = world.member(protocol, false);
    (world, consumer)
}

fn note(read: &mut BTreeMap<i32, Vec<i64>>, record: &ottla::consumer::Record) {
    read.entry(record.partition())
        .or_default()
        .push(record.offset());
}

/// The rest of both partitions.
async fn read_on(consumer: &Consumer, read: &mut BTreeMap<i32, Vec<i64>>) {
    while read.values().map(Vec::len).sum::<usize>() < 2 * COUNT as usize {
        let next = tokio::time::timeout(2 * PATIENCE, consumer.recv()).await;
        let next = next.unwrap_or_else(|_| panic!("stuck after {read:?}"));
        note(read, &next.unwrap());
    }
}

fn all() -> BTreeMap<i32, Vec<i64>> {
    (0..2).map(|p| (p, (0..COUNT).collect())).collect()
}

async fn end(world: World, consumer: Consumer) {
    consumer.close(PATIENCE).await.unwrap();
    drop(consumer);
    assert_eq!(world.values().len() as i64, 2 * COUNT);
    world.end().await;
}

/// By then all that goes on has ended.
const SETTLED: Duration = Duration::from_secs(3);
