//! Share groups (KIP-932): their members, what each is to read, and what became of the records. A plain struct.
//!
//! What became of records outlives a restart ([`saved`]); members join anew. Partitions have any number of members, so
//! that an assignment is adopted at once.
//!
//! To be a member and to have records acquired are two things, as with Kafka, where the one is the coordinator's and the
//! other the partitions' leaders' to know, and the coordinator tells these nothing: who leaves, or is dropped, has what it
//! acquired until its share session or its connection ends, or the locks time out.

pub(crate) mod partition;
pub(crate) mod saved;
pub(crate) mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ottla_wire::{ErrorCode, Uuid};

use super::consumer::{TopicPartition, TopicsView};
use crate::error::Refused;
use partition::SharePartition;
use settings::ShareSettings;

/// One share group.
#[derive(Debug)]
pub(crate) struct ShareGroup {
    epoch: i32,
    members: BTreeMap<String, ShareMember>,
    pub(crate) partitions: BTreeMap<TopicPartition, SharePartition>,
    settings: ShareSettings,
}

/// A member.
#[derive(Debug)]
pub(crate) struct ShareMember {
    pub(crate) epoch: i32,
    before: i32,
    pub(crate) rack_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) assigned: BTreeSet<TopicPartition>,
    expires: Instant,
}

/// A ShareGroupHeartbeat.
#[derive(Clone, Debug)]
pub(crate) struct ShareHeartbeat {
    pub(crate) member_id: String,
    pub(crate) epoch: i32,
    pub(crate) rack_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) topics: Option<BTreeSet<String>>,
}

/// Its answer.
#[derive(Debug)]
pub(crate) struct ShareBeaten {
    pub(crate) epoch: i32,
    /// Only if the member may not know it.
    pub(crate) assignment: Option<BTreeSet<TopicPartition>>,
    /// Something is not as it was kept last.
    pub(crate) changed: bool,
}

