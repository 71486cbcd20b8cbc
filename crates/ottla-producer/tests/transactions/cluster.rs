//! Brokers that keep logs and transactions by Kafka's rules, and may do anything to a request.
//!
//! Broker 1 coordinates transactions, broker 2 groups; both lead partitions of `clicks`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ottla_net::testing::{Reply, ScriptedCluster};
use ottla_net::{ClusterConfig, GroupMetadata};
use ottla_producer::{ProducerConfig, TransactionError, TransactionalProducer};
use ottla_wire::messages::add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use ottla_wire::messages::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopicResult,
};
use ottla_wire::messages::end_txn::{EndTxnRequest, EndTxnResponse};
use ottla_wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_wire::messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use ottla_wire::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use ottla_wire::record::Batches;
use ottla_wire::{ApiKey, ErrorCode, Request};
use parking_lot::Mutex;

use crate::model::PartitionLog;

pub(crate) const ID: &str = "transfers";
pub(crate) const GROUP: &str = "tellers";

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Do,
    /// Carried out; the connection ends before the answer.
    DoAndClose,
    /// Carried out, and never answered.
    DoAndSilence,
    /// Carried out, and answered late.
    DoSlowly(Duration),
    /// Not carried out; the connection ends.
    Close,
    /// Not carried out, and never answered.
    Silence,
    /// The connection ends; carried out so much later.
    CloseAndDoLater(Duration),
    /// Not carried out.
    Refuse(ErrorCode),
}

/// Decides by the API and how many requests of it came before.
pub(crate) type Fault = Box<dyn FnMut(ApiKey, usize) -> Act + Send>;

#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) brokers: Arc<ScriptedCluster>,
    pub(crate) world: Arc<Mutex<World>>,
}

#[derive(Default)]
pub(crate) struct World {
    is_v2: bool,
    logs: HashMap<i32, PartitionLog>,
    producer_id: i64,
    epoch: i16,
    /// The epoch was bumped for who had this one and asked: who asks again gets the same answer.
    bumped_from: Option<i16>,
    /// Partitions and groups of the open transaction.
    partitions: BTreeSet<i32>,
    groups: BTreeSet<String>,
    pending: Vec<String>,
    pending_offset: Option<i64>,
    /// How the last transaction ended.
    last_end: Option<bool>,
    /// Values in the order of their transactions' commits.
    pub(crate) committed: Vec<String>,
    pub(crate) aborted: Vec<String>,
    pub(crate) committed_offset: Option<i64>,
    /// Every request of transactions, with its version.
    pub(crate) seen: Vec<(ApiKey, i16)>,
    counts: HashMap<i16, usize>,
    fault: Option<Fault>,
}

impl Cluster {
    pub(crate) fn start(is_v2: bool) -> Self {
        let brokers = ScriptedCluster::start(2);
        brokers.add_topic("clicks", 4);
        brokers.set_coordinator(ID, Ok(1));
        brokers.set_coordinator(GROUP, Ok(2));
        let world = World {
            is_v2,
            producer_id: 4000,
            epoch: -1,
            ..World::default()
        };
        let cluster = Self {
            brokers: Arc::new(brokers),
            world: Arc::new(Mutex::new(world)),
        };
        for broker in cluster.brokers.brokers() {
            broker.finalize_feature("transaction.version", if is_v2 { 2 } else { 1 });
            cluster.serve(broker, World::init, |code| InitProducerIdResponse {
                error_code: code,
                producer_id: -1,
                producer_epoch: -1,
                ..Default::default()
            });
            cluster.serve(broker, World::end, |code| EndTxnResponse {
                error_code: code,
                ..Default::default()
            });
            cluster.serve(broker, World::add_offsets, |code| AddOffsetsToTxnResponse {
                error_code: code,
                ..Default::default()
            });
            cluster.serve_parts(broker, World::add_partitions);
            cluster.serve_parts(broker, World::commit_offsets);
            cluster.serve_parts(broker, World::produce);
        }
        cluster
    }

