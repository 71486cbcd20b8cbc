//! Produce: appends one batch to each of some partitions.

use ottla_wire::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData,
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use ottla_wire::{ErrorCode, Str, Uuid};

use super::Serve;
use super::leader_hints::note_endpoint;
use super::metadata::resolve;
use crate::cluster::{Partition, Topic};
use crate::context::Context;
use crate::log::AppendError;
use crate::log::header::BatchHeader;
use crate::log::validate::{Refusal, Rules, validate};
use crate::transaction::Next;
use crate::transaction::coordinator::Transactions;

impl Serve for ProduceRequest {
    async fn serve(self, context: &Context) -> Option<ProduceResponse> {
        let acks = self.acks;
        if !(-1..=1).contains(&acks) {
            return Some(self.refuse(ErrorCode::INVALID_REQUIRED_ACKS));
        }
        let mut response = ProduceResponse::default();
        for topic in &self.topic_data {
            let found = resolve(context, &topic.name, topic.topic_id);
            let partition_responses = topic
                .partition_data
                .iter()
                .map(|data| match &found {
                    Ok(topic) => append(context, &self, topic, data, &mut response.node_endpoints),
                    Err(error) => failed(data.index, *error),
                })
                .collect();
            response.responses.push(topic_response(
                &topic.name,
                topic.topic_id,
                partition_responses,
            ));
        }
        (acks != 0).then_some(response)
    }

    fn refuse(&self, error: ErrorCode) -> ProduceResponse {
        let responses = self
            .topic_data
            .iter()
            .map(|topic| {
                let partitions = topic
                    .partition_data
                    .iter()
                    .map(|data| failed(data.index, error))
                    .collect();
                topic_response(&topic.name, topic.topic_id, partitions)
            })
            .collect();
        ProduceResponse {
            responses,
            ..Default::default()
        }
    }
}

