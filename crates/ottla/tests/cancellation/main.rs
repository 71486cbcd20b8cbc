//! Every future that a producer, a consumer, a share consumer or the stream of a partition hands out, dropped at every
//! await: nothing is lost, doubled, stuck or leaked.
//!
//! Each scenario runs again and again in a world of its own, a runtime with a paused clock around an embedded broker that
//! takes its time, and in some worlds loses its first answers. The n-th run drops the future in question after it has been
//! pending n times, or after n steps of time, until it completes. The world then goes on, ends in order, and must leave no
//! task behind.
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at what cannot go wrong"
)]

mod groups;
mod records;
mod share;
mod streams;
mod transactions;

use std::time::Duration;

use ottla::consumer::{ConsumerConfig, GroupProtocol};
use ottla::prelude::*;
use ottla::producer::ProducerConfig;
use ottla::testing::{ApiKey, Fault, Rule, TestCluster};
use ottla_net::testing::drop_after;

/// When to drop a future.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// When it is pending for the n-th time; the first time is 0.
    Polls(usize),
    /// After so much time, wherever it is.
    Time(Duration),
}

/// What is special about one run of a scenario.
#[derive(Debug, Clone, Copy)]
struct Run {
    until: Until,
    weather: Weather,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    Calm,
    /// The first request of each kind is served, and not answered.
    AnswersLost,
    /// The first request of each kind is not served.
    ConnectionsClosed,
}

impl Run {
    /// The same, where nothing is dropped.
    fn to_the_end(self) -> Self {
        let until = Until::Time(PATIENCE);
        Self { until, ..self }
    }
}

/// Drops `future` when the run says; `None` if it was not complete by then.
async fn drop_at<F: Future>(run: Run, future: F) -> Option<F::Output> {
    match run.until {
        Until::Polls(polls) => drop_after(future, polls).await,
        Until::Time(time) => tokio::time::timeout(time, future).await.ok(),
    }
}

/// Runs `scenario`, which says whether its future completed, in every weather and with every `Until` up to the first with which
/// it does.
fn at_every_await(name: &str, scenario: impl AsyncFn(Run) -> bool) {
    use Weather::{AnswersLost, Calm, ConnectionsClosed};
    for (weather, step_ms) in [(Calm, 1), (AnswersLost, 11), (ConnectionsClosed, 11)] {
        let by_polls = |n: u32| Until::Polls(n as usize);
        let by_time = |n: u32| Until::Time(Duration::from_millis(u64::from(n) * step_ms));
        for until in [&by_polls as &dyn Fn(u32) -> Until, &by_time] {
            let run = |n| Run {
                until: until(n),
                weather,
            };
            let mut runs = 0;
            while !in_a_world(name, run(runs), &scenario) {
                runs += 1;
                assert!(runs < 1_000, "{name}: never completes");
            }
            assert!(runs > 0, "{name}: was never pending");
            println!("{name}: dropped in {runs} places, {:?}", run(runs));
        }
    }
}

fn in_a_world(name: &str, run: Run, scenario: &impl AsyncFn(Run) -> bool) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let limit = Duration::from_secs(600);
    let what = format!("{name}, {run:?}");
    let ended = runtime.block_on(async { tokio::time::timeout(limit, scenario(run)).await });
    let completed = ended.unwrap_or_else(|_| panic!("{what}: hangs"));
    // What was told to end a moment ago.
    runtime.block_on(async { tokio::time::sleep(Duration::from_secs(1)).await });
    let left = runtime.metrics().num_alive_tasks();
    assert_eq!(left, 0, "{what}: tasks are left");
    completed
}

/// A cluster of two nodes that take five milliseconds for everything that matters here, and its client.
struct World {
    kafka: TestCluster,
    client: Client,
}

