//! Fetch: reads batches from partitions, and waits until there are enough.

use std::sync::Arc;
use std::time::Duration;

use ottla_wire::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse,
    LeaderIdAndEpoch, PartitionData,
};
use ottla_wire::{ErrorCode, Str, Uuid};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Serve;
use super::follower_fetch::{Nearby, Role};
use super::leader_hints::note_endpoint;
use super::waiting::{BYTES_MAX, Found, WAIT_MAX, Waiting, find};
use crate::cluster::Partition;
use crate::context::Context;
use crate::fetch_session::{PartitionNews, Plan, Wanted};
use crate::log::Log;
use crate::log::header::BatchHeader;

impl Serve for FetchRequest {
    async fn serve(self, context: &Context) -> Option<FetchResponse> {
        let now = context.shared.now();
        let planned = context
            .shared
            .sessions
            .lock()
            .plan(context.node, &self, now);
        let plan = match planned {
            Ok(plan) => plan,
            Err(error) => return Some(self.refuse(error)),
        };
        let wait = Duration::from_millis(u64::try_from(self.max_wait_ms).unwrap_or(0));
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        let waiter = Arc::new(Notify::new());
        let nearby = Nearby::of(context, &self.rack_id);
        let partitions: Vec<Found> = plan
            .wanted
            .iter()
            .map(|wanted| find(context, &wanted.topic, wanted.topic_id, wanted.partition))
            .collect();
        loop {
            // Registered before reading: what is appended meanwhile wakes us.
            let waiting = Waiting::begin(partitions.iter(), &waiter);
            let read = Read::all(context, &self, &plan, &partitions, &nearby);
            if read.is_enough(&self) || Instant::now() >= deadline {
                drop(waiting);
                return Some(read.respond(context, &plan));
            }
            let _ = tokio::time::timeout_at(deadline, waiter.notified()).await;
        }
    }

    fn refuse(&self, error: ErrorCode) -> FetchResponse {
        FetchResponse {
            error_code: error,
            ..Default::default()
        }
    }
}

/// One round of reading all partitions.
struct Read {
    data: Vec<PartitionData>,
    bytes: usize,
    has_news: bool,
}

impl Read {
    fn all(
        context: &Context,
        request: &FetchRequest,
        plan: &Plan,
        partitions: &[Found],
        nearby: &Nearby,
    ) -> Self {
        let mut read = Self {
            data: Vec::with_capacity(plan.wanted.len()),
            bytes: 0,
            has_news: false,
        };
        let bytes_max = usize::try_from(request.max_bytes)
            .unwrap_or(0)
            .min(BYTES_MAX);
        for (wanted, partition) in plan.wanted.iter().zip(partitions) {
            let data = match partition {
                Err(error) => failed(wanted.partition, *error),
                Ok(partition) => {
                    let room = (bytes_max, read.bytes);
                    let committed = request.isolation_level == READ_COMMITTED;
                    read_partition(context, wanted, partition, room, committed, nearby)
                }
            };
            read.bytes += data.records.as_ref().map_or(0, bytes::Bytes::len);
            read.has_news |= !data.error_code.is_ok()
                || data.diverging_epoch.epoch >= 0
                || data.preferred_read_replica >= 0;
            read.data.push(data);
        }
        read
    }

    fn is_enough(&self, request: &FetchRequest) -> bool {
        let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0);
        self.has_news || self.bytes >= bytes_min || self.data.is_empty()
    }

    fn respond(self, context: &Context, plan: &Plan) -> FetchResponse {
        let mut response = FetchResponse {
            session_id: plan.session_id,
            ..Default::default()
        };
        let mut served = Vec::with_capacity(plan.wanted.len());
        for (wanted, data) in plan.wanted.iter().zip(self.data) {
            let tell = !plan.incremental || wanted.is_news(&data);
            served.push((wanted.clone(), tell.then(|| PartitionNews::of(&data))));
            if !tell {
                continue;
            }
            if data.current_leader.leader_id >= 0 {
                note_endpoint(
                    context,
                    data.current_leader.leader_id,
                    &mut response.node_endpoints,
                );
            }
            push(
                &mut response.responses,
                &wanted.topic,
                wanted.topic_id,
                data,
            );
        }
        if plan.session_id != 0 {
            context
                .shared
                .sessions
                .lock()
                .note_answer(plan.session_id, &served);
        }
        response
    }
}

