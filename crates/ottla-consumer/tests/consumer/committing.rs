//! What becomes of commits that are still under way when something ends, over scripted brokers and with a paused clock.

use std::time::Duration;

use ottla_consumer::{ConsumerConfig, Error, Offset};
use ottla_net::testing::Reply;
use ottla_wire::messages::offset_commit::OffsetCommitRequest;
use tokio::time::{sleep, timeout};

use crate::support::*;

const SOON: Duration = Duration::from_secs(1);

fn events(world: &Shared) -> Vec<String> {
    std::mem::take(&mut world.lock().unwrap().events)
}

fn by_hand() -> ConsumerConfig {
    ConsumerConfig {
        enable_auto_commit: false,
        ..group_config()
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_ends_with_the_consumer() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let consumer = consumer(&cluster, group_config());
    consumer.subscribe([TOPIC]).unwrap();
    read(&consumer, 2).await;
    let broker = cluster.broker(1);
    broker.on::<OffsetCommitRequest>(|_, _| Reply::Silence);
    let other = consumer.clone();
    let waiting = tokio::spawn(async move { other.commit().await });
    let nobody_waits = consumer.commit_async().unwrap();
    sleep(SOON).await;
    let _in_vain = consumer.close(Duration::from_secs(5)).await;
    let outcome = timeout(SOON, waiting).await.expect("it waits for ever");
    assert!(matches!(outcome.unwrap(), Err(Error::Closed)));
    let outcome = timeout(SOON, nobody_waits).await;
    assert!(matches!(outcome, Ok(Err(Error::Closed))));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_outlives_the_consumer_commits_nothing() {
    let (cluster, world) = start(1, 1);
    append(&world, 0, 2);
    let consumer = consumer(&cluster, by_hand());
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    let mut partitions = consumer.split().unwrap();
    let mut stream = partitions.next_partition().await.unwrap();
    assert!(stream.recv().await.unwrap().is_some());
    consumer.close(SOON).await.unwrap();
    let outcome = timeout(SOON, stream.commit()).await;
    let outcome = outcome.expect("it waits for ever");
    assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
    assert!(events(&world).is_empty());
}
