//! The core against model brokers under random faults: what it promises, checked over many histories.
//!
//! Faults: answers lost with the connection, requests lost, requests that a broker carries out long after the connection
//! is gone, errors before and after writing, leader moves that the client learns late, batches too
//! large, refused batches, delivery timeouts, lost producer state.

#[path = "../../tests/model/mod.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "shared with the tests of the whole producer"
)]
mod model;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fastrand::Rng;
use ottla_net::Backoff;
use ottla_wire::compress::{Compressor, Decompressor};
use ottla_wire::record::{BatchWriter, Batches, NewRecord, SealOptions, next_sequence, split};
use ottla_wire::{Bytes, ErrorCode};
use tokio::time::Instant;

use self::model::PartitionLog;
use super::core::{Answer, Effect, Failure, SenderCore, Settings, Slot};
use crate::batch::{Batch, Payload, Stamp};
use crate::budget::Budget;
use crate::buffers::Buffers;
use crate::config::Acks;
use crate::delivery::{Delivery, Outcome, Resolver};
use crate::error::{SendError, TopicPartition};
use crate::identity::ProducerIdentity;
use crate::outstanding::Outstanding;

const PARTITIONS: usize = 3;
const BROKERS: i32 = 2;
const TIMEOUT: Duration = Duration::from_secs(3);

struct World {
    rng: Rng,
    core: SenderCore,
    now: Instant,
    logs: Vec<PartitionLog>,
    /// Who leads, really; with the epoch.
    leaders: Vec<(i32, i32)>,
    fronts: Vec<VecDeque<Box<Batch>>>,
    /// Per broker: requests it has not read, and answers the client has not.
    networks: Vec<Network>,
    /// Requests of ended connections that their broker may still carry out.
    zombies: Vec<(i32, Vec<(Slot, Bytes)>)>,
    next_producer_id: i64,
    next_value: u64,
    sent: Vec<Vec<(u64, Delivery)>>,
    budget: Arc<Budget>,
    outstanding: Arc<Outstanding>,
    buffers: Buffers,
    faulty: bool,
    /// Batches with more records than this are too large.
    records_max: usize,
}

