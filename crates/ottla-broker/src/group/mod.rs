//! Consumer groups: their members, and the offsets they commit.
//!
//! Owns every group of the cluster, whichever node coordinates it. A group's protocol is a plain struct in a
//! module of its own; KIP-848 and share groups have their place beside [`classic`].

pub(crate) mod classic;
pub(crate) mod keeping;
pub(crate) mod offsets;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ottla_wire::decode_versioned;
use ottla_wire::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;

use classic::{Action, ClassicGroup, GroupSettings};
use offsets::{Committed, Offsets};

/// All groups, by id.
#[derive(Debug)]
pub(crate) struct Groups {
    by_id: BTreeMap<String, Group>,
    settings: GroupSettings,
}

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) classic: ClassicGroup,
    pub(crate) offsets: Offsets,
}

/// What is known of the topics that a group's members read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subscribed {
    Topics(BTreeSet<String>),
    /// The members do not speak the consumers' protocol.
    Unknown,
}

impl Groups {
    pub(crate) fn new(settings: GroupSettings) -> Self {
        Self {
            by_id: BTreeMap::new(),
            settings,
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Group> {
        self.by_id.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Group> {
        self.by_id.get_mut(id)
    }

    pub(crate) fn get_or_create(&mut self, id: &str, now: Instant) -> &mut Group {
        let settings = self.settings;
        self.by_id.entry(id.to_owned()).or_insert_with(|| Group {
            classic: ClassicGroup::new(settings, now),
            offsets: Offsets::default(),
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.by_id.iter().map(|(id, group)| (id.as_str(), group))
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Group> {
        self.by_id.remove(id)
    }

    pub(crate) fn forget_topic(&mut self, topic: &str) {
        for group in self.by_id.values_mut() {
            group.offsets.remove_topic(topic);
        }
    }

    /// Lets time pass in every group.
    pub(crate) fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for group in self.by_id.values_mut() {
            group.classic.advance(now, actions);
        }
    }

    /// When [`Self::advance`] next has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.by_id
            .values()
            .filter_map(|group| group.classic.next_timeout())
            .min()
    }

    /// Forgets offsets that nobody has used for `retention` (`offsets.retention.minutes`), and groups that have
    /// neither members nor offsets (KIP-211). Returns the groups whose offsets changed or that are gone.
    pub(crate) fn expire(&mut self, now: Instant, now_ms: i64, retention: Duration) -> Vec<String> {
        let mut changed = Vec::new();
        self.by_id.retain(|id, group| {
            let expired = group.expire_offsets(now, now_ms, retention);
            let keep = !group.classic.is_empty() || group.offsets.iter().next().is_some();
            if expired || !keep {
                changed.push(id.clone());
            }
            keep
        });
        changed
    }
}

impl Group {
    /// The topics that members of the generation in force read.
    pub(crate) fn subscribed(&self) -> Subscribed {
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
    fn expire_offsets(&mut self, now: Instant, now_ms: i64, retention: Duration) -> bool {
        let Subscribed::Topics(in_use) = self.subscribed() else {
            return false;
        };
        let simple = self.classic.protocol_type().is_none();
        // A group that had members keeps all its offsets until it has been without any for long enough.
        let since_empty = match self.classic.empty_for(now) {
            Some(empty_for) if !simple => Some(empty_for),
            _ => None,
        };
        if since_empty.is_none() && !simple && !self.classic.is_stable() {
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

/// The protocol type of consumers; their members' metadata can be read.
const CONSUMER: &str = "consumer";

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_wire::encode_versioned;

    use super::classic::{Join, Sync};
    use super::*;

    const RETENTION: Duration = Duration::from_secs(100);

    fn groups() -> Groups {
        Groups::new(GroupSettings {
            session_timeout_min: Duration::from_secs(1),
            session_timeout_max: Duration::from_secs(1000),
            initial_rebalance_delay: Duration::ZERO,
            members_max: 10,
        })
    }

    fn commit(groups: &mut Groups, topic: &str, now: Instant, commit_time_ms: i64) {
        let committed = Committed {
            offset: 1,
            leader_epoch: -1,
            metadata: String::new(),
            commit_time_ms,
        };
        let group = groups.get_or_create("g", now);
        group.offsets.commit(topic, 0, committed);
    }

    fn join(groups: &mut Groups, now: Instant, metadata: Bytes) -> String {
        let join = Join {
            member_id: String::new(),
            instance_id: None,
            client_id: "c".to_owned(),
            client_host: "h".to_owned(),
            protocol_type: CONSUMER.to_owned(),
            protocols: vec![("range".to_owned(), metadata)],
            session_timeout: Duration::from_secs(1000),
            rebalance_timeout: Duration::from_secs(1000),
            must_know_its_id: false,
            can_skip_assignment: true,
            unique: 1,
        };
        let group = groups.get_or_create("g", now);
        let mut actions = Vec::new();
        group.classic.join(1, join, now, &mut actions);
        let [Action::Joined(_, joined)] = &actions[..] else {
            panic!("{actions:?}")
        };
        let sync = Sync {
            member_id: joined.member_id.clone(),
            instance_id: None,
            generation: joined.generation,
            protocol_type: None,
            protocol: None,
            assignments: Vec::new(),
        };
        let id = joined.member_id.clone();
        group.classic.sync(2, sync, now, &mut actions);
        id
    }

    #[test]
    fn offsets_of_simple_consumers_expire_by_their_age_and_then_the_group_goes() {
        let (mut groups, now) = (groups(), Instant::now());
        commit(&mut groups, "old", now, 0);
        commit(&mut groups, "new", now, 50_000);
        assert!(groups.expire(now, 99_999, RETENTION).is_empty());
        assert_eq!(groups.expire(now, 100_000, RETENTION), ["g"]);
        let left = groups.get("g").unwrap().offsets.iter().count();
        assert_eq!(left, 1);
        assert_eq!(groups.expire(now, 150_000, RETENTION), ["g"]);
        assert!(groups.get("g").is_none());
    }

    #[test]
    fn a_groups_offsets_expire_when_nobody_reads_the_topic_or_nobody_is_left() {
        let (mut groups, now) = (groups(), Instant::now());
        let subscription = ConsumerProtocolSubscription {
            topics: vec!["read".into()],
            ..Default::default()
        };
        let id = join(
            &mut groups,
            now,
            encode_versioned(&subscription, 3).unwrap(),
        );
        commit(&mut groups, "read", now, 0);
        commit(&mut groups, "left", now, 0);
        groups.expire(now, 500_000, RETENTION);
        let topics = |groups: &Groups| -> Vec<String> {
            let offsets = &groups.get("g").unwrap().offsets;
            offsets.iter().map(|(topic, ..)| topic.to_owned()).collect()
        };
        assert_eq!(topics(&groups), ["read"]);
        let group = groups.get_mut("g").unwrap();
        let left = group.classic.leave(&id, None, now, &mut Vec::new());
        assert!(left.is_ok() && group.classic.is_empty());
        groups.expire(now + RETENTION / 2, 550_000, RETENTION);
        assert_eq!(
            topics(&groups),
            ["read"],
            "counted from when it became empty"
        );
        groups.expire(now + RETENTION, 600_000, RETENTION);
        assert!(groups.get("g").is_none());
    }

    #[test]
    fn what_members_read_is_unknown_if_they_do_not_say_it_as_consumers_do() {
        let (mut groups, now) = (groups(), Instant::now());
        join(&mut groups, now, Bytes::from_static(b"?"));
        commit(&mut groups, "any", now, 0);
        assert_eq!(groups.get("g").unwrap().subscribed(), Subscribed::Unknown);
        groups.expire(now, i64::MAX, RETENTION);
        assert_eq!(groups.get("g").unwrap().offsets.iter().count(), 1);
    }
}
