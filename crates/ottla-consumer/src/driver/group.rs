//! What the driver keeps of a group: the membership, what the application subscribed to, and what was distributed.

use std::collections::BTreeMap;

use ottla_net::{Backoff, Metadata};
use ottla_wire::{ErrorCode, Str, Uuid};

use super::now;
use crate::{
    ConsumerConfig, GroupProtocol, TopicPattern,
    assignor::RebalanceProtocol,
    group::{
        classic::{Classic, ClassicConfig},
        consumer::{ConsumerMembership, ConsumerMembershipConfig},
        membership::{Choosing, Membership},
    },
};

/// The membership and what it is for.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) membership: Membership,
    /// For [`Group::choose`].
    classic: ClassicConfig,
    consumer: ConsumerMembershipConfig,
    /// Whether a pattern may match the cluster's own topics.
    internal: bool,
    /// What the application asked for; none: nothing.
    pub(crate) subscription: Option<Subscribed>,
    /// The topics that is, in order.
    pub(crate) topics: Vec<Str>,
    /// What was distributed, if this member leads the group.
    pub(super) led: Option<Told>,
    /// Whether the racks of replicas changing is news: for a consumer that has a rack, as in Java.
    heeds_racks: bool,
}

impl Group {
    pub(super) fn new(config: &ConsumerConfig, backoff: Backoff) -> Option<Self> {
        config.group_id.as_ref()?;
        let classic = ClassicConfig {
            is_static: config.group_instance_id.is_some(),
            protocol: RebalanceProtocol::of(&config.assignors),
            session_timeout: config.session_timeout,
            heartbeat_interval: config.heartbeat_interval,
            max_poll_interval: config.max_poll_interval,
            backoff,
            seed: fastrand::u64(..),
        };
        let consumer = ConsumerMembershipConfig {
            member_id: Uuid(fastrand::u128(..).to_be_bytes()).to_string().into(),
            is_static: classic.is_static,
            max_poll_interval: classic.max_poll_interval,
            backoff,
            seed: classic.seed,
        };
        let seed = classic.seed;
        let mut group = Self {
            membership: Membership::Choosing(Choosing::new(backoff, seed)),
            classic,
            consumer,
            internal: !config.exclude_internal_topics,
            subscription: None,
            topics: Vec::new(),
            led: None,
            heeds_racks: !config.client_rack.is_empty(),
        };
        match config.group_protocol {
            GroupProtocol::Classic => group.choose(false),
            GroupProtocol::Consumer => group.choose(true),
            GroupProtocol::Auto => {}
        }
        Some(group)
    }

    /// The protocol is known now: the consumer protocol, or the classic one.
    pub(super) fn choose(&mut self, consumer: bool) {
        self.membership = match consumer {
            true => Membership::Consumer(ConsumerMembership::new(self.consumer.clone(), now())),
            false => Membership::Classic(Classic::new(self.classic.clone())),
        };
    }

    /// There is a subscription by pattern. Whether the client is to look for topics that match: the brokers match it
    /// where they can.
    pub(crate) fn subscribe_pattern(&mut self, pattern: TopicPattern) -> bool {
        let by_brokers = match &mut self.membership {
            // Once the protocol is known.
            Membership::Choosing(_) => {
                self.membership.subscribe([], now());
                self.subscription = Some(Subscribed::Pattern(pattern));
                return false;
            }
            Membership::Classic(_) => None,
            Membership::Consumer(consumer) => pattern.for_brokers(self.internal).map(|text| {
                consumer.subscribe_pattern(text.into(), now());
            }),
        };
        let matches_itself = by_brokers.is_none();
        self.subscription = Some(match matches_itself {
            true => Subscribed::Pattern(pattern),
            false => Subscribed::ByBrokers(pattern),
        });
        matches_itself
    }

    /// Whether there is a subscription by a pattern that the brokers match.
    pub(crate) fn is_by_brokers(&self) -> bool {
        matches!(self.subscription, Some(Subscribed::ByBrokers(_)))
    }

    /// A subscription by pattern is for what there is now. Returns its topics, if they are others than before.
    pub(super) fn topics_matched(
        &mut self,
        metadata: &Metadata,
        internal: bool,
    ) -> Option<Vec<Str>> {
        let Some(Subscribed::Pattern(pattern)) = &self.subscription else {
            return None;
        };
        if self.membership.is_choosing() || !metadata.has_all_topics() {
            return None; // It knows by name what was subscribed to before.
        }
        let mut topics: Vec<Str> = metadata
            .topics()
            .filter(|topic| topic.error != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
            .filter(|topic| (internal || !topic.is_internal) && pattern.matches(&topic.name))
            .map(|topic| topic.name.clone())
            .collect();
        topics.sort_unstable();
        if topics == self.topics {
            return None;
        }
        tracing::info!(%pattern, ?topics, "the pattern of the subscription matches");
        self.topics.clone_from(&topics);
        if topics.is_empty() {
            // Java's assignors take a member without topics for one that wants what the first other one does.
            self.membership
                .lose_and_leave("the pattern matches no topic");
        } else {
            self.membership.subscribe(topics.iter().cloned(), now());
        }
        Some(topics)
    }

    /// Whether what this member distributed as the leader is not what there is any more.
    pub(super) fn topics_changed(&mut self, metadata: &Metadata) -> bool {
        let Some(led) = &self.led else { return false };
        let changed = *led != told(metadata, led.keys(), self.heeds_racks);
        if changed && let Some(classic) = self.membership.classic() {
            classic.topics_changed(now());
        }
        changed
    }
}

/// What an application subscribes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Subscribed {
    Names,
    /// Matched by this client.
    Pattern(TopicPattern),
    /// Matched by the brokers.
    ByBrokers(TopicPattern),
}

/// What is to be distributed, by topic; those that do not exist (yet) included: for each partition the racks of
/// its replicas.
pub(super) type Told = BTreeMap<Str, Vec<Vec<Str>>>;

pub(super) fn told<'a>(
    metadata: &Metadata,
    topics: impl Iterator<Item = &'a Str>,
    racks: bool,
) -> Told {
    let rack_of = |node: &i32| metadata.broker(*node)?.rack.clone();
    let partitions = |topic: &str| {
        let topic = metadata.topic(topic);
        let partitions = topic.into_iter().flat_map(|topic| &topic.partitions);
        let racks_of = |partition: &ottla_net::Partition| match racks {
            true => partition.replicas.iter().filter_map(rack_of).collect(),
            false => Vec::new(),
        };
        partitions.map(racks_of).collect()
    };
    topics
        .map(|topic| (topic.clone(), partitions(topic)))
        .collect()
}
