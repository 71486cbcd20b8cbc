//! One partition's records that the sender has not taken yet: the open batch and the closed ones.
//!
//! A plain structure; the partition's lock is around it. Batches leave in the order in which they
//! were opened, however the sealing of several overlaps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use ottla_wire::record::{AppendError, BatchWriter, NewRecord};
use tokio::time::Instant;

use crate::batch::{Batch, OpenBatch};
use crate::budget::{Budget, Reserved};
use crate::buffers::Buffers;
use crate::delivery::{Outcome, Resolver, Ticket};
use crate::error::TopicPartition;
use crate::outstanding::Outstanding;

/// What every partition of a producer draws on.
#[derive(Debug)]
pub(crate) struct Supplies {
    pub(crate) budget: Arc<Budget>,
    pub(crate) buffers: Buffers,
    pub(crate) outstanding: Arc<Outstanding>,
    pub(crate) linger: Duration,
    pub(crate) batch_records_max: i32,
}

#[derive(Debug, Default)]
pub(crate) struct PartitionQueue {
    /// The batch that takes records. Never empty of records.
    open: Option<OpenBatch>,
    /// Oldest first.
    closed: VecDeque<(u64, Closed)>,
    closed_so_far: u64,
    /// The open batch is wanted before its linger ends.
    hurried: bool,
    /// About how large batches became lately: what to reserve for the next one.
    expected: usize,
    /// Records taken, but for those in the open batch.
    taken: u64,
    /// Batches of this partition whose outcome is open, wherever they are.
    load: Arc<AtomicU32>,
}

#[derive(Debug)]
enum Closed {
    Plain(OpenBatch),
    /// A worker has it.
    Sealing {
        opened: Instant,
        records: i32,
    },
    Sealed(Batch),
}

/// What came of appending a record.
#[derive(Debug)]
pub(crate) enum Appended {
    Record {
        ticket: Arc<Ticket>,
        index: u32,
        event: Event,
    },
    /// So many bytes must be reserved first; the record was not taken.
    NoMemory { bytes: usize, event: Event },
}

/// What appending changed for the sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// A batch was opened; with the time at which its linger ends.
    pub(crate) opened: Option<Instant>,
    /// A batch was closed because it is full.
    pub(crate) filled: bool,
}

/// What the sender found.
#[derive(Debug)]
pub(crate) enum Pulled {
    Nothing,
    /// The open batch lingers.
    Lingering,
    /// The oldest batch is with a worker.
    Sealing,
    /// The oldest batch, to be sealed by whoever pulled it.
    Plain(OpenBatch),
    /// The oldest batch, too large to be sealed in passing: for a worker, to be
    /// [returned](PartitionQueue::put_sealed) under this number.
    PlainLarge(u64, OpenBatch),
    Sealed(Batch),
}

/// A batch that will not be sent. To be settled outside the partition's lock.
#[derive(Debug)]
pub(crate) enum GivenUp {
    Open(OpenBatch),
    Sealed(Batch),
}

impl GivenUp {
    pub(crate) fn opened(&self) -> Instant {
        match self {
            Self::Open(batch) => batch.opened,
            Self::Sealed(batch) => batch.opened,
        }
    }

    pub(crate) fn settle(self, outcome: Outcome, buffers: &Buffers) {
        match self {
            Self::Open(batch) => batch.settle(outcome, buffers),
            Self::Sealed(batch) => batch.settle(outcome, buffers),
        }
    }
}

impl PartitionQueue {
    /// Counts its batches whose outcome is open in `load`.
    pub(crate) fn new(load: Arc<AtomicU32>) -> Self {
        Self {
            load,
            ..Self::default()
        }
    }

