//! What Kafka's tools and other clients write, our consumer reads.
#![allow(clippy::unwrap_used)]

mod client;

use std::time::Duration;

use client::{PATIENCE, member, producer, read, reader, send, within, write};
use ottla_consumer::{Consumer, ConsumerConfig};
use ottla_producer::{Compression, ProducerConfig};
use ottla_protocol_tests::{Kafka, Kcat, Python, Sample, Tool, or_skip, sample, unique};

#[test]
fn what_the_console_producer_writes_with_every_codec() {
    let Some(kafka) = Kafka::shared() else { return };
    let samples = [
        Sample::new(Some(b"k"), Some(b"v"))
            .header("h", Some(b"1"))
            .header("h", Some(b"2")),
        Sample::new(None, Some("\u{20ac}".as_bytes())),
        Sample::new(Some(b""), Some(b"")),
        Sample::new(Some(b"tombstone"), None)
            .header("n", None)
            .header("e", Some(b"")),
        Sample::new(
            Some(b"long"),
            Some("0123456789abcdef".repeat(5_000).as_bytes()),
        ),
    ];
    let topic = unique("console");
    kafka.create_topic(&topic, 1, &[]);
    for codec in Compression::ALL {
        kafka.tools().produce(&topic, codec.name(), &samples);
    }
    let count = samples.len() * Compression::ALL.len();
    let read = within(PATIENCE, async {
        let consumer = reader(kafka.bootstrap(), &topic, 1);
        let read = read(&consumer, count).await;
        consumer.close(PATIENCE).await.unwrap();
        read
    });
    for (index, ((_, offset, sample), codec)) in read
        .into_iter()
        .zip(Compression::ALL.into_iter().flat_map(|c| [c; 5]))
        .enumerate()
    {
        assert_eq!(offset, index as i64);
        let expected = samples[index % samples.len()].clone();
        // The console producer takes the time itself.
        assert_eq!(sample.at(0), expected.at(0), "record {index}, {codec:?}");
    }
}

#[test]
fn what_librdkafka_writes_with_every_codec() {
    let Some(kafka) = Kafka::shared() else { return };
    let Some(python) = or_skip(Python::get()) else {
        return;
    };
    let mut samples = sample::every_shape();
    samples.push(sample::one_megabyte());
    for sample in &mut samples {
        sample.timestamp = sample.timestamp.max(1); // librdkafka takes 0 for "now"
    }
    for codec in Compression::ALL {
        let topic = unique(codec.name());
        kafka.create_topic(&topic, 1, &[("retention.ms", "-1")]);
        python.produce(kafka.bootstrap(), &topic, codec.name(), &samples);
        let read = within(PATIENCE, async {
            let consumer = reader(kafka.bootstrap(), &topic, 1);
            let read = read(&consumer, samples.len()).await;
            consumer.close(PATIENCE).await.unwrap();
            read
        });
        let read: Vec<_> = read.into_iter().map(|(_, _, sample)| sample).collect();
        sample::assert_same(&format!("{codec:?} by librdkafka"), &read, &samples);
    }
}

#[test]
fn what_kcat_writes_and_what_kcat_reads() {
    let Some(kafka) = Kafka::shared() else { return };
    let Some(kcat) = or_skip(Kcat::find()) else {
        return;
    };
    let topic = unique("kcat");
    kafka.create_topic(&topic, 1, &[]);
    let to = [
        "-P",
        "-b",
        kafka.bootstrap(),
        "-t",
        &topic,
        "-K:",
        "-Z",
        "-H",
        "a=1",
        "-z",
        "snappy",
    ];
    kcat.run(&to, Some(b"key:value\nempty:\n"));
    let read = within(PATIENCE, async {
        let config = ProducerConfig {
            compression: Compression::Zstd,
            ..Default::default()
        };
        let producer = producer(kafka.bootstrap(), config);
        let ours = Sample::new(Some(b"ours"), Some(b"by Ottla"));
        send(&producer, &topic, None, &ours)
            .await
            .unwrap()
            .await
            .unwrap();
        producer.close(PATIENCE).await.unwrap();
        let consumer = reader(kafka.bootstrap(), &topic, 1);
        let read = read(&consumer, 3).await;
        consumer.close(PATIENCE).await.unwrap();
        read
    });
    let of_kcat = |key: &[u8], value| Sample::new(Some(key), value).header("a", Some(b"1")).at(0);
    assert_eq!(read[0].2.clone().at(0), of_kcat(b"key", Some(b"value")));
    assert_eq!(
        read[1].2.clone().at(0),
        of_kcat(b"empty", None),
        "-Z makes empty null"
    );
    assert_eq!(read[2].2.value.as_deref(), Some(&b"by Ottla"[..]));

    let from = [
        "-C",
        "-b",
        kafka.bootstrap(),
        "-t",
        &topic,
        "-e",
        "-q",
        "-f",
        "%k=%S;",
    ];
    assert_eq!(kcat.run(&from, None).text(), "key=5;empty=-1;ours=8;");
}

