//! The requests to the transaction coordinator, and to group coordinators on its behalf.
//!
//! Each function is one step, tried again until its deadline. Which step comes when is decided by
//! [`State`](super::state::State); what an answer means by [`Reply`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ottla_net::{CoordinatorKind, GroupMetadata, Lane, To};
use ottla_wire::messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use ottla_wire::messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AddPartitionsToTxnTopic,
};
use ottla_wire::messages::end_txn::EndTxnRequest;
use ottla_wire::messages::init_producer_id::InitProducerIdRequest;
use ottla_wire::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
};
use ottla_wire::{ApiKey, ErrorCode, Request};
use tokio::time::{Instant, sleep};

use super::error::TransactionError;
use super::handle::TransactionOffset;
use super::reply::{Reply, Step};
use super::state::{Before, End, Ended};
use crate::client::Client;
use crate::error::SendError;
use crate::identity::ProducerIdentity;
use crate::sender::{Protocol, Slot};

/// The highest versions that do not speak of transactions V2.
const END_TXN_V1: i16 = 4;
const TXN_OFFSET_COMMIT_V1: i16 = 4;
/// Later versions are for brokers among themselves.
const ADD_PARTITIONS_MAX: i16 = 3;

/// How soon to ask again while the previous transaction is being completed.
const SOON: Duration = Duration::from_millis(20);

/// How often to look for batches that come back from a worker while a transaction is aborted.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What came of a request.
struct Asked<T> {
    result: Result<T, Failed>,
    /// An attempt left, or may have, and has no answer: it may be carried out, even later.
    lost: bool,
}

enum Failed {
    /// A broker's last word.
    Refused(Reply, ErrorCode),
    /// Not in time; with what was last wrong.
    Late(Arc<str>),
    /// An error of the connection that trying again cannot mend.
    Broken(Arc<str>),
    Closed,
}

/// Makes a request until it is answered for good. `codes` finds the error codes in the answer.
async fn ask<R: Request>(
    client: &Client,
    step: Step,
    to: To<'_>,
    version_max: i16,
    request: impl Fn(i16) -> R,
    codes: impl Fn(&R::Response) -> Vec<ErrorCode>,
    deadline: Instant,
) -> Asked<R::Response> {
    let (made, answered) = (AtomicU32::new(0), AtomicU32::new(0));
    let counted = |version| {
        made.fetch_add(1, Ordering::Relaxed);
        request(version)
    };
    let check = |response: &R::Response| {
        answered.fetch_add(1, Ordering::Relaxed);
        let again = |code: &ErrorCode| Reply::of(step, *code) == Reply::Again;
        match codes(response).into_iter().find(again) {
            // The caller below knows only of retriable codes.
            Some(code) if !code.is_retriable() => ErrorCode::REQUEST_TIMED_OUT,
            Some(code) => code,
            None => ErrorCode::NONE,
        }
    };
    let result = loop {
        let lane = Lane::Coordination;
        let outcome = client
            .cluster
            .call_checked(to, lane, version_max, &counted, check, deadline)
            .await;
        match outcome {
            Ok(response) => {
                let replies = codes(&response)
                    .into_iter()
                    .map(|code| (Reply::of(step, code), code));
                let worst = replies
                    .filter(|(reply, _)| *reply != Reply::Done)
                    .max_by_key(|(reply, _)| severity(*reply));
                match worst {
                    None => break Ok(response),
                    Some((Reply::Again, code)) => break Err(Failed::Late(code.to_string().into())),
                    Some((Reply::AgainSoon, code)) => {
                        if Instant::now() + SOON >= deadline {
                            break Err(Failed::Late(code.to_string().into()));
                        }
                        sleep(SOON).await;
                    }
                    Some((reply, code)) => break Err(Failed::Refused(reply, code)),
                }
            }
            Err(ottla_net::Error::Closed) => break Err(Failed::Closed),
            Err(error) if error.is_retriable() || error.is_timeout() => {
                break Err(Failed::Late(error.to_string().into()));
            }
            Err(error) => {
                // An answer that cannot be read leaves open what it said.
                break Err(Failed::Broken(error.to_string().into()));
            }
        }
    };
    Asked {
        result,
        lost: made.load(Ordering::Relaxed) > answered.load(Ordering::Relaxed),
    }
}

