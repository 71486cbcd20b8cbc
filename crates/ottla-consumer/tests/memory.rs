//! What a consumer allocates when brokers send it more than it asked for, or claim to: at the most at one time, and what it keeps.
//!
//! In a program of its own, for allocations are counted by thread: the brokers run on another one.

#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

#[path = "consumer/support.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the other tests")]
mod support;

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use bytes::BytesMut;
use ottla_consumer::{Bytes, Consumer, ConsumerConfig, Error, Offset};
use ottla_net::testing::{Call, Reply};
use ottla_wire::{
    compress::Compression,
    messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData},
};
use support::{Shared, append_with, config, consumer, start, tp};
use tokio::{runtime::Builder, time::timeout};

const MIB: u64 = 1 << 20;
/// `queued.max.bytes`, and how much a batch may decompress to.
const BUDGET: u64 = MIB;
/// What a consumer needs besides: connections, metadata, tasks.
const REST: u64 = MIB / 2;

fn tight() -> ConsumerConfig {
    ConsumerConfig {
        queued_bytes_max: BUDGET as usize,
        batch_bytes_max: BUDGET as usize,
        // On the thread that is measured.
        blocking_threads: false,
        ..config()
    }
}

/// What it takes to do this with a consumer of one partition, of which the broker answers fetches like this.
fn takes<F: Future<Output = Consumer>>(
    fill: impl FnOnce(&Shared),
    answer: impl Fn(&FetchRequest, &Call, &Shared) -> Reply<FetchResponse> + Send + 'static,
    work: impl FnOnce(Consumer) -> F,
) -> AllocationInfo {
    let brokers = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (cluster, world) = {
        let _within = brokers.enter();
        start(1, 1)
    };
    fill(&world);
    let of = world.clone();
    cluster
        .broker(1)
        .on::<FetchRequest>(move |request, call| answer(&request, call, &of));
    let client = Builder::new_current_thread().enable_all().build().unwrap();
    let mut kept = None;
    let info = measure(|| {
        kept = Some(client.block_on(async {
            let consumer = consumer(&cluster, tight());
            consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
            work(consumer).await
        }));
    });
    println!(
        "{} at the most, {} kept",
        info.bytes_max, info.bytes_current
    );
    info
}

fn kept(info: &AllocationInfo) -> u64 {
    u64::try_from(info.bytes_current).unwrap_or(0)
}

/// Lets it fetch what it wants.
async fn idle(consumer: Consumer) -> Consumer {
    tokio::time::sleep(Duration::from_secs(3)).await;
    consumer
}

fn fetched(world: &Shared, records: Bytes) -> FetchResponse {
    FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic_id: world.lock().unwrap().topic_id,
            partitions: vec![PartitionData {
                records: Some(records),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn log(world: &Shared) -> Bytes {
    let world = world.lock().unwrap();
    let mut all = BytesMut::new();
    for (.., bytes) in &world.logs[&0] {
        all.extend_from_slice(bytes);
    }
    all.freeze()
}

/// The frame is as large as `receive.message.max.bytes` lets it be; what stays is within the budget.
#[test]
fn an_answer_with_all_there_is_leaves_what_was_asked_for() {
    let fill = |world: &Shared| {
        for _ in 0..1_600 {
            append_with(world, 0, 10, Compression::None, 1_000);
        }
    };
    let answer = |_: &FetchRequest, _: &Call, world: &Shared| {
        Reply::after(Duration::from_millis(20), fetched(world, log(world)))
    };
    let info = takes(fill, answer, idle);
    assert!(kept(&info) <= BUDGET + REST, "{info:?}");
    // 16 MB as they come in; and what was kept of another answer.
    assert!(info.bytes_max <= 2 * 16 * MIB + BUDGET + REST, "{info:?}");
}

/// One small batch each time, at the head of a large one that is cut off.
#[test]
fn small_batches_keep_no_large_answers_alive() {
    let fill = |world: &Shared| {
        for _ in 0..200 {
            append_with(world, 0, 1, Compression::None, 0);
        }
    };
    let answer = |request: &FetchRequest, _: &Call, world: &Shared| {
        let wanted = request.topics.iter().flat_map(|topic| &topic.partitions);
        let from = wanted.map(|wanted| wanted.fetch_offset).next().unwrap_or(0);
        let mut bytes = BytesMut::new();
        {
            let world = world.lock().unwrap();
            let Some((.., batch)) = world.logs[&0].get(from as usize) else {
                return Reply::Silence;
            };
            bytes.extend_from_slice(batch);
            bytes.extend_from_slice(&from.to_be_bytes());
            bytes.extend_from_slice(&i32::MAX.to_be_bytes());
        }
        bytes.resize(MIB as usize, 2);
        fetched(world, bytes.freeze()).into()
    };
    let info = takes(fill, answer, idle);
    assert!(kept(&info) <= BUDGET + REST, "{info:?}");
    assert!(info.bytes_max <= 6 * MIB, "{info:?}");
}

#[test]
fn what_is_only_claimed_takes_nothing() {
    // A frame of 90 MiB, of which nothing comes; counts of two thousand millions; no end of a varint.
    let claims: [&[u8]; 3] = [&[0x05, 0xa0, 0, 0, 0, 0], &[0x7f; 64], &[0xff; 64]];
    for claim in claims {
        let answer = move |_: &FetchRequest, call: &Call, _: &Shared| {
            let mut frame = Vec::new();
            if claim.len() == 64 {
                frame.extend((claim.len() as i32 + 4).to_be_bytes());
                frame.extend(call.correlation_id.to_be_bytes());
            }
            frame.extend(claim);
            Reply::Raw(frame.into())
        };
        let info = takes(|_| {}, answer, idle);
        assert!(info.bytes_max <= BUDGET + REST, "{claim:?}: {info:?}");
    }
}

/// 16 MB in a few bytes: no more than the limit is decompressed, whoever does it.
#[test]
fn a_batch_that_is_too_large_once_decompressed_is_not_decompressed_further() {
    for (codec, splits) in [
        (Compression::Gzip, &[false][..]),
        (Compression::Snappy, &[false]),
        (Compression::Lz4, &[false]),
        (Compression::Zstd, &[false, true]),
    ] {
        for &split in splits {
            let fill = move |world: &Shared| {
                append_with(world, 0, 1, codec, 10);
                append_with(world, 0, 16, codec, 1_000_000);
            };
            let answer = |_: &FetchRequest, _: &Call, world: &Shared| {
                Reply::after(Duration::from_millis(20), fetched(world, log(world)))
            };
            let info = takes(fill, answer, |consumer| async move {
                let told = timeout(Duration::from_secs(10), async {
                    if split {
                        let mut streams = consumer.split().unwrap();
                        let mut stream = streams.next_partition().await.unwrap();
                        stream.recv().await.unwrap().unwrap();
                        stream.recv().await.unwrap_err()
                    } else {
                        consumer.recv().await.unwrap();
                        consumer.recv().await.unwrap_err()
                    }
                });
                let error = told.await.unwrap();
                assert!(
                    matches!(error, Error::Unreadable { offset: 1, .. }),
                    "{error:?}"
                );
                consumer
            });
            // What came, which snappy and lz4 make no smaller than a hundredth part, and a decoder's window.
            assert!(
                info.bytes_max <= 2 * BUDGET + 6 * MIB,
                "{codec:?}: {info:?}"
            );
        }
    }
}