#[derive(Default)]
struct Network {
    requests: VecDeque<(u64, Vec<(Slot, Bytes)>)>,
    answers: VecDeque<(u64, Vec<(Slot, Answer)>)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut core = SenderCore::new(Settings {
            idempotent: true,
            transactional: false,
            in_flight_max: 5,
            request_bytes_max: 400,
            retries: u32::MAX,
            backoff: Backoff::new(Duration::from_millis(10), Duration::from_millis(100)),
            gapless: false,
        });
        for partition in 0..PARTITIONS {
            let at = TopicPartition {
                topic: "t".into(),
                partition: partition as i32,
            };
            let slot = core.add_partition(at, Acks::All, TIMEOUT);
            core.set_leader(slot, Some(slot as i32 % BROKERS), 0);
        }
        Self {
            rng: Rng::with_seed(seed),
            core,
            now: Instant::now(),
            logs: vec![PartitionLog::default(); PARTITIONS],
            leaders: (0..PARTITIONS)
                .map(|slot| (slot as i32 % BROKERS, 0))
                .collect(),
            fronts: (0..PARTITIONS).map(|_| VecDeque::new()).collect(),
            networks: (0..BROKERS).map(|_| Network::default()).collect(),
            zombies: Vec::new(),
            next_producer_id: 1,
            next_value: 0,
            sent: (0..PARTITIONS).map(|_| Vec::new()).collect(),
            budget: Budget::new(1 << 20),
            outstanding: Arc::default(),
            buffers: Buffers::new(0),
            faulty: true,
            records_max: 6,
        }
    }

    fn step(&mut self) {
        let broker = self.rng.i32(0..BROKERS);
        if self.rng.u32(..300) == 0 {
            self.purge();
        }
        match self.rng.u32(..100) {
            0..25 => self.send(),
            25..45 => self.tick(broker),
            45..65 => self.serve(broker),
            65..82 => self.answer(broker),
            82..86 => self.disconnect(broker),
            86..89 => self.serve_zombie(),
            89..91 => self.move_leader(),
            91..95 => self.tell_leaders(),
            rare => {
                let most = if rare < 99 { 200 } else { 2000 };
                let time = Duration::from_millis(self.rng.u64(1..most));
                self.pass(time);
            }
        }
    }

    fn send(&mut self) {
        let slot = self.rng.usize(..PARTITIONS);
        let at = TopicPartition {
            topic: "t".into(),
            partition: slot as i32,
        };
        let resolver = Resolver::new(at, &Arc::default(), &self.outstanding);
        let mut writer = BatchWriter::new(BytesMut::new());
        for _ in 0..self.rng.u32(1..9) {
            let value = self.next_value.to_be_bytes();
            let record = NewRecord {
                timestamp: 0,
                key: None,
                value: Some(&value),
                headers: &[],
            };
            let index = writer.append(&record).unwrap() as u32;
            let delivery = Delivery::new(resolver.ticket().clone(), index, 0);
            self.sent[slot].push((self.next_value, delivery));
            self.next_value += 1;
        }
        let sealed = writer
            .seal(&SealOptions::default(), &mut Compressor::default())
            .unwrap();
        let memory = self.budget.try_reserve(1).unwrap();
        self.fronts[slot].push_back(Batch::new(sealed, resolver, memory, self.now));
        self.core.front_ready(slot);
        self.effects();
    }

    fn tick(&mut self, broker: i32) {
        let mut wanted = Vec::new();
        if self.core.may_send(broker, self.now) {
            self.core.wanted(broker, self.now, &mut wanted);
        }
        for slot in wanted {
            let batch = self.fronts[slot].pop_front();
            self.core.supply(slot, batch, !self.fronts[slot].is_empty());
        }
        if let Some(request) = self.core.next_request(broker, self.now) {
            let mut slots: Vec<Slot> = request.parts.iter().map(|(slot, _)| *slot).collect();
            slots.sort_unstable();
            slots.dedup();
            assert_eq!(
                slots.len(),
                request.parts.len(),
                "one batch per partition and request"
            );
            self.networks[broker as usize]
                .requests
                .push_back((request.id, request.parts));
        }
        self.effects();
    }

    fn serve(&mut self, broker: i32) {
        if let Some((id, parts)) = self.networks[broker as usize].requests.pop_front() {
            let answers = self.carry_out(broker, &parts);
            self.networks[broker as usize]
                .answers
                .push_back((id, answers));
        }
    }

    fn carry_out(&mut self, broker: i32, parts: &[(Slot, Bytes)]) -> Vec<(Slot, Answer)> {
        let mut answers = Vec::new();
        for (slot, bytes) in parts {
            let (code, base_offset) = if self.leaders[*slot].0 != broker {
                (ErrorCode::NOT_LEADER_OR_FOLLOWER, -1)
            } else {
                self.append(*slot, bytes)
            };
            let answer = Answer {
                code,
                message: None,
                base_offset,
                append_time: -1,
                blamed: Vec::new(),
            };
            answers.push((*slot, answer));
        }
        answers
    }

    fn append(&mut self, slot: Slot, bytes: &Bytes) -> (ErrorCode, i64) {
        let log = &mut self.logs[slot];
        let batch = Batches::new(bytes.clone()).next().unwrap().unwrap();
        if batch.header().record_count().unwrap() as usize > self.records_max {
            return (ErrorCode::MESSAGE_TOO_LARGE, -1);
        }
        match self.rng.u32(0..if self.faulty { 100 } else { 1_000_000 }) {
            0..4 if self.faulty => (ErrorCode::NOT_ENOUGH_REPLICAS, -1),
            4..6 if self.faulty => (ErrorCode::INVALID_RECORD, -1),
            6..9 if self.faulty => {
                log.append(bytes);
                (ErrorCode::REQUEST_TIMED_OUT, -1)
            }
            9..11 if self.faulty => {
                log.append(bytes);
                (ErrorCode::NOT_LEADER_OR_FOLLOWER, -1)
            }
            _ => log.append(bytes),
        }
    }

    fn answer(&mut self, broker: i32) {
        if let Some((id, answers)) = self.networks[broker as usize].answers.pop_front() {
            for (slot, answer) in answers {
                let random = self.rng.f64();
                self.core
                    .answered(broker, id, slot, answer, self.now, random);
            }
            self.core.request_done(broker);
            self.effects();
        }
    }

    /// The connection ends: all answers are lost; what the broker has not read may be lost, or carried out later.
    fn disconnect(&mut self, broker: i32) {
        let network = std::mem::take(&mut self.networks[broker as usize]);
        let failure = Failure {
            maybe_sent: true,
            reason: "disconnected".into(),
        };
        let answered = network.answers.into_iter().map(|(id, parts)| {
            (
                id,
                parts.into_iter().map(|(slot, _)| slot).collect::<Vec<_>>(),
            )
        });
        let mut lost: Vec<_> = answered.collect();
        for (id, parts) in network.requests {
            lost.push((id, parts.iter().map(|(slot, _)| *slot).collect()));
            if self.rng.bool() {
                self.zombies.push((broker, parts));
            }
        }
        for (id, slots) in lost {
            let random = self.rng.f64();
            self.core
                .failed(broker, id, slots, &failure, self.now, random);
        }
        self.effects();
    }

    fn serve_zombie(&mut self) {
        // A connection's requests are carried out in order, whatever happens elsewhere.
        if !self.zombies.is_empty() {
            let (broker, parts) = self.zombies.remove(0);
            self.carry_out(broker, &parts);
        }
    }

    fn move_leader(&mut self) {
        let slot = self.rng.usize(..PARTITIONS);
        let (leader, epoch) = self.leaders[slot];
        self.leaders[slot] = ((leader + 1) % BROKERS, epoch + 1);
    }

    fn tell_leaders(&mut self) {
        for slot in 0..PARTITIONS {
            let (leader, epoch) = self.leaders[slot];
            self.core.set_leader(slot, Some(leader), epoch);
        }
        self.effects();
    }

    fn purge(&mut self) {
        let (queued, in_flight) = (self.rng.bool(), self.rng.bool());
        self.core.purge(queued, in_flight, self.now);
        self.effects();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for slot in 0..PARTITIONS {
            self.core.expire(slot, self.now);
        }
        self.effects();
    }

    fn effects(&mut self) {
        loop {
            let effects = self.core.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Settle(batch, outcome) => batch.settle(outcome, &self.buffers),
                    Effect::Tell(resolver, outcome) => resolver.resolve(outcome),
                    Effect::Fail(error) => panic!("{error}"),
                    Effect::Wake(_)
                    | Effect::SeekLeaders
                    | Effect::AddPartitions
                    | Effect::Drained => {}
                    Effect::NeedIdentity => {
                        let id = self.next_producer_id;
                        self.next_producer_id += 1;
                        // Near the end, so that epochs run out in some histories.
                        let epoch = i16::MAX - self.rng.i16(0..4);
                        self.core.identity_obtained(ProducerIdentity { id, epoch });
                    }
                    Effect::Split(slot, mut batch) => {
                        let pieces = cut(&mut batch, &self.budget);
                        self.core.split_done(slot, pieces);
                    }
                }
            }
        }
    }

    /// Ends all faults, lets everything settle, and checks what became of every record.
    fn check(mut self) {
        self.faulty = false;
        while !self.zombies.is_empty() {
            self.serve_zombie();
        }
        self.tell_leaders();
        // For longer than records have: some wait until what is in doubt in front of them has run out of time.
        for _ in 0..2000 {
            for broker in 0..BROKERS {
                self.tick(broker);
                self.serve(broker);
                self.answer(broker);
            }
            self.pass(TIMEOUT / 1000);
        }
        for (slot, sent) in std::mem::take(&mut self.sent).into_iter().enumerate() {
            let log: Vec<u64> = self.logs[slot]
                .values
                .iter()
                .map(|value| u64::from_be_bytes(value[..].try_into().unwrap()))
                .collect();
            let places: std::collections::HashMap<u64, usize> = log
                .iter()
                .enumerate()
                .map(|(at, value)| (*value, at))
                .collect();
            assert_eq!(places.len(), log.len(), "written twice: {log:?}");
            // A request in doubt, left behind by an ended connection and given up under another
            // producer id, can be carried out at any time: its place is nobody's promise.
            let mut before = None;
            for (value, mut delivery) in sent {
                let found = places.get(&value).copied();
                match delivery.try_outcome().expect("every record is settled") {
                    Ok(written) => {
                        let at = found.expect("acknowledged means written");
                        assert!(before < Some(at), "{value} is out of order: {log:?}");
                        before = Some(at);
                        if let Some(offset) = written.offset() {
                            assert_eq!(offset, at as i64, "the offset told is the record's");
                        }
                    }
                    Err(SendError::PossiblyWritten { .. }) => {}
                    Err(error) => {
                        assert!(
                            found.is_none(),
                            "{value} was written, and reported as {error}"
                        );
                    }
                }
            }
        }
        assert_eq!(self.budget.used(), 0);
    }
}