/// The codes of all `count` parts of a request; those that the answer leaves out failed.
fn all_answered(codes: impl Iterator<Item = ErrorCode>, count: usize) -> Vec<ErrorCode> {
    let mut codes: Vec<_> = codes.collect();
    if codes.len() < count {
        codes.push(ErrorCode::UNKNOWN_SERVER_ERROR);
    }
    codes
}

/// Of several answers the one that decides.
fn severity(reply: Reply) -> u8 {
    match reply {
        Reply::Done => 0,
        Reply::Skipped => 1,
        Reply::AgainSoon => 2,
        Reply::Again => 3,
        Reply::Nothing | Reply::MustAbort => 4,
        Reply::Fatal => 5,
        Reply::Fenced => 6,
    }
}

impl Client {
    /// Makes ready for a transaction and begins it; gives its number.
    pub(super) async fn begin_transaction(self: Arc<Self>) -> Result<u64, TransactionError> {
        let _alone = self.transactions.busy.write().await;
        let deadline = self.step_deadline();
        self.make_ready(deadline).await?;
        let protocol = self.protocol();
        let mut state = self.transactions.state.lock();
        if let Some(error) = state.death() {
            return Err(error.clone());
        }
        self.supplies.outstanding.forget_failure();
        self.core.lock().open_gate(protocol);
        Ok(state.begin(protocol))
    }

    /// Gets a producer id, or ends what is in the way of the next transaction.
    pub(super) async fn initialise(self: Arc<Self>) -> Result<(), TransactionError> {
        let _alone = self.transactions.busy.write().await;
        self.make_ready(self.step_deadline()).await
    }

    async fn make_ready(self: &Arc<Self>, deadline: Instant) -> Result<(), TransactionError> {
        loop {
            let before = self.transactions.state.lock().before_begin()?;
            match before {
                None => return Ok(()),
                Some(before) => self.make_ready_for(before, deadline).await?,
            }
        }
    }

    async fn make_ready_for(
        self: &Arc<Self>,
        before: Before,
        deadline: Instant,
    ) -> Result<(), TransactionError> {
        match before {
            Before::Abort => self.abort_now(deadline).await,
            Before::Settle { commit } => {
                let identity = self.transactions.state.lock().identity();
                let identity = identity.ok_or(TransactionError::Closed)?;
                match self.end_txn(commit, identity, deadline).await {
                    Err(error) if error.requires_abort() => Ok(()),
                    outcome => outcome,
                }
            }
            Before::Init(current) => self.init_producer_id(current, deadline).await,
        }
    }

    async fn init_producer_id(
        &self,
        current: Option<ProducerIdentity>,
        deadline: Instant,
    ) -> Result<(), TransactionError> {
        let timeout = self.config.transaction_timeout.as_millis();
        let request = |_| InitProducerIdRequest {
            transactional_id: self.transactions.id.clone(),
            transaction_timeout_ms: i32::try_from(timeout).unwrap_or(i32::MAX),
            producer_id: current.map_or(-1, |current| current.id),
            producer_epoch: current.map_or(-1, |current| current.epoch),
            ..Default::default()
        };
        let step = Step::Init;
        let asked = ask(
            self,
            step,
            self.coordinator(),
            i16::MAX,
            request,
            |response| vec![response.error_code],
            deadline,
        )
        .await;
        let response = asked.result.map_err(|failed| {
            let error = self.failure(step, failed);
            if error.is_fatal() && current.is_some() {
                self.transactions.state.lock().die(error.clone());
            }
            error
        })?;
        let (id, epoch) = (response.producer_id, response.producer_epoch);
        if id < 0 || epoch < 0 {
            return Err(TransactionError::Refused {
                step: step.name(),
                code: None,
                reason: format!("the answer holds no producer id ({id}, epoch {epoch})").into(),
                possibly_committed: false,
            });
        }
        let identity = ProducerIdentity { id, epoch };
        tracing::debug!(transactional_id = %self.transactions.name, id, epoch, "producer id obtained");
        let mut state = self.transactions.state.lock();
        self.core.lock().assign_identity(identity);
        state.initialised(identity);
        Ok(())
    }

