//! What the open transaction lets pass, as the sender core needs to know it.
//!
//! Owns which partitions are in the transaction (before transactions V2), and the bar: once something of the
//! transaction failed, or it is being aborted, nothing more leaves. Why and when it begins and
//! ends is decided in `transaction`; the gate of a producer without transactions stays open.

use tokio::time::Instant;

use super::{Effect, SenderCore, Slot};
use crate::error::SendError;
use crate::identity::{Identity, ProducerIdentity};
use crate::sender::lane::Membership;

/// How partitions get into a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Protocol {
    /// By AddPartitionsToTxn, before the first batch.
    V1,
    /// By the first batch itself (KIP-890).
    #[default]
    V2,
}

#[derive(Debug, Default)]
pub(super) struct Gate {
    /// `None` without transactions.
    protocol: Option<Protocol>,
    /// Partitions to be added that nobody has been told of.
    outside: Vec<Slot>,
    /// Why nothing leaves any more.
    bar: Option<SendError>,
    /// A batch has left since the transaction began.
    has_sent: bool,
}

impl Gate {
    pub(super) fn membership(&self) -> Membership {
        match self.protocol {
            Some(Protocol::V1) => Membership::Outside,
            _ => Membership::NotNeeded,
        }
    }

    pub(super) fn bar(&self) -> Option<&SendError> {
        self.bar.as_ref()
    }

    /// Remembers a partition to be added; true if it is the first.
    pub(super) fn wants(&mut self, slot: Slot) -> bool {
        self.outside.push(slot);
        self.outside.len() == 1
    }

    pub(super) fn batch_left(&mut self) {
        self.has_sent = true;
    }

    /// From version 12 on a Produce request adds its partitions to the transaction, which only
    /// coordinators with transactions V2 expect.
    pub(super) fn produce_version_max(&self) -> i16 {
        match self.protocol {
            Some(Protocol::V1) => 11,
            _ => i16::MAX,
        }
    }
}

impl SenderCore {
    /// The coordinator gave this identity. Nothing is in flight or waiting.
    pub(crate) fn assign_identity(&mut self, identity: ProducerIdentity) {
        self.identity = Identity::Assigned(identity);
    }

    /// A transaction begins. Nothing of an earlier one is left.
    pub(crate) fn open_gate(&mut self, protocol: Protocol) {
        self.gate = Gate {
            protocol: Some(protocol),
            ..Gate::default()
        };
        let membership = self.gate.membership();
        for lane in &mut self.lanes {
            lane.membership = membership;
        }
    }

    /// Partitions to be added to the transaction, each told once. To be reported with
    /// [`admit`](Self::admit), or by [`bar`](Self::bar).
    pub(crate) fn take_outside(&mut self) -> Vec<Slot> {
        match self.gate.bar {
            None => std::mem::take(&mut self.gate.outside),
            Some(_) => Vec::new(),
        }
    }

    /// These partitions are in the transaction now.
    pub(crate) fn admit(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.lanes[*slot].membership = Membership::NotNeeded;
            self.touch(*slot);
        }
    }

    /// Nothing more leaves, for `error`: what waits here is settled with it, and what comes back too.
    pub(crate) fn bar(&mut self, error: SendError, now: Instant) {
        self.gate.bar = Some(error.clone());
        for slot in 0..self.lanes.len() {
            while let Some(batch) = self.lanes[slot].queue.pop_front() {
                self.give_up(slot, batch, error.clone(), Vec::new(), now);
            }
        }
        self.tell_drained();
    }

    /// The accumulator has nothing for this partition any more.
    pub(crate) fn front_emptied(&mut self, slot: Slot) {
        self.lanes[slot].front_ready = false;
    }

    /// Whether nothing of the transaction may leave any more.
    pub(crate) fn is_barred(&self) -> bool {
        self.gate.bar.is_some()
    }

    /// Whether no request is under way.
    pub(crate) fn is_drained(&self) -> bool {
        self.brokers.values().all(|broker| broker.in_flight == 0)
    }

    /// Whether a batch has left since the gate was opened.
    pub(crate) fn has_sent(&self) -> bool {
        self.gate.has_sent
    }

    /// Whether sequences of the current identity were lost: nothing can follow them.
    pub(crate) fn has_gaps(&self) -> bool {
        self.lanes.iter().any(|lane| lane.has_gap(self.identity))
    }

    /// A record of the transaction failed: what comes after it is of no use.
    pub(super) fn doom(&mut self, now: Instant) {
        if self.gate.protocol.is_some() && self.gate.bar.is_none() {
            let reason = "another record of its transaction failed, so it can only be aborted";
            let reason = reason.into();
            self.bar(SendError::TransactionEnded { reason }, now);
        }
    }

    pub(super) fn tell_drained(&mut self) {
        if self.gate.bar.is_some() && self.is_drained() {
            self.effects.push(Effect::Drained);
        }
    }
}
