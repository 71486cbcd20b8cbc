//! Groups that our consumer shares with another client's, both on the range assignor.

use ottla_protocol_tests::{Kafka, Python, Tool, or_skip, unique};

use crate::client::{PATIENCE, Reading, committing, until, within, write};

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

/// The numbers among what the console consumer printed; it complains of its options there too.
fn lines(printed: &str) -> Vec<u32> {
    printed
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect()
}

fn numbers(seen: Vec<(i32, i64, String)>) -> Vec<u32> {
    let mut numbers: Vec<_> = seen.iter().map(|seen| seen.2.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}
