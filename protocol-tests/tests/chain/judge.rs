//! Reads a topic of the chain along, and counts how often each key is there.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ottla_consumer::{Consumer, ConsumerConfig, Error, IsolationLevel, Offset, TopicPartition};
use tokio::task::JoinHandle;

use crate::{
    client::{PATIENCE, cluster},
    copier::Way,
    until,
};

pub(crate) struct Judge {
    consumer: Consumer,
    partitions: Vec<TopicPartition>,
    counts: Arc<Counts>,
    reading: JoinHandle<()>,
}

struct Counts {
    distinct: AtomicUsize,
    /// By key.
    times: Mutex<Vec<u8>>,
    course: Mutex<Course>,
}

/// When records came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    began: Instant,
    /// After the beginning.
    first: Option<Duration>,
    last: Duration,
    /// The longest that a partition was without a new record, between its first and its last.
    gap: Duration,
}

impl Course {
    fn take(&mut self, before: Option<Instant>, now: Instant) {
        let since = now - self.began;
        self.first.get_or_insert(since);
        self.last = since;
        if let Some(before) = before {
            self.gap = self.gap.max(now - before);
        }
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.first.unwrap_or_default();
        write!(
            f,
            "they came from {first:.1?} to {:.1?}, to a partition none for {:.1?}",
            self.last, self.gap
        )
    }
}

impl Judge {
    pub(crate) fn start(
        bootstrap: &str,
        topic: &str,
        partitions: i32,
        way: Way,
        keys: usize,
    ) -> Self {
        let config = ConsumerConfig {
            isolation_level: match way {
                Way::Plain => IsolationLevel::ReadUncommitted,
                Way::Transactional => IsolationLevel::ReadCommitted,
            },
            ..ConsumerConfig::default()
        };
        let consumer = Consumer::new(cluster(bootstrap), config).unwrap();
        let partitions: Vec<_> = (0..partitions)
            .map(|index| TopicPartition::new(topic, index))
            .collect();
        let begin = partitions.iter().cloned();
        consumer
            .assign(begin.map(|partition| (partition, Offset::Beginning)))
            .unwrap();
        let counts = Arc::new(Counts {
            distinct: AtomicUsize::new(0),
            times: Mutex::new(vec![0; keys]),
            course: Mutex::new(Course {
                began: Instant::now(),
                first: None,
                last: Duration::ZERO,
                gap: Duration::ZERO,
            }),
        });
        let reading = tokio::spawn(count(consumer.clone(), counts.clone(), way));
        Self {
            consumer,
            partitions,
            counts,
            reading,
        }
    }

    /// How many keys are there.
    pub(crate) fn distinct(&self) -> usize {
        assert!(!self.reading.is_finished(), "a judge has ended: see above");
        self.counts.distinct.load(Ordering::Relaxed)
    }

    /// Reads to the end, now that nobody writes any more, and returns how many keys are there more than once, and when
    /// they came.
    pub(crate) async fn end(self) -> (usize, Course) {
        let ends = self.consumer.end_offsets(&self.partitions).await.unwrap();
        until("the end is reached", || {
            ends.iter()
                .all(|(partition, end)| self.consumer.position(partition).unwrap() >= Some(*end))
        })
        .await;
        self.consumer.close(PATIENCE).await.unwrap();
        self.reading.await.unwrap();
        let times = self.counts.times.lock().unwrap();
        assert!(times.iter().all(|&times| times > 0), "none is missing");
        let again = times.iter().filter(|&&times| times > 1).count();
        (again, *self.counts.course.lock().unwrap())
    }
}

async fn count(consumer: Consumer, counts: Arc<Counts>, way: Way) {
    let (mut last, mut latest) = (BTreeMap::new(), BTreeMap::new());
    loop {
        let batches = match consumer.poll_max(10_000, Duration::from_secs(1)).await {
            Ok(batches) => batches,
            Err(Error::Closed) => return,
            Err(error) => panic!("{error}"),
        };
        let mut times = counts.times.lock().unwrap();
        for batch in &batches {
            let now = Instant::now();
            let before = latest.insert(batch.partition(), now);
            counts.course.lock().unwrap().take(before, now);
            for record in batch {
                let record = record.unwrap();
                let text = |bytes: Option<&[u8]>| {
                    let text = std::str::from_utf8(bytes.unwrap()).unwrap();
                    text.parse::<usize>().unwrap()
                };
                let key = text(record.key());
                assert_eq!(text(record.value()), key);
                let before = last.insert(batch.partition(), key);
                if way == Way::Transactional {
                    let place = batch.topic_partition();
                    assert!(before < Some(key), "{key} after {before:?} in {place}");
                }
                let times = &mut times[key];
                *times = times.saturating_add(1);
                if *times == 1 {
                    counts.distinct.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}