fn read_partition(
    context: &Context,
    wanted: &Wanted,
    partition: &Partition,
    (bytes_max, bytes_so_far): (usize, usize),
    committed: bool,
    nearby: &Nearby,
) -> PartitionData {
    let state = partition.state.lock();
    let role = nearby.role(&state, context.node, wanted.current_leader_epoch);
    if let Err(error) = role {
        let mut data = failed(wanted.partition, error);
        if let Some(leader_id) = state
            .leader
            .filter(|_| context.version >= LEADER_HINTS_FROM)
        {
            let leader_epoch = state.leader_epoch;
            data.current_leader = LeaderIdAndEpoch {
                leader_id,
                leader_epoch,
                ..Default::default()
            };
        }
        return data;
    }
    let log = &state.log;
    let (start, end) = (log.start_offset(), state.end_at(context.node));
    let stable = log.last_stable_offset().min(end);
    let limit = if committed { stable } else { end };
    let mut data = PartitionData {
        partition_index: wanted.partition,
        high_watermark: end,
        last_stable_offset: stable,
        aborted_transactions: committed.then(Vec::new),
        log_start_offset: start,
        records: Some(bytes::Bytes::new()),
        ..Default::default()
    };
    if wanted.last_fetched_epoch >= 0 {
        let Some((epoch, end_offset)) = log.epoch_end(wanted.last_fetched_epoch) else {
            // Nothing is left of any epoch.
            return out_of_range(data);
        };
        if epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset {
            data.diverging_epoch = EpochEndOffset {
                epoch,
                end_offset,
                ..Default::default()
            };
            return data;
        }
    }
    if wanted.fetch_offset < start || wanted.fetch_offset > end {
        return out_of_range(data);
    }
    if role == Ok(Role::Leader)
        && let Some(follower) = nearby.preferred(&state, wanted.fetch_offset)
    {
        data.preferred_read_replica = follower;
        return data;
    }
    let room = bytes_max.saturating_sub(bytes_so_far);
    let partition_max = usize::try_from(wanted.max_bytes).unwrap_or(0);
    // The first batch of a response goes out whatever its size, so that every consumer makes progress.
    let at_least_one = bytes_so_far == 0;
    if wanted.fetch_offset < limit && (room > 0 || at_least_one) {
        match log.read(
            wanted.fetch_offset,
            limit,
            room.min(partition_max),
            at_least_one,
        ) {
            Ok(records) => {
                if committed {
                    let aborted = aborted_in(log, wanted.fetch_offset, &records);
                    data.aborted_transactions = Some(aborted);
                }
                data.records = Some(records);
            }
            Err(error) => {
                tracing::error!(partition = wanted.partition, %error, "cannot read the log");
                return failed(wanted.partition, ErrorCode::KAFKA_STORAGE_ERROR);
            }
        }
    }
    data
}

fn out_of_range(mut data: PartitionData) -> PartitionData {
    data.error_code = ErrorCode::OFFSET_OUT_OF_RANGE;
    data.records = None;
    data
}

/// The aborted transactions that a reader of `records` has to know of.
fn aborted_in(log: &Log, from: i64, records: &bytes::Bytes) -> Vec<AbortedTransaction> {
    // Found without reading the records: the offset after a batch stands in its header.
    let mut to = from;
    let mut rest = &records[..];
    while let Some(header) = BatchHeader::parse(rest) {
        to = header.next_offset();
        rest = rest.get(header.total_len()..).unwrap_or_default();
    }
    log.transactions()
        .aborted_in(from, to)
        .into_iter()
        .map(|aborted| AbortedTransaction {
            producer_id: aborted.producer_id,
            first_offset: aborted.first_offset,
            ..Default::default()
        })
        .collect()
}

fn push(
    responses: &mut Vec<FetchableTopicResponse>,
    topic: &Str,
    topic_id: Uuid,
    data: PartitionData,
) {
    match responses.last_mut() {
        Some(last) if last.topic == *topic && last.topic_id == topic_id => {
            last.partitions.push(data);
        }
        _ => responses.push(FetchableTopicResponse {
            topic: topic.clone(),
            topic_id,
            partitions: vec![data],
            ..Default::default()
        }),
    }
}

fn failed(partition_index: i32, error_code: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index,
        error_code,
        high_watermark: -1,
        ..Default::default()
    }
}

/// `isolation.level=read_committed`
const READ_COMMITTED: i8 = 1;

/// KIP-951
const LEADER_HINTS_FROM: i16 = 16;

#[cfg(test)]
mod tests {
    use ottla_wire::messages::fetch::{FetchPartition, FetchTopic};

    use super::super::metadata::resolve;
    use super::*;
    use crate::{BrokerOptions, EmbeddedCluster};

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_is_given_up_waits_for_nothing_any_more() {
        let options = BrokerOptions {
            topics: vec![("t".into(), 1)],
            ..Default::default()
        };
        let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
        let context = Context {
            shared: Arc::clone(cluster.shared()),
            node: 1,
            client_id: String::new(),
            client_host: String::new(),
            version: 12,
            connection: 0,
        };
        let request = FetchRequest {
            max_wait_ms: 60_000,
            min_bytes: 1,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: "t".into(),
                partitions: vec![FetchPartition::default()],
                ..Default::default()
            }],
            ..Default::default()
        };
        let given_up = tokio::time::timeout(Duration::from_secs(1), request.serve(&context)).await;
        assert!(given_up.is_err(), "{given_up:?}");
        let topic = resolve(&context, "t", Uuid::ZERO).unwrap();
        let partition = topic.partition(0).unwrap();
        assert_eq!(partition.state.lock().waiting(), 0);
    }
}
