//! The sending side of one partition: batches that wait, batches in flight, sequences.
//!
//! Non-obvious invariants:
//!
//! - Batches leave in the order of their places; a batch that comes back goes in front of all later ones.
//! - After any failure nothing more leaves until all that is in flight has come back; then one batch
//!   at a time until one succeeds. So a retry is never overtaken, and with a producer id that the partition's log does not
//!   know yet, whose first batch a broker takes whatever its sequence, at most one batch is in flight.
//! - In flight is at one broker only: after a leader move, what the old leader has comes back first.
//! - A sequence belongs to its records for ever. When records are given up after they got sequences,
//!   the lane has a *gap*, and goes on under another epoch.
//! - Under another epoch only what is certainly not written gets new sequences. A batch in doubt is
//!   sent again as it was until the broker's answer is definite.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ottla_wire::record::next_sequence;
use tokio::time::Instant;

use crate::batch::{Batch, Stamp};
use crate::config::Acks;
use crate::error::TopicPartition;
use crate::identity::{Identity, ProducerIdentity};

#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) at: TopicPartition,
    pub(crate) acks: Acks,
    pub(crate) delivery_timeout: Duration,
    pub(crate) leader: Option<i32>,
    pub(crate) leader_epoch: i32,
    /// Ascending in place; those with a stamp before those without.
    pub(crate) queue: VecDeque<Box<Batch>>,
    /// Ascending in place.
    pub(crate) in_flight: VecDeque<InFlight>,
    /// The broker that has what is in flight.
    pub(crate) in_flight_at: i32,
    /// The accumulator has something for this lane.
    pub(crate) front_ready: bool,
    /// The driver is taking a batch from the accumulator.
    pub(crate) pulling: bool,
    /// What it takes, or what comes back from being split, is not to be sent if it was accepted by then: it was purged on
    /// the way.
    pub(crate) purged: Option<Instant>,
    /// The accumulator had more to tell while it did.
    pub(crate) told_while_pulling: bool,
    /// A batch that was too large is being split; it goes before all others.
    pub(crate) splitting: bool,
    /// Whether the open transaction has this partition.
    pub(crate) membership: Membership,
    pub(crate) muted_until: Option<Instant>,
    /// The mute is because the leader was the wrong one: a new leader ends it.
    pub(crate) muted_for_leader: bool,
    /// In whose rotation the lane is.
    pub(crate) rotating_at: Option<i32>,
    /// The last request that took a batch of this lane.
    pub(crate) last_request: u64,
    /// What a batch of this partition lately weighed, to guess how many fill a request.
    pub(crate) typical_len: usize,
    /// Why nothing moves, for a person.
    pub(crate) last_error: Option<Arc<str>>,
    next_place: u64,
    identity: Option<ProducerIdentity>,
    next_sequence: i32,
    /// A batch under the current identity succeeded, and nothing failed since.
    proven: bool,
    /// Something failed; wait for all that is in flight.
    recovering: bool,
    /// Some sequences of the current identity went to records that were given up.
    gap: bool,
    /// Some of those records are in doubt: a request that an ended connection left behind may still
    /// fill the gap, and one behind it then be taken after all.
    gap_in_doubt: bool,
}

#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) request: u64,
    pub(crate) batch: Box<Batch>,
}

/// How a partition stands to the open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    /// A batch may leave: the partition was added, or need not be (transactions V2, or no transaction).
    NotNeeded,
    /// To be added before the first batch leaves.
    Outside,
    /// Being added.
    Entering,
}

/// Whether a lane's next batch can leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Send,
    /// Not before something else happens.
    Wait,
    /// An identity is needed first.
    NeedsIdentity,
}

impl Lane {
    pub(crate) fn new(at: TopicPartition, acks: Acks, delivery_timeout: Duration) -> Self {
        Self {
            at,
            acks,
            delivery_timeout,
            leader: None,
            leader_epoch: -1,
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            in_flight_at: -1,
            front_ready: false,
            pulling: false,
            purged: None,
            told_while_pulling: false,
            splitting: false,
            membership: Membership::NotNeeded,
            muted_until: None,
            muted_for_leader: false,
            rotating_at: None,
            last_request: 0,
            typical_len: 0,
            last_error: None,
            next_place: 0,
            identity: None,
            next_sequence: 0,
            proven: false,
            recovering: false,
            gap: false,
            gap_in_doubt: false,
        }
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.front_ready
    }

    /// Whether a batch may leave for `broker` now, whatever its identity.
    pub(crate) fn is_open(
        &self,
        broker: i32,
        now: Instant,
        idempotent: bool,
        in_flight_max: usize,
    ) -> bool {
        let in_flight_max = if idempotent && !self.proven {
            1
        } else {
            in_flight_max
        };
        self.leader == Some(broker)
            && !self.splitting
            && self.membership == Membership::NotNeeded
            && self.muted_until.is_none_or(|until| until <= now)
            && (self.in_flight.is_empty()
                || (self.in_flight_at == broker
                    && !self.recovering
                    && self.in_flight.len() < in_flight_max))
    }

    /// Takes a batch from the accumulator, behind all others.
    pub(crate) fn push_new(&mut self, mut batch: Box<Batch>) {
        batch.place = (self.next_place, 0);
        self.next_place += 1;
        self.typical_len = batch.len();
        self.queue.push_back(batch);
    }

