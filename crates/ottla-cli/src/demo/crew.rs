//! The workers: started together, watched, and sent home in order.

use std::sync::Arc;
use std::time::Duration;

use clickstream::{Counts, Topics, Worker};
use ottla::Client;
use ottla::consumer::Consumer;
use ottla::producer::Producer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::count;
use super::report::WorkerCounts;
use crate::exit::Failure;

pub(super) struct Crew {
    members: Vec<Member>,
    tasks: JoinSet<Result<(), clickstream::Error>>,
    stop: watch::Sender<bool>,
}

struct Member {
    consumer: Consumer,
    counts: Arc<Counts>,
}

impl Crew {
    pub(super) fn hire(
        client: &Client,
        producer: &Producer,
        group: &str,
        topics: &Topics,
        count: usize,
    ) -> Result<Crew, Failure> {
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        let mut members = Vec::new();
        for _ in 0..count {
            let worker = Worker::new(client, producer.clone(), group, topics.clone())
                .map_err(Failure::failed)?;
            members.push(Member {
                consumer: worker.consumer().clone(),
                counts: worker.counts(),
            });
            let mut stopped = stop.subscribe();
            tasks.spawn(worker.run(async move {
                // A sender that is gone is as good as a stop.
                let _ = stopped.wait_for(|stop| *stop).await;
            }));
        }
        Ok(Crew {
            members,
            tasks,
            stop,
        })
    }

    /// Ready when the group has given every partition to somebody, and something to everybody.
    pub(super) async fn assembled(&self, partitions: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + ASSEMBLY_TIMEOUT;
        loop {
            let shares: Vec<_> = self.members.iter().map(Member::partitions).collect();
            if shares.iter().sum::<usize>() == partitions && !shares.contains(&0) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::failed(format!(
                    "the group did not share its {partitions} partitions out in time; the workers \
                     have {shares:?}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What each has done; grows.
    pub(super) fn counts(&self) -> Vec<Arc<Counts>> {
        let counts = |member: &Member| Arc::clone(&member.counts);
        self.members.iter().map(counts).collect()
    }

    /// Clicks whose results are written.
    pub(super) fn handled(&self) -> u64 {
        let consumed = |member: &Member| count(&member.counts.consumed);
        self.members.iter().map(consumed).sum()
    }

    /// Results that are written.
    pub(super) fn written(&self) -> u64 {
        let results = |m: &Member| count(&m.counts.enriched) + count(&m.counts.dead_lettered);
        self.members.iter().map(results).sum()
    }

    /// Ready when a worker ends that was not told to.
    pub(super) async fn failed(&mut self) -> Failure {
        match self.tasks.join_next().await {
            None => std::future::pending().await,
            Some(Ok(Ok(()))) => Failure::failed("a worker ended for no reason"),
            Some(Ok(Err(error))) => Failure::failed(format!("a worker failed: {error}")),
            Some(Err(error)) => Failure::failed(format!("a worker panicked: {error}")),
        }
    }

    /// Lets everybody finish, commit and leave.
    pub(super) async fn dismiss(&mut self) -> Result<Vec<WorkerCounts>, Failure> {
        // Before they leave: afterwards nobody has any.
        let partitions: Vec<_> = self.members.iter().map(Member::partitions).collect();
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended
                .map_err(|error| Failure::failed(format!("a worker panicked: {error}")))?
                .map_err(|error| Failure::failed(format!("a worker failed: {error}")))?;
        }
        let counts = self.members.iter().zip(partitions);
        Ok(counts
            .map(|(member, partitions)| WorkerCounts {
                partitions,
                consumed: count(&member.counts.consumed),
                enriched: count(&member.counts.enriched),
                dead_lettered: count(&member.counts.dead_lettered),
            })
            .collect())
    }
}

impl Member {
    fn partitions(&self) -> usize {
        self.consumer.assignment().len()
    }
}

const ASSEMBLY_TIMEOUT: Duration = Duration::from_secs(30);
