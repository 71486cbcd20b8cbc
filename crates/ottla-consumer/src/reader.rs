//! The application's side: the batch it is reading, and how far it got.
//!
//! Behind a lock of its own, taken for a moment per call, so that other tasks can seek, commit and pause
//! meanwhile, and never held across an await. The core is asked once per batch.
//!
//! Coming for records means being done with the ones handed out before. That is what automatic commit may
//! write, and what a rebalance waits for before it gives partitions up: [`Reader::hold`].

use std::sync::Arc;

use ottla_wire::{
    compress::Decompressor,
    record::{BatchError, OwnedRecords, RecordFault},
};

use crate::{
    Error, Record, RecordBatch, TopicPartition,
    core::{Core, Delivery, Handout, Position, Token},
    driver::{Shared, now},
    payload::{DecodeLimits, Payload},
    record::Origin,
};

#[derive(Debug)]
pub(crate) struct Reader {
    current: Option<Current>,
    limits: DecodeLimits,
    decompressor: Decompressor,
    /// Counts calls for records.
    pub(crate) polls: u64,
    /// How many calls wait for records right now.
    pub(crate) waiting: usize,
    /// Nothing is handed out: partitions are about to be given up.
    pub(crate) hold: bool,
    /// The membership wants to know when the application comes.
    pub(crate) attention: bool,
    /// Why no call for records can succeed until there is another subscription.
    pub(crate) fatal: Option<Error>,
}

/// The batch being handed out record by record.
#[derive(Debug)]
struct Current {
    token: Token,
    origin: Arc<Origin>,
    /// What is left of it.
    records: OwnedRecords,
    /// Before the latest record that was handed out. `None` where a batch that the application got in the same
    /// call comes before: what it is done with ends in front of that one, and the core knows.
    done: Option<i64>,
    /// Behind the latest record that was handed out. Records before it are skipped.
    handed: i64,
    /// Behind the batch.
    end: Position,
}

impl Current {
    fn at(&self, offset: i64) -> Position {
        // The epoch is that of the record before the position, if that is of this batch.
        Position {
            offset,
            leader_epoch: self.origin.leader_epoch,
        }
    }
}

impl Reader {
    pub(crate) fn new(limits: DecodeLimits) -> Self {
        Self {
            current: None,
            limits,
            decompressor: Decompressor::new(),
            polls: 0,
            waiting: 0,
            hold: false,
            attention: false,
            fatal: None,
        }
    }

    /// The next record, if there is one.
    pub(crate) fn next_record(&mut self, shared: &Arc<Shared>) -> Result<Option<Record>, Error> {
        self.polls += 1;
        loop {
            if let Some(current) = self.current.as_mut().filter(|_| !self.hold) {
                let fault = match current.records.next() {
                    Some(Ok(record)) => {
                        let offset = record.offset();
                        if offset < current.handed {
                            continue;
                        }
                        if offset < current.end.offset {
                            current.done = Some(current.handed);
                            current.handed = offset + 1;
                            return Ok(Some(Record::new(&current.origin, record)));
                        }
                        Some(misplaced(&current.records, offset))
                    }
                    None => None,
                    Some(Err(source)) => Some(source),
                };
                if let Some(source) = fault {
                    let error = current.origin.unreadable(current.handed, source);
                    let (token, at) = (current.token, current.at(current.handed));
                    self.current = None;
                    shared.core(|core| {
                        core.advance(token, at);
                        core.handle_unreadable(token, now());
                    });
                    return Err(error);
                }
            }
            if !self.next_batch(shared, true)? {
                return Ok(None);
            }
        }
    }

