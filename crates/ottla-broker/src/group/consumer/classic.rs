//! What members of a consumer group ask and hear that speak the classic protocol still, or again, while the group is led
//! from one protocol to the other (KIP-848).
//!
//! A JoinGroup is what a heartbeat would be: it says what the member reads and has, and is answered at once, for nobody is
//! waited for. What the member is given is the answer to its SyncGroup. That there is something to do it hears from its
//! heartbeats, as REBALANCE_IN_PROGRESS. Its generation is its member epoch. How groups of one kind become groups of the
//! other says [`super::conversion`].

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_wire::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use ottla_wire::{ErrorCode, decode_versioned};

use super::conversion::{assignment, ids};
use super::message::{TopicPartition, TopicsView};
use super::{ConsumerGroup, Member, MemberState};
use crate::group::classic::{Join, Joined, PROTOCOLS_MAX, Sync, Synced};
use crate::group::{CONSUMER, check_instance};

/// What else is known of such a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClassicTerms {
    /// Assignors in order of preference, each with the member's metadata for it; not empty.
    pub(super) protocols: Vec<(String, Bytes)>,
    /// The version of that metadata, in which the member reads its assignment, too.
    pub(super) version: i16,
    pub(super) session_timeout: Duration,
    /// By when it has to have joined again, since it was told to.
    pub(super) join_by: Option<Instant>,
    /// By when it has to have asked for its assignment, since it joined.
    pub(super) sync_by: Option<Instant>,
}

impl ClassicTerms {
    pub(super) fn new(
        protocols: Vec<(String, Bytes)>,
        version: i16,
        session_timeout: Duration,
    ) -> Self {
        Self {
            protocols,
            version,
            session_timeout,
            join_by: None,
            sync_by: None,
        }
    }

    fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    fn first(&self) -> Option<&str> {
        self.protocols.first().map(|(name, _)| name.as_str())
    }
}

impl ConsumerGroup {
    /// Whether this member speaks the classic protocol.
    pub(crate) fn is_classic(&self, member_id: &str) -> bool {
        let member = self.members.get(member_id);
        member.is_some_and(|member| member.classic.is_some())
    }

