//! Topics that change while our producer and consumer use them: partitions added, deleted and made again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ottla_admin::{Admin, NewPartitions, NewTopic};
use ottla_consumer::{Consumer, ConsumerConfig, OffsetReset, TopicPattern};
use ottla_net::Cluster;
use ottla_producer::{Producer, ProducerConfig, ProducerRecord};
use ottla_protocol_tests::{Kafka, unique};

use crate::client::{PATIENCE, Reading, cluster, cluster_config, until, within, write};

#[test]
fn partitions_are_added_while_we_write_and_read() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("growing");
    kafka.create_topic(&topic, 1, &[]);
    within(PATIENCE * 2, async {
        let reading = Reading::start(subscriber(kafka.bootstrap(), &topic));
        let writing = Writing::default();
        let producer = quick_producer(kafka.bootstrap());
        let changing = async {
            until("a hundred are written", || {
                writing.acknowledged().len() >= 100
            })
            .await;
            let admin = Admin::new(cluster(kafka.bootstrap()));
            let more = NewPartitions {
                topic: topic.clone(),
                count: 3,
                assignments: Vec::new(),
            };
            for (_, result) in admin.create_partitions(&[more], false).await {
                result.unwrap();
            }
            until("every partition is written to", || {
                let acknowledged = writing.acknowledged();
                (0..3).all(|index| acknowledged.values().any(|at| at.0 == index))
            })
            .await;
            writing.stop();
        };
        tokio::join!(writing.write(&producer, &topic), changing);
        producer.close(PATIENCE).await.unwrap();
        assert_eq!(writing.failures(), Vec::<String>::new());
        let acknowledged = writing.acknowledged();
        until("all is read", || reading.seen().len() >= acknowledged.len()).await;
        assert_eq!(reading.errors(), Vec::<String>::new());
        let seen = reading.leave().await;
        let read: BTreeMap<_, _> = seen
            .iter()
            .map(|(partition, offset, value)| (value.parse().unwrap(), (*partition, *offset)))
            .collect();
        assert_eq!(seen.len(), read.len(), "nothing came twice");
        assert!(
            read == acknowledged,
            "what was acknowledged is what was read"
        );
    });
}

#[test]
fn a_topic_is_deleted_and_made_again_while_we_write_and_read() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("phoenix");
    kafka.create_topic(&topic, 2, &[]);
    within(PATIENCE * 3, async {
        let reading = Reading::start(subscriber(kafka.bootstrap(), &topic));
        let writing = Writing::default();
        let producer = quick_producer(kafka.bootstrap());
        let remade_at = AtomicBool::new(false);
        let changing = async {
            until("two hundred are read", || reading.seen().len() >= 200).await;
            let admin = Admin::new(cluster(kafka.bootstrap()));
            for (_, result) in admin.delete_topics(&[&topic]).await {
                result.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            let last_before = writing.attempts();
            make_again(&admin, &topic).await;
            remade_at.store(true, Ordering::Relaxed);
            // Whatever was under way has had its outcome; now all goes well again, for two hundred in a row.
            until("writing goes on", || {
                let acknowledged = writing.acknowledged();
                acknowledged.range(last_before..).count() >= 200
            })
            .await;
            writing.stop();
            last_before
        };
        let ((), last_before) = tokio::join!(writing.write(&producer, &topic), changing);
        producer.close(PATIENCE).await.unwrap();
        let (acknowledged, failures) = (writing.acknowledged(), writing.failures());
        assert_eq!(
            acknowledged.len() + failures.len(),
            writing.attempts(),
            "every record has an outcome"
        );
        for failure in &failures {
            assert!(failure.contains(&topic), "it says where: {failure}");
        }

        // Kafka's own consumer says what the new topic holds.
        let held = tokio::task::block_in_place(|| {
            let ends = kafka
                .tools()
                .run(ottla_protocol_tests::Tool::GetOffsets, &["--topic", &topic]);
            let count: usize = ends
                .text()
                .lines()
                .map(|line| line.rsplit(':').next().unwrap().parse::<usize>().unwrap())
                .sum();
            kafka.tools().consume(&topic, count, &[])
        });
        let held: BTreeMap<usize, (i32, i64)> = held
            .iter()
            .map(|seen| {
                let value = String::from_utf8(seen.sample.value.clone().unwrap()).unwrap();
                (value.parse().unwrap(), (seen.partition, seen.offset))
            })
            .collect();
        for (number, at) in acknowledged.range(last_before..) {
            assert_eq!(
                held.get(number),
                Some(at),
                "record {number} was acknowledged"
            );
        }
        until("the new topic is read to its end", || {
            let seen = reading.seen();
            held.iter()
                .all(|(number, at)| seen.contains(&(at.0, at.1, number.to_string())))
        })
        .await;
        println!(
            "{} acknowledged, {} failed, such as {:?}; the reader was told {:?}",
            acknowledged.len(),
            failures.len(),
            failures.first(),
            reading.errors()
        );
        reading.leave().await;
    });
}

