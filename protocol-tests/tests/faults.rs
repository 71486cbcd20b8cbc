//! Faults between client and broker: lost answers, damaged batches, cut frames, brokers that fall
//! silent. Nothing is lost or repeated, and nobody waits beyond a deadline.
#![allow(clippy::unwrap_used)]

mod client;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use client::{PATIENCE, cluster_config, producer, read, reader, send, within};
use ottla_consumer::{Consumer, ConsumerConfig, Error, Offset};
use ottla_net::Cluster;
use ottla_producer::{Producer, ProducerConfig};
use ottla_protocol_tests::{
    Direction, Fate, KafkaCluster, Options, Sample, or_skip, sample, unique,
};

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;

#[test]
fn clients_behind_a_faulty_line() {
    let options = Options {
        proxied: true,
        ..Options::default()
    };
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    // One after the other, for all use the one proxy.
    lost_acknowledgements_repeat_nothing(&kafka);
    cut_answers_are_fetched_again(&kafka);
    a_damaged_batch_is_named_and_read_once_it_is_whole(&kafka);
    damage_anywhere_in_a_batch_harms_nobody(&kafka);
    a_broker_that_falls_silent_is_given_up_in_time(&kafka);
}

/// The broker writes each batch, but the answer to every third is lost with its connection.
fn lost_acknowledgements_repeat_nothing(kafka: &KafkaCluster) {
    let topic = unique("lost-acks");
    kafka.create_topic(&topic, 3, &[]);
    let (answers, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let losses = Arc::clone(&lost);
    kafka.proxy(1).rule(move |passing| {
        let is_ack = (passing.api_key, passing.direction) == (PRODUCE, Direction::Reply);
        if is_ack && answers.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
            losses.fetch_add(1, Ordering::Relaxed);
            return Fate::Close;
        }
        Fate::Pass
    });
    const RECORDS: usize = 600;
    within(PATIENCE, async {
        let config = ProducerConfig {
            batch_size: 200,
            linger: Duration::ZERO,
            ..Default::default()
        };
        let producer = producer(&kafka.proxied_bootstrap(), config);
        let mut deliveries = Vec::new();
        for number in 0..RECORDS {
            let sample = Sample::new(None, Some(format!("{number}").as_bytes()));
            let partition = Some((number % 3) as i32);
            deliveries.push(send(&producer, &topic, partition, &sample).await.unwrap());
            if number % 20 == 19 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        producer.close(PATIENCE).await.unwrap();
    });
    kafka.proxy(1).pass_all();
    assert!(lost.load(Ordering::Relaxed) > 3, "answers were lost");
    let records: usize = kafka
        .dump_all(1, &topic, 3)
        .iter()
        .map(|dump| dump.records)
        .sum();
    assert_eq!(records, RECORDS, "each record once");
    let mut next = [0, 1, 2];
    for seen in kafka.tools().consume(&topic, RECORDS, &[]) {
        let number: usize = String::from_utf8(seen.sample.value.unwrap())
            .unwrap()
            .parse()
            .unwrap();
        let next = &mut next[seen.partition as usize];
        assert_eq!(number, *next, "in order");
        *next += 3;
    }
}

/// Half of an answer, then the end of the connection, again and again.
fn cut_answers_are_fetched_again(kafka: &KafkaCluster) {
    let topic = unique("cut");
    kafka.create_topic(&topic, 1, &[("retention.ms", "-1")]);
    let samples = fill(kafka, &topic);
    let cuts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&cuts);
    kafka.proxy(1).rule(move |passing| {
        let is_fetched = (passing.api_key, passing.direction) == (FETCH, Direction::Reply);
        if is_fetched && count.fetch_add(1, Ordering::Relaxed) < 3 {
            Fate::Cut
        } else {
            Fate::Pass
        }
    });
    let read = within(PATIENCE, async {
        let consumer = reader(&kafka.proxied_bootstrap(), &topic, 1);
        let read = read(&consumer, samples.len()).await;
        consumer.close(PATIENCE).await.unwrap();
        read
    });
    kafka.proxy(1).pass_all();
    assert!(cuts.load(Ordering::Relaxed) >= 3);
    let read: Vec<_> = read.into_iter().map(|(_, _, sample)| sample).collect();
    sample::assert_same("after three cuts", &read, &samples);
}

