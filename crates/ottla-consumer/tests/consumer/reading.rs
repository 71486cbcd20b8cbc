//! Reading assigned partitions, over scripted brokers and with a paused clock.

use std::time::Duration;

use crate::support::*;
use ottla_consumer::{ConsumerConfig, Error, Offset, OffsetReset, TimestampType};
use ottla_net::testing::Reply;
use ottla_wire::{
    ApiKey, ErrorCode,
    compress::Compression,
    messages::fetch::{FetchRequest, FetchResponse},
};

#[tokio::test(start_paused = true)]
async fn every_codec_is_read_in_order_from_both_brokers() {
    let (cluster, world) = start(2, 2);
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for codec in codecs {
        append_with(&world, 0, 20, codec, 50);
        append_with(&world, 1, 20, codec, 50);
    }
    let consumer = consumer(&cluster, config());
    consumer
        .assign([(tp(0), Offset::Beginning), (tp(1), Offset::At(10))])
        .unwrap();
    let read = by_partition(&read(&consumer, 190).await);
    assert_eq!(read[&0], (0..100).collect::<Vec<_>>());
    assert_eq!(read[&1], (10..100).collect::<Vec<_>>());
    assert_eq!(consumer.position(&tp(1)).unwrap(), Some(100));
    assert_eq!(consumer.lag(&tp(0)).unwrap(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn poll_hands_out_at_most_what_was_asked_for_and_nothing_twice() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 30);
    append(&world, 0, 5);
    let consumer = consumer(
        &cluster,
        ConsumerConfig {
            max_poll_records: 8,
            ..config()
        },
    );
    consumer.assign([(tp(0), Offset::At(3))]).unwrap();
    let mut offsets = Vec::new();
    while offsets.len() < 32 {
        let batches = consumer.poll(Duration::from_secs(5)).await.unwrap();
        let before = offsets.len();
        for batch in &batches {
            offsets.extend(batch.records().map(|record| record.unwrap().offset()));
        }
        assert!((1..=8).contains(&(offsets.len() - before)));
        assert_eq!(
            consumer.position(&tp(0)).unwrap(),
            Some(offsets.last().unwrap() + 1)
        );
    }
    assert_eq!(offsets, (3..35).collect::<Vec<_>>());
    assert!(
        consumer
            .poll(Duration::from_millis(50))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn dropped_calls_lose_nothing() {
    let (cluster, world) = start(1, 1);
    let consumer = consumer(&cluster, config());
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    let mut offsets = Vec::new();
    for round in 0..40 {
        if round % 3 == 0 {
            append(&world, 0, 4);
        }
        // Cut off at any point: before, while and after records come.
        let cut = Duration::from_millis(37 * (round % 7));
        if let Ok(record) = tokio::time::timeout(cut, consumer.recv()).await {
            offsets.push(record.unwrap().offset());
        }
    }
    let left = world.lock().unwrap().end(0) as usize - offsets.len();
    offsets.extend(read(&consumer, left).await.iter().map(|(_, offset)| offset));
    assert_eq!(offsets, (0..56).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_seek_while_a_fetch_is_out_wins() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 10);
    append(&world, 0, 10);
    let consumer = consumer(&cluster, config());
    consumer.assign([(tp(0), Offset::At(20))]).unwrap();
    // A fetch for offset 20 is waiting at the broker.
    assert!(
        consumer
            .poll(Duration::from_millis(100))
            .await
            .unwrap()
            .is_empty()
    );
    append(&world, 0, 10);
    consumer.seek(&tp(0), Offset::At(5)).unwrap();
    assert_eq!(consumer.position(&tp(0)).unwrap(), Some(5));
    assert_eq!(read(&consumer, 25).await[0], (0, 5));
    // In the middle of a batch, and back.
    consumer.seek(&tp(0), Offset::Tail(2)).unwrap();
    assert_eq!(read(&consumer, 2).await, [(0, 28), (0, 29)]);
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_batch_is_named_and_can_be_sought_past() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 5);
    append(&world, 0, 5);
    append(&world, 0, 5);
    damage(&world, 0, 5);
    let consumer = consumer(&cluster, config());
    consumer
        .assign([(tp(0), Offset::Beginning), (tp(1), Offset::Beginning)])
        .unwrap();
    assert_eq!(read(&consumer, 5).await.last(), Some(&(0, 4)));
    for _ in 0..2 {
        match consumer.recv().await {
            Err(Error::Unreadable {
                partition, offset, ..
            }) => {
                assert_eq!((partition, offset), (tp(0), 5));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            consumer.position(&tp(0)).unwrap(),
            Some(5),
            "not skipped in silence"
        );
    }
    // The other partition goes on meanwhile.
    append(&world, 1, 1);
    loop {
        match consumer.recv().await {
            Ok(record) => break assert_eq!(record.partition(), 1),
            Err(Error::Unreadable { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    consumer.seek(&tp(0), Offset::At(10)).unwrap();
    assert_eq!(
        read(&consumer, 5).await,
        [(0, 10), (0, 11), (0, 12), (0, 13), (0, 14)]
    );
}

#[tokio::test(start_paused = true)]
async fn paused_partitions_keep_what_was_fetched() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 10);
    append(&world, 1, 10);
    let consumer = consumer(&cluster, config());
    consumer
        .assign([(tp(0), Offset::Beginning), (tp(1), Offset::Beginning)])
        .unwrap();
    let (first, offset) = read(&consumer, 1).await[0];
    assert_eq!(offset, 0);
    consumer.pause(&[tp(first)]).unwrap();
    let other = 1 - first;
    assert_eq!(by_partition(&read(&consumer, 10).await)[&other].len(), 10);
    assert!(
        consumer
            .poll(Duration::from_secs(2))
            .await
            .unwrap()
            .is_empty()
    );
    let before = world
        .lock()
        .unwrap()
        .fetches
        .iter()
        .filter(|(_, p, _)| *p == first)
        .count();
    consumer.resume(&[tp(first)]).unwrap();
    assert_eq!(
        by_partition(&read(&consumer, 9).await)[&first],
        (1..10).collect::<Vec<_>>()
    );
    let world = world.lock().unwrap();
    let from_start = world
        .fetches
        .iter()
        .filter(|(_, p, o)| *p == first && *o == 0)
        .count();
    assert!(
        from_start <= 1 && before >= 1,
        "nothing was downloaded twice: {:?}",
        world.fetches
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_keeps_the_budget_and_downloads_nothing_twice() {
    let (cluster, world) = start(1, 1);
    for _ in 0..200 {
        append_with(&world, 0, 10, Compression::None, 90);
    }
    let total: usize = world.lock().unwrap().logs[&0]
        .iter()
        .map(|(.., bytes)| bytes.len())
        .sum();
    let budget = 40_000;
    let config = ConsumerConfig {
        queued_bytes_max: budget,
        max_partition_fetch_bytes: 8_000,
        queued_partition_bytes_max: budget,
        ..config()
    };
    let consumer = consumer(&cluster, config);
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    for i in 0..200_usize {
        let handed_out = total / 200 * i;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let fetched = world.lock().unwrap().fetched_bytes;
        assert!(
            fetched <= handed_out + budget,
            "{fetched} fetched, {handed_out} handed out"
        );
        assert_eq!(read(&consumer, 10).await[9], (0, i as i64 * 10 + 9));
    }
    assert_eq!(world.lock().unwrap().fetched_bytes, total);
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_and_a_dead_connection_cost_no_record() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 3);
    cluster.broker(1).queue::<FetchRequest>([
        FetchResponse {
            error_code: ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
            ..Default::default()
        }
        .into(),
        FetchResponse {
            error_code: ErrorCode::INVALID_FETCH_SESSION_EPOCH,
            ..Default::default()
        }
        .into(),
        Reply::Close,
        Reply::Close,
    ]);
    let consumer = consumer(&cluster, config());
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    let early = consumer.poll(Duration::from_secs(2)).await.unwrap();
    assert!(early.is_empty());
    let tries = cluster.broker(1).count(ApiKey::Fetch);
    assert!((4..40).contains(&tries), "{tries} fetches in two seconds");
    serve_fetches(&cluster, &world, 1);
    assert_eq!(read(&consumer, 3).await, [(0, 0), (0, 1), (0, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_moved_leader_is_followed() {
    let (cluster, world) = start(2, 1);
    append(&world, 0, 3);
    let consumer = consumer(&cluster, config());
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    assert_eq!(read(&consumer, 3).await.len(), 3);
    cluster.move_leader(TOPIC, 0, 2);
    let refuser = world.clone();
    cluster.broker(1).on::<FetchRequest>(move |_, _| {
        refuser
            .lock()
            .unwrap()
            .refuse(0, ErrorCode::NOT_LEADER_OR_FOLLOWER)
            .into()
    });
    cluster
        .broker(2)
        .on::<ottla_wire::messages::offset_for_leader_epoch::OffsetForLeaderEpochRequest>(
            |request, _| {
                use ottla_wire::messages::offset_for_leader_epoch as epoch;
                let partition = &request.topics[0].partitions[0];
                assert_eq!(
                    (partition.current_leader_epoch, partition.leader_epoch),
                    (1, 0)
                );
                epoch::OffsetForLeaderEpochResponse {
                    topics: vec![epoch::OffsetForLeaderTopicResult {
                        topic: request.topics[0].topic.clone(),
                        partitions: vec![epoch::EpochEndOffset {
                            partition: 0,
                            leader_epoch: 0,
                            end_offset: 3,
                            ..Default::default()
                        }],
                        ..Default::default()
                    }],
                    ..Default::default()
                }
                .into()
            },
        );
    append(&world, 0, 3);
    assert_eq!(read(&consumer, 3).await, [(0, 3), (0, 4), (0, 5)]);
    let asked = world
        .lock()
        .unwrap()
        .fetches
        .iter()
        .filter(|(node, ..)| *node == 2)
        .count();
    assert!(asked > 0);
}

/// The new leader's log parts from the old one's in the middle of the batch that is being read.
#[tokio::test(start_paused = true)]
async fn a_log_truncated_within_a_batch_is_read_once() {
    use ottla_wire::messages::offset_for_leader_epoch as epoch;
    // Behind where the application is, and before.
    for (read_before, parts_at, then) in [(2, 4, 2..8), (6, 4, 4..8)] {
        let (cluster, world) = start(2, 1);
        append(&world, 0, 8);
        let consumer = consumer(&cluster, config());
        consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
        read(&consumer, read_before).await;
        {
            let mut world = world.lock().unwrap();
            world.logs.clear();
        }
        append(&world, 0, parts_at);
        append(&world, 0, 8 - parts_at);
        cluster.move_leader(TOPIC, 0, 2);
        let refuser = world.clone();
        cluster.broker(1).on::<FetchRequest>(move |_, _| {
            let error = ErrorCode::NOT_LEADER_OR_FOLLOWER;
            refuser.lock().unwrap().refuse(0, error).into()
        });
        cluster
            .broker(2)
            .on::<epoch::OffsetForLeaderEpochRequest>(move |request, _| {
                epoch::OffsetForLeaderEpochResponse {
                    topics: vec![epoch::OffsetForLeaderTopicResult {
                        topic: request.topics[0].topic.clone(),
                        partitions: vec![epoch::EpochEndOffset {
                            partition: 0,
                            leader_epoch: 0,
                            end_offset: parts_at,
                            ..Default::default()
                        }],
                        ..Default::default()
                    }],
                    ..Default::default()
                }
                .into()
            });
        tokio::time::sleep(Duration::from_secs(5)).await;
        let expected: Vec<_> = then.map(|offset| (0, offset)).collect();
        assert_eq!(read(&consumer, expected.len()).await, expected);
        let more = tokio::time::timeout(Duration::from_secs(5), consumer.recv()).await;
        assert!(more.is_err(), "{more:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_policy_the_application_decides() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 3);
    let config = ConsumerConfig {
        auto_offset_reset: OffsetReset::Fail,
        ..config()
    };
    let consumer = consumer(&cluster, config);
    consumer.assign([(tp(0), Offset::Committed)]).unwrap();
    match consumer.recv().await {
        Err(Error::NoOffset { partition }) => assert_eq!(partition, tp(0)),
        other => panic!("{other:?}"),
    }
    consumer.seek(&tp(0), Offset::At(1)).unwrap();
    assert_eq!(read(&consumer, 2).await, [(0, 1), (0, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_delays_nobody_else_and_close_ends() {
    let (cluster, world) = start(2, 2);
    append(&world, 1, 50);
    cluster.broker(1).on::<FetchRequest>(|_, _| Reply::Silence);
    let consumer = consumer(&cluster, config());
    consumer
        .assign([(tp(0), Offset::At(0)), (tp(1), Offset::At(0))])
        .unwrap();
    let started = tokio::time::Instant::now();
    assert_eq!(read(&consumer, 50).await[49], (1, 49));
    assert!(started.elapsed() < Duration::from_secs(1));
    consumer.close(Duration::from_secs(3)).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(4));
    assert!(matches!(consumer.recv().await, Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn old_brokers_are_asked_by_name() {
    let (cluster, world) = start(1, 1);
    let old = ottla_wire::VersionRange::new(4, 11);
    cluster.broker(1).speak(ApiKey::Fetch, Some(old));
    append(&world, 0, 3);
    let consumer = consumer(&cluster, config());
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    assert_eq!(read(&consumer, 3).await.len(), 3);
    let versions = cluster.broker(1).log();
    assert!(versions.contains(&(ApiKey::Fetch, 11)));
}

#[tokio::test(start_paused = true)]
async fn records_tell_whose_their_timestamp_is() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 1);
    append(&world, 0, 1);
    {
        // The second batch has the time of the broker's appending: bit 3 of its attributes, and the largest timestamp is
        // that of all its records.
        let mut world = world.lock().unwrap();
        let batch = &mut world.logs.get_mut(&0).unwrap()[1].2;
        let mut bytes = batch.to_vec();
        bytes[22] |= 8;
        bytes[35..43].copy_from_slice(&99_i64.to_be_bytes());
        *batch = bytes.into();
    }
    let config = ConsumerConfig {
        // It is not stamped anew.
        check_crcs: false,
        ..config()
    };
    let expected = [
        (7, TimestampType::CreateTime),
        (99, TimestampType::LogAppendTime),
    ];
    let consumer = consumer(&cluster, config);
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    for expected in expected {
        let record = consumer.recv().await.unwrap();
        assert_eq!((record.timestamp(), record.timestamp_type()), expected);
    }
    consumer.seek(&tp(0), Offset::Beginning).unwrap();
    let mut told = Vec::new();
    while told.len() < 2 {
        for batch in consumer.poll(Duration::from_secs(5)).await.unwrap() {
            let records = batch.into_iter().map(|record| record.unwrap());
            told.extend(records.map(|record| (record.timestamp(), record.timestamp_type())));
        }
    }
    assert_eq!(told, expected);
}
