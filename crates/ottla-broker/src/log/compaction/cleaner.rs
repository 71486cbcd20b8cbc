//! What compaction keeps of a batch: the newest record of each key, and what must not be lost with the rest.
//!
//! Owns the map of newest offsets and the rules of Apache Kafka's log cleaner. Batches come in, a verdict comes out;
//! where batches are read from and written to is [`super`]'s business.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use ottla_wire::compress::{Compressor, Decompressor};
use ottla_wire::record::{Batch, BatchError, ControlType, RecordRef, RetainError, retain};

use crate::log::DECOMPRESSED_MAX;
use crate::log::transactions::AbortedTransaction;

/// For each key that was seen, the offset of its newest record.
#[derive(Debug)]
pub(crate) struct NewestOffsets {
    by_key: HashMap<Bytes, i64>,
    bytes: usize,
    bytes_max: usize,
    /// The offset after the last record that was noted.
    end: i64,
    transactions: Transactions,
}

/// Decides about batches, in the order of the log.
#[derive(Debug)]
pub(crate) struct Cleaner<'a> {
    newest: &'a NewestOffsets,
    rules: Rules,
    /// Active producers, by id: the batch that holds each one's newest sequence, or its newest marker, stays.
    producers: &'a HashMap<i64, LastOfProducer>,
    transactions: Transactions,
    decompressor: Decompressor,
    compressor: Compressor,
}

/// The settings and the time of one cleaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) now_ms: i64,
    /// `delete.retention.ms`
    pub(crate) delete_retention_ms: i64,
    /// The offset after the last batch that is cleaned: that batch stays, if only as an empty one, so that the
    /// offsets that were given out remain known.
    pub(crate) end: i64,
}

/// The newest trace of an active producer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastOfProducer {
    pub(crate) epoch: i16,
    /// The last offset of its newest batch of data.
    pub(crate) last_data_offset: Option<i64>,
}

/// What becomes of a batch.
#[derive(Debug)]
pub(crate) enum Verdict {
    Unchanged,
    Rewritten(Bytes),
    Removed,
}

impl NewestOffsets {
    /// Takes keys until about `bytes_max` bytes are in use. Records of `aborted` transactions count for nothing.
    pub(crate) fn new(bytes_max: usize, aborted: &[AbortedTransaction]) -> Self {
        Self {
            by_key: HashMap::new(),
            bytes: 0,
            bytes_max,
            end: 0,
            transactions: Transactions::new(aborted),
        }
    }

    /// The offset after the last record that was noted: records from there on are none of this map's business.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// Notes the records of a batch from `from` on, which follows those noted before. `Ok(false)`: there is no
    /// more room, and the batch is not part of the map; the first batch always fits.
    pub(crate) fn note(
        &mut self,
        batch: &Batch,
        from: i64,
        decompressor: &mut Decompressor,
    ) -> Result<bool, BatchError> {
        if self.bytes >= self.bytes_max {
            return Ok(false);
        }
        if self.transactions.is_useless(batch)? || batch.is_control() {
            self.end = batch.next_offset();
            return Ok(true);
        }
        let decoded = batch.decode(decompressor, DECOMPRESSED_MAX)?;
        for record in decoded.records() {
            let record = record?;
            let (Some(key), true) = (record.key(), record.offset() >= from) else {
                continue;
            };
            match self.by_key.get_mut(key) {
                Some(newest) => *newest = record.offset(),
                None => {
                    self.bytes += key.len() + ENTRY_LEN;
                    // A copy: a slice would keep its whole batch alive.
                    self.by_key
                        .insert(Bytes::copy_from_slice(key), record.offset());
                }
            }
        }
        self.end = batch.next_offset();
        Ok(true)
    }

    fn is_newest(&self, key: &[u8], offset: i64) -> bool {
        self.by_key.get(key).is_none_or(|newest| offset >= *newest)
    }
}

impl<'a> Cleaner<'a> {
    pub(crate) fn new(
        newest: &'a NewestOffsets,
        rules: Rules,
        producers: &'a HashMap<i64, LastOfProducer>,
        aborted: &[AbortedTransaction],
    ) -> Self {
        Self {
            newest,
            rules,
            producers,
            transactions: Transactions::new(aborted),
            decompressor: Decompressor::new(),
            compressor: Compressor::new(),
        }
    }