fn cut(batch: &mut Batch, budget: &Arc<Budget>) -> Vec<Batch> {
    let Payload::Stamped { bytes, .. } = &batch.payload else {
        unreachable!("it was sent")
    };
    let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
    let options = SealOptions::default();
    let half = bytes.len() / 2 + 30;
    let parts = split(bytes, half, &options, &mut compressor, &mut decompressor).unwrap();
    let Some(resolver) = batch.resolver.take() else {
        return Vec::new();
    };
    let (mut first, mut pieces, mut tickets) = (0, Vec::new(), Vec::new());
    for part in parts {
        let own = resolver.sibling();
        tickets.push((first, own.ticket().clone()));
        let count = part.record_count() as u32;
        let stamp = batch.stamp.map(|stamp| Stamp {
            sequence: next_sequence(stamp.sequence, first as i32),
            ..stamp
        });
        let memory = budget.try_reserve(1).unwrap();
        let place = (batch.place.0, batch.place.1 + first);
        pieces.push(Batch {
            place,
            stamp,
            ..*Batch::new(part, own, memory, batch.opened)
        });
        first += count;
    }
    resolver.resolve(Outcome::Split(tickets));
    pieces
}

#[test]
fn acknowledged_records_are_written_once_in_order_whatever_happens() {
    let seeds = std::env::var("OTTLA_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(200) {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..400 {
                world.step();
            }
            world.check();
        });
        assert!(run.is_ok(), "seed {seed}");
    }
}

#[test]
fn without_faults_everything_is_written_and_five_requests_are_in_flight() {
    let mut world = World::new(1);
    world.faulty = false;
    world.records_max = 100;
    let mut most = 0;
    for _ in 0..200 {
        world.send();
        for broker in 0..BROKERS {
            world.tick(broker);
            most = most.max(world.networks[broker as usize].requests.len());
            if world.rng.u32(..4) == 0 {
                world.serve(broker);
                world.answer(broker);
            }
        }
    }
    assert_eq!(most, 5);
    let sent = world.next_value;
    let logs = |world: &World| {
        world
            .logs
            .iter()
            .map(|log| log.values.len() as u64)
            .sum::<u64>()
    };
    for _ in 0..1000 {
        for broker in 0..BROKERS {
            world.tick(broker);
            world.serve(broker);
            world.answer(broker);
        }
    }
    assert_eq!(logs(&world), sent);
    world.check();
}