#[test]
fn topics_that_match_a_pattern_come_and_go() {
    let Some(kafka) = Kafka::shared() else { return };
    let prefix = unique("matching");
    let name = |part: &str| format!("{prefix}-{part}");
    kafka.create_topic(&name("first"), 1, &[]);
    kafka.create_topic(&name("first-test"), 1, &[]);
    within(PATIENCE * 2, async {
        let bootstrap = kafka.bootstrap();
        let consumer = quick_consumer(bootstrap, &prefix);
        let pattern = TopicPattern::new(&format!("{prefix}-.*")).unwrap();
        let pattern = pattern.except(".*-test").unwrap();
        consumer.subscribe_pattern(pattern).unwrap();
        let reading = Reading::start(consumer.clone());
        let topics = || -> Vec<String> {
            let assignment = consumer.assignment();
            let topics: BTreeSet<_> = assignment.iter().map(|p| p.topic.to_string()).collect();
            topics.into_iter().collect()
        };
        until("the first is read", || topics() == [name("first")]).await;
        let admin = Admin::new(cluster(bootstrap));
        let second = NewTopic::new(name("second"))
            .partitions(2)
            .replication_factor(1);
        for (_, result) in admin.create_topics(&[second], false).await {
            result.unwrap();
        }
        until("both are read", || {
            topics() == [name("first"), name("second")]
        })
        .await;
        for part in ["first", "first-test", "second"] {
            write(bootstrap, &name(part), 1, 0..5).await;
        }
        until("what matches is read", || reading.seen().len() == 10).await;
        for (_, result) in admin.delete_topics(&[&name("first")]).await {
            result.unwrap();
        }
        until("one is left", || topics() == [name("second")]).await;
        let pattern = TopicPattern::new(&name("first-.*")).unwrap();
        consumer.subscribe_pattern(pattern).unwrap();
        until("another matches", || topics() == [name("first-test")]).await;
        until("it is read", || reading.seen().len() == 15).await;
        assert_eq!(reading.errors(), Vec::<String>::new());
        reading.leave().await;
    });
}

/// Deletion goes on after its answer; until it is done the name is taken.
async fn make_again(admin: &Admin, topic: &str) {
    let new = NewTopic::new(topic).partitions(2).replication_factor(1);
    for _ in 0..100 {
        let results = admin.create_topics(std::slice::from_ref(&new), false).await;
        if results.into_iter().all(|(_, result)| result.is_ok()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{topic} cannot be made again");
}

/// Writes numbered records at some five hundred a second until it is told to stop.
#[derive(Default)]
struct Writing {
    stopped: AtomicBool,
    outcomes: Mutex<Outcomes>,
}

#[derive(Default)]
struct Outcomes {
    attempts: usize,
    acknowledged: BTreeMap<usize, (i32, i64)>,
    failures: Vec<String>,
}

impl Writing {
    async fn write(&self, producer: &Producer, topic: &str) {
        let mut deliveries = tokio::task::JoinSet::new();
        while !self.stopped.load(Ordering::Relaxed) {
            let number = {
                let mut outcomes = self.outcomes.lock().unwrap();
                outcomes.attempts += 1;
                outcomes.attempts - 1
            };
            let value = number.to_string();
            match producer.send(ProducerRecord::to(topic).value(&value)).await {
                Ok(delivery) => {
                    deliveries.spawn(async move { (number, delivery.await) });
                }
                Err(error) => self
                    .outcomes
                    .lock()
                    .unwrap()
                    .failures
                    .push(error.to_string()),
            }
            while let Some(done) = deliveries.try_join_next() {
                self.note(done.unwrap());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        while let Some(done) = deliveries.join_next().await {
            self.note(done.unwrap());
        }
    }

    fn note(
        &self,
        (number, delivery): (
            usize,
            Result<ottla_producer::RecordMetadata, ottla_producer::SendError>,
        ),
    ) {
        let mut outcomes = self.outcomes.lock().unwrap();
        match delivery {
            Ok(at) => {
                let place = (at.partition(), at.offset().unwrap());
                outcomes.acknowledged.insert(number, place);
            }
            Err(error) => outcomes.failures.push(error.to_string()),
        }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn attempts(&self) -> usize {
        self.outcomes.lock().unwrap().attempts
    }

    fn acknowledged(&self) -> BTreeMap<usize, (i32, i64)> {
        self.outcomes.lock().unwrap().acknowledged.clone()
    }

    fn failures(&self) -> Vec<String> {
        self.outcomes.lock().unwrap().failures.clone()
    }
}

/// Looks at the cluster every second, so that a test need not wait for minutes.
fn quick_cluster(bootstrap: &str) -> Cluster {
    let mut config = cluster_config(bootstrap);
    config.metadata_max_age = Duration::from_secs(1);
    config.request_timeout = Duration::from_secs(5); // no more than the producer's
    Cluster::over_tcp(config).unwrap()
}

fn quick_producer(bootstrap: &str) -> Producer {
    let config = ProducerConfig {
        // Small, so that partitions take turns.
        batch_size: 200,
        max_block: Duration::from_secs(5),
        delivery_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(5),
        ..Default::default()
    };
    Producer::new(quick_cluster(bootstrap), config).unwrap()
}

fn subscriber(bootstrap: &str, topic: &str) -> Consumer {
    let consumer = quick_consumer(bootstrap, topic);
    consumer.subscribe([topic.to_owned()]).unwrap();
    consumer
}

fn quick_consumer(bootstrap: &str, topic: &str) -> Consumer {
    let config = ConsumerConfig {
        group_id: Some(format!("{topic}-readers")),
        auto_offset_reset: OffsetReset::Earliest,
        auto_commit_interval: Duration::from_millis(200),
        heartbeat_interval: Duration::from_millis(500),
        ..Default::default()
    };
    Consumer::new(quick_cluster(bootstrap), config).unwrap()
}
