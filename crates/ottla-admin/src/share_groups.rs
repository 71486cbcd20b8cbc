//! Share groups (KIP-932): where they are in partitions, and where they are to go on.

use std::collections::BTreeMap;

use ottla_net::{CoordinatorKind, To};
use ottla_wire::messages::alter_share_group_offsets::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestPartition,
    AlterShareGroupOffsetsRequestTopic,
};
use ottla_wire::messages::delete_share_group_offsets::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequestTopic,
};
use ottla_wire::messages::describe_share_group_offsets::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsResponseTopic,
};

use crate::items::{Answer, Results, only};
use crate::{Admin, Error};

/// Where a share group is in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShareGroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset that is not done with; `None` while nobody of the group has read the partition.
    pub start_offset: Option<i64>,
    /// The epoch of the leader that the group read from last.
    pub leader_epoch: i32,
    /// How many records are not done with; `None` from brokers before Kafka 4.2, and where it is not known.
    pub lag: Option<i64>,
}

impl Admin {
    /// Where a share group is, in all partitions that it knows (DescribeShareGroupOffsets, asked of its coordinator;
    /// Kafka 4.1 and later). A group that does not exist is nowhere.
    ///
    /// # Errors
    /// [`Error::Refused`] if one may not look, [`Error::Net`] if no broker answers in time or knows share groups.
    pub async fn share_group_offsets(&self, id: &str) -> Result<Vec<ShareGroupOffset>, Error> {
        let deadline = self.deadline();
        let results = self
            .each("share group", [id.to_owned()], deadline, |_| async move {
                let response = self
                    .call(
                        To::Coordinator(CoordinatorKind::Group, id),
                        deadline,
                        |_| DescribeShareGroupOffsetsRequest {
                            groups: vec![DescribeShareGroupOffsetsRequestGroup {
                                group_id: id.to_owned().into(),
                                topics: None,
                                ..Default::default()
                            }],
                            ..Default::default()
                        },
                    )
                    .await?;
                let groups = response.groups.into_iter();
                Ok(groups
                    .map(|group| {
                        let topics = group.topics;
                        Answer::new(id, group.error_code, group.error_message, || {
                            offsets(&topics)
                        })
                    })
                    .collect())
            })
            .await;
        only(results)
    }

    /// Says where a share group goes on: topic, partition, and the first offset that is not done with, -1 for where the
    /// group's `share.auto.offset.reset` says (AlterShareGroupOffsets; Kafka 4.1 and later). What became of the records
    /// before is forgotten. The results are named `topic[partition]`; of a partition that is named twice, the last
    /// offset counts.
    ///
    /// A group that does not exist is made. One that has members is refused with `NON_EMPTY_GROUP`, one of another kind with
    /// `GROUP_ID_NOT_FOUND`.
    pub async fn alter_share_group_offsets(
        &self,
        id: &str,
        starts: &[(&str, i32, i64)],
    ) -> Results<()> {
        let deadline = self.deadline();
        let named = |topic: &str, partition: i32| format!("{topic}[{partition}]");
        let asked: BTreeMap<String, (&str, i32, i64)> = starts
            .iter()
            .map(|start| (named(start.0, start.1), *start))
            .collect();
        let names = starts.iter().map(|start| named(start.0, start.1));
        let asked = &asked;
        self.each("partition", names, deadline, |open| async move {
            let response = self
                .call(
                    To::Coordinator(CoordinatorKind::Group, id),
                    deadline,
                    |_| alter_request(id, open.iter().filter_map(|name| asked.get(name))),
                )
                .await?;
            if !response.error_code.is_ok() {
                let (code, message) = (response.error_code, response.error_message);
                return Ok(all_failed(open, code, message.as_deref()));
            }
            let mut answers = Vec::new();
            for topic in response.responses {
                for p in topic.partitions {
                    let name = named(&topic.topic_name, p.partition_index);
                    answers.push(Answer::new(name, p.error_code, p.error_message, || ()));
                }
            }
            Ok(answers)
        })
        .await
    }

    /// Has a share group forget topics, so that it begins in them where its `share.auto.offset.reset` says
    /// (DeleteShareGroupOffsets; Kafka 4.1 and later).
    ///
    /// A group that has members is refused with `NON_EMPTY_GROUP`, one that does not exist with `GROUP_ID_NOT_FOUND`; a
    /// topic that it knows nothing of, with `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn delete_share_group_offsets(&self, id: &str, topics: &[&str]) -> Results<()> {
        let deadline = self.deadline();
        let names = topics.iter().map(|topic| (*topic).to_owned());
        self.each("topic", names, deadline, |open| async move {
            let response = self
                .call(
                    To::Coordinator(CoordinatorKind::Group, id),
                    deadline,
                    |_| {
                        let topics = open.iter();
                        DeleteShareGroupOffsetsRequest {
                            group_id: id.to_owned().into(),
                            topics: topics
                                .map(|topic| DeleteShareGroupOffsetsRequestTopic {
                                    topic_name: topic.clone().into(),
                                    ..Default::default()
                                })
                                .collect(),
                            ..Default::default()
                        }
                    },
                )
                .await?;
            if !response.error_code.is_ok() {
                let (code, message) = (response.error_code, response.error_message);
                return Ok(all_failed(open, code, message.as_deref()));
            }
            let topics = response.responses.into_iter();
            Ok(topics
                .map(|topic| {
                    let (name, code) = (topic.topic_name, topic.error_code);
                    Answer::new(name, code, topic.error_message, || ())
                })
                .collect())
        })
        .await
    }
}

/// What is said of the group is said of everything that was asked about.
fn all_failed(
    names: Vec<String>,
    code: ottla_wire::ErrorCode,
    message: Option<&str>,
) -> Vec<Answer<()>> {
    let names = names.into_iter();
    names
        .map(|name| Answer::new(name, code, message, || ()))
        .collect()
}

fn alter_request<'a>(
    id: &str,
    starts: impl Iterator<Item = &'a (&'a str, i32, i64)>,
) -> AlterShareGroupOffsetsRequest {
    let mut topics: BTreeMap<&str, Vec<AlterShareGroupOffsetsRequestPartition>> = BTreeMap::new();
    for (topic, partition_index, start_offset) in starts {
        let partition = AlterShareGroupOffsetsRequestPartition {
            partition_index: *partition_index,
            start_offset: *start_offset,
            ..Default::default()
        };
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics.into_iter();
    AlterShareGroupOffsetsRequest {
        group_id: id.to_owned().into(),
        topics: topics
            .map(|(name, partitions)| AlterShareGroupOffsetsRequestTopic {
                topic_name: name.to_owned().into(),
                partitions,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn offsets(topics: &[DescribeShareGroupOffsetsResponseTopic]) -> Vec<ShareGroupOffset> {
    let mut found = Vec::new();
    for topic in topics {
        let partitions = topic.partitions.iter();
        for p in partitions.filter(|p| p.error_code.is_ok()) {
            found.push(ShareGroupOffset {
                topic: topic.topic_name.to_string(),
                partition: p.partition_index,
                start_offset: Some(p.start_offset).filter(|offset| *offset >= 0),
                leader_epoch: p.leader_epoch,
                lag: Some(p.lag).filter(|lag| *lag >= 0),
            });
        }
    }
    found.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    found
}
