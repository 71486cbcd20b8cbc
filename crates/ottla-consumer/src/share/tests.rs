//! The core, step by step, against answers as brokers give them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use ottla_net::Backoff;
use ottla_wire::{
    Bytes, ErrorCode, Uuid,
    compress::{Codec, Compression, Compressor, Decompressor},
    messages::share_fetch::AcquiredRecords,
    record::{BatchWriter, NewRecord, SealOptions, control_batch},
};

use super::{
    acknowledge::{AcknowledgeType, GAP, GIVE_BACK},
    core::{Answer, Api, Core, CoreConfig, Order, Part, PartitionId, Plan},
    fetched::{Fetched, Read},
    held::Run,
    outcome::Fault,
    record::ShareRecord,
};
use crate::{Error, TopicPartition, payload::DecodeLimits, waiting::Bell};

const TOPIC: Uuid = Uuid([7; 16]);
const ACCEPT: i8 = AcknowledgeType::Accept as i8;
const RELEASE: i8 = AcknowledgeType::Release as i8;
const RENEW: i8 = AcknowledgeType::Renew as i8;
const LOCK: Duration = Duration::from_secs(30);

fn id(partition: i32) -> PartitionId {
    (TOPIC, partition)
}

fn name(partition: i32) -> TopicPartition {
    TopicPartition::new("clicks", partition)
}

/// A batch of records from `base` on.
fn batch(base: i64, count: i64) -> Bytes {
    let mut writer = BatchWriter::new(BytesMut::new());
    for offset in base..base + count {
        let value = offset.to_string();
        let record = NewRecord {
            timestamp: 0,
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        };
        writer.append(&record).unwrap();
    }
    let options = SealOptions {
        codec: Codec::from(Compression::None),
    };
    let mut sealed = writer.seal(&options, &mut Compressor::new()).unwrap();
    sealed.stamp(-1, -1, -1, false);
    let mut bytes = sealed.freeze().to_vec();
    // The base offset is the broker's to set; no checksum covers it.
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes.into()
}

fn acquired(first_offset: i64, last_offset: i64, delivery_count: i16) -> AcquiredRecords {
    AcquiredRecords {
        first_offset,
        last_offset,
        delivery_count,
        ..Default::default()
    }
}

struct Stage {
    bell: Bell,
    core: Core,
    now: Instant,
    decompressor: Decompressor,
}

const LIMITS: DecodeLimits = DecodeLimits {
    check_crcs: true,
    batch_bytes_max: 1 << 20,
};

impl Stage {
    fn new(implicit: bool) -> Self {
        Self::with(implicit, false)
    }

    fn with(implicit: bool, record_limit: bool) -> Self {
        let config = CoreConfig {
            implicit,
            record_limit,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
            seed: 1,
        };
        let bell = Bell::default();
        Self {
            core: Core::new(config, bell.waiters()),
            bell,
            now: Instant::now(),
            decompressor: Decompressor::new(),
        }
    }

    /// Partitions by the brokers that lead them.
    fn assign(&mut self, leaders: &[(i32, i32)]) {
        let all = leaders
            .iter()
            .map(|&(partition, node)| (id(partition), name(partition), Some(node)));
        self.core.assign(all, self.now);
    }

