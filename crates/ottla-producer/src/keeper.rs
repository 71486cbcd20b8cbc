//! The producer's housekeeping task: news of topics, deadlines, the producer id.
//!
//! Never on a record's way. Sleeps until there is something to keep.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use ottla_net::{Lane, To};
use ottla_wire::ErrorCode;
use ottla_wire::messages::init_producer_id::InitProducerIdRequest;
use tokio::time::{Instant, sleep_until};

use crate::client::Client;
use crate::error::SendError;
use crate::identity::ProducerIdentity;
use crate::sender::Slot;

/// Keeps house until it is aborted.
pub(crate) async fn run_keeper(client: Arc<Client>) {
    let mut changes = client.cluster.changes();
    let (mut due, mut hurried) = (Vec::new(), Vec::new());
    loop {
        let now = Instant::now();
        let linger_end = client.nowhere.take(now, &mut due, &mut hurried);
        hurried
            .iter()
            .for_each(|partition| partition.front.lock().queue.hurry());
        if !due.is_empty() || !hurried.is_empty() {
            let mut core = client.core.lock();
            for partition in due.drain(..).chain(hurried.drain(..)) {
                core.front_ready(partition.slot);
            }
            let effects = core.take_effects();
            drop(core);
            client.carry_out(effects, None);
        }
        let deadline = expire(&client, now);
        let seek_at = client.core.lock().seeks_leaders().then(|| {
            // The cluster spaces its requests itself.
            client.cluster.refresh_soon();
            now + client.config.retry_backoff.max(Duration::from_millis(10))
        });
        let wake_at = [linger_end, deadline, seek_at].into_iter().flatten().min();
        tokio::select! {
            biased;
            changed = changes.changed() => {
                if changed.is_err() {
                    return; // The cluster is gone.
                }
                learn_topics(&client);
            }
            () = client.nowhere.changed() => {}
            () = client.deadlines_changed.notified() => {}
            () = async { match wake_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            } } => {}
        }
    }
}

/// Gets a producer id whenever one is needed, until it is aborted.
pub(crate) async fn run_identity(client: Arc<Client>) {
    loop {
        client.identity_wanted.notified().await;
        let identity = obtain_identity(&client).await;
        let mut core = client.core.lock();
        match identity {
            Ok(identity) => {
                tracing::debug!(
                    id = identity.id,
                    epoch = identity.epoch,
                    "producer id obtained"
                );
                core.identity_obtained(identity);
                let effects = core.take_effects();
                drop(core);
                client.carry_out(effects, None);
            }
            Err(reason) => {
                drop(core);
                tracing::error!(%reason, "no producer id");
                client.fail(&SendError::Fatal {
                    reason: reason.into(),
                });
                return;
            }
        }
    }
}

/// Tries until it gets an id, or a refusal that will not change.
async fn obtain_identity(client: &Client) -> Result<ProducerIdentity, String> {
    let backoff =
        ottla_net::Backoff::new(client.config.retry_backoff, client.config.retry_backoff_max);
    for failures in 1.. {
        let deadline = Instant::now() + client.config.request_timeout;
        let request = |_| InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..Default::default()
        };
        let reason = match client
            .cluster
            .call(To::Any, Lane::Control, i16::MAX, request, deadline)
            .await
        {
            Ok(response) if response.error_code.is_ok() => {
                let (id, epoch) = (response.producer_id, response.producer_epoch);
                if id >= 0 && epoch >= 0 {
                    return Ok(ProducerIdentity { id, epoch });
                }
                // Records under such a number would not be told from repeated ones.
                format!("InitProducerId: the answer holds no producer id ({id}, epoch {epoch})")
            }
            Ok(response) => match response.error_code {
                code @ (ErrorCode::CLUSTER_AUTHORIZATION_FAILED
                | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED) => {
                    return Err(format!(
                        "the cluster grants no producer id ({code}); grant IdempotentWrite on the cluster, or set enable.idempotence=false"
                    ));
                }
                code if code.is_fatal() => return Err(format!("InitProducerId: {code}")),
                code => format!("InitProducerId: {code}"),
            },
            Err(error) if error.is_retriable() => error.to_string(),
            Err(error @ ottla_net::Error::Unsupported { .. }) => {
                return Err(format!("{error}; or set enable.idempotence=false"));
            }
            Err(error) => error.to_string(),
        };
        tracing::debug!(%reason, "no producer id yet");
        client.core.lock().identity_delayed(reason.into());
        tokio::time::sleep(backoff.random_delay(failures)).await;
    }
    unreachable!("the counter does not end")
}

fn learn_topics(client: &Arc<Client>) {
    let metadata = client.cluster.metadata();
    let topics = client.topics.load();
    // In an order that does not change from run to run: batches leave in it.
    let known = metadata.topics();
    client.learn_topics(known.filter(|topic| topics.by_name.contains_key(&*topic.name)));
}

/// Reports batches whose time is over; gives the next time to look.
fn expire(client: &Arc<Client>, now: Instant) -> Option<Instant> {
    loop {
        let mut deadlines = client.deadlines.lock();
        let Reverse((at, slot)) = *deadlines.peek()?;
        if at > now {
            return Some(at);
        }
        deadlines.pop();
        drop(deadlines);
        expire_partition(client, slot, now);
    }
}

fn expire_partition(client: &Arc<Client>, slot: Slot, now: Instant) {
    let partition = client.partition(slot);
    let timeout = partition.topic.settings.delivery_timeout;
    let mut core = client.core.lock();
    let stuck = core.stuck(slot);
    core.expire(slot, now);
    let effects = core.take_effects();
    drop(core);
    client.carry_out(effects, None);

    // `now` is later than the producer's start by at least the timeout, or nothing would be due.
    let given_up = match now.checked_sub(timeout) {
        Some(latest) => partition.front.lock().queue.give_up(latest),
        None => Vec::new(),
    };
    for batch in given_up {
        let (at, after) = (partition.at.clone(), now - batch.opened());
        let error = SendError::TimedOut {
            at,
            after,
            stuck: stuck.clone(),
        };
        batch.settle(error.into(), &client.supplies.buffers);
    }

    let mut front = partition.front.lock();
    let (sending, between) = {
        let core = client.core.lock();
        (core.oldest(slot), core.is_between(slot))
    };
    let oldest = [front.queue.oldest(), sending].into_iter().flatten().min();
    let next = match oldest {
        Some(oldest) => Some((oldest + timeout).max(now + LOOK_AGAIN)),
        None if between => Some(now + LOOK_AGAIN),
        None => None,
    };
    front.watched = next.is_some();
    if let Some(next) = next {
        client.watch(slot, next);
    }
}

/// How soon to look again at a batch that is on its way between two hands, or with a worker.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
