//! An application that is slow: what is fetched ahead of it stays within its budget, in the eyes of the operating system;
//! and one that stays away for too long loses its partitions, and has its share again when it is back.
#![allow(clippy::unwrap_used)]

#[path = "../client/mod.rs"]
mod client;
mod memory;
mod reader;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use client::{
    PATIENCE, Reading, Seen, busy_member, by_brokers, cluster, reading, until, within, write,
};
use ottla_consumer::{Consumer, ConsumerConfig};
use ottla_protocol_tests::{Kafka, unique};

const PARTITIONS: i32 = 4;
/// `max.poll.interval.ms` of the one that stays away.
const AWAY_MAX: Duration = Duration::from_secs(2);

#[test]
fn who_stays_away_too_long_loses_its_place_until_it_is_back() {
    stays_away(busy_member);
}

#[test]
fn who_stays_away_too_long_loses_its_place_until_it_is_back_by_the_consumer_protocol() {
    stays_away(by_brokers);
}

fn stays_away(config: fn(&str) -> ConsumerConfig) {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (unique("away"), unique("away"));
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let bootstrap = kafka.bootstrap();
    within(PATIENCE * 3, async {
        let slow = ConsumerConfig {
            max_poll_interval: AWAY_MAX,
            ..config(&group)
        };
        let slow = Consumer::new(cluster(bootstrap), slow).unwrap();
        slow.subscribe([topic.clone()]).unwrap();
        let at_first = Reading::start(slow.clone());
        let quick = reading(bootstrap, config(&group), &topic);
        until("each has two", || {
            slow.assignment().len() == 2 && quick.has().len() == 2
        })
        .await;
        write(bootstrap, &topic, PARTITIONS, 0..200).await;
        until("all is read", || {
            at_first.seen().len() + quick.seen().len() == 200
        })
        .await;
        // Its last call said that it is done with all of them.
        tokio::time::sleep(Duration::from_millis(400)).await;

        let seen_at_first = at_first.seen();
        let away = Instant::now();
        let errors_at_first = at_first.pause().await;
        until("the other has all", || quick.has().len() == 4).await;
        let missed = away.elapsed();
        println!("its partitions were another's {missed:?} after its last call");
        // The last call came at most a moment before it stayed away.
        assert!(missed > AWAY_MAX - Duration::from_millis(500), "{missed:?}");
        assert!(missed < AWAY_MAX + Duration::from_secs(5), "{missed:?}");
        write(bootstrap, &topic, PARTITIONS, 200..400).await;
        until("the other reads all", || {
            quick.seen().len() + seen_at_first.len() == 400
        })
        .await;
        assert!(slow.assignment().is_empty(), "{:?}", slow.assignment());

        let back = Instant::now();
        let again = Reading::start(slow.clone());
        until("each has two again", || {
            slow.assignment().len() == 2 && quick.has().len() == 2
        })
        .await;
        println!("it had its share {:?} after it was back", back.elapsed());
        write(bootstrap, &topic, PARTITIONS, 400..600).await;
        let all = || {
            let all = [seen_at_first.clone(), quick.seen(), again.seen()].concat();
            places(&all)
        };
        until("all is read", || all().len() >= 600).await;
        let mut places = all();
        places.sort_unstable();
        let once: BTreeSet<_> = places.iter().copied().collect();
        assert_eq!(places.len(), once.len(), "each record was read once");
        assert!(again.seen().len() >= 50, "the one that was away, too");
        let errors = [errors_at_first, again.errors(), quick.errors()].concat();
        assert_eq!(errors, [""; 0]);
        drop(slow);
        again.leave().await;
        quick.leave().await;
    });
}

fn places(seen: &[Seen]) -> Vec<(i32, i64)> {
    seen.iter().map(|seen| (seen.0, seen.1)).collect()
}