    /// Encodes `record`, which takes at most `size` bytes, into the open batch, or a new one where that one would pass
    /// `limit` plain bytes. `extra` is memory that the caller waited for; what is used of it is taken.
    pub(crate) fn append(
        &mut self,
        at: &TopicPartition,
        record: &NewRecord<'_>,
        size: usize,
        limit: usize,
        supplies: &Supplies,
        extra: &mut Option<Reserved>,
    ) -> Result<Appended, AppendError> {
        let mut event = Event::default();
        if let Some(open) = &self.open
            && (open.writer.len() + size > limit
                || open.writer.record_count() >= supplies.batch_records_max)
        {
            self.close();
            event.filled = true;
        }
        let open = match &mut self.open {
            Some(open) => {
                if !make_room(open, size, limit, extra) {
                    return Ok(Appended::NoMemory { bytes: size, event });
                }
                open
            }
            None => {
                let needed = HEADER_LEN + size;
                let wanted = self.expected.min(limit).max(needed);
                let Some(memory) = take_memory(needed, wanted, supplies, extra) else {
                    return Ok(Appended::NoMemory {
                        bytes: needed,
                        event,
                    });
                };
                let opened = Instant::now();
                event.opened = Some(opened + supplies.linger);
                let buffer = supplies
                    .buffers
                    .take(memory.bytes(), memory.bytes() + SLACK);
                self.open.insert(OpenBatch {
                    writer: BatchWriter::new(buffer),
                    resolver: Resolver::new(at.clone(), &self.load, &supplies.outstanding),
                    memory,
                    opened,
                })
            }
        };
        let index = match open.writer.append(record) {
            Ok(index) => index as u32,
            Err(error) => {
                if open.writer.is_empty() {
                    self.open = None;
                }
                return Err(error);
            }
        };
        let ticket = open.resolver.ticket().clone();
        // Nothing of this size fits any more: do not wait for the next record to find that out.
        if open.writer.len() + size > limit {
            self.close();
            event.filled = true;
        }
        Ok(Appended::Record {
            ticket,
            index,
            event,
        })
    }

    /// The open batch shall not linger any longer.
    pub(crate) fn hurry(&mut self) {
        self.hurried = self.open.is_some();
    }

    /// Takes the oldest batch, closing the open one if it is the oldest and due at `now`. Batches of more
    /// than `in_passing` bytes are for a worker to seal.
    pub(crate) fn pull(&mut self, now: Instant, linger: Duration, in_passing: usize) -> Pulled {
        if self.closed.is_empty() {
            let Some(open) = &self.open else {
                return Pulled::Nothing;
            };
            let due = open.opened + linger;
            if due > now && !self.hurried {
                return Pulled::Lingering;
            }
            self.close();
        }
        let Some((number, oldest)) = self.closed.pop_front() else {
            return Pulled::Nothing;
        };
        match oldest {
            Closed::Sealed(batch) => Pulled::Sealed(batch),
            Closed::Plain(batch) if batch.writer.len() <= in_passing => Pulled::Plain(batch),
            Closed::Plain(batch) => {
                self.closed.push_front((number, sealing(&batch)));
                Pulled::PlainLarge(number, batch)
            }
            held @ Closed::Sealing { .. } => {
                self.closed.push_front((number, held));
                Pulled::Sealing
            }
        }
    }

    /// Whether [`pull`](Self::pull) would have something now.
    pub(crate) fn is_due(&self, now: Instant, linger: Duration) -> bool {
        match self.closed.front() {
            Some((_, Closed::Sealing { .. })) => false,
            Some(_) => true,
            None => self
                .open
                .as_ref()
                .is_some_and(|open| self.hurried || open.opened + linger <= now),
        }
    }

    /// The oldest batch that is closed and plain, for a worker to seal and to
    /// [return](Self::put_sealed) under this number.
    pub(crate) fn take_plain(&mut self) -> Option<(u64, OpenBatch)> {
        let (number, entry) = self
            .closed
            .iter_mut()
            .find(|(_, entry)| matches!(entry, Closed::Plain(_)))?;
        let Closed::Plain(batch) = entry else {
            return None;
        };
        let held = Closed::Sealing {
            opened: batch.opened,
            records: batch.writer.record_count(),
        };
        match std::mem::replace(entry, held) {
            Closed::Plain(batch) => Some((*number, batch)),
            _ => None,
        }
    }

