//! What a test makes happen in a cluster that runs, and no client could ask for: records that a leader loses, followers
//! that lag, members that are fenced, locks that are over.

use std::io;

use ottla_wire::ErrorCode;

use crate::embedded::EmbeddedCluster;
use crate::error::Error;
use crate::group::consumer::ConsumerGroup;
use crate::group::share::ShareGroup;

impl EmbeddedCluster {
    /// Has `node`, which had the partition only up to `end_offset`, elected its leader, as
    /// `unclean.leader.election.enable` allows: what was written from there on is gone, though it was acknowledged, and
    /// other records get its offsets. A batch that begins before `end_offset` stays whole. Returns where the log ends.
    ///
    /// Consumers that were further find out (KIP-320), and share groups know nothing of what is gone. Offsets that were
    /// committed stay.
    ///
    /// # Errors
    /// [`Error::Broker`] if the partition is unknown, the node is no replica of it or down, or the disk fails.
    pub fn elect_unclean(
        &self,
        topic: &str,
        partition: i32,
        node: i32,
        end_offset: i64,
    ) -> Result<i64, Error> {
        let refused = |error| Error::Broker {
            what: format!("unclean election of node {node} for {topic}-{partition}"),
            error,
        };
        let shared = self.shared();
        let cluster = shared.cluster.read();
        let found = cluster.can_lead(topic, partition, node).map_err(refused)?;
        let id = cluster.topic(topic).map(|topic| topic.id);
        let id = id.ok_or_else(|| refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))?;
        let mut state = found.state.lock();
        let cut = state.log.truncate(end_offset, shared.now_ms());
        // Also after an error: something may be gone.
        state.lead(Some(node));
        let (end, epoch) = (state.log.end_offset(), state.leader_epoch);
        drop(state);
        let mut groups = shared.groups.lock();
        let changed = groups.shares_mut(|share| share.cut((id, partition), epoch, end));
        drop(groups);
        drop(cluster);
        let kept: Result<(), io::Error> = changed.iter().try_for_each(|id| shared.keep_group(id));
        if let Err(error) = cut.and(kept.map(|()| end)) {
            tracing::error!(topic, partition, %error, "cannot take back records");
            return Err(refused(ErrorCode::KAFKA_STORAGE_ERROR));
        }
        Ok(end)
    }

    /// Lets a follower have the partition only up to `end`, or with `None` all that its leader has. Consumers read from
    /// followers with the setting `replica.selector.class`; one that is further than its follower goes back to the leader.
    ///
    /// # Errors
    /// [`Error::Broker`] if the partition is unknown, or the node is no replica of it.
    pub fn lag_follower(
        &self,
        topic: &str,
        partition: i32,
        node: i32,
        end: Option<i64>,
    ) -> Result<(), Error> {
        let refused = |error| Error::Broker {
            what: format!("node {node} as a follower of {topic}-{partition}"),
            error,
        };
        let cluster = self.shared().cluster.read();
        let found = cluster
            .topic(topic)
            .and_then(|topic| topic.partition(partition));
        let found = found.ok_or_else(|| refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))?;
        let mut state = found.state.lock();
        if !state.replicas.contains(&node) {
            return Err(refused(ErrorCode::INVALID_REPLICA_ASSIGNMENT));
        }
        state.set_follower_end(node, end);
        Ok(())
    }

    /// The ids of a group's members, of whatever kind it is; none if there is no such group.
    #[must_use]
    pub fn group_members(&self, group: &str) -> Vec<String> {
        let groups = self.shared().groups.lock();
        let Some(group) = groups.get(group) else {
            return Vec::new();
        };
        let classic = group.classic.members().map(|member| member.id.as_str());
        let consumer = group.consumer.iter().flat_map(ConsumerGroup::members);
        let share = group.share.iter().flat_map(ShareGroup::members);
        classic
            .chain(consumer.map(|member| member.id.as_str()))
            .chain(share.map(|(id, _)| id))
            .map(str::to_owned)
            .collect()
    }

    /// Takes a member out of its group, as if it had been silent for longer than its session: its partitions are for
    /// others, and it hears of it with its next heartbeat or commit. What it acquired in a share group is its until its
    /// share session ends or the locks time out, as in Kafka ([`Self::expire_share_locks`] ends them).
    ///
    /// # Errors
    /// [`Error::Broker`] if there is no such group or member, or the group cannot be kept.
    pub async fn fence_member(&self, group: &str, member: &str) -> Result<(), Error> {
        let refused = |error| Error::Broker {
            what: format!("member {member} of group {group}"),
            error,
        };
        let shared = self.shared();
        let view = shared.cluster.read().topics_view();
        let now = shared.now();
        let mut actions = Vec::new();
        let fenced = {
            let mut groups = shared.groups.lock();
            match groups.get_mut(group) {
                None => ErrorCode::GROUP_ID_NOT_FOUND,
                Some(group) => match &mut group.share {
                    Some(share) => share.expel(member),
                    None => group.leave(member, None, &view, now, &mut actions),
                },
            }
        };
        shared.deliver(actions);
        shared.groups_changed.notify_one();
        if !fenced.is_ok() {
            return Err(refused(fenced));
        }
        shared.group_kept(group).await.map_err(|error| {
            tracing::error!(group, %error, "cannot write a group");
            refused(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        })
    }

    /// Ends the locks of all records of a partition that members of a share group have acquired, as if
    /// `share.record.lock.duration.ms` were over: others get them, and whoever had them cannot acknowledge them any more.
    /// Returns how many there were.
    ///
    /// # Errors
    /// [`Error::Broker`] if the group cannot be kept.
    pub async fn expire_share_locks(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Result<usize, Error> {
        let shared = self.shared();
        let id = shared.cluster.read().topic(topic).map(|topic| topic.id);
        let expired = {
            let mut groups = shared.groups.lock();
            let share = groups.get_mut(group).and_then(|group| group.share.as_mut());
            match (share, id) {
                (Some(share), Some(id)) => share.expire_locks((id, partition)),
                _ => 0,
            }
        };
        shared.share_freed.notify_waiters();
        shared.group_kept(group).await.map_err(|error| {
            tracing::error!(group, %error, "cannot write a group");
            Error::Broker {
                what: format!("locks of group {group} in {topic}-{partition}"),
                error: ErrorCode::COORDINATOR_NOT_AVAILABLE,
            }
        })?;
        Ok(expired)
    }
}
