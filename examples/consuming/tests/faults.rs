//! The three ways through what happens to clusters; in memory, and with a paused clock.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use consuming::billing::{self, INVOICES, ORDERS};
use consuming::demo::{share_from_the_beginning, write};
use consuming::partitions;
use consuming::pool::{self, Verdict};
use ottla::consumer::{
    ConsumerConfig, IsolationLevel, RecordBatch, ShareAcknowledgementMode, ShareAcquireMode,
    ShareConsumerConfig, ShareRecord,
};
use ottla::prelude::*;
use ottla::testing::{ApiKey, Fault, Rule, TestCluster};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(300);

fn kafka(topics: &[(&str, i32)]) -> TestCluster {
    let builder = TestCluster::builder().nodes(3);
    let builder = topics.iter().fold(builder, |builder, (name, partitions)| {
        builder.topic(*name, *partitions)
    });
    builder.in_memory().unwrap()
}

fn once(api: ApiKey, skip: u64, fault: Fault) -> Rule {
    Rule {
        api,
        node: None,
        skip,
        times: 1,
        fault,
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn numbers(count: u32) -> impl Iterator<Item = (String, String)> {
    (0..count).map(|n| (n.to_string(), n.to_string()))
}

/// The values worked on, with repetitions.
type Seen = Arc<Mutex<Vec<u32>>>;

fn note(seen: &Seen, value: Option<&[u8]>) {
    let value = std::str::from_utf8(value.unwrap()).unwrap();
    seen.lock().unwrap().push(value.parse().unwrap());
}

#[tokio::test(start_paused = true)]
async fn partitions_are_worked_on_while_leaders_and_members_come_and_go() {
    let kafka = kafka(&[("readings", 4)]);
    let client = kafka.client().unwrap();
    write(&client, "readings", numbers(400)).await.unwrap();
    let seen = Seen::default();
    let member = || {
        let consumer = client.consumer_with(ConsumerConfig {
            group_id: Some("means".into()),
            enable_auto_commit: false,
            auto_offset_reset: OffsetReset::Earliest,
            max_partition_fetch_bytes: 500,
            ..client.consumer_config()
        });
        let consumer = consumer.unwrap();
        consumer.subscribe(["readings"]).unwrap();
        let seen = seen.clone();
        let work = move |batch: RecordBatch| {
            let seen = seen.clone();
            async move {
                for record in &batch {
                    sleep(Duration::from_millis(100)).await;
                    note(&seen, record.unwrap().value());
                }
            }
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let run = partitions::run(consumer, work, async {
            let _ = stopped.await;
        });
        (tokio::spawn(run), stop)
    };
    let (one, stop_one) = member();
    until("it begins", || !seen.lock().unwrap().is_empty()).await;
    kafka.inject(once(ApiKey::OffsetCommit, 0, Fault::LoseReply));
    let (two, stop_two) = member();
    kafka.stop_node(1).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    // It finishes what it has in hand, and the other goes on.
    stop_one.send(()).unwrap();
    one.await.unwrap().unwrap();
    kafka.start_node(1).await.unwrap();
    let all = |seen: &Seen| seen.lock().unwrap().iter().collect::<BTreeSet<_>>().len() == 400;
    until("all is read", || all(&seen)).await;
    stop_two.send(()).unwrap();
    two.await.unwrap().unwrap();
    // All of it is committed: another member has nothing to do.
    seen.lock().unwrap().clear();
    let (three, stop_three) = member();
    sleep(Duration::from_secs(30)).await;
    stop_three.send(()).unwrap();
    three.await.unwrap().unwrap();
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pool_tries_again_sets_aside_and_keeps_what_takes_long() {
    let kafka = kafka(&[("pictures", 2)]);
    let client = kafka.client().unwrap();
    share_from_the_beginning(&client, "thumbnails")
        .await
        .unwrap();
    write(&client, "pictures", numbers(60)).await.unwrap();
    let consumer = client
        .share_consumer_with(ShareConsumerConfig {
            group_id: "thumbnails".into(),
            acknowledgement_mode: ShareAcknowledgementMode::Explicit,
            acquire_mode: ShareAcquireMode::RecordLimit,
            max_poll_records: 6,
            ..client.share_consumer_config()
        })
        .unwrap();
    consumer.subscribe(["pictures"]).unwrap();
    let seen = Seen::default();
    let attempts = seen.clone();
    let work = move |record: ShareRecord| {
        note(&attempts, record.value());
        async move {
            let value: u32 = std::str::from_utf8(record.value().unwrap())
                .unwrap()
                .parse()
                .unwrap();
            match value {
                // Longer than two locks last.
                5 => sleep(Duration::from_secs(70)).await,
                _ => sleep(Duration::from_millis(50)).await,
            }
            match value {
                7 => Verdict::Hopeless,
                8 => Verdict::TryAgain,
                n if n % 10 == 3 && record.delivery_count() == 1 => Verdict::TryAgain,
                _ => Verdict::Done,
            }
        }
    };
    let watched = consumer.clone();
    let stop = async move {
        until("all is done", || {
            let metrics = watched.metrics();
            metrics.accepted + metrics.rejected == 60
        })
        .await;
        let metrics = watched.metrics();
        assert_eq!((metrics.accepted, metrics.rejected), (58, 2));
        // Six once, and one until it was the third time.
        assert_eq!((metrics.released, metrics.records_redelivered), (8, 8));
        assert_eq!((metrics.delivery_count_max, metrics.records_held), (3, 0));
        assert!((4..9).contains(&metrics.renewed), "{metrics:?}");
        assert_eq!(metrics.acknowledge_failures, 0);
    };
    pool::run(consumer, 6, 3, work, stop).await.unwrap();
    let mut times = BTreeMap::new();
    for value in seen.lock().unwrap().iter() {
        *times.entry(*value).or_insert(0) += 1;
    }
    assert_eq!(
        (times.len(), times[&5], times[&7], times[&8]),
        (60, 1, 1, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn each_order_has_one_invoice_whatever_happens() {
    let kafka = kafka(&[(ORDERS, 3), (INVOICES, 3)]);
    let client = kafka.client().unwrap();
    write(&client, ORDERS, numbers(300)).await.unwrap();
    for (api, skip, fault) in [
        (ApiKey::TxnOffsetCommit, 1, Fault::LoseReply),
        (ApiKey::EndTxn, 2, Fault::LoseReply),
        (ApiKey::Produce, 3, Fault::Disconnect),
        (ApiKey::Heartbeat, 2, Fault::Disconnect),
    ] {
        kafka.inject(once(api, skip, fault));
    }
    let member = |lives: Duration| {
        let client = client.clone();
        tokio::spawn(async move { billing::run(&client, "billing", sleep(lives)).await })
    };
    let members = [
        member(Duration::from_secs(4)),
        member(Duration::from_secs(90)),
    ];
    sleep(Duration::from_secs(1)).await;
    kafka.stop_node(2).await.unwrap();
    // Written while it is down, and billed by whoever is there.
    write(
        &client,
        ORDERS,
        (300..400).map(|n| (n.to_string(), n.to_string())),
    )
    .await
    .unwrap();
    sleep(Duration::from_secs(10)).await;
    kafka.start_node(2).await.unwrap();
    for member in members {
        member.await.unwrap().unwrap();
    }
    let reader = client
        .consumer_with(ConsumerConfig {
            isolation_level: IsolationLevel::ReadCommitted,
            ..client.consumer_config()
        })
        .unwrap();
    let partitions = reader.partitions_of(INVOICES).await.unwrap();
    reader
        .assign(partitions.into_iter().map(|p| (p, Offset::Beginning)))
        .unwrap();
    let mut invoices = Vec::new();
    while let Ok(invoice) = timeout(Duration::from_secs(10), reader.recv()).await {
        let key = invoice.unwrap().key().unwrap().to_vec();
        invoices.push(String::from_utf8(key).unwrap().parse::<u32>().unwrap());
    }
    invoices.sort_unstable();
    assert_eq!(invoices, (0..400).collect::<Vec<_>>());
}
