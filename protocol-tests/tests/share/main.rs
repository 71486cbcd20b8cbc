//! Share groups of ours, alone and together with Java's share consumer, on a live Kafka.
#![allow(clippy::unwrap_used)]

#[path = "../client/mod.rs"]
mod client;
mod leaders;
mod offsets;
mod scenarios;
mod sharing;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use client::{PATIENCE, cluster};
use ottla_admin::{Admin, AlterConfig, NewTopic, Resource};
use ottla_broker::{BrokerOptions, EmbeddedCluster};
use ottla_consumer::{
    AcknowledgeType, Error, ShareAcknowledgementMode, ShareConsumer, ShareConsumerConfig,
};
use ottla_protocol_tests::{Distribution, KafkaCluster, Options, Tools, Version, or_skip, unique};

#[test]
fn alone_and_beside_java() {
    // Locks that time out while a test can wait; and a member is told of its partitions with its second heartbeat.
    let options = Options::default()
        .set("group.share.min.record.lock.duration.ms", 1_000)
        .set("group.share.min.heartbeat.interval.ms", 500);
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    let place = Place {
        bootstrap: kafka.bootstrap(),
        tools: Some(kafka.tools()),
    };
    client::within(PATIENCE * 8, everything(&place));
}

#[test]
fn the_same_on_the_embedded_broker() {
    client::within(PATIENCE * 8, async {
        let cluster = EmbeddedCluster::start(BrokerOptions::default())
            .await
            .unwrap();
        let place = Place {
            bootstrap: cluster.bootstrap_servers(),
            tools: None,
        };
        everything(&place).await;
        if let Some(kafka) = or_skip(Distribution::get(Version::default())) {
            let place = Place {
                tools: Some(Tools::new(kafka, place.bootstrap.clone())),
                ..place
            };
            offsets::so_does_kafkas_tool(&place).await;
            sharing::with_javas_console_share_consumer(&place).await;
        }
        cluster.stop().await;
    });
}

/// A cluster to test on.
struct Place {
    bootstrap: String,
    tools: Option<Tools>,
}

async fn everything(place: &Place) {
    scenarios::what_is_released_comes_again_and_what_is_rejected_does_not(place).await;
    scenarios::what_fails_too_often_is_given_up(place).await;
    scenarios::a_lock_that_times_out_gives_the_record_to_another(place).await;
    scenarios::a_lock_that_is_renewed_does_not(place).await;
    scenarios::closing_gives_back_what_was_not_accepted(place).await;
    scenarios::what_a_killed_member_had_comes_again(place).await;
    scenarios::a_record_limit_is_kept(place).await;
    scenarios::only_committed_transactions_are_seen(place).await;
    scenarios::what_is_refused_is_said(place).await;
    sharing::members_share_one_partition(place).await;
    offsets::our_administration_says_and_changes_them(place).await;
    if place.tools.is_some() {
        offsets::so_does_kafkas_tool(place).await;
        sharing::with_javas_console_share_consumer(place).await;
    }
}

/// Long enough to see that it was not the lock's end that gave a record back.
const LONG: (&str, &str) = ("share.record.lock.duration.ms", "60000");

/// Of the groups, unless a test says otherwise.
const LOCK: Duration = Duration::from_secs(3);

/// A cluster without share groups.
#[test]
fn the_oldest_kafka_has_none_and_says_so() {
    let options = Options {
        version: Version::V3_9,
        ..Options::default()
    };
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    client::within(PATIENCE, async {
        let consumer = share_consumer(&kafka.bootstrap(), "nobody", |_| ());
        consumer.subscribe(["nothing"]).unwrap();
        let error = consumer.recv().await.unwrap_err();
        assert!(matches!(error, Error::Net(_)), "{error:?}");
        assert!(error.to_string().contains("ShareGroupHeartbeat"), "{error}");
        consumer.close(PATIENCE).await.unwrap();
    });
}

/// A new group that begins at the beginning.
async fn group(bootstrap: &str, name: &str, settings: &[(&str, &str)]) -> String {
    let group = unique(name);
    let admin = Admin::new(cluster(bootstrap));
    let lock = LOCK.as_millis().to_string();
    let all = [
        ("share.auto.offset.reset", "earliest"),
        ("share.heartbeat.interval.ms", "500"),
        ("share.record.lock.duration.ms", &lock),
    ];
    let changes: BTreeMap<_, _> = all
        .iter()
        .chain(settings)
        .map(|(key, value)| ((*key).to_owned(), AlterConfig::Set((*value).to_owned())))
        .collect();
    admin
        .alter_configs(&Resource::Group(group.clone()), &changes, false)
        .await
        .unwrap();
    group
}

/// With explicit acknowledgement, unless it is told otherwise.
fn share_consumer(
    bootstrap: &str,
    group: &str,
    tweak: impl FnOnce(&mut ShareConsumerConfig),
) -> ShareConsumer {
    let mut config = ShareConsumerConfig {
        group_id: group.to_owned(),
        acknowledgement_mode: ShareAcknowledgementMode::Explicit,
        ..Default::default()
    };
    tweak(&mut config);
    ShareConsumer::new(cluster(bootstrap), config).unwrap()
}

/// A member that accepts whatever comes, in the background.
struct Accepting {
    consumer: ShareConsumer,
    seen: Arc<Mutex<Vec<(u32, i16)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Accepting {
    fn start(bootstrap: &str, group: &str, topic: &str) -> Self {
        let consumer = share_consumer(bootstrap, group, |config| config.max_poll_records = 20);
        consumer.subscribe([topic.to_owned()]).unwrap();
        let seen = Arc::<Mutex<Vec<(u32, i16)>>>::default();
        let (member, tell) = (consumer.clone(), seen.clone());
        let task = tokio::spawn(async move {
            loop {
                match member.poll(Duration::from_millis(500)).await {
                    Ok(records) => {
                        for record in records {
                            let number = number(record.value());
                            tell.lock().unwrap().push((number, record.delivery_count()));
                            // One whose lock was lost comes again.
                            let _ = member.acknowledge(&record, AcknowledgeType::Accept);
                        }
                    }
                    Err(Error::Closed) => return,
                    Err(error) => eprintln!("told: {error}"),
                }
            }
        });
        Self {
            consumer,
            seen,
            task,
        }
    }

    fn seen(&self) -> Vec<(u32, i16)> {
        self.seen.lock().unwrap().clone()
    }

    async fn end(self) -> Vec<(u32, i16)> {
        self.consumer.close(PATIENCE).await.unwrap();
        self.task.await.unwrap();
        self.seen.lock().unwrap().clone()
    }
}

fn number(value: Option<&[u8]>) -> u32 {
    std::str::from_utf8(value.unwrap())
        .unwrap()
        .parse()
        .unwrap()
}

/// A topic of its own.
async fn topic(place: &Place, name: &str, partitions: i32) -> String {
    let topic = unique(name);
    let admin = Admin::new(cluster(&place.bootstrap));
    let new = NewTopic::new(&topic).partitions(partitions);
    let created = admin.create_topics(&[new], false).await;
    assert!(
        created.iter().all(|(_, outcome)| outcome.is_ok()),
        "{created:?}"
    );
    topic
}
