//! From a classic group to a consumer group and back, with all its members and what they have.
//!
//! Owns how the one kind is written in terms of the other: generations are epochs, and assignments, which classic members
//! exchange as bytes with topics' names, are partitions by topics' ids. Never decides whether and when: that is
//! [`crate::group::migration`]'s.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use bytes::Bytes;
use ottla_wire::messages::consumer_protocol_assignment::{
    ConsumerProtocolAssignment, TopicPartition as AssignedTopic,
};
use ottla_wire::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use ottla_wire::{Message, Uuid, decode_versioned, encode_versioned};

use super::classic::ClassicTerms;
use super::message::{TopicPartition, TopicsView};
use super::{ConsumerGroup, ConsumerGroupSettings, Member, MemberState};
use crate::group::CONSUMER;
use crate::group::classic::{self, ClassicGroup};

impl ConsumerGroup {
    /// The group that a classic one becomes with all its members, or why it cannot. Nobody is told yet.
    pub(crate) fn of_classic(
        group: &ClassicGroup,
        settings: ConsumerGroupSettings,
        view: &TopicsView,
        now: Instant,
    ) -> Result<Self, &'static str> {
        if group.protocol_type() != Some(CONSUMER) {
            return Err("the group does not use the consumer embedded protocol");
        }
        if group.members().count() > settings.members_max {
            return Err("the group size exceeds the consumer group maximum size");
        }
        let mut new = Self::after(group.generation(), settings, now);
        for classic in group.members() {
            let member = Member::of_classic(classic, new.epoch, view, now)?;
            if let Some(instance) = &member.instance_id {
                new.instances.insert(instance.clone(), member.id.clone());
            }
            new.target.insert(member.id.clone(), member.assigned());
            new.members.insert(member.id.clone(), member);
        }
        // What its leader took from a cooperative member for others that one has until it joins again.
        let given: BTreeSet<TopicPartition> = new.target.values().flatten().copied().collect();
        for member in new.members.values_mut() {
            member.revoking.retain(|part, _| !given.contains(part));
            if !member.revoking.is_empty() {
                member.state = MemberState::UnrevokedPartitions;
                member.revoked_until = Some(now + member.rebalance_timeout);
            }
        }
        // The topics are news to it: whoever joins, also in the place of another, has it share out anew. The leader may have
        // been about to.
        Ok(new)
    }

    /// Whether there are members, and all of them speak the classic protocol.
    pub(crate) fn is_classic_alone(&self) -> bool {
        !self.is_empty() && self.members().all(|member| member.classic.is_some())
    }

    /// Those who speak the classic protocol as members of a classic group, and its generation. They are to join the next
    /// one.
    pub(crate) fn to_classic(&self, view: &TopicsView) -> (i32, Vec<classic::Member>) {
        let names = view.names();
        let members = self
            .members()
            .filter_map(|member| member.to_classic(&names));
        // Who has come to the assignment in force is of this generation.
        (self.assignment_epoch, members.collect())
    }
}

impl Member {
    /// With all that it said it has, when it last joined, as what it has to give up.
    fn of_classic(
        classic: &classic::Member,
        epoch: i32,
        view: &TopicsView,
        now: Instant,
    ) -> Result<Self, &'static str> {
        const MALFORMED: &str = "the embedded consumer protocol is malformed";
        let (_, metadata) = classic.protocols.first().ok_or(MALFORMED)?;
        let (version, subscription) =
            decode_versioned::<ConsumerProtocolSubscription>(metadata.clone())
                .map_err(|_| MALFORMED)?;
        let mut member = Self::new(&classic.id, now);
        member.instance_id.clone_from(&classic.instance_id);
        member.client_id.clone_from(&classic.client_id);
        member.client_host.clone_from(&classic.client_host);
        member.rebalance_timeout = classic.rebalance_timeout;
        (member.epoch, member.previous_epoch) = (epoch, epoch);
        member.subscribe(&subscription);
        let owned = subscription.owned_partitions.iter();
        let owned = owned.flat_map(|of| ids(view, &of.topic, &of.partitions));
        member.revoking = owned.map(|part| (part, epoch)).collect();
        let (protocols, session_timeout) = (classic.protocols.clone(), classic.session_timeout);
        member.classic = Some(ClassicTerms::new(protocols, version, session_timeout));
        member.expires = now + session_timeout;
        // Who has joined and has not asked for its first assignment has none.
        if !classic.assignment.is_empty() {
            let assignment = classic.assignment.clone();
            let (_, assignment) = decode_versioned::<ConsumerProtocolAssignment>(assignment)
                .map_err(|_| MALFORMED)?;
            if assignment.user_data.is_some_and(|data| !data.is_empty()) {
                return Err("an unsupported custom assignor is in use");
            }
            let topics = assignment.assigned_partitions.iter();
            let parts = topics.flat_map(|of| ids(view, &of.topic, &of.partitions));
            member.assigned = parts.map(|part| (part, epoch)).collect();
        }
        Ok(member)
    }

    /// The member in a classic group, if it speaks that protocol.
    fn to_classic(&self, names: &HashMap<Uuid, &str>) -> Option<classic::Member> {
        let terms = self.classic.as_ref()?;
        // Kafka writes down what the member was to have in the end, and others may have that still. What it has itself
        // counts if the group is led on to the consumer protocol again before the next generation is complete.
        let has = self.assigned.keys().chain(self.revoking.keys());
        Some(classic::Member {
            id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            assignment: assignment(has, names, terms.version),
            protocols: terms.protocols.clone(),
            session_timeout: terms.session_timeout,
            rebalance_timeout: self.rebalance_timeout,
            expires: self.expires,
            is_new: false,
            joining: None,
            syncing: None,
        })
    }
}

/// The partitions of a topic by its id, if there is such a topic.
pub(super) fn ids(view: &TopicsView, topic: &str, partitions: &[i32]) -> Vec<TopicPartition> {
    let id = view.by_name.get(topic).map(|(id, _)| *id);
    let parts = partitions.iter().filter_map(|index| Some((id?, *index)));
    parts.collect()
}

/// An assignment as a classic member reads it, in the version of its subscription.
pub(super) fn assignment<'a>(
    parts: impl Iterator<Item = &'a TopicPartition>,
    names: &HashMap<Uuid, &str>,
    version: i16,
) -> Bytes {
    let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for (topic, partition) in parts {
        // A topic that is gone has no name.
        if let Some(name) = names.get(topic) {
            topics.entry(name).or_default().insert(*partition);
        }
    }
    let topics = topics.into_iter().map(|(topic, partitions)| AssignedTopic {
        topic: topic.into(),
        partitions: partitions.into_iter().collect(),
        ..Default::default()
    });
    let message = ConsumerProtocolAssignment {
        assigned_partitions: topics.collect(),
        ..Default::default()
    };
    let version = version.clamp(0, ConsumerProtocolAssignment::VERSIONS.max);
    // Names of topics are short enough to be written.
    encode_versioned(&message, version).unwrap_or_default()
}
