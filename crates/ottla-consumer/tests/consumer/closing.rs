//! Ends that are cut short, over scripted brokers and with a paused clock.

use std::time::Duration;

use ottla_consumer::{ConsumerConfig, Error, StreamEnd};
use tokio::time::{sleep, timeout};

use crate::support::*;

const SOON: Duration = Duration::from_secs(1);

fn events(world: &Shared) -> Vec<String> {
    std::mem::take(&mut world.lock().unwrap().events)
}

#[tokio::test(start_paused = true)]
async fn who_does_not_unsubscribe_after_all_reads_on() {
    let (cluster, world) = start(1, 2);
    append(&world, 0, 2);
    append(&world, 1, 2);
    let config = ConsumerConfig {
        max_poll_interval: Duration::from_secs(30),
        ..group_config()
    };
    let consumer = consumer(&cluster, config);
    consumer.subscribe([TOPIC]).unwrap();
    let mut partitions = consumer.split().unwrap();
    // The other one is not taken yet.
    let mut stream = timeout(SOON * 10, partitions.next_partition())
        .await
        .unwrap()
        .unwrap();
    let first = stream.partition();
    assert_eq!(stream.recv().await.unwrap().unwrap().offset(), 0);
    assert!(timeout(SOON, consumer.unsubscribe()).await.is_err());
    // It was told already.
    assert!(stream.recv().await.unwrap().is_none());
    assert_eq!(stream.end(), Some(StreamEnd::Revoked));
    drop(stream);
    for _ in 0..2 {
        let stream = timeout(SOON, partitions.next_partition()).await;
        let mut stream = stream.expect("nobody reads it").unwrap();
        let offset = stream.recv().await.unwrap().unwrap().offset();
        assert_eq!(offset, i64::from(stream.partition() == first));
    }
    // Who does not take them is missed all the same.
    events(&world);
    sleep(Duration::from_secs(40)).await;
    assert!(events(&world).contains(&"leave".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_cut_short_leaves_nobody_behind() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    let mut partitions = consumer.split().unwrap();
    let mut stream = partitions.next_partition().await.unwrap();
    assert!(stream.recv().await.unwrap().is_some());
    assert!(timeout(SOON, consumer.close(SOON * 60)).await.is_err());
    sleep(SOON).await;
    assert!(events(&world).contains(&"leave".to_owned()));
    let beats = world.lock().unwrap().heartbeats;
    sleep(SOON * 30).await;
    assert_eq!(world.lock().unwrap().heartbeats, beats);
    assert!(matches!(consumer.recv().await, Err(Error::Closed)));
    consumer.close(SOON).await.unwrap();
}
