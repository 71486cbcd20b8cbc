//! Batches that decompress to more than `fetch.max.decompressed.batch.bytes`: an error that says so, at a bearable pace, until
//! the application seeks past them; whoever reads, and whoever decompresses.

use std::time::Duration;

use crate::support::*;
use ottla_consumer::{ConsumerConfig, Error, Offset};
use ottla_wire::compress::Compression;
use tokio::time::{Instant, timeout_at};

/// The most that a batch may decompress to.
const LIMIT: usize = 64 << 10;

const CODECS: [Compression; 4] = [
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Three records, one that is too large, and three records more; each three compressed together.
fn bomb(codec: Compression) -> (ottla_net::testing::ScriptedCluster, Shared) {
    let (cluster, world) = start(1, 1);
    append_with(&world, 0, 3, codec, 10);
    append_with(&world, 0, 1, codec, 4 << 20);
    append_with(&world, 0, 3, codec, 10);
    (cluster, world)
}

fn limited() -> ConsumerConfig {
    ConsumerConfig {
        batch_bytes_max: LIMIT,
        ..config()
    }
}

fn check(error: &Error, codec: Compression) {
    let Error::Unreadable {
        partition, offset, ..
    } = error
    else {
        panic!("{codec:?}: {error:?}");
    };
    assert_eq!((partition, *offset), (&tp(0), 3), "{codec:?}");
    let told = error.to_string();
    assert!(
        told.contains(&LIMIT.to_string()) && told.contains("seek"),
        "{told}"
    );
}

/// Errors that are told within a minute, with pauses of up to a second between them.
const BEARABLE: usize = 240;

#[tokio::test(start_paused = true)]
async fn one_is_told_until_it_is_sought_past() {
    for codec in CODECS {
        let (cluster, world) = bomb(codec);
        let consumer = consumer(&cluster, limited());
        consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
        assert_eq!(read(&consumer, 3).await, [(0, 0), (0, 1), (0, 2)]);
        let until = Instant::now() + Duration::from_secs(60);
        let mut told = 0;
        while let Ok(next) = timeout_at(until, consumer.recv()).await {
            check(&next.unwrap_err(), codec);
            told += 1;
        }
        assert!((10..=BEARABLE).contains(&told), "{codec:?}: {told}");
        assert_eq!(consumer.position(&tp(0)).unwrap(), Some(3));
        let fetches = world.lock().unwrap().fetches.len();
        assert!(fetches <= BEARABLE, "{codec:?}: {fetches}");
        consumer.seek(&tp(0), Offset::At(4)).unwrap();
        assert_eq!(read(&consumer, 3).await, [(0, 4), (0, 5), (0, 6)]);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_decompressed_ahead_is_told_in_its_place() {
    for codec in CODECS {
        let (cluster, _world) = bomb(codec);
        let config = ConsumerConfig {
            blocking_threads: false,
            ..limited()
        };
        let consumer = consumer(&cluster, config);
        consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
        // All is fetched, and what is behind the first batch is decompressed meanwhile.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(read(&consumer, 3).await, [(0, 0), (0, 1), (0, 2)]);
        check(&consumer.recv().await.unwrap_err(), codec);
        consumer.seek(&tp(0), Offset::At(4)).unwrap();
        let batches = consumer.poll(Duration::from_secs(5)).await.unwrap();
        let offsets = batches
            .iter()
            .flatten()
            .map(|record| record.unwrap().offset());
        assert_eq!(offsets.collect::<Vec<_>>(), [4, 5, 6], "{codec:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_its_partition_tells_it_until_it_is_sought_past() {
    for codec in CODECS {
        let (cluster, _world) = bomb(codec);
        let consumer = consumer(&cluster, limited());
        consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
        let mut partitions = consumer.split().unwrap();
        let mut stream = partitions.next_partition().await.unwrap();
        for offset in 0..3 {
            assert_eq!(stream.recv().await.unwrap().unwrap().offset(), offset);
        }
        let until = Instant::now() + Duration::from_secs(60);
        let mut told = 0;
        while let Ok(next) = timeout_at(until, stream.recv()).await {
            check(&next.unwrap_err(), codec);
            told += 1;
        }
        assert!((10..=BEARABLE).contains(&told), "{codec:?}: {told}");
        stream.seek(Offset::At(4)).unwrap();
        for offset in 4..7 {
            assert_eq!(stream.recv().await.unwrap().unwrap().offset(), offset);
        }
    }
}
