//! Ends of partitions, offsets stored and committed by hand, and the numbers a consumer gives of itself.

use std::time::Duration;

use ottla_consumer::{CommittedOffset, ConsumerConfig, Error, IsolationLevel, Offset};

use crate::support::*;
use ottla_net::testing::Reply;
use ottla_wire::{
    ErrorCode,
    messages::{join_group::JoinGroupRequest, offset_commit::OffsetCommitRequest},
};

#[tokio::test(start_paused = true)]
async fn the_end_of_a_partition_is_told_each_time_it_is_reached() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 2);
    for isolation_level in [
        IsolationLevel::ReadUncommitted,
        IsolationLevel::ReadCommitted,
    ] {
        let config = ConsumerConfig {
            enable_partition_eof: true,
            isolation_level,
            ..config()
        };
        let consumer = consumer(&cluster, config);
        let next = async || {
            tokio::time::timeout(Duration::from_secs(9), consumer.recv())
                .await
                .map(|next| match next {
                    Ok(record) => Ok((record.partition(), record.offset())),
                    Err(Error::PartitionEof { partition, offset }) => {
                        Err((partition.partition, offset))
                    }
                    Err(error) => panic!("{error}"),
                })
        };
        let end = world.lock().unwrap().end(0);
        consumer.assign([(tp(0), Offset::At(end - 2))]).unwrap();
        assert_eq!(next().await, Ok(Ok((0, end - 2))));
        assert_eq!(next().await, Ok(Ok((0, end - 1))));
        assert_eq!(next().await, Ok(Err((0, end))));
        assert!(next().await.is_err(), "once");
        append(&world, 0, 1);
        assert_eq!(next().await, Ok(Ok((0, end))));
        assert_eq!(next().await, Ok(Err((0, end + 1))));
        // Also of one that is empty, and again after a seek.
        consumer
            .incremental_assign([(tp(1), Offset::Beginning)])
            .unwrap();
        assert_eq!(next().await, Ok(Err((1, 0))));
        consumer.seek(&tp(0), Offset::End).unwrap();
        assert_eq!(next().await, Ok(Err((0, end + 1))));
        assert!(next().await.is_err(), "once");
    }
}

/// `enable.partition.eof`, of streams of single partitions: each hears of the end of its own.
#[tokio::test(start_paused = true)]
async fn a_stream_is_told_of_its_partition_s_end_each_time_it_is_reached() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 2);
    let config = ConsumerConfig {
        enable_partition_eof: true,
        ..config()
    };
    let consumer = consumer(&cluster, config);
    consumer
        .assign([(tp(0), Offset::Beginning), (tp(1), Offset::Beginning)])
        .unwrap();
    let mut partitions = consumer.split().unwrap();
    let mut streams = std::collections::BTreeMap::new();
    for _ in 0..2 {
        let stream = partitions.next_partition().await.unwrap();
        streams.insert(stream.partition(), stream);
    }
    let mut next = async |partition: i32| {
        let stream = streams.get_mut(&partition).unwrap();
        let next = tokio::time::timeout(Duration::from_secs(9), stream.recv()).await;
        next.ok().map(|next| match next {
            Ok(record) => Ok(record.unwrap().offset()),
            Err(Error::PartitionEof {
                partition: of,
                offset,
            }) => {
                assert_eq!(of, tp(partition));
                Err(offset)
            }
            Err(error) => panic!("{error}"),
        })
    };
    assert_eq!(next(1).await, Some(Err(0)));
    assert_eq!(next(0).await, Some(Ok(0)));
    assert_eq!(next(0).await, Some(Ok(1)));
    assert_eq!(next(0).await, Some(Err(2)));
    assert_eq!(next(0).await, None, "once");
    assert_eq!(next(1).await, None, "once");
    append(&world, 0, 1);
    assert_eq!(next(0).await, Some(Ok(2)));
    assert_eq!(next(0).await, Some(Err(3)));
    assert_eq!(next(1).await, None, "nothing new there");
}