    /// Returns what a worker sealed: one batch, or none if it was settled instead. True when the oldest batch is sealed now.
    ///
    /// # Errors
    /// Hands back a batch that is not waited for any more ([`end`](Self::end)).
    pub(crate) fn put_sealed(
        &mut self,
        number: u64,
        sealed: Option<Batch>,
    ) -> Result<bool, Box<Batch>> {
        let place = self.closed.iter().position(|(held, _)| *held == number);
        match (place, sealed) {
            (Some(place), Some(batch)) => self.closed[place].1 = Closed::Sealed(batch),
            (Some(place), None) => drop(self.closed.remove(place)),
            (None, Some(batch)) => return Err(Box::new(batch)),
            (None, None) => {}
        }
        Ok(matches!(
            self.closed.front(),
            Some((_, Closed::Sealed(_) | Closed::Plain(_)))
        ))
    }

    /// When the oldest batch was opened.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        match self.closed.front() {
            Some((_, Closed::Plain(batch))) => Some(batch.opened),
            Some((_, Closed::Sealing { opened, .. })) => Some(*opened),
            Some((_, Closed::Sealed(batch))) => Some(batch.opened),
            None => self.open.as_ref().map(|open| open.opened),
        }
    }

    pub(crate) fn records(&self) -> u64 {
        let closed = self.closed.iter().map(|(_, entry)| match entry {
            Closed::Plain(batch) => batch.writer.record_count(),
            Closed::Sealing { records, .. } => *records,
            Closed::Sealed(batch) => batch.records,
        });
        let open = self.open.iter().map(|open| open.writer.record_count());
        closed.chain(open).map(|records| records as u64).sum()
    }

    /// Takes out batches opened at `latest` or before, but for those a worker has.
    pub(crate) fn give_up(&mut self, latest: Instant) -> Vec<GivenUp> {
        let mut given_up = Vec::new();
        while self.oldest().is_some_and(|opened| opened <= latest) {
            match self.closed.pop_front() {
                Some((_, Closed::Plain(batch))) => given_up.push(GivenUp::Open(batch)),
                Some((_, Closed::Sealed(batch))) => given_up.push(GivenUp::Sealed(batch)),
                Some(held) => {
                    self.closed.push_front(held);
                    break;
                }
                None => given_up.extend(self.take_open().map(GivenUp::Open)),
            }
        }
        given_up
    }

    /// Takes out everything. What a worker has it settles itself.
    pub(crate) fn end(&mut self) -> Vec<GivenUp> {
        let closed = self.closed.drain(..);
        let mut left: Vec<_> = closed
            .filter_map(|(_, entry)| match entry {
                Closed::Plain(batch) => Some(GivenUp::Open(batch)),
                Closed::Sealed(batch) => Some(GivenUp::Sealed(batch)),
                Closed::Sealing { .. } => None,
            })
            .collect();
        left.extend(self.take_open().map(GivenUp::Open));
        left
    }

    /// Records ever taken.
    pub(crate) fn taken(&self) -> u64 {
        let open = self.open.as_ref().map(|open| open.writer.record_count());
        self.taken + open.unwrap_or(0) as u64
    }

    /// The open batch, which takes no more records.
    fn take_open(&mut self) -> Option<OpenBatch> {
        let mut batch = self.open.take()?;
        batch.resolver.records = batch.writer.record_count() as u32;
        self.taken += u64::from(batch.resolver.records);
        Some(batch)
    }

    fn close(&mut self) {
        if let Some(batch) = self.take_open() {
            self.expected = batch.writer.len().max(self.expected / 2);
            self.closed
                .push_back((self.closed_so_far, Closed::Plain(batch)));
            self.closed_so_far += 1;
            self.hurried = false;
        }
    }
}