    fn after(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn order(&mut self, node: i32) -> Order {
        match self.core.plan(node, self.now) {
            Plan::Send(order) => order,
            other => panic!("{other:?}"),
        }
    }

    fn waits(&mut self, node: i32) -> Option<Duration> {
        match self.core.plan(node, self.now) {
            Plan::Wait(until) => until.map(|until| until - self.now),
            other => panic!("{other:?}"),
        }
    }

    fn fetch(&mut self, node: i32) -> Order {
        let order = self.order(node);
        assert_eq!(order.api, Api::ShareFetch);
        order
    }

    /// Answers with these records of a partition, all of them acquired for the first time.
    fn bring(&mut self, node: i32, partition: i32, base: i64, count: i64) {
        let records = batch(base, count);
        let ranges = vec![acquired(base, base + count - 1, 1)];
        self.answer(node, partition, records, ranges);
    }

    fn answer(&mut self, node: i32, partition: i32, records: Bytes, ranges: Vec<AcquiredRecords>) {
        let until = self.now + LOCK;
        let fetched = Fetched::new(node, id(partition), name(partition), until, records, ranges);
        let part = Part {
            id: id(partition),
            error: ErrorCode::NONE,
            acknowledge_error: ErrorCode::NONE,
            fetched,
        };
        self.answers(node, vec![part]);
    }

    fn answers(&mut self, node: i32, partitions: Vec<Part>) {
        let answer = Answer {
            error: ErrorCode::NONE,
            lock_timeout: Some(LOCK),
            partitions,
        };
        self.core.handle_answer(node, answer, self.now);
    }

    fn refuses(&mut self, node: i32, error: ErrorCode) {
        let answer = Answer {
            error,
            ..Answer::default()
        };
        self.core.handle_answer(node, answer, self.now);
    }

    /// Answers a ShareAcknowledge about one partition.
    fn acknowledged(&mut self, node: i32, partition: i32, acknowledge_error: ErrorCode) {
        self.answers(
            node,
            vec![part(partition, ErrorCode::NONE, acknowledge_error)],
        );
    }

    /// The application comes for up to `max` records.
    fn poll(&mut self, max: usize) -> Vec<ShareRecord> {
        self.core.begin_poll(self.now);
        let mut records = Vec::new();
        while records.len() < max {
            let Some(mut fetched) = self.core.next_ready(self.now) else {
                break;
            };
            let room = max - records.len();
            let mut read = fetched.read(room, LIMITS, &mut self.decompressor, &mut records);
            assert!(self.core.lend(&fetched, &mut read, self.now));
        }
        if records.is_empty() {
            self.core.want_records(self.now);
        }
        records
    }

    fn says(&mut self, record: &ShareRecord, kind: AcknowledgeType) -> bool {
        let lender = record.lender();
        self.core
            .acknowledge(lender.node, lender.id, record.offset(), kind, self.now)
    }

    fn outcomes(&mut self) -> Vec<(i32, Vec<Run>, Result<(), String>)> {
        let outcomes = std::mem::take(&mut self.core.effects.outcomes);
        let outcomes = outcomes.into_iter().map(|outcome| {
            let offsets = outcome.offsets.iter().map(|run| (*run.start(), *run.end()));
            let result = outcome.result.map_err(|fault| fault.to_string());
            (outcome.partition.partition, offsets.collect(), result)
        });
        outcomes.collect()
    }
}

fn part(partition: i32, error: ErrorCode, acknowledge_error: ErrorCode) -> Part {
    Part {
        id: id(partition),
        error,
        acknowledge_error,
        fetched: None,
    }
}

fn offsets(records: &[ShareRecord]) -> Vec<i64> {
    records.iter().map(|record| record.offset()).collect()
}

#[test]
fn asks_only_while_the_application_wants_records() {
    let mut stage = Stage::new(true);
    stage.assign(&[(0, 1), (1, 1)]);
    assert_eq!(stage.waits(1), None);
    assert!(stage.poll(10).is_empty());
    let opens = stage.fetch(1);
    assert_eq!((opens.epoch, &opens.add[..]), (0, &[id(0), id(1)][..]));
    assert_eq!(stage.waits(1), None, "one at a time");
    stage.bring(1, 0, 0, 3);
    assert_eq!(stage.waits(1), None, "there are records");
    assert_eq!(offsets(&stage.poll(10)), [0, 1, 2]);
    assert!(stage.waits(1).is_some(), "they are being processed");
}

#[test]
fn coming_again_accepts_with_the_next_fetch() {
    let mut stage = Stage::new(true);
    stage.assign(&[(0, 1)]);
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 5, 3);
    assert_eq!(offsets(&stage.poll(10)), [5, 6, 7]);
    stage.after(1000);
    assert!(stage.poll(10).is_empty());
    let next = stage.fetch(1);
    assert_eq!((next.epoch, next.add.len()), (1, 0));
    assert_eq!(next.acknowledged, [(id(0), vec![((5, 7), ACCEPT)])]);
    stage.bring(1, 0, 8, 1);
    assert_eq!(stage.outcomes(), [(0, vec![(5, 7)], Ok(()))]);
}

