//! One member: what it wants, what it has, and how it comes from one assignment to the next without any partition
//! ever having two owners.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ottla_wire::{ErrorCode, Uuid};
use regex::Regex;

use super::classic::ClassicTerms;
use super::message::{Heartbeat, TopicPartition, TopicsView};
use crate::error::Refused;

/// A member of a consumer group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) names: BTreeSet<String>,
    pub(crate) pattern: Option<Pattern>,
    pub(super) server_assignor: Option<String>,
    pub(super) rebalance_timeout: Duration,
    pub(crate) epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) state: MemberState,
    /// What it may have, with the group's epoch since which it may.
    pub(super) assigned: BTreeMap<TopicPartition, i32>,
    /// What it has to give up first; never in `assigned`.
    pub(super) revoking: BTreeMap<TopicPartition, i32>,
    /// The topics that it reads, as far as there are such.
    pub(super) topics: BTreeSet<Uuid>,
    /// When it counts as gone.
    pub(super) expires: Instant,
    /// When it has to have given up `revoking`.
    pub(super) revoked_until: Option<Instant>,
    /// Set if it speaks the classic protocol.
    pub(crate) classic: Option<ClassicTerms>,
}

/// What is not as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Updated {
    /// What is shown of the member, or counts when partitions are shared out the next time.
    pub(super) described: bool,
    /// The names or the pattern of the topics that it reads.
    pub(super) reads_other: bool,
}

/// How far a member has come, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It has what it shall have.
    Stable,
    /// It has partitions to give up.
    UnrevokedPartitions,
    /// It waits for partitions that others have to give up.
    UnreleasedPartitions,
}

/// A pattern of topics' names, as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) text: String,
    regex: Regex,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, Refused> {
        let regex = crate::pattern::whole(text).map_err(|error| Refused {
            error: ErrorCode::INVALID_REGULAR_EXPRESSION,
            message: format!(
                "SubscribedTopicRegex `{text}` is not a valid regular expression: {error}."
            ),
        })?;
        Ok(Self {
            text: text.to_owned(),
            regex,
        })
    }
}

impl Member {
    pub(super) fn new(id: &str, now: Instant) -> Self {
        Self {
            id: id.to_owned(),
            instance_id: None,
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            names: BTreeSet::new(),
            pattern: None,
            server_assignor: None,
            rebalance_timeout: Duration::ZERO,
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: BTreeMap::new(),
            revoking: BTreeMap::new(),
            topics: BTreeSet::new(),
            expires: now,
            revoked_until: None,
            classic: None,
        }
    }

    /// What the member may have.
    pub(crate) fn assigned(&self) -> BTreeSet<TopicPartition> {
        self.assigned.keys().copied().collect()
    }

    /// Whether it has the partition, or has still to give it up.
    pub(super) fn has(&self, partition: &TopicPartition) -> bool {
        self.assigned.contains_key(partition) || self.revoking.contains_key(partition)
    }

    /// When it is a member no more, unless it is heard of.
    pub(super) fn deadline(&self) -> Instant {
        let classic = self.classic.as_ref();
        let join_by = classic.and_then(|terms| terms.join_by);
        let sync_by = classic.and_then(|terms| terms.sync_by);
        let earlier = [self.revoked_until, join_by, sync_by];
        let earlier = earlier.into_iter().flatten();
        earlier.fold(self.expires, Instant::min)
    }

    /// Takes over what a heartbeat says about the member; `pattern` is the one that it names, if any.
    pub(super) fn update(&mut self, beat: &Heartbeat, pattern: Option<Option<Pattern>>) -> Updated {
        let mut described = set(&mut self.client_id, &beat.client_id);
        described |= set(&mut self.client_host, &beat.client_host);
        if beat.instance_id.is_some() {
            described |= set(&mut self.instance_id, &beat.instance_id);
        }
        if beat.rack_id.is_some() {
            described |= set(&mut self.rack_id, &beat.rack_id);
        }
        if let Some(timeout) = &beat.rebalance_timeout {
            described |= set(&mut self.rebalance_timeout, timeout);
        }
        if beat.server_assignor.is_some() {
            described |= set(&mut self.server_assignor, &beat.server_assignor);
        }
        let mut reads_other = false;
        if let Some(names) = &beat.topics {
            reads_other |= set(&mut self.names, names);
        }
        if let Some(pattern) = pattern {
            let text = |pattern: &Option<Pattern>| pattern.as_ref().map(|p| p.text.clone());
            reads_other |= text(&self.pattern) != text(&pattern);
            self.pattern = pattern;
        }
        Updated {
            described,
            reads_other,
        }
    }

