//! Which batches go to which broker, and what its answers mean: the state machine of the sending side.
//!
//! Events and the time go in, requests and outcomes come out; no task, socket, clock, lock or random
//! source inside. Work per event is proportional to the lanes that are ready, not to those that exist.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ottla_net::Backoff;
use ottla_wire::{Bytes, ErrorCode};
use tokio::time::Instant;

use super::lane::{InFlight, Lane, Next};
use super::verdict::Verdict;
use crate::batch::Batch;
use crate::delivery::{Outcome, Resolver, Written};
use crate::error::{SendError, TopicPartition};
use crate::identity::{Identity, ProducerIdentity};

/// A partition's number within one producer.
pub(crate) type Slot = usize;

/// The settings that matter here.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) idempotent: bool,
    pub(crate) in_flight_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) retries: u32,
    pub(crate) backoff: Backoff,
    pub(crate) delivery_timeout: Duration,
}

/// A Produce request to build and send.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) parts: Vec<(Slot, Bytes)>,
}

/// What a broker says of one partition of a request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) code: ErrorCode,
    pub(crate) message: Option<Arc<str>>,
    pub(crate) base_offset: i64,
    pub(crate) append_time: i64,
    /// The records it blames, by index in the batch.
    pub(crate) blamed: Vec<(u32, Arc<str>)>,
}

/// A request without an answer.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// The broker may have carried it out.
    pub(crate) maybe_sent: bool,
    pub(crate) reason: Arc<str>,
}

/// Something to do outside the core's lock.
#[derive(Debug)]
pub(crate) enum Effect {
    /// The batch's way ends here.
    Settle(Batch, Outcome),
    /// The caller learns this; the batch itself is still with a broker.
    Tell(Resolver, Outcome),
    /// Cut the batch in pieces, and bring them back with [`SenderCore::split_done`].
    Split(Slot, Batch),
    /// The broker's sender has something to do.
    Wake(i32),
    /// A producer id is needed: see [`SenderCore::identity_obtained`].
    NeedIdentity,
    /// Partitions with records have no leader: see [`SenderCore::seeks_leaders`].
    SeekLeaders,
}