    /// Puts a batch back, at its place.
    pub(crate) fn push_back_in_place(&mut self, batch: Box<Batch>) {
        let at = self
            .queue
            .partition_point(|queued| queued.place < batch.place);
        self.queue.insert(at, batch);
    }

    /// Gives the first waiting batch its stamp, taking over the current identity where that is safe.
    pub(crate) fn prepare_head(&mut self, identity: &mut Identity) -> Next {
        if *identity == Identity::Unused {
            return Next::Send;
        }
        if self.gap
            && let Some(own) = self.identity
        {
            identity.bump(own);
        }
        let Some(current) = identity.known() else {
            return Next::NeedsIdentity;
        };
        if self.identity != Some(current) {
            let in_doubt = self
                .queue
                .iter()
                .any(|batch| batch.stamp.is_some() && batch.maybe_written);
            if !self.in_flight.is_empty() {
                return Next::Wait;
            }
            if in_doubt {
                // Everything up to the last batch in doubt goes out as it was, one at a time.
                self.proven = false;
                return match self.queue.front() {
                    Some(head) if head.stamp.is_some() => Next::Send,
                    _ => Next::Wait,
                };
            }
            self.adopt(current);
        }
        if let Some(head) = self.queue.front_mut()
            && head.stamp.is_none()
        {
            head.stamp = Some(Stamp {
                identity: current,
                sequence: self.next_sequence,
            });
            self.next_sequence = next_sequence(self.next_sequence, head.records);
        }
        Next::Send
    }

    /// A batch of this lane succeeded; `head`: and none before it is unsettled. Only then may several leave
    /// at once again: while a batch comes back that is written already, the broker must not get so many later ones
    /// that it forgets that one.
    pub(crate) fn succeeded(&mut self, stamp: Option<Stamp>, head: bool) {
        if head && stamp.map(|stamp| stamp.identity) == self.identity {
            self.proven = true;
        }
        self.last_error = None;
    }

    /// A batch of this lane came back.
    pub(crate) fn failed(&mut self) {
        self.proven = false;
        self.recovering = true;
    }

    /// Something in flight has come back, one way or another.
    pub(crate) fn landed(&mut self) {
        if self.in_flight.is_empty() {
            self.recovering = false;
        }
    }

    /// `batch` is given up: its sequences, if it had any, will never be used.
    pub(crate) fn abandoned(&mut self, stamp: Option<Stamp>, in_doubt: bool) {
        if let Some(stamp) = stamp
            && Some(stamp.identity) == self.identity
        {
            self.lost_sequences();
            self.gap_in_doubt |= in_doubt;
        }
    }

    /// Whether the broker's word that a batch does not follow can be outrun by an earlier request.
    pub(crate) fn may_be_outrun(&self) -> bool {
        self.gap_in_doubt
    }

    /// Records that had sequences of this lane are gone.
    pub(crate) fn lost_sequences(&mut self) {
        self.gap = self.identity.is_some();
        self.proven = false;
    }

    /// Whether records that got sequences of `identity` were given up.
    pub(crate) fn has_gap(&self, identity: Identity) -> bool {
        self.gap && self.identity == identity.known()
    }

    /// Whether no batch before `place` is unsettled.
    pub(crate) fn is_head(&self, place: (u64, u32)) -> bool {
        !self.splitting
            && self.queue.front().is_none_or(|queued| place < queued.place)
            && self
                .in_flight
                .front()
                .is_none_or(|flying| place < flying.batch.place)
    }

    /// The broker is certain that the batches under `stamp`'s identity that wait here are not written.
    pub(crate) fn clear_doubt(&mut self, identity: ProducerIdentity) {
        for batch in &mut self.queue {
            if batch.stamp.is_some_and(|stamp| stamp.identity == identity) {
                batch.maybe_written = false;
            }
        }
    }

    /// Whether a batch carries sequences that still count.
    pub(crate) fn is_current(&self, stamp: Option<Stamp>, identity: Identity) -> bool {
        let known = identity.known();
        !self.gap && known.is_some() && stamp.map(|stamp| stamp.identity) == known
    }

    pub(crate) fn mute(&mut self, until: Instant, for_leader: bool) {
        self.muted_until = Some(self.muted_until.map_or(until, |already| already.max(until)));
        self.muted_for_leader = for_leader;
    }

    /// When the oldest batch, waiting or in flight, was opened; batches whose callers were told
    /// already do not count.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let flying = self.in_flight.iter().map(|flying| &flying.batch);
        flying
            .chain(&self.queue)
            .filter(|batch| batch.resolver.is_some())
            .map(|batch| batch.opened)
            .min()
    }

    pub(crate) fn records(&self) -> u64 {
        let flying = self.in_flight.iter().map(|flying| &flying.batch);
        let open = flying
            .chain(&self.queue)
            .filter(|batch| batch.resolver.is_some());
        open.map(|batch| batch.records as u64).sum()
    }

    /// Goes on under `identity` from sequence 0. Nothing is in flight and nothing waiting is in doubt.
    fn adopt(&mut self, identity: ProducerIdentity) {
        self.identity = Some(identity);
        self.next_sequence = 0;
        self.proven = false;
        self.gap = false;
        self.gap_in_doubt = false;
        for batch in &mut self.queue {
            batch.stamp = None;
        }
    }
}
