//! One partition's part of an answer to a ShareFetch: which records of it are acquired, and how they are read.
//!
//! The batches may hold more than what was acquired, and what was acquired may hold less than there are offsets: where
//! compaction or a transaction's marker left none, this member says so, with a gap.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use ottla_wire::{
    Bytes,
    compress::Decompressor,
    messages::share_fetch::AcquiredRecords,
    record::{Batches, OwnedRecords},
};

use super::{
    acknowledge::{GAP, GIVE_BACK},
    core::PartitionId,
    held::Run,
    record::{Lender, ShareRecord},
};
use crate::{
    Error, Record, TopicPartition,
    current::misplaced,
    payload::{DecodeLimits, Payload},
    record::Origin,
};

/// Records that are acquired and not handed out.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) node: i32,
    pub(super) id: PartitionId,
    pub(super) name: TopicPartition,
    /// When their locks have timed out for certain.
    pub(super) until: Instant,
    /// The share session, as the core counts them.
    pub(super) session: u64,
    /// In order, and apart from each other; what was handed out or said something of is cut off.
    acquired: VecDeque<Acquired>,
    batches: Batches,
    current: Option<Current>,
}

#[derive(Debug)]
struct Acquired {
    first: i64,
    last: i64,
    delivery_count: i16,
}

/// The batch being handed out.
#[derive(Debug)]
struct Current {
    origin: Arc<Origin>,
    lender: Arc<Lender>,
    records: OwnedRecords,
    last: i64,
}

/// What came of reading.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Offsets that were handed out.
    pub(super) lent: Vec<Run>,
    /// How many of those were delivered before, and how often the one that was most often, this time included.
    pub(super) redelivered: u64,
    pub(super) delivery_count_max: i16,
    /// What is to be said of others.
    pub(super) others: Vec<(Run, i8)>,
    pub(super) error: Option<Error>,
    /// Whether records could not be read, or were not sent though they are acquired.
    pub(super) faulty: bool,
    /// Whether nothing is left.
    pub(super) done: bool,
}

impl Fetched {
    /// None if nothing is acquired.
    pub(super) fn new(
        node: i32,
        id: PartitionId,
        name: TopicPartition,
        until: Instant,
        records: Bytes,
        mut ranges: Vec<AcquiredRecords>,
    ) -> Option<Self> {
        ranges.sort_unstable_by_key(|range| range.first_offset);
        let mut acquired: VecDeque<Acquired> = VecDeque::with_capacity(ranges.len());
        for range in ranges {
            let behind = acquired
                .back()
                .map_or(0, |before| before.last.saturating_add(1));
            let first = range.first_offset.max(behind);
            if first <= range.last_offset && range.last_offset < i64::MAX {
                acquired.push_back(Acquired {
                    first,
                    last: range.last_offset,
                    delivery_count: range.delivery_count.max(1),
                });
            }
        }
        (!acquired.is_empty()).then(|| Self {
            node,
            id,
            name,
            until,
            session: 0,
            acquired,
            batches: Batches::new(records),
            current: None,
        })
    }

    /// The offsets that are acquired, in order.
    pub(super) fn acquired(&self) -> impl Iterator<Item = Run> {
        self.acquired.iter().map(|of| (of.first, of.last))
    }

