//! What transactional ids are used for: their state is kept, their markers reach the partitions, their offsets the
//! groups, and those that take too long are aborted.
//!
//! Its lock is taken before those of the cluster, partitions and groups, never after; it is held while a
//! transactional batch is appended, so that no batch comes between the decision to end a transaction and its marker.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_wire::ErrorCode;
use ottla_wire::record::control_batch;

use super::{Next, PendingOffset, State, Transaction};
use crate::cluster::Partition;
use crate::context::Shared;
use crate::group::offsets::Committed;
use crate::log::AppendError;
use crate::log::incoming::Incoming;

/// Every transactional id of the cluster, whichever node coordinates it.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    pub(crate) by_id: BTreeMap<String, Transaction>,
}

impl Transactions {
    pub(crate) fn get_mut(&mut self, id: &str) -> Result<&mut Transaction, ErrorCode> {
        self.by_id
            .get_mut(id)
            .ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
    }

    /// Topics and partitions for which an open transaction may yet change what the group has committed.
    pub(crate) fn unstable(&self, group: &str) -> BTreeSet<(String, i32)> {
        let pending = self
            .by_id
            .values()
            .flat_map(|transaction| &transaction.offsets);
        pending
            .filter(|pending| pending.group == group)
            .map(|pending| (pending.topic.clone(), pending.partition))
            .collect()
    }
}

impl Shared {
    /// A producer id that nobody has.
    pub(crate) fn fresh_producer_id(&self) -> Result<i64, ErrorCode> {
        let id = self.cluster.write().allocate_producer_id();
        if let Some(data_dir) = &self.data_dir {
            data_dir.save_producer_id(id).map_err(|error| {
                tracing::error!(%error, "cannot note a producer id");
                ErrorCode::COORDINATOR_NOT_AVAILABLE
            })?;
        }
        Ok(id)
    }

    /// Keeps the state of a transactional id.
    pub(crate) fn save_transaction(&self, id: &str, saved: &Transaction) -> Result<(), ErrorCode> {
        let Some(data_dir) = &self.data_dir else {
            return Ok(());
        };
        data_dir.save_transaction(id, saved).map_err(|error| {
            tracing::error!(transactional_id = id, %error, "cannot write a transaction's state");
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        })
    }

    /// Changes a transaction and keeps the change; after an error everything is as it was.
    pub(crate) fn change_transaction(
        &self,
        transactions: &mut Transactions,
        id: &str,
        change: impl FnOnce(&mut Transaction) -> Result<Next, ErrorCode>,
    ) -> Result<Next, ErrorCode> {
        let transaction = transactions.get_mut(id)?;
        let mut changed = transaction.clone();
        let next = change(&mut changed)?;
        self.save_transaction(id, &changed)?;
        *transaction = changed;
        if next == Next::Complete {
            self.complete_transaction(id, transaction)?;
        }
        Ok(next)
    }

    /// Writes the markers and commits the offsets of a transaction whose end is prepared. What was done before an
    /// error is not done again.
    fn complete_transaction(
        &self,
        id: &str,
        transaction: &mut Transaction,
    ) -> Result<(), ErrorCode> {
        let Some(((producer_id, epoch), commit)) = transaction.marker() else {
            return Ok(());
        };
        let unfinished = |error: &dyn std::fmt::Display| {
            tracing::error!(transactional_id = id, %error, "cannot complete a transaction yet");
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        };
        for (topic, partition) in &transaction.partitions {
            let found = self.cluster.read().topic(topic).cloned();
            let found = found.and_then(|topic| topic.partition(*partition).cloned());
            // A topic that was deleted needs no marker.
            if let Some(partition) = found {
                self.write_marker(&partition, (producer_id, epoch), commit)
                    .map_err(|error| unfinished(&error))?;
            }
        }
        if commit {
            self.commit_offsets(transaction)
                .map_err(|error| unfinished(&error))?;
        }
        let mut completed = transaction.clone();
        completed.complete();
        self.save_transaction(id, &completed)?;
        *transaction = completed;
        Ok(())
    }

