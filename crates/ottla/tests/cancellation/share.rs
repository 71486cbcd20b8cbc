//! The futures of a share consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla::admin::{AlterConfig, Resource};
use ottla::consumer::{Error, ShareAcknowledgementMode, ShareConsumerConfig};
use ottla::prelude::*;
use ottla::testing::ApiKey;

use crate::{PATIENCE, Run, Weather, World, at_every_await, drop_at};

/// Records of each of the two partitions.
const COUNT: i64 = 8;

#[test]
fn a_record() {
    at_every_await("recv of a share consumer", async |run| {
        let (world, consumer) = start(run).await;
        let first = drop_at(run, consumer.recv()).await;
        let completed = first.is_some();
        let mut seen = Seen::default();
        if let Some(record) = first {
            seen.note(run, &record.unwrap());
            // Not done: it comes again.
            seen.0.clear();
        }
        consumer.close(PATIENCE).await.unwrap();
        drop(consumer);
        seen.rest(run, &world).await;
        world.end().await;
        completed
    });
}

#[test]
fn some_records() {
    at_every_await("poll of a share consumer", async |run| {
        let (world, consumer) = start(run).await;
        let some = drop_at(run, consumer.poll(PATIENCE)).await;
        let completed = some.is_some();
        let mut seen = Seen::default();
        for record in some.into_iter().flat_map(Result::unwrap) {
            consumer
                .acknowledge(&record, AcknowledgeType::Accept)
                .unwrap();
            seen.note(run, &record);
        }
        seen.read_on(run, &consumer).await;
        assert_eq!(seen.0.len() as i64, 2 * COUNT);
        consumer.close(PATIENCE).await.unwrap();
        drop(consumer);
        world.end().await;
        completed
    });
}

/// What was acknowledged is stored whether or not anybody waits for that.
#[test]
fn a_commit() {
    at_every_await("commit of a share consumer", async |run| {
        let (world, consumer) = start(run).await;
        let mut seen = Seen::default();
        for _ in 0..5 {
            let record = consumer.recv().await.unwrap();
            consumer
                .acknowledge(&record, AcknowledgeType::Accept)
                .unwrap();
            seen.note(run, &record);
        }
        let committed = drop_at(run, consumer.commit()).await;
        let completed = committed.is_some();
        let failed = |outcome: &ottla::consumer::AcknowledgeOutcome| outcome.result.is_err();
        let outcomes = committed.map(Result::unwrap).unwrap_or_default();
        if run.weather == Weather::Calm {
            assert!(!outcomes.iter().any(failed), "{outcomes:?}");
        }
        consumer.close(PATIENCE).await.unwrap();
        let metrics = consumer.metrics();
        assert_eq!(metrics.accepted + metrics.acknowledge_failures, 5);
        drop(consumer);
        seen.rest(run, &world).await;
        world.end().await;
        completed
    });
}

#[test]
fn a_close() {
    at_every_await("close of a share consumer", async |run| {
        let (world, consumer) = start(run).await;
        let mut seen = Seen::default();
        for n in 0..5 {
            let record = consumer.recv().await.unwrap();
            if n < 3 {
                consumer
                    .acknowledge(&record, AcknowledgeType::Accept)
                    .unwrap();
                seen.note(run, &record);
            }
        }
        let closed = drop_at(run, consumer.close(PATIENCE)).await;
        let completed = closed.is_some();
        closed.map(Result::unwrap);
        let late = consumer.recv().await.unwrap_err();
        assert!(matches!(late, Error::Closed), "{late}");
        drop(consumer);
        seen.rest(run, &world).await;
        world.end().await;
        completed
    });
}

/// By partition and offset, what was handed out and accepted.
#[derive(Debug, Default)]
struct Seen(BTreeSet<(i32, i64)>);

impl Seen {
    fn note(&mut self, run: Run, record: &ShareRecord) {
        let new = self.0.insert((record.partition(), record.offset()));
        // Where answers are lost, so are acknowledgements.
        assert!(new || run.weather != Weather::Calm, "{record:?} twice");
    }

    /// Another member is handed all others, and what was given back at once.
    async fn rest(&mut self, run: Run, world: &World) {
        let next = member(world);
        self.read_on(run, &next).await;
        assert_eq!(self.0.len() as i64, 2 * COUNT);
        next.close(PATIENCE).await.unwrap();
    }

    async fn read_on(&mut self, run: Run, consumer: &ShareConsumer) {
        while (self.0.len() as i64) < 2 * COUNT {
            let next = tokio::time::timeout(2 * PATIENCE, consumer.recv()).await;
            let next = next.unwrap_or_else(|_| panic!("stuck after {:?}", self.0));
            let record = next.unwrap();
            consumer
                .acknowledge(&record, AcknowledgeType::Accept)
                .unwrap();
            self.note(run, &record);
        }
    }
}

async fn start(run: Run) -> (World, ShareConsumer) {
    let mut world = World::new(run, |_| {});
    world.fill(COUNT).await;
    let set = |value: &str| AlterConfig::Set(value.into());
    let changes = BTreeMap::from([
        ("share.auto.offset.reset".to_owned(), set("earliest")),
        ("share.heartbeat.interval.ms".to_owned(), set("100")),
    ]);
    let group = Resource::Group("g".into());
    let admin = world.client.admin();
    admin.alter_configs(&group, &changes, false).await.unwrap();
    world.hurry().await;
    world.slow_down(
        run,
        &[
            ApiKey::ShareGroupHeartbeat,
            ApiKey::ShareFetch,
            ApiKey::ShareAcknowledge,
        ],
    );
    let consumer = member(&world);
    (world, consumer)
}

fn member(world: &World) -> ShareConsumer {
    let consumer = world.client.share_consumer_with(ShareConsumerConfig {
        group_id: "g".into(),
        acknowledgement_mode: ShareAcknowledgementMode::Explicit,
        max_poll_interval: Duration::from_secs(300),
        ..world.client.share_consumer_config()
    });
    let consumer = consumer.unwrap();
    consumer.subscribe(["t"]).unwrap();
    consumer
}
