//! Which batches make up a broker's next request.

use tokio::time::Instant;

use super::{Effect, Request, SenderCore, Settings, Slot};
use crate::batch::Batch;
use crate::error::SendError;
use crate::identity::Identity;
use crate::sender::lane::{InFlight, Next};

impl SenderCore {
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
    pub(crate) fn supply(&mut self, slot: Slot, batch: Option<Box<Batch>>, more: bool) {
        let lane = &mut self.lanes[slot];
        lane.pulling = false;
        lane.front_ready = std::mem::take(&mut lane.told_while_pulling) || more;
        let purged = lane.purged.take().zip(batch.as_ref());
        let purged = purged.filter(|(at, batch)| batch.opened <= *at);
        let purged = purged.map(|_| &SendError::Purged);
        let ended = self.fatal.as_ref().or(self.gate.bar()).or(purged);
        match (batch, ended) {
            (Some(batch), Some(ended)) => {
                let outcome = ended.clone().into();
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
        let (mut retries, mut acks) = (0, None);
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
            if acks.is_some_and(|acks| acks != lane.acks) {
                lane.rotating_at = Some(broker);
                state.rotation.push_back(slot);
                continue;
            }
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
            retries += usize::from(batch.attempts > 0);
            batch.attempts += 1;
            batch.first_sent.get_or_insert(now);
            if let Some(resolver) = &mut batch.resolver {
                resolver.maybe_sent = true;
            }
            let payload = batch.wire_bytes(self.settings.transactional);
            bytes += payload.len();
            parts.push((slot, payload));
            acks = Some(lane.acks);
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
            self.gate.batch_left();
        }
        if needs_identity {
            self.need_identity();
        }
        let version_max = self.gate.produce_version_max();
        (!parts.is_empty()).then_some(Request {
            id,
            version_max,
            acks: acks.unwrap_or_default(),
            retries,
            parts,
        })
    }

    /// Whether something waits for `broker`: for its answer, or to be sent though nothing more can be now.
    pub(crate) fn is_waiting_for(&self, broker: i32, now: Instant) -> bool {
        let Settings {
            idempotent,
            in_flight_max,
            ..
        } = self.settings;
        self.brokers.get(&broker).is_some_and(|state| {
            let open = |slot: &Slot| {
                let lane = &self.lanes[*slot];
                lane.has_work() && lane.is_open(broker, now, idempotent, in_flight_max)
            };
            state.in_flight > 0 || state.rotation.iter().any(open)
        })
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
}
