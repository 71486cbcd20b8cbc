//! What a broker's answer, or that there is none, means for the batches of a request.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Effect, Failure, SenderCore, Slot};
use crate::batch::Batch;
use crate::delivery::{Outcome, Written};
use crate::error::SendError;
use crate::sender::lane::Lane;
use crate::sender::verdict::Verdict;

impl SenderCore {
    /// The broker's answer for one partition of a request. `random` in `0.0..1.0` spreads retries.
    pub(crate) fn answered(
        &mut self,
        broker: i32,
        request: u64,
        slot: Slot,
        answer: Answer,
        now: Instant,
        random: f64,
    ) {
        let lane = &mut self.lanes[slot];
        let Some(mut batch) = take_flying(lane, request) else {
            return; // Answered twice: the first time counts.
        };
        let head = lane.is_head(batch.place);
        let current = lane.is_current(batch.stamp, self.identity);
        let identity = batch.stamp.map(|stamp| stamp.identity);
        batch.last_error = answer.code.is_err().then(|| said(broker, &answer));
        let verdict = match Verdict::of(answer.code) {
            // The epoch is the coordinator's to bump: an abort mends what a bump of our own would.
            Verdict::OutOfOrder | Verdict::UnknownProducer
                if head && self.settings.transactional =>
            {
                Verdict::Refused
            }
            Verdict::ForeignIdentity if self.settings.transactional => Verdict::Refused,
            verdict => verdict,
        };
        match verdict {
            Verdict::Written => {
                lane.succeeded(batch.stamp, head);
                let outcome = Outcome::Written(Written {
                    base_offset: answer.base_offset,
                    append_time: answer.append_time,
                    latency: now - batch.opened,
                    queued: batch
                        .first_sent
                        .map_or(Duration::ZERO, |sent| sent - batch.opened),
                    attempts: batch.attempts,
                });
                self.effects.push(Effect::Settle(batch, outcome));
            }
            Verdict::Retry { maybe_written } => {
                batch.maybe_written |= maybe_written;
                let for_leader = answer.code.refreshes_metadata();
                self.retry(broker, slot, batch, for_leader, now, random);
            }
            Verdict::OutOfOrder | Verdict::UnknownProducer
                if batch.stamp.is_some()
                    && batch.resets < RESETS_MAX
                    && !(batch.maybe_written && lane.may_be_outrun()) =>
            {
                batch.maybe_written = false;
                lane.failed();
                if head && let Some(identity) = identity {
                    if !lane.may_be_outrun() {
                        lane.clear_doubt(identity);
                    }
                    // Out of order in front of everything else: the log lost what came before, or
                    // retention deleted it. Under another epoch the broker expects no past.
                    if current {
                        batch.resets += 1;
                        self.identity.bump(identity);
                    }
                    // It goes out as it is until what is in doubt has run out of time: not as fast as it is refused.
                    if lane.may_be_outrun() {
                        let until = now + self.settings.backoff.delay(batch.attempts, random);
                        lane.mute(until, false);
                        if let Some(leader) = lane.leader {
                            self.broker(leader).timers.push(Reverse((until, slot)));
                        }
                    }
                }
                self.put_back(slot, batch, now);
            }
            Verdict::ForeignIdentity
                if batch.stamp.is_some() && batch.resets < RESETS_MAX && !batch.maybe_written =>
            {
                lane.failed();
                if let Some(identity) = identity {
                    batch.resets += 1;
                    self.identity.forget(identity);
                }
                self.put_back(slot, batch, now);
            }
            // Pieces of a batch that an earlier attempt may have written would not be recognised.
            Verdict::TooLarge
                if batch.records > 1 && batch.resolver.is_some() && !batch.maybe_written =>
            {
                lane.failed();
                lane.splitting = true;
                self.effects.push(Effect::Split(slot, batch));
            }
            Verdict::TooLarge => {
                let error = SendError::RecordTooLarge {
                    topic: lane.at.topic.clone(),
                    size: batch.len(),
                    limit: "the broker's message.max.bytes or the topic's max.message.bytes".into(),
                };
                self.give_up(slot, batch, error, Vec::new(), now);
            }
            verdict => {
                if verdict == Verdict::ForeignIdentity
                    && let Some(identity) = identity
                {
                    self.identity.forget(identity);
                }
                let error = SendError::Refused {
                    at: lane.at.clone(),
                    broker,
                    code: answer.code,
                    detail: answer.message.clone(),
                };
                let topic = &lane.at.topic;
                let blame = |(index, problem): &(u32, Arc<str>)| {
                    let (topic, problem) = (topic.clone(), problem.clone());
                    (*index, SendError::InvalidRecord { topic, problem })
                };
                let blamed = answer.blamed.iter().map(blame).collect();
                self.give_up(slot, batch, error, blamed, now);
            }
        }
        self.lanes[slot].landed();
        self.touch(slot);
    }

    /// All partitions of a request were answered.
    pub(crate) fn request_done(&mut self, broker: i32) {
        let state = self.broker(broker);
        state.in_flight = state.in_flight.saturating_sub(1);
        state.error = None;
        self.tell_drained();
    }

