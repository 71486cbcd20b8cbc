//! The broker that coordinates our group is killed and comes back: the group goes on at another, and loses nothing. By
//! both group protocols.
#![allow(clippy::unwrap_used)]

mod client;

use std::collections::BTreeSet;

use client::{PATIENCE, busy_member, by_brokers, cluster, reading, until, within, write};
use ottla_admin::Admin;
use ottla_consumer::ConsumerConfig;
use ottla_protocol_tests::{KafkaCluster, Options, or_skip, unique};

const PARTITIONS: i32 = 4;

#[test]
fn a_group_whose_coordinator_is_killed_goes_on_at_another() {
    let options = Options {
        nodes: 3,
        ..Options::default()
    };
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    for config in [busy_member, by_brokers] {
        goes_on(&kafka, config);
    }
}

fn goes_on(kafka: &KafkaCluster, config: fn(&str) -> ConsumerConfig) {
    let (topic, group) = (unique("orphans"), unique("orphaned"));
    kafka.create_topic(&topic, PARTITIONS, &[("min.insync.replicas", "2")]);
    let bootstrap = kafka.bootstrap();
    within(PATIENCE * 3, async {
        let first = reading(&bootstrap, config(&group), &topic);
        let second = reading(&bootstrap, config(&group), &topic);
        until("both have a share", || {
            first.has().len() == 2 && second.has().len() == 2
        })
        .await;
        write(&bootstrap, &topic, PARTITIONS, 0..400).await;
        let read = || numbers(first.seen().into_iter().chain(second.seen()));
        until("all is read", || read().len() == 400).await;

        let admin = Admin::new(cluster(&bootstrap));
        let coordinator = coordinator(&admin, &group).await;
        tokio::task::block_in_place(|| kafka.kill(coordinator));
        write(&bootstrap, &topic, PARTITIONS, 400..800).await;
        until("all is read without it", || read().len() == 800).await;
        let next = self::coordinator(&admin, &group).await;
        assert_ne!(next, coordinator, "the coordinator moved");
        tokio::task::block_in_place(|| kafka.restart(coordinator).unwrap());
        write(&bootstrap, &topic, PARTITIONS, 800..1_200).await;
        until("all is read with it back", || read().len() == 1_200).await;

        // The group still changes hands as it should, and what it committed holds.
        first.leave().await;
        until("the other has all", || {
            second.has().len() == PARTITIONS as usize
        })
        .await;
        write(&bootstrap, &topic, PARTITIONS, 1_200..1_240).await;
        until("the other reads all", || {
            (1_200..1_240).all(|number| numbers(second.seen()).contains(&number))
        })
        .await;
        second.leave().await;
        let committed = admin.group_offsets(&group).await.unwrap();
        let committed: i64 = committed.iter().map(|at| at.offset).sum();
        assert_eq!(committed, 1_240, "all of it is committed");
    });
}

async fn coordinator(admin: &Admin, group: &str) -> i32 {
    let (_, described) = admin
        .describe_groups(&[group])
        .await
        .into_iter()
        .next()
        .unwrap();
    described.unwrap().coordinator
}

fn numbers(seen: impl IntoIterator<Item = client::Seen>) -> BTreeSet<u32> {
    seen.into_iter()
        .map(|seen| seen.2.parse().unwrap())
        .collect()
}