impl ShareGroup {
    pub(crate) fn new(settings: ShareSettings) -> Self {
        Self {
            epoch: 0,
            members: BTreeMap::new(),
            partitions: BTreeMap::new(),
            settings,
        }
    }

    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &ShareMember)> {
        self.members
            .iter()
            .map(|(id, member)| (id.as_str(), member))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn state_name(&self) -> &'static str {
        if self.is_empty() { "Empty" } else { "Stable" }
    }

    pub(crate) fn set_settings(&mut self, settings: ShareSettings) {
        self.settings = settings;
    }

    pub(crate) fn settings(&self) -> ShareSettings {
        self.settings
    }

    pub(crate) fn heartbeat(
        &mut self,
        beat: &ShareHeartbeat,
        view: &TopicsView,
        now: Instant,
    ) -> Result<ShareBeaten, Refused> {
        let before = self.epoch;
        if beat.epoch == LEAVE {
            self.known(beat)?;
            self.members.remove(&beat.member_id);
            self.assign(view);
            return Ok(ShareBeaten {
                epoch: LEAVE,
                assignment: None,
                changed: self.epoch != before || self.is_unkept(),
            });
        }
        if beat.epoch == 0 {
            if !self.members.contains_key(&beat.member_id) && self.members.len() >= MEMBERS_MAX {
                return Err(refused(
                    ErrorCode::GROUP_MAX_SIZE_REACHED,
                    format!(
                        "The share group has reached its maximum capacity of {MEMBERS_MAX} members."
                    ),
                ));
            }
        } else {
            let member = self.known(beat)?;
            if beat.epoch != member.epoch && beat.epoch != member.before {
                return Err(refused(
                    ErrorCode::FENCED_MEMBER_EPOCH,
                    "The share group member is in another epoch than the group coordinator knows. The member must \
                     abandon all its partitions and rejoin."
                        .to_owned(),
                ));
            }
        }
        let expires = now + self.settings.session_timeout;
        let member = self.members.entry(beat.member_id.clone());
        let member = member.or_insert_with(|| ShareMember {
            epoch: 0,
            before: 0,
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            topics: BTreeSet::new(),
            assigned: BTreeSet::new(),
            expires,
        });
        member.expires = expires;
        member.client_id.clone_from(&beat.client_id);
        member.client_host.clone_from(&beat.client_host);
        if beat.epoch == 0 {
            member.epoch = 0;
            member.rack_id.clone_from(&beat.rack_id);
        }
        if let Some(topics) = &beat.topics {
            member.topics.clone_from(topics);
        }
        self.assign(view);
        let epoch = self.epoch;
        let member = self.known(beat)?;
        let news = member.epoch != epoch || beat.epoch == 0 || beat.epoch != member.epoch;
        if member.epoch != epoch {
            member.before = member.epoch;
            member.epoch = epoch;
        }
        Ok(ShareBeaten {
            epoch,
            assignment: (news || beat.topics.is_some()).then(|| member.assigned.clone()),
            changed: epoch != before,
        })
    }

    /// Lets time pass. Whether records became available.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        let gone: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.expires <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.members.remove(&id);
        }
        let limit = self.settings.deliveries_max;
        let mut freed = false;
        for partition in self.partitions.values_mut() {
            freed |= partition.expire(now, limit);
        }
        freed
    }

    /// When [`Self::advance`] next has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let members = self.members.values().map(|member| member.expires);
        let partitions = self.partitions.values();
        let locks = partitions.filter_map(SharePartition::next_timeout);
        members.chain(locks).min()
    }

    /// Gives back what a member acquired at a node. Whether records became available.
    pub(crate) fn release(&mut self, member: &str, node: i32) -> bool {
        let limit = self.settings.deliveries_max;
        let mut freed = false;
        for partition in self.partitions.values_mut() {
            freed |= partition.release(member, node, limit);
        }
        freed
    }

    /// Whether some partition is not as it was when it was kept last.
    pub(crate) fn is_unkept(&self) -> bool {
        self.partitions.values().any(SharePartition::is_unkept)
    }

    /// A test has a leader of this epoch lose what a partition's log had from `end` on. Whether that changes anything.
    pub(crate) fn cut(&mut self, id: TopicPartition, leader_epoch: i32, end: i64) -> bool {
        let Some(partition) = self.partitions.get_mut(&id) else {
            return false;
        };
        // Nobody acquires any more what was read before; an epoch that is newer still had it no more.
        let _ = partition.led(leader_epoch);
        partition.cut(end);
        partition.is_unkept()
    }

    /// A test fences a member. Its share of the partitions is for the others with the next heartbeat of any.
    pub(crate) fn expel(&mut self, member: &str) -> ErrorCode {
        match self.members.remove(member) {
            Some(_) => ErrorCode::NONE,
            None => ErrorCode::UNKNOWN_MEMBER_ID,
        }
    }

    /// A test ends the locks of all that is acquired of a partition. How many there were.
    pub(crate) fn expire_locks(&mut self, id: TopicPartition) -> usize {
        let limit = self.settings.deliveries_max;
        let partition = self.partitions.get_mut(&id);
        partition.map_or(0, |partition| partition.expire_all(limit))
    }

    /// An administrator says where to begin, or with -1, to begin where the settings say. What was known before.
    pub(crate) fn set_starts(
        &mut self,
        starts: Vec<(TopicPartition, i64)>,
    ) -> Vec<(TopicPartition, Option<SharePartition>)> {
        self.epoch += 1;
        let epoch = self.epoch;
        let set = |(id, start)| {
            let before = match start {
                0.. => self
                    .partitions
                    .insert(id, SharePartition::new(start, epoch)),
                _ => self.partitions.remove(&id),
            };
            (id, before)
        };
        starts.into_iter().map(set).collect()
    }

    /// Whether the group has begun to read a topic.
    pub(crate) fn knows_topic(&self, topic: Uuid) -> bool {
        let of_topic = (topic, i32::MIN)..=(topic, i32::MAX);
        self.partitions.range(of_topic).next().is_some()
    }

    /// Forgets where it is in topics. What was known before.
    pub(crate) fn forget_topics(
        &mut self,
        topics: &BTreeSet<Uuid>,
    ) -> Vec<(TopicPartition, Option<SharePartition>)> {
        let gone = self
            .partitions
            .extract_if(.., |(topic, _), _| topics.contains(topic));
        gone.map(|(id, before)| (id, Some(before))).collect()
    }

    /// Takes such a change back, in reverse: a partition that was named twice is as it was before both.
    pub(crate) fn put_back(&mut self, before: Vec<(TopicPartition, Option<SharePartition>)>) {
        for (id, before) in before.into_iter().rev() {
            match before {
                Some(before) => drop(self.partitions.insert(id, before)),
                None => drop(self.partitions.remove(&id)),
            }
        }
    }

    /// A topic is gone. Whether anything was known of it.
    pub(crate) fn forget_topic(&mut self, topic: Uuid) -> bool {
        let before = self.partitions.len();
        self.partitions.retain(|(id, _), _| *id != topic);
        self.partitions.len() < before
    }

    fn known(&mut self, beat: &ShareHeartbeat) -> Result<&mut ShareMember, Refused> {
        let id = &beat.member_id;
        self.members.get_mut(id).ok_or_else(|| {
            let message = format!("Member {id} is not a member of the share group.");
            refused(ErrorCode::UNKNOWN_MEMBER_ID, message)
        })
    }

    /// Deals the partitions of each topic out to the members that read it, and the members to the partitions if they are
    /// more; the epoch rises if that changes anything.
    fn assign(&mut self, view: &TopicsView) {
        let mut dealt: BTreeMap<&str, BTreeSet<TopicPartition>> = BTreeMap::new();
        for (name, (id, partitions)) in &view.by_name {
            let readers = self
                .members
                .iter()
                .filter(|(_, member)| member.topics.contains(name));
            let readers: Vec<&str> = readers.map(|(id, _)| id.as_str()).collect();
            if readers.is_empty() {
                continue;
            }
            let partitions = usize::try_from(*partitions).unwrap_or(0);
            for turn in 0..partitions
                .max(readers.len())
                .min(partitions * readers.len())
            {
                // Both are below the number of partitions.
                let index = (turn % partitions) as i32;
                dealt
                    .entry(readers[turn % readers.len()])
                    .or_default()
                    .insert((*id, index));
            }
        }
        let same = self.members.iter().all(|(id, member)| {
            let now = dealt.get(id.as_str());
            member.epoch > 0
                && now.map_or(member.assigned.is_empty(), |now| *now == member.assigned)
        });
        if same {
            return;
        }
        let mut dealt: BTreeMap<String, _> = dealt
            .into_iter()
            .map(|(id, partitions)| (id.to_owned(), partitions))
            .collect();
        self.epoch += 1;
        for (id, member) in &mut self.members {
            member.assigned = dealt.remove(id).unwrap_or_default();
        }
        let exist: BTreeSet<Uuid> = view.by_name.values().map(|(id, _)| *id).collect();
        self.partitions
            .retain(|(topic, _), _| exist.contains(topic));
    }
}