#[tokio::test(start_paused = true)]
async fn only_what_is_stored_is_committed_by_itself() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 9);
    let config = ConsumerConfig {
        enable_auto_offset_store: false,
        auto_commit_interval: Duration::from_secs(1),
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    let committed = || world.lock().unwrap().committed.get(&0).copied();
    let second = async || {
        consumer.recv().await.unwrap();
        consumer.recv().await.unwrap()
    };
    let record = second().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(committed(), None, "handed out is not stored");
    consumer.store_offset(&record).unwrap();
    second().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(committed(), Some(2));
    let told = CommittedOffset {
        offset: 3,
        leader_epoch: None,
        metadata: "half way".into(),
    };
    consumer.store_offsets([(tp(0), told)]).unwrap();
    consumer.commit_stored().await.unwrap();
    assert_eq!(committed(), Some(3));
    assert_eq!(world.lock().unwrap().metadata, "half way");
    consumer.store_offsets([(tp(0), 4.into())]).unwrap();
    consumer.close(Duration::from_secs(5)).await.unwrap();
    assert_eq!(committed(), Some(4), "also when it closes");

    let other = crate::support::consumer(&cluster, group_config());
    let refused = other.store_offsets([(tp(0), 1.into())]);
    assert!(matches!(refused, Err(Error::Usage(_))));
}

#[tokio::test(start_paused = true)]
async fn a_record_and_a_batch_are_committed_by_themselves() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 4);
    append(&world, 0, 4);
    let config = ConsumerConfig {
        enable_auto_commit: false,
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    let committed = || world.lock().unwrap().committed.get(&0).copied();
    let record = consumer.recv().await.unwrap();
    consumer.recv().await.unwrap();
    consumer.commit_record(&record).await.unwrap();
    assert_eq!(committed(), Some(1));
    let batches = consumer.poll(Duration::from_secs(1)).await.unwrap();
    consumer.commit_batch(&batches[0]).await.unwrap();
    assert_eq!(committed(), Some(4));
    let started = consumer.commit_offsets_async([(tp(0), 7.into())]).unwrap();
    started.await.unwrap();
    assert_eq!(committed(), Some(7));
    assert_eq!(consumer.query_watermarks(&tp(0)).await.unwrap(), 0..8);
}

