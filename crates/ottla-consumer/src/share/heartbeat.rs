//! Drives the membership: sends its heartbeats on the coordination lane, and has the core adopt what it is assigned.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ottla_net::{CoordinatorKind, Error as NetError, Lane};
use ottla_wire::{
    Str, Uuid,
    messages::share_group_heartbeat::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse},
};
use tokio::task::JoinSet;

use super::{
    driver::Shared,
    membership::{Answer, Heartbeat, Step},
};
use crate::{
    Error, TopicPartition,
    driver::{now, wait},
};

/// Ends when the group is left after closing.
pub(super) async fn run(shared: Arc<Shared>) {
    // One at a time, beside which the application may come and go.
    let mut requests: JoinSet<(u64, Result<ShareGroupHeartbeatResponse, NetError>)> =
        JoinSet::new();
    loop {
        let until = loop {
            let step = {
                let mut membership = shared.membership.lock();
                if membership.is_over() {
                    return;
                }
                membership.poll(now())
            };
            match step {
                Step::Wait(until) => break until,
                Step::Assign(assignment) => {
                    tracing::debug!(group = shared.config.group_id, ?assignment, "assigned");
                    shared.set_assigned(assignment);
                    shared.resolve();
                }
                Step::Fail(error, message) => {
                    shared.reader.lock().fatal = Some(Error::ShareGroup {
                        group: shared.group_id(),
                        error,
                        message,
                    });
                    shared.application.ring();
                }
                Step::Rediscover => rediscover(&shared).await,
                Step::Heartbeat(heartbeat) => {
                    let (shared, attempt) = (shared.clone(), heartbeat.attempt);
                    requests.spawn(async move { (attempt, send(&shared, heartbeat).await) });
                }
            }
        };
        let outcome = tokio::select! {
            biased;
            () = shared.halting.cancelled() => return,
            Some(outcome) = requests.join_next() => outcome,
            () = wait(&shared.heartbeats, until) => continue,
        };
        // Not aborted, and nothing in it panics.
        let Ok((attempt, outcome)) = outcome else {
            return;
        };
        let mut membership = shared.membership.lock();
        match outcome {
            Ok(response) => {
                shared.counters.heartbeats.fetch_add(1, Relaxed);
                let answer = Answer {
                    error: response.error_code,
                    message: response.error_message,
                    epoch: response.member_epoch,
                    interval: Duration::from_millis(
                        u64::try_from(response.heartbeat_interval_ms).unwrap_or(0),
                    ),
                    assignment: response.assignment.map(|assignment| {
                        let topics = assignment.topic_partitions.into_iter();
                        topics.map(|of| (of.topic_id, of.partitions)).collect()
                    }),
                };
                membership.handle_answer(attempt, answer, now());
            }
            Err(NetError::Coordinator { code, .. }) if !code.is_retriable() => {
                membership.handle_refused(attempt, code);
            }
            Err(error) => {
                tracing::warn!(group = shared.config.group_id, %error, "the coordinator did not answer");
                membership.handle_unanswered(attempt, now());
                drop(membership);
                if !error.is_retriable() && !error.is_timeout() {
                    shared.core(|core| core.report(error.into()));
                }
            }
        }
    }
}

async fn send(
    shared: &Shared,
    heartbeat: Heartbeat,
) -> Result<ShareGroupHeartbeatResponse, NetError> {
    let (kind, group) = (CoordinatorKind::Group, &*shared.config.group_id);
    let patience = match heartbeat.epoch {
        // The end of the session does the same.
        ..0 => LEAVE_TIMEOUT,
        _ => shared.config.request_timeout,
    };
    let deadline = ottla_net::Instant::now() + patience;
    let node = shared.cluster.coordinator(kind, group, deadline).await?;
    let answer = async {
        let connection = shared
            .cluster
            .connection(node, Lane::Coordination, deadline)
            .await?;
        let version = connection.version::<ShareGroupHeartbeatRequest>(i16::MAX)?;
        let rack = (heartbeat.epoch == 0 && !shared.config.client_rack.is_empty())
            .then(|| Str::from(shared.config.client_rack.clone()));
        let request = ShareGroupHeartbeatRequest {
            group_id: shared.group_id(),
            member_id: shared.member_id.clone(),
            member_epoch: heartbeat.epoch,
            rack_id: rack,
            subscribed_topic_names: heartbeat.topics,
            ..Default::default()
        };
        connection.submit(&request, version, deadline)?.await
    };
    let answer = answer.await;
    if answer.is_err() {
        shared.cluster.forget_coordinator(kind, group, node);
    }
    answer
}

/// The coordinator that was used is not it any more.
async fn rediscover(shared: &Shared) {
    let (kind, group) = (CoordinatorKind::Group, &*shared.config.group_id);
    // Known at once if it is known at all.
    let known = shared
        .cluster
        .coordinator(kind, group, ottla_net::Instant::now());
    if let Ok(node) = known.await {
        shared.cluster.forget_coordinator(kind, group, node);
    }
}

/// Looks for the names and leaders of what is assigned, now and whenever the metadata has changed.
pub(super) async fn watch_metadata(shared: Arc<Shared>) {
    let mut changes = shared.cluster.changes();
    loop {
        let complete = shared.resolve();
        let changed = changes.changed();
        if complete {
            if changed.await.is_err() {
                return;
            }
            continue;
        }
        shared.cluster.refresh_soon();
        let pause = shared.config.retry_backoff_max.max(PAUSE_MIN);
        // Both outcomes mean: look again. The sender lives as long as the cluster.
        if let Ok(Err(_)) = tokio::time::timeout(pause, changed).await {
            return;
        }
    }
}

impl Shared {
    /// Hands what is assigned to the core, as far as the topics are known. Whether all is known.
    pub(super) fn resolve(&self) -> bool {
        // Kept locked, so that of two callers the one with older news does not come last.
        let assigned = self.assigned.lock();
        let metadata = self.cluster.metadata();
        let mut known = true;
        let mut names: HashMap<Uuid, Str> = HashMap::new();
        let mut partitions = Vec::new();
        for (topic_id, indexes) in &*assigned {
            let Some(topic) = metadata.topic_by_id(*topic_id) else {
                known = false;
                continue;
            };
            names.insert(*topic_id, topic.name.clone());
            for &index in indexes {
                let leader = topic
                    .partition(index)
                    .and_then(|partition| partition.leader);
                known &= leader.is_some();
                let name = TopicPartition::new(topic.name.clone(), index);
                partitions.push(((*topic_id, index), name, leader));
            }
        }
        // An answer may still come for what was assigned before.
        let mut known_names = self.names.lock();
        if known_names.len() > NAMES_MAX {
            known_names.clear();
        }
        known_names.extend(names);
        drop(known_names);
        self.core(|core| core.assign(partitions, now()));
        known
    }

    pub(super) fn topic_name(&self, id: Uuid) -> Option<Str> {
        self.names.lock().get(&id).cloned()
    }
}

/// Ids of topics that were assigned before, and perhaps deleted since.
const NAMES_MAX: usize = 10_000;

/// How long leaving may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often to ask for topics and leaders that are missing, at the most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
