//! Groups that our consumer shares with other clients', by every assignor.

use std::sync::Arc;

use ottla_consumer::{
    Consumer, ConsumerConfig,
    assignor::{Assignor, CooperativeSticky, Range, RoundRobin, Sticky},
};
use ottla_protocol_tests::{
    Kafka, KafkaCluster, Options, Python, Tool, Tools, Version, or_skip, unique,
};

use crate::client::{PATIENCE, Reading, busy_member, cluster, committing, until, within, write};

const PARTITIONS: i32 = 4;

#[test]
fn with_javas_console_consumer() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (unique("mixed"), unique("with-java"));
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let bootstrap = kafka.bootstrap();
    within(PATIENCE * 2, async {
        write(bootstrap, &topic, PARTITIONS, 0..40).await;
        let args = ["--topic", &topic, "--group", &group, "--from-beginning"];
        let quick = ["--consumer-property", "heartbeat.interval.ms=200"];
        let args = [&args[..], &quick].concat();
        let mut java = kafka.tools().spawn(Tool::ConsoleConsumer, &args).record();
        blocking(|| java.wait_until("Java reads all", |out| lines(out).len() == 40));

        let ours = Reading::start(committing(bootstrap, &group, &topic));
        until("we have our share", || ours.has().len() == 2).await;
        write(bootstrap, &topic, PARTITIONS, 40..80).await;
        until("we read our share", || ours.seen().len() == 20).await;
        blocking(|| java.wait_until("Java reads its share", |out| lines(out).len() == 60));
        let mine = ours.has();
        let ours = ours.leave().await;
        assert!(ours.iter().all(|(partition, ..)| mine.contains(partition)));
        let mut together = lines(&java.stdout());
        together.extend(numbers(ours));
        together.sort_unstable();
        assert_eq!(
            together,
            (0..80).collect::<Vec<_>>(),
            "each record went to one of us"
        );

        write(bootstrap, &topic, PARTITIONS, 80..120).await;
        blocking(|| java.wait_until("Java has all again", |out| lines(out).len() >= 100));
        blocking(|| java.terminate());
        assert_eq!(lines(&java.stdout()).len(), 100, "nothing came twice");

        write(bootstrap, &topic, PARTITIONS, 120..124).await;
        let ours = Reading::start(committing(bootstrap, &group, &topic));
        until("we go on where Java ended", || ours.seen().len() >= 4).await;
        assert_eq!(numbers(ours.leave().await), (120..124).collect::<Vec<_>>());
    });
}

#[test]
fn with_confluent_kafka() {
    let Some(kafka) = Kafka::shared() else { return };
    let Some(python) = or_skip(Python::get()) else {
        return;
    };
    let (topic, group) = (unique("mixed"), unique("with-python"));
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let bootstrap = kafka.bootstrap();
    within(PATIENCE * 2, async {
        let ours = Reading::start(committing(bootstrap, &group, &topic));
        until("we have all", || ours.has().len() == 4).await;
        let mut guest = python.guest("confluent_kafka", &["join", bootstrap, &group, &topic]);
        let said = blocking(|| guest.expect("joined"));
        let theirs: Vec<_> = said["partitions"].as_array().unwrap().iter().collect();
        assert_eq!(theirs.len(), 2, "{said}");
        until("we have the other two", || ours.has().len() == 2).await;
        write(bootstrap, &topic, PARTITIONS, 0..40).await;
        blocking(|| guest.go_on());
        let said = blocking(|| guest.expect("left"));
        blocking(|| guest.finish());
        assert_eq!(
            said["records"].as_array().unwrap().len(),
            20,
            "half of them"
        );
        until("we read our half", || ours.seen().len() == 20).await;
        until("we have all again", || ours.has().len() == 4).await;
        write(bootstrap, &topic, PARTITIONS, 40..80).await;
        until("we read all that came", || ours.seen().len() >= 60).await;
        let seen = ours.leave().await;
        assert_eq!(seen.len(), 60, "nothing that the guest had committed");
        let mut places: Vec<_> = seen.iter().map(|seen| (seen.0, seen.1)).collect();
        let record = |record: &serde_json::Value| {
            let number = |name: &str| record[name].as_i64().unwrap();
            (number("partition") as i32, number("offset"))
        };
        places.extend(said["records"].as_array().unwrap().iter().map(record));
        places.sort_unstable();
        let everything: Vec<_> = (0..PARTITIONS)
            .flat_map(|partition| (0..20).map(move |offset| (partition, offset)))
            .collect();
        assert_eq!(places, everything, "each record went to one of us");
    });
}