    /// Transactions V2 where the cluster has switched them on and its brokers speak the requests; a
    /// broker may speak those before (KIP-890).
    fn protocol(&self) -> Protocol {
        let connections = self.cluster.connections();
        // The features are the cluster's, and the youngest connection was told of them last.
        let newest = connections.iter().max_by_key(|connection| connection.id());
        let is_v2 = newest.is_some_and(|connection| {
            let versions = connection.versions();
            let speaks =
                |api: ApiKey, version| versions.api(api).is_some_and(|range| range.max >= version);
            versions.finalized_feature("transaction.version") >= 2
                && speaks(ApiKey::Produce, 12)
                && speaks(ApiKey::EndTxn, END_TXN_V1 + 1)
                && speaks(ApiKey::TxnOffsetCommit, TXN_OFFSET_COMMIT_V1 + 1)
        });
        if is_v2 { Protocol::V2 } else { Protocol::V1 }
    }

    /// Commits transaction `serial`, whose deliveries are all settled.
    pub(super) async fn commit_transaction(
        self: Arc<Self>,
        serial: u64,
    ) -> Result<(), TransactionError> {
        let _alone = self.transactions.busy.write().await;
        if !self.transactions.state.lock().is_current(serial) {
            return Err(TransactionError::Closed);
        }
        if let Some(error) = self.doom() {
            return Err(error);
        }
        let sent = self.core.lock().has_sent();
        let end = self.transactions.state.lock().commit(sent)?;
        match end {
            End::Silently => Ok(()),
            End::Told(identity) => self.end_txn(true, identity, self.step_deadline()).await,
        }
    }

    /// Why the open transaction cannot be committed, if so.
    pub(super) fn doom(self: &Arc<Self>) -> Option<TransactionError> {
        let failure = self.supplies.outstanding.failure();
        let mut state = self.transactions.state.lock();
        if let Some(error) = state.death().or(state.must_abort()) {
            return Some(error.clone());
        }
        let error = self.of_delivery(failure?);
        if error.is_fatal() {
            state.die(error.clone());
            drop(state);
            self.refuse_records(&error);
        }
        Some(error)
    }

    /// Aborts transaction `serial`, if it is still the open one.
    pub(super) async fn abort_transaction(
        self: Arc<Self>,
        serial: u64,
    ) -> Result<(), TransactionError> {
        let _alone = self.transactions.busy.write().await;
        let is_open = self.transactions.state.lock().is_open(serial);
        if is_open {
            self.abort_now(self.step_deadline()).await?;
        }
        let state = self.transactions.state.lock();
        match state.death() {
            Some(error) => Err(error.clone()),
            None if state.is_in_doubt() => Err(TransactionError::UnknownOutcome {
                waited: Duration::ZERO,
                last: "a commit left already, so the transaction cannot be aborted".into(),
            }),
            None => Ok(()),
        }
    }

    /// Ends what is open or in doubt.
    pub(super) async fn finish(self: Arc<Self>, deadline: Instant) -> Result<(), TransactionError> {
        let _alone = self.transactions.busy.write().await;
        loop {
            let before = self.transactions.state.lock().before_begin();
            match before {
                Ok(None | Some(Before::Init(_))) | Err(_) => return Ok(()),
                Ok(Some(before)) => self.make_ready_for(before, deadline).await?,
            }
        }
    }

