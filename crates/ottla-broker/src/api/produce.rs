//! Produce: appends one batch to each of some partitions.

use std::sync::Arc;

use bytes::Bytes;
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
use crate::log::incoming::Incoming;
use crate::log::validate::{Refusal, Rules, validate};
use crate::transaction::Next;
use crate::transaction::coordinator::Transactions;

impl Serve for ProduceRequest {
    async fn serve(self, context: &Context) -> Option<ProduceResponse> {
        self.serve_from(context, Bytes::new()).await
    }

    async fn serve_from(self, context: &Context, body: Bytes) -> Option<ProduceResponse> {
        let acks = self.acks;
        if !(-1..=1).contains(&acks) {
            return Some(self.refuse(ErrorCode::INVALID_REQUIRED_ACKS));
        }
        let mut response = ProduceResponse::default();
        let now_ms = context.shared.now_ms();
        let mut sound = Vec::new();
        for topic in &self.topic_data {
            let found = resolve(context, &topic.name, topic.topic_id);
            let mut answers = Vec::with_capacity(topic.partition_data.len());
            for data in &topic.partition_data {
                let answer = match &found {
                    Ok(topic) => {
                        let place = (response.responses.len(), answers.len());
                        let endpoints = &mut response.node_endpoints;
                        check(context, &self, topic, data, now_ms, endpoints).map(|batch| {
                            sound.push(Sound {
                                topic: Arc::clone(topic),
                                index: data.index,
                                batch,
                                now_ms,
                                place,
                            });
                        })
                    }
                    Err(error) => Err(Box::new(failed(data.index, *error))),
                };
                // What is sound gets its answer below.
                answers.push(answer.err().map_or_else(Default::default, |answer| *answer));
            }
            // A copy of the name, for the request's own keeps its whole body.
            let name = Str::from(&*topic.name);
            response
                .responses
                .push(topic_response(&name, topic.topic_id, answers));
        }
        let transactional_id = self.transactional_id.as_deref().map(str::to_owned);
        drop(self);
        if context.shared.data_dir.is_none() {
            Incoming::take_over(sound.iter_mut().map(|sound| &mut sound.batch), body);
        }
        for sound in sound {
            let (topic, partition) = sound.place;
            response.responses[topic].partition_responses[partition] = append(
                context,
                transactional_id.as_deref(),
                acks,
                sound,
                &mut response.node_endpoints,
            );
        }
        let failed = |answer: &PartitionProduceResponse| answer.error_code.is_err();
        let mut answers = response
            .responses
            .iter()
            .flat_map(|r| &r.partition_responses);
        (acks != 0 || answers.any(failed)).then_some(response)
    }

    fn wants_no_answer(&self) -> bool {
        self.acks == 0
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

/// A batch that may be appended.
struct Sound {
    topic: Arc<Topic>,
    index: i32,
    batch: Incoming,
    /// When it came, which may stand in it.
    now_ms: i64,
    /// Of its answer: among the topics, and among that one's partitions.
    place: (usize, usize),
}

/// Whether a batch may be appended; the answer if not.
fn check(
    context: &Context,
    request: &ProduceRequest,
    topic: &Topic,
    data: &PartitionProduceData,
    now_ms: i64,
    endpoints: &mut Vec<NodeEndpoint>,
) -> Result<Incoming, Box<PartitionProduceResponse>> {
    let Some(partition) = topic.partition(data.index) else {
        let error = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        return Err(Box::new(failed(data.index, error)));
    };
    // A node that does not lead the partition has nothing to say about the batch.
    let led = partition.state.lock().check_leader(context.node, -1);
    if led.is_err() {
        let answer = misdirected(context, partition, data.index, endpoints);
        return Err(Box::new(answer));
    }
    let rules = Rules {
        topic: &topic.name,
        partition: data.index,
        config: &topic.config,
        version: context.version,
        has_transactional_id: request.transactional_id.is_some(),
        now_ms,
    };
    // Decompressing and checking need no lock.
    validate(data.records.as_ref(), rules).map_err(|refusal| Box::new(refused(data.index, refusal)))
}

fn append(
    context: &Context,
    transactional_id: Option<&str>,
    acks: i16,
    sound: Sound,
    endpoints: &mut Vec<NodeEndpoint>,
) -> PartitionProduceResponse {
    let Sound {
        topic,
        index,
        mut batch,
        now_ms,
        ..
    } = sound;
    let Some(partition) = topic.partition(index) else {
        return failed(index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    // Held until the batch is written: no marker may come between.
    let mut transactions = None;
    if let Some(header) = batch.header().filter(BatchHeader::is_transactional) {
        let transactions = transactions.insert(context.shared.transactions.lock());
        if let Err(error) = join(
            context,
            transactional_id.unwrap_or_default(),
            &topic,
            index,
            &header,
            transactions,
        ) {
            return failed(index, error);
        }
    }
    let mut state = partition.state.lock();
    if state.check_leader(context.node, -1).is_err() {
        drop(state);
        return misdirected(context, partition, index, endpoints);
    }
    if acks == -1 && state.in_sync.len() < topic.config.min_insync_replicas {
        return failed(index, ErrorCode::NOT_ENOUGH_REPLICAS);
    }
    let epoch = state.leader_epoch;
    match state.log.append(&mut batch, epoch, now_ms) {
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
                index,
                base_offset: appended.base_offset,
                log_append_time_ms,
                log_start_offset: state.log.start_offset(),
                ..Default::default()
            }
        }
        Err(AppendError::Refused(error)) => failed(index, error),
        Err(AppendError::Storage(error)) => {
            tracing::error!(topic = topic.name, partition = index, %error, "cannot append");
            let message = format!("the broker cannot write to its data directory: {error}");
            let mut response = failed(index, ErrorCode::KAFKA_STORAGE_ERROR);
            response.error_message = Some(message.into());
            response
        }
    }
}

/// Makes sure that a transactional batch belongs to its producer's open transaction; producers that know KIP-890
/// count on the broker to add the partition.
fn join(
    context: &Context,
    id: &str,
    topic: &Topic,
    partition: i32,
    header: &BatchHeader,
    transactions: &mut Transactions,
) -> Result<(), ErrorCode> {
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
