//! The loop of one broker: ask the core what to send, send it on the fetch lane, hand the answer back, go on.
//!
//! The broker answers one request of a share session at a time, and so does this.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ottla_net::{Error as NetError, Lane, LeaderHint};
use ottla_wire::{
    ErrorCode, Str, Uuid,
    messages::{share_acknowledge as ack, share_fetch as fetch},
};
use tokio::sync::Notify;
use tracing::{Instrument, Span};

use super::{
    config::ShareAcquireMode,
    core::{Answer, Api, LOCK_TIMEOUT, Order, Part, PartitionId, Plan},
    driver::{Shared, millis},
    fetched::Fetched,
    held::Run,
};
use crate::{
    TopicPartition,
    driver::{now, wait},
    spans,
};

pub(super) async fn run(shared: Arc<Shared>, node: i32, wake: Arc<Notify>) {
    loop {
        let plan = shared.plan(node);
        shared.tell_outcomes();
        match plan {
            Plan::Gone => return,
            Plan::Wait(until) => wait(&wake, until).await,
            Plan::Send(order) => {
                let (sent, fetches) = (now(), order.api == Api::ShareFetch);
                let spans = Exchanging::new(&shared, node, &order);
                let answer =
                    exchange(&shared, node, order, &spans.fetch).instrument(spans.innermost());
                let answer = answer.await;
                spans.answered(&answer);
                let brought = spans.innermost().in_scope(|| match answer {
                    Ok(answer) => shared.core(|core| core.handle_answer(node, answer, now())),
                    Err(error) => {
                        shared.counters.failures.fetch_add(1, Relaxed);
                        tracing::warn!(node, %error, "no answer from the broker to a share group's request");
                        shared.core(|core| core.handle_failure(node, &error, now()));
                        // It is asked again later.
                        true
                    }
                });
                drop(spans);
                let pause = EMPTY_MIN.saturating_sub(now() - sent);
                if fetches && !brought && !pause.is_zero() {
                    // It did not wait as it was told.
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// The spans of a request, which may both fetch and acknowledge.
struct Exchanging {
    fetch: Span,
    acknowledge: Span,
}

impl Exchanging {
    fn new(shared: &Shared, node: i32, order: &Order) -> Self {
        let spans = &shared.spans;
        let fetch = match order.api {
            Api::ShareFetch => spans.fetch(node),
            Api::ShareAcknowledge => Span::none(),
        };
        let acknowledge = match order.records() {
            0 => Span::none(),
            records => {
                let ids = || order.acknowledged.iter().map(|(id, _)| *id);
                let name =
                    |id: PartitionId| Some(TopicPartition::new(shared.topic_name(id.0)?, id.1));
                let names = || ids().filter_map(name).collect();
                spans.acknowledge(node, records, names, &fetch)
            }
        };
        Self { fetch, acknowledge }
    }

    /// What is done for either is done in this one.
    fn innermost(&self) -> Span {
        match self.acknowledge.is_none() {
            true => self.fetch.clone(),
            false => self.acknowledge.clone(),
        }
    }

    fn answered(&self, answer: &Result<Answer, NetError>) {
        let error = match answer {
            Ok(answer) => answer.error,
            Err(error) => {
                spans::fail(&self.fetch, spans::NO_ANSWER, error);
                spans::fail(&self.acknowledge, spans::NO_ANSWER, error);
                return;
            }
        };
        if error.is_err() {
            spans::refused(&self.fetch, error);
            spans::refused(&self.acknowledge, error);
        } else if let Ok(answer) = answer {
            let errors = answer.partitions.iter().map(|part| part.acknowledge_error);
            if let Some(error) = errors.into_iter().find(|error| error.is_err()) {
                spans::refused(&self.acknowledge, error);
            }
        }
    }
}

async fn exchange(
    shared: &Shared,
    node: i32,
    order: Order,
    fetching: &Span,
) -> Result<Answer, NetError> {
    let patience = match order.epoch {
        // Nobody waits for more than the deadline of closing.
        ..0 => shared.config.request_timeout.min(CLOSE_TIMEOUT),
        _ => shared.config.request_timeout,
    };
    let deadline = ottla_net::Instant::now() + patience;
    let connection = shared
        .cluster
        .connection(node, Lane::Fetch, deadline)
        .await?;
    let cap = i16::MAX;
    let (acknowledges, latency) = (order.records() > 0, &shared.counters.acknowledge_latency);
    match order.api {
        Api::ShareFetch => {
            let version = connection.version::<fetch::ShareFetchRequest>(cap)?;
            let request = fetch_request(shared, order);
            let sent = now();
            let reply = connection.submit(&request, version, deadline)?.await?;
            let took = now() - sent;
            count(shared, &reply, took, fetching);
            if acknowledges {
                latency.add_time(took);
            }
            Ok(take_in(shared, node, reply))
        }
        Api::ShareAcknowledge => {
            let version = connection.version::<ack::ShareAcknowledgeRequest>(cap)?;
            let (mut request, renews) = (acknowledge_request(shared, &order), order.renews());
            let mut unsupported = Vec::new();
            if renews && version < RENEW_SINCE {
                // The broker would refuse all that came along.
                request.is_renew_ack = false;
                unsupported = without_renewals(&mut request);
            }
            let sent = now();
            let reply = connection.submit(&request, version, deadline)?.await?;
            if acknowledges {
                latency.add_time(now() - sent);
            }
            let mut answer = acknowledged(shared, reply, renews);
            for part in &mut answer.partitions {
                if unsupported.contains(&part.id) && part.acknowledge_error.is_ok() {
                    part.acknowledge_error = ErrorCode::UNSUPPORTED_VERSION;
                }
            }
            for id in unsupported {
                if answer.partitions.iter().all(|part| part.id != id) {
                    answer.partitions.push(Part {
                        id,
                        error: ErrorCode::NONE,
                        acknowledge_error: ErrorCode::UNSUPPORTED_VERSION,
                        fetched: None,
                    });
                }
            }
            Ok(answer)
        }
    }
}

fn count(shared: &Shared, reply: &fetch::ShareFetchResponse, took: Duration, fetching: &Span) {
    let partitions = reply.responses.iter().flat_map(|topic| &topic.partitions);
    fetching.record("partitions", partitions.clone().count());
    let bytes: usize = partitions.map(|data| data.records.len()).sum();
    fetching.record("bytes", bytes);
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let counters = &shared.counters;
    counters.fetches.fetch_add(1, Relaxed);
    counters.fetch_micros.fetch_add(micros, Relaxed);
    if bytes > 0 {
        counters.fetch_size.add(bytes as u64);
        counters.fetch_latency.add_time(took);
    }
}

fn fetch_request(shared: &Shared, order: Order) -> fetch::ShareFetchRequest {
    let config = &shared.config;
    let records = i32::try_from(config.max_poll_records).unwrap_or(i32::MAX);
    let mut topics: BTreeMap<Uuid, BTreeMap<i32, Vec<fetch::AcknowledgementBatch>>> =
        BTreeMap::new();
    for (topic, partition) in order.add {
        topics
            .entry(topic)
            .or_default()
            .entry(partition)
            .or_default();
    }
    for ((topic, partition), runs) in order.acknowledged {
        let batches = runs.into_iter().map(|((first_offset, last_offset), kind)| {
            fetch::AcknowledgementBatch {
                first_offset,
                last_offset,
                acknowledge_types: vec![kind],
                ..Default::default()
            }
        });
        let of = topics.entry(topic).or_default();
        of.entry(partition).or_default().extend(batches);
    }
    let mut forgotten: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in order.forget {
        forgotten.entry(topic).or_default().push(partition);
    }
    fetch::ShareFetchRequest {
        group_id: Some(shared.group_id()),
        member_id: Some(shared.member_id.clone()),
        share_session_epoch: order.epoch,
        max_wait_ms: millis(config.fetch_max_wait),
        min_bytes: i32::try_from(config.fetch_min_bytes).unwrap_or(i32::MAX),
        max_bytes: i32::try_from(config.fetch_max_bytes).unwrap_or(i32::MAX),
        max_records: records,
        batch_size: records,
        share_acquire_mode: match config.acquire_mode {
            ShareAcquireMode::BatchOptimized => 0,
            ShareAcquireMode::RecordLimit => 1,
        },
        topics: topics
            .into_iter()
            .map(|(topic_id, partitions)| fetch::FetchTopic {
                topic_id,
                partitions: partitions
                    .into_iter()
                    .map(
                        |(partition_index, acknowledgement_batches)| fetch::FetchPartition {
                            partition_index,
                            acknowledgement_batches,
                            ..Default::default()
                        },
                    )
                    .collect(),
                ..Default::default()
            })
            .collect(),
        forgotten_topics_data: forgotten
            .into_iter()
            .map(|(topic_id, partitions)| fetch::ForgottenTopic {
                topic_id,
                partitions,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn acknowledge_request(shared: &Shared, order: &Order) -> ack::ShareAcknowledgeRequest {
    let mut topics: BTreeMap<Uuid, Vec<ack::AcknowledgePartition>> = BTreeMap::new();
    for ((topic, partition_index), runs) in &order.acknowledged {
        let batch = |&((first_offset, last_offset), kind): &(Run, i8)| ack::AcknowledgementBatch {
            first_offset,
            last_offset,
            acknowledge_types: vec![kind],
            ..Default::default()
        };
        let of = topics.entry(*topic).or_default();
        of.push(ack::AcknowledgePartition {
            partition_index: *partition_index,
            acknowledgement_batches: runs.iter().map(batch).collect(),
            ..Default::default()
        });
    }
    ack::ShareAcknowledgeRequest {
        group_id: Some(shared.group_id()),
        member_id: Some(shared.member_id.clone()),
        share_session_epoch: order.epoch,
        is_renew_ack: order.renews(),
        topics: topics
            .into_iter()
            .map(|(topic_id, partitions)| ack::AcknowledgeTopic {
                topic_id,
                partitions,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

/// Takes the renewals out; of which partitions there were some.
fn without_renewals(request: &mut ack::ShareAcknowledgeRequest) -> Vec<(Uuid, i32)> {
    let mut of = Vec::new();
    for topic in &mut request.topics {
        topic.partitions.retain_mut(|partition| {
            let before = partition.acknowledgement_batches.len();
            partition
                .acknowledgement_batches
                .retain(|batch| batch.acknowledge_types != [super::acknowledge::RENEW]);
            if partition.acknowledgement_batches.len() < before {
                of.push((topic.topic_id, partition.partition_index));
            }
            !partition.acknowledgement_batches.is_empty()
        });
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
    of
}

fn take_in(shared: &Shared, node: i32, response: fetch::ShareFetchResponse) -> Answer {
    let leaders = response.responses.iter().flat_map(|topic| {
        topic.partitions.iter().map(|data| {
            let leader = &data.current_leader;
            (
                topic.topic_id,
                data.partition_index,
                leader.leader_id,
                leader.leader_epoch,
            )
        })
    });
    let endpoints = response.node_endpoints.iter();
    let endpoints = endpoints.map(|n| (n.node_id, &*n.host, n.port, n.rack.as_deref()));
    learn_leaders(shared, leaders, endpoints);
    let timeout = lock_timeout(response.acquisition_lock_timeout_ms);
    // The broker's clock began to run before.
    let until = now() + timeout.unwrap_or(LOCK_TIMEOUT);
    let mut partitions = Vec::new();
    for topic in response.responses {
        let name = shared.topic_name(topic.topic_id);
        for data in topic.partitions {
            let id = (topic.topic_id, data.partition_index);
            let name = name.clone().map(|topic| TopicPartition::new(topic, id.1));
            let fetched = name.filter(|_| data.error_code.is_ok()).and_then(|name| {
                Fetched::new(node, id, name, until, data.records, data.acquired_records)
            });
            partitions.push(Part {
                id,
                error: data.error_code,
                acknowledge_error: data.acknowledge_error_code,
                fetched,
            });
        }
    }
    Answer {
        error: response.error_code,
        lock_timeout: timeout,
        partitions,
    }
}

fn acknowledged(shared: &Shared, response: ack::ShareAcknowledgeResponse, renews: bool) -> Answer {
    let leaders = response.responses.iter().flat_map(|topic| {
        topic.partitions.iter().map(|data| {
            let leader = &data.current_leader;
            (
                topic.topic_id,
                data.partition_index,
                leader.leader_id,
                leader.leader_epoch,
            )
        })
    });
    let endpoints = response.node_endpoints.iter();
    let endpoints = endpoints.map(|n| (n.node_id, &*n.host, n.port, n.rack.as_deref()));
    learn_leaders(shared, leaders, endpoints);
    let parts = response.responses.iter().flat_map(|topic| {
        topic.partitions.iter().map(|data| Part {
            id: (topic.topic_id, data.partition_index),
            error: ErrorCode::NONE,
            acknowledge_error: data.error_code,
            fetched: None,
        })
    });
    Answer {
        error: response.error_code,
        lock_timeout: lock_timeout(response.acquisition_lock_timeout_ms).filter(|_| renews),
        partitions: parts.collect(),
    }
}

fn lock_timeout(ms: i32) -> Option<Duration> {
    let ms = u64::try_from(ms).ok().filter(|ms| *ms > 0)?;
    Some(Duration::from_millis(ms).max(LOCK_TIMEOUT_MIN))
}

/// KIP-951: a broker that does not lead a partition any more may say who does.
fn learn_leaders<'a>(
    shared: &Shared,
    leaders: impl Iterator<Item = (Uuid, i32, i32, i32)>,
    endpoints: impl Iterator<Item = (i32, &'a str, i32, Option<&'a str>)>,
) {
    let metadata = shared.cluster.metadata();
    let hints: Vec<(Str, i32, i32, i32)> = leaders
        .filter(|(_, _, leader, _)| *leader >= 0)
        .filter_map(|(topic, partition, leader, epoch)| {
            let name = metadata.topic_by_id(topic)?.name.clone();
            Some((name, partition, leader, epoch))
        })
        .collect();
    if hints.is_empty() {
        return;
    }
    let hints = hints
        .iter()
        .map(|(topic, partition, leader, leader_epoch)| LeaderHint {
            topic,
            partition: *partition,
            leader: *leader,
            leader_epoch: *leader_epoch,
        });
    shared
        .cluster
        .learn_leaders(&hints.collect::<Vec<_>>(), endpoints);
}

/// The version of ShareAcknowledge that knows renewals.
const RENEW_SINCE: i16 = 2;

/// Brokers lock for no less (`group.share.min.record.lock.duration.ms`). Of records that time out before anybody can have come
/// for them, more would be asked for at once.
const LOCK_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// How long an answer to a ShareFetch takes that brings nothing, at the least.
const EMPTY_MIN: Duration = Duration::from_millis(10);

/// How long closing a session may take; losing the connection does the same.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