    pub(crate) fn fault(&self, fault: impl FnMut(ApiKey, usize) -> Act + Send + 'static) {
        let mut world = self.world.lock();
        world.fault = Some(Box::new(fault));
        world.counts.clear();
    }

    /// Does `act` to the `nth` request of `api` from now on, counted from 0.
    pub(crate) fn fault_once(&self, api: ApiKey, nth: usize, act: Act) {
        self.fault(move |of, count| match of == api && count == nth {
            true => act,
            false => Act::Do,
        });
    }

    pub(crate) fn config(&self) -> ProducerConfig {
        ProducerConfig {
            transactional_id: Some(ID.into()),
            linger: Duration::ZERO,
            request_timeout: Duration::from_secs(2),
            delivery_timeout: Duration::from_secs(20),
            max_block: Duration::from_secs(10),
            ..Default::default()
        }
    }

    pub(crate) async fn producer(&self) -> Result<TransactionalProducer, TransactionError> {
        let config = self.config();
        let net = ClusterConfig {
            request_timeout: config.request_timeout,
            ..self.brokers.config()
        };
        TransactionalProducer::init(self.brokers.connect_with(net), config).await
    }

    pub(crate) fn committed(&self) -> Vec<String> {
        let mut committed = self.world.lock().committed.clone();
        committed.sort();
        committed
    }

    /// How many requests of `api` came so far.
    pub(crate) fn count(&self, api: ApiKey) -> usize {
        let world = self.world.lock();
        world.seen.iter().filter(|(of, _)| *of == api).count()
    }

    fn serve<R: Request + Clone + Send + 'static>(
        &self,
        broker: &ottla_net::testing::ScriptedBroker,
        carry_out: fn(&mut World, &R, i16) -> R::Response,
        refuse: fn(ErrorCode) -> R::Response,
    ) where
        R::Response: Send + 'static,
    {
        self.serve_any(broker, move |world, request, version, code| match code {
            None => carry_out(world, request, version),
            Some(code) => refuse(code),
        });
    }

    fn serve_parts<R: Request + Clone + Send + 'static>(
        &self,
        broker: &ottla_net::testing::ScriptedBroker,
        carry_out: fn(&mut World, &R, i16, Option<ErrorCode>) -> R::Response,
    ) where
        R::Response: Send + 'static,
    {
        self.serve_any(broker, carry_out);
    }

    fn serve_any<R: Request + Clone + Send + 'static>(
        &self,
        broker: &ottla_net::testing::ScriptedBroker,
        carry_out: impl Fn(&mut World, &R, i16, Option<ErrorCode>) -> R::Response
        + Clone
        + Send
        + 'static,
    ) where
        R::Response: Send + 'static,
    {
        let shared = self.world.clone();
        broker.on::<R>(move |request, call| {
            let mut world = shared.lock();
            world.seen.push((R::KEY, call.version));
            let count = world.counts.entry(R::KEY as i16).or_default();
            let nth = *count;
            *count += 1;
            let mut fault = world.fault.take();
            let act = fault.as_mut().map_or(Act::Do, |fault| fault(R::KEY, nth));
            world.fault = fault;
            let version = call.version;
            let mut carry = || carry_out(&mut world, &request, version, None);
            match act {
                Act::Do => carry().into(),
                Act::DoAndClose => {
                    carry();
                    Reply::Close
                }
                Act::DoAndSilence => {
                    carry();
                    Reply::Silence
                }
                Act::DoSlowly(time) => Reply::after(time, carry()),
                Act::Close => Reply::Close,
                Act::Silence => Reply::Silence,
                Act::CloseAndDoLater(time) => {
                    let (shared, request, carry_out) =
                        (shared.clone(), request.clone(), carry_out.clone());
                    tokio::spawn(async move {
                        tokio::time::sleep(time).await;
                        carry_out(&mut shared.lock(), &request, version, None);
                    });
                    Reply::Close
                }
                Act::Refuse(code) => carry_out(&mut world, &request, version, Some(code)).into(),
            }
        });
    }
}

