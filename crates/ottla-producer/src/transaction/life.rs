//! How a transaction begins and ends: InitProducerId, EndTxn, and what must be still before.
//!
//! All of it holds [`Transactions::busy`](super::Transactions) alone, and runs to its end once begun.

use std::sync::Arc;
use std::time::Duration;

use ottla_wire::ApiKey;
use ottla_wire::messages::end_txn::EndTxnRequest;
use ottla_wire::messages::init_producer_id::InitProducerIdRequest;
use tokio::time::{Instant, sleep, timeout_at};

use super::ask::{Failed, ask_one};
use super::enlisting::TXN_OFFSET_COMMIT_V1;
use super::error::TransactionError;
use super::reply::{Reply, Step};
use super::state::{Before, End, Ended};
use crate::client::Client;
use crate::error::SendError;
use crate::identity::ProducerIdentity;
use crate::sender::Protocol;

impl Client {
    /// Gets a producer id, or ends what is in the way of the next transaction.
    pub(super) async fn initialise(self: Arc<Self>) -> Result<(), TransactionError> {
        let _alone = self.transactions.busy.write().await;
        self.make_ready(self.step_deadline()).await
    }

    /// Makes ready for a transaction and begins it; gives its number.
    pub(super) async fn begin_transaction(self: Arc<Self>) -> Result<u64, TransactionError> {
        let deadline = self.step_deadline();
        let alone = timeout_at(deadline, self.transactions.busy.write()).await;
        let _alone = alone.map_err(|_| self.still_ending())?;
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
            Before::Abort => self.abort_now(Some(deadline)).await,
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
        let asked = ask_one(
            self,
            step,
            i16::MAX,
            request,
            |response| response.error_code,
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
        self.let_go(serial);
        let _alone = self.transactions.busy.write().await;
        let is_open = self.transactions.state.lock().is_open(serial);
        if is_open {
            self.abort_now(None).await?;
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

    /// The last transaction takes too long to end for another to begin.
    fn still_ending(&self) -> TransactionError {
        TransactionError::NotReached {
            step: "begin",
            waited: self.config.max_block,
            last: "the last transaction is still being ended".into(),
        }
    }

    /// Takes back what has not left, waits for what has, and tells the coordinator. Without a deadline it waits
    /// for as long as requests may take, and then for the coordinator as long as any step may.
    async fn abort_now(
        self: &Arc<Self>,
        deadline: Option<Instant>,
    ) -> Result<(), TransactionError> {
        // A failure that is fatal must not be taken for one that an abort mends.
        if let Some(error) = self.doom().filter(TransactionError::is_fatal) {
            return Err(error);
        }
        let reason = "its transaction was aborted before it left".into();
        self.bar(&SendError::TransactionEnded { reason });
        match deadline {
            None => self.drain().await,
            // What is still on its way is waited for again by whoever tries next.
            Some(deadline) => timeout_at(deadline, self.drain())
                .await
                .map_err(|_| self.still_ending())?,
        }
        let deadline = deadline.unwrap_or_else(|| self.step_deadline());
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

    /// Gives up what transaction `serial` still waits for, if it is the open one: whoever adds its partitions need
    /// not go on, and only then can it be ended.
    fn let_go(self: &Arc<Self>, serial: u64) {
        let effects = {
            // Held meanwhile, so that another transaction does not begin and lose its records.
            let state = self.transactions.state.lock();
            if !state.is_open(serial) {
                return;
            }
            let reason = "its transaction was aborted before it left".into();
            let mut core = self.core.lock();
            core.bar(SendError::TransactionEnded { reason }, Instant::now());
            core.take_effects()
        };
        self.carry_out(effects, None);
    }

    /// Lets no more records of the open transaction leave.
    pub(super) fn bar(self: &Arc<Self>, error: &SendError) {
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
        let asked = ask_one(
            self,
            step,
            version_max,
            request,
            |response| response.error_code,
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

    /// No record can be sent any more.
    pub(super) fn refuse_records(self: &Arc<Self>, error: &TransactionError) {
        tracing::error!(transactional_id = %self.transactions.name, %error, "the producer cannot go on");
        let reason = error.to_string().into();
        self.fail(&SendError::Fatal { reason });
    }
}

/// The highest version that does not speak of transactions V2.
const END_TXN_V1: i16 = 4;

/// How often to look for batches that come back from a worker while a transaction is aborted.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
