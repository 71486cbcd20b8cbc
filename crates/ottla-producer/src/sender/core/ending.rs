//! Batches whose way ends without an answer: their time is up, or the producer's; and why they did not get
//! on, for a person.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Effect, SenderCore, Slot};
use crate::batch::Batch;
use crate::error::{SendError, TopicPartition};
use crate::identity::Identity;

impl SenderCore {
    /// The connections are gone, and nobody waits for answers.
    pub(crate) fn forget_in_flight(&mut self) {
        for lane in &mut self.lanes {
            lane.in_flight.clear();
        }
        for broker in self.brokers.values_mut() {
            broker.in_flight = 0;
        }
    }

    /// Nothing can be sent any more: what waits is settled with `error`, what is in flight is in doubt.
    pub(crate) fn fail(&mut self, error: SendError, now: Instant) {
        for lane in &mut self.lanes {
            for flying in &mut lane.in_flight {
                let why = || format!("{error} before broker {} answered", lane.in_flight_at);
                let told = tell_of_doubt(&lane.at, &mut flying.batch, now, || why().into());
                self.effects.extend(told);
            }
            for batch in lane.queue.drain(..) {
                let outcome = match batch.maybe_written {
                    true => SendError::PossiblyWritten {
                        at: lane.at.clone(),
                        after: now - batch.opened,
                        stuck: error.to_string().into(),
                    },
                    false => error.clone(),
                };
                self.effects.push(Effect::Settle(batch, outcome.into()));
            }
        }
        self.fatal = Some(error);
    }

    /// Gives up on what waits (`queued`), and on telling of what is `in_flight`. While other batches wait behind those, they
    /// go on in silence: a gap in front of them would hold them up.
    pub(crate) fn purge(&mut self, queued: bool, in_flight: bool, now: Instant) {
        for slot in 0..self.lanes.len() {
            let lane = &mut self.lanes[slot];
            if queued {
                lane.purged = (lane.pulling || lane.splitting).then_some(now);
                while let Some(batch) = self.lanes[slot].queue.pop_front() {
                    self.give_up(slot, batch, SendError::Purged, Vec::new(), now);
                }
            }
            let lane = &mut self.lanes[slot];
            for flying in lane.in_flight.iter_mut().filter(|_| in_flight) {
                let why = || format!("purged before broker {} answered", lane.in_flight_at);
                let told = tell_of_doubt(&lane.at, &mut flying.batch, now, || why().into());
                flying.batch.silent |= told.is_some() && !queued;
                self.effects.extend(told);
            }
            // What waited for the purged ones may go.
            self.touch(slot);
        }
    }

    /// Why nothing can be sent any more.
    pub(crate) fn fatal(&self) -> Option<&SendError> {
        self.fatal.as_ref()
    }

    /// Reports batches of the partition that have used up their time.
    pub(crate) fn expire(&mut self, slot: Slot, now: Instant) {
        let timeout = self.lanes[slot].delivery_timeout;
        let stuck = self.stuck(slot);
        while let Some(head) = self.lanes[slot].queue.front()
            && head.opened + timeout <= now
            && let Some(batch) = self.lanes[slot].queue.pop_front()
        {
            let error = SendError::TimedOut {
                at: self.lanes[slot].at.clone(),
                after: now - batch.opened,
                stuck: batch.last_error.clone().unwrap_or_else(|| stuck.clone()),
            };
            self.give_up(slot, batch, error, Vec::new(), now);
        }
        let lane = &mut self.lanes[slot];
        let mut told = false;
        for flying in &mut lane.in_flight {
            let batch = &mut flying.batch;
            if batch.opened + timeout <= now {
                let effect = tell_of_doubt(&lane.at, batch, now, || stuck.clone());
                told |= effect.is_some();
                self.effects.extend(effect);
            }
        }
        if told {
            self.doom(now);
        }
        self.touch(slot);
    }

    /// Whether a batch of the partition is neither here nor in the accumulator at the moment.
    pub(crate) fn is_between(&self, slot: Slot) -> bool {
        self.lanes[slot].pulling || self.lanes[slot].splitting
    }

    /// When the oldest batch of the partition was opened.
    pub(crate) fn oldest(&self, slot: Slot) -> Option<Instant> {
        self.lanes[slot].oldest()
    }

    /// Records of the partition here whose callers wait for an outcome.
    pub(crate) fn records(&self, slot: Slot) -> u64 {
        self.lanes[slot].records()
    }

    /// Why the partition's records do not get on, for a person.
    pub(crate) fn stuck(&self, slot: Slot) -> Arc<str> {
        let lane = &self.lanes[slot];
        let Some(leader) = lane.leader else {
            return "the partition has no leader; is its broker down?".into();
        };
        if !lane.in_flight.is_empty() {
            return format!("broker {} has not answered", lane.in_flight_at).into();
        }
        if let Some(reason) = self
            .brokers
            .get(&leader)
            .and_then(|broker| broker.error.as_ref())
        {
            return format!("broker {leader}, its leader, cannot be reached: {reason}").into();
        }
        if self.identity == Identity::Missing {
            let reason = self
                .identity_error
                .as_deref()
                .unwrap_or("it was not asked for yet");
            return format!("no producer id could be obtained: {reason}").into();
        }
        lane.last_error.clone().unwrap_or_else(|| {
            format!("queued for broker {leader}, which is slower than this producer").into()
        })
    }
}

/// Tells the caller, unless that was done already, that nobody knows what becomes of a batch in flight.
fn tell_of_doubt(
    at: &TopicPartition,
    batch: &mut Batch,
    now: Instant,
    stuck: impl FnOnce() -> Arc<str>,
) -> Option<Effect> {
    let resolver = batch.resolver.take()?;
    let doubt = SendError::PossiblyWritten {
        at: at.clone(),
        after: now - batch.opened,
        stuck: stuck(),
    };
    Some(Effect::Tell(resolver, doubt.into()))
}