impl World {
    fn is_open(&self) -> bool {
        !self.partitions.is_empty() || !self.groups.is_empty()
    }

    fn finish(&mut self, commit: bool) {
        let pending = std::mem::take(&mut self.pending);
        match commit {
            true => self.committed.extend(pending),
            false => self.aborted.extend(pending),
        }
        if let Some(offset) = self.pending_offset.take()
            && commit
        {
            self.committed_offset = Some(offset);
        }
        self.partitions.clear();
        self.groups.clear();
        self.last_end = Some(commit);
    }

    fn is_current(&self, id: i64, epoch: i16) -> bool {
        (id, epoch) == (self.producer_id, self.epoch)
    }

    fn init(&mut self, request: &InitProducerIdRequest, _: i16) -> InitProducerIdResponse {
        assert_eq!(request.transactional_id.as_deref(), Some(ID));
        let expected = (request.producer_id, request.producer_epoch);
        let answer = |error_code, id, epoch| InitProducerIdResponse {
            error_code,
            producer_id: id,
            producer_epoch: epoch,
            ..Default::default()
        };
        if expected.0 == self.producer_id && Some(expected.1) == self.bumped_from {
            return answer(ErrorCode::NONE, self.producer_id, self.epoch);
        }
        let is_known = self.is_current(expected.0, expected.1);
        // During a transaction the coordinator first fences whoever has it open, also who asks.
        if expected.0 >= 0 && (!is_known || self.is_open()) {
            if is_known {
                self.finish(false);
                self.epoch += 1;
            }
            return answer(ErrorCode::PRODUCER_FENCED, -1, -1);
        }
        if self.is_open() {
            self.finish(false);
        }
        self.bumped_from = is_known.then_some(self.epoch);
        self.epoch += 1;
        self.last_end = None;
        answer(ErrorCode::NONE, self.producer_id, self.epoch)
    }