fn sealing(batch: &OpenBatch) -> Closed {
    Closed::Sealing {
        opened: batch.opened,
        records: batch.writer.record_count(),
    }
}

/// Makes the batch's reservation cover `size` more bytes: with what the caller waited for, or by
/// doubling, or by just enough.
fn make_room(
    open: &mut OpenBatch,
    size: usize,
    limit: usize,
    extra: &mut Option<Reserved>,
) -> bool {
    let needed = open.writer.len() + size;
    if open.memory.bytes() >= needed {
        return true;
    }
    if let Some(extra) = extra.take() {
        open.memory.absorb(extra);
    }
    let held = open.memory.bytes();
    if held >= needed {
        return true;
    }
    let doubled = held.saturating_mul(2).min(limit).max(needed);
    open.memory.try_grow(doubled - held) || open.memory.try_grow(needed - held)
}

fn take_memory(
    needed: usize,
    wanted: usize,
    supplies: &Supplies,
    extra: &mut Option<Reserved>,
) -> Option<Reserved> {
    if let Some(extra) = extra.take_if(|extra| extra.bytes() >= needed) {
        return Some(extra);
    }
    supplies
        .budget
        .try_reserve(wanted.max(OPENING_MIN))
        .or_else(|| supplies.budget.try_reserve(needed))
}

/// The header in front of a batch's records.
pub(crate) const HEADER_LEN: usize = 61;

/// What a new batch reserves at least, so that a few records do not each ask for more.
const OPENING_MIN: usize = 512;

/// By how much a buffer may exceed its reservation: the writer's own margin.
const SLACK: usize = 64;

#[cfg(test)]
mod tests {
    use ottla_wire::record::SealOptions;

    use super::*;

    fn supplies(memory: usize) -> Supplies {
        Supplies {
            budget: Budget::new(memory),
            buffers: Buffers::new(memory),
            outstanding: Arc::default(),
            linger: Duration::from_millis(5),
            batch_records_max: i32::MAX,
        }
    }

    fn at() -> TopicPartition {
        TopicPartition {
            topic: "clicks".into(),
            partition: 0,
        }
    }

    fn append(
        queue: &mut PartitionQueue,
        supplies: &Supplies,
        value: &[u8],
        limit: usize,
    ) -> Appended {
        let record = NewRecord {
            timestamp: 1,
            key: None,
            value: Some(value),
            headers: &[],
        };
        let size = BatchWriter::max_encoded_len(&record) as usize;
        queue
            .append(&at(), &record, size, limit, supplies, &mut None)
            .unwrap()
    }

    fn event(appended: &Appended) -> Event {
        match appended {
            Appended::Record { event, .. } | Appended::NoMemory { event, .. } => *event,
        }
    }

