//! What the broker does by itself now and then: old segments and offsets go, compacted topics are compacted.
//!
//! Owns the pace, and that no partition is locked for long; what is done to a log is [`crate::log`]'s business.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Partition, Topic};
use crate::context::Shared;

impl Shared {
    /// Every so often (`log.retention.check.interval.ms`) removes what retention lets go.
    pub(crate) async fn run_retention(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.options.retention_check_interval).await;
            let now_ms = self.now_ms();
            for topic in self.topics() {
                for partition in &topic.partitions {
                    let mut state = partition.state.lock();
                    state
                        .log
                        .expire_producers(now_ms - PRODUCER_ID_EXPIRATION_MS);
                    if let Err(error) = state.log.enforce_retention(now_ms) {
                        tracing::error!(topic = topic.name, partition = partition.index, %error, "cannot remove old segments");
                    }
                }
                // One partition's lock at a time, and room for others between topics.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Every so often (`log.cleaner.backoff.ms`) compacts what has become dirty enough.
    pub(crate) async fn run_cleaner(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.options.cleaner_backoff).await;
            for topic in self.topics() {
                if !topic.config.log.compact {
                    continue;
                }
                for partition in &topic.partitions {
                    if let Err(error) = self.compact(partition).await {
                        partition.state.lock().log.note_cleaning_failed();
                        tracing::error!(
                            topic = topic.name,
                            partition = partition.index,
                            %error,
                            "cannot compact; not tried again before the next start"
                        );
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Every ten minutes (`offsets.retention.check.interval.ms`) forgets offsets and groups that nobody uses.
    pub(crate) async fn run_offsets_retention(self: Arc<Self>) {
        loop {
            tokio::time::sleep(OFFSETS_CHECK_INTERVAL).await;
            let (now, now_ms) = (self.now(), self.now_ms());
            let view = self.cluster.read().topics_view();
            let retention = self.options.offsets_retention;
            let expired = self.groups.lock().expire(now, now_ms, retention, &view);
            for id in expired {
                tracing::info!(group = id, "committed offsets have expired");
                if let Err(error) = self.group_kept(&id).await {
                    tracing::error!(group = id, %error, "cannot write committed offsets");
                }
            }
        }
    }

    async fn compact(&self, partition: &Partition) -> io::Result<()> {
        let now_ms = self.now_ms();
        let job = partition.state.lock().log.cleaning_job(now_ms, false)?;
        let Some(job) = job else { return Ok(()) };
        let cleaned = if self.data_dir.is_some() {
            // Reads and writes whole segments.
            tokio::task::spawn_blocking(move || job.run())
                .await
                .map_err(io::Error::other)??
        } else {
            job.run()?
        };
        partition.state.lock().log.install(cleaned)?;
        Ok(())
    }

    fn topics(&self) -> Vec<Arc<Topic>> {
        self.cluster.read().topics().cloned().collect()
    }
}

/// `offsets.retention.check.interval.ms`
const OFFSETS_CHECK_INTERVAL: Duration = Duration::from_secs(600);

/// `producer.id.expiration.ms`
const PRODUCER_ID_EXPIRATION_MS: i64 = 86_400_000;