    fn add_partitions(
        &mut self,
        request: &AddPartitionsToTxnRequest,
        _: i16,
        refusal: Option<ErrorCode>,
    ) -> AddPartitionsToTxnResponse {
        assert!(!self.is_v2, "V2 adds partitions by producing");
        let (id, epoch) = (
            request.v3_and_below_producer_id,
            request.v3_and_below_producer_epoch,
        );
        let code = refusal.unwrap_or(match self.is_current(id, epoch) {
            true => ErrorCode::NONE,
            false => ErrorCode::PRODUCER_FENCED,
        });
        let topics = request.v3_and_below_topics.iter().map(|topic| {
            if code.is_ok() {
                self.partitions.extend(&topic.partitions);
            }
            AddPartitionsToTxnTopicResult {
                name: topic.name.clone(),
                results_by_partition: topic
                    .partitions
                    .iter()
                    .map(|partition| AddPartitionsToTxnPartitionResult {
                        partition_index: *partition,
                        partition_error_code: code,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            }
        });
        AddPartitionsToTxnResponse {
            results_by_topic_v3_and_below: topics.collect(),
            ..Default::default()
        }
    }

    fn add_offsets(&mut self, request: &AddOffsetsToTxnRequest, _: i16) -> AddOffsetsToTxnResponse {
        assert!(!self.is_v2, "V2 adds groups by committing offsets");
        let known = self.is_current(request.producer_id, request.producer_epoch);
        if known {
            self.groups.insert(request.group_id.to_string());
        }
        AddOffsetsToTxnResponse {
            error_code: match known {
                true => ErrorCode::NONE,
                false => ErrorCode::PRODUCER_FENCED,
            },
            ..Default::default()
        }
    }

    fn commit_offsets(
        &mut self,
        request: &TxnOffsetCommitRequest,
        version: i16,
        refusal: Option<ErrorCode>,
    ) -> TxnOffsetCommitResponse {
        assert_eq!(version >= 5, self.is_v2);
        assert_eq!(
            (request.generation_id, &*request.member_id),
            (7, "teller-1")
        );
        let known = self.is_current(request.producer_id, request.producer_epoch);
        let group = request.group_id.to_string();
        let code = refusal.unwrap_or(match known {
            false => ErrorCode::PRODUCER_FENCED,
            true if self.is_v2 => {
                self.groups.insert(group.clone());
                ErrorCode::NONE
            }
            true if self.groups.contains(&group) => ErrorCode::NONE,
            true => ErrorCode::INVALID_TXN_STATE,
        });
        let topics = request.topics.iter().map(|topic| {
            let parts = topic.partitions.iter().map(|part| {
                if code.is_ok() {
                    self.pending_offset = Some(part.committed_offset);
                }
                TxnOffsetCommitResponsePartition {
                    partition_index: part.partition_index,
                    error_code: code,
                    ..Default::default()
                }
            });
            TxnOffsetCommitResponseTopic {
                name: topic.name.clone(),
                partitions: parts.collect(),
                ..Default::default()
            }
        });
        TxnOffsetCommitResponse {
            topics: topics.collect(),
            ..Default::default()
        }
    }

    fn end(&mut self, request: &EndTxnRequest, version: i16) -> EndTxnResponse {
        assert_eq!(version >= 5, self.is_v2);
        let is_retry = self.is_v2
            && !self.is_open()
            && (request.producer_id, request.producer_epoch + 1) == (self.producer_id, self.epoch)
            && self.last_end == Some(request.committed);
        let error_code = if is_retry {
            ErrorCode::NONE
        } else if !self.is_current(request.producer_id, request.producer_epoch) {
            ErrorCode::PRODUCER_FENCED
        } else if self.is_open() || (self.is_v2 && !request.committed) {
            self.finish(request.committed);
            self.epoch += i16::from(self.is_v2);
            ErrorCode::NONE
        } else if !self.is_v2 && self.last_end == Some(request.committed) {
            ErrorCode::NONE
        } else {
            ErrorCode::INVALID_TXN_STATE
        };
        let shows = self.is_v2 && error_code.is_ok();
        EndTxnResponse {
            error_code,
            producer_id: if shows { self.producer_id } else { -1 },
            producer_epoch: if shows { self.epoch } else { -1 },
            ..Default::default()
        }
    }

    fn produce(
        &mut self,
        request: &ProduceRequest,
        version: i16,
        refusal: Option<ErrorCode>,
    ) -> ProduceResponse {
        assert_eq!(request.transactional_id.as_deref(), Some(ID));
        assert_eq!(version >= 12, self.is_v2);
        let responses = request.topic_data.iter().map(|topic| {
            let parts = topic.partition_data.iter().map(|data| {
                let records = data.records.clone().unwrap();
                let batch = Batches::new(records.clone()).next().unwrap().unwrap();
                let header = batch.header();
                assert!(header.is_transactional());
                let identity = (header.producer_id(), header.producer_epoch());
                let (code, base_offset) = if let Some(code) = refusal {
                    (code, -1)
                } else if !self.is_current(identity.0, identity.1) {
                    (ErrorCode::INVALID_PRODUCER_EPOCH, -1)
                } else if !self.is_v2 && !self.partitions.contains(&data.index) {
                    (ErrorCode::INVALID_TXN_STATE, -1)
                } else {
                    self.partitions.insert(data.index);
                    let log = self.logs.entry(data.index).or_default();
                    let before = log.values.len();
                    let answer = log.append(&records);
                    let news = &log.values[before..];
                    let text = |value: &ottla_wire::Bytes| String::from_utf8(value.to_vec());
                    self.pending
                        .extend(news.iter().map(|value| text(value).unwrap()));
                    answer
                };
                PartitionProduceResponse {
                    index: data.index,
                    error_code: code,
                    base_offset,
                    ..Default::default()
                }
            });
            TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses: parts.collect(),
                ..Default::default()
            }
        });
        ProduceResponse {
            responses: responses.collect(),
            ..Default::default()
        }
    }
}

pub(crate) fn group() -> GroupMetadata {
    GroupMetadata {
        group_id: GROUP.into(),
        generation_id: 7,
        member_id: "teller-1".into(),
        group_instance_id: None,
    }
}