fn refused(error: ErrorCode, message: String) -> Refused {
    Refused { error, message }
}

/// The epoch of a member that leaves.
const LEAVE: i32 = -1;

/// `group.share.max.size`, Kafka's default.
const MEMBERS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TOPIC: Uuid = Uuid([7; 16]);

    fn view(partitions: i32) -> TopicsView {
        TopicsView {
            version: 1,
            by_name: BTreeMap::from([("t".to_owned(), (TOPIC, partitions))]),
        }
    }

    fn group() -> ShareGroup {
        ShareGroup::new(settings::GroupConfigs::default().of("g"))
    }

    fn beat(member: &str, epoch: i32) -> ShareHeartbeat {
        ShareHeartbeat {
            member_id: member.to_owned(),
            epoch,
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            topics: (epoch == 0).then(|| BTreeSet::from(["t".to_owned()])),
        }
    }

    fn indexes(beaten: ShareBeaten) -> Option<Vec<i32>> {
        Some(
            beaten
                .assignment?
                .into_iter()
                .map(|(_, index)| index)
                .collect(),
        )
    }

    #[test]
    fn partitions_are_dealt_out_and_shared_when_they_are_too_few() {
        let (mut group, now) = (group(), Instant::now());
        let first = group.heartbeat(&beat("a", 0), &view(2), now).unwrap();
        assert_eq!((first.epoch, indexes(first)), (1, Some(vec![0, 1])));
        let second = group.heartbeat(&beat("b", 0), &view(2), now).unwrap();
        assert_eq!((second.epoch, indexes(second)), (2, Some(vec![1])));
        let third = group.heartbeat(&beat("c", 0), &view(2), now).unwrap();
        assert_eq!(indexes(third), Some(vec![0]));
        let news = group.heartbeat(&beat("a", 1), &view(2), now).unwrap();
        assert_eq!((news.epoch, indexes(news)), (3, Some(vec![0])));
        let same = group.heartbeat(&beat("a", 3), &view(2), now).unwrap();
        assert_eq!((same.epoch, indexes(same)), (3, None));
        let grown = group.heartbeat(&beat("a", 3), &view(3), now).unwrap();
        assert_eq!((grown.epoch, indexes(grown)), (4, Some(vec![0])));
    }

    #[test]
    fn who_is_unknown_or_in_another_epoch_is_told() {
        let (mut group, now) = (group(), Instant::now());
        group.heartbeat(&beat("a", 0), &view(1), now).unwrap();
        let error =
            |group: &mut ShareGroup, beat| group.heartbeat(&beat, &view(1), now).unwrap_err().error;
        assert_eq!(
            error(&mut group, beat("a", 7)),
            ErrorCode::FENCED_MEMBER_EPOCH
        );
        assert_eq!(
            error(&mut group, beat("b", 1)),
            ErrorCode::UNKNOWN_MEMBER_ID
        );
        group.heartbeat(&beat("a", -1), &view(1), now).unwrap();
        assert!(group.is_empty());
        assert_eq!(
            error(&mut group, beat("a", -1)),
            ErrorCode::UNKNOWN_MEMBER_ID
        );
    }

    #[test]
    fn who_is_a_member_no_longer_has_what_it_acquired_until_its_session_ends_or_the_lock_times_out()
    {
        let (mut group, now) = (group(), Instant::now());
        let mut partition = SharePartition::new(0, 0);
        for (at, id) in ["silent", "leaves", "fenced"].into_iter().enumerate() {
            group.heartbeat(&beat(id, 0), &view(1), now).unwrap();
            let offset = i64::try_from(at).unwrap();
            let batch = partition::LogBatch {
                first: offset,
                last: offset,
                hidden: false,
            };
            let wanted = partition::Wanted {
                holder: (id.into(), 1),
                records_max: 1,
                strict: false,
                until: now + Duration::from_secs(60),
            };
            assert_eq!(partition.acquire(&[batch], &wanted).len(), 1);
        }
        group.partitions.insert((TOPIC, 0), partition);
        group.heartbeat(&beat("leaves", -1), &view(1), now).unwrap();
        assert_eq!(group.expel("fenced"), ErrorCode::NONE);
        assert_eq!(group.next_timeout(), Some(now + Duration::from_secs(45)));
        assert!(!group.advance(now + Duration::from_secs(45)));
        assert!(group.is_empty());
        // All three are locked still.
        assert_eq!(group.next_timeout(), Some(now + Duration::from_secs(60)));
        assert!(group.release("leaves", 1) && !group.release("leaves", 1));
        assert!(!group.release("fenced", 2));
        assert!(group.advance(now + Duration::from_secs(60)));
        assert!(!group.release("silent", 1) && !group.release("fenced", 1));
    }
}
