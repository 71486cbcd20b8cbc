//! A member of a share group on one connection, every request in the test's hands.

use std::io;

use ottla_wire::messages::describe_share_group_offsets::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsResponsePartition,
};
use ottla_wire::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_wire::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use ottla_wire::messages::share_acknowledge::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch, ShareAcknowledgeRequest,
};
use ottla_wire::messages::share_fetch::{
    FetchPartition, FetchTopic, PartitionData, ShareFetchRequest,
};
use ottla_wire::messages::share_group_heartbeat::ShareGroupHeartbeatRequest;
use ottla_wire::{ErrorCode, Uuid};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;

/// A member, with a session that holds one partition of one topic.
pub(crate) struct Member<S> {
    pub(crate) client: Client<S>,
    group: String,
    id: String,
    epoch: i32,
    /// Of its next request; 0 before the first.
    session_epoch: i32,
    topic_id: Uuid,
}

/// First and last offset, and how often they were delivered.
pub(crate) type Run = (i64, i64, i16);

pub(crate) const ACCEPT: i8 = 1;
pub(crate) const RELEASE: i8 = 2;
pub(crate) const REJECT: i8 = 3;

impl<S: AsyncRead + AsyncWrite + Unpin> Member<S> {
    pub(crate) async fn join(stream: S, group: &str, id: &str, topic: &str) -> io::Result<Self> {
        let mut client = Client::new(stream);
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(topic.to_owned().into()),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let metadata = client.ask(&request, 12).await?;
        let mut member = Self {
            client,
            group: group.to_owned(),
            id: id.to_owned(),
            epoch: 0,
            session_epoch: 0,
            topic_id: metadata.topics[0].topic_id,
        };
        assert_eq!(member.beat(Some(topic)).await?, ErrorCode::NONE);
        Ok(member)
    }

    async fn beat(&mut self, topic: Option<&str>) -> io::Result<ErrorCode> {
        let request = ShareGroupHeartbeatRequest {
            group_id: self.group.as_str().into(),
            member_id: self.id.as_str().into(),
            member_epoch: self.epoch,
            subscribed_topic_names: topic.map(|topic| vec![topic.to_owned().into()]),
            rack_id: None,
            ..Default::default()
        };
        let answer = self.client.ask(&request, 1).await?;
        self.epoch = answer.member_epoch;
        Ok(answer.error_code)
    }

    pub(crate) async fn leave(&mut self) -> io::Result<ErrorCode> {
        self.epoch = -1;
        self.beat(None).await
    }

    /// Fetches at most so many records, and waits for them; what it did not ask for is an empty answer.
    pub(crate) async fn fetch(
        &mut self,
        partition: i32,
        records_max: i32,
        wait_ms: i32,
    ) -> io::Result<PartitionData> {
        let request = ShareFetchRequest {
            group_id: Some(self.group.as_str().into()),
            member_id: Some(self.id.as_str().into()),
            share_session_epoch: self.session_epoch,
            max_wait_ms: wait_ms,
            max_records: records_max,
            share_acquire_mode: 1,
            topics: vec![FetchTopic {
                topic_id: self.topic_id,
                partitions: vec![FetchPartition {
                    partition_index: partition,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.session_epoch += 1;
        let mut answer = self.client.ask(&request, 2).await?;
        assert_eq!(answer.error_code, ErrorCode::NONE, "{answer:?}");
        Ok(match answer.responses.pop() {
            Some(mut topic) => topic.partitions.remove(0),
            None => PartitionData::default(),
        })
    }

    /// [`Self::fetch`], and what of it was acquired.
    pub(crate) async fn acquire(
        &mut self,
        partition: i32,
        records_max: i32,
    ) -> io::Result<Vec<Run>> {
        let data = self.fetch(partition, records_max, 200).await?;
        assert_eq!(data.error_code, ErrorCode::NONE);
        Ok(runs(&data))
    }

    /// Says the same of each run of offsets.
    pub(crate) async fn say(
        &mut self,
        partition: i32,
        kind: i8,
        offsets: &[(i64, i64)],
    ) -> io::Result<ErrorCode> {
        let batches = offsets.iter().map(|(first, last)| AcknowledgementBatch {
            first_offset: *first,
            last_offset: *last,
            acknowledge_types: vec![kind],
            ..Default::default()
        });
        let request = ShareAcknowledgeRequest {
            group_id: Some(self.group.as_str().into()),
            member_id: Some(self.id.as_str().into()),
            share_session_epoch: self.session_epoch,
            topics: vec![AcknowledgeTopic {
                topic_id: self.topic_id,
                partitions: vec![AcknowledgePartition {
                    partition_index: partition,
                    acknowledgement_batches: batches.collect(),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.session_epoch += 1;
        let answer = self.client.ask(&request, 2).await?;
        assert_eq!(answer.error_code, ErrorCode::NONE, "{answer:?}");
        Ok(answer.responses[0].partitions[0].error_code)
    }
}

pub(crate) fn runs(data: &PartitionData) -> Vec<Run> {
    let runs = data.acquired_records.iter();
    runs.map(|run| (run.first_offset, run.last_offset, run.delivery_count))
        .collect()
}

/// Gives a group a setting.
pub(crate) async fn set<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
    group: &str,
    name: &str,
    value: &str,
) -> io::Result<ErrorCode> {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 32,
            resource_name: group.to_owned().into(),
            configs: vec![AlterableConfig {
                name: name.to_owned().into(),
                config_operation: 0,
                value: Some(value.to_owned().into()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.ask(&request, 1).await?;
    Ok(answer.responses[0].error_code)
}

/// Where a group is in all partitions that it has begun to read: of the first topic, or nothing.
pub(crate) async fn described<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
    group: &str,
) -> io::Result<Vec<DescribeShareGroupOffsetsResponsePartition>> {
    let request = DescribeShareGroupOffsetsRequest {
        groups: vec![DescribeShareGroupOffsetsRequestGroup {
            group_id: group.to_owned().into(),
            topics: None,
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut answer = client.ask(&request, 1).await?;
    let mut group = answer.groups.remove(0);
    assert_eq!(group.error_code, ErrorCode::NONE, "{group:?}");
    Ok(group
        .topics
        .pop()
        .map_or(Vec::new(), |topic| topic.partitions))
}
