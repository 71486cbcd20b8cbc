//! The fetch loop of one broker: ask the core what to fetch, send it on the fetch lane, split the answer
//! into batches, hand them to the core, go on.
//!
//! Reads headers of batches only; decompresses nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ottla_net::{Lane, LeaderHint};
use ottla_wire::{
    ErrorCode, Str, Uuid,
    messages::fetch::{
        FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionData,
    },
};
use tokio::sync::Notify;
use tracing::{Instrument, Span};

use super::{Shared, now, wait};
use crate::{
    Bytes, IsolationLevel,
    core::{FetchOrder, FetchPlan, FetchedPartition, Watermarks},
    metrics::Counters,
    payload::{Payload, split},
    spans,
};

pub(super) async fn run(shared: Arc<Shared>, node: i32, wake: Arc<Notify>) {
    let mut ids = true;
    loop {
        match shared.core(|core| core.plan_fetch(node, ids, now())) {
            FetchPlan::Gone => return,
            FetchPlan::Wait(until) => wait(&wake, until).await,
            FetchPlan::Send(order) => {
                let span = shared.spans.fetch(node);
                let answer = exchange(&shared, node, order)
                    .instrument(span.clone())
                    .await;
                let pause = span.in_scope(|| handle(&shared, node, answer, &mut ids, &span));
                drop(span);
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// Takes in what came of a fetch. How long to wait before the next one, of a broker that did not wait as it was told.
fn handle(
    shared: &Arc<Shared>,
    node: i32,
    answer: Result<Exchange, ottla_net::Error>,
    ids: &mut bool,
    span: &Span,
) -> Option<Duration> {
    let counters = &shared.counters;
    match answer {
        Ok(Exchange::Answer(response, took)) => {
            let parts = || response.responses.iter().flat_map(|of| &of.partitions);
            let bytes: usize = parts().map(len).sum();
            Counters::add(&counters.fetches, 1);
            Counters::add_time(&counters.fetch_micros, took);
            if bytes > 0 {
                counters.fetch_size.add(bytes as u64);
                counters.fetch_latency.add_time(took);
            }
            span.record("partitions", parts().count());
            span.record("bytes", bytes);
            if response.error_code.is_err() {
                spans::refused(span, response.error_code);
            }
            let (pause, brings) = (EMPTY_MIN.saturating_sub(took), !is_empty(&response));
            take_in(shared, node, response);
            (!brings && !pause.is_zero()).then_some(pause)
        }
        Ok(Exchange::NoIds) => {
            *ids = false;
            shared.core(|core| core.handle_unsent(node));
            None
        }
        Err(error) => {
            tracing::warn!(node, %error, "cannot fetch");
            spans::fail(span, spans::NO_ANSWER, &error);
            Counters::add(&counters.fetch_failures, 1);
            let fatal = !error.is_retriable();
            shared.core(|core| {
                core.handle_fetch_failure(node, now());
                if fatal {
                    core.report(error.into());
                }
            });
            None
        }
    }
}

enum Exchange {
    /// With the time from sending the request.
    Answer(FetchResponse, Duration),
    /// The broker speaks no version with topic ids.
    NoIds,
}

async fn exchange(
    shared: &Shared,
    node: i32,
    order: FetchOrder,
) -> Result<Exchange, ottla_net::Error> {
    let deadline = ottla_net::Instant::now() + shared.config.request_timeout;
    let connection = shared
        .cluster
        .connection(node, Lane::Fetch, deadline)
        .await?;
    let cap = if order.session.by_id {
        i16::MAX
    } else {
        LAST_BY_NAME
    };
    let version = connection.version::<FetchRequest>(cap)?;
    if order.session.by_id && version <= LAST_BY_NAME {
        return Ok(Exchange::NoIds);
    }
    let request = request(shared, order);
    let sent = now();
    let deadline = ottla_net::Instant::now() + shared.config.request_timeout;
    let reply = connection.submit(&request, version, deadline)?;
    let response = reply.await?;
    Ok(Exchange::Answer(response, now() - sent))
}

fn request(shared: &Shared, order: FetchOrder) -> FetchRequest {
    let config = &shared.config;
    let max_wait = match order.hurries {
        true => config.fetch_max_wait.min(HURRIED_WAIT_MAX),
        false => config.fetch_max_wait,
    };
    let session = order.session;
    let mut topics: Vec<FetchTopic> = Vec::new();
    let mut places: HashMap<(Str, Uuid), usize> = HashMap::new();
    for (name, want) in session.partitions {
        let place = *places
            .entry((name.topic.clone(), want.topic_id))
            .or_insert_with(|| {
                topics.push(FetchTopic {
                    topic: name.topic.clone(),
                    topic_id: want.topic_id,
                    ..Default::default()
                });
                topics.len() - 1
            });
        topics[place].partitions.push(FetchPartition {
            partition: name.partition,
            current_leader_epoch: want.leader_epoch,
            fetch_offset: want.offset,
            partition_max_bytes: want.bytes_max,
            ..Default::default()
        });
    }
    let mut forgotten: Vec<ForgottenTopic> = Vec::new();
    places.clear();
    for (name, topic_id) in session.forgotten {
        let place = *places
            .entry((name.topic.clone(), topic_id))
            .or_insert_with(|| {
                let topic = name.topic.clone();
                forgotten.push(ForgottenTopic {
                    topic,
                    topic_id,
                    ..Default::default()
                });
                forgotten.len() - 1
            });
        forgotten[place].partitions.push(name.partition);
    }
    FetchRequest {
        max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: i32::try_from(config.fetch_min_bytes).unwrap_or(i32::MAX),
        max_bytes: order.max_bytes,
        isolation_level: isolation(config.isolation_level),
        session_id: session.session_id,
        session_epoch: session.session_epoch,
        topics,
        forgotten_topics_data: forgotten,
        rack_id: config.client_rack.clone().into(),
        ..Default::default()
    }
}

pub(super) fn isolation(level: IsolationLevel) -> i8 {
    match level {
        IsolationLevel::ReadUncommitted => 0,
        IsolationLevel::ReadCommitted => 1,
    }
}

/// Whether an answer brings neither records nor news. A broker that waits as it is told sends it when the time is up; one that
/// does not would be asked as fast as it answers.
fn is_empty(response: &FetchResponse) -> bool {
    let mut partitions = response.responses.iter().flat_map(|of| &of.partitions);
    response.error_code.is_ok()
        && partitions.all(|data| {
            let records = data.records.as_ref();
            data.error_code.is_ok()
                && data.preferred_read_replica < 0
                && records.is_none_or(Bytes::is_empty)
        })
}

fn take_in(shared: &Arc<Shared>, node: i32, response: FetchResponse) {
    learn_leaders(shared, &response);
    let mut partitions: Vec<FetchedPartition<Payload>> = Vec::new();
    let parts = response.responses.iter().flat_map(|of| &of.partitions);
    let whole = parts.map(len).sum();
    for topic in response.responses {
        for data in topic.partitions {
            partitions.push(fetched(shared, &topic.topic, topic.topic_id, data, whole));
        }
    }
    let (error, session) = (response.error_code, response.session_id);
    shared.core(|core| core.handle_fetched(node, error, session, partitions, now()));
}

fn fetched(
    shared: &Shared,
    topic: &Str,
    topic_id: Uuid,
    data: PartitionData,
    whole: usize,
) -> FetchedPartition<Payload> {
    let config = &shared.config;
    let follower = Some(data.preferred_read_replica).filter(|node| *node >= 0);
    let unknown = follower.is_some_and(|node| shared.cluster.metadata().broker(node).is_none());
    let entries = match data.records {
        Some(records) if data.error_code.is_ok() => split(
            records,
            data.aborted_transactions,
            config.isolation_level,
            config.check_crcs,
        ),
        _ => Vec::new(),
    };
    FetchedPartition {
        topic: topic.clone(),
        topic_id,
        partition: data.partition_index,
        error: match data.error_code {
            // Advice that cannot be followed yet.
            ErrorCode::NONE if unknown => ErrorCode::REPLICA_NOT_AVAILABLE,
            error => error,
        },
        follower,
        watermarks: Watermarks {
            low: data.log_start_offset,
            high: data.high_watermark,
            last_stable: data.last_stable_offset,
        },
        entries,
        detach: Some(Payload::detach),
        answer_bytes: whole,
    }
}

/// Bytes of records.
fn len(data: &PartitionData) -> usize {
    data.records.as_ref().map_or(0, Bytes::len)
}

/// KIP-951: a broker that does not lead a partition any more may say who does.
fn learn_leaders(shared: &Shared, response: &FetchResponse) {
    let metadata = shared.cluster.metadata();
    let mut hints = Vec::new();
    for topic in &response.responses {
        for data in topic
            .partitions
            .iter()
            .filter(|data| data.current_leader.leader_id >= 0)
        {
            let name = match metadata.topic_by_id(topic.topic_id) {
                Some(known) if !topic.topic_id.is_zero() => &*known.name,
                _ => &*topic.topic,
            };
            hints.push(LeaderHint {
                topic: name,
                partition: data.partition_index,
                leader: data.current_leader.leader_id,
                leader_epoch: data.current_leader.leader_epoch,
            });
        }
    }
    if !hints.is_empty() {
        let endpoints = response
            .node_endpoints
            .iter()
            .map(|node| (node.node_id, &*node.host, node.port, node.rack.as_deref()));
        shared.cluster.learn_leaders(&hints, endpoints);
    }
}

/// How long a broker may wait for records of some partitions while the reader of another may want more any moment.
const HURRIED_WAIT_MAX: Duration = Duration::from_millis(50);

/// How long an answer takes that brings nothing, at the least.
const EMPTY_MIN: Duration = Duration::from_millis(10);

/// The last version that names topics.
const LAST_BY_NAME: i16 = 12;