#[tokio::test(start_paused = true)]
async fn automatic_commit_takes_nothing_back_that_was_committed_by_hand() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 9);
    let config = ConsumerConfig {
        auto_commit_interval: Duration::from_secs(1),
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    let commits = || {
        let events = std::mem::take(&mut world.lock().unwrap().events);
        let commits = events.into_iter().filter(|e| e.starts_with("commit"));
        commits.collect::<Vec<_>>()
    };
    consumer.recv().await.unwrap();
    let second = consumer.recv().await.unwrap();
    // To automatic commit the application may still be at the second one.
    consumer.commit_record(&second).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(commits(), ["commit 0@2"]);
    consumer.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(commits().is_empty(), "that is there already");
    consumer.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(commits(), ["commit 0@3"]);

    // What was refused is nothing to stay ahead of, and a seek is a new beginning.
    let w = world.clone();
    cluster
        .broker(1)
        .on::<OffsetCommitRequest>(move |request, _| {
            let too_far = request.topics[0].partitions[0].committed_offset > 8;
            let error = match too_far {
                true => ErrorCode::OFFSET_METADATA_TOO_LARGE,
                false => ErrorCode::NONE,
            };
            w.lock().unwrap().commit(&request, error).into()
        });
    let refused = consumer.commit_offsets([(tp(0), 9.into())]).await;
    assert!(matches!(refused, Err(Error::CommitRefused { .. })));
    consumer.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(commits(), ["commit 0@4"]);
    consumer.commit_offsets([(tp(0), 8.into())]).await.unwrap();
    consumer.seek(&tp(0), Offset::At(1)).unwrap();
    consumer.recv().await.unwrap();
    consumer.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(commits(), ["commit 0@8", "commit 0@2"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_before_is_not_committed_behind_a_commit() {
    for split in [false, true] {
        let (cluster, world) = start(1, 1);
        append(&world, 0, 9);
        let config = ConsumerConfig {
            enable_auto_offset_store: false,
            auto_commit_interval: Duration::from_secs(1),
            ..group_config()
        };
        let consumer = consumer(&cluster, config);
        consumer.subscribe([TOPIC]).unwrap();
        if split {
            let mut partitions = consumer.split().unwrap();
            let mut stream = partitions.next_partition().await.unwrap();
            let first = stream.recv().await.unwrap().unwrap();
            stream.store_offset(&first).unwrap();
            let second = stream.recv().await.unwrap().unwrap();
            stream.commit_record(&second).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
        } else {
            let first = consumer.recv().await.unwrap();
            consumer.store_offset(&first).unwrap();
            let second = consumer.recv().await.unwrap();
            consumer.commit_record(&second).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(world.lock().unwrap().committed[&0], 2, "split: {split}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_numbers_add_up() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 5);
    let config = ConsumerConfig {
        enable_auto_commit: false,
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 3).await;
    consumer.commit().await.unwrap();
    consumer.pause(&[tp(1)]).unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let metrics = consumer.metrics();
    assert!(metrics.polls >= 3 && metrics.fetches > 0 && metrics.heartbeats >= 3);
    let fetched = world.lock().unwrap().fetched_bytes as u64;
    assert_eq!(metrics.fetched_bytes, fetched);
    assert_eq!((metrics.commits, metrics.commit_failures), (1, 0));
    let sizes = &metrics.fetch_size;
    assert_eq!((sizes.count(), sizes.sum()), (1, fetched));
    assert_eq!(sizes.max(), fetched);
    // Long polls that brought nothing are most of the time, and none of the latency.
    assert_eq!(metrics.fetch_latency.count(), 1);
    assert!(metrics.fetch_latency.time(1.0) < Duration::from_millis(1));
    assert!(metrics.fetch_time > Duration::from_secs(9));
    assert_eq!(metrics.commit_latency.count(), 1);
    assert_eq!((metrics.rebalances, metrics.partitions_assigned), (1, 2));
    assert_eq!(metrics.rebalance_latency.count(), 1);
    let [first, second] = &metrics.partitions[..] else {
        panic!("{metrics:?}")
    };
    assert_eq!((first.position, first.lag), (Some(3), Some(2)));
    assert_eq!((second.lag, second.paused), (Some(0), true));
    assert_eq!(first.watermarks.unwrap().high, 5);
    cluster.broker(1).fall_silent();
    assert!(consumer.close(Duration::from_secs(1)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn latencies_are_those_of_the_coordinator_and_the_leader() {
    let (cluster, world) = start(1, 1);
    let broker = cluster.broker(1);
    let config = ConsumerConfig {
        enable_auto_commit: false,
        // Leaves its group without a word.
        group_instance_id: Some("one".into()),
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    // Nobody else joins, and the group waits for that.
    broker.on::<JoinGroupRequest>(|_, _| Reply::Skip);
    consumer.subscribe([TOPIC]).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    consumer.unsubscribe().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    // What nobody waited for does not count.
    serve(&cluster, &world, 1);
    consumer.subscribe([TOPIC]).unwrap();
    append(&world, 0, 5);
    read(&consumer, 5).await;
    let metrics = consumer.metrics();
    assert_eq!(metrics.rebalance_latency.count(), 1);
    assert!(
        metrics.rebalance_time < Duration::from_secs(60),
        "{metrics:?}"
    );
    let micros = metrics.rebalance_latency.sum();
    assert_eq!(metrics.rebalance_time, Duration::from_micros(micros));

    let delay = Duration::from_millis(40);
    let of = world.clone();
    broker.on::<OffsetCommitRequest>(move |request, _| {
        let answer = of.lock().unwrap().commit(&request, ErrorCode::NONE);
        Reply::after(delay, answer)
    });
    consumer.commit().await.unwrap();
    consumer.commit().await.unwrap();
    let metrics = consumer.metrics();
    assert_eq!((metrics.commits, metrics.commit_latency.count()), (2, 2));
    let (least, most) = (delay.as_micros() as f64, delay.as_micros() as f64 * 1.1);
    let mean = metrics.commit_latency.mean();
    assert!((least..most).contains(&mean), "{mean}");
    // Two answers that bring records, at different times.
    append(&world, 0, 2);
    read(&consumer, 2).await;
    let metrics = consumer.metrics();
    assert_eq!(metrics.fetch_size.count(), 2);
    assert_eq!(metrics.fetch_size.sum(), metrics.fetched_bytes);
    assert_eq!(metrics.fetch_latency.count(), 2);
    assert!(metrics.fetch_time >= Duration::from_micros(metrics.fetch_latency.sum()));
}