#[test]
fn a_session_learns_of_what_came_and_went() {
    let mut stage = Stage::new(true);
    stage.assign(&[(0, 1), (1, 1)]);
    stage.poll(1);
    stage.fetch(1);
    stage.answers(1, Vec::new());
    stage.assign(&[(1, 1), (2, 1), (3, 2)]);
    let next = stage.fetch(1);
    assert_eq!(
        (next.epoch, &next.add[..], &next.forget[..]),
        (1, &[id(2)][..], &[id(0)][..])
    );
    assert_eq!(stage.fetch(2).add, [id(3)]);
}

#[test]
fn acknowledgements_that_nothing_takes_along_go_alone() {
    let mut stage = Stage::new(false);
    stage.assign(&[(0, 1)]);
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 0, 4);
    let records = stage.poll(10);
    assert!(stage.says(&records[1], AcknowledgeType::Accept));
    assert!(stage.says(&records[0], AcknowledgeType::Accept));
    assert!(
        !stage.says(&records[0], AcknowledgeType::Release),
        "said once"
    );
    assert_eq!(stage.waits(1), Some(Duration::from_millis(500)));
    stage.after(500);
    let alone = stage.order(1);
    assert_eq!((alone.api, alone.epoch), (Api::ShareAcknowledge, 1));
    assert_eq!(alone.acknowledged, [(id(0), vec![((0, 1), ACCEPT)])]);
    // What is said meanwhile, and committed, has to wait; so has the commit.
    assert!(stage.says(&records[2], AcknowledgeType::Release));
    let commit = stage.core.commit(stage.now).unwrap();
    stage.acknowledged(1, 0, ErrorCode::NONE);
    assert!(stage.core.effects.commits.is_empty());
    let next = stage.order(1);
    assert_eq!(
        (next.epoch, &next.acknowledged[..]),
        (2, &[(id(0), vec![((2, 2), RELEASE)])][..])
    );
    stage.acknowledged(1, 0, ErrorCode::INVALID_RECORD_STATE);
    let [(number, outcomes)] = &stage.core.effects.commits[..] else {
        panic!()
    };
    assert_eq!(*number, commit);
    let results: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.result.is_ok())
        .collect();
    assert_eq!(results, [true, false]);
    assert_eq!(stage.core.commit(stage.now), None, "nothing more to say");
}

#[test]
fn a_lost_session_takes_what_was_acquired_along() {
    for implicit in [true, false] {
        let mut stage = Stage::new(implicit);
        stage.assign(&[(0, 1)]);
        stage.poll(10);
        stage.fetch(1);
        stage.bring(1, 0, 0, 2);
        let records = stage.poll(10);
        if !implicit {
            assert!(stage.says(&records[0], AcknowledgeType::Accept));
        }
        stage.poll(10);
        stage.fetch(1);
        stage.refuses(1, ErrorCode::SHARE_SESSION_NOT_FOUND);
        let outcomes = stage.outcomes();
        let expected = if implicit { (0, 1) } else { (0, 0) };
        assert!(
            matches!(&outcomes[..], [(0, runs, Err(_))] if runs[..] == [expected]),
            "{outcomes:?}"
        );
        assert!(!stage.says(&records[1], AcknowledgeType::Accept));
        assert!(stage.waits(1).is_some(), "not at once");
        stage.after(200);
        stage.poll(10);
        let opens = stage.fetch(1);
        assert_eq!((opens.epoch, &opens.add[..]), (0, &[id(0)][..]));
        assert!(opens.acknowledged.is_empty());
    }
}

/// A member that has taken what was fetched, and decodes it.
fn reading() -> (Stage, Fetched, Read, Vec<ShareRecord>) {
    let mut stage = Stage::new(false);
    stage.assign(&[(0, 1)]);
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 0, 4);
    let mut fetched = stage.core.next_ready(stage.now).unwrap();
    let mut records = Vec::new();
    let read = fetched.read(10, LIMITS, &mut stage.decompressor, &mut records);
    assert_eq!(records.len(), 4);
    (stage, fetched, read, records)
}

#[test]
fn what_is_read_while_its_session_is_lost_is_not_handed_out() {
    for times_out in [false, true] {
        let (mut stage, fetched, mut read, records) = reading();
        // Meanwhile, on another thread.
        if times_out {
            stage.after(30_001);
        } else {
            stage.poll(10);
            stage.fetch(1);
            stage.refuses(1, ErrorCode::SHARE_SESSION_NOT_FOUND);
        }
        assert!(!stage.core.lend(&fetched, &mut read, stage.now));
        assert_eq!(stage.core.held(), 0);
        assert!(!stage.says(&records[0], AcknowledgeType::Accept));
    }
}

