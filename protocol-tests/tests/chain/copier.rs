//! What the members of a group do: they copy a topic to the next one, partition by partition.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ottla::exactly_once::{ExactlyOnce, Outcome, SessionError};
use ottla_consumer::{
    CommittedOffset, Consumer, ConsumerConfig, Error, IsolationLevel, PartitionStream, RecordBatch,
};
use ottla_producer::{Producer, ProducerConfig, ProducerRecord, TransactionalProducer};
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    SESSION,
    client::{PATIENCE, busy_member, cluster, producer},
};

/// Its name, and the settings that make the members divide partitions so.
pub(crate) type Division = (&'static str, fn(&mut ConsumerConfig));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Commits offsets behind what was delivered: each key comes at least once.
    Plain,
    /// Each key comes once.
    Transactional,
}

/// Of one group.
pub(crate) struct Job {
    bootstrap: String,
    from: String,
    to: String,
    division: Division,
    way: Way,
    notes: Mutex<BTreeMap<&'static str, usize>>,
}

impl Job {
    pub(crate) fn new(bootstrap: &str, from: &str, to: &str, division: Division, way: Way) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            division,
            way,
            notes: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.division.0
    }

    /// How often what happened to the members.
    pub(crate) fn notes(&self) -> String {
        format!("{:?}", self.notes.lock().unwrap())
    }

    fn note(&self, what: &'static str) {
        *self.notes.lock().unwrap().entry(what).or_default() += 1;
    }

    /// Is a member of the group, until it is to leave.
    pub(crate) async fn work(self: Arc<Self>, leave: Arc<Notify>) {
        let mut config = ConsumerConfig {
            enable_auto_commit: false,
            session_timeout: SESSION,
            heartbeat_interval: Duration::from_millis(300),
            isolation_level: match self.way {
                Way::Plain => IsolationLevel::ReadUncommitted,
                Way::Transactional => IsolationLevel::ReadCommitted,
            },
            ..busy_member(&format!("copies-{}", self.from))
        };
        self.division.1(&mut config);
        let consumer = Consumer::new(cluster(&self.bootstrap), config).unwrap();
        consumer.subscribe([self.from.clone()]).unwrap();
        match self.way {
            Way::Plain => self.copy_plainly(consumer, &leave).await,
            Way::Transactional => self.copy_in_transactions(consumer, &leave).await,
        }
    }

    async fn copy_plainly(&self, consumer: Consumer, leave: &Notify) {
        let producer = producer(&self.bootstrap, producing());
        loop {
            let polled = tokio::select! {
                () = leave.notified() => break,
                polled = consumer.poll_max(5_000, Duration::from_secs(1)) => polled,
            };
            match polled {
                Ok(batches) => self.pass_on(&consumer, &producer, &batches).await,
                Err(error) => self.told("reading", &error).await,
            }
        }
        consumer.close(PATIENCE).await.unwrap();
        producer.close(PATIENCE).await.unwrap();
    }

    async fn pass_on(&self, consumer: &Consumer, producer: &Producer, batches: &[RecordBatch]) {
        let (mut deliveries, mut offsets) = (Vec::new(), BTreeMap::new());
        for batch in batches {
            for record in batch {
                let record = record.unwrap();
                let copy = self.copy(batch, record.key(), record.value());
                deliveries.push(producer.send(copy).await.unwrap());
            }
            let behind = CommittedOffset {
                offset: batch.next_offset(),
                leader_epoch: batch.leader_epoch(),
                ..CommittedOffset::default()
            };
            offsets.insert(batch.topic_partition().clone(), behind);
        }
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        if !offsets.is_empty()
            && let Err(error) = consumer.commit_offsets(offsets).await
        {
            // They come again, here or elsewhere.
            self.told("committing", &error).await;
        }
    }

    /// To the partition of the same number, so that batches stay as large as they are.
    fn copy<'a>(
        &'a self,
        batch: &RecordBatch,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
    ) -> ProducerRecord<'a> {
        let mut copy = ProducerRecord::to(&self.to).partition(batch.partition());
        (copy.key, copy.value) = (key, value);
        copy
    }

    async fn copy_in_transactions(self: Arc<Self>, consumer: Consumer, leave: &Notify) {
        let mut partitions = consumer.split().unwrap();
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                () = leave.notified() => break,
                Some(ended) = sessions.join_next() => ended.unwrap(),
                next = partitions.next_partition() => match next {
                    Ok(stream) => { sessions.spawn(self.clone().copy_partition(stream)); }
                    Err(error) => self.told("coming for partitions", &error).await,
                },
            }
        }
        consumer.close(PATIENCE).await.unwrap();
        while let Some(ended) = sessions.join_next().await {
            ended.unwrap();
        }
    }

    async fn copy_partition(self: Arc<Self>, stream: PartitionStream) {
        let config = ProducerConfig {
            transactional_id: Some(format!("copier-{}", stream.topic_partition())),
            ..producing()
        };
        let producer = match TransactionalProducer::init(cluster(&self.bootstrap), config).await {
            Ok(producer) => producer,
            // Somebody else has begun with the partition; or the stream comes again.
            Err(error) => return self.told("beginning", &error).await,
        };
        let mut session = ExactlyOnce::new(stream, producer).unwrap();
        loop {
            let step = match session.next().await {
                Ok(Some(step)) => step,
                Ok(None) => break,
                Err(SessionError::Transaction(error)) if error.is_fatal() => {
                    self.told("going on", &error).await;
                    break;
                }
                Err(error) => {
                    self.told("coming for batches", &error).await;
                    continue;
                }
            };
            // Some are given up half-way.
            let whole = fastrand::u8(..20) > 0;
            let count = step.batch().len_max();
            let wanted = if whole { usize::MAX } else { count / 2 };
            for record in step.batch().records().take(wanted) {
                let record = record.unwrap();
                let copy = self.copy(step.batch(), record.key(), record.value());
                // What is not sent is found at the commit.
                drop(step.send(copy).await);
            }
            if !whole {
                self.note("batches dropped half-way");
                continue;
            }
            match step.commit().await {
                Ok(Outcome::Committed(_)) => self.note("batches committed"),
                Ok(Outcome::Aborted) => self.note("batches aborted"),
                Err(error) => {
                    let fatal = error.is_fatal();
                    self.told("ending a transaction", &error).await;
                    if fatal {
                        break;
                    }
                }
            }
        }
        if let Err(error) = session.close(Duration::from_secs(10)).await {
            self.told("closing", &error).await;
        }
    }

    /// Of an error that a member lives with.
    async fn told(&self, when: &'static str, error: &(impl std::error::Error + 'static)) {
        let closed = (error as &dyn std::error::Error).downcast_ref::<Error>();
        if matches!(closed, Some(Error::Closed)) {
            return;
        }
        self.note(when);
        println!("{} {when}: {error}", self.name());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn producing() -> ProducerConfig {
    ProducerConfig {
        // A commit waits for none of it; it keeps batches whole.
        linger: Duration::from_millis(5),
        ..ProducerConfig::default()
    }
}
