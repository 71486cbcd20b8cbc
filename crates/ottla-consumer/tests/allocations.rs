//! What reading allocates: per batch, never per record.

#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

#[path = "consumer/support.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the other tests")]
mod support;

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::measure;
use ottla_consumer::Offset;
use support::{append, config, consumer, start, tp};

const RECORDS: i64 = 5_000;

#[tokio::test]
async fn lent_records_are_read_without_an_allocation_each() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, RECORDS);
    let consumer = consumer(&cluster, config());
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    let batches = consumer
        .poll_max(usize::MAX, Duration::from_secs(60))
        .await
        .unwrap();
    let (mut count, mut bytes) = (0, 0);
    let info = measure(|| {
        for batch in &batches {
            for record in batch {
                let record = record.unwrap();
                count += 1;
                bytes += record.value().unwrap_or_default().len();
            }
        }
    });
    assert_eq!((count, bytes > 0), (RECORDS, true));
    assert_eq!(info.count_total, 0, "{info:?}");
}

#[tokio::test]
async fn owned_records_are_read_without_an_allocation_each() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, RECORDS);
    let consumer = consumer(&cluster, config());
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    assert_eq!(consumer.recv().await.unwrap().offset(), 0);
    let mut records = Vec::with_capacity(RECORDS as usize);
    let info = measure(|| {
        while records.len() < RECORDS as usize - 1 {
            records.push(consumer.try_recv().unwrap().unwrap());
        }
    });
    assert_eq!(info.count_total, 0, "{info:?}");
}

#[tokio::test]
async fn records_of_a_partition_s_stream_are_read_without_an_allocation_each() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, RECORDS);
    let consumer = consumer(&cluster, config());
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    let mut partitions = consumer.split().unwrap();
    let mut stream = partitions.next_partition().await.unwrap();
    assert_eq!(stream.recv().await.unwrap().unwrap().offset(), 0);
    let mut records = Vec::with_capacity(RECORDS as usize);
    let info = measure(|| {
        let mut look = Context::from_waker(Waker::noop());
        while records.len() < RECORDS as usize - 1 {
            let Poll::Ready(next) = pin!(stream.recv()).poll(&mut look) else {
                panic!("waits after {}", records.len());
            };
            records.push(next.unwrap().unwrap());
        }
    });
    assert_eq!(info.count_total, 0, "{info:?}");
}
