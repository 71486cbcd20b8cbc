//! A consumer that is split into one stream per partition.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ottla_consumer::{
    Consumer, ConsumerConfig, Error, ListenerFuture, Offset, PartitionStream, PartitionStreams,
    RebalanceListener, StreamEnd, TopicPartition,
    assignor::{Assignor, CooperativeSticky},
};
use ottla_wire::{ErrorCode, compress::Compression};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    rebalancing::{assign, assigned, rebalance},
    support::*,
};

const LONG: Duration = Duration::from_secs(120);

/// As many streams, by partition.
async fn take(partitions: &mut PartitionStreams, count: usize) -> BTreeMap<i32, PartitionStream> {
    let mut streams = BTreeMap::new();
    while streams.len() < count {
        let stream = timeout(LONG, partitions.next_partition()).await;
        let stream = stream.expect("no partition comes").unwrap();
        streams.insert(stream.partition(), stream);
    }
    streams
}

/// Joins the group, and takes what it gets.
async fn join(
    consumer: &Consumer,
    count: usize,
) -> (PartitionStreams, BTreeMap<i32, PartitionStream>) {
    consumer.subscribe([TOPIC]).unwrap();
    let mut partitions = consumer.split().unwrap();
    let streams = take(&mut partitions, count).await;
    (partitions, streams)
}

/// The offsets of the next records.
async fn next(stream: &mut PartitionStream, count: usize) -> Vec<i64> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        let record = timeout(LONG, stream.recv()).await;
        let record = record.unwrap_or_else(|_| panic!("stuck after {offsets:?}"));
        let record = record.unwrap().expect("it has ended");
        let value = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
        assert_eq!(value.trim(), record.offset().to_string());
        offsets.push(record.offset());
    }
    offsets
}

async fn ended(stream: &mut PartitionStream) -> StreamEnd {
    let last = timeout(LONG, stream.recv()).await.expect("it goes on");
    assert!(last.unwrap().is_none());
    stream.end().unwrap()
}

fn events(world: &Shared) -> Vec<String> {
    std::mem::take(&mut world.lock().unwrap().events)
}

fn by_hand(cluster: &ottla_net::testing::ScriptedCluster, partitions: i32) -> Consumer {
    let consumer = consumer(cluster, config());
    let all = (0..partitions).map(|p| (tp(p), Offset::Beginning));
    consumer.assign(all).unwrap();
    consumer
}

