//! The futures of a consumer that is read as a whole, as a member of a group of either protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream as _;
use ottla::consumer::{Error, GroupProtocol, Record};
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

#[test]
fn a_record_of_a_stream_that_is_put_aside() {
    in_both("next of a stream", async |run, protocol| {
        let (world, consumer) = start(run, protocol).await;
        let mut stream = consumer.stream();
        let next = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx));
        let first = drop_at(run, next).await;
        let completed = first.is_some();
        let mut read = BTreeMap::new();
        if let Some(record) = first {
            note(&mut read, &record.unwrap().unwrap());
        }
        // It is still there, and nobody asks it for more.
        read_on(&consumer, &mut read).await;
        assert_eq!(read, all(), "once, and in order");
        drop(stream);
        end(world, consumer).await;
        completed
    });
}

/// Whatever is to be committed of the record that was read last.
fn one_commit(name: &str, commit: impl AsyncFn(Run, &Consumer, &Record) -> bool) {
    in_both(name, async |run, protocol| {
        let (world, consumer) = start(run, protocol).await;
        consumer.recv().await.unwrap();
        let record = consumer.recv().await.unwrap();
        let completed = commit(run, &consumer, &record).await;
        tokio::time::sleep(SETTLED).await;
        // It went on, and nothing else did.
        let names: Vec<_> = (0..2).map(|p| TopicPartition::new("t", p)).collect();
        let committed = consumer.committed(&names).await.unwrap();
        for (name, committed) in committed {
            let own = name == *record.topic_partition();
            let expected = own.then(|| record.offset() + 1);
            assert_eq!(committed.map(|committed| committed.offset), expected);
        }
        end(world, consumer).await;
        completed
    });
}

#[test]
fn a_commit_of_a_record() {
    one_commit("commit_record", async |run, consumer, record| {
        let committed = drop_at(run, consumer.commit_record(record)).await;
        committed.map(Result::unwrap).is_some()
    });
}

#[test]
fn a_commit_of_an_offset() {
    one_commit("commit_offsets", async |run, consumer, record| {
        let offset = (
            record.topic_partition().clone(),
            (record.offset() + 1).into(),
        );
        let committed = drop_at(run, consumer.commit_offsets([offset])).await;
        committed.map(Result::unwrap).is_some()
    });
}

/// What the brokers are asked, they can be asked again.
fn a_question<T: PartialEq + Debug>(
    name: &str,
    ask: impl AsyncFn(&Consumer) -> Result<T, Error>,
    expected: &T,
) {
    in_both(name, async |run, protocol| {
        let (world, consumer) = start(run, protocol).await;
        let told = drop_at(run, ask(&consumer)).await;
        let completed = told.is_some();
        let told = match told {
            Some(told) => told.unwrap(),
            None => ask(&consumer).await.unwrap(),
        };
        assert_eq!(told, *expected);
        let mut read = BTreeMap::new();
        read_on(&consumer, &mut read).await;
        assert_eq!(read, all());
        end(world, consumer).await;
        completed
    });
}

fn both() -> [TopicPartition; 2] {
    [0, 1].map(|partition| TopicPartition::new("t", partition))
}

#[test]
fn where_logs_end() {
    let ends = both().map(|name| (name, COUNT)).into();
    a_question(
        "end_offsets",
        async |of| of.end_offsets(&both()).await,
        &ends,
    );
}

#[test]
fn where_records_since_then_are() {
    let ask = async |of: &Consumer| {
        let found = of.offsets_for_times(both().map(|name| (name, 0))).await?;
        let mut found: Vec<_> = found
            .into_iter()
            .map(|(name, found)| (name.partition, found.map(|found| found.offset)))
            .collect();
        found.sort_unstable();
        Ok(found)
    };
    a_question("offsets_for_times", ask, &vec![(0, Some(0)), (1, Some(0))]);
}

#[test]
fn which_partitions_there_are() {
    // Of a topic that nobody has asked about before.
    let ask = async |of: &Consumer| of.partitions_of("other").await;
    let other = vec![TopicPartition::new("other", 0)];
    a_question("partitions_of", ask, &other);
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

fn note(read: &mut BTreeMap<i32, Vec<i64>>, record: &Record) {
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