#[test]
fn with_both_rebalancing_cooperatively() {
    let Some(kafka) = Kafka::shared() else { return };
    let Some(python) = or_skip(Python::get()) else {
        return;
    };
    let (topic, group) = (unique("mixed"), unique("cooperative"));
    kafka.create_topic(&topic, 6, &[]);
    let bootstrap = kafka.bootstrap();
    within(PATIENCE * 3, async {
        let config = ConsumerConfig {
            assignors: vec![Arc::new(CooperativeSticky)],
            ..busy_member(&group)
        };
        let consumer = Consumer::new(cluster(bootstrap), config).unwrap();
        consumer.subscribe([topic.clone()]).unwrap();
        let ours = Reading::start(consumer);
        until("we have all", || ours.has().len() == 6).await;

        let strategy = "partition.assignment.strategy=\
                        org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
        let mut args = vec!["--topic", &topic, "--group", &group, "--from-beginning"];
        for property in [strategy, "heartbeat.interval.ms=200"] {
            args.extend(["--consumer-property", property]);
        }
        let mut java = kafka.tools().spawn(Tool::ConsoleConsumer, &args).record();
        until("Java has its share", || ours.has().len() == 3).await;
        let had = ours.has();
        write(bootstrap, &topic, 6, 0..60).await;
        until("we read our share", || ours.seen().len() == 30).await;
        blocking(|| java.wait_until("Java reads its share", |out| lines(out).len() == 30));

        let strategy = "partition.assignment.strategy=cooperative-sticky";
        let args = ["join", bootstrap, &group, &topic, strategy];
        let mut guest = python.guest("confluent_kafka", &args);
        blocking(|| guest.expect("joined"));
        until("each has two", || ours.has().len() == 2).await;
        let kept = ours.has();
        assert!(
            kept.iter().all(|kept| had.contains(kept)),
            "{had:?} {kept:?}"
        );
        write(bootstrap, &topic, 6, 60..120).await;
        until("we read our third", || ours.seen().len() == 50).await;
        blocking(|| java.wait_until("Java reads its third", |out| lines(out).len() == 50));
        blocking(|| guest.go_on());
        let said = blocking(|| guest.expect("left"));
        blocking(|| guest.finish());
        // One partition or two: it may have left before Java had given up the second.
        let theirs = said["records"].as_array().unwrap().len();
        until("its share is ours and Java's", || ours.has().len() == 3).await;
        let has = ours.has();
        assert!(
            kept.iter().all(|kept| has.contains(kept)),
            "{kept:?} {has:?}"
        );

        write(bootstrap, &topic, 6, 120..180).await;
        let read = || ours.seen().len() + lines(&java.stdout()).len() + theirs;
        until("all is read again", || read() == 180).await;
        blocking(|| java.terminate());
        until("we have all again", || ours.has().len() == 6).await;
        write(bootstrap, &topic, 6, 180..240).await;
        let read = || ours.seen().len() + lines(&java.stdout()).len() + theirs;
        until("we read all that came", || read() == 240).await;
        let mut together = lines(&java.stdout());
        together.extend(numbers(ours.leave().await));
        together.extend(said["records"].as_array().unwrap().iter().map(|record| {
            let hex = record["value"].as_str().unwrap();
            let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap() as char;
            let text: String = (0..hex.len()).step_by(2).map(digit).collect();
            text.parse::<u32>().unwrap()
        }));
        together.sort_unstable();
        let all: Vec<u32> = (0..240).collect();
        assert_eq!(together, all, "each record went to one of us, once");
    });
}