fn append(
    context: &Context,
    request: &ProduceRequest,
    topic: &Topic,
    data: &PartitionProduceData,
    endpoints: &mut Vec<NodeEndpoint>,
) -> PartitionProduceResponse {
    let Some(partition) = topic.partition(data.index) else {
        return failed(data.index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    // A node that does not lead the partition has nothing to say about the batch.
    let led = partition.state.lock().check_leader(context.node, -1);
    if led.is_err() {
        return misdirected(context, partition, data.index, endpoints);
    }
    let rules = Rules {
        topic: &topic.name,
        partition: data.index,
        config: &topic.config,
        version: context.version,
        has_transactional_id: request.transactional_id.is_some(),
        now_ms: context.shared.now_ms(),
    };
    // Decompressing and checking need no lock.
    let mut batch = match validate(data.records.as_ref(), rules) {
        Ok(batch) => batch,
        Err(refusal) => return refused(data.index, refusal),
    };
    // Held until the batch is written: no marker may come between.
    let mut transactions = None;
    if let Some(header) = BatchHeader::parse(&batch).filter(BatchHeader::is_transactional) {
        let transactions = transactions.insert(context.shared.transactions.lock());
        if let Err(error) = join(context, request, topic, data.index, &header, transactions) {
            return failed(data.index, error);
        }
    }
    let mut state = partition.state.lock();
    if state.check_leader(context.node, -1).is_err() {
        drop(state);
        return misdirected(context, partition, data.index, endpoints);
    }
    if request.acks == -1 && state.in_sync.len() < topic.config.min_insync_replicas {
        return failed(data.index, ErrorCode::NOT_ENOUGH_REPLICAS);
    }
    let epoch = state.leader_epoch;
    match state.log.append(&mut batch, epoch, rules.now_ms) {
        Ok(appended) => {
            if !appended.duplicate {
                state.wake();
            }
            let log_append_time_ms = if topic.config.log_append_time {
                appended.append_time_ms
            } else {
                -1
            };
            PartitionProduceResponse {
                index: data.index,
                base_offset: appended.base_offset,
                log_append_time_ms,
                log_start_offset: state.log.start_offset(),
                ..Default::default()
            }
        }
        Err(AppendError::Refused(error)) => failed(data.index, error),
        Err(AppendError::Storage(error)) => {
            tracing::error!(topic = topic.name, partition = data.index, %error, "cannot append");
            let message = format!("the broker cannot write to its data directory: {error}");
            let mut response = failed(data.index, ErrorCode::KAFKA_STORAGE_ERROR);
            response.error_message = Some(message.into());
            response
        }
    }
}

/// Makes sure that a transactional batch belongs to its producer's open transaction; producers that know KIP-890
/// count on the broker to add the partition.
fn join(
    context: &Context,
    request: &ProduceRequest,
    topic: &Topic,
    partition: i32,
    header: &BatchHeader,
    transactions: &mut Transactions,
) -> Result<(), ErrorCode> {
    let id = request.transactional_id.as_deref().unwrap_or_default();
    let identity = (header.producer_id, header.producer_epoch);
    let transaction = transactions.get_mut(id)?;
    transaction.check(identity).map_err(|error| match error {
        // What Produce has always said.
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        error => error,
    })?;
    if transaction.writes_to(&topic.name, partition) {
        return Ok(());
    }
    if context.version < ABORTABLE_FROM {
        return Err(ErrorCode::INVALID_TXN_STATE);
    }
    if context.version < IMPLICIT_FROM {
        return Err(ErrorCode::TRANSACTION_ABORTABLE);
    }
    let now_ms = context.shared.now_ms();
    let shared = &context.shared;
    shared
        .change_transaction(transactions, id, |transaction| {
            transaction.begin(now_ms);
            let added = (topic.name.clone(), partition);
            transaction.partitions.insert(added);
            Ok(Next::Nothing)
        })
        .map(|_| ())
}

/// The answer of a node that does not lead the partition: who does, if the client can hear that.
fn misdirected(
    context: &Context,
    partition: &Partition,
    index: i32,
    endpoints: &mut Vec<NodeEndpoint>,
) -> PartitionProduceResponse {
    let state = partition.state.lock();
    let error = state.check_leader(context.node, -1);
    // The lead may have come back here meanwhile; the client then finds it here again.
    let mut response = failed(
        index,
        error.err().unwrap_or(ErrorCode::NOT_LEADER_OR_FOLLOWER),
    );
    let (leader, leader_epoch) = (state.leader, state.leader_epoch);
    drop(state);
    if let Some(leader_id) = leader.filter(|_| context.version >= LEADER_HINTS_FROM) {
        response.current_leader = LeaderIdAndEpoch {
            leader_id,
            leader_epoch,
            ..Default::default()
        };
        note_endpoint(context, leader_id, endpoints);
    }
    response
}

fn topic_response(
    name: &Str,
    topic_id: Uuid,
    partition_responses: Vec<PartitionProduceResponse>,
) -> TopicProduceResponse {
    TopicProduceResponse {
        name: name.clone(),
        topic_id,
        partition_responses,
        ..Default::default()
    }
}

fn failed(index: i32, error_code: ErrorCode) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code,
        base_offset: -1,
        ..Default::default()
    }
}

fn refused(index: i32, refusal: Refusal) -> PartitionProduceResponse {
    let record_errors = refusal
        .records
        .into_iter()
        .map(|(batch_index, message)| BatchIndexAndErrorMessage {
            batch_index,
            batch_index_error_message: Some(message.into()),
            ..Default::default()
        })
        .collect();
    PartitionProduceResponse {
        record_errors,
        error_message: Some(refusal.message.into()),
        ..failed(index, refusal.error)
    }
}

/// KIP-890: from here on a producer knows that an abort may help, and then that it need not add partitions.
const ABORTABLE_FROM: i16 = 11;
const IMPLICIT_FROM: i16 = 12;

/// KIP-951
const LEADER_HINTS_FROM: i16 = 10;
