//! A group, a topic, and what members of both protocols say.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ottla_wire::messages::consumer_protocol_assignment::{self, ConsumerProtocolAssignment};
use ottla_wire::messages::consumer_protocol_subscription::{self, ConsumerProtocolSubscription};
use ottla_wire::{Uuid, decode_versioned, encode_versioned};

use super::super::*;
use crate::group::classic::GroupSettings;
use crate::group::consumer::TopicPartition;

pub(super) const TOPIC: Uuid = Uuid([1; 16]);
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

/// The group `g`, and a topic `a` of four partitions.
pub(super) struct Stage {
    groups: Groups,
    view: TopicsView,
    pub(super) now: Instant,
    pub(super) waiters: u64,
    pub(super) actions: Vec<Action>,
}

pub(super) fn parts(partitions: impl IntoIterator<Item = i32>) -> BTreeSet<TopicPartition> {
    partitions.into_iter().map(|index| (TOPIC, index)).collect()
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::with_policy(MigrationPolicy::Bidirectional)
    }

    pub(super) fn with_policy(migration: MigrationPolicy) -> Self {
        let classic = GroupSettings {
            session_timeout_min: Duration::from_secs(1),
            session_timeout_max: Duration::from_secs(1000),
            initial_rebalance_delay: Duration::ZERO,
            members_max: 10,
        };
        let consumer = ConsumerGroupSettings {
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(5),
            members_max: 3,
            migration,
        };
        Self {
            groups: Groups::new(classic, consumer),
            view: TopicsView {
                version: 1,
                by_name: BTreeMap::from([("a".to_owned(), (TOPIC, 4))]),
            },
            now: Instant::now(),
            waiters: 0,
            actions: Vec::new(),
        }
    }

    /// A group of one classic member, `one`, which has all four in generation 1. Its member id.
    pub(super) fn classic() -> (Self, String) {
        let mut stage = Self::new();
        let id = stage.begins_classic();
        (stage, id)
    }

    pub(super) fn begins_classic(&mut self) -> String {
        let joined = self.joins("", None, &[]);
        assert_eq!((joined.error, joined.generation), (ErrorCode::NONE, 1));
        let id = joined.member_id;
        let all = Sync {
            assignments: vec![(id.clone(), assignment(&[0, 1, 2, 3]))],
            ..sync(&id, 1)
        };
        assert_eq!(self.syncs_with(all), Ok(vec![0, 1, 2, 3]));
        id
    }

    /// The same with a member of the new protocol, `two`, beside it.
    pub(super) fn mixed() -> (Self, String) {
        let (mut stage, one) = Self::classic();
        let two = stage.beats("two", 0, None).unwrap();
        assert_eq!((two.epoch, two.assignment), (2, Some(parts([]))));
        (stage, one)
    }

    pub(super) fn group(&mut self) -> &mut Group {
        self.groups.get_mut("g").unwrap()
    }

    pub(super) fn joins(&mut self, id: &str, instance: Option<&str>, owned: &[i32]) -> Joined {
        let join = join(id, instance, owned);
        self.joins_with(join).expect("it is answered at once")
    }

    pub(super) fn joins_with(&mut self, join: Join) -> Option<Joined> {
        self.waiters += 1;
        let waiter = self.waiters;
        self.groups
            .join("g", waiter, join, &self.view, self.now, &mut self.actions);
        self.answer(waiter).map(|action| match action {
            Action::Joined(_, joined) => joined,
            Action::Synced(..) => panic!("{action:?}"),
        })
    }

    pub(super) fn answer(&mut self, waiter: u64) -> Option<Action> {
        let is_its = |action: &Action| match action {
            Action::Joined(to, _) | Action::Synced(to, _) => *to == waiter,
        };
        let index = self.actions.iter().position(is_its)?;
        Some(self.actions.remove(index))
    }

    pub(super) fn syncs(&mut self, id: &str, generation: i32) -> Result<Vec<i32>, ErrorCode> {
        self.syncs_with(sync(id, generation))
    }

    pub(super) fn syncs_with(&mut self, sync: Sync) -> Result<Vec<i32>, ErrorCode> {
        self.waiters += 1;
        let (waiter, view, now) = (self.waiters, self.view.clone(), self.now);
        let mut actions = Vec::new();
        self.group().sync(waiter, sync, &view, now, &mut actions);
        self.actions.append(&mut actions);
        let synced = match self.answer(waiter) {
            Some(Action::Synced(_, synced)) => synced,
            other => panic!("{other:?}"),
        };
        let Synced {
            error, assignment, ..
        } = synced;
        error.ok()?;
        let (_, assignment) = decode_versioned::<ConsumerProtocolAssignment>(assignment).unwrap();
        let topics = assignment.assigned_partitions.into_iter();
        Ok(topics.flat_map(|topic| topic.partitions).collect())
    }

    /// A heartbeat by the classic protocol.
    pub(super) fn lives(&mut self, id: &str, generation: i32) -> ErrorCode {
        let now = self.now;
        self.group().heartbeat(id, None, generation, now)
    }

    pub(super) fn leaves(&mut self, id: &str) {
        let (view, now) = (self.view.clone(), self.now);
        let mut actions = Vec::new();
        let left = self.group().leave(id, None, &view, now, &mut actions);
        assert_eq!(left, ErrorCode::NONE);
        self.actions.append(&mut actions);
    }

    /// What a member of the consumer group has, or is to give up.
    pub(super) fn held(&mut self, id: &str) -> BTreeSet<TopicPartition> {
        let group = self.group().consumer.as_ref().unwrap();
        let member = group.members().find(|member| member.id == id).unwrap();
        member.assigned()
    }

    pub(super) fn beats(
        &mut self,
        id: &str,
        epoch: i32,
        owned: Option<BTreeSet<TopicPartition>>,
    ) -> Result<Beaten, ErrorCode> {
        let beat = match epoch {
            0 => joining(id),
            _ => Heartbeat {
                member_id: id.to_owned(),
                epoch,
                owned,
                ..Default::default()
            },
        };
        self.try_beat(&beat).map_err(|refused| refused.error)
    }

    pub(super) fn try_beat(&mut self, beat: &Heartbeat) -> Result<Beaten, Refused> {
        let beaten = self
            .groups
            .beat("g", beat, &self.view, self.now, &mut self.actions);
        beaten.map(|(beaten, _)| beaten)
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.groups.advance(&self.view, self.now, &mut self.actions);
    }
}

