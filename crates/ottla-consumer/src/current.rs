//! A batch that is being handed out, and how far.

use std::sync::Arc;

use ottla_wire::record::{BatchError, DecodedBatch, OwnedRecords, RecordFault};

use crate::{
    Error, Record, RecordBatch,
    core::{Delivery, Position, Token},
    payload::Payload,
    record::Origin,
    spans::{self, Spans},
};

/// The batch being handed out record by record.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) token: Token,
    pub(crate) origin: Arc<Origin>,
    /// What is left of it.
    pub(crate) records: OwnedRecords,
    /// Before the latest record that was handed out. `None` where a batch that the application got in the same
    /// call comes before: what it is done with ends in front of that one, and the core knows.
    pub(crate) done: Option<i64>,
    /// Behind the latest record that was handed out. Records before it are skipped.
    pub(crate) handed: i64,
    /// Behind the batch.
    pub(crate) end: Position,
}

/// What comes next in a batch.
pub(crate) enum Next {
    Record(Record),
    /// It cannot be read from `handed` on.
    Fault(BatchError),
    Finished,
}

impl Current {
    /// Opens a batch that was taken for the application, in a span of its own. `entered`: it came for it, and is done with
    /// all before.
    pub(crate) fn open(
        delivery: Delivery<Payload>,
        entered: bool,
        spans: &Spans,
        decode: impl FnOnce(Payload) -> Result<DecodedBatch, BatchError>,
    ) -> Result<Self, (Token, Error)> {
        let Delivery {
            token,
            name,
            since,
            data,
            from,
            next,
        } = delivery;
        let span = spans.poll(&name);
        match span.in_scope(|| decode(data)) {
            Ok(batch) => {
                let base_offset = batch.header().base_offset();
                // Of a batch that begins before the position it is not known how many come.
                let records = (from <= base_offset).then(|| batch.record_count() as u64);
                spans::taken(&span, from.max(base_offset), records);
                let origin = Arc::new(Origin {
                    name,
                    since,
                    leader_epoch: next.leader_epoch,
                    timestamp_type: batch.header().timestamp_type(),
                });
                Ok(Self {
                    token,
                    origin,
                    records: batch.into_records(),
                    done: entered.then_some(from),
                    handed: from,
                    end: next,
                })
            }
            Err(source) => {
                let error = Error::Unreadable {
                    partition: name,
                    offset: from,
                    source: Arc::new(source),
                };
                spans::fail(&span, spans::UNREADABLE, &error);
                Err((token, error))
            }
        }
    }

    /// Hands out the next record.
    #[inline]
    pub(crate) fn next_record(&mut self) -> Next {
        loop {
            return match self.records.next() {
                Some(Ok(record)) => {
                    let offset = record.offset();
                    if offset < self.handed {
                        continue;
                    }
                    if offset >= self.end.offset {
                        return Next::Fault(misplaced(&self.records, offset));
                    }
                    self.done = Some(self.handed);
                    self.handed = offset + 1;
                    Next::Record(Record::new(&self.origin, record))
                }
                None => Next::Finished,
                Some(Err(source)) => Next::Fault(source),
            };
        }
    }

    pub(crate) fn at(&self, offset: i64) -> Position {
        // The epoch is that of the record before the position, if that is of this batch.
        Position {
            offset,
            leader_epoch: self.origin.leader_epoch,
        }
    }

    /// The whole batch, to be handed out from `at` on another time.
    pub(crate) fn batch(&self) -> DecodedBatch {
        self.records.batch().clone()
    }

    /// All that is left, as a batch.
    pub(crate) fn rest(&self) -> RecordBatch {
        let (origin, records) = (self.origin.clone(), self.records.clone());
        RecordBatch::new(origin, records, self.handed, usize::MAX, self.end.offset)
    }

    /// The first `max` records as a batch, with its token and the position behind it; and the rest, if any.
    pub(crate) fn split_off(
        mut self,
        max: usize,
    ) -> ((RecordBatch, Token, Position), Option<Self>) {
        let records = self.records.clone();
        let from = self.handed;
        if records.left() > max {
            let mut taken = 0;
            while taken < max {
                match self.records.next_ref() {
                    Some(Ok(record)) if record.offset() < from => {}
                    // It claims a place behind the end of its batch: the position must not go there.
                    Some(Ok(record)) if record.offset() >= self.end.offset => break,
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