#[tokio::test(start_paused = true)]
async fn every_partition_is_read_in_order_by_its_own_task() {
    let (cluster, world) = start(3, 6);
    for partition in 0..6 {
        for _ in 0..4 {
            append_with(&world, partition, 25, Compression::Lz4, 10);
        }
    }
    let consumer = by_hand(&cluster, 6);
    let mut partitions = consumer.split().unwrap();
    let mut tasks = Vec::new();
    for (partition, mut stream) in take(&mut partitions, 6).await {
        tasks.push(tokio::spawn(async move {
            let mut offsets = Vec::new();
            // Some by record, some by batch.
            while offsets.len() < 100 {
                if partition % 2 == 0 {
                    offsets.extend(next(&mut stream, 5).await);
                } else {
                    let batch = timeout(LONG, stream.next_batch()).await.unwrap();
                    let batch = batch.unwrap().unwrap();
                    assert_eq!(batch.topic_partition(), stream.topic_partition());
                    offsets.extend(batch.records().map(|record| record.unwrap().offset()));
                }
            }
            assert_eq!(
                offsets,
                (0..100).collect::<Vec<_>>(),
                "partition {partition}"
            );
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn batches_and_records_may_be_read_in_turn() {
    let (cluster, world) = start(1, 1);
    for _ in 0..3 {
        append(&world, 0, 10);
    }
    let consumer = by_hand(&cluster, 1);
    let mut partitions = consumer.split().unwrap();
    let mut stream = take(&mut partitions, 1).await.remove(&0).unwrap();
    assert_eq!(next(&mut stream, 4).await, [0, 1, 2, 3]);
    let rest = stream.next_batch().await.unwrap().unwrap();
    let rest: Vec<_> = rest
        .records()
        .map(|record| record.unwrap().offset())
        .collect();
    assert_eq!(rest, [4, 5, 6, 7, 8, 9]);
    assert_eq!(
        (stream.position(), consumer.position(&tp(0)).unwrap()),
        (Some(10), Some(10))
    );
    assert_eq!(next(&mut stream, 2).await, [10, 11]);
    assert_eq!(consumer.position(&tp(0)).unwrap(), Some(12));
    stream.seek(Offset::At(25)).unwrap();
    assert_eq!(stream.position(), Some(25));
    assert_eq!(next(&mut stream, 1).await, [25]);
    consumer.seek(&tp(0), Offset::At(3)).unwrap();
    assert_eq!(stream.position(), Some(3));
    assert_eq!(next(&mut stream, 1).await, [3]);
    consumer.pause(&[tp(0)]).unwrap();
    assert!(timeout(LONG, stream.recv()).await.is_err(), "it is paused");
    consumer.resume(&[tp(0)]).unwrap();
    assert_eq!(next(&mut stream, 8).await, (4..12).collect::<Vec<_>>());
}

/// As with a consumer that is not split.
#[tokio::test(start_paused = true)]
async fn what_is_committed_after_a_seek_is_the_position() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 9);
    let consumer = consumer(&cluster, group_config());
    let (_partitions, mut streams) = join(&consumer, 1).await;
    let stream = streams.get_mut(&0).unwrap();
    assert_eq!(next(stream, 6).await.len(), 6);
    stream.seek(Offset::At(2)).unwrap();
    stream.mark_processed();
    sleep(Duration::from_secs(6)).await;
    assert_eq!(world.lock().unwrap().committed[&0], 2, "by the timer");
    assert_eq!(next(stream, 3).await, [2, 3, 4]);
    stream.seek(Offset::At(1)).unwrap();
    stream.commit().await.unwrap();
    assert_eq!(world.lock().unwrap().committed[&0], 1);
    assert_eq!(next(stream, 1).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_task_holds_up_nobody_and_nothing_is_downloaded_twice() {
    let (cluster, world) = start(1, 4);
    for partition in 0..4 {
        for _ in 0..200 {
            append_with(&world, partition, 1, Compression::None, 1_000);
        }
    }
    let consumer = consumer(
        &cluster,
        ConsumerConfig {
            // 25 batches for each partition.
            queued_bytes_max: 110_000,
            max_partition_fetch_bytes: 10_000,
            ..config()
        },
    );
    consumer
        .assign((0..4).map(|p| (tp(p), Offset::Beginning)))
        .unwrap();
    let mut partitions = consumer.split().unwrap();
    let mut streams = take(&mut partitions, 4).await;
    let started = Instant::now();
    // One of them stands still, one is slow, two read.
    for fast in [1, 2] {
        assert_eq!(next(streams.get_mut(&fast).unwrap(), 200).await.len(), 200);
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    let slow = streams.get_mut(&3).unwrap();
    for offset in 0..200 {
        assert_eq!(next(slow, 1).await, [offset]);
        sleep(Duration::from_millis(10)).await;
        let queued: usize = consumer
            .metrics()
            .partitions
            .iter()
            .map(|p| p.queued_bytes)
            .sum();
        assert!(queued <= 110_000, "{queued}");
    }
    let still = consumer.metrics().partitions[0].queued_bytes;
    assert!((10_000..=27_500).contains(&still), "{still}");
    assert_eq!(next(streams.get_mut(&0).unwrap(), 200).await.len(), 200);
    let log: usize = world
        .lock()
        .unwrap()
        .logs
        .values()
        .flatten()
        .map(|(_, _, b)| b.len())
        .sum();
    assert_eq!(world.lock().unwrap().fetched_bytes, log);
}

#[tokio::test(start_paused = true)]
async fn an_eager_group_waits_for_each_stream_and_what_it_commits() {
    let (cluster, world) = start(1, 2);
    for partition in 0..2 {
        append(&world, partition, 10);
    }
    let consumer = consumer(
        &cluster,
        ConsumerConfig {
            enable_auto_commit: false,
            ..group_config()
        },
    );
    let (mut partitions, mut streams) = join(&consumer, 2).await;
    for stream in streams.values_mut() {
        next(stream, 5).await;
    }
    events(&world);
    assign(&cluster, &world, &[1]);
    rebalance(&world);
    sleep(Duration::from_secs(4)).await;
    // Each is told, and has what it needs to end in order.
    for stream in streams.values_mut() {
        assert_eq!(ended(stream).await, StreamEnd::Revoked);
    }
    sleep(Duration::from_secs(30)).await;
    let first = streams.get_mut(&0).unwrap();
    first.commit().await.unwrap();
    streams.remove(&0);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(events(&world), ["commit 0@5"], "one of them is not done");
    streams.remove(&1);
    // The other committed nothing, and comes again.
    let mut streams = take(&mut partitions, 1).await;
    assert_eq!(
        next(streams.get_mut(&1).unwrap(), 10).await,
        (0..10).collect::<Vec<_>>()
    );
    assert_eq!(assigned(&consumer), [1]);
    assert_eq!(events(&world), ["join", "sync"]);
}

#[tokio::test(start_paused = true)]
async fn a_cooperative_group_ends_the_streams_that_go_elsewhere_alone() {
    let (cluster, world) = start(1, 3);
    for partition in 0..3 {
        append(&world, partition, 10);
    }
    assign(&cluster, &world, &[0, 1]);
    let consumer = consumer(
        &cluster,
        ConsumerConfig {
            assignors: vec![Arc::new(CooperativeSticky)],
            ..group_config()
        },
    );
    let (mut partitions, mut streams) = join(&consumer, 2).await;
    for stream in streams.values_mut() {
        next(stream, 4).await;
    }
    assign(&cluster, &world, &[0, 2]);
    rebalance(&world);
    sleep(Duration::from_secs(4)).await;
    let mut new = take(&mut partitions, 1).await;
    assert_eq!(next(new.get_mut(&2).unwrap(), 10).await.len(), 10);
    assert_eq!(
        next(streams.get_mut(&0).unwrap(), 6).await,
        [4, 5, 6, 7, 8, 9]
    );
    assert_eq!(
        assigned(&consumer),
        [0, 1, 2],
        "the other one is at its records"
    );
    let going = streams.get_mut(&1).unwrap();
    assert_eq!(going.end(), Some(StreamEnd::Revoked));
    assert_eq!(ended(going).await, StreamEnd::Revoked);
    streams.remove(&1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(assigned(&consumer), [0, 2]);
    let committed = world.lock().unwrap().committed.clone();
    assert_eq!(
        committed[&1], 4,
        "it came back, so it was done: {committed:?}"
    );
    assert!(streams.get_mut(&0).unwrap().end().is_none());
    append(&world, 0, 1);
    assert_eq!(next(streams.get_mut(&0).unwrap(), 1).await, [10]);
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_in_a_rebalance_has_not_said_that_it_is_done() {
    let (cluster, world) = start(1, 2);
    append(&world, 1, 10);
    assign(&cluster, &world, &[0, 1]);
    let consumer = consumer(
        &cluster,
        ConsumerConfig {
            assignors: vec![Arc::new(CooperativeSticky)],
            ..group_config()
        },
    );
    let (_partitions, mut streams) = join(&consumer, 2).await;
    next(streams.get_mut(&1).unwrap(), 4).await;
    assign(&cluster, &world, &[0]);
    rebalance(&world);
    sleep(Duration::from_secs(4)).await;
    streams.remove(&1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(assigned(&consumer), [0]);
    assert_eq!(world.lock().unwrap().committed[&1], 3);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stands_still_costs_the_place_in_the_group_until_it_comes_back() {
    let (cluster, world) = start(1, 2);
    for partition in 0..2 {
        append(&world, partition, 100);
    }
    let consumer = consumer(
        &cluster,
        ConsumerConfig {
            max_poll_interval: Duration::from_secs(60),
            enable_auto_commit: false,
            ..group_config()
        },
    );
    let (mut partitions, mut streams) = join(&consumer, 2).await;
    let mut stuck = streams.remove(&0).unwrap();
    let mut lively = streams.remove(&1).unwrap();
    let record = stuck.recv().await.unwrap().unwrap();
    // A record a minute or a commit in between is progress.
    for _ in 0..3 {
        sleep(Duration::from_secs(40)).await;
        next(&mut lively, 1).await;
        next(&mut stuck, 1).await;
        sleep(Duration::from_secs(40)).await;
        next(&mut lively, 1).await;
        stuck.commit_record(&record).await.unwrap();
    }
    assert_eq!(
        events(&world)
            .iter()
            .filter(|event| *event == "leave")
            .count(),
        0
    );
    // The lively one reads on, and still.
    for _ in 0..7 {
        sleep(Duration::from_secs(10)).await;
        if lively.end().is_none() {
            next(&mut lively, 1).await;
        }
    }
    assert_eq!(events(&world), ["leave"]);
    assert_eq!(ended(&mut lively).await, StreamEnd::Lost);
    drop(lively);
    sleep(Duration::from_secs(600)).await;
    assert_eq!(
        events(&world),
        Vec::<String>::new(),
        "one of them has not come back"
    );
    assert_eq!(stuck.end(), Some(StreamEnd::Lost));
    let late = stuck.commit().await.unwrap_err();
    assert!(matches!(late, Error::NotAssigned(_)), "{late}");
    drop(stuck);
    let mut streams = take(&mut partitions, 2).await;
    assert_eq!(
        next(streams.get_mut(&0).unwrap(), 1).await,
        [1],
        "behind the commit"
    );
    assert_eq!(events(&world), ["member id", "join", "sync"]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_nobody_takes_counts_as_stuck() {
    let (cluster, world) = start(1, 2);
    let consumer = consumer(&cluster, group_config());
    let (mut partitions, mut streams) = join(&consumer, 1).await;
    let waiting = tokio::spawn(async move {
        for stream in streams.values_mut() {
            assert!(stream.recv().await.unwrap().is_none());
            assert_eq!(stream.end(), Some(StreamEnd::Lost));
        }
    });
    sleep(Duration::from_secs(303)).await;
    assert_eq!(events(&world).last().unwrap(), "leave");
    assert!(waiting.is_finished());
    sleep(Duration::from_secs(600)).await;
    assert_eq!(events(&world), Vec::<String>::new());
    assert_eq!(take(&mut partitions, 2).await.len(), 2, "somebody does");
}

#[tokio::test(start_paused = true)]
async fn streams_that_wait_keep_their_place_for_ever() {
    let (cluster, world) = start(1, 2);
    let consumer = consumer(&cluster, group_config());
    let (_partitions, streams) = join(&consumer, 2).await;
    for (_, mut stream) in streams {
        tokio::spawn(async move { stream.recv().await });
    }
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(events(&world), ["member id", "join", "sync"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_task_dies_with_comes_again_from_memory() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 10);
    append(&world, 0, 10);
    let consumer = by_hand(&cluster, 1);
    let mut partitions = consumer.split().unwrap();
    let mut stream = take(&mut partitions, 1).await.remove(&0).unwrap();
    next(&mut stream, 4).await;
    drop(stream);
    let mut stream = take(&mut partitions, 1).await.remove(&0).unwrap();
    assert_eq!(
        next(&mut stream, 2).await,
        [3, 4],
        "it may not have been done with 3"
    );
    stream.finish();
    let mut stream = take(&mut partitions, 1).await.remove(&0).unwrap();
    let batch = stream.next_batch().await.unwrap().unwrap();
    let first = batch.records().next().unwrap().unwrap().offset();
    assert_eq!(first, 5);
    drop((stream, batch));
    let mut stream = take(&mut partitions, 1).await.remove(&0).unwrap();
    assert_eq!(next(&mut stream, 15).await, (5..20).collect::<Vec<_>>());
    // Waiting for more, it is done.
    assert!(
        timeout(Duration::from_secs(1), stream.recv())
            .await
            .is_err()
    );
    drop(stream);
    append(&world, 0, 1);
    let mut stream = take(&mut partitions, 1).await.remove(&0).unwrap();
    assert_eq!(next(&mut stream, 1).await, [20]);
    let log: usize = world.lock().unwrap().logs[&0]
        .iter()
        .map(|(_, _, b)| b.len())
        .sum();
    assert_eq!(world.lock().unwrap().fetched_bytes, log);
}

#[tokio::test(start_paused = true)]
async fn what_was_committed_does_not_come_again() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 10);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    let mut partitions = consumer.split().unwrap();
    let mut stream = take(&mut partitions, 1).await.remove(&0).unwrap();
    next(&mut stream, 2).await;
    let record = stream.recv().await.unwrap().unwrap();
    stream.commit_record(&record).await.unwrap();
    assert_eq!(world.lock().unwrap().committed[&0], 3);
    drop(stream);
    let mut stream = take(&mut partitions, 1).await.remove(&0).unwrap();
    let batch = stream.next_batch().await.unwrap().unwrap();
    assert_eq!(batch.records().next().unwrap().unwrap().offset(), 3);
    stream.commit_batch(&batch).await.unwrap();
    assert_eq!(world.lock().unwrap().committed[&0], 10);
    // Automatic commit does not go back to where the stream came.
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.lock().unwrap().committed[&0], 10);
    let other = TopicPartition::new("other", 0);
    assert_ne!(*stream.topic_partition(), other);
}

#[tokio::test(start_paused = true)]
async fn automatic_commit_goes_by_what_each_stream_is_done_with() {
    let (cluster, world) = start(1, 2);
    for partition in 0..2 {
        append(&world, partition, 10);
    }
    let consumer = consumer(&cluster, group_config());
    let (_partitions, mut streams) = join(&consumer, 2).await;
    next(streams.get_mut(&0).unwrap(), 3).await;
    next(streams.get_mut(&1).unwrap(), 7).await;
    sleep(Duration::from_secs(6)).await;
    assert_eq!(
        world.lock().unwrap().committed,
        BTreeMap::from([(0, 2), (1, 6)])
    );
    // A call by somebody else says nothing of them, and writes what they are done with.
    consumer.commit().await.unwrap();
    assert_eq!(
        world.lock().unwrap().committed,
        BTreeMap::from([(0, 2), (1, 6)])
    );
    next(streams.get_mut(&0).unwrap(), 1).await;
    consumer.commit().await.unwrap();
    assert_eq!(
        world.lock().unwrap().committed,
        BTreeMap::from([(0, 3), (1, 6)])
    );
    let first = streams.get_mut(&0).unwrap();
    assert!(
        timeout(Duration::from_secs(20), next(first, 7))
            .await
            .is_err()
    );
    assert_eq!(
        world.lock().unwrap().committed,
        BTreeMap::from([(0, 10), (1, 6)])
    );
}

#[tokio::test(start_paused = true)]
async fn stored_offsets_are_what_automatic_commit_writes() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 10);
    let consumer = consumer(
        &cluster,
        ConsumerConfig {
            enable_auto_offset_store: false,
            ..group_config()
        },
    );
    consumer.subscribe([TOPIC]).unwrap();
    let mut partitions = consumer.split().unwrap();
    let mut stream = take(&mut partitions, 1).await.remove(&0).unwrap();
    let record = stream.recv().await.unwrap().unwrap();
    next(&mut stream, 4).await;
    sleep(Duration::from_secs(6)).await;
    assert!(world.lock().unwrap().committed.is_empty());
    stream.store_offset(&record).unwrap();
    sleep(Duration::from_secs(6)).await;
    assert_eq!(world.lock().unwrap().committed[&0], 1);
    let batch = stream.next_batch().await.unwrap().unwrap();
    stream.store_batch(&batch).unwrap();
    drop(stream);
    consumer.close(LONG).await.unwrap();
    assert_eq!(world.lock().unwrap().committed[&0], 10);
}

#[tokio::test(start_paused = true)]
async fn a_close_waits_for_the_streams_and_their_commits() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 10);
    let consumer = consumer(
        &cluster,
        ConsumerConfig {
            enable_auto_commit: false,
            ..group_config()
        },
    );
    let (mut partitions, mut streams) = join(&consumer, 2).await;
    let mut busy = streams.remove(&0).unwrap();
    let waiting = tokio::spawn(async move {
        for stream in streams.values_mut() {
            assert_eq!(ended(stream).await, StreamEnd::Closed);
        }
    });
    let taking = tokio::spawn(async move { partitions.next_partition().await.map(drop) });
    next(&mut busy, 5).await;
    events(&world);
    let closing = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.close(LONG).await }
    });
    sleep(Duration::from_secs(2)).await;
    assert!(!closing.is_finished(), "one is at its records");
    assert_eq!(ended(&mut busy).await, StreamEnd::Closed);
    busy.commit().await.unwrap();
    drop(busy);
    closing.await.unwrap().unwrap();
    waiting.await.unwrap();
    assert!(matches!(taking.await.unwrap(), Err(Error::Closed)));
    assert_eq!(events(&world), ["commit 0@5", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn a_close_does_not_wait_for_ever() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 10);
    let consumer = consumer(&cluster, group_config());
    let (_partitions, mut streams) = join(&consumer, 1).await;
    let stuck = streams.get_mut(&0).unwrap();
    next(stuck, 5).await;
    events(&world);
    consumer.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!(
        events(&world),
        ["commit 0@4", "leave"],
        "it may not be done with the last"
    );
    assert!(stuck.commit().await.is_err());
    assert_eq!(ended(stuck).await, StreamEnd::Closed);
}

#[tokio::test(start_paused = true)]
async fn without_its_streams_the_consumer_is_what_it_was() {
    let (cluster, world) = start(1, 2);
    for partition in 0..2 {
        append(&world, partition, 10);
    }
    let consumer = by_hand(&cluster, 2);
    read(&consumer, 3).await;
    let mut partitions = consumer.split().unwrap();
    let used = consumer.recv().await.unwrap_err();
    assert!(matches!(used, Error::Usage(_)), "{used}");
    assert!(consumer.split().is_err());
    let mut streams = take(&mut partitions, 2).await;
    let mut rest = Vec::new();
    for (partition, stream) in &mut streams {
        let position = consumer.position(&tp(*partition)).unwrap().unwrap();
        let first = next(stream, 2).await;
        assert_eq!(first[0], position);
        rest.push((*partition, first[1] + 1));
    }
    drop(partitions);
    for stream in streams.values_mut() {
        assert_eq!(ended(stream).await, StreamEnd::Closed);
    }
    assert!(consumer.recv().await.is_err());
    drop(streams);
    let left: i64 = rest.iter().map(|(_, next)| 10 - next).sum();
    let read = by_partition(&read(&consumer, left as usize).await);
    for (partition, next) in rest {
        assert_eq!(read[&partition], (next..10).collect::<Vec<_>>());
    }
    let log: usize = world
        .lock()
        .unwrap()
        .logs
        .values()
        .flatten()
        .map(|(_, _, b)| b.len())
        .sum();
    assert_eq!(world.lock().unwrap().fetched_bytes, log);
    let _again = consumer.split().unwrap();
}

#[tokio::test(start_paused = true)]
async fn trouble_with_a_partition_is_its_streams_alone() {
    let (cluster, world) = start(1, 2);
    for partition in 0..2 {
        append(&world, partition, 5);
        append(&world, partition, 5);
    }
    damage(&world, 1, 5);
    let consumer = by_hand(&cluster, 2);
    let mut partitions = consumer.split().unwrap();
    let mut streams = take(&mut partitions, 2).await;
    assert_eq!(next(streams.get_mut(&0).unwrap(), 10).await.len(), 10);
    let hurt = streams.get_mut(&1).unwrap();
    assert_eq!(next(hurt, 5).await.len(), 5);
    for _ in 0..2 {
        let error = timeout(LONG, hurt.recv()).await.unwrap().unwrap_err();
        assert!(
            matches!(error, Error::Unreadable { offset: 5, .. }),
            "{error}"
        );
    }
    hurt.seek(Offset::At(10)).unwrap();
    append(&world, 1, 1);
    assert_eq!(next(hurt, 1).await, [10]);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_refuses_is_told_to_who_takes_partitions() {
    use ottla_wire::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
    let (cluster, _world) = start(1, 1);
    cluster.broker(1).on::<JoinGroupRequest>(|_, _| {
        JoinGroupResponse {
            error_code: ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
            ..Default::default()
        }
        .into()
    });
    let consumer = consumer(&cluster, group_config());
    let mut partitions = consumer.split().unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    let told = timeout(LONG, partitions.next_partition()).await.unwrap();
    assert!(matches!(told, Err(Error::Group { .. })), "{told:?}");
}

/// Notes what it hears, and seeks what it is given.
#[derive(Debug, Default)]
struct Listener {
    heard: Mutex<Vec<&'static str>>,
}

impl RebalanceListener for Listener {
    fn partitions_assigned<'a>(
        &'a self,
        consumer: &'a Consumer,
        partitions: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        Box::pin(async move {
            sleep(Duration::from_secs(5)).await;
            for partition in partitions {
                consumer.seek(partition, Offset::At(7)).unwrap();
            }
            self.heard.lock().unwrap().push("assigned");
        })
    }

    fn partitions_revoked<'a>(
        &'a self,
        _: &'a Consumer,
        _: &'a [TopicPartition],
    ) -> ListenerFuture<'a> {
        self.heard.lock().unwrap().push("revoked");
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test(start_paused = true)]
async fn the_listener_comes_before_the_first_record_and_after_the_last() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 10);
    let listener = Arc::new(Listener::default());
    let consumer = consumer(
        &cluster,
        ConsumerConfig {
            rebalance_listener: Some(listener.clone()),
            ..group_config()
        },
    );
    consumer.subscribe([TOPIC]).unwrap();
    let mut partitions = consumer.split().unwrap();
    let mut stream = take(&mut partitions, 1).await.remove(&0).unwrap();
    assert_eq!(next(&mut stream, 1).await, [7]);
    assert_eq!(*listener.heard.lock().unwrap(), ["assigned"]);
    let leaving = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.unsubscribe().await }
    });
    sleep(Duration::from_millis(1)).await;
    assert_eq!(ended(&mut stream).await, StreamEnd::Revoked);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(*listener.heard.lock().unwrap(), ["assigned"]);
    drop(stream);
    leaving.await.unwrap().unwrap();
    assert_eq!(*listener.heard.lock().unwrap(), ["assigned", "revoked"]);
    assert_eq!(world.lock().unwrap().committed[&0], 8);
}