    /// The request to `broker` failed as a whole.
    pub(crate) fn failed(
        &mut self,
        broker: i32,
        request: u64,
        slots: impl IntoIterator<Item = Slot>,
        failure: &Failure,
        now: Instant,
        random: f64,
    ) {
        for slot in slots {
            let lane = &mut self.lanes[slot];
            let Some(mut batch) = take_flying(lane, request) else {
                continue;
            };
            batch.last_error = Some(failure.reason.clone());
            batch.maybe_written |= failure.maybe_sent;
            self.retry(broker, slot, batch, true, now, random);
            self.lanes[slot].landed();
            self.touch(slot);
        }
        let state = self.broker(broker);
        state.in_flight = state.in_flight.saturating_sub(1);
        self.tell_drained();
    }

    /// The pieces of a batch that was too large; none if its way ended instead.
    pub(crate) fn split_done(&mut self, slot: Slot, pieces: Vec<Batch>) {
        let lane = &mut self.lanes[slot];
        lane.splitting = false;
        if pieces.is_empty() {
            lane.lost_sequences();
        }
        let purged = lane.purged.map(|_| SendError::Purged);
        match self.gate.bar().cloned().or(purged) {
            None => {
                for piece in pieces {
                    lane.push_back_in_place(Box::new(piece));
                }
            }
            Some(ended) => {
                lane.lost_sequences();
                for piece in pieces {
                    self.effects
                        .push(Effect::Settle(Box::new(piece), ended.clone().into()));
                }
            }
        }
        self.touch(slot);
    }

    pub(super) fn retry(
        &mut self,
        broker: i32,
        slot: Slot,
        batch: Box<Batch>,
        for_leader: bool,
        now: Instant,
        random: f64,
    ) {
        let lane = &mut self.lanes[slot];
        lane.failed();
        lane.last_error = batch.last_error.clone();
        let until = now + self.settings.backoff.delay(batch.attempts, random);
        if batch.attempts > self.settings.retries {
            let error = SendError::TimedOut {
                at: lane.at.clone(),
                after: now - batch.opened,
                stuck: format!(
                    "{} attempts failed (retries), the last: {}",
                    batch.attempts,
                    batch.last_error.as_deref().unwrap_or("unknown")
                )
                .into(),
            };
            return self.give_up(slot, batch, error, Vec::new(), now);
        }
        // A new leader is known already: there is nothing to wait for.
        if !for_leader || lane.leader.is_none_or(|leader| leader == broker) {
            lane.mute(until, for_leader);
            if let Some(leader) = lane.leader {
                self.broker(leader).timers.push(Reverse((until, slot)));
            }
        }
        self.put_back(slot, batch, now);
    }

    /// Queues a batch again, unless its caller was told already or its time is up.
    pub(super) fn put_back(&mut self, slot: Slot, batch: Box<Batch>, now: Instant) {
        if let Some(ended) = self.fatal.as_ref().or(self.gate.bar()).cloned() {
            return self.give_up(slot, batch, ended, Vec::new(), now);
        }
        let lane = &mut self.lanes[slot];
        let unwanted = batch.resolver.is_none() && !batch.silent;
        if unwanted || batch.opened + lane.delivery_timeout <= now {
            let stuck = batch
                .last_error
                .clone()
                .unwrap_or_else(|| "no answer".into());
            let (at, after) = (lane.at.clone(), now - batch.opened);
            let error = SendError::TimedOut { at, after, stuck };
            return self.give_up(slot, batch, error, Vec::new(), now);
        }
        lane.push_back_in_place(batch);
    }

    /// Ends a batch's way with `error`, or with doubt when an attempt may have written it.
    pub(super) fn give_up(
        &mut self,
        slot: Slot,
        batch: Box<Batch>,
        error: SendError,
        blamed: Vec<(u32, SendError)>,
        now: Instant,
    ) {
        let lane = &mut self.lanes[slot];
        lane.abandoned(batch.stamp, batch.maybe_written);
        let gap = (self.settings.gapless && leaves_a_gap(&error)).then(|| {
            format!("enable.gapless.guarantee: records before the next were lost: {error}").into()
        });
        let outcome = if batch.maybe_written {
            let stuck = match &error {
                SendError::TimedOut { stuck, .. } => stuck.clone(),
                other => other.to_string().into(),
            };
            let (at, after) = (lane.at.clone(), now - batch.opened);
            SendError::PossiblyWritten { at, after, stuck }.into()
        } else {
            Outcome::Failed {
                error,
                records: blamed,
            }
        };
        self.effects.push(Effect::Settle(batch, outcome));
        if let Some(reason) = gap
            && self.fatal.is_none()
        {
            self.effects.push(Effect::Fail(SendError::Fatal { reason }));
        }
        self.doom(now);
    }
}

/// What `enable.gapless.guarantee` does not forgive. As in librdkafka, time that ran out is not among it, nor
/// what the program itself gave up.
fn leaves_a_gap(error: &SendError) -> bool {
    !matches!(
        error,
        SendError::TimedOut { .. }
            | SendError::PossiblyWritten { .. }
            | SendError::Purged
            | SendError::TransactionEnded { .. }
            | SendError::Closed
    )
}

fn take_flying(lane: &mut Lane, request: u64) -> Option<Box<Batch>> {
    let at = lane
        .in_flight
        .iter()
        .position(|flying| flying.request == request)?;
    lane.in_flight.remove(at).map(|flying| flying.batch)
}

fn said(broker: i32, answer: &Answer) -> Arc<str> {
    match &answer.message {
        Some(message) => format!("broker {broker} answered {}: {message}", answer.code).into(),
        None => format!("broker {broker} answered {}", answer.code).into(),
    }
}

/// How often one batch may get new sequences before the broker's answer is believed.
const RESETS_MAX: u32 = 5;