/// The group is not left before all nodes are gone.
#[test]
fn what_is_read_while_the_consumer_closes_keeps_nobody() {
    let (mut stage, fetched, mut read, _) = reading();
    stage.core.close();
    let _close = stage.order(1);
    stage.answers(1, Vec::new());
    assert!(matches!(stage.core.plan(1, stage.now), Plan::Gone));
    assert!(!stage.core.lend(&fetched, &mut read, stage.now));
    assert_eq!(stage.core.brokers().count(), 0);
}

#[test]
fn what_was_fetched_in_a_lost_session_is_not_handed_out() {
    let mut stage = Stage::new(true);
    stage.assign(&[(0, 1)]);
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 0, 2);
    let fetched = stage.core.next_ready(stage.now).unwrap();
    assert!(stage.core.go_on(fetched, stage.now).is_some());
    stage.core.commit(stage.now);
    stage.after(100);
    // Another answer, with nothing; then the connection is lost.
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 2, 2);
    let fetched = stage.core.next_ready(stage.now).unwrap();
    stage.poll(10);
    stage.fetch(1);
    stage
        .core
        .handle_failure(1, &ottla_net::Error::Closed, stage.now);
    assert!(stage.core.go_on(fetched, stage.now).is_none());
}

#[test]
fn locks_that_time_out_are_noticed() {
    let mut stage = Stage::new(false);
    stage.assign(&[(0, 1)]);
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 0, 2);
    let records = stage.poll(1);
    assert_eq!(records.len(), 1);
    stage.after(30_000);
    assert!(!stage.says(&records[0], AcknowledgeType::Accept));

    // And if nobody came for them.
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 2, 2);
    stage.after(30_000);
    assert!(stage.poll(10).is_empty());
}

#[test]
fn accepting_too_late_is_told() {
    let mut stage = Stage::new(true);
    stage.assign(&[(0, 1)]);
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 0, 2);
    stage.poll(10);
    stage.after(30_000);
    stage.poll(10);
    let outcomes = stage.outcomes();
    assert!(
        matches!(&outcomes[..], [(0, runs, Err(_))] if runs[..] == [(0, 1)]),
        "{outcomes:?}"
    );
    assert!(stage.fetch(1).acknowledged.is_empty());
}

#[test]
fn what_comes_again_was_given_up_before() {
    let mut stage = Stage::new(false);
    stage.assign(&[(0, 1)]);
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 0, 4);
    let records = stage.poll(10);
    // While the next fetch waits, the locks time out at the broker, and that fetch brings some records again.
    stage.poll(10);
    stage.fetch(1);
    assert!(stage.says(&records[0], AcknowledgeType::Release));
    assert!(stage.says(&records[1], AcknowledgeType::Accept));
    assert!(stage.says(&records[2], AcknowledgeType::Renew));
    let commit = stage.core.commit(stage.now).unwrap();
    let ranges = vec![acquired(0, 0, 2), acquired(2, 3, 2)];
    stage.answer(1, 0, batch(0, 4), ranges);
    let refused = Err(ErrorCode::INVALID_RECORD_STATE.to_string());
    let outcomes = stage.outcomes();
    assert!(
        matches!(&outcomes[..], [(0, runs, Err(_))] if runs[..] == [(0, 0), (2, 2)]),
        "{outcomes:?}"
    );
    assert!(stage.core.effects.commits.is_empty(), "of the second one");
    assert!(
        !stage.says(&records[3], AcknowledgeType::Accept),
        "it is not handed out yet"
    );
    let again = stage.poll(10);
    assert_eq!(offsets(&again), [0, 2, 3]);
    assert!(stage.says(&again[0], AcknowledgeType::Accept));
    // Once for each record, and of the latest delivery.
    let order = stage.order(1);
    assert_eq!(order.acknowledged, [(id(0), vec![((0, 1), ACCEPT)])]);
    stage.acknowledged(1, 0, ErrorCode::NONE);
    let [(number, outcomes)] = &stage.core.effects.commits[..] else {
        panic!()
    };
    let results = outcomes.iter().map(|outcome| match &outcome.result {
        Err(Fault::Broker(error)) => Err(error.to_string()),
        other => Ok(other.is_ok()),
    });
    assert_eq!(results.collect::<Vec<_>>(), [refused, Ok(true)]);
    assert_eq!(*number, commit);
}

