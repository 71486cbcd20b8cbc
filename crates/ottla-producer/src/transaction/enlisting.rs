//! What puts partitions and offsets into the open transaction.
//!
//! All of it holds [`Transactions::busy`](super::Transactions) shared: none is under way while a
//! transaction begins or ends.

use std::sync::Arc;

use ottla_net::{CoordinatorKind, GroupMetadata, To};
use ottla_wire::messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use ottla_wire::messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AddPartitionsToTxnTopic,
};
use ottla_wire::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
};
use tokio::sync::OwnedRwLockReadGuard;
use tokio::time::Instant;

use super::ask::{Asked, Failed, all_answered, ask, ask_one};
use super::error::TransactionError;
use super::handle::TransactionOffset;
use super::reply::Step;
use crate::client::Client;
use crate::error::SendError;
use crate::sender::{Protocol, Slot};

impl Client {
    /// Adds offsets of a group to the open transaction. `_shared` is what [`Transactions::busy`](super::Transactions)
    /// gave the caller, so that no commit that is called later comes before.
    pub(super) async fn send_offsets(
        self: Arc<Self>,
        _shared: OwnedRwLockReadGuard<()>,
        serial: u64,
        offsets: Vec<TransactionOffset>,
        group: GroupMetadata,
    ) -> Result<(), TransactionError> {
        if let Some(error) = self.doom() {
            return Err(error);
        }
        let (identity, protocol) = {
            let mut state = self.transactions.state.lock();
            if !state.is_open(serial) {
                return Err(TransactionError::Closed);
            }
            let identity = state.enlist()?;
            state.write_offsets(&group.group_id);
            (identity, state.protocol())
        };
        let started = Instant::now();
        let deadline = self.step_deadline();
        if protocol == Protocol::V1 {
            let request = |_| AddOffsetsToTxnRequest {
                transactional_id: self.transactions.id.clone().unwrap_or_default(),
                producer_id: identity.id,
                producer_epoch: identity.epoch,
                group_id: group.group_id.clone(),
                ..Default::default()
            };
            let step = Step::AddOffsets;
            let asked = ask_one(
                &self,
                step,
                i16::MAX,
                request,
                |response| response.error_code,
                deadline,
            )
            .await;
            self.note_step(step, asked, started)?;
        }
        let count = offsets.len();
        let topics = by_topic(offsets);
        let version_max = match protocol {
            Protocol::V1 => TXN_OFFSET_COMMIT_V1,
            Protocol::V2 => i16::MAX,
        };
        let request = |_| TxnOffsetCommitRequest {
            transactional_id: self.transactions.id.clone().unwrap_or_default(),
            group_id: group.group_id.clone(),
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            generation_id: group.generation_id,
            member_id: group.member_id.clone(),
            group_instance_id: group.group_instance_id.clone(),
            topics: topics.clone(),
            ..Default::default()
        };
        let codes = |response: &TxnOffsetCommitResponse| {
            let parts = response.topics.iter().flat_map(|topic| &topic.partitions);
            all_answered(parts.map(|part| part.error_code), count)
        };
        let step = Step::CommitOffsets;
        let to = To::Coordinator(CoordinatorKind::Group, &group.group_id);
        let asked = ask(&self, step, to, version_max, request, codes, deadline).await;
        self.note_step(step, asked, started)?;
        let mut state = self.transactions.state.lock();
        state.offsets_written(&group.group_id);
        Ok(())
    }

    /// Adds the partitions that wait to be, until the producer ends. Transactions V1 only.
    pub(super) async fn run_enlisting(self: Arc<Self>) {
        loop {
            self.transactions.outside.notified().await;
            let _shared = self.transactions.busy.read().await;
            let slots = self.core.lock().take_outside();
            if !slots.is_empty() {
                self.add_partitions(&slots).await;
            }
        }
    }

