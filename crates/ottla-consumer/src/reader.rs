//! The application's side: the batch it is reading, and how far it got.
//!
//! Behind a lock of its own, taken for a moment per call, so that other tasks can seek, commit and pause
//! meanwhile, and never held across an await. The core is asked once per batch.
//!
//! Coming for records means being done with the ones handed out before. That is what automatic commit may
//! write, and what a rebalance waits for before it gives partitions up: [`Reader::hold`].

use std::sync::Arc;

use ottla_wire::compress::Decompressor;

use crate::{
    Error, Record, RecordBatch, TopicPartition,
    core::{Core, Handout},
    current::{Current, Next},
    driver::{Shared, now},
    payload::{DecodeLimits, Payload},
    waiting::Waiters,
};

#[derive(Debug)]
pub(crate) struct Reader {
    current: Option<Current>,
    limits: DecodeLimits,
    decompressor: Decompressor,
    /// Counts calls for records.
    pub(crate) polls: u64,
    /// The calls that wait for records right now.
    pub(crate) waiters: Waiters,
    /// Nothing is handed out: partitions are about to be given up.
    pub(crate) hold: bool,
    /// The membership wants to know when the application comes.
    pub(crate) attention: bool,
    /// Why no call for records can succeed until there is another subscription.
    pub(crate) fatal: Option<Error>,
}

impl Reader {
    pub(crate) fn new(limits: DecodeLimits, waiters: Waiters) -> Self {
        Self {
            current: None,
            limits,
            decompressor: Decompressor::new(),
            polls: 0,
            waiters,
            hold: false,
            attention: false,
            fatal: None,
        }
    }

    /// The next record, if there is one.
    pub(crate) fn next_record(&mut self, shared: &Arc<Shared>) -> Result<Option<Record>, Error> {
        self.come(shared);
        loop {
            if let Some(current) = self.current.as_mut().filter(|_| !self.hold) {
                let fault = match current.next_record() {
                    Next::Record(record) => return Ok(Some(record)),
                    Next::Finished => None,
                    Next::Fault(source) => Some(source),
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
        self.come(shared);
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

    /// The application comes for records.
    #[inline]
    fn come(&mut self, shared: &Shared) {
        self.polls += 1;
        if self.attention {
            self.attention = false;
            shared.membership.notify_one();
        }
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
        self.sync(core, self.waiters.any());
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

    /// Lets go of the batch being read if its partition is read from elsewhere now.
    pub(crate) fn drop_outdated(&mut self, core: &Core<Payload>) {
        self.current
            .take_if(|current| !core.is_current(current.token));
    }

    /// Gives the batch being read back if it is of this partition, which is about to be paused.
    pub(crate) fn give_back(&mut self, name: &TopicPartition, core: &mut Core<Payload>) {
        if self.position(name).is_some() {
            self.give_back_current(core);
        }
    }

    /// Gives the batch being read back: from now on it is read otherwise.
    pub(crate) fn give_back_current(&mut self, core: &mut Core<Payload>) {
        let Some(current) = self.current.take() else {
            return;
        };
        let at = current.at(current.handed);
        let batch = current.batch();
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
        let opened = Current::open(delivery, entered, &shared.spans, |data| {
            data.decode(self.limits, &mut self.decompressor)
        });
        match opened {
            Ok(current) => {
                self.current = Some(current);
                Ok(true)
            }
            Err((token, error)) => {
                shared.core(|core| core.handle_unreadable(token, now()));
                Err(error)
            }
        }
    }
}
