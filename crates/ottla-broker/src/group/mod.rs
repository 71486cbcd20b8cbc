//! Consumer groups: their members, and the offsets they commit.
//!
//! Owns every group of the cluster, whichever node coordinates it. A group's protocol is a plain struct in a
//! module of its own: [`classic`] groups, [`consumer`] groups and [`share`] groups. How a group comes from one to the
//! other is in [`migration`].

pub(crate) mod classic;
pub(crate) mod consumer;
mod deadlines;
pub(crate) mod keeping;
pub(crate) mod migration;
pub(crate) mod offsets;
pub(crate) mod share;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use ottla_wire::decode_versioned;
use ottla_wire::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;

use classic::{Action, ClassicGroup, GroupSettings};
use consumer::{ConsumerGroup, ConsumerGroupSettings, Member, TopicsView};
use deadlines::Deadlines;
use offsets::{Committed, Offsets};
use ottla_wire::{ErrorCode, Uuid};
use share::ShareGroup;
use share::settings::ShareSettings;

/// All groups, by id.
#[derive(Debug)]
pub(crate) struct Groups {
    by_id: BTreeMap<String, Group>,
    /// Knows of every group that may be another than when it was asked last.
    deadlines: Deadlines,
    settings: GroupSettings,
    consumer_settings: ConsumerGroupSettings,
}

/// One group. It is of the kind that its members made it; without members it can become the other kind.
#[derive(Debug)]
pub(crate) struct Group {
    /// Without members if there is a `consumer`.
    pub(crate) classic: ClassicGroup,
    /// Set if the group is one of the new protocol.
    pub(crate) consumer: Option<ConsumerGroup>,
    /// Set if the group is a share group, which it stays until it is deleted.
    pub(crate) share: Option<ShareGroup>,
    pub(crate) offsets: Offsets,
}

/// What a commit that was let in may be for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MayCommit<'a> {
    /// The member of a consumer group that commits, and the epoch it says it is in.
    member: Option<&'a Member>,
    epoch: i32,
}

impl MayCommit<'_> {
    pub(crate) fn partition(&self, topic: Uuid, partition: i32) -> bool {
        self.member
            .is_none_or(|member| member.may_commit((topic, partition), self.epoch))
    }
}

/// What is known of the topics that a group's members read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subscribed {
    Topics(BTreeSet<String>),
    /// The members do not speak the consumers' protocol.
    Unknown,
}

impl Groups {
    pub(crate) fn new(settings: GroupSettings, consumer_settings: ConsumerGroupSettings) -> Self {
        Self {
            by_id: BTreeMap::new(),
            deadlines: Deadlines::default(),
            settings,
            consumer_settings,
        }
    }

