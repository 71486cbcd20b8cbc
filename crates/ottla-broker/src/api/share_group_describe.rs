//! ShareGroupDescribe: the state, the members and the assignments of share groups (KIP-932).

use std::collections::{BTreeSet, HashMap};

use ottla_wire::messages::share_group_describe::{
    Assignment, DescribedGroup, Member, ShareGroupDescribeRequest, ShareGroupDescribeResponse,
    TopicPartitions,
};
use ottla_wire::{ErrorCode, Str, Uuid};

use super::Serve;
use super::authorized_operations::{GROUP_OPERATIONS, authorized_operations};
use super::consumer_group_heartbeat::by_topic;
use crate::context::Context;
use crate::group::consumer::TopicPartition;
use crate::group::share::ShareGroup;

impl Serve for ShareGroupDescribeRequest {
    async fn serve(self, context: &Context) -> Option<ShareGroupDescribeResponse> {
        let view = context.shared.cluster.read().topics_view();
        let names = view.names();
        let describe = |id: &Str| {
            if let Err(error) = context.check_coordinator(id) {
                return failed(id, error, error.meaning().to_owned());
            }
            let groups = context.shared.groups.lock();
            match groups.get(id).and_then(|group| group.share.as_ref()) {
                Some(group) => DescribedGroup {
                    authorized_operations: authorized_operations(
                        self.include_authorized_operations,
                        GROUP_OPERATIONS,
                    ),
                    ..describe(id, group, &names)
                },
                None => {
                    let message = format!("Share group {id} not found.");
                    failed(id, ErrorCode::GROUP_ID_NOT_FOUND, message)
                }
            }
        };
        Some(ShareGroupDescribeResponse {
            groups: self.group_ids.iter().map(describe).collect(),
            ..Default::default()
        })
    }

    fn refuse(&self, error: ErrorCode) -> ShareGroupDescribeResponse {
        let groups = self.group_ids.iter();
        ShareGroupDescribeResponse {
            groups: groups
                .map(|id| failed(id, error, error.meaning().to_owned()))
                .collect(),
            ..Default::default()
        }
    }
}

fn describe(id: &Str, group: &ShareGroup, names: &HashMap<Uuid, &str>) -> DescribedGroup {
    let members = group.members().map(|(id, member)| Member {
        member_id: id.into(),
        rack_id: member.rack_id.as_deref().map(Into::into),
        member_epoch: member.epoch,
        client_id: member.client_id.as_str().into(),
        client_host: member.client_host.as_str().into(),
        subscribed_topic_names: member
            .topics
            .iter()
            .map(|name| name.as_str().into())
            .collect(),
        assignment: assignment(&member.assigned, names),
        ..Default::default()
    });
    DescribedGroup {
        error_message: None,
        group_id: id.clone(),
        group_state: group.state_name().into(),
        group_epoch: group.epoch(),
        assignment_epoch: group.epoch(),
        assignor_name: ASSIGNOR.into(),
        members: members.collect(),
        ..Default::default()
    }
}

fn assignment(partitions: &BTreeSet<TopicPartition>, names: &HashMap<Uuid, &str>) -> Assignment {
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

const ASSIGNOR: &str = "simple";
