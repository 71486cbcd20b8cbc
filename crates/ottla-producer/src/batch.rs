//! A batch's way from the first record to its outcome: open, then sealed.
//!
//! Owns the bytes, the memory they are charged to, and the right to settle the outcome. Never decides
//! where a batch goes or when: the accumulator closes it, the sender core stamps and sends it.

use std::sync::Arc;

use ottla_wire::Bytes;
use ottla_wire::record::{AppendError, BatchWriter, NewRecord, SealedBatch, restamp};
use tokio::time::Instant;

use crate::budget::Reserved;
use crate::buffers::Buffers;
use crate::delivery::{Outcome, Resolver, Ticket};
use crate::identity::ProducerIdentity;

/// A batch that still takes records, or waits to be sealed.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    pub(crate) writer: BatchWriter,
    pub(crate) resolver: Resolver,
    /// At least as many bytes as the writer's buffer holds.
    pub(crate) memory: Reserved,
    pub(crate) opened: Instant,
}

impl OpenBatch {
    /// Encodes `record`, which takes at most `size` bytes. Gives the records' ticket, its index, and whether no other of its size fits
    /// within `limit` plain bytes: then there is no use in waiting for the next record to find that out.
    #[inline]
    pub(crate) fn append(
        &mut self,
        record: &NewRecord<'_>,
        size: usize,
        limit: usize,
    ) -> Result<(Arc<Ticket>, u32, bool), AppendError> {
        let index = self.writer.append(record)? as u32;
        let full = self.writer.len() + size > limit;
        Ok((self.resolver.ticket().clone(), index, full))
    }

    /// Gives up on the records.
    pub(crate) fn settle(self, outcome: Outcome, buffers: &Buffers) {
        buffers.give_back(self.writer.into_buffer());
        drop(self.memory);
        self.resolver.resolve(outcome);
    }
}

/// A sealed batch, on its way or waiting for it. Boxed, for it goes through many hands, and a partition's queues keep their
/// room while they are empty.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) payload: Payload,
    /// `None` once the caller was told that the outcome is unknown, while an attempt is still out.
    pub(crate) resolver: Option<Resolver>,
    pub(crate) memory: Reserved,
    pub(crate) records: i32,
    pub(crate) opened: Instant,
    /// Its place among the batches of its partition; a piece of a split batch also has the index of its
    /// first record.
    pub(crate) place: (u64, u32),
    /// The sequences its records have; none before it was first made ready to be sent.
    pub(crate) stamp: Option<Stamp>,
    /// Times it was sent.
    pub(crate) attempts: u32,
    /// When it was first sent.
    pub(crate) first_sent: Option<Instant>,
    /// The caller was told that the outcome is unknown, and it goes on all the same: batches behind it may have the
    /// next sequences.
    pub(crate) silent: bool,
    /// An attempt has no definite answer: the records may be in the log.
    pub(crate) maybe_written: bool,
    /// Times it got new sequences because the broker had lost track of the old.
    pub(crate) resets: u32,
    /// What became of the last attempt.
    pub(crate) last_error: Option<Arc<str>>,
}

impl Batch {
    pub(crate) fn new(
        sealed: SealedBatch,
        mut resolver: Resolver,
        memory: Reserved,
        opened: Instant,
    ) -> Box<Self> {
        resolver.records = sealed.record_count() as u32;
        resolver.bytes = sealed.len();
        Box::new(Self {
            records: sealed.record_count(),
            resolver: Some(resolver),
            payload: Payload::Fresh(sealed),
            memory,
            opened,
            place: (0, 0),
            stamp: None,
            attempts: 0,
            first_sent: None,
            silent: false,
            maybe_written: false,
            resets: 0,
            last_error: None,
        })
    }

    /// Bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        match &self.payload {
            Payload::Fresh(sealed) => sealed.len(),
            Payload::Stamped { bytes, .. } => bytes.len(),
        }
    }

    /// The bytes to send, carrying [`stamp`](Self::stamp): the same bytes as last time when the
    /// stamp is the same. A producer's batches are all transactional, or none is.
    pub(crate) fn wire_bytes(&mut self, transactional: bool) -> Bytes {
        let stamp = self.stamp;
        let (id, epoch, sequence) = stamp.map_or((-1, -1, -1), |stamp| {
            (stamp.identity.id, stamp.identity.epoch, stamp.sequence)
        });
        let nothing = Payload::Stamped {
            bytes: Bytes::new(),
            stamp,
        };
        let bytes = match std::mem::replace(&mut self.payload, nothing) {
            Payload::Fresh(mut sealed) => {
                if stamp.is_some() {
                    sealed.stamp(id, epoch, sequence, transactional);
                }
                sealed.freeze()
            }
            Payload::Stamped {
                bytes,
                stamp: on_it,
            } if on_it == stamp => bytes,
            Payload::Stamped { bytes, .. } => restamp(bytes, id, epoch, sequence)
                // Our own sealed batch, unchanged since it was written.
                .expect("a batch of ours has a sound header"),
        };
        self.payload = Payload::Stamped {
            bytes: bytes.clone(),
            stamp,
        };
        bytes
    }

    /// Tells the caller, if it has not been told already, and lets go of memory and buffer.
    pub(crate) fn settle(self: Box<Self>, outcome: Outcome, buffers: &Buffers) {
        let Self {
            payload,
            memory,
            resolver,
            ..
        } = *self;
        match payload {
            Payload::Fresh(sealed) => buffers.give_back_frozen(sealed.freeze()),
            Payload::Stamped { bytes, .. } => buffers.give_back_frozen(bytes),
        }
        drop(memory);
        if let Some(resolver) = resolver {
            resolver.resolve(outcome);
        }
    }
}

#[derive(Debug)]
pub(crate) enum Payload {
    Fresh(SealedBatch),
    Stamped { bytes: Bytes, stamp: Option<Stamp> },
}

/// Whose records a batch holds, as the broker counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) identity: ProducerIdentity,
    /// The first record's sequence.
    pub(crate) sequence: i32,
}