    pub(crate) fn consumer_settings(&self) -> ConsumerGroupSettings {
        self.consumer_settings
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Group> {
        self.by_id.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Group> {
        let group = self.by_id.get_mut(id);
        if group.is_some() {
            self.deadlines.touch(id);
        }
        group
    }

    pub(crate) fn get_or_create(&mut self, id: &str, now: Instant) -> &mut Group {
        let settings = self.settings;
        self.deadlines.touch(id);
        self.by_id.entry(id.to_owned()).or_insert_with(|| Group {
            classic: ClassicGroup::new(settings, now),
            consumer: None,
            share: None,
            offsets: Offsets::default(),
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.by_id.iter().map(|(id, group)| (id.as_str(), group))
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Group> {
        self.deadlines.touch(id);
        self.by_id.remove(id)
    }

    /// Takes a group back that was made for a request of which nothing came.
    pub(crate) fn remove_if_unused(&mut self, id: &str) {
        let unused = |group: &Group| {
            group.is_empty()
                && group.protocol_type().is_none()
                && !group.classic.expects_members()
                && group.offsets.iter().next().is_none()
        };
        if self.by_id.get(id).is_some_and(unused) {
            self.remove(id);
        }
    }

    /// Does something to every share group. Returns those that it changed.
    pub(crate) fn shares_mut(&mut self, each: impl Fn(&mut ShareGroup) -> bool) -> Vec<String> {
        let changed = |(id, group): (&String, &mut Group)| {
            let share = group.share.as_mut()?;
            each(share).then(|| id.clone())
        };
        let changed: Vec<String> = self.by_id.iter_mut().filter_map(changed).collect();
        for id in &changed {
            self.deadlines.touch(id);
        }
        changed
    }

    /// The share groups of which something is not as it was kept last.
    pub(crate) fn unkept_shares(&self) -> Vec<String> {
        let is_unkept = |group: &Group| group.share.as_ref().is_some_and(ShareGroup::is_unkept);
        let unkept = self.by_id.iter().filter(|(_, group)| is_unkept(group));
        unkept.map(|(id, _)| id.clone()).collect()
    }

    /// Forgets where groups are in a topic that is gone. Returns the groups that were somewhere.
    pub(crate) fn forget_topic(&mut self, topic: &str, topic_id: Uuid) -> Vec<String> {
        let had_any = |(id, group): (&String, &mut Group)| {
            let had_offsets = group.offsets.remove_topic(topic);
            let share = group.share.as_mut();
            let had_states = share.is_some_and(|share| share.forget_topic(topic_id));
            (had_offsets || had_states).then(|| id.clone())
        };
        let had_any: Vec<String> = self.by_id.iter_mut().filter_map(had_any).collect();
        for id in &had_any {
            self.deadlines.touch(id);
        }
        had_any
    }

    /// The group as a share group, which only one that is new becomes.
    pub(crate) fn share_group(
        &mut self,
        id: &str,
        settings: ShareSettings,
        now: Instant,
    ) -> Result<&mut ShareGroup, ErrorCode> {
        let is_new = !self.by_id.contains_key(id);
        let group = self.get_or_create(id, now);
        if !is_new && group.share.is_none() {
            return Err(ErrorCode::GROUP_ID_NOT_FOUND);
        }
        Ok(group.share.get_or_insert_with(|| ShareGroup::new(settings)))
    }

    /// Lets time pass in every group. Returns the groups that have to be kept as they are now.
    pub(crate) fn advance(
        &mut self,
        view: &TopicsView,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Vec<String> {
        let mut changed = Vec::new();
        for id in self.due(now) {
            let Some(group) = self.get_mut(&id) else {
                continue;
            };
            let mut is_changed = false;
            group.classic.advance(now, actions);
            if let Some(share) = &mut group.share {
                share.advance(now);
                is_changed |= share.is_unkept();
            }
            if let Some(consumer) = &mut group.consumer {
                is_changed |= consumer.advance(now);
            }
            group.downgrade(view, now, actions);
            if is_changed {
                changed.push(id);
            }
        }
        changed
    }

    /// When [`Self::advance`] next has something to do.
    pub(crate) fn next_timeout(&mut self) -> Option<Instant> {
        self.settle();
        self.deadlines.first()
    }

    fn due(&mut self, now: Instant) -> Vec<String> {
        self.settle();
        self.deadlines.due(now)
    }

    fn settle(&mut self) {
        let by_id = &self.by_id;
        self.deadlines
            .settle(|id| by_id.get(id).and_then(Group::next_timeout));
    }

    /// Forgets offsets that nobody has used for `retention` (`offsets.retention.minutes`), and groups that have
    /// neither members nor offsets (KIP-211). Returns the groups whose offsets changed or that are gone.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        now_ms: i64,
        retention: Duration,
        view: &TopicsView,
    ) -> Vec<String> {
        let mut changed = Vec::new();
        let deadlines = &mut self.deadlines;
        self.by_id.retain(|id, group| {
            let expired = group.expire_offsets(now, now_ms, retention, view);
            let keep =
                !group.is_empty() || group.share.is_some() || group.offsets.iter().next().is_some();
            if expired || !keep {
                changed.push(id.clone());
                deadlines.touch(id);
            }
            keep
        });
        changed
    }
}

impl Group {
    /// Nobody is a member, so the group may be deleted, or become one of another kind.
    pub(crate) fn is_empty(&self) -> bool {
        self.classic.is_empty()
            && self.consumer.as_ref().is_none_or(ConsumerGroup::is_empty)
            && self.share.as_ref().is_none_or(ShareGroup::is_empty)
    }

    /// When time next changes it.
    fn next_timeout(&self) -> Option<Instant> {
        let consumer = self.consumer.as_ref();
        let consumer = consumer.and_then(ConsumerGroup::next_timeout);
        let share = self.share.as_ref().and_then(ShareGroup::next_timeout);
        let all = [self.classic.next_timeout(), consumer, share];
        all.into_iter().flatten().min()
    }

    /// Its kind, by Kafka's name.
    pub(crate) fn type_name(&self) -> &'static str {
        if self.share.is_some() {
            "share"
        } else if self.consumer.is_some() {
            "consumer"
        } else {
            "classic"
        }
    }

    pub(crate) fn state_name(&self) -> &'static str {
        match (&self.share, &self.consumer) {
            (Some(group), _) => group.state_name(),
            (None, Some(group)) => group.state_name(),
            (None, None) => self.classic.state_name(),
        }
    }

    /// What its members do; none for groups of simple consumers, which only commit.
    pub(crate) fn protocol_type(&self) -> Option<&str> {
        match &self.consumer {
            _ if self.share.is_some() => Some(SHARE),
            Some(_) => Some(CONSUMER),
            None => self.classic.protocol_type(),
        }
    }

    /// Whether a commit by this member may be taken, and for which partitions.
    pub(crate) fn check_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        epoch: i32,
        transactional: bool,
        now: Instant,
    ) -> Result<MayCommit<'_>, ErrorCode> {
        match &self.consumer {
            Some(group) => {
                let member = group.check_commit(member_id, instance_id, epoch, transactional)?;
                Ok(MayCommit { member, epoch })
            }
            None => {
                self.classic
                    .check_commit(member_id, instance_id, epoch, transactional, now)?;
                Ok(MayCommit {
                    member: None,
                    epoch,
                })
            }
        }
    }

    /// The topics that members of the generation in force read.
    pub(crate) fn subscribed(&self, view: &TopicsView) -> Subscribed {
        if let Some(group) = &self.consumer {
            let read = group.topics();
            let topics = view.by_name.iter();
            let topics = topics.filter(|(_, (id, _))| read.contains(id));
            return Subscribed::Topics(topics.map(|(name, _)| name.clone()).collect());
        }
        if self.classic.is_empty() {
            return Subscribed::Topics(BTreeSet::new());
        }
        if self.classic.protocol_type() != Some(CONSUMER) {
            return Subscribed::Unknown;
        }
        let mut topics = BTreeSet::new();
        for member in self.classic.members() {
            let metadata = self.classic.metadata_of(member);
            match decode_versioned::<ConsumerProtocolSubscription>(metadata) {
                Ok((_, subscription)) => {
                    topics.extend(subscription.topics.iter().map(ToString::to_string));
                }
                Err(_) => return Subscribed::Unknown,
            }
        }
        Subscribed::Topics(topics)
    }

    /// Whether any offset went.
    fn expire_offsets(
        &mut self,
        now: Instant,
        now_ms: i64,
        retention: Duration,
        view: &TopicsView,
    ) -> bool {
        let Subscribed::Topics(in_use) = self.subscribed(view) else {
            return false;
        };
        let simple = self.protocol_type().is_none();
        // A group that had members keeps all its offsets until it has been without any for long enough.
        let empty_for = match &self.consumer {
            Some(group) => group.empty_for(now),
            None => self.classic.empty_for(now),
        };
        let since_empty = empty_for.filter(|_| !simple);
        let settled = self.consumer.is_some() || self.classic.is_stable();
        if since_empty.is_none() && !simple && !settled {
            return false;
        }
        let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let is_expired = |committed: &Committed| match since_empty {
            Some(empty_for) => empty_for >= retention,
            None => now_ms.saturating_sub(committed.commit_time_ms) >= retention_ms,
        };
        self.offsets
            .retain(|topic, committed| in_use.contains(topic) || !is_expired(committed))
    }
}

/// Whether the member is the one that goes by its instance id, if it names one (KIP-345).
fn check_instance(
    instances: &HashMap<String, String>,
    member_id: &str,
    instance_id: Option<&str>,
) -> Result<(), ErrorCode> {
    match instance_id.map(|instance| instances.get(instance)) {
        Some(None) => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        Some(Some(id)) if id != member_id => Err(ErrorCode::FENCED_INSTANCE_ID),
        _ => Ok(()),
    }
}

/// The protocol type of share groups.
const SHARE: &str = "share";

/// The protocol type of consumers; their members' metadata can be read.
const CONSUMER: &str = "consumer";