#[test]
fn a_commit_of_nothing_but_what_comes_again_does_not_wait() {
    let mut stage = Stage::new(false);
    stage.assign(&[(0, 1)]);
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 0, 1);
    let records = stage.poll(10);
    stage.poll(10);
    stage.fetch(1);
    assert!(stage.says(&records[0], AcknowledgeType::Accept));
    stage.core.commit(stage.now).unwrap();
    stage.answer(1, 0, batch(0, 1), vec![acquired(0, 0, 2)]);
    assert_eq!(stage.core.effects.commits.len(), 1);
    assert_eq!(stage.waits(1), None, "nothing is to be said");
}

#[test]
fn with_implicit_acknowledgement_it_is_told_what_comes_again() {
    let mut stage = Stage::new(true);
    stage.assign(&[(0, 1), (1, 2)]);
    stage.poll(10);
    stage.fetch(1);
    stage.fetch(2);
    stage.bring(1, 0, 0, 1);
    assert_eq!(stage.poll(10).len(), 1);
    stage.bring(2, 1, 0, 2);
    // Another call was waiting for records before these two were handed out.
    stage.core.want_records(stage.now);
    assert_eq!(stage.core.next_ready(stage.now).map(|of| of.node), Some(2));
    stage.core.want_records(stage.now);
    stage.fetch(1);
    let ranges = vec![acquired(0, 0, 2)];
    stage.answer(1, 0, batch(0, 1), ranges);
    let outcomes = stage.outcomes();
    assert!(
        matches!(&outcomes[..], [(0, runs, Err(_))] if runs[..] == [(0, 0)]),
        "{outcomes:?}"
    );
}

#[test]
fn a_lock_begins_anew() {
    let mut stage = Stage::new(false);
    stage.assign(&[(0, 1)]);
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 0, 2);
    let records = stage.poll(10);
    stage.after(20_000);
    assert!(stage.says(&records[0], AcknowledgeType::Renew));
    // A fetch must not carry it.
    stage.poll(10);
    let alone = stage.order(1);
    assert_eq!((alone.api, alone.renews()), (Api::ShareAcknowledge, true));
    assert_eq!(alone.acknowledged, [(id(0), vec![((0, 0), RENEW)])]);
    stage.acknowledged(1, 0, ErrorCode::NONE);
    assert_eq!(stage.outcomes(), [(0, vec![(0, 0)], Ok(()))]);
    stage.after(20_000);
    assert!(stage.says(&records[0], AcknowledgeType::Accept));
    assert!(!stage.says(&records[1], AcknowledgeType::Accept));
}

