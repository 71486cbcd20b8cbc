//! Our members in groups of the consumer protocol (KIP-848): beside Java's and librdkafka's, in the eyes of Kafka's
//! tools, by pattern, as static members, when processes are killed, and while a group changes its protocol.

use std::{collections::BTreeSet, time::Duration};

use ottla_consumer::{Consumer, ConsumerConfig, GroupProtocol, TopicPattern};
use ottla_protocol_tests::{Kafka, Python, Tool, Tools, or_skip, unique};

use crate::client::{
    PATIENCE, Reading, busy_member, by_brokers, cluster, reading, runtime, until, within, write,
};
use crate::mixed::{blocking, lines, numbers};

const PARTITIONS: i32 = 4;

/// The rows that Kafka's tool prints of a group, each as its words.
fn described(tools: &Tools, group: &str, what: &[&str]) -> Vec<Vec<String>> {
    let of_group = ["--describe", "--group", group];
    let output = tools.run(Tool::ConsumerGroups, &[&of_group[..], what].concat());
    let rows = output.text().lines().filter(|line| line.starts_with(group));
    let words = |row: &str| row.split_whitespace().map(str::to_owned).collect();
    rows.map(words).collect()
}

#[test]
fn with_javas_console_consumer_that_is_killed() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (unique("by-brokers"), unique("with-java"));
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let bootstrap = kafka.bootstrap();
    within(PATIENCE * 3, async {
        write(bootstrap, &topic, PARTITIONS, 0..40).await;
        let args = ["--topic", &topic, "--group", &group, "--from-beginning"];
        let protocol = [
            "--command-property",
            "group.protocol=consumer",
            "--command-property",
            "auto.commit.interval.ms=200",
        ];
        let args = [&args[..], &protocol].concat();
        let mut java = kafka.tools().spawn(Tool::ConsoleConsumer, &args).record();
        blocking(|| java.wait_until("Java reads all", |out| lines(out).len() == 40));

        let ours = reading(bootstrap, by_brokers(&group), &topic);
        until("we have our share", || ours.has().len() == 2).await;
        write(bootstrap, &topic, PARTITIONS, 40..80).await;
        until("we read our share", || ours.seen().len() == 20).await;
        blocking(|| java.wait_until("Java reads its share", |out| lines(out).len() == 60));

        // What the tool says of us: our id, and two partitions each.
        let tools = kafka.tools();
        let rows = blocking(|| described(&tools, &group, &["--members"]));
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert!(
            rows.iter().all(|row| row.last().unwrap() == "2"),
            "{rows:?}"
        );
        let rows = blocking(|| described(&tools, &group, &["--state"]));
        assert!(rows[0].contains(&"Stable".to_owned()), "{rows:?}");
        let rows = blocking(|| described(&tools, &group, &[]));
        let owners: BTreeSet<_> = rows.iter().map(|row| &row[6]).collect();
        assert_eq!((rows.len(), owners.len()), (4, 2), "{rows:?}");

        // Java may have read and not committed some; we read on behind what it committed.
        tokio::time::sleep(Duration::from_millis(600)).await;
        let mut together = lines(&java.stdout());
        blocking(|| drop(java)); // with -9
        until("we have all", || ours.has().len() == 4).await;
        write(bootstrap, &topic, PARTITIONS, 80..120).await;
        until("we read all", || ours.seen().len() == 60).await;
        assert_eq!(ours.errors(), [""; 0]);
        together.extend(numbers(ours.leave().await));
        together.sort_unstable();
        assert_eq!(together, (0..120).collect::<Vec<_>>(), "each record once");
        let rows = blocking(|| described(&tools, &group, &["--state"]));
        assert!(rows[0].contains(&"Empty".to_owned()), "{rows:?}");
    });
}

#[test]
fn with_librdkafka_that_comes_and_goes() {
    let Some(kafka) = Kafka::shared() else { return };
    let Some(python) = or_skip(Python::get()) else {
        return;
    };
    let (topic, group) = (unique("by-brokers"), unique("with-python"));
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let bootstrap = kafka.bootstrap();
    within(PATIENCE * 2, async {
        let ours = reading(bootstrap, by_brokers(&group), &topic);
        until("we have all", || ours.has().len() == 4).await;
        let protocol = "group.protocol=consumer";
        let args = ["join", bootstrap, &group, &topic, protocol];
        let mut guest = python.guest("confluent_kafka", &args);
        blocking(|| guest.expect("joined"));
        until("we gave up two", || ours.has().len() == 2).await;
        write(bootstrap, &topic, PARTITIONS, 0..40).await;
        until("we read our half", || ours.seen().len() == 20).await;
        blocking(|| guest.go_on());
        let said = blocking(|| guest.expect("left"));
        blocking(|| guest.finish());
        let theirs = said["records"].as_array().unwrap().len();
        until("we have all again", || ours.has().len() == 4).await;
        write(bootstrap, &topic, PARTITIONS, 40..80).await;
        until("we read the rest", || ours.seen().len() + theirs == 80).await;
        ours.leave().await;
    });
}

#[test]
fn a_member_of_ours_that_dies_is_missed() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (unique("by-brokers"), unique("mortal"));
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let bootstrap = kafka.bootstrap().to_owned();
    // Its tasks and sockets end with its runtime, and it says nothing.
    let mortal = runtime();
    let doomed = mortal.block_on(async { reading(&bootstrap, by_brokers(&group), &topic) });
    within(PATIENCE * 2, async {
        let ours = reading(&bootstrap, by_brokers(&group), &topic);
        until("each has two", || {
            ours.has().len() == 2 && doomed.has().len() == 2
        })
        .await;
        mortal.shutdown_background();
        let died = std::time::Instant::now();
        until("we have all", || ours.has().len() == 4).await;
        println!(
            "its partitions were ours {:?} after its death",
            died.elapsed()
        );
        write(&bootstrap, &topic, PARTITIONS, 0..40).await;
        until("we read all", || ours.seen().len() == 40).await;
        ours.leave().await;
    });
    // Closing it would wait for tasks that are gone.
    std::mem::forget(doomed);
}