#[derive(Debug)]
pub(crate) struct SenderCore {
    settings: Settings,
    identity: Identity,
    identity_asked: bool,
    fatal: Option<SendError>,
    lanes: Vec<Lane>,
    brokers: HashMap<i32, Broker>,
    /// Lanes with work and without a leader.
    homeless: HashSet<Slot>,
    next_request: u64,
    effects: Vec<Effect>,
    /// Why there is no producer id yet.
    identity_error: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct Broker {
    /// Lanes that may have something to send here, each once; the next to be served in front.
    rotation: VecDeque<Slot>,
    /// Requests without an answer.
    in_flight: usize,
    /// Lanes that are muted, by the end of their mute.
    timers: BinaryHeap<Reverse<(Instant, Slot)>>,
    /// Why it cannot be reached.
    error: Option<Arc<str>>,
}

impl SenderCore {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            identity: if settings.idempotent {
                Identity::Missing
            } else {
                Identity::Unused
            },
            identity_asked: false,
            fatal: None,
            lanes: Vec::new(),
            brokers: HashMap::new(),
            homeless: HashSet::new(),
            next_request: 1,
            effects: Vec::new(),
            identity_error: None,
            settings,
        }
    }

    /// What is to be done now, in order. To be asked for after every other call.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn add_partition(&mut self, at: TopicPartition) -> Slot {
        self.lanes.push(Lane::new(at));
        self.lanes.len() - 1
    }

    /// The partition is led by `leader` in `epoch`, or by nobody. Older news is ignored.
    pub(crate) fn set_leader(&mut self, slot: Slot, leader: Option<i32>, epoch: i32) {
        let lane = &mut self.lanes[slot];
        if epoch < lane.leader_epoch || (lane.leader == leader && epoch == lane.leader_epoch) {
            return;
        }
        lane.leader_epoch = epoch;
        lane.leader = leader;
        if leader.is_some() {
            self.homeless.remove(&slot);
        }
        if let Some(until) = lane.muted_until {
            match leader {
                // Whom to ask is known again; there is nothing left to wait for.
                Some(_) if lane.muted_for_leader => lane.muted_until = None,
                Some(broker) => self.broker(broker).timers.push(Reverse((until, slot))),
                None => {}
            }
        }
        self.touch(slot);
    }

    /// The topic was made anew: its log knows nothing of this producer.
    pub(crate) fn forget_log(&mut self, slot: Slot) {
        let lane = &mut self.lanes[slot];
        lane.leader_epoch = -1;
        lane.failed();
        lane.landed();
    }

    /// The accumulator has something for this partition.
    pub(crate) fn front_ready(&mut self, slot: Slot) {
        let lane = &mut self.lanes[slot];
        lane.front_ready = true;
        lane.told_while_pulling = lane.pulling;
        self.touch(slot);
    }

    /// Lanes whose next batch should be taken from the accumulator, as many as may fill one request to
    /// `broker`. Each must be [supplied](Self::supply).
    pub(crate) fn wanted(&mut self, broker: i32, now: Instant, out: &mut Vec<Slot>) {
        self.unmute(broker, now);
        let Some(state) = self.brokers.get(&broker) else {
            return;
        };
        if state.in_flight >= self.settings.in_flight_max || state.rotation.is_empty() {
            return;
        }
        if self.identity == Identity::Missing {
            self.need_identity();
            return;
        }
        let Settings {
            idempotent,
            in_flight_max,
            ..
        } = self.settings;
        let mut bytes = 0;
        for slot in &state.rotation {
            let lane = &mut self.lanes[*slot];
            if !lane.is_open(broker, now, idempotent, in_flight_max) || lane.pulling {
                continue;
            }
            bytes += match lane.queue.front() {
                Some(head) => head.len(),
                None if lane.front_ready => {
                    lane.pulling = true;
                    out.push(*slot);
                    lane.typical_len
                }
                None => 0,
            };
            if bytes >= self.settings.request_bytes_max {
                break;
            }
        }
    }

    /// What the accumulator had: a batch or none, and whether there is `more` right now.
    pub(crate) fn supply(&mut self, slot: Slot, batch: Option<Batch>, more: bool) {
        let lane = &mut self.lanes[slot];
        lane.pulling = false;
        lane.front_ready = std::mem::take(&mut lane.told_while_pulling) || more;
        match (batch, &self.fatal) {
            (Some(batch), Some(fatal)) => {
                let outcome = fatal.clone().into();
                self.effects.push(Effect::Settle(batch, outcome));
            }
            (Some(batch), None) => lane.push_new(batch),
            (None, _) => {}
        }
        self.touch(slot);
    }

    /// The next request for `broker`, if it has room for one and something is ready. The answer, or that there is none, must be
    /// reported by [`answered`](Self::answered) for every part and
    /// [`request_done`](Self::request_done), or by [`failed`](Self::failed).
    pub(crate) fn next_request(&mut self, broker: i32, now: Instant) -> Option<Request> {
        let Settings {
            idempotent,
            in_flight_max,
            request_bytes_max,
            ..
        } = self.settings;
        let id = self.next_request;
        let state = self.brokers.get_mut(&broker)?;
        if state.in_flight >= in_flight_max {
            return None;
        }
        let (mut parts, mut bytes, mut needs_identity) = (Vec::new(), 0, false);
        for _ in 0..state.rotation.len() {
            let Some(slot) = state.rotation.pop_front() else {
                break;
            };
            let lane = &mut self.lanes[slot];
            if lane.rotating_at != Some(broker) || lane.last_request == id {
                continue; // Rotates elsewhere by now; or was entered twice.
            }
            lane.rotating_at = None;
            if !lane.is_open(broker, now, idempotent, in_flight_max) {
                continue; // What opens it again brings it back.
            }
            let Some(head) = lane.queue.front() else {
                if lane.front_ready || lane.pulling {
                    lane.rotating_at = Some(broker);
                    if !parts.is_empty() && !lane.pulling {
                        // Those before it fill this request; it is the next one's first.
                        state.rotation.push_front(slot);
                        break;
                    }
                    state.rotation.push_back(slot);
                }
                continue;
            };
            if !parts.is_empty() && bytes + head.len() > request_bytes_max {
                lane.rotating_at = Some(broker);
                state.rotation.push_front(slot);
                break;
            }
            match lane.prepare_head(&mut self.identity) {
                Next::Send => {}
                Next::Wait => continue,
                Next::NeedsIdentity => {
                    needs_identity = true;
                    continue;
                }
            }
            let Some(mut batch) = lane.queue.pop_front() else {
                continue;
            };
            batch.attempts += 1;
            if let Some(resolver) = &mut batch.resolver {
                resolver.maybe_sent = true;
            }
            let (batch, payload) = batch.wire_bytes();
            bytes += payload.len();
            parts.push((slot, payload));
            lane.in_flight.push_back(InFlight { request: id, batch });
            lane.in_flight_at = broker;
            lane.last_request = id;
            if lane.has_work() {
                lane.rotating_at = Some(broker);
                state.rotation.push_back(slot);
            }
        }
        if !parts.is_empty() {
            state.in_flight += 1;
            self.next_request += 1;
        }
        if needs_identity {
            self.need_identity();
        }
        (!parts.is_empty()).then_some(Request { id, parts })
    }

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
        match Verdict::of(answer.code) {
            Verdict::Written => {
                lane.succeeded(batch.stamp, head);
                let outcome = Outcome::Written(Written {
                    base_offset: answer.base_offset,
                    append_time: answer.append_time,
                    latency: now - batch.opened,
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
    }

    /// The pieces of a batch that was too large; none if its way ended instead.
    pub(crate) fn split_done(&mut self, slot: Slot, pieces: Vec<Batch>) {
        let lane = &mut self.lanes[slot];
        lane.splitting = false;
        if pieces.is_empty() {
            lane.lost_sequences();
        }
        for piece in pieces {
            lane.push_back_in_place(piece);
        }
        self.touch(slot);
    }

    /// `broker` cannot be reached, for `reason`; or can again.
    pub(crate) fn set_broker_error(&mut self, broker: i32, reason: Option<Arc<str>>) {
        self.broker(broker).error = reason;
    }

    /// Whether records wait for a partition to get a leader.
    pub(crate) fn seeks_leaders(&mut self) -> bool {
        let lanes = &self.lanes;
        self.homeless.retain(|slot| lanes[*slot].has_work());
        !self.homeless.is_empty()
    }

    /// The connections are gone, and nobody waits for answers.
    pub(crate) fn forget_in_flight(&mut self) {
        for lane in &mut self.lanes {
            lane.in_flight.clear();
        }
    }

    pub(crate) fn identity_obtained(&mut self, identity: ProducerIdentity) {
        self.identity_asked = false;
        self.identity_error = None;
        if self.identity == Identity::Missing {
            self.identity = Identity::Known(identity);
        }
        for slot in 0..self.lanes.len() {
            self.touch(slot);
        }
    }

    /// No producer id yet, for `reason`; it is being asked for again.
    pub(crate) fn identity_delayed(&mut self, reason: Arc<str>) {
        self.identity_error = Some(reason);
    }

    /// Nothing can be sent any more: what waits is settled with `error`, what is in flight is in doubt.
    pub(crate) fn fail(&mut self, error: SendError, now: Instant) {
        for lane in &mut self.lanes {
            for flying in &mut lane.in_flight {
                if let Some(resolver) = flying.batch.resolver.take() {
                    let doubt = SendError::PossiblyWritten {
                        at: lane.at.clone(),
                        after: now - flying.batch.opened,
                        stuck: format!("{error} before broker {} answered", lane.in_flight_at)
                            .into(),
                    };
                    self.effects.push(Effect::Tell(resolver, doubt.into()));
                }
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

    /// Why nothing can be sent any more.
    pub(crate) fn fatal(&self) -> Option<&SendError> {
        self.fatal.as_ref()
    }

    /// Reports batches of the partition that have used up their time.
    pub(crate) fn expire(&mut self, slot: Slot, now: Instant) {
        let timeout = self.settings.delivery_timeout;
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
        for flying in &mut lane.in_flight {
            let batch = &mut flying.batch;
            if batch.opened + timeout <= now
                && let Some(resolver) = batch.resolver.take()
            {
                let error = SendError::PossiblyWritten {
                    at: lane.at.clone(),
                    after: now - batch.opened,
                    stuck: stuck.clone(),
                };
                self.effects.push(Effect::Tell(resolver, error.into()));
            }
        }
        self.touch(slot);
    }

    /// Whether a batch of the partition is neither here nor in the accumulator at the moment.
    pub(crate) fn is_between(&self, slot: Slot) -> bool {
        self.lanes[slot].pulling || self.lanes[slot].splitting
    }

    /// Whether [`wanted`](Self::wanted) or [`next_request`](Self::next_request) may find something.
    pub(crate) fn may_send(&mut self, broker: i32, now: Instant) -> bool {
        self.unmute(broker, now);
        let Settings {
            idempotent,
            in_flight_max,
            ..
        } = self.settings;
        let Some(state) = self.brokers.get(&broker) else {
            return false;
        };
        let open = |slot: &Slot| self.lanes[*slot].is_open(broker, now, idempotent, in_flight_max);
        let ready = state.in_flight < in_flight_max && state.rotation.iter().any(open);
        if ready && self.identity == Identity::Missing {
            self.need_identity();
            return false;
        }
        ready
    }

    /// When the oldest batch of the partition was opened.
    pub(crate) fn oldest(&self, slot: Slot) -> Option<Instant> {
        self.lanes[slot].oldest()
    }

    /// Records of the partition here whose callers wait for an outcome.
    pub(crate) fn records(&self, slot: Slot) -> u64 {
        self.lanes[slot].records()
    }

    /// When `broker` may have something to do though nothing else happens.
    pub(crate) fn next_timeout(&self, broker: i32) -> Option<Instant> {
        self.brokers
            .get(&broker)?
            .timers
            .peek()
            .map(|Reverse((at, _))| *at)
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

    fn retry(
        &mut self,
        broker: i32,
        slot: Slot,
        batch: Batch,
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
    fn put_back(&mut self, slot: Slot, batch: Batch, now: Instant) {
        if let Some(fatal) = self.fatal.clone() {
            return self.give_up(slot, batch, fatal, Vec::new(), now);
        }
        let lane = &mut self.lanes[slot];
        if batch.resolver.is_none() || batch.opened + self.settings.delivery_timeout <= now {
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
    fn give_up(
        &mut self,
        slot: Slot,
        batch: Batch,
        error: SendError,
        blamed: Vec<(u32, SendError)>,
        now: Instant,
    ) {
        let lane = &mut self.lanes[slot];
        lane.abandoned(batch.stamp, batch.maybe_written);
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
    }

    /// Enters a lane with work in its leader's rotation, and has the leader's sender look: also when it is in
    /// there already, for what kept it waiting may be over.
    fn touch(&mut self, slot: Slot) {
        let lane = &mut self.lanes[slot];
        if !lane.has_work() {
            return;
        }
        let Some(leader) = lane.leader else {
            if self.homeless.insert(slot) {
                self.effects.push(Effect::SeekLeaders);
            }
            return;
        };
        if lane.rotating_at != Some(leader) {
            lane.rotating_at = Some(leader);
            self.broker(leader).rotation.push_back(slot);
        }
        if !matches!(self.effects.last(), Some(Effect::Wake(last)) if *last == leader) {
            self.effects.push(Effect::Wake(leader));
        }
    }

    fn unmute(&mut self, broker: i32, now: Instant) {
        let Some(state) = self.brokers.get_mut(&broker) else {
            return;
        };
        let mut over = Vec::new();
        while let Some(Reverse((at, slot))) = state.timers.peek().copied()
            && at <= now
        {
            state.timers.pop();
            let lane = &mut self.lanes[slot];
            match lane.muted_until {
                Some(until) if until <= now => {
                    lane.muted_until = None;
                    over.push(slot);
                }
                Some(until) if lane.leader == Some(broker) && until != at => {
                    state.timers.push(Reverse((until, slot)));
                }
                _ => {}
            }
        }
        over.into_iter().for_each(|slot| self.touch(slot));
    }

    fn need_identity(&mut self) {
        if !std::mem::replace(&mut self.identity_asked, true) {
            self.effects.push(Effect::NeedIdentity);
        }
    }

    fn broker(&mut self, broker: i32) -> &mut Broker {
        self.brokers.entry(broker).or_default()
    }
}

fn take_flying(lane: &mut Lane, request: u64) -> Option<Batch> {
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