    /// Takes back what has not left, waits for what has, and tells the coordinator.
    async fn abort_now(self: &Arc<Self>, deadline: Instant) -> Result<(), TransactionError> {
        // A failure that is fatal must not be taken for one that an abort mends.
        if let Some(error) = self.doom().filter(TransactionError::is_fatal) {
            return Err(error);
        }
        let reason = "its transaction was aborted before it left".into();
        self.bar(&SendError::TransactionEnded { reason });
        self.drain().await;
        let (sent, gaps) = {
            let core = self.core.lock();
            (core.has_sent(), core.has_gaps())
        };
        let end = {
            let mut state = self.transactions.state.lock();
            state.abort(sent || gaps, || TransactionError::Closed)?
        };
        match end {
            End::Silently => Ok(()),
            End::Told(identity) => self.end_txn(false, identity, deadline).await,
        }
    }

    /// Lets no more records of the open transaction leave.
    fn bar(self: &Arc<Self>, error: &SendError) {
        let mut core = self.core.lock();
        core.bar(error.clone(), Instant::now());
        let effects = core.take_effects();
        drop(core);
        self.carry_out(effects, None);
        self.purge(error);
    }

    /// Waits until nothing of the transaction, which takes no more, is on its way. Requests without an answer
    /// end with `request.timeout.ms`.
    async fn drain(self: &Arc<Self>) {
        let reason = "its transaction was aborted before it left".into();
        let error = SendError::TransactionEnded { reason };
        let settled = self.supplies.outstanding.settled();
        tokio::pin!(settled);
        let mut is_settled = false;
        loop {
            self.purge(&error);
            if is_settled && self.core.lock().is_drained() {
                return;
            }
            tokio::select! {
                () = &mut settled, if !is_settled => is_settled = true,
                () = self.transactions.drained.notified() => {}
                () = sleep(LOOK_AGAIN), if !is_settled => {}
            }
        }
    }

    async fn end_txn(
        self: &Arc<Self>,
        commit: bool,
        identity: ProducerIdentity,
        deadline: Instant,
    ) -> Result<(), TransactionError> {
        let started = Instant::now();
        let (step, protocol, in_doubt) = {
            let state = self.transactions.state.lock();
            let step = if commit { Step::Commit } else { Step::Abort };
            (step, state.protocol(), state.is_in_doubt())
        };
        let version_max = match protocol {
            Protocol::V1 => END_TXN_V1,
            Protocol::V2 => i16::MAX,
        };
        let request = |_| EndTxnRequest {
            transactional_id: self.transactions.id.clone().unwrap_or_default(),
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            committed: commit,
            ..Default::default()
        };
        let asked = ask(
            self,
            step,
            self.coordinator(),
            version_max,
            request,
            |response| vec![response.error_code],
            deadline,
        )
        .await;
        let lost = asked.lost || in_doubt;
        let outcome = match asked.result {
            Ok(response) => {
                let (id, epoch) = (response.producer_id, response.producer_epoch);
                Ended::Done((id >= 0 && epoch >= 0).then_some(ProducerIdentity { id, epoch }))
            }
            Err(Failed::Refused(Reply::Nothing, _)) => Ended::Nothing,
            Err(failed) => {
                let waited = started.elapsed();
                let unknown = |last| TransactionError::UnknownOutcome { waited, last };
                match failed {
                    Failed::Late(last) | Failed::Broken(last) if commit && lost => {
                        Ended::Unknown(unknown(last))
                    }
                    Failed::Closed if commit && lost => {
                        Ended::Unknown(unknown("the client was closed".into()))
                    }
                    Failed::Late(last) | Failed::Broken(last) => {
                        let step = step.name();
                        Ended::NotReached(TransactionError::NotReached { step, waited, last })
                    }
                    failed => match self.failure(step, failed) {
                        error if error.requires_abort() => Ended::MustAbort(error),
                        error => Ended::Dead(error.in_doubt(commit && lost)),
                    },
                }
            }
        };
        let fatal = match &outcome {
            Ended::Dead(error) => Some(error.clone()),
            _ => None,
        };
        let result = {
            let mut state = self.transactions.state.lock();
            if asked.lost {
                state.taint();
            }
            let mut core = self.core.lock();
            let gaps = core.has_gaps();
            let result = state.ended(commit, gaps, outcome);
            if let Some(identity) = state.identity()
                && result.is_ok()
            {
                core.assign_identity(identity);
            }
            result
        };
        if let Some(fatal) = fatal {
            self.refuse_records(&fatal);
        }
        result
    }