#[test]
fn a_pattern_is_matched_by_the_brokers() {
    let Some(kafka) = Kafka::shared() else { return };
    let (prefix, group) = (unique("pattern"), unique("by-pattern"));
    let [first, second, other] = ["a1", "a2", "b1"].map(|suffix| format!("{prefix}-{suffix}"));
    kafka.create_topic(&first, 2, &[]);
    kafka.create_topic(&other, 2, &[]);
    let bootstrap = kafka.bootstrap();
    within(PATIENCE * 2, async {
        let consumer = Consumer::new(cluster(bootstrap), by_brokers(&group)).unwrap();
        let pattern = TopicPattern::new(&format!("{prefix}-a[0-9]")).unwrap();
        consumer.subscribe_pattern(pattern).unwrap();
        let ours = Reading::start(consumer.clone());
        until("we have the first", || consumer.assignment().len() == 2).await;
        blocking(|| kafka.create_topic(&second, 2, &[]));
        write(bootstrap, &second, 2, 0..20).await;
        until("we have the second", || consumer.assignment().len() == 4).await;
        until("we read it", || ours.seen().len() == 20).await;
        let topics = consumer.subscription();
        assert_eq!(topics, [&*first, &*second]);
        // One that brokers do not understand; this client does.
        let bad = TopicPattern::new(r"x[a-w&&[^b]]{2}\u{61}").unwrap();
        consumer.subscribe_pattern(bad).unwrap();
        until("it is refused", || !ours.errors().is_empty()).await;
        assert!(ours.errors()[0].contains("RE2/J"), "{:?}", ours.errors());
        // And back, by names.
        consumer.subscribe([other.clone()]).unwrap();
        until("we have the other", || {
            let assignment = consumer.assignment();
            assignment.len() == 2 && assignment.iter().all(|at| *at.topic == *other)
        })
        .await;
        drop(consumer);
        ours.leave().await;
    });
}

#[test]
fn a_static_member_keeps_its_place() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (unique("by-brokers"), unique("static"));
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let bootstrap = kafka.bootstrap();
    within(PATIENCE * 2, async {
        let named = |name: &str| ConsumerConfig {
            group_instance_id: Some(name.into()),
            ..by_brokers(&group)
        };
        let one = reading(bootstrap, named("one"), &topic);
        let two = reading(bootstrap, named("two"), &topic);
        until("each has two", || {
            one.has().len() == 2 && two.has().len() == 2
        })
        .await;
        let rival = reading(bootstrap, named("one"), &topic);
        until("the rival is told", || !rival.errors().is_empty()).await;
        assert!(
            rival.errors()[0].contains("group.instance.id"),
            "{:?}",
            rival.errors()
        );
        rival.end().await;
        let (had, others) = (one.has(), two.has());
        one.end().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(two.has(), others, "nobody takes its place");
        let back = reading(bootstrap, named("one"), &topic);
        until("it is back", || back.has() == had).await;
        assert_eq!(two.has(), others);
        // For good: its session ends, and with it its place.
        back.end().await;
        until("the other has all", || two.has().len() == 4).await;
        two.end().await;
    });
}

#[test]
fn a_group_changes_its_protocol_while_it_reads() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (unique("by-brokers"), unique("migrates"));
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let bootstrap = kafka.bootstrap();
    within(PATIENCE * 3, async {
        let tools = kafka.tools();
        let is_consumer_group = || {
            let listed = tools.run(Tool::ConsumerGroups, &["--list", "--type", "consumer"]);
            listed.text().lines().any(|line| line.starts_with(&group))
        };
        let old = reading(bootstrap, busy_member(&group), &topic);
        until("the old member has all", || old.has().len() == 4).await;
        write(bootstrap, &topic, PARTITIONS, 0..20).await;
        until("it reads", || old.seen().len() == 20).await;
        assert!(!blocking(is_consumer_group));
        // Upwards: the brokers take the old member along.
        let new = reading(bootstrap, by_brokers(&group), &topic);
        until("each has two", || {
            old.has().len() == 2 && new.has().len() == 2
        })
        .await;
        assert!(blocking(is_consumer_group));
        write(bootstrap, &topic, PARTITIONS, 20..60).await;
        until("both read", || old.seen().len() + new.seen().len() == 60).await;
        let mut seen = numbers(old.leave().await);
        until("the new member has all", || new.has().len() == 4).await;
        write(bootstrap, &topic, PARTITIONS, 60..80).await;
        until("it reads", || seen.len() + new.seen().len() == 80).await;
        // Downwards: an old one comes, and the new one goes.
        let auto = ConsumerConfig {
            group_protocol: GroupProtocol::Auto,
            ..busy_member(&group)
        };
        let chosen = reading(bootstrap, auto, &topic);
        let old = reading(bootstrap, busy_member(&group), &topic);
        until("all share", || {
            let shares = [&new, &chosen, &old].map(|member| member.has().len());
            shares.iter().sum::<usize>() == 4 && shares.iter().all(|share| *share > 0)
        })
        .await;
        seen.extend(numbers(new.leave().await));
        seen.extend(numbers(chosen.leave().await));
        until("the old one has all", || old.has().len() == 4).await;
        assert!(!blocking(is_consumer_group));
        write(bootstrap, &topic, PARTITIONS, 80..100).await;
        until("it reads", || seen.len() + old.seen().len() == 100).await;
        seen.extend(numbers(old.leave().await));
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>(), "each record once");
    });
}
