//! Consumer groups: which there are, who is in them, what they have committed.

use std::collections::BTreeMap;

use ottla_net::{CoordinatorKind, Instant, To};
use ottla_wire::messages::consumer_group_describe::{self, ConsumerGroupDescribeRequest};
use ottla_wire::messages::consumer_protocol_assignment::ConsumerProtocolAssignment;
use ottla_wire::messages::describe_groups::{self, DescribeGroupsRequest};
use ottla_wire::messages::list_groups::ListGroupsRequest;
use ottla_wire::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse,
};
use ottla_wire::messages::share_group_describe::{self, ShareGroupDescribeRequest};
use ottla_wire::{Bytes, ErrorCode, Message as _, Reader};

use crate::items::{Answer, Results, only};
use crate::{Admin, Error};

/// A group, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupListing {
    /// Its id.
    pub id: String,
    /// Its state, such as `Stable` or `Empty`; `None` for brokers before Kafka 2.6.
    pub state: Option<String>,
    /// `classic`, `consumer`, `share` or `streams`; `None` for brokers before Kafka 3.8.
    pub protocol: Option<String>,
    /// What a classic group is of: `consumer` for consumers, `connect` for Kafka Connect.
    pub protocol_type: String,
}

/// A group and its members.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its id.
    pub id: String,
    /// Its state, such as `Stable` or `Empty`.
    pub state: String,
    /// `classic`, `consumer` (KIP-848) or `share` (KIP-932).
    pub protocol: &'static str,
    /// What divides the partitions; empty while nothing has.
    pub assignor: String,
    /// Its coordinator's id.
    pub coordinator: i32,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// `client.id` of its program.
    pub client_id: String,
    /// The address it connects from.
    pub host: String,
    /// The partitions it has, by topic.
    pub assignment: BTreeMap<String, Vec<i32>>,
}

/// What a group has committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to read.
    pub offset: i64,
    /// The epoch of the leader that wrote the record before it, if it was committed along.
    pub leader_epoch: Option<i32>,
    /// What was committed with it.
    pub metadata: String,
}

