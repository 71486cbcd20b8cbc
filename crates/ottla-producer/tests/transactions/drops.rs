//! Futures dropped at every await: the next transaction works, and nothing is half-committed.

use std::time::Duration;

use ottla_net::testing::drop_after;
use ottla_wire::ApiKey;

use crate::cluster::{Act, Cluster, group};
use crate::protocol::record;

#[tokio::test(start_paused = true)]
async fn every_future_may_be_dropped_at_every_await() {
    for is_v2 in [false, true] {
        for step in ["init", "begin", "send", "offsets", "commit", "abort"] {
            for polls in 0..8 {
                for pause in [Duration::ZERO, Duration::from_millis(15)] {
                    drop_in(is_v2, step, polls, pause).await;
                }
            }
        }
    }
}

/// Its next attempt would fence off whoever has taken its place meanwhile.
#[tokio::test(start_paused = true)]
async fn an_init_that_was_dropped_is_not_tried_again() {
    for act in [Act::DoAndClose, Act::DoAndSilence, Act::Close, Act::Silence] {
        let cluster = Cluster::start(true);
        cluster.fault_once(ApiKey::InitProducerId, 0, act);
        let first = tokio::time::timeout(Duration::from_millis(50), cluster.producer()).await;
        assert!(first.is_err(), "{act:?}: it was not dropped");
        let mut second = cluster.producer().await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        let asked = cluster.count(ApiKey::InitProducerId);
        assert_eq!(asked, 2, "{act:?}");
        let transaction = second.begin().await.unwrap();
        let _sent = transaction.send(record(0, "second")).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(cluster.committed(), ["second"], "{act:?}");
        second.close(Duration::from_secs(30)).await.unwrap();
    }
}

/// With one worker, tokio runs the task that was spawned last first.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_commit_does_not_overtake_offsets_that_nobody_waits_for() {
    let test = async {
        for is_v2 in [false, true] {
            let cluster = Cluster::start(is_v2);
            let mut producer = cluster.producer().await.unwrap();
            let transaction = producer.begin().await.unwrap();
            let sent = transaction.send(record(0, "a")).await.unwrap();
            sent.await.unwrap();
            let group = group();
            let offsets = transaction.send_offsets([("orders", 0, 5)], &group);
            assert!(drop_after(offsets, 0).await.is_none());
            transaction.commit().await.unwrap();
            assert_eq!(cluster.committed(), ["a"]);
            assert_eq!(cluster.world.lock().committed_offset, Some(5));
        }
    };
    tokio::spawn(test).await.unwrap();
}

async fn drop_in(is_v2: bool, step: &str, polls: usize, pause: Duration) {
    let what = format!("V2 {is_v2}, {step} dropped after {polls} polls");
    let cluster = Cluster::start(is_v2);
    let slow = Duration::from_millis(10);
    cluster.fault(move |api, _| match api {
        ApiKey::Produce | ApiKey::EndTxn | ApiKey::TxnOffsetCommit => Act::DoSlowly(slow),
        _ => Act::Do,
    });
    let polls_of = |of| if step == of { polls } else { usize::MAX };
    let early = drop_after(cluster.producer(), polls_of("init")).await;
    let mut producer = match early {
        Some(producer) => producer.unwrap(),
        None => cluster.producer().await.unwrap(),
    };
    // Leaves something for the next begin to wait for.
    let transaction = producer.begin().await.unwrap();
    let _sent = transaction.send(record(2, "dropped")).await.unwrap();
    drop(transaction);

    if let Some(transaction) = drop_after(producer.begin(), polls_of("begin")).await {
        let transaction = transaction.unwrap();
        let mut complete = true;
        for (partition, value) in [(0, "a"), (1, "b")] {
            let sent = drop_after(transaction.send(record(partition, value)), polls_of("send"));
            complete &= sent.await.is_some();
        }
        let group = group();
        let offsets = transaction.send_offsets([("orders", 0, 5)], &group);
        let offsets = drop_after(offsets, polls_of("offsets")).await;
        match step {
            "abort" => {
                let _ = drop_after(transaction.abort(), polls).await;
            }
            _ => {
                let commit = drop_after(transaction.commit(), polls_of("commit")).await;
                if let Some(commit) = &commit {
                    assert!(commit.is_ok(), "{what}: {commit:?}");
                    let expected: &[&str] = if complete { &["a", "b"] } else { &[] };
                    let seen = cluster.committed();
                    assert!(expected.is_empty() || seen == expected, "{what}: {seen:?}");
                    let offset = cluster.world.lock().committed_offset;
                    assert!(offsets.is_none() || offset == Some(5), "{what}");
                }
            }
        }
    }
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let next = tokio::time::timeout(Duration::from_secs(60), producer.begin());
    let transaction = next
        .await
        .unwrap_or_else(|_| panic!("{what}: hangs"))
        .unwrap();
    let before = cluster.committed();
    let halves = [before.contains(&"a".into()), before.contains(&"b".into())];
    if step != "send" {
        assert_eq!(halves[0], halves[1], "{what}: {before:?}");
    }
    assert!(step != "abort" || before.is_empty(), "{what}: {before:?}");
    let _sent = transaction.send(record(3, "next")).await.unwrap();
    transaction
        .commit()
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let seen = cluster.committed();
    assert!(
        seen.contains(&"next".into()) && seen.len() == before.len() + 1,
        "{what}: {seen:?}"
    );
    assert!(!seen.contains(&"dropped".into()), "{what}: {seen:?}");
    producer.close(Duration::from_secs(30)).await.unwrap();
}