    /// Finds the topics that the member reads. Returns whether they are others than before.
    pub(super) fn resolve(&mut self, view: &TopicsView) -> bool {
        let named = self.names.iter().filter_map(|name| view.by_name.get(name));
        let mut topics: BTreeSet<Uuid> = named.map(|(id, _)| *id).collect();
        if let Some(pattern) = &self.pattern {
            let matching = view
                .by_name
                .iter()
                .filter(|(name, _)| pattern.regex.is_match(name));
            topics.extend(matching.map(|(_, (id, _))| *id));
        }
        let changed = topics != self.topics;
        self.topics = topics;
        changed
    }

    /// Whether a heartbeat in that epoch may go on from where the member is.
    pub(super) fn check_epoch(
        &self,
        epoch: i32,
        owned: Option<&BTreeSet<TopicPartition>>,
    ) -> Result<(), Refused> {
        let fenced = |which: &str| {
            Err(Refused {
                error: ErrorCode::FENCED_MEMBER_EPOCH,
                message: format!(
                    "The consumer group member has a {which} member epoch ({epoch}) than the one known by the group coordinator ({}). The member must abandon all its partitions and rejoin.",
                    self.epoch
                ),
            })
        };
        if epoch == 0 || epoch == self.epoch {
            return Ok(());
        }
        if epoch > self.epoch {
            return fenced("greater");
        }
        // The answer that raised its epoch may have been lost; then it has nothing of what that gave it.
        let owns_no_more =
            owned.is_some_and(|owned| owned.iter().all(|part| self.assigned.contains_key(part)));
        if epoch == self.previous_epoch && owns_no_more {
            return Ok(());
        }
        fenced("smaller")
    }

    /// Whether the member, which thinks that it is in `epoch`, may commit an offset of a partition (KIP-1251).
    pub(crate) fn may_commit(&self, partition: TopicPartition, epoch: i32) -> bool {
        if epoch == self.epoch {
            return true;
        }
        let since = self.assigned.get(&partition);
        let since = since.or_else(|| self.revoking.get(&partition));
        since.is_some_and(|since| *since <= epoch)
    }

    /// Whether the member is where the group's assignment of that epoch wants it.
    pub(super) fn is_reconciled(&self, assignment_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == assignment_epoch
    }

    /// Goes as far towards `target`, the assignment of `target_epoch`, as can be gone now: gives up before it takes,
    /// and takes only what nobody else has. Returns whether anything changed.
    pub(super) fn reconcile(
        &mut self,
        target: &BTreeSet<TopicPartition>,
        target_epoch: i32,
        owned: Option<&BTreeSet<TopicPartition>>,
        held_by_others: impl Fn(&TopicPartition) -> bool,
        now: Instant,
    ) -> bool {
        match self.state {
            MemberState::Stable if self.epoch == target_epoch => return false,
            MemberState::UnrevokedPartitions if owns_any(owned, &self.revoking) => return false,
            _ => {}
        }
        let (kept, given_up): (BTreeMap<_, _>, BTreeMap<_, _>) = self
            .assigned
            .iter()
            .map(|(partition, since)| (*partition, *since))
            .partition(|(partition, _)| target.contains(partition));
        if !given_up.is_empty() && owns_any(owned, &given_up) {
            self.state = MemberState::UnrevokedPartitions;
            self.assigned = kept;
            self.revoking = given_up;
            self.revoked_until = Some(now + self.rebalance_timeout);
            return true;
        }
        let mut assigned = kept;
        let mut unreleased = false;
        for partition in target {
            if assigned.contains_key(partition) {
                continue;
            }
            if held_by_others(partition) {
                unreleased = true;
            } else {
                assigned.insert(*partition, target_epoch);
            }
        }
        let state = if unreleased {
            MemberState::UnreleasedPartitions
        } else {
            MemberState::Stable
        };
        let changed = (state, target_epoch) != (self.state, self.epoch)
            || assigned != self.assigned
            || !self.revoking.is_empty();
        if target_epoch != self.epoch {
            self.previous_epoch = self.epoch;
            self.epoch = target_epoch;
        }
        self.state = state;
        self.assigned = assigned;
        self.revoking.clear();
        self.revoked_until = None;
        changed
    }
}

/// Makes `to` what `from` is. Whether it was not.
fn set<T: Clone + PartialEq>(to: &mut T, from: &T) -> bool {
    let differs = to != from;
    if differs {
        to.clone_from(from);
    }
    differs
}

/// Whether a member that says what it owns still has any of `partitions`. One that does not say may have all.
fn owns_any(
    owned: Option<&BTreeSet<TopicPartition>>,
    partitions: &BTreeMap<TopicPartition, i32>,
) -> bool {
    owned.is_none_or(|owned| partitions.keys().any(|partition| owned.contains(partition)))
}