impl Admin {
    /// All groups of the cluster that this client may see, by id (ListGroups, asked of every
    /// broker, since each knows the groups it coordinates).
    ///
    /// # Errors
    /// [`Error`] if any of the brokers cannot be asked: the list would miss its groups.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, Error> {
        let deadline = self.deadline();
        let brokers = self.describe_cluster().await?.brokers;
        let mut groups = BTreeMap::new();
        for broker in &brokers {
            let results = self
                .each(
                    "groups of broker",
                    [broker.id.to_string()],
                    deadline,
                    |_| async move {
                        let response = self
                            .call(To::Node(broker.id), deadline, |_| {
                                ListGroupsRequest::default()
                            })
                            .await?;
                        let listed = response.groups;
                        let name = broker.id.to_string();
                        Ok(vec![Answer::new(
                            name,
                            response.error_code,
                            None::<&str>,
                            || listed,
                        )])
                    },
                )
                .await;
            for (_, listed) in results {
                for group in listed? {
                    let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
                    let listing = GroupListing {
                        id: group.group_id.to_string(),
                        state: some(&group.group_state),
                        protocol: some(&group.group_type).map(|t| t.to_ascii_lowercase()),
                        protocol_type: group.protocol_type.to_string(),
                    };
                    groups.insert(listing.id.clone(), listing);
                }
            }
        }
        Ok(groups.into_values().collect())
    }

    /// Groups of consumers with their members, of the classic protocol, of KIP-848, and share groups
    /// (DescribeGroups, ConsumerGroupDescribe, ShareGroupDescribe), each asked of its coordinator.
    pub async fn describe_groups(&self, ids: &[&str]) -> Results<GroupDescription> {
        let deadline = self.deadline();
        let mut results = Vec::new();
        for id in ids {
            let mut described = self
                .each("group", [(*id).to_owned()], deadline, |_| async move {
                    self.describe_group(id, deadline)
                        .await
                        .map(|answer| vec![answer])
                })
                .await;
            results.append(&mut described);
        }
        results
    }

    async fn describe_group(
        &self,
        id: &str,
        deadline: Instant,
    ) -> Result<Answer<GroupDescription>, Error> {
        let to = || To::Coordinator(CoordinatorKind::Group, id);
        // Known once it has answered; before that it may be one that is gone.
        let coordinator = || {
            self.cluster
                .coordinator(CoordinatorKind::Group, id, deadline)
        };
        let request = || ConsumerGroupDescribeRequest {
            group_ids: vec![id.to_owned().into()],
            ..Default::default()
        };
        match self.call(to(), deadline, |_| request()).await {
            Ok(response) => {
                let group = response.groups.into_iter().next();
                // A classic group is "not found" here.
                if let Some(group) = group
                    && group.error_code != ErrorCode::GROUP_ID_NOT_FOUND
                {
                    let message = group.error_message.clone();
                    let coordinator = coordinator().await?;
                    return Ok(Answer::new(id, group.error_code, message, || {
                        modern(group, coordinator)
                    }));
                }
            }
            // Brokers before KIP-848 have classic groups only.
            Err(Error::Net(ottla_net::Error::Unsupported { .. })) => {}
            Err(error) if error.code() == Some(ErrorCode::UNSUPPORTED_VERSION) => {}
            Err(error) => return Err(error),
        }
        let response = self
            .call(to(), deadline, |_| DescribeGroupsRequest {
                groups: vec![id.to_owned().into()],
                ..Default::default()
            })
            .await?;
        let Some(group) = response.groups.into_iter().next() else {
            return Err(Error::LeftOut {
                item: format!("group {id:?}"),
            });
        };
        // Brokers before Kafka 3.9 describe a group that does not exist as dead.
        let is_dead = group.error_code.is_ok() && &*group.group_state == "Dead";
        if is_dead || group.error_code == ErrorCode::GROUP_ID_NOT_FOUND {
            // To the other two a share group does not exist.
            return match self.describe_share_group(id, deadline).await? {
                Some(answer) => Ok(answer),
                None => Ok(Answer::refused(id, ErrorCode::GROUP_ID_NOT_FOUND)),
            };
        }
        let message = group.error_message.clone();
        let coordinator = coordinator().await?;
        Ok(Answer::new(id, group.error_code, message, || {
            classic(group, coordinator)
        }))
    }

    /// `None` of what is no share group, and from brokers that know none.
    async fn describe_share_group(
        &self,
        id: &str,
        deadline: Instant,
    ) -> Result<Option<Answer<GroupDescription>>, Error> {
        let to = To::Coordinator(CoordinatorKind::Group, id);
        let request = |_| ShareGroupDescribeRequest {
            group_ids: vec![id.to_owned().into()],
            ..Default::default()
        };
        let response = match self.call(to, deadline, request).await {
            Ok(response) => response,
            Err(Error::Net(ottla_net::Error::Unsupported { .. })) => return Ok(None),
            Err(error) if error.code() == Some(ErrorCode::UNSUPPORTED_VERSION) => return Ok(None),
            Err(error) => return Err(error),
        };
        let none = [
            ErrorCode::GROUP_ID_NOT_FOUND,
            ErrorCode::UNSUPPORTED_VERSION,
        ];
        let group = response.groups.into_iter().next();
        let Some(group) = group.filter(|group| !none.contains(&group.error_code)) else {
            return Ok(None);
        };
        let kind = CoordinatorKind::Group;
        let coordinator = self.cluster.coordinator(kind, id, deadline).await?;
        let message = group.error_message.clone();
        Ok(Some(Answer::new(id, group.error_code, message, || {
            shared(group, coordinator)
        })))
    }

    /// What a group has committed, for all its partitions (OffsetFetch, asked of its coordinator).
    /// A group that does not exist has committed nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] if one may not look, [`Error::Net`] if no broker answers in time.
    pub async fn group_offsets(&self, id: &str) -> Result<Vec<GroupOffset>, Error> {
        let deadline = self.deadline();
        let results = self
            .each("group", [id.to_owned()], deadline, |_| async move {
                let response = self
                    .call_up_to(
                        // With version 10 topics go by id only.
                        9,
                        To::Coordinator(CoordinatorKind::Group, id),
                        deadline,
                        |version| offsets_request(id, version),
                    )
                    .await?;
                let (code, offsets) = offsets(response);
                Ok(vec![Answer::new(id, code, None::<&str>, || offsets)])
            })
            .await;
        only(results)
    }
}

fn offsets_request(id: &str, version: i16) -> OffsetFetchRequest {
    if version >= 8 {
        let group = OffsetFetchRequestGroup {
            group_id: id.to_owned().into(),
            topics: None,
            ..Default::default()
        };
        OffsetFetchRequest {
            groups: vec![group],
            ..Default::default()
        }
    } else {
        OffsetFetchRequest {
            group_id: id.to_owned().into(),
            topics: None,
            ..Default::default()
        }
    }
}

/// The group's error and its offsets, from either shape of the response.
fn offsets(response: OffsetFetchResponse) -> (ErrorCode, Vec<GroupOffset>) {
    let mut found = Vec::new();
    let mut code = response.error_code;
    let mut add = |topic: &str, partition, offset, epoch, metadata: Option<&str>| {
        if offset >= 0 {
            found.push(GroupOffset {
                topic: topic.to_owned(),
                partition,
                offset,
                leader_epoch: Some(epoch).filter(|e| *e >= 0),
                metadata: metadata.unwrap_or_default().to_owned(),
            });
        }
    };
    for topic in &response.topics {
        for p in topic.partitions.iter().filter(|p| p.error_code.is_ok()) {
            let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
            add(
                &topic.name,
                p.partition_index,
                offset,
                epoch,
                p.metadata.as_deref(),
            );
        }
    }
    for group in &response.groups {
        code = group.error_code;
        for topic in &group.topics {
            for p in topic.partitions.iter().filter(|p| p.error_code.is_ok()) {
                let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                add(
                    &topic.name,
                    p.partition_index,
                    offset,
                    epoch,
                    p.metadata.as_deref(),
                );
            }
        }
    }
    found.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    (code, found)
}

