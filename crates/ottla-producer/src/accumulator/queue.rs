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
    Plain(Box<OpenBatch>),
    /// A worker has it.
    Sealing {
        opened: Instant,
        records: i32,
    },
    Sealed(Box<Batch>),
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

impl Event {
    pub(crate) const FILLED: Self = Self {
        opened: None,
        filled: true,
    };
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
    Sealed(Box<Batch>),
}

/// A batch that will not be sent. To be settled outside the partition's lock.
#[derive(Debug)]
pub(crate) enum GivenUp {
    Open(OpenBatch),
    Sealed(Box<Batch>),
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
        match &mut self.open {
            Some(open) => {
                let wished = open.memory.bytes().saturating_mul(2).max(self.expected);
                if let Some(bytes) = make_room(open, size, wished, limit, supplies, extra) {
                    return Ok(Appended::NoMemory { bytes, event });
                }
            }
            None => {
                let needed = BatchWriter::capacity_for(HEADER_LEN + size);
                let wished = spacious(self.expected).max(OPENING_MIN);
                let wished = wished.min(BatchWriter::capacity_for(limit)).max(needed);
                let mut memory = match take_memory(needed, wished, supplies, extra) {
                    Ok(memory) => memory,
                    Err(bytes) => return Ok(Appended::NoMemory { bytes, event }),
                };
                let opened = Instant::now();
                event.opened = Some(opened + supplies.linger);
                self.open = Some(OpenBatch {
                    writer: BatchWriter::new(supplies.buffers.take(&mut memory)),
                    resolver: Resolver::new(at.clone(), &self.load, &supplies.outstanding),
                    memory,
                    opened,
                });
            }
        }
        let Some(open) = &mut self.open else {
            unreachable!("there was an open batch, or one was opened just now");
        };
        let (ticket, index, full) = match open.append(record, size, limit) {
            Ok(appended) => appended,
            Err(error) => {
                if open.writer.is_empty() {
                    self.open = None;
                }
                return Err(error);
            }
        };
        if full {
            self.close();
            event.filled = true;
        }
        Ok(Appended::Record {
            ticket,
            index,
            event,
        })
    }

    /// Encodes `record` into the open batch, if there is one with room in every respect. Gives its ticket and place,
    /// and whether it filled the batch, which then is closed.
    #[inline]
    pub(crate) fn append_to_open(
        &mut self,
        record: &NewRecord<'_>,
        size: usize,
        limit: usize,
        records_max: i32,
    ) -> Option<(Arc<Ticket>, u32, bool)> {
        let open = self.open.as_mut()?;
        let writer = &open.writer;
        if writer.len() + size > limit
            || !writer.has_room(size)
            || writer.record_count() >= records_max
        {
            return None;
        }
        let appended = open.append(record, size, limit).ok()?;
        if appended.2 {
            self.close();
        }
        Some(appended)
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
            Closed::Plain(batch) if batch.writer.len() <= in_passing => Pulled::Plain(*batch),
            Closed::Plain(batch) => {
                self.closed.push_front((number, sealing(&batch)));
                Pulled::PlainLarge(number, *batch)
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
            Closed::Plain(batch) => Some((*number, *batch)),
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
        sealed: Option<Box<Batch>>,
    ) -> Result<bool, Box<Batch>> {
        let place = self.closed.iter().position(|(held, _)| *held == number);
        match (place, sealed) {
            (Some(place), Some(batch)) => self.closed[place].1 = Closed::Sealed(batch),
            (Some(place), None) => drop(self.closed.remove(place)),
            (None, Some(batch)) => return Err(batch),
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
                Some((_, Closed::Plain(batch))) => given_up.push(GivenUp::Open(*batch)),
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
                Closed::Plain(batch) => Some(GivenUp::Open(*batch)),
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
                .push_back((self.closed_so_far, Closed::Plain(Box::new(batch))));
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

/// Makes room for `size` more bytes in the batch, and for `wished` ones if there is memory: with what the caller waited for too.
/// Gives how many bytes to wait for if that fails.
fn make_room(
    open: &mut OpenBatch,
    size: usize,
    wished: usize,
    limit: usize,
    supplies: &Supplies,
    extra: &mut Option<Reserved>,
) -> Option<usize> {
    if open.writer.has_room(size) {
        return None;
    }
    if let Some(extra) = extra.take() {
        open.memory.absorb(extra);
    }
    let needed = BatchWriter::capacity_for(open.writer.len() + size);
    let wished = wished.min(BatchWriter::capacity_for(limit)).max(needed);
    let held = open.memory.bytes();
    if held < wished && !open.memory.try_grow(wished - held) && held < needed {
        // The batch moves to a larger buffer each time, so a few bytes at a time would be dear.
        let least = (held / 4).max(needed - held);
        if !open.memory.try_grow(least) {
            let bounded = (wished - held).min(supplies.budget.capacity() / 8);
            return Some(bounded.max(least));
        }
    }
    let larger = supplies.buffers.take(&mut open.memory);
    supplies.buffers.give_back(open.writer.move_to(larger));
    None
}

/// Memory for a new batch: `wished` bytes, or `needed` ones. Gives how many to wait for if there are none.
fn take_memory(
    needed: usize,
    wished: usize,
    supplies: &Supplies,
    extra: &mut Option<Reserved>,
) -> Result<Reserved, usize> {
    let budget = &supplies.budget;
    let needed = needed.min(budget.capacity());
    if let Some(mut memory) = extra.take_if(|extra| extra.bytes() >= needed) {
        if memory.bytes() < wished {
            memory.try_grow(wished - memory.bytes());
        }
        return Ok(memory);
    }
    let reserved = budget.try_reserve(wished);
    reserved
        .or_else(|| budget.try_reserve(needed))
        .ok_or_else(|| wished.min(budget.capacity() / 8).max(needed))
}

/// Somewhat more than `expected`: a power of two, so that buffers fit one batch after the other.
fn spacious(expected: usize) -> usize {
    (expected + expected / 8).next_power_of_two()
}

/// The header in front of a batch's records.
pub(crate) const HEADER_LEN: usize = 61;

/// What a new batch reserves at least, so that a few records do not each ask for more.
const OPENING_MIN: usize = 512;

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

    fn seal(batch: OpenBatch) -> Box<Batch> {
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
        assert!(bytes <= 2000 / 4, "{bytes}");
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