    /// JoinGroup. An error comes with the member id that it is for.
    pub(crate) fn join_classic(
        &mut self,
        join: &Join,
        view: &TopicsView,
        now: Instant,
    ) -> Result<Joined, (ErrorCode, String)> {
        let refuse = |error| Err((error, join.member_id.clone()));
        let known = self.members.contains_key(&join.member_id);
        if !known && self.members.len() >= self.settings.members_max {
            return refuse(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        let subscription = match join.protocols.first() {
            Some((_, metadata)) if self.takes_protocols(join) => {
                decode_versioned::<ConsumerProtocolSubscription>(metadata.clone())
            }
            _ => return refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        };
        let Ok((version, subscription)) = subscription else {
            return refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        };
        let brings = subscription.owned_partitions.iter();
        let brings = brings.map(|of| of.partitions.len()).sum::<usize>() > 0;
        if brings && !known && !join.member_id.is_empty() {
            // Its membership is over, and what it had may be others' by now. Kafka lets it in, and takes its commits for that.
            return refuse(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        let id = self.admit_classic(join, now)?;
        let Some(member) = self.members.get_mut(&id) else {
            return refuse(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        if let Some(instance) = &join.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        member.instance_id.clone_from(&join.instance_id);
        member.client_id.clone_from(&join.client_id);
        member.client_host.clone_from(&join.client_host);
        member.rebalance_timeout = join.rebalance_timeout;
        member.classic = Some(ClassicTerms {
            sync_by: Some(now + join.rebalance_timeout),
            ..ClassicTerms::new(join.protocols.clone(), version, join.session_timeout)
        });
        member.expires = now + join.session_timeout;
        let reads_other = member.subscribe(&subscription);
        if reads_other {
            member.resolve(view);
        }
        if self.follow_topics(view, reads_other) || reads_other {
            self.epoch += 1;
        }
        if self.epoch > self.assignment_epoch {
            self.assign(view);
        }
        let owned = subscription.owned_partitions.iter();
        let owned = owned.flat_map(|of| ids(view, &of.topic, &of.partitions));
        self.reconcile(&id, Some(&owned.collect()), now);
        Ok(Joined {
            error: ErrorCode::NONE,
            generation: self.members.get(&id).map_or(-1, |member| member.epoch),
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: join.protocols.first().map(|(name, _)| name.clone()),
            // The broker assigns.
            leader: String::new(),
            member_id: id,
            skip_assignment: false,
            members: Vec::new(),
        })
    }

    /// Whether the other classic members have one of its assignors, too: the group may become theirs alone.
    fn takes_protocols(&self, join: &Join) -> bool {
        let others = || {
            let others = self.members.values().filter(|m| m.id != join.member_id);
            others.filter_map(|member| member.classic.as_ref())
        };
        let common = |name: &str| others().all(|terms| terms.supports(name));
        join.protocol_type == CONSUMER
            && join.protocols.len() <= PROTOCOLS_MAX
            && join.protocols.iter().any(|(name, _)| common(name))
    }

    /// Makes sure that there is such a member, and returns its id.
    fn admit_classic(&mut self, join: &Join, now: Instant) -> Result<String, (ErrorCode, String)> {
        let is_new = join.member_id.is_empty();
        let id = match is_new {
            true => join.new_id(),
            false => join.member_id.clone(),
        };
        let Some(instance) = &join.instance_id else {
            if is_new && join.must_know_its_id {
                return Err((ErrorCode::MEMBER_ID_REQUIRED, id));
            }
            let member = self.members.entry(id.clone());
            member.or_insert_with(|| Member::new(&id, now));
            return Ok(id);
        };
        match self.instances.get(instance).cloned() {
            Some(other) if other == id => {}
            // It takes that one's place, and whoever still uses the old id is fenced (KIP-345).
            Some(other) if is_new => self.succeed(&other, &id, instance, now),
            Some(_) => return Err((ErrorCode::FENCED_INSTANCE_ID, id)),
            None if is_new => drop(self.members.insert(id.clone(), Member::new(&id, now))),
            None => return Err((ErrorCode::UNKNOWN_MEMBER_ID, id)),
        }
        Ok(id)
    }

    /// SyncGroup.
    pub(crate) fn sync_classic(
        &mut self,
        sync: &Sync,
        view: &TopicsView,
        now: Instant,
    ) -> Result<Synced, ErrorCode> {
        let epoch = self.epoch;
        let generation = sync.generation;
        let member =
            self.classic_member(&sync.member_id, sync.instance_id.as_deref(), generation)?;
        let Some(terms) = member.classic.as_mut() else {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        let protocol = terms.first().map(str::to_owned);
        let differs = |said: &Option<String>, is: Option<&str>| {
            said.as_deref().is_some_and(|said| Some(said) != is)
        };
        if differs(&sync.protocol_type, Some(CONSUMER))
            || differs(&sync.protocol, protocol.as_deref())
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        // Who has to give up has joined for that already, and joins again when it has.
        if epoch > member.epoch && member.state != MemberState::UnrevokedPartitions {
            terms.join_by.get_or_insert(now + member.rebalance_timeout);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        terms.sync_by = None;
        member.expires = now + terms.session_timeout;
        let version = terms.version;
        Ok(Synced {
            error: ErrorCode::NONE,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol,
            assignment: assignment(member.assigned.keys(), &view.names(), version),
        })
    }

    /// Heartbeat: whether the member is to join again.
    pub(crate) fn heartbeat_classic(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> ErrorCode {
        let epoch = self.epoch;
        let waits = self.waits(member_id);
        let member = match self.classic_member(member_id, instance_id, generation) {
            Ok(member) => member,
            Err(error) => return error,
        };
        let is_due = match member.state {
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => member.epoch < epoch || !waits,
            MemberState::Stable => member.epoch < epoch,
        };
        let until = now + member.rebalance_timeout;
        if let Some(terms) = &mut member.classic {
            member.expires = now + terms.session_timeout;
            if is_due {
                terms.join_by.get_or_insert(until);
                return ErrorCode::REBALANCE_IN_PROGRESS;
            }
        }
        ErrorCode::NONE
    }

    /// Whether something that the member shall have is others' still.
    fn waits(&self, member_id: &str) -> bool {
        let (Some(member), Some(target)) =
            (self.members.get(member_id), self.target.get(member_id))
        else {
            return false;
        };
        let missing = |part: &&TopicPartition| !member.has(part);
        let mut missing = target.iter().filter(missing);
        missing.any(|part| self.is_held(part))
    }

    fn classic_member(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<&mut Member, ErrorCode> {
        check_instance(&self.instances, member_id, instance_id)?;
        let member = self.members.get_mut(member_id);
        match member.filter(|member| member.classic.is_some()) {
            None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(member) if member.epoch != generation => Err(ErrorCode::ILLEGAL_GENERATION),
            Some(member) => Ok(member),
        }
    }
}

impl Member {
    /// Takes over what a classic member says that it reads. Whether that is something else than before.
    pub(super) fn subscribe(&mut self, subscription: &ConsumerProtocolSubscription) -> bool {
        self.rack_id = subscription.rack_id.as_deref().map(str::to_owned);
        self.server_assignor = None;
        let topics = subscription.topics.iter();
        let names: BTreeSet<String> = topics.map(ToString::to_string).collect();
        let reads_other = names != self.names || self.pattern.is_some();
        self.names = names;
        self.pattern = None;
        reads_other
    }
}
