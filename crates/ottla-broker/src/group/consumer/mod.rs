//! A consumer group of the new protocol (KIP-848): the broker says who has which partitions, and each member comes
//! there at its own pace.
//!
//! Owns members, epochs and the target assignment of one group, after the rules of Apache Kafka's group coordinator.
//! Never touches a socket, a clock or a random source: heartbeats, the topics there are, and `now` come in, answers
//! come out. Offsets live in [`super::offsets`].
//!
//! Three epochs: the group's rises whenever who is there, what they read, or the topics change; the assignment's says
//! of which group epoch the target assignment is; a member's says which assignment it has reached.

mod assign;
mod classic;
mod conversion;
mod member;
mod message;
mod saved;
mod static_members;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use ottla_wire::{ErrorCode, Uuid};

pub(crate) use assign::Assignor;
use assign::{Target, Wish};
pub(crate) use member::Member;
use member::{MemberState, Pattern, Updated};
pub(crate) use message::{Beaten, Heartbeat, LEAVE_FOR_A_WHILE, TopicPartition, TopicsView};
pub(crate) use saved::SavedConsumerGroup;
use static_members::fenced_instance;

use super::migration::MigrationPolicy;
use crate::error::Refused;

/// A consumer group.
#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    epoch: i32,
    assignment_epoch: i32,
    /// Who shared out last.
    assignor: Assignor,
    /// By member id; the order makes assignments reproducible.
    members: BTreeMap<String, Member>,
    /// group.instance.id → member id. Every value is a key of `members`.
    instances: HashMap<String, String>,
    /// What each member shall have, of `assignment_epoch`. Every key is one of `members`.
    target: Target,
    /// Partitions of the topics that members read, when `epoch` last rose.
    partitions: BTreeMap<Uuid, i32>,
    /// The [`TopicsView::version`] that `partitions` and the members' topics were found in.
    seen: Option<u64>,
    /// When the group last became empty.
    empty_since: Instant,
    settings: ConsumerGroupSettings,
}