impl World {
    fn new(run: Run, tweak: impl FnOnce(&mut ProducerConfig) + Send + 'static) -> Self {
        let kafka = TestCluster::builder()
            .nodes(2)
            .topic("t", 2)
            .topic("other", 1)
            .in_memory()
            .unwrap();
        let client = kafka.client_builder().producer(tweak).build().unwrap();
        let world = Self { kafka, client };
        world.slow_down(
            run,
            &[
                ApiKey::Metadata,
                ApiKey::Produce,
                ApiKey::InitProducerId,
                ApiKey::FindCoordinator,
                ApiKey::AddPartitionsToTxn,
                ApiKey::AddOffsetsToTxn,
                ApiKey::TxnOffsetCommit,
                ApiKey::EndTxn,
            ],
        );
        world
    }

    /// With so many records in each partition, and brokers that take their time for what members of a group ask.
    async fn of_a_group(run: Run, count: i64) -> Self {
        let mut world = Self::new(run, |_| {});
        world.fill(count).await;
        world.hurry().await;
        world.slow_down(
            run,
            &[
                ApiKey::OffsetFetch,
                ApiKey::ListOffsets,
                ApiKey::Fetch,
                ApiKey::OffsetCommit,
                ApiKey::LeaveGroup,
                ApiKey::ConsumerGroupHeartbeat,
            ],
        );
        // The answers to these are waited for as long as a rebalance may take.
        let weather = match run.weather {
            Weather::AnswersLost => Weather::Calm,
            weather => weather,
        };
        world.slow_down(
            Run { weather, ..run },
            &[ApiKey::JoinGroup, ApiKey::SyncGroup],
        );
        world
    }

    /// Of the group that reads `t`.
    fn member(&self, group_protocol: GroupProtocol, enable_auto_commit: bool) -> Consumer {
        let consumer = self.client.consumer_with(ConsumerConfig {
            group_id: Some("g".into()),
            group_protocol,
            auto_offset_reset: OffsetReset::Earliest,
            enable_auto_commit,
            ..self.client.consumer_config()
        });
        let consumer = consumer.unwrap();
        consumer.subscribe(["t"]).unwrap();
        consumer
    }

    /// Has the brokers take five milliseconds for these requests; the first of each kind has the run's weather.
    fn slow_down(&self, run: Run, apis: &[ApiKey]) {
        let first = match run.weather {
            Weather::Calm => None,
            Weather::AnswersLost => Some(Fault::LoseReply),
            Weather::ConnectionsClosed => Some(Fault::Disconnect),
        };
        let slow = Fault::Delay(Duration::from_millis(5));
        let faults = first.map(|fault| (1, fault)).into_iter();
        for (times, fault) in faults.chain([(u64::MAX, slow)]) {
            for &api in apis {
                self.kafka.inject(Rule {
                    api,
                    node: None,
                    skip: 0,
                    times,
                    fault: fault.clone(),
                });
            }
        }
    }

    /// The values in the log of `t`, sorted; none may be there twice.
    fn values(&self) -> Vec<String> {
        let values = self.kafka.values("t").into_iter();
        let mut values: Vec<_> = values.map(|v| String::from_utf8(v).unwrap()).collect();
        values.sort();
        assert!(values.is_sorted_by(|a, b| a < b), "twice: {values:?}");
        values
    }

    /// Writes so many records to each partition, in batches of four: `<partition> <number>`.
    async fn fill(&self, count: i64) {
        let producer = self.client.producer().unwrap();
        for first in (0..count).step_by(4) {
            for partition in 0..2 {
                for n in first..first + 4 {
                    let value = format!("{partition} {n:02}");
                    drop(producer.send(record(partition, &value)).await.unwrap());
                }
            }
            producer.flush(PATIENCE).await.unwrap();
        }
        producer.close(PATIENCE).await.unwrap();
    }

    /// Goes on with a client that waits less for brokers.
    async fn hurry(&mut self) {
        let settings = [("request.timeout.ms", 300), ("fetch.max.wait.ms", 100)];
        let client = settings
            .iter()
            .fold(self.kafka.client_builder(), |client, (key, value)| {
                client.set(key, value)
            });
        std::mem::replace(&mut self.client, client.build().unwrap())
            .close()
            .await;
    }

    async fn end(self) {
        self.client.close().await;
        self.kafka.stop().await;
    }
}

fn record(partition: i32, value: &str) -> ProducerRecord<'_> {
    ProducerRecord::to("t").partition(partition).value(value)
}

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
