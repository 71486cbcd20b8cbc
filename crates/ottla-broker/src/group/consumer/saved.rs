//! A consumer group as a data directory keeps it: so that members go on after a restart as if nothing had been.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ottla_wire::Uuid;
use serde::{Deserialize, Serialize};

use super::member::{MemberState, Pattern};
use super::message::{TopicPartition, TopicsView};
use super::{Assignor, ConsumerGroup, ConsumerGroupSettings, Member};

/// All but what the topics say and the clock.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedConsumerGroup {
    epoch: i32,
    assignment_epoch: i32,
    assignor: String,
    members: Vec<SavedMember>,
    /// How many partitions the topics had that members read, when the epoch last rose.
    #[serde(default)]
    partitions: Option<Vec<(String, i32)>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedMember {
    id: String,
    instance_id: Option<String>,
    rack_id: Option<String>,
    client_id: String,
    client_host: String,
    names: BTreeSet<String>,
    pattern: Option<String>,
    server_assignor: Option<String>,
    rebalance_timeout_ms: u64,
    epoch: i32,
    previous_epoch: i32,
    state: String,
    assigned: Vec<SavedPartition>,
    revoking: Vec<SavedPartition>,
    target: Vec<SavedPartition>,
}

/// Topic id, partition, and since which epoch (0 in a target).
type SavedPartition = (String, i32, i32);

impl SavedConsumerGroup {
    pub(crate) fn of(group: &ConsumerGroup) -> Self {
        // Those that speak the classic protocol join anew, as all members of classic groups do.
        let members = group.members().filter(|member| member.classic.is_none());
        let members = members.map(|member| SavedMember {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            names: member.names.clone(),
            pattern: member.pattern.as_ref().map(|pattern| pattern.text.clone()),
            server_assignor: member.server_assignor.clone(),
            rebalance_timeout_ms: u64::try_from(member.rebalance_timeout.as_millis())
                .unwrap_or(u64::MAX),
            epoch: member.epoch,
            previous_epoch: member.previous_epoch,
            state: state_name(member.state).to_owned(),
            assigned: member.assigned.iter().map(|(p, e)| saved(p, *e)).collect(),
            revoking: member.revoking.iter().map(|(p, e)| saved(p, *e)).collect(),
            target: group
                .target_of(member)
                .iter()
                .map(|partition| saved(partition, 0))
                .collect(),
        });
        Self {
            epoch: group.epoch,
            assignment_epoch: group.assignment_epoch,
            assignor: group.assignor.name().to_owned(),
            members: members.collect(),
            partitions: Some(
                group
                    .partitions
                    .iter()
                    .map(|(topic, count)| (topic.to_string(), *count))
                    .collect(),
            ),
        }
    }

    /// The group as it was; its members' sessions begin anew.
    pub(crate) fn restore(
        self,
        settings: ConsumerGroupSettings,
        view: &TopicsView,
        now: Instant,
    ) -> ConsumerGroup {
        let mut group = ConsumerGroup::new(settings, now);
        group.epoch = self.epoch;
        group.assignment_epoch = self.assignment_epoch;
        group.assignor = Assignor::find(&self.assignor).unwrap_or(Assignor::ALL[0]);
        for saved in self.members {
            let mut member = Member::new(&saved.id, now);
            member.instance_id = saved.instance_id;
            member.rack_id = saved.rack_id;
            member.client_id = saved.client_id;
            member.client_host = saved.client_host;
            member.names = saved.names;
            // One that was taken once is taken again, unless this version knows fewer patterns.
            member.pattern = saved.pattern.and_then(|text| Pattern::new(&text).ok());
            member.server_assignor = saved.server_assignor;
            member.rebalance_timeout = Duration::from_millis(saved.rebalance_timeout_ms);
            member.epoch = saved.epoch;
            member.previous_epoch = saved.previous_epoch;
            member.state = state_of(&saved.state);
            member.assigned = restored(&saved.assigned);
            member.revoking = restored(&saved.revoking);
            member.expires = now + settings.session_timeout;
            member.revoked_until =
                (!member.revoking.is_empty()).then(|| now + member.rebalance_timeout);
            if let Some(instance) = &member.instance_id {
                group.instances.insert(instance.clone(), member.id.clone());
            }
            let target = restored(&saved.target).into_keys().collect();
            group.target.insert(member.id.clone(), target);
            group.members.insert(member.id.clone(), member);
        }
        group.follow_topics(view, true);
        if let Some(partitions) = self.partitions {
            // Topics may have changed after the last heartbeat: the next one has to see that.
            group.seen = None;
            group.partitions = partitions
                .iter()
                .filter_map(|(topic, count)| Some((topic.parse().ok()?, *count)))
                .collect();
        }
        group
    }
}

fn saved((topic, partition): &TopicPartition, epoch: i32) -> SavedPartition {
    (topic.to_string(), *partition, epoch)
}

fn restored(saved: &[SavedPartition]) -> BTreeMap<TopicPartition, i32> {
    let partition = |(topic, partition, epoch): &SavedPartition| {
        let topic: Uuid = topic.parse().ok()?;
        Some(((topic, *partition), *epoch))
    };
    saved.iter().filter_map(partition).collect()
}

fn state_name(state: MemberState) -> &'static str {
    match state {
        MemberState::Stable => "stable",
        MemberState::UnrevokedPartitions => "unrevoked_partitions",
        MemberState::UnreleasedPartitions => "unreleased_partitions",
    }
}

fn state_of(name: &str) -> MemberState {
    match name {
        "unrevoked_partitions" => MemberState::UnrevokedPartitions,
        "unreleased_partitions" => MemberState::UnreleasedPartitions,
        _ => MemberState::Stable,
    }
}
