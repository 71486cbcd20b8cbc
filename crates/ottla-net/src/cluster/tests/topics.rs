//! Topics and leaders: unknown, new, forbidden, moved, made anew.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_topic_created_a_little_later_is_found() {
    let brokers = ScriptedCluster::start(3);
    let cluster = brokers.connect();
    let start = Instant::now();
    let creating = async {
        sleep(5 * SECOND).await;
        brokers.add_topic("t", 6);
    };
    let (found, ()) = tokio::join!(cluster.topic("t", within(60)), creating);
    assert_eq!(found.unwrap().partitions.len(), 6);
    assert!((5..8).contains(&start.elapsed().as_secs()));
    assert_eq!(cluster.metadata().leader("t", 4), Some((2, 0)));
    // Known from now on: asking costs nothing.
    let asked: usize = brokers
        .brokers()
        .iter()
        .map(|b| b.count(ApiKey::Metadata))
        .sum();
    cluster.topic("t", within(60)).await.unwrap();
    let again: usize = brokers
        .brokers()
        .iter()
        .map(|b| b.count(ApiKey::Metadata))
        .sum();
    assert_eq!(asked, again);
    assert!(asked < 20, "{asked} requests in five seconds");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_is_an_error_at_the_deadline() {
    let brokers = ScriptedCluster::start(1);
    let cluster = brokers.connect();
    let start = Instant::now();
    let error = cluster.topic("nope", within(10)).await.unwrap_err();
    assert_eq!(start.elapsed(), 10 * SECOND);
    let text = error.to_string();
    assert!(
        text.contains("\"nope\"") && text.contains("UNKNOWN_TOPIC_OR_PARTITION"),
        "{text}"
    );
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));

    brokers.add_topic("empty", 0);
    let text = cluster
        .topic("empty", within(10))
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("no partition yet"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_topic_is_an_error_at_once_each_time() {
    let brokers = ScriptedCluster::start(1);
    brokers.add_topic("t", 1);
    brokers.fail_topic("t", ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let cluster = brokers.connect();
    for _ in 0..2 {
        let start = Instant::now();
        let error = cluster.topic("t", within(60)).await.unwrap_err();
        assert!(
            matches!(error, Error::Topic { .. }) && !error.is_retriable(),
            "{error}"
        );
        assert!(start.elapsed() < SECOND);
    }
    brokers.fail_topic("t", ErrorCode::NONE);
    cluster.topic("t", within(60)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_for_topics_ask_together() {
    let brokers = ScriptedCluster::start(1);
    let cluster = brokers.connect();
    let mut waiting = Vec::new();
    for n in 0..100 {
        brokers.add_topic(&format!("t{n}"), 1);
        let cluster = cluster.clone();
        waiting.push(tokio::spawn(async move {
            cluster.topic(&format!("t{n}"), within(60)).await.map(drop)
        }));
    }
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    assert!(brokers.broker(1).count(ApiKey::Metadata) <= 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_has_the_metadata_refreshed() {
    let brokers = ScriptedCluster::start(3);
    brokers.add_topic("t", 3);
    let cluster = beating(&brokers);
    cluster.track(["t"]);
    cluster.topic("t", within(9)).await.unwrap();
    let _connection = cluster
        .connection(2, Lane::Produce, within(9))
        .await
        .unwrap();
    brokers.move_leader("t", 1, 3);
    let mut changes = cluster.changes();
    brokers.broker(2).kill();
    changes.changed().await.unwrap();
    assert_eq!(cluster.metadata().leader("t", 1), Some((3, 1)));
}

#[tokio::test(start_paused = true)]
async fn leaders_told_by_error_replies_are_news_at_once() {
    let brokers = ScriptedCluster::start(3);
    brokers.add_topic("t", 1);
    let cluster = brokers.connect();
    cluster.topic("t", within(9)).await.unwrap();
    let before = *cluster.changes().borrow();
    let hint = |leader, leader_epoch| LeaderHint {
        topic: "t",
        partition: 0,
        leader,
        leader_epoch,
    };
    cluster.learn_leaders(&[hint(7, 1)], [(7, "broker-7", 9092, None)]);
    assert_eq!(cluster.metadata().leader("t", 0), Some((7, 1)));
    assert_eq!(*cluster.changes().borrow(), before + 1);
    cluster.learn_leaders(&[hint(2, 1)], []);
    assert_eq!(
        *cluster.changes().borrow(),
        before + 1,
        "not newer, no news"
    );
}

#[tokio::test(start_paused = true)]
async fn a_topic_created_anew_has_its_new_id() {
    let brokers = ScriptedCluster::start(3);
    let first = brokers.add_topic("t", 1);
    brokers.move_leader("t", 0, 2);
    let cluster = brokers.connect();
    cluster.track(["t"]);
    assert_eq!(cluster.topic("t", within(9)).await.unwrap().id, first);
    let second = brokers.add_topic("t", 2);
    assert_ne!((first, Uuid::ZERO), (second, first));
    let mut changes = cluster.changes();
    cluster.refresh_soon();
    changes.changed().await.unwrap();
    let topic = cluster.metadata().topic_by_id(second).cloned().unwrap();
    assert_eq!((&*topic.name, topic.partitions[0].leader_epoch), ("t", 0));
}

#[tokio::test(start_paused = true)]
async fn metadata_is_fetched_anew_at_its_age() {
    let brokers = ScriptedCluster::start(1);
    brokers.add_topic("t", 1);
    let cluster = brokers.connect();
    cluster.track(["t"]);
    cluster.topic("t", within(9)).await.unwrap();
    brokers.move_leader("t", 0, -1);
    sleep(cluster.config().metadata_max_age + SECOND).await;
    assert_eq!(cluster.metadata().leader("t", 0), None);
}

#[tokio::test(start_paused = true)]
async fn the_longest_times_that_settings_take_do_not_overflow() {
    let brokers = ScriptedCluster::start(1);
    brokers.add_topic("clicks", 1);
    let longest = Duration::from_millis(i64::MAX as u64);
    let cluster = brokers.connect_with(ClusterConfig {
        request_timeout: longest,
        retry_backoff_max: longest,
        reconnect_backoff_max: longest,
        connect_timeout_max: longest,
        connection_idle_max: Some(longest),
        connection_lifetime_max: Some(longest),
        metadata_max_age: longest,
        metadata_max_idle: longest,
        rebootstrap_trigger: longest,
        ..brokers.config()
    });
    cluster.topic("clicks", within(5)).await.unwrap();
    brokers.broker(1).drop_connections();
    brokers.add_topic("orders", 1);
    cluster.topic("orders", within(5)).await.unwrap();
}
