//! Subscriptions by pattern, and what becomes of them as topics come and go.

use std::time::Duration;

use ottla_consumer::{Consumer, ConsumerConfig, Error, TopicPattern};
use ottla_net::testing::ScriptedCluster;

use crate::support::*;

fn member(cluster: &ScriptedCluster) -> Consumer {
    let mut quick = cluster.config();
    quick.metadata_max_age = Duration::from_secs(1);
    Consumer::new(cluster.connect_with(quick), group_config()).unwrap()
}

fn pattern(pattern: &str) -> TopicPattern {
    TopicPattern::new(pattern).unwrap()
}

async fn assigned(consumer: &Consumer) -> Vec<String> {
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Whoever asks for records lets the group take some away.
    assert!(
        consumer
            .poll(Duration::from_secs(3))
            .await
            .unwrap()
            .is_empty()
    );
    let mut names: Vec<_> = consumer
        .assignment()
        .iter()
        .map(ToString::to_string)
        .collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn topics_that_match_are_read_as_they_come_and_go() {
    let (cluster, world) = start(1, 1);
    cluster.add_topic("other", 1);
    cluster.add_topic("clicks-test", 1);
    let consumer = member(&cluster);
    let wanted = pattern("clicks.*").except(".*-test").unwrap();
    consumer.subscribe_pattern(wanted).unwrap();
    assert_eq!(assigned(&consumer).await, ["clicks-0"]);
    cluster.add_topic("clicks-eu", 2);
    assert_eq!(
        assigned(&consumer).await,
        ["clicks-0", "clicks-eu-0", "clicks-eu-1"]
    );
    assert_eq!(consumer.subscription(), ["clicks", "clicks-eu"]);
    cluster.add_topic("clicks-eu", 3);
    assert_eq!(assigned(&consumer).await.len(), 4, "a partition more");

    // Changed while it runs: to another pattern, to names, and to a pattern again.
    consumer.subscribe_pattern(pattern("other|none")).unwrap();
    assert_eq!(assigned(&consumer).await, ["other-0"]);
    consumer.subscribe([TOPIC]).unwrap();
    assert_eq!(assigned(&consumer).await, ["clicks-0"]);
    cluster.add_topic("clicks-us", 1);
    assert_eq!(
        assigned(&consumer).await,
        ["clicks-0"],
        "no pattern any more"
    );
    world.lock().unwrap().events.clear();
    consumer.subscribe_pattern(pattern("clicks-us")).unwrap();
    assert_eq!(assigned(&consumer).await, ["clicks-us-0"]);
    assert!(!world.lock().unwrap().events.contains(&"leave".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_pattern_without_topics_waits_outside_of_the_group() {
    let (cluster, world) = start(1, 1);
    let consumer = member(&cluster);
    consumer.subscribe_pattern(pattern("later")).unwrap();
    assert_eq!(assigned(&consumer).await, [""; 0]);
    assert_eq!(world.lock().unwrap().events, [""; 0]);
    cluster.add_topic("later", 1);
    assert_eq!(assigned(&consumer).await, ["later-0"]);
    consumer.subscribe_pattern(pattern("never")).unwrap();
    assert_eq!(assigned(&consumer).await, [""; 0]);
    assert_eq!(world.lock().unwrap().events.last().unwrap(), "leave");
    consumer.unsubscribe().await.unwrap();
    cluster.add_topic("never", 1);
    assert_eq!(assigned(&consumer).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn misuse_of_patterns_is_explained() {
    let (cluster, _) = start(1, 1);
    let alone = consumer(&cluster, ConsumerConfig::default());
    let refused = alone.subscribe_pattern(pattern("a"));
    assert!(matches!(refused, Err(Error::Usage(_))));
    let member = member(&cluster);
    let told = member.subscribe(["^clicks"]).unwrap_err().to_string();
    assert!(told.contains("subscribe_pattern"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_subscribed_to_any_more_may_be_deleted() {
    let (cluster, _world) = start(1, 1);
    cluster.add_topic("other", 1);
    let consumer = member(&cluster);
    consumer.subscribe([TOPIC, "never"]).unwrap();
    assert_eq!(assigned(&consumer).await, ["clicks-0"]);
    consumer.subscribe(["other"]).unwrap();
    assert_eq!(assigned(&consumer).await, ["other-0"]);
    cluster.remove_topic(TOPIC);
    for _ in 0..40 {
        // Neither of the two is missed.
        assert_eq!(assigned(&consumer).await, ["other-0"]);
    }
}
