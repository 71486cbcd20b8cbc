//! Which batches go to which broker, and what its answers mean: the state machine of the sending side.
//!
//! Events and the time go in, requests and outcomes come out; no task, socket, clock, lock or random
//! source inside. Work per event is proportional to the lanes that are ready, not to those that exist.

mod answers;
mod ending;
mod gate;
mod requests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ottla_net::Backoff;
use ottla_wire::{Bytes, ErrorCode};
use tokio::time::Instant;

use self::gate::Gate;
use super::lane::{Lane, Membership};
use crate::batch::Batch;
use crate::config::Acks;
use crate::delivery::{Outcome, Resolver};
use crate::error::{SendError, TopicPartition};
use crate::identity::{Identity, ProducerIdentity};

pub(crate) use self::gate::Protocol;

/// A partition's number within one producer.
pub(crate) type Slot = usize;

/// The settings that matter here.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) idempotent: bool,
    pub(crate) transactional: bool,
    pub(crate) in_flight_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) retries: u32,
    pub(crate) backoff: Backoff,
    /// `enable.gapless.guarantee`.
    pub(crate) gapless: bool,
}

/// A Produce request to build and send.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    /// The highest version of Produce it may go out in.
    pub(crate) version_max: i16,
    /// Of all parts the same.
    pub(crate) acks: Acks,
    /// Parts that were sent before.
    pub(crate) retries: usize,
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
    Settle(Box<Batch>, Outcome),
    /// The caller learns this; the batch itself is still with a broker.
    Tell(Resolver, Outcome),
    /// Cut the batch in pieces, and bring them back with [`SenderCore::split_done`].
    Split(Slot, Box<Batch>),
    /// The producer can send no more.
    Fail(SendError),
    /// The broker's sender has something to do.
    Wake(i32),
    /// A producer id is needed: see [`SenderCore::identity_obtained`].
    NeedIdentity,
    /// Partitions with records have no leader: see [`SenderCore::seeks_leaders`].
    SeekLeaders,
    /// Partitions with records are not in the transaction yet: see [`SenderCore::take_outside`].
    AddPartitions,
    /// While barred: nothing is in flight any more.
    Drained,
}

#[derive(Debug)]
pub(crate) struct SenderCore {
    settings: Settings,
    identity: Identity,
    identity_asked: bool,
    fatal: Option<SendError>,
    /// What the open transaction lets pass.
    gate: Gate,
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
            gate: Gate::default(),
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

    pub(crate) fn add_partition(
        &mut self,
        at: TopicPartition,
        acks: Acks,
        delivery_timeout: Duration,
    ) -> Slot {
        let mut lane = Lane::new(at, acks, delivery_timeout);
        lane.membership = self.gate.membership();
        self.lanes.push(lane);
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

    /// When `broker` may have something to do though nothing else happens.
    pub(crate) fn next_timeout(&self, broker: i32) -> Option<Instant> {
        self.brokers
            .get(&broker)?
            .timers
            .peek()
            .map(|Reverse((at, _))| *at)
    }

    /// Enters a lane with work in its leader's rotation, and has the leader's sender look: also when it is in
    /// there already, for what kept it waiting may be over.
    fn touch(&mut self, slot: Slot) {
        let lane = &mut self.lanes[slot];
        if !lane.has_work() {
            return;
        }
        if lane.membership == Membership::Outside && self.gate.bar().is_none() {
            lane.membership = Membership::Entering;
            if self.gate.wants(slot) {
                self.effects.push(Effect::AddPartitions);
            }
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
