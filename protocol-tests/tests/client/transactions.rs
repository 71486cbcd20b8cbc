//! Transactions of another client's, read by ours; on a live Kafka and on the embedded broker.

use std::time::Duration;

use ottla_consumer::{Consumer, ConsumerConfig, IsolationLevel, Offset};
use ottla_protocol_tests::Python;

use super::{PATIENCE, Reading, cluster, until, within};

/// confluent-kafka writes transactions to the topic, which is new and has one partition: `read_committed` sees those
/// that were committed, in their order and when they are, `read_uncommitted` all.
pub(crate) fn are_read_as_they_ended(python: &Python, bootstrap: &str, topic: &str) {
    let script = include_str!("../../python/transactions.py");
    let mut writer = python.script("transactions", script, &[bootstrap, topic]);
    within(PATIENCE * 2, async {
        let reading = |isolation_level| {
            let config = ConsumerConfig {
                isolation_level,
                ..Default::default()
            };
            let consumer = Consumer::new(cluster(bootstrap), config).unwrap();
            let start = ((topic.to_owned(), 0), Offset::Beginning);
            consumer.assign([start]).unwrap();
            consumer
        };
        let committed_only = reading(IsolationLevel::ReadCommitted);
        let committed = Reading::start(committed_only.clone());
        tokio::task::block_in_place(|| writer.expect("open"));
        let everything = Reading::start(reading(IsolationLevel::ReadUncommitted));
        until("all four are seen", || everything.seen().len() == 40).await;
        until("two are committed", || committed.seen().len() == 20).await;
        // Nothing of the open one, however long one waits.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let expected = |names: &[&str]| -> Vec<String> {
            let ten = |name: &&str| -> Vec<String> {
                (0..10).map(|number| format!("{name} {number}")).collect()
            };
            names.iter().flat_map(ten).collect()
        };
        let values = |reading: &Reading| -> Vec<String> {
            reading
                .seen()
                .into_iter()
                .map(|(_, _, value)| value)
                .collect()
        };
        assert_eq!(
            values(&committed),
            expected(&["committed", "also committed"])
        );
        let all = ["committed", "aborted", "also committed", "late"];
        assert_eq!(values(&everything), expected(&all));

        writer.go_on();
        tokio::task::block_in_place(|| writer.expect("committed"));
        tokio::task::block_in_place(|| writer.finish());
        until("the late one is seen", || committed.seen().len() == 30).await;
        let names = ["committed", "also committed", "late"];
        assert_eq!(values(&committed), expected(&names));
        // Past the last marker too: four transactions of ten records and a marker each.
        let partition = (topic.to_owned(), 0).into();
        until("the position is at the end", || {
            committed_only.position(&partition).unwrap() == Some(44)
        })
        .await;
        assert_eq!(committed.errors(), Vec::<String>::new());
        assert_eq!(everything.errors(), Vec::<String>::new());
        committed_only.close(PATIENCE).await.unwrap();
    });
}
