//! ConsumerGroupDescribe: the state, the members and the assignments of groups of KIP-848.

use std::collections::{BTreeSet, HashMap};

use ottla_wire::messages::consumer_group_describe::{
    Assignment, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup,
    Member, TopicPartitions,
};
use ottla_wire::{ErrorCode, Str, Uuid};

use super::Serve;
use super::authorized_operations::{GROUP_OPERATIONS, authorized_operations};
use super::consumer_group_heartbeat::by_topic;
use crate::context::Context;
use crate::group::consumer::{ConsumerGroup, TopicPartition};

impl Serve for ConsumerGroupDescribeRequest {
    async fn serve(self, context: &Context) -> Option<ConsumerGroupDescribeResponse> {
        let view = context.shared.cluster.read().topics_view();
        let names = view.names();
        let describe = |id: &Str| {
            if let Err(error) = context.check_coordinator(id) {
                return failed(id, error, error.meaning().to_owned());
            }
            let groups = context.shared.groups.lock();
            let message = match groups.get(id).map(|group| &group.consumer) {
                Some(Some(group)) => {
                    let wanted = self.include_authorized_operations;
                    return DescribedGroup {
                        authorized_operations: authorized_operations(wanted, GROUP_OPERATIONS),
                        ..describe(id, group, &names)
                    };
                }
                Some(None) => format!("Group {id} is not a consumer group."),
                None => format!("Group {id} not found."),
            };
            failed(id, ErrorCode::GROUP_ID_NOT_FOUND, message)
        };
        Some(ConsumerGroupDescribeResponse {
            groups: self.group_ids.iter().map(describe).collect(),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> ConsumerGroupDescribeResponse {
        let groups = self.group_ids.iter();
        ConsumerGroupDescribeResponse {
            groups: groups
                .map(|id| failed(id, error, error.meaning().to_owned()))
                .collect(),
            ..Default::default()
        }
    }
}

type Names<'a> = HashMap<Uuid, &'a str>;

fn describe(id: &Str, group: &ConsumerGroup, names: &Names<'_>) -> DescribedGroup {
    let members = group.members().map(|member| Member {
        member_id: member.id.as_str().into(),
        instance_id: member.instance_id.as_deref().map(Into::into),
        rack_id: member.rack_id.as_deref().map(Into::into),
        member_epoch: member.epoch,
        client_id: member.client_id.as_str().into(),
        client_host: member.client_host.as_str().into(),
        subscribed_topic_names: member
            .names
            .iter()
            .map(|name| name.as_str().into())
            .collect(),
        subscribed_topic_regex: member
            .pattern
            .as_ref()
            .map(|pattern| pattern.text.as_str().into()),
        assignment: assignment(&member.assigned(), names),
        target_assignment: assignment(&group.target_of(member), names),
        member_type: match member.classic {
            Some(_) => CLASSIC_PROTOCOL,
            None => CONSUMER_PROTOCOL,
        },
        ..Default::default()
    });
    DescribedGroup {
        error_message: None,
        group_id: id.clone(),
        group_state: group.state_name().into(),
        group_epoch: group.epoch(),
        assignment_epoch: group.assignment_epoch(),
        assignor_name: group.assignor().name().into(),
        members: members.collect(),
        ..Default::default()
    }
}

fn assignment(partitions: &BTreeSet<TopicPartition>, names: &Names<'_>) -> Assignment {
    let topic_partitions = by_topic(partitions)
        .into_iter()
        // Of a topic that was deleted nobody knows the name.
        .filter_map(|(topic_id, partitions)| {
            Some(TopicPartitions {
                topic_id,
                topic_name: (*names.get(&topic_id)?).into(),
                partitions,
                ..Default::default()
            })
        })
        .collect();
    Assignment {
        topic_partitions,
        ..Default::default()
    }
}

fn failed(id: &Str, error_code: ErrorCode, message: String) -> DescribedGroup {
    DescribedGroup {
        error_code,
        error_message: Some(message.into()),
        group_id: id.clone(),
        ..Default::default()
    }
}

/// Which protocol a member speaks.
const CLASSIC_PROTOCOL: i8 = 0;
const CONSUMER_PROTOCOL: i8 = 1;