pub(super) fn joining(id: &str) -> Heartbeat {
    Heartbeat {
        member_id: id.to_owned(),
        rebalance_timeout: Some(REBALANCE),
        topics: Some(BTreeSet::from(["a".to_owned()])),
        owned: Some(BTreeSet::new()),
        ..Default::default()
    }
}

pub(super) fn join(id: &str, instance: Option<&str>, owned: &[i32]) -> Join {
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["a".into()],
        owned_partitions: vec![consumer_protocol_subscription::TopicPartition {
            topic: "a".into(),
            partitions: owned.to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let metadata = encode_versioned(&subscription, 3).unwrap();
    Join {
        member_id: id.to_owned(),
        instance_id: instance.map(str::to_owned),
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("cooperative-sticky".to_owned(), metadata)],
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        must_know_its_id: false,
        can_skip_assignment: true,
        unique: fastrand::u128(..),
    }
}

pub(super) fn sync(id: &str, generation: i32) -> Sync {
    Sync {
        member_id: id.to_owned(),
        instance_id: None,
        generation,
        protocol_type: Some("consumer".to_owned()),
        protocol: Some("cooperative-sticky".to_owned()),
        assignments: Vec::new(),
    }
}

pub(super) fn assignment(partitions: &[i32]) -> Bytes {
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: vec![consumer_protocol_assignment::TopicPartition {
            topic: "a".into(),
            partitions: partitions.to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    };
    encode_versioned(&assignment, 3).unwrap()
}
