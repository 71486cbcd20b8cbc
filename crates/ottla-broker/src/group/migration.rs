//! Which protocol a group goes by, and how it is led from one to the other while it works (KIP-848).
//!
//! Owns the decision: requests of both protocols come here, to whatever kind of group, and go on to [`super::classic`] or
//! [`super::consumer`]. The first member that joins by the consumer protocol makes a classic group of consumers a consumer
//! group, in which the classic members stay for as long as they like; when the last one goes that is none of them, it is a
//! classic group again. How the one is written in terms of the other is the consumer group's to know.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use ottla_wire::ErrorCode;

use super::classic::{Action, ClassicGroup, Join, Joined, Sync, Synced, Waiter};
use super::consumer::{Beaten, ConsumerGroup, ConsumerGroupSettings, Heartbeat, TopicsView};
use super::{Group, Groups};
use crate::error::Refused;

/// `group.consumer.migration.policy`: which groups with members change their protocol.
///
/// Whatever it is, a group without members becomes one of the kind that its next member asks for, and a consumer group takes
/// members that speak the classic protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// In both directions.
    #[default]
    Bidirectional,
    /// A classic group becomes a consumer group when somebody joins by that protocol, and stays one.
    Upgrade,
    /// A consumer group becomes a classic one when only members of that kind are left.
    Downgrade,
    /// None.
    Disabled,
}

impl MigrationPolicy {
    const ALL: [Self; 4] = [
        Self::Bidirectional,
        Self::Upgrade,
        Self::Downgrade,
        Self::Disabled,
    ];

    fn upgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    fn downgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

impl fmt::Display for MigrationPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bidirectional => "bidirectional",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Disabled => "disabled",
        })
    }
}

impl FromStr for MigrationPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |policy: &Self| policy.to_string().eq_ignore_ascii_case(text);
        let found = Self::ALL.into_iter().find(named);
        found.ok_or_else(|| {
            format!(
                "expected one of {}",
                Self::ALL.map(|p| p.to_string()).join(", ")
            )
        })
    }
}

impl Groups {
    /// ConsumerGroupHeartbeat, from whoever joins also to a group that is not there or is a classic one. With the answer,
    /// when the member is to say again that it is there. After an error everything is as it was.
    pub(crate) fn beat(
        &mut self,
        id: &str,
        beat: &Heartbeat,
        view: &TopicsView,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Result<(Beaten, Duration), Refused> {
        let settings = self.consumer_settings;
        let is_new = self.get(id).is_none();
        if is_new && beat.epoch != 0 {
            return Err(Refused {
                error: ErrorCode::GROUP_ID_NOT_FOUND,
                message: format!("Consumer group {id} not found."),
            });
        }
        let group = self.get_or_create(id, now);
        let beaten = group.beat(id, beat, settings, view, now, actions);
        if is_new && beaten.is_err() {
            self.remove(id);
        }
        Ok((beaten?, settings.heartbeat_interval))
    }

    /// JoinGroup.
    pub(crate) fn join(
        &mut self,
        id: &str,
        waiter: Waiter,
        join: Join,
        view: &TopicsView,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let group = self.get_or_create(id, now);
        group.join(waiter, join, view, now, actions);
        self.remove_if_unused(id);
    }
}

impl Group {
    fn beat(
        &mut self,
        id: &str,
        beat: &Heartbeat,
        settings: ConsumerGroupSettings,
        view: &TopicsView,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Result<Beaten, Refused> {
        let refused = |message| Refused {
            error: ErrorCode::GROUP_ID_NOT_FOUND,
            message,
        };
        let mut upgraded = None;
        let consumer = match &mut self.consumer {
            Some(consumer) => consumer,
            None if self.share.is_some() || beat.epoch != 0 => {
                return Err(refused(format!("Group {id} is not a consumer group.")));
            }
            None => {
                let group = upgrade(&self.classic, settings, view, now).map_err(|why| {
                    refused(format!(
                        "Cannot upgrade classic group {id} to consumer group because {why}."
                    ))
                })?;
                upgraded.insert(group)
            }
        };
        let beaten = consumer.heartbeat(beat, view, now)?;
        if upgraded.is_some() {
            self.classic.dissolve(now, actions);
            self.consumer = upgraded;
        }
        self.downgrade(view, now, actions);
        Ok(beaten)
    }

    fn join(
        &mut self,
        waiter: Waiter,
        join: Join,
        view: &TopicsView,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let joined = match &mut self.consumer {
            _ if self.share.is_some() => {
                Err((ErrorCode::INCONSISTENT_GROUP_PROTOCOL, join.member_id))
            }
            Some(group) if !group.is_empty() => {
                if self.classic.takes_session(join.session_timeout) {
                    group.join_classic(&join, view, now)
                } else {
                    Err((ErrorCode::INVALID_SESSION_TIMEOUT, join.member_id))
                }
            }
            _ => {
                if let Some(before) = self.consumer.take() {
                    self.classic.go_on_from(before.epoch());
                }
                return self.classic.join(waiter, join, now, actions);
            }
        };
        let joined = joined.unwrap_or_else(|(error, id)| Joined::refused(error, &id));
        actions.push(Action::Joined(waiter, joined));
        self.downgrade(view, now, actions);
    }

    /// SyncGroup.
    pub(crate) fn sync(
        &mut self,
        waiter: Waiter,
        sync: Sync,
        view: &TopicsView,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(group) = &mut self.consumer else {
            return self.classic.sync(waiter, sync, now, actions);
        };
        let synced = group.sync_classic(&sync, view, now);
        let synced = synced.unwrap_or_else(Synced::refused);
        actions.push(Action::Synced(waiter, synced));
    }

    /// Heartbeat, by the classic protocol.
    pub(crate) fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> ErrorCode {
        match &mut self.consumer {
            Some(group) => group.heartbeat_classic(member_id, instance_id, generation, now),
            None => {
                let group = &mut self.classic;
                group.heartbeat(member_id, instance_id, generation, now)
            }
        }
    }

    /// LeaveGroup, or an administrator removes a member: by its id or, with an empty one, by its instance id.
    pub(crate) fn leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        view: &TopicsView,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> ErrorCode {
        let Some(group) = &mut self.consumer else {
            let group = &mut self.classic;
            return group.leave(member_id, instance_id, now, actions);
        };
        let left = group.expel(member_id, instance_id, now);
        self.downgrade(view, now, actions);
        left
    }

    /// A consumer group whose members all speak the classic protocol becomes theirs, if it may. To be looked at whenever a
    /// member may have gone.
    pub(super) fn downgrade(&mut self, view: &TopicsView, now: Instant, actions: &mut Vec<Action>) {
        let Some(group) = &self.consumer else {
            return;
        };
        if !group.migration().downgrades() || !group.is_classic_alone() {
            return;
        }
        let (generation, members) = group.to_classic(view);
        if self.classic.has_room_for_all(members.len()) {
            self.consumer = None;
            self.classic.take_over(generation, members, now, actions);
        }
    }
}

/// The consumer group that a classic one becomes when somebody joins by that protocol, or why it does not.
fn upgrade(
    group: &ClassicGroup,
    settings: ConsumerGroupSettings,
    view: &TopicsView,
    now: Instant,
) -> Result<ConsumerGroup, &'static str> {
    if group.is_empty() {
        // Kafka counts from 0 again, and epochs come under the numbers that generations had.
        return Ok(ConsumerGroup::after(group.generation(), settings, now));
    }
    if !settings.migration.upgrades() {
        return Err("online upgrade is disabled");
    }
    ConsumerGroup::of_classic(group, settings, view, now)
}