    /// What there is, up to `max` records; empty if there is nothing.
    pub(crate) fn next_batches(
        &mut self,
        shared: &Arc<Shared>,
        max: usize,
    ) -> Result<Vec<RecordBatch>, Error> {
        self.polls += 1;
        let mut batches = Vec::new();
        let mut left = max;
        // The application is done with what came before this call, not with what this call hands out.
        let mut first = true;
        while left > 0 {
            let finished = self
                .current
                .as_ref()
                .is_none_or(|current| current.records.left() == 0);
            if finished || self.hold {
                match self.next_batch(shared, first) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) if batches.is_empty() => return Err(error),
                    Err(error) => {
                        shared.core(|core| core.report(error));
                        break;
                    }
                }
            } else if first {
                self.finish();
                shared.core(|core| {
                    self.sync(core, true);
                    core.mark_processed();
                });
            }
            first = false;
            let Some(current) = self.current.take() else {
                break;
            };
            let available = current.records.left();
            let (batch, rest) = current.split_off(left);
            shared.core(|core| match &rest {
                Some(rest) => core.advance(rest.token, rest.at(rest.handed)),
                None => core.advance(batch.1, batch.2),
            });
            left -= available.min(left);
            self.current = rest;
            batches.push(batch.0);
        }
        Ok(batches)
    }

    /// The application is done with all that it was handed.
    pub(crate) fn finish(&mut self) {
        if let Some(current) = &mut self.current {
            current.done = Some(current.handed);
        }
    }

    /// Tells the core how far the application got in the batch it is reading. `done`: whether it is
    /// done with the latest record, too.
    pub(crate) fn sync(&self, core: &mut Core<Payload>, done: bool) {
        let Some(current) = &self.current else { return };
        core.advance(current.token, current.at(current.handed));
        let processed = if done {
            Some(current.handed)
        } else {
            current.done
        };
        if let Some(processed) = processed {
            core.set_processed(current.token, current.at(processed));
        }
    }

    /// The same, and lets go of the batch.
    pub(crate) fn settle(&mut self, core: &mut Core<Payload>) {
        self.sync(core, self.waiting > 0);
        self.current = None;
    }

    /// Where the application is in a partition, if it is reading a batch of it.
    pub(crate) fn position(&self, name: &TopicPartition) -> Option<i64> {
        let current = self
            .current
            .as_ref()
            .filter(|current| current.origin.name == *name)?;
        Some(current.handed)
    }

    /// Lets go of the batch being read if it is of this partition, whose position is about to change.
    pub(crate) fn drop_partition(&mut self, name: &TopicPartition) {
        if self.position(name).is_some() {
            self.current = None;
        }
    }

    /// Gives the batch being read back if it is of this partition, which is about to be paused.
    pub(crate) fn give_back(&mut self, name: &TopicPartition, core: &mut Core<Payload>) {
        if self.position(name).is_none() {
            return;
        }
        let Some(current) = self.current.take() else {
            return;
        };
        let at = current.at(current.handed);
        let batch = current.records.batch().clone();
        let bytes = batch.body_len();
        core.put_back(
            current.token,
            Payload::Decoded(batch),
            at,
            current.end,
            bytes,
        );
    }

    /// Makes the next batch the current one. `entered`: the application came for it, and is done with
    /// all it was handed. Whether there is one.
    fn next_batch(&mut self, shared: &Arc<Shared>, entered: bool) -> Result<bool, Error> {
        if std::mem::take(&mut self.attention) {
            shared.membership.notify_one();
        }
        if self.hold {
            return Ok(false);
        }
        if let Some(error) = &self.fatal {
            return Err(error.clone());
        }
        let finished = self.current.take();
        let handout = shared.core(|core| {
            if let Some(current) = finished {
                core.advance(current.token, current.end);
            }
            if entered {
                core.mark_processed();
            }
            core.next_handout()
        });
        let delivery = match handout {
            Handout::Nothing => return Ok(false),
            Handout::Error(error) => return Err(error),
            Handout::Batch(delivery) => delivery,
        };
        let Delivery {
            token,
            name,
            data,
            from,
            next,
        } = delivery;
        match data.decode(self.limits, &mut self.decompressor) {
            Ok(batch) => {
                let header = batch.header();
                let origin = Arc::new(Origin {
                    name,
                    leader_epoch: next.leader_epoch,
                    timestamp_type: header.timestamp_type(),
                });
                let records = batch.into_records();
                self.current = Some(Current {
                    token,
                    origin,
                    records,
                    done: entered.then_some(from),
                    handed: from,
                    end: next,
                });
                Ok(true)
            }
            Err(source) => {
                shared.core(|core| core.handle_unreadable(token, now()));
                Err(Error::Unreadable {
                    partition: name,
                    offset: from,
                    source: Arc::new(source),
                })
            }
        }
    }
}

impl Current {
    /// The first `max` records as a batch, with its token and the position behind it; and the rest, if any.
    fn split_off(mut self, max: usize) -> ((RecordBatch, Token, Position), Option<Self>) {
        let records = self.records.clone();
        let from = self.handed;
        if records.left() > max {
            let mut taken = 0;
            while taken < max {
                match self.records.next_ref() {
                    Some(Ok(record)) if record.offset() < from => {}
                    Some(Ok(record)) => {
                        taken += 1;
                        self.handed = record.offset().saturating_add(1);
                    }
                    // Whoever reads the batch finds the error in its place.
                    Some(Err(_)) | None => break,
                }
            }
            if self.records.left() > 0 {
                let batch = RecordBatch::new(self.origin.clone(), records, from, max, self.handed);
                // The application is done with what came before this call, and not with what it hands out.
                self.done = self.done.map(|_| from);
                let at = self.at(self.handed);
                return ((batch, self.token, at), Some(self));
            }
        }
        let (token, end) = (self.token, self.end);
        let batch = RecordBatch::new(self.origin, records, from, max, end.offset);
        ((batch, token, end), None)
    }
}

/// A record that claims an offset behind the end of its batch, where the next batch has its own: it would take
/// the position there, and back again.
pub(crate) fn misplaced(records: &OwnedRecords, offset: i64) -> BatchError {
    let header = records.batch().header();
    let base_offset = header.base_offset();
    let read = header.record_count().unwrap_or(0) as usize;
    BatchError::Record {
        base_offset,
        index: read.saturating_sub(records.left() + 1) as u32,
        fault: RecordFault::Offset {
            delta: offset.saturating_sub(base_offset),
        },
    }
}

/// A call that waits for records. Whatever ends it ends the waiting.
pub(crate) struct Waiting<'a> {
    shared: &'a Arc<Shared>,
}

impl<'a> Waiting<'a> {
    pub(crate) fn begin(shared: &'a Arc<Shared>) -> Self {
        begin_waiting(shared);
        Self { shared }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        end_waiting(self.shared);
    }
}

pub(crate) fn begin_waiting(shared: &Shared) {
    let mut reader = shared.reader.lock();
    reader.waiting += 1;
    if std::mem::take(&mut reader.attention) {
        shared.membership.notify_one();
    }
}

pub(crate) fn end_waiting(shared: &Shared) {
    shared.reader.lock().waiting -= 1;
}