    fn write_marker(
        &self,
        partition: &Partition,
        (producer_id, epoch): (i64, i16),
        commit: bool,
    ) -> io::Result<()> {
        let now_ms = self.now_ms();
        let mut state = partition.state.lock();
        if state.log.transactions().start_of(producer_id).is_none() {
            // Nothing came of it here, or the marker is there already.
            return Ok(());
        }
        let marker = control_batch(commit, producer_id, epoch, 0, now_ms).freeze();
        let mut marker =
            Incoming::new(&marker).ok_or_else(|| io::Error::other("the marker is no batch"))?;
        let leader_epoch = state.leader_epoch;
        match state.log.append(&mut marker, leader_epoch, now_ms) {
            Ok(_) => {
                state.wake();
                Ok(())
            }
            Err(AppendError::Storage(error)) => Err(error),
            Err(AppendError::Refused(error)) => Err(io::Error::other(error.meaning())),
        }
    }

    fn commit_offsets(&self, transaction: &Transaction) -> io::Result<()> {
        let (now, commit_time_ms) = (self.now(), self.now_ms());
        // A topic that was deleted meanwhile took its committed offsets with it; none is while they are written.
        let cluster = self.cluster.read();
        let there = |pending: &&PendingOffset| cluster.topic(&pending.topic).is_some();
        let mut groups = self.groups.lock();
        let mut changed = BTreeSet::new();
        for pending in transaction.offsets.iter().filter(there) {
            let committed = Committed {
                offset: pending.offset,
                leader_epoch: pending.leader_epoch,
                metadata: pending.metadata.clone(),
                commit_time_ms,
            };
            let group = groups.get_or_create(&pending.group, now);
            group
                .offsets
                .commit(&pending.topic, pending.partition, committed);
            changed.insert(&pending.group);
        }
        drop(groups);
        drop(cluster);
        changed.into_iter().try_for_each(|id| self.keep_group(id))
    }

    /// Every so often aborts what takes too long, completes what was interrupted, and forgets what nobody uses.
    pub(crate) async fn run_transaction_clock(self: Arc<Self>) {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            self.check_transactions();
        }
    }

    fn check_transactions(&self) {
        let now_ms = self.now_ms();
        let mut transactions = self.transactions.lock();
        let ids: Vec<String> = transactions.by_id.keys().cloned().collect();
        for id in ids {
            // What goes wrong was logged, and is tried again next time.
            let _ = self.change_transaction(&mut transactions, &id, |transaction| {
                if transaction.is_overdue(now_ms) {
                    tracing::info!(transactional_id = id, "its transaction timed out");
                    transaction.fence(now_ms);
                }
                match transaction.marker() {
                    Some(_) => Ok(Next::Complete),
                    // Nothing to keep.
                    None => Err(ErrorCode::NONE),
                }
            });
        }
        let in_use = |transaction: &Transaction| {
            transaction.state == State::Ongoing
                || transaction.marker().is_some()
                || now_ms.saturating_sub(transaction.updated_ms) < ID_EXPIRATION_MS
        };
        transactions.by_id.retain(|id, transaction| {
            if in_use(transaction) {
                return true;
            }
            let removed = self.data_dir.as_ref().map(|dir| dir.delete_transaction(id));
            !matches!(removed, Some(Err(_)))
        });
    }

    /// After a start: completes what was prepared, and aborts what logs hold of transactions that nobody knows.
    pub(crate) fn recover_transactions(&self, saved: Vec<(String, Transaction)>) {
        let mut transactions = self.transactions.lock();
        transactions.by_id.extend(saved);
        let mut known = BTreeSet::new();
        for (id, transaction) in &mut transactions.by_id {
            known.insert(transaction.identity.0);
            if let Some(((producer_id, _), _)) = transaction.marker() {
                known.insert(producer_id);
                // If it fails, the clock tries again.
                let _ = self.complete_transaction(id, transaction);
            }
        }
        let topics: Vec<_> = self.cluster.read().topics().cloned().collect();
        for partition in topics.iter().flat_map(|topic| &topic.partitions) {
            let open: Vec<(i64, i16)> = {
                let state = partition.state.lock();
                let producers = state.log.producers().iter();
                producers
                    .filter(|(id, _)| !known.contains(id))
                    .filter(|(id, _)| state.log.transactions().start_of(*id).is_some())
                    .map(|(id, producer)| (id, producer.epoch))
                    .collect()
            };
            for identity in open {
                if let Err(error) = self.write_marker(partition, identity, false) {
                    tracing::error!(%error, "cannot abort a transaction that nobody knows");
                }
            }
        }
    }
}

/// `transaction.abort.timed.out.transaction.cleanup.interval.ms`
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// `transactional.id.expiration.ms`
const ID_EXPIRATION_MS: i64 = 7 * 86_400_000;