    /// Hands out up to `max` records.
    pub(super) fn read(
        &mut self,
        max: usize,
        limits: DecodeLimits,
        decompressor: &mut Decompressor,
        out: &mut Vec<ShareRecord>,
    ) -> Read {
        let mut read = Read::default();
        let end = out.len().saturating_add(max);
        while out.len() < end && !self.acquired.is_empty() {
            let Some(current) = &mut self.current else {
                if let Err(error) = self.next_batch(limits, decompressor, &mut read) {
                    (read.error, read.faulty) = (Some(error), true);
                    break;
                }
                continue;
            };
            let last = current.last;
            let fault = match current.records.next() {
                None => {
                    self.current = None;
                    self.say(last, GAP, &mut read);
                    continue;
                }
                Some(Ok(record)) if record.offset() <= last => {
                    let offset = record.offset();
                    let (origin, lender) = (current.origin.clone(), current.lender.clone());
                    self.say(offset.saturating_sub(1), GAP, &mut read);
                    if let Some(delivery_count) = self.take(offset) {
                        match read.lent.last_mut() {
                            Some((_, last)) if *last + 1 == offset => *last = offset,
                            _ => read.lent.push((offset, offset)),
                        }
                        read.redelivered += u64::from(delivery_count > 1);
                        read.delivery_count_max = read.delivery_count_max.max(delivery_count);
                        let record = Record::new(&origin, record);
                        out.push(ShareRecord::new(record, delivery_count, lender));
                    }
                    continue;
                }
                Some(Ok(record)) => misplaced(&current.records, record.offset()),
                Some(Err(source)) => source,
            };
            // Another member may be able to read it; in the end the broker sees to it that nobody tries for ever.
            let at = self
                .acquired
                .front()
                .map_or(last, |acquired| acquired.first);
            (read.error, read.faulty) = (Some(current.origin.unreadable(at, fault)), true);
            self.current = None;
            self.say(last, GIVE_BACK, &mut read);
            break;
        }
        read.done = self.acquired.is_empty();
        read
    }

    /// Hands out no more of it: what is to be said of the rest.
    pub(super) fn give_back(&mut self) -> Vec<(Run, i8)> {
        let mut read = Read::default();
        self.current = None;
        self.say(i64::MAX, GIVE_BACK, &mut read);
        read.others
    }

    /// Goes on to the next batch of which something is acquired.
    fn next_batch(
        &mut self,
        limits: DecodeLimits,
        decompressor: &mut Decompressor,
        read: &mut Read,
    ) -> Result<(), Error> {
        let at = self.acquired.front().map_or(0, |acquired| acquired.first);
        let origin = |leader_epoch, timestamp_type| Origin {
            name: self.name.clone(),
            // Partitions of a share group are nobody's.
            since: 0,
            leader_epoch,
            timestamp_type,
        };
        let unreadable = |source| Error::Unreadable {
            partition: self.name.clone(),
            offset: at,
            source: Arc::new(source),
        };
        let batch = match self.batches.next() {
            Some(Ok(batch)) => batch,
            Some(Err(source)) => {
                let error = unreadable(source);
                self.say(i64::MAX, GIVE_BACK, read);
                return Err(error);
            }
            None => {
                // The broker acquired records that it did not send.
                read.faulty = true;
                self.say(i64::MAX, GIVE_BACK, read);
                return Ok(());
            }
        };
        let last = batch.last_offset();
        if batch.is_control() {
            self.say(last, GAP, read);
            return Ok(());
        }
        let epoch = batch.partition_leader_epoch();
        let origin = origin(
            (epoch >= 0).then_some(epoch),
            batch.header().timestamp_type(),
        );
        self.say(batch.base_offset().saturating_sub(1), GAP, read);
        if self
            .acquired
            .front()
            .is_none_or(|acquired| acquired.first > last)
        {
            return Ok(());
        }
        match Payload::Raw(batch).decode(limits, decompressor) {
            Ok(decoded) => {
                self.current = Some(Current {
                    origin: Arc::new(origin),
                    lender: Arc::new(Lender {
                        node: self.node,
                        id: self.id,
                    }),
                    records: decoded.into_records(),
                    last,
                });
                Ok(())
            }
            Err(source) => {
                let error = origin.unreadable(at, source);
                self.say(last, GIVE_BACK, read);
                Err(error)
            }
        }
    }

    /// Says something of all that is acquired up to this offset.
    fn say(&mut self, last: i64, kind: i8, read: &mut Read) {
        while let Some(acquired) = self.acquired.front_mut()
            && acquired.first <= last
        {
            let end = acquired.last.min(last);
            read.others.push(((acquired.first, end), kind));
            // Ranges end before the largest offset.
            acquired.first = end + 1;
            if acquired.first > acquired.last {
                self.acquired.pop_front();
            }
        }
    }

    /// Takes the next offset out of what is acquired, if it is; with how often it was delivered.
    fn take(&mut self, offset: i64) -> Option<i16> {
        let acquired = self.acquired.front_mut().filter(|a| a.first == offset)?;
        let delivery_count = acquired.delivery_count;
        acquired.first += 1;
        if acquired.first > acquired.last {
            self.acquired.pop_front();
        }
        Some(delivery_count)
    }
}