    async fn add_partitions(self: &Arc<Self>, slots: &[Slot]) {
        let step = Step::AddPartitions;
        let Ok(identity) = self.transactions.state.lock().enlist() else {
            return; // It is being aborted: nobody waits for these partitions.
        };
        let topics = self.topics_of(slots);
        let request = |_| AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.transactions.id.clone().unwrap_or_default(),
            v3_and_below_producer_id: identity.id,
            v3_and_below_producer_epoch: identity.epoch,
            v3_and_below_topics: topics.clone(),
            ..Default::default()
        };
        let codes = |response: &AddPartitionsToTxnResponse| {
            let topics = response.results_by_topic_v3_and_below.iter();
            let parts = topics.flat_map(|topic| &topic.results_by_partition);
            all_answered(parts.map(|part| part.partition_error_code), slots.len())
        };
        let started = Instant::now();
        // Longer than the records may wait; in rounds, so that an abort need not wait as long.
        let give_up_at = started + self.config.delivery_timeout;
        let outcome = loop {
            let deadline = give_up_at.min(Instant::now() + self.config.request_timeout);
            let to = self.coordinator();
            let max = ADD_PARTITIONS_MAX;
            let asked = ask(self, step, to, max, request, codes, deadline).await;
            let outcome = self.note_step(step, asked, started);
            let late = matches!(outcome, Err(TransactionError::NotReached { .. }));
            if !late || self.core.lock().is_barred() || Instant::now() >= give_up_at {
                break outcome;
            }
        };
        match outcome {
            Ok(()) => {
                let mut core = self.core.lock();
                core.admit(slots);
                let effects = core.take_effects();
                drop(core);
                self.carry_out(effects, None);
            }
            Err(error) => {
                let error = match error {
                    // The records cannot wait any longer.
                    TransactionError::NotReached { last, .. } => TransactionError::MustAbort {
                        step: step.name(),
                        code: None,
                        reason: last,
                    },
                    error => error,
                };
                tracing::debug!(transactional_id = %self.transactions.name, %error, "partitions not added");
                self.transactions.state.lock().doom(error.clone());
                let reason = error.to_string().into();
                self.bar(&SendError::TransactionEnded { reason });
            }
        }
    }

    /// Takes in what came of a step within a transaction.
    fn note_step<T>(
        self: &Arc<Self>,
        step: Step,
        asked: Asked<T>,
        started: Instant,
    ) -> Result<(), TransactionError> {
        if asked.lost {
            self.transactions.state.lock().taint();
        }
        let error = match asked.result {
            Ok(_) => return Ok(()),
            Err(Failed::Late(last)) => {
                return Err(TransactionError::NotReached {
                    step: step.name(),
                    waited: started.elapsed(),
                    last,
                });
            }
            Err(Failed::Broken(reason)) => TransactionError::MustAbort {
                step: step.name(),
                code: None,
                reason,
            },
            Err(failed) => self.failure(step, failed),
        };
        if error.is_fatal() {
            self.transactions.state.lock().die(error.clone());
            self.refuse_records(&error);
        } else {
            self.transactions.state.lock().doom(error.clone());
        }
        Err(error)
    }

    fn topics_of(&self, slots: &[Slot]) -> Vec<AddPartitionsToTxnTopic> {
        let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
        let partitions = self.partitions.read();
        let mut slots: Vec<_> = slots.iter().map(|slot| &partitions[*slot]).collect();
        slots.sort_unstable_by(|a, b| (&a.at.topic, a.slot).cmp(&(&b.at.topic, b.slot)));
        for partition in slots {
            match topics.last_mut() {
                Some(topic) if topic.name == partition.topic.wire_name => {
                    topic.partitions.push(partition.at.partition);
                }
                _ => topics.push(AddPartitionsToTxnTopic {
                    name: partition.topic.wire_name.clone(),
                    partitions: vec![partition.at.partition],
                    ..Default::default()
                }),
            }
        }
        topics
    }
}

fn by_topic(mut offsets: Vec<TransactionOffset>) -> Vec<TxnOffsetCommitRequestTopic> {
    offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    let mut topics: Vec<TxnOffsetCommitRequestTopic> = Vec::new();
    for offset in offsets {
        let part = TxnOffsetCommitRequestPartition {
            partition_index: offset.partition,
            committed_offset: offset.offset,
            committed_leader_epoch: offset.leader_epoch.unwrap_or(-1),
            committed_metadata: Some(offset.metadata),
            ..Default::default()
        };
        match topics.last_mut() {
            Some(topic) if topic.name == offset.topic => topic.partitions.push(part),
            _ => topics.push(TxnOffsetCommitRequestTopic {
                name: offset.topic,
                partitions: vec![part],
                ..Default::default()
            }),
        }
    }
    topics
}

/// The highest version that does not speak of transactions V2.
pub(super) const TXN_OFFSET_COMMIT_V1: i16 = 4;
/// Later versions are for brokers among themselves.
const ADD_PARTITIONS_MAX: i16 = 3;