    /// Adds offsets of a group to the open transaction.
    pub(super) async fn send_offsets(
        self: Arc<Self>,
        serial: u64,
        offsets: Vec<TransactionOffset>,
        group: GroupMetadata,
    ) -> Result<(), TransactionError> {
        let _shared = self.transactions.busy.read().await;
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
            let asked = ask(
                &self,
                step,
                self.coordinator(),
                i16::MAX,
                request,
                |response| vec![response.error_code],
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

    /// No record can be sent any more.
    fn refuse_records(self: &Arc<Self>, error: &TransactionError) {
        tracing::error!(transactional_id = %self.transactions.name, %error, "the producer cannot go on");
        let reason = error.to_string().into();
        self.fail(&SendError::Fatal { reason });
    }

    fn failure(&self, step: Step, failed: Failed) -> TransactionError {
        match failed {
            Failed::Closed => TransactionError::Closed,
            Failed::Refused(Reply::Fenced, code) => TransactionError::Fenced {
                step: step.name(),
                transactional_id: self.transactions.name.clone(),
                code,
                possibly_committed: false,
            },
            Failed::Refused(Reply::MustAbort | Reply::Skipped, code) => {
                TransactionError::MustAbort {
                    step: step.name(),
                    code: Some(code),
                    reason: format!("{code}{}", hint(code)).into(),
                }
            }
            Failed::Refused(_, code) => TransactionError::Refused {
                step: step.name(),
                code: Some(code),
                reason: format!("{code}{}", hint(code)).into(),
                possibly_committed: false,
            },
            Failed::Late(last) => TransactionError::NotReached {
                step: step.name(),
                waited: self.config.max_block,
                last,
            },
            Failed::Broken(reason) => TransactionError::Refused {
                step: step.name(),
                code: None,
                reason,
                possibly_committed: false,
            },
        }
    }

    /// What a failed delivery means for its transaction.
    fn of_delivery(&self, failure: SendError) -> TransactionError {
        let step = "writing a record (Produce)";
        match &failure {
            SendError::Refused { code, .. } => match *code {
                code @ ErrorCode::PRODUCER_FENCED => TransactionError::Fenced {
                    step,
                    transactional_id: self.transactions.name.clone(),
                    code,
                    possibly_committed: false,
                },
                code @ (ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
                | ErrorCode::INVALID_PRODUCER_ID_MAPPING) => TransactionError::Refused {
                    step,
                    code: Some(code),
                    reason: format!("{failure}{}", hint(code)).into(),
                    possibly_committed: false,
                },
                // Also INVALID_PRODUCER_EPOCH: the partition's leader cannot tell a newer instance
                // from a transaction that timed out. The coordinator can, when it is told to abort.
                _ => TransactionError::Delivery(failure),
            },
            SendError::Closed => TransactionError::Closed,
            _ => TransactionError::Delivery(failure),
        }
    }

    fn coordinator(&self) -> To<'_> {
        let id = self.transactions.id.as_deref().unwrap_or_default();
        To::Coordinator(CoordinatorKind::Transaction, id)
    }

    fn step_deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.config.max_block)
            .unwrap_or_else(|| now + LIFETIME)
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

fn hint(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => {
            "; grant Write and Describe on the transactional id"
        }
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => "; grant IdempotentWrite on the cluster",
        // What coordinators with transactions V2 say of a transaction that they have aborted themselves.
        ErrorCode::INVALID_TXN_STATE => "; was it open for longer than transaction.timeout.ms?",
        ErrorCode::ILLEGAL_GENERATION | ErrorCode::UNKNOWN_MEMBER_ID => {
            "; the group has given the partitions to others: seek back to what is committed"
        }
        ErrorCode::INVALID_TRANSACTION_TIMEOUT => {
            "; lower transaction.timeout.ms, or raise that setting of the brokers"
        }
        _ => "",
    }
}

const LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