#[test]
fn with_a_record_limit_one_broker_is_asked_at_a_time() {
    let mut stage = Stage::with(true, true);
    stage.assign(&[(0, 1), (1, 2), (2, 3)]);
    stage.core.begin_waiting(stage.bell.rings());
    stage.poll(10);
    let mut order = Vec::new();
    for _ in 0..6 {
        let able: Vec<_> = (1..=3)
            .filter(|node| matches!(stage.core.plan(*node, stage.now), Plan::Send(_)))
            .collect();
        assert_eq!(able.len(), 1, "{able:?}");
        order.push(able[0]);
        stage.answers(able[0], Vec::new());
    }
    assert_eq!(order, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn a_leader_that_moved_is_told_the_rest_and_left() {
    let mut stage = Stage::new(false);
    stage.assign(&[(0, 1)]);
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 0, 1);
    let records = stage.poll(10);
    stage.assign(&[(0, 2)]);
    assert!(stage.waits(1).is_some(), "a record is lent");
    assert!(stage.says(&records[0], AcknowledgeType::Accept));
    stage.core.commit(stage.now);
    let rest = stage.order(1);
    assert_eq!((rest.api, rest.epoch), (Api::ShareAcknowledge, 1));
    stage.acknowledged(1, 0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let outcomes = stage.outcomes();
    assert!(
        matches!(&outcomes[..], [(0, _, Err(text))] if text.contains("leader")),
        "{outcomes:?}"
    );
    let closes = stage.order(1);
    assert_eq!((closes.api, closes.epoch), (Api::ShareAcknowledge, -1));
    stage.answers(1, Vec::new());
    assert!(matches!(stage.core.plan(1, stage.now), Plan::Gone));
    stage.poll(10);
    assert_eq!(stage.fetch(2).epoch, 0);
}

/// It may not know that another broker leads, which has handed out the same records, and has had some accepted.
#[test]
fn what_a_former_leader_handed_out_is_handed_to_nobody() {
    let moved = [(0, 2), (1, 1)];
    for arrives in ["before", "while it is read", "after"] {
        let mut stage = Stage::new(false);
        stage.assign(&[(0, 1), (1, 1)]);
        stage.poll(1);
        stage.fetch(1);
        match arrives {
            "before" => {
                stage.bring(1, 0, 0, 3);
                stage.assign(&moved);
            }
            "while it is read" => {
                stage.bring(1, 0, 0, 3);
                let read = stage.core.next_ready(stage.now).unwrap();
                stage.assign(&moved);
                assert!(stage.core.go_on(read, stage.now).is_none());
            }
            _ => {
                stage.assign(&moved);
                stage.bring(1, 0, 0, 3);
            }
        }
        assert!(stage.poll(1).is_empty(), "{arrives}");
        let back = stage.order(1);
        assert_eq!(back.api, Api::ShareAcknowledge, "at once: {arrives}");
        assert_eq!(back.acknowledged, [(id(0), vec![((0, 2), RELEASE)])]);
        assert_eq!(stage.fetch(2).add, [id(0)], "{arrives}");
        stage.acknowledged(1, 0, ErrorCode::FENCED_LEADER_EPOCH);
        assert_eq!(stage.outcomes(), [], "the application never had them");
        assert_eq!(stage.core.held(), 0);
        // The others of that broker are none the worse for it.
        let next = stage.fetch(1);
        assert_eq!((next.epoch, &next.forget[..]), (2, &[id(0)][..]));
        stage.bring(1, 1, 0, 2);
        stage.assign(&moved);
        assert_eq!(offsets(&stage.poll(9)), [0, 1], "its leader is the same");
    }
}

#[test]
fn without_a_known_leader_what_was_acquired_is_handed_out() {
    let mut stage = Stage::new(false);
    stage.assign(&[(0, 1)]);
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 0, 2);
    stage.core.assign([(id(0), name(0), None)], stage.now);
    assert_eq!(offsets(&stage.poll(10)), [0, 1]);
}

#[test]
fn closing_says_what_was_said_and_gives_the_rest_back() {
    let mut stage = Stage::new(false);
    stage.assign(&[(0, 1), (1, 2)]);
    stage.poll(10);
    stage.fetch(1);
    stage.bring(1, 0, 0, 2);
    let records = stage.poll(10);
    assert!(stage.says(&records[0], AcknowledgeType::Reject));
    stage.core.close();
    let closes = stage.order(1);
    assert_eq!((closes.api, closes.epoch), (Api::ShareAcknowledge, -1));
    assert_eq!(closes.acknowledged, [(id(0), vec![((0, 0), 3)])]);
    stage.acknowledged(1, 0, ErrorCode::NONE);
    assert!(matches!(stage.core.plan(1, stage.now), Plan::Gone));
    assert!(
        matches!(stage.core.plan(2, stage.now), Plan::Gone),
        "no session"
    );
}

#[test]
fn trouble_with_one_partition_costs_the_others_nothing() {
    let mut stage = Stage::new(true);
    stage.assign(&[(0, 1), (1, 1)]);
    stage.core.begin_waiting(stage.bell.rings());
    stage.poll(10);
    stage.fetch(1);
    let refused = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    stage.answers(1, vec![part(0, refused, ErrorCode::NONE)]);
    assert!(matches!(
        stage.core.next_error(),
        Some(Error::ShareFetch {
            partition: Some(_),
            ..
        })
    ));
    let next = stage.fetch(1);
    assert_eq!(next.forget, [id(0)]);
    stage.answers(1, Vec::new());
    stage.after(200);
    let again = stage.fetch(1);
    assert_eq!(again.add, [id(0)]);
    stage.answers(1, vec![part(0, refused, ErrorCode::NONE)]);
    assert!(stage.core.next_error().is_none(), "told once");
}

#[test]
fn a_session_limit_is_told_and_waited_for() {
    let mut stage = Stage::new(true);
    stage.assign(&[(0, 1)]);
    stage.core.begin_waiting(stage.bell.rings());
    let mut pauses = Vec::new();
    for _ in 0..5 {
        stage.fetch(1);
        stage.refuses(1, ErrorCode::SHARE_SESSION_LIMIT_REACHED);
        let pause = stage.waits(1).unwrap();
        pauses.push(pause);
        stage.now += pause;
    }
    assert!(pauses[4] > pauses[0] * 4, "{pauses:?}");
    assert!(stage.core.next_error().is_some() && stage.core.next_error().is_none());
}

#[test]
fn offsets_without_records_are_gaps_and_what_was_not_sent_is_given_back() {
    let mut stage = Stage::new(false);
    stage.assign(&[(0, 1)]);
    stage.poll(10);
    stage.fetch(1);
    let mut records = batch(2, 2).to_vec();
    records.extend(control_batch(true, 1, 0, 0, 0).freeze());
    let marker = records.len() - control_batch(true, 1, 0, 0, 0).freeze().len();
    records[marker..marker + 8].copy_from_slice(&4_i64.to_be_bytes());
    records.extend(batch(7, 3));
    let ranges = vec![acquired(0, 5, 1), acquired(8, 12, 3)];
    stage.answer(1, 0, records.into(), ranges);
    let records = stage.poll(10);
    assert_eq!(offsets(&records), [2, 3, 8, 9]);
    let counts: Vec<_> = records.iter().map(ShareRecord::delivery_count).collect();
    assert_eq!(counts, [1, 1, 3, 3]);
    stage.after(500);
    let said = stage.order(1).acknowledged;
    let expected = vec![((0, 1), GAP), ((4, 5), GAP), ((10, 12), RELEASE)];
    assert_eq!(said, [(id(0), expected)]);
    stage.acknowledged(1, 0, ErrorCode::NONE);
    assert_eq!(
        stage.outcomes(),
        [],
        "the application said nothing of any of them"
    );
}

#[test]
fn a_damaged_batch_is_given_back_and_told_and_the_next_is_read() {
    let mut stage = Stage::new(false);
    stage.assign(&[(0, 1)]);
    stage.poll(10);
    stage.fetch(1);
    let mut records = batch(0, 2).to_vec();
    *records.last_mut().unwrap() ^= 1;
    records.extend(batch(2, 2));
    let fetched = Fetched::new(
        1,
        id(0),
        name(0),
        stage.now + LOCK,
        records.into(),
        vec![acquired(0, 3, 1)],
    );
    let mut fetched = fetched.unwrap();
    let mut out = Vec::new();
    let read = fetched.read(10, LIMITS, &mut stage.decompressor, &mut out);
    assert!(matches!(
        read.error,
        Some(Error::Unreadable { offset: 0, .. })
    ));
    assert_eq!((read.others, read.done), (vec![((0, 1), GIVE_BACK)], false));
    let read = fetched.read(10, LIMITS, &mut stage.decompressor, &mut out);
    assert_eq!(
        (offsets(&out), read.lent, read.done),
        (vec![2, 3], vec![(2, 3)], true)
    );
}

#[test]
fn impossible_ranges_are_passed_over() {
    let ranges = vec![
        acquired(i64::MIN, -1, 1),
        acquired(5, 3, 1),
        acquired(0, i64::MAX, 1),
        acquired(1, 2, 1),
        acquired(2, 3, 9),
    ];
    let now = Instant::now();
    let fetched = Fetched::new(1, id(0), name(0), now, batch(0, 5), ranges);
    let mut out = Vec::new();
    let read = fetched
        .unwrap()
        .read(9, LIMITS, &mut Decompressor::new(), &mut out);
    let counts: BTreeMap<_, _> = out
        .iter()
        .map(|r| (r.offset(), r.delivery_count()))
        .collect();
    assert_eq!(counts, BTreeMap::from([(1, 1), (2, 1), (3, 9)]));
    assert!(read.done && read.others.is_empty());
    let none = Fetched::new(1, id(0), name(0), now, batch(0, 5), vec![acquired(7, 2, 1)]);
    assert!(none.is_none());
}