    /// What becomes of `batch`, the one that follows those asked about before.
    pub(crate) fn judge(&mut self, batch: &Batch) -> Result<Verdict, RetainError> {
        let header = batch.header();
        let useless = self.transactions.is_useless(batch)?;
        if batch.base_offset() >= self.newest.end() {
            return Ok(Verdict::Unchanged);
        }
        if header.record_count() == Some(0) {
            return self.without_records(batch);
        }
        let horizon = header.delete_horizon_ms();
        let now_ms = self.rules.now_ms;
        // A marker outlives its transaction's records for as long as a tombstone does: a consumer that was
        // reading them has to see it.
        let all_go = useless && (!batch.is_control() || horizon.is_some_and(|at| at <= now_ms));
        if batch.is_control() && !all_go {
            return if useless && horizon.is_none() {
                self.rewrite(batch, |_| true, true)
            } else {
                Ok(Verdict::Unchanged)
            };
        }
        if all_go {
            return self.without_records(batch);
        }
        let newest = self.newest;
        let tombstones_stay = horizon.is_none_or(|at| now_ms < at);
        let keep = |record: &RecordRef<'_>| match record.key() {
            _ if record.offset() >= newest.end() => true,
            // Written before the topic was compacted; there is nothing by which it could ever go.
            None => false,
            Some(key) => {
                newest.is_newest(key, record.offset())
                    && (record.value().is_some() || tombstones_stay)
            }
        };
        let decoded = batch.decode(&mut self.decompressor, DECOMPRESSED_MAX)?;
        let (mut kept, mut tombstones) = (0, false);
        for record in decoded.records() {
            let record = record?;
            if keep(&record) {
                kept += 1;
                tombstones |= record.value().is_none();
            }
        }
        if kept == 0 {
            return self.without_records(batch);
        }
        let set_horizon = tombstones && horizon.is_none();
        if kept == decoded.record_count() && !set_horizon {
            return Ok(Verdict::Unchanged);
        }
        self.rewrite(batch, keep, set_horizon)
    }

    fn without_records(&mut self, batch: &Batch) -> Result<Verdict, RetainError> {
        let is_last_of_round = batch.next_offset() == self.rules.end;
        if !is_last_of_round && !self.is_last_of_producer(batch) {
            return Ok(Verdict::Removed);
        }
        if batch.header().record_count() == Some(0) {
            return Ok(Verdict::Unchanged);
        }
        self.rewrite(batch, |_| false, false)
    }

    fn is_last_of_producer(&self, batch: &Batch) -> bool {
        let Some(last) = self.producers.get(&batch.producer_id()) else {
            return false;
        };
        match last.last_data_offset {
            Some(offset) => batch.last_offset() == offset,
            None => batch.is_control() && batch.header().producer_epoch() == last.epoch,
        }
    }

    fn rewrite(
        &mut self,
        batch: &Batch,
        keep: impl Fn(&RecordRef<'_>) -> bool,
        set_horizon: bool,
    ) -> Result<Verdict, RetainError> {
        let horizon = self
            .rules
            .now_ms
            .saturating_add(self.rules.delete_retention_ms);
        let decoded = batch.decode(&mut self.decompressor, DECOMPRESSED_MAX)?;
        retain(
            batch,
            &decoded,
            keep,
            set_horizon.then_some(horizon),
            &mut self.compressor,
        )
        .map(Verdict::Rewritten)
    }
}

/// Which transactions the batches walked so far belong to.
#[derive(Debug)]
struct Transactions {
    /// Those that begin further on, in the order in which they begin.
    ahead: Vec<AbortedTransaction>,
    /// Producers whose records are those of an aborted transaction now.
    aborted: BTreeMap<i64, Aborted>,
    /// Producers of whose present, committed transaction records were met.
    committed: BTreeSet<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Aborted {
    /// Where its marker stood, which may be gone already: what comes later is not part of it.
    last_offset: i64,
    /// Whether any of its records was met.
    met: bool,
}

impl Transactions {
    fn new(aborted: &[AbortedTransaction]) -> Self {
        let mut ahead = aborted.to_vec();
        // The next one is taken from the end.
        ahead.sort_unstable_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self {
            ahead,
            aborted: BTreeMap::new(),
            committed: BTreeSet::new(),
        }
    }

    /// Whether nobody needs the batch for its transaction: records of an aborted one, or a marker whose records
    /// are all gone.
    fn is_useless(&mut self, batch: &Batch) -> Result<bool, BatchError> {
        while let Some(next) = self.ahead.pop_if(|t| t.first_offset <= batch.last_offset()) {
            let last_offset = next.last_offset;
            let aborted = Aborted {
                last_offset,
                met: false,
            };
            self.aborted.insert(next.producer_id, aborted);
        }
        // Its one record may have been compacted away.
        if batch.header().record_count() == Some(0) || !batch.is_transactional() {
            return Ok(false);
        }
        let producer = batch.producer_id();
        if self
            .aborted
            .get(&producer)
            .is_some_and(|a| a.last_offset < batch.base_offset())
        {
            self.aborted.remove(&producer);
        }
        if batch.is_control() {
            return Ok(match batch.control_type()? {
                Some(ControlType::Abort) => !self.aborted.remove(&producer).is_some_and(|a| a.met),
                Some(ControlType::Commit) => !self.committed.remove(&producer),
                _ => false,
            });
        }
        if let Some(aborted) = self.aborted.get_mut(&producer) {
            aborted.met = true;
            return Ok(true);
        }
        self.committed.insert(producer);
        Ok(false)
    }
}

/// About what a key costs in the map beside its own bytes.
const ENTRY_LEN: usize = 64;