/// One bit of a record is flipped on its way: the checksum finds it, the error says where.
fn a_damaged_batch_is_named_and_read_once_it_is_whole(kafka: &KafkaCluster) {
    let topic = unique("damaged");
    kafka.create_topic(&topic, 1, &[]);
    within(PATIENCE, async {
        let producer = producer(&kafka.bootstrap(), ProducerConfig::default());
        let sample = Sample::new(None, Some(b"a needle to be found"));
        send(&producer, &topic, None, &sample)
            .await
            .unwrap()
            .await
            .unwrap();
        producer.close(PATIENCE).await.unwrap();
    });
    kafka.proxy(1).rule(|passing| {
        if (passing.api_key, passing.direction) == (FETCH, Direction::Reply) {
            let needle = b"needle";
            let at = passing
                .frame
                .windows(needle.len())
                .position(|bytes| bytes == needle);
            if let Some(at) = at {
                passing.frame[at] ^= 0x10;
            }
        }
        Fate::Pass
    });
    within(PATIENCE, async {
        let consumer = reader(&kafka.proxied_bootstrap(), &topic, 1);
        let error = consumer.recv().await.unwrap_err();
        assert!(
            matches!(error, Error::Unreadable { offset: 0, .. }),
            "{error}"
        );
        let said = error.to_string();
        assert!(
            said.contains(&topic) && said.to_lowercase().contains("crc"),
            "{said}"
        );
        assert!(said.contains("seek past it"), "{said}");

        kafka.proxy(1).pass_all();
        let record = loop {
            // A damaged answer may still be on its way.
            match consumer.recv().await {
                Ok(record) => break record,
                Err(Error::Unreadable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(record.value(), Some(&b"a needle to be found"[..]));
        consumer.close(PATIENCE).await.unwrap();
    });
}

/// For a while, a byte of the first batch of every other answer is changed, anywhere that its checksum covers
/// or in the checksum itself. The consumer hands out what is whole, in order, and reports the rest.
fn damage_anywhere_in_a_batch_harms_nobody(kafka: &KafkaCluster) {
    let topic = unique("noise");
    kafka.create_topic(&topic, 1, &[("retention.ms", "-1")]);
    let samples = fill(kafka, &topic);
    let random = std::sync::Mutex::new(fastrand::Rng::with_seed(7));
    kafka.proxy(1).rule(move |passing| {
        if (passing.api_key, passing.direction) == (FETCH, Direction::Reply)
            && let Some(covered) = first_batch(passing.frame)
        {
            let mut random = random.lock().unwrap();
            if random.bool() {
                let at = random.usize(covered);
                passing.frame[at] ^= random.u8(1..);
            }
        }
        Fate::Pass
    });
    within(PATIENCE * 2, async {
        let consumer = reader(&kafka.proxied_bootstrap(), &topic, 1);
        let (mut read, mut errors) = (Vec::new(), 0);
        let noisy = Instant::now() + Duration::from_secs(5);
        let silence = async {
            tokio::time::sleep_until(noisy.into()).await;
            kafka.proxy(1).pass_all();
        };
        let reading = async {
            while read.len() < samples.len() {
                match tokio::time::timeout(Duration::from_secs(20), consumer.recv()).await {
                    Ok(Ok(record)) => {
                        read.push(record.offset());
                        // From the start again and again, for as long as there is noise.
                        if read.len() == samples.len() && Instant::now() < noisy {
                            read.clear();
                            consumer
                                .seek(&(topic.clone(), 0).into(), Offset::Beginning)
                                .unwrap();
                        }
                    }
                    Ok(Err(error)) => {
                        errors += 1;
                        assert!(matches!(error, Error::Unreadable { .. }), "{error}");
                        assert!(error.to_string().contains(&topic), "{error}");
                    }
                    Err(_) => panic!("stuck after {} records and {errors} errors", read.len()),
                }
            }
        };
        tokio::join!(silence, reading);
        assert!(errors > 0, "damage was seen");
        assert_eq!(
            read,
            (0..samples.len() as i64).collect::<Vec<_>>(),
            "in order, each once"
        );
        consumer.close(PATIENCE).await.unwrap();
    });
    kafka.proxy(1).pass_all();
}

/// Where the first batch of an answer has its checksum and what that covers.
fn first_batch(frame: &[u8]) -> Option<std::ops::Range<usize>> {
    // Offset below 256, a length, leader epoch 0, magic 2.
    let at = frame.windows(17).position(|head| {
        head[..7] == [0; 7] && head[8..10] == [0; 2] && head[12..] == [0, 0, 0, 0, 2]
    })?;
    let length = u32::from_be_bytes(*frame[at + 8..].first_chunk()?) as usize;
    let end = at + 12 + length;
    (length > 49 && end <= frame.len()).then_some(at + 17..end)
}

/// The broker's process is stopped: its connections stay open, and nothing comes.
fn a_broker_that_falls_silent_is_given_up_in_time(kafka: &KafkaCluster) {
    let topic = unique("silent");
    kafka.create_topic(&topic, 1, &[]);
    within(PATIENCE * 2, async {
        let mut net = cluster_config(&kafka.bootstrap());
        net.request_timeout = Duration::from_secs(1);
        let config = ProducerConfig {
            request_timeout: Duration::from_secs(1),
            delivery_timeout: Duration::from_secs(4),
            ..Default::default()
        };
        let producer = Producer::new(Cluster::over_tcp(net.clone()).unwrap(), config).unwrap();
        let config = ConsumerConfig {
            request_timeout: Duration::from_secs(1),
            default_api_timeout: Duration::from_secs(3),
            ..Default::default()
        };
        let consumer = Consumer::new(Cluster::over_tcp(net).unwrap(), config).unwrap();
        let partition = (topic.clone(), 0).into();
        let sample = Sample::new(None, Some(b"before"));
        send(&producer, &topic, None, &sample)
            .await
            .unwrap()
            .await
            .unwrap();
        let ends = consumer.end_offsets(&[partition]).await.unwrap();
        let partition = ends.into_keys().next().unwrap();

        kafka.pause(1);
        let sample = Sample::new(None, Some(b"in the silence"));
        let delivery = send(&producer, &topic, None, &sample).await.unwrap();
        let start = Instant::now();
        let (asked, sent) = tokio::join!(
            consumer.end_offsets(std::slice::from_ref(&partition)),
            delivery
        );
        let took = start.elapsed();
        assert!(took < Duration::from_secs(8), "{took:?}");
        let (asked, sent) = (asked.unwrap_err(), sent.unwrap_err());
        println!("{asked}\n{sent}");
        assert!(sent.possibly_written(), "it had left: {sent}");
        assert!(sent.to_string().contains(&topic), "{sent}");
        assert!(asked.is_retriable(), "{asked}");

        kafka.resume(1);
        let sample = Sample::new(None, Some(b"after"));
        send(&producer, &topic, None, &sample)
            .await
            .unwrap()
            .await
            .unwrap();
        let end = consumer
            .end_offsets(std::slice::from_ref(&partition))
            .await
            .unwrap()[&partition];
        assert!(
            (2..=3).contains(&end),
            "what was possibly written may be there: {end}"
        );
        producer.close(PATIENCE).await.unwrap();
        consumer.close(PATIENCE).await.unwrap();
    });
}

fn fill(kafka: &KafkaCluster, topic: &str) -> Vec<Sample> {
    let samples = sample::every_shape();
    within(PATIENCE, async {
        let producer = producer(&kafka.bootstrap(), ProducerConfig::default());
        for sample in &samples {
            // A batch each.
            send(&producer, topic, None, sample)
                .await
                .unwrap()
                .await
                .unwrap();
        }
        producer.close(PATIENCE).await.unwrap();
    });
    samples
}