    fn seal(batch: OpenBatch) -> Batch {
        let sealed = batch
            .writer
            .seal(
                &SealOptions::default(),
                &mut ottla_wire::compress::Compressor::new(),
            )
            .unwrap();
        Batch::new(sealed, batch.resolver, batch.memory, batch.opened)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_record_opens_a_batch_and_its_linger_ends_it() {
        let (supplies, mut queue) = (supplies(1 << 20), PartitionQueue::default());
        let due = Instant::now() + supplies.linger;
        assert_eq!(
            event(&append(&mut queue, &supplies, b"a", 1000)).opened,
            Some(due)
        );
        assert_eq!(
            event(&append(&mut queue, &supplies, b"b", 1000)),
            Event::default()
        );
        let early = queue.pull(Instant::now(), supplies.linger, 1000);
        assert!(matches!(early, Pulled::Lingering));
        let Pulled::Plain(batch) = queue.pull(due, supplies.linger, 1000) else {
            panic!("due")
        };
        assert_eq!(batch.writer.record_count(), 2);
        assert!(matches!(
            queue.pull(due, supplies.linger, 1000),
            Pulled::Nothing
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_batch_is_due_at_once_and_a_hurried_one_too() {
        let (supplies, mut queue) = (supplies(1 << 20), PartitionQueue::default());
        let now = Instant::now();
        append(&mut queue, &supplies, &[0; 400], 1000);
        assert!(!queue.is_due(now, supplies.linger));
        assert!(event(&append(&mut queue, &supplies, &[0; 400], 1000)).filled);
        assert!(queue.is_due(now, supplies.linger));
        assert!(matches!(
            queue.pull(now, supplies.linger, 1000),
            Pulled::Plain(_)
        ));

        append(&mut queue, &supplies, b"a", 1000);
        queue.hurry();
        assert!(matches!(
            queue.pull(now, supplies.linger, 1000),
            Pulled::Plain(_)
        ));
        append(&mut queue, &supplies, b"a", 1000);
        assert!(
            !queue.is_due(now, supplies.linger),
            "the hurry was for the batch before"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn memory_bounds_what_is_taken_and_returns() {
        let (supplies, mut queue) = (supplies(2000), PartitionQueue::default());
        let mut taken = 0;
        let bytes = loop {
            match append(&mut queue, &supplies, &[0; 100], 1 << 20) {
                Appended::Record { .. } => taken += 1,
                Appended::NoMemory { bytes, .. } => break bytes,
            }
        };
        assert!((10..20).contains(&taken), "{taken}");
        assert!(bytes <= 150, "{bytes}");
        for batch in queue.give_up(Instant::now()) {
            batch.settle(crate::SendError::Closed.into(), &supplies.buffers);
        }
        assert_eq!(supplies.budget.used(), 0);
        assert_eq!(queue.records(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn batches_leave_in_order_however_workers_finish() {
        let (supplies, mut queue) = (supplies(1 << 20), PartitionQueue::default());
        let now = Instant::now();
        for size in [300, 301, 302] {
            append(&mut queue, &supplies, &vec![0; size], 310);
        }
        let (first, a) = queue.take_plain().unwrap();
        let (second, b) = queue.take_plain().unwrap();
        assert!(matches!(
            queue.pull(now, supplies.linger, 1 << 20),
            Pulled::Sealing
        ));
        assert!(
            !queue.put_sealed(second, Some(seal(b))).unwrap(),
            "the oldest is not sealed yet"
        );
        assert!(queue.put_sealed(first, Some(seal(a))).unwrap());
        let mut sizes = Vec::new();
        loop {
            match queue.pull(now, supplies.linger, 1 << 20) {
                Pulled::Sealed(batch) => sizes.push(batch.len()),
                Pulled::Plain(batch) => sizes.push(batch.writer.len()),
                _ => break,
            }
        }
        assert!(sizes.is_sorted() && sizes.len() == 3, "{sizes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_leaves_nothing_behind_what_a_worker_has() {
        let (supplies, mut queue) = (supplies(1 << 20), PartitionQueue::default());
        for size in [300, 301, 10] {
            append(&mut queue, &supplies, &vec![0; size], 310);
        }
        let (number, at_worker) = queue.take_plain().unwrap();
        let left = queue.end();
        assert_eq!((left.len(), queue.records()), (2, 0));
        let unwanted = queue.put_sealed(number, Some(seal(at_worker)));
        unwanted.unwrap_err();
        assert!(queue.oldest().is_none(), "it settles that one itself");
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_larger_than_a_batch_travels_alone() {
        let (supplies, mut queue) = (supplies(1 << 20), PartitionQueue::default());
        append(&mut queue, &supplies, b"small", 1000);
        let large = event(&append(&mut queue, &supplies, &[0; 5000], 1000));
        assert!(large.filled && large.opened.is_some());
        let now = Instant::now();
        let records = |pulled| match pulled {
            Pulled::Plain(batch) => batch.writer.record_count(),
            other => panic!("{other:?}"),
        };
        assert_eq!(records(queue.pull(now, supplies.linger, 1 << 20)), 1);
        assert_eq!(records(queue.pull(now, supplies.linger, 1 << 20)), 1);
    }
}