/// What a broker's operator may set about consumer groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConsumerGroupSettings {
    /// `group.consumer.session.timeout.ms`
    pub(crate) session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`
    pub(crate) heartbeat_interval: Duration,
    /// `group.consumer.max.size`
    pub(crate) members_max: usize,
    /// `group.consumer.migration.policy`
    pub(crate) migration: MigrationPolicy,
}

impl ConsumerGroup {
    pub(crate) fn new(settings: ConsumerGroupSettings, now: Instant) -> Self {
        Self::after(0, settings, now)
    }

    /// A group without members that was another one before, up to this generation: no epoch comes under the number of
    /// one.
    pub(crate) fn after(generation: i32, settings: ConsumerGroupSettings, now: Instant) -> Self {
        Self {
            epoch: generation,
            assignment_epoch: generation,
            assignor: Assignor::ALL[0],
            members: BTreeMap::new(),
            instances: HashMap::new(),
            target: Target::new(),
            partitions: BTreeMap::new(),
            seen: None,
            empty_since: now,
            settings,
        }
    }

    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(crate) fn assignment_epoch(&self) -> i32 {
        self.assignment_epoch
    }

    pub(crate) fn assignor(&self) -> Assignor {
        self.assignor
    }

    pub(crate) fn migration(&self) -> MigrationPolicy {
        self.settings.migration
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// What a member shall have in the end.
    pub(crate) fn target_of(&self, member: &Member) -> BTreeSet<TopicPartition> {
        self.target.get(&member.id).cloned().unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How long the group has had no members; `None` while it has some.
    pub(crate) fn empty_for(&self, now: Instant) -> Option<Duration> {
        self.is_empty()
            .then(|| now.saturating_duration_since(self.empty_since))
    }

    /// The ids of the topics that members read.
    pub(crate) fn topics(&self) -> BTreeSet<Uuid> {
        let topics = self.members.values().flat_map(|member| &member.topics);
        topics.copied().collect()
    }

    pub(crate) fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self
            .members
            .values()
            .all(|member| member.is_reconciled(self.assignment_epoch))
        {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// A member joins, lives on, or leaves. After an error everything is as it was.
    pub(crate) fn heartbeat(
        &mut self,
        beat: &Heartbeat,
        view: &TopicsView,
        now: Instant,
    ) -> Result<Beaten, Refused> {
        if beat.epoch < 0 {
            return self.leave(beat, now);
        }
        let pattern = self.pattern_of(beat)?;
        let joined = self.admit(beat, now)?;
        let mut changed = joined;
        let Some(member) = self.members.get_mut(&beat.member_id) else {
            return Err(unknown_member(&beat.member_id));
        };
        if let Some(instance) = &beat.instance_id {
            if let Some(before) = member.instance_id.as_ref().filter(|id| *id != instance) {
                self.instances.remove(before);
            }
            self.instances
                .insert(instance.clone(), beat.member_id.clone());
        }
        member.expires = now + self.settings.session_timeout;
        member.classic = None;
        let Updated {
            described,
            reads_other,
        } = member.update(beat, pattern);
        changed |= described;
        if reads_other {
            member.resolve(view);
        }
        let rebalance = self.follow_topics(view, reads_other) || reads_other;
        if rebalance {
            self.epoch += 1;
            changed = true;
        }
        if self.epoch > self.assignment_epoch {
            self.assign(view);
            changed = true;
        }
        let moved = self.reconcile(&beat.member_id, beat.owned.as_ref(), now);
        let is_full = beat.rebalance_timeout.is_some()
            && (beat.topics.is_some() || beat.pattern.is_some())
            && beat.owned.is_some();
        let Some(member) = self.members.get(&beat.member_id) else {
            return Err(unknown_member(&beat.member_id));
        };
        let tell = moved || is_full || beat.epoch == 0 || beat.epoch != member.epoch;
        Ok(Beaten {
            epoch: member.epoch,
            assignment: tell.then(|| member.assigned()),
            changed: changed || moved,
        })
    }

    /// The pattern that a heartbeat brings: the outer `None` if it says nothing new of one.
    fn pattern_of(&self, beat: &Heartbeat) -> Result<Option<Option<Pattern>>, Refused> {
        let known = self
            .members
            .get(&beat.member_id)
            .and_then(|member| member.pattern.as_ref());
        match beat.pattern.as_deref() {
            None => Ok(None),
            Some("") => Ok(Some(None)),
            Some(text) if known.is_some_and(|known| known.text == text) => Ok(None),
            Some(text) => Ok(Some(Some(Pattern::new(text)?))),
        }
    }

    /// Makes sure that the heartbeat's member is one, and may be. Returns whether that is new.
    fn admit(&mut self, beat: &Heartbeat, now: Instant) -> Result<bool, Refused> {
        let id = &beat.member_id;
        let joins = beat.epoch == 0;
        let namesake = beat
            .instance_id
            .as_ref()
            .and_then(|instance| self.instances.get(instance))
            .filter(|other| *other != id)
            .cloned();
        if let Some(other) = namesake {
            return self.take_place(beat, &other, now);
        }
        if let Some(member) = self.members.get(id) {
            // Only who joins can say under what instance id.
            let instance = beat.instance_id.as_ref().filter(|_| !joins);
            if instance.is_some_and(|instance| !self.instances.contains_key(instance)) {
                return Err(unknown_member(id));
            }
            member.check_epoch(beat.epoch, beat.owned.as_ref())?;
            return Ok(false);
        }
        if !joins {
            return Err(unknown_member(id));
        }
        if self.members.len() >= self.settings.members_max {
            return Err(Refused {
                error: ErrorCode::GROUP_MAX_SIZE_REACHED,
                message: format!(
                    "The consumer group has reached its maximum capacity of {} members.",
                    self.settings.members_max
                ),
            });
        }
        self.members.insert(id.clone(), Member::new(id, now));
        Ok(true)
    }

    /// Looks at topics that are new, grown or gone, and with `anew` at what members read. Returns whether partitions
    /// are read that were not, or are not that were.
    fn follow_topics(&mut self, view: &TopicsView, anew: bool) -> bool {
        let mut changed = false;
        let is_news = self.seen != Some(view.version);
        if !is_news && !anew {
            return false;
        }
        if is_news {
            self.seen = Some(view.version);
            for member in self.members.values_mut() {
                changed |= member.resolve(view);
            }
        }
        let counts: BTreeMap<Uuid, i32> = view.by_name.values().copied().collect();
        let partitions: BTreeMap<Uuid, i32> = self
            .topics()
            .into_iter()
            .filter_map(|topic| Some((topic, *counts.get(&topic)?)))
            .collect();
        changed |= partitions != self.partitions;
        self.partitions = partitions;
        changed
    }

    /// Makes the assignment of the present epoch.
    fn assign(&mut self, view: &TopicsView) {
        // Members that others removed may have been the only readers of a topic.
        self.follow_topics(view, true);
        self.assignor = self.preferred_assignor();
        let none = BTreeSet::new();
        let wishes: Vec<Wish<'_>> = self
            .members
            .values()
            .map(|member| Wish {
                id: &member.id,
                instance_id: member.instance_id.as_deref(),
                topics: &member.topics,
                current: self.target.get(&member.id).unwrap_or(&none),
            })
            .collect();
        self.target = self.assignor.assign(&wishes, &self.partitions);
        self.assignment_epoch = self.epoch;
    }

    /// The assignor that most members want, of those who want one.
    fn preferred_assignor(&self) -> Assignor {
        let votes = |assignor: &Assignor| {
            let wanted =
                |member: &&Member| member.server_assignor.as_deref() == Some(assignor.name());
            self.members.values().filter(wanted).count()
        };
        // The first of those with as many votes.
        let mut best = Assignor::ALL[0];
        for assignor in &Assignor::ALL[1..] {
            if votes(assignor) > votes(&best) {
                best = *assignor;
            }
        }
        best
    }

    fn reconcile(
        &mut self,
        id: &str,
        owned: Option<&BTreeSet<TopicPartition>>,
        now: Instant,
    ) -> bool {
        let Some(mut member) = self.members.remove(id) else {
            return false;
        };
        let none = BTreeSet::new();
        let target = self.target.get(id).unwrap_or(&none);
        // It is not among the members now.
        let held_by_others = |partition: &TopicPartition| self.is_held(partition);
        let moved = member.reconcile(target, self.assignment_epoch, owned, held_by_others, now);
        self.members.insert(id.to_owned(), member);
        moved
    }

    /// Whether any member has this partition.
    fn is_held(&self, partition: &TopicPartition) -> bool {
        self.members.values().any(|member| member.has(partition))
    }

    fn leave(&mut self, beat: &Heartbeat, now: Instant) -> Result<Beaten, Refused> {
        let id = &beat.member_id;
        if let Some(instance) = &beat.instance_id {
            match self.instances.get(instance) {
                None => return Err(unknown_member(id)),
                Some(other) if other != id => return Err(fenced_instance(id, instance, other)),
                Some(_) => {}
            }
        }
        let Some(member) = self.members.get_mut(id) else {
            return Err(unknown_member(id));
        };
        if beat.epoch == LEAVE_FOR_A_WHILE {
            // It has its partitions still, until it is back or its session is over.
            member.epoch = LEAVE_FOR_A_WHILE;
            member.state = MemberState::Stable;
            member.revoking.clear();
            member.revoked_until = None;
        } else {
            self.remove(&id.clone(), now);
        }
        Ok(Beaten {
            epoch: beat.epoch,
            assignment: None,
            changed: true,
        })
    }

    /// An administrator removes a member, by its id or, with an empty one, by its instance id.
    pub(crate) fn expel(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        now: Instant,
    ) -> ErrorCode {
        let of_instance = instance_id.and_then(|instance| self.instances.get(instance));
        let id = match of_instance {
            Some(id) if member_id.is_empty() || id == member_id => id.clone(),
            Some(_) => return ErrorCode::FENCED_INSTANCE_ID,
            None if instance_id.is_some() => return ErrorCode::UNKNOWN_MEMBER_ID,
            None => member_id.to_owned(),
        };
        if self.remove(&id, now) {
            ErrorCode::NONE
        } else {
            ErrorCode::UNKNOWN_MEMBER_ID
        }
    }

    fn remove(&mut self, id: &str, now: Instant) -> bool {
        let Some(member) = self.members.remove(id) else {
            return false;
        };
        if let Some(instance) = &member.instance_id {
            self.instances.remove(instance);
        }
        self.target.remove(id);
        self.epoch += 1;
        if self.members.is_empty() {
            self.empty_since = now;
        }
        true
    }

    /// Lets time pass: who is silent for too long, or does not give up in time, is a member no more. Returns whether
    /// anybody is.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        let late: Vec<String> = self
            .members
            .values()
            .filter(|member| member.deadline() <= now)
            .map(|member| member.id.clone())
            .collect();
        for id in &late {
            self.remove(id, now);
        }
        !late.is_empty()
    }

    /// When [`Self::advance`] next has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.members.values().map(Member::deadline).min()
    }

    /// The member that may commit or, with `None`, nobody in particular: an administrator, or a transaction whose
    /// producer knows nothing of the group. What partitions it may commit for is [`Member::may_commit`]'s to say.
    pub(crate) fn check_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        epoch: i32,
        transactional: bool,
    ) -> Result<Option<&Member>, ErrorCode> {
        if epoch < 0 && self.is_empty() {
            return Ok(None);
        }
        if transactional && epoch < 0 && member_id.is_empty() && instance_id.is_none() {
            return Ok(None);
        }
        let member = self.members.get(member_id);
        let member = member.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if member.classic.is_some() && epoch != member.epoch {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        if epoch > member.epoch {
            return Err(ErrorCode::STALE_MEMBER_EPOCH);
        }
        Ok(Some(member))
    }

    /// Whether a member of that epoch may read what the group has committed.
    pub(crate) fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        let Some(id) = member_id.filter(|id| !id.is_empty() || epoch >= 0) else {
            return Ok(());
        };
        match self.members.get(id) {
            None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(member) if member.epoch != epoch => Err(ErrorCode::STALE_MEMBER_EPOCH),
            Some(_) => Ok(()),
        }
    }
}

fn unknown_member(id: &str) -> Refused {
    Refused {
        error: ErrorCode::UNKNOWN_MEMBER_ID,
        message: format!("Member {id} is not a member of the group."),
    }
}