#[test]
fn what_the_verifiable_producer_says_it_wrote_and_ours_to_the_verifiable_consumer() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("verifiable");
    kafka.create_topic(&topic, 3, &[]);
    let args = [
        "--topic",
        &topic,
        "--max-messages",
        "5000",
        "--throughput",
        "-1",
    ];
    let said = kafka.tools().run(Tool::VerifiableProducer, &args);
    let mut wrote: Vec<String> = said
        .text()
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|event| event["name"] == "producer_send_success")
        .map(|event| event["value"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(wrote.len(), 5_000);
    let mut read: Vec<String> = within(PATIENCE, async {
        let consumer = reader(kafka.bootstrap(), &topic, 3);
        let read = read(&consumer, 5_000).await;
        consumer.close(PATIENCE).await.unwrap();
        read.into_iter()
            .map(|(_, _, sample)| String::from_utf8(sample.value.unwrap()).unwrap())
    })
    .collect();
    wrote.sort();
    read.sort();
    assert_eq!(read, wrote);

    within(PATIENCE, async {
        write(kafka.bootstrap(), &topic, 3, 0..1_000).await;
    });
    let group = unique("verifiers");
    let args = ["--topic", &topic, "--group-id", &group];
    let args = [&args[..], &["--max-messages", "6000"]].concat();
    let said = kafka.tools().run(Tool::VerifiableConsumer, &args);
    let mut places = Vec::new();
    for event in said.text().lines() {
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        if event["name"] != "records_consumed" {
            continue;
        }
        for part in event["partitions"].as_array().unwrap() {
            let number = |name: &str| part[name].as_i64().unwrap();
            let offsets = number("minOffset")..=number("maxOffset");
            places.extend(offsets.map(|offset| (number("partition"), offset)));
        }
    }
    assert_eq!(places.len(), 6_000, "as many as were written");
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 6_000, "each once");
}

#[test]
fn our_group_commits_resumes_and_shows_in_kafkas_description() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, group) = (unique("group"), unique("billing"));
    kafka.create_topic(&topic, 2, &[]);
    within(PATIENCE * 2, async {
        let producer = producer(kafka.bootstrap(), ProducerConfig::default());
        for number in 0..20 {
            let sample = Sample::new(None, Some(format!("{number}").as_bytes()));
            send(&producer, &topic, Some(number % 2), &sample)
                .await
                .unwrap()
                .await
                .unwrap();
        }
        producer.close(PATIENCE).await.unwrap();

        let first = member(kafka.bootstrap(), &group, &topic);
        let before = read(&first, 12).await;
        first.commit().await.unwrap();

        let described = tokio::task::block_in_place(|| {
            kafka
                .tools()
                .run(Tool::ConsumerGroups, &["--describe", "--group", &group])
        });
        let rows: Vec<Vec<&str>> = described
            .text()
            .lines()
            .map(|line| line.split_whitespace().collect())
            .filter(|row: &Vec<_>| row.first() == Some(&group.as_str()))
            .collect();
        assert_eq!(rows.len(), 2, "{}", described.text());
        let committed: i64 = rows.iter().map(|row| row[3].parse::<i64>().unwrap()).sum();
        assert_eq!(committed, 12, "{}", described.text());
        let lag: i64 = rows.iter().map(|row| row[5].parse::<i64>().unwrap()).sum();
        assert_eq!(lag, 8);
        assert!(
            rows.iter().all(|row| row[8] == "ottla"),
            "by client id: {}",
            described.text()
        );
        first.close(PATIENCE).await.unwrap();

        let second = member(kafka.bootstrap(), &group, &topic);
        let after = read(&second, 8).await;
        second.close(PATIENCE).await.unwrap();
        let mut all: Vec<u32> = before
            .into_iter()
            .chain(after)
            .map(|(_, _, sample)| {
                String::from_utf8(sample.value.unwrap())
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        all.sort_unstable();
        assert_eq!(
            all,
            (0..20).collect::<Vec<u32>>(),
            "the second went on where the first ended"
        );
    });
}

#[test]
fn a_topic_that_nobody_knows_is_named_within_the_deadline() {
    let Some(kafka) = Kafka::shared() else { return };
    within(PATIENCE, async {
        let config = ConsumerConfig {
            default_api_timeout: Duration::from_secs(2),
            ..Default::default()
        };
        let consumer = Consumer::new(client::cluster(kafka.bootstrap()), config).unwrap();
        let topic = unique("nowhere");
        let partition = (topic.clone(), 0).into();
        let error = consumer.end_offsets(&[partition]).await.unwrap_err();
        assert!(error.to_string().contains(&topic), "{error}");
        assert!(error.to_string().contains("does not know topic"), "{error}");
        consumer.close(PATIENCE).await.unwrap();
    });
}