/// Whoever splits while the group takes partitions back gets no stream of those.
#[tokio::test(start_paused = true)]
async fn what_is_being_given_up_is_not_offered_by_a_split() {
    for cooperates in [false, true] {
        for again in [false, true] {
            let (cluster, world) = start(1, 2);
            for partition in 0..2 {
                append(&world, partition, 10);
            }
            assign(&cluster, &world, &[0, 1]);
            let assignors: Vec<Arc<dyn Assignor>> = match cooperates {
                true => vec![Arc::new(CooperativeSticky)],
                false => group_config().assignors,
            };
            let consumer = consumer(
                &cluster,
                ConsumerConfig {
                    assignors,
                    ..group_config()
                },
            );
            let mut going = 1;
            let held = match again {
                // It was split before, and its streams have not ended when the revocation begins.
                true => {
                    let (partitions, mut streams) = join(&consumer, 2).await;
                    for stream in streams.values_mut() {
                        next(stream, 4).await;
                        stream.mark_processed();
                    }
                    Some((partitions, streams))
                }
                false => {
                    consumer.subscribe([TOPIC]).unwrap();
                    // The one whose record it has in its hands.
                    going = read(&consumer, 14).await[13].0;
                    None
                }
            };
            let kept = 1 - going;
            events(&world);
            assign(&cluster, &world, &[kept]);
            rebalance(&world);
            sleep(Duration::from_secs(4)).await;
            assert_eq!(assigned(&consumer), [0, 1], "it is at its records");
            drop(held);
            let mut partitions = consumer.split().unwrap();
            let mut streams = BTreeMap::new();
            for _ in 0..20 {
                if let Ok(stream) =
                    timeout(Duration::from_millis(100), partitions.next_partition()).await
                {
                    let stream = stream.unwrap();
                    assert!(streams.insert(stream.partition(), stream).is_none());
                }
            }
            let told = format!("cooperates: {cooperates}, again: {again}");
            assert_eq!(streams.keys().collect::<Vec<_>>(), [&kept], "{told}");
            assert_eq!(assigned(&consumer), [kept], "{told}");
            let events = events(&world);
            assert!(events.contains(&"join".to_owned()), "{told}: {events:?}");
            let committed = world.lock().unwrap().committed.clone();
            append(&world, kept, 10);
            let stream = streams.get_mut(&kept).unwrap();
            if !cooperates {
                assert_eq!(next(stream, 1).await, [committed[&kept]], "{told}");
            } else {
                next(stream, 1).await;
            }
            assert_eq!(stream.end(), None);
        }
    }
}