#[test]
fn with_java_by_the_other_eager_assignors() {
    let Some(kafka) = Kafka::shared() else { return };
    within(PATIENCE * 4, async {
        for (assignor, java) in eager().into_iter().skip(1) {
            let topic = unique("mixed");
            kafka.create_topic(&topic, PARTITIONS, &[]);
            share_with_java(kafka.bootstrap(), &kafka.tools(), &topic, assignor, java).await;
        }
    });
}

#[test]
fn with_java_on_kafka_3_9() {
    let options = Options {
        version: Version::V3_9,
        ..Options::default()
    };
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    let cooperative: Arc<dyn Assignor> = Arc::new(CooperativeSticky);
    within(PATIENCE * 6, async {
        for (assignor, java) in eager()
            .into_iter()
            .chain([(cooperative, "CooperativeStickyAssignor")])
        {
            let topic = unique("mixed");
            kafka.create_topic(&topic, PARTITIONS, &[]);
            share_with_java(&kafka.bootstrap(), &kafka.tools(), &topic, assignor, java).await;
        }
    });
}

/// Ours, and what Java calls them.
fn eager() -> [(Arc<dyn Assignor>, &'static str); 3] {
    [
        (Arc::new(Range), "RangeAssignor"),
        (Arc::new(RoundRobin), "RoundRobinAssignor"),
        (Arc::new(Sticky), "StickyAssignor"),
    ]
}

/// Java's console consumer joins ours, has half of the partitions, and leaves: each record goes to one of the two.
async fn share_with_java(
    bootstrap: &str,
    tools: &Tools,
    topic: &str,
    assignor: Arc<dyn Assignor>,
    java: &str,
) {
    let group = unique("with-java");
    let config = ConsumerConfig {
        assignors: vec![assignor],
        ..busy_member(&group)
    };
    let consumer = Consumer::new(cluster(bootstrap), config).unwrap();
    consumer.subscribe([topic.to_owned()]).unwrap();
    let ours = Reading::start(consumer);
    until(&format!("{java}: we have all"), || ours.has().len() == 4).await;
    let strategy =
        format!("partition.assignment.strategy=org.apache.kafka.clients.consumer.{java}");
    let mut args = vec!["--topic", topic, "--group", &group, "--from-beginning"];
    for property in [&strategy, "heartbeat.interval.ms=200"] {
        args.extend(["--consumer-property", property]);
    }
    let mut guest = tools.spawn(Tool::ConsoleConsumer, &args).record();
    until(&format!("{java}: Java has its share"), || {
        ours.has().len() == 2
    })
    .await;
    let had = ours.has();
    write(bootstrap, topic, PARTITIONS, 0..40).await;
    until(&format!("{java}: we read our share"), || {
        ours.seen().len() == 20
    })
    .await;
    blocking(|| guest.wait_until("Java reads its share", |out| lines(out).len() == 20));
    assert!(ours.seen().iter().all(|seen| had.contains(&seen.0)));
    blocking(|| guest.terminate());
    until(&format!("{java}: we have all again"), || {
        ours.has().len() == 4
    })
    .await;
    write(bootstrap, topic, PARTITIONS, 40..80).await;
    until(&format!("{java}: we read all that came"), || {
        ours.seen().len() >= 60
    })
    .await;
    let mut together = lines(&guest.stdout());
    together.extend(numbers(ours.leave().await));
    together.sort_unstable();
    let all: Vec<u32> = (0..80).collect();
    assert_eq!(together, all, "{java}: each record went to one of us, once");
}

/// The numbers among what the console consumer printed; it complains of its options there too.
pub(crate) fn lines(printed: &str) -> Vec<u32> {
    printed
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect()
}

pub(crate) fn numbers(seen: Vec<(i32, i64, String)>) -> Vec<u32> {
    let mut numbers: Vec<_> = seen.iter().map(|seen| seen.2.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}