fn classic(group: describe_groups::DescribedGroup, coordinator: i32) -> GroupDescription {
    GroupDescription {
        id: group.group_id.to_string(),
        state: group.group_state.to_string(),
        protocol: "classic",
        assignor: group.protocol_data.to_string(),
        coordinator,
        members: group
            .members
            .into_iter()
            .map(|m| GroupMember {
                id: m.member_id.to_string(),
                instance_id: m.group_instance_id.map(|i| i.to_string()),
                client_id: m.client_id.to_string(),
                host: m.client_host.to_string(),
                assignment: assignment(&m.member_assignment),
            })
            .collect(),
    }
}

fn modern(group: consumer_group_describe::DescribedGroup, coordinator: i32) -> GroupDescription {
    GroupDescription {
        id: group.group_id.to_string(),
        state: group.group_state.to_string(),
        protocol: "consumer",
        assignor: group.assignor_name.to_string(),
        coordinator,
        members: group
            .members
            .into_iter()
            .map(|m| GroupMember {
                id: m.member_id.to_string(),
                instance_id: m.instance_id.map(|i| i.to_string()),
                client_id: m.client_id.to_string(),
                host: m.client_host.to_string(),
                assignment: m
                    .assignment
                    .topic_partitions
                    .into_iter()
                    .map(|t| (t.topic_name.to_string(), t.partitions))
                    .collect(),
            })
            .collect(),
    }
}

fn shared(group: share_group_describe::DescribedGroup, coordinator: i32) -> GroupDescription {
    let members = group.members.into_iter();
    GroupDescription {
        id: group.group_id.to_string(),
        state: group.group_state.to_string(),
        protocol: "share",
        assignor: group.assignor_name.to_string(),
        coordinator,
        members: members
            .map(|m| GroupMember {
                id: m.member_id.to_string(),
                instance_id: None,
                client_id: m.client_id.to_string(),
                host: m.client_host.to_string(),
                assignment: m
                    .assignment
                    .topic_partitions
                    .into_iter()
                    .map(|t| (t.topic_name.to_string(), t.partitions))
                    .collect(),
            })
            .collect(),
    }
}

/// The partitions in a classic member's assignment. It is written by the group's leader, not by the
/// broker, and a group of something else than consumers writes what it likes: unreadable is empty.
fn assignment(bytes: &Bytes) -> BTreeMap<String, Vec<i32>> {
    let mut reader = Reader::new(bytes.clone());
    let Ok(version) = reader.i16() else {
        return BTreeMap::new();
    };
    // Later versions only add behind what earlier ones have.
    let version = version.clamp(0, ConsumerProtocolAssignment::VERSIONS.max);
    match ConsumerProtocolAssignment::decode(version, &mut reader) {
        Ok(assignment) => assignment
            .assigned_partitions
            .into_iter()
            .map(|t| (t.topic.to_string(), t.partitions))
            .collect(),
        Err(_) => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use ottla_wire::messages::consumer_protocol_assignment::TopicPartition;
    use ottla_wire::messages::offset_fetch::{
        OffsetFetchResponsePartition, OffsetFetchResponseTopic,
    };

    use super::*;

    #[test]
    fn assignments_are_read_and_others_are_empty() {
        let wire = ConsumerProtocolAssignment {
            assigned_partitions: vec![TopicPartition {
                topic: "t".into(),
                partitions: vec![2, 0],
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut writer = ottla_wire::Writer::new();
        writer.i16(1);
        wire.encode(1, &mut writer).unwrap();
        let read = assignment(&writer.into_bytes());
        assert_eq!(read, BTreeMap::from([("t".to_owned(), vec![2, 0])]));
        for odd in [&b""[..], b"\0", b"\0\x01\x7f\xff\xff\xff", b"{}"] {
            assert!(assignment(&Bytes::copy_from_slice(odd)).is_empty());
        }
    }

    #[test]
    fn what_was_never_committed_is_left_out() {
        let partition = |index, offset, code| OffsetFetchResponsePartition {
            partition_index: index,
            committed_offset: offset,
            error_code: code,
            ..Default::default()
        };
        let response = OffsetFetchResponse {
            topics: vec![OffsetFetchResponseTopic {
                name: "t".into(),
                partitions: vec![
                    partition(2, 7, ErrorCode::NONE),
                    partition(0, -1, ErrorCode::NONE),
                    partition(1, 5, ErrorCode::UNSTABLE_OFFSET_COMMIT),
                ],
                ..Default::default()
            }],
            ..Default::default()
        };
        let (code, offsets) = offsets(response);
        assert!(code.is_ok());
        assert_eq!(offsets.len(), 1);
        assert_eq!((offsets[0].partition, offsets[0].offset), (2, 7));
    }
}
