//! Brokers with logs, committed offsets and a group coordinator, as far as the tests of the consumer need
//! them; on top of the scripted brokers of `ottla-net`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::BytesMut;
use ottla_consumer::{Bytes, Consumer, ConsumerConfig, OffsetReset, Str, TopicPartition};
use ottla_net::testing::{Reply, ScriptedCluster};
use ottla_wire::{
    ErrorCode, Uuid,
    compress::{Codec, Compression, Compressor},
    messages::{
        fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData},
        heartbeat::{HeartbeatRequest, HeartbeatResponse},
        join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember},
        leave_group::{LeaveGroupRequest, LeaveGroupResponse},
        list_offsets::{
            ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
            ListOffsetsTopicResponse,
        },
        offset_commit::{
            OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
            OffsetCommitResponseTopic,
        },
        offset_fetch::{
            OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup,
            OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
        },
        offset_for_leader_epoch::{
            EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
            OffsetForLeaderTopicResult,
        },
        sync_group::{SyncGroupRequest, SyncGroupResponse},
    },
    record::{BatchWriter, NewRecord, SealOptions},
};

pub(crate) const TOPIC: &str = "clicks";
pub(crate) const GROUP: &str = "readers";

/// What the brokers hold, and what happened to it.
#[derive(Default)]
pub(crate) struct World {
    /// Batches as base offset, next offset and bytes; the log of the one topic.
    pub(crate) logs: BTreeMap<i32, Vec<(i64, i64, Bytes)>>,
    pub(crate) committed: BTreeMap<i32, i64>,
    /// Of the latest commit.
    pub(crate) metadata: Str,
    /// What happened at the coordinator, in order.
    pub(crate) events: Vec<String>,
    pub(crate) generation: i32,
    /// What each join said of itself.
    pub(crate) subscriptions: Vec<Bytes>,
    /// What the next heartbeats are answered with.
    pub(crate) heartbeat: ErrorCode,
    pub(crate) heartbeats: usize,
    /// Offsets and partitions of each fetch.
    pub(crate) fetches: Vec<(i32, i32, i64)>,
    pub(crate) fetched_bytes: usize,
    /// Whom the other brokers advise consumers with a rack to read from.
    pub(crate) follower: Option<i32>,
    pub(crate) topic_id: Uuid,
}

pub(crate) type Shared = Arc<Mutex<World>>;

/// Brokers that serve one topic.
pub(crate) fn start(brokers: i32, partitions: i32) -> (ScriptedCluster, Shared) {
    let cluster = ScriptedCluster::start(brokers);
    let topic_id = cluster.add_topic(TOPIC, partitions);
    cluster.set_coordinator(GROUP, Ok(1));
    let world = Arc::new(Mutex::new(World {
        topic_id,
        ..World::default()
    }));
    for node in 1..=brokers {
        serve(&cluster, &world, node);
    }
    (cluster, world)
}

pub(crate) fn config() -> ConsumerConfig {
    ConsumerConfig {
        auto_offset_reset: OffsetReset::Earliest,
        ..Default::default()
    }
}

pub(crate) fn group_config() -> ConsumerConfig {
    ConsumerConfig {
        group_id: Some(GROUP.into()),
        ..config()
    }
}

pub(crate) fn consumer(cluster: &ScriptedCluster, config: ConsumerConfig) -> Consumer {
    Consumer::new(cluster.connect(), config).unwrap()
}

pub(crate) fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// Appends a batch of `count` records, whose values are their offsets.
pub(crate) fn append(world: &Shared, partition: i32, count: i64) {
    append_with(world, partition, count, Compression::None, 0);
}

pub(crate) fn append_with(
    world: &Shared,
    partition: i32,
    count: i64,
    codec: Compression,
    padding: usize,
) {
    let mut world = world.lock().unwrap();
    let log = world.logs.entry(partition).or_default();
    let base = log.last().map_or(0, |(_, next, _)| *next);
    let mut writer = BatchWriter::new(BytesMut::new());
    for offset in base..base + count {
        let value = format!("{offset}{}", " ".repeat(padding));
        let value = Some(value.as_bytes());
        writer
            .append(&NewRecord {
                timestamp: 7,
                key: None,
                value,
                headers: &[],
            })
            .unwrap();
    }
    let options = SealOptions {
        codec: Codec::from(codec),
    };
    let mut sealed = writer.seal(&options, &mut Compressor::new()).unwrap();
    sealed.stamp(-1, -1, -1, false);
    let mut bytes = sealed.freeze().to_vec();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes[12..16].copy_from_slice(&0_i32.to_be_bytes());
    log.push((base, base + count, bytes.into()));
}

/// Damages a record of the batch that begins at `base`.
pub(crate) fn damage(world: &Shared, partition: i32, base: i64) {
    let mut world = world.lock().unwrap();
    let log = world.logs.get_mut(&partition).unwrap();
    let batch = log.iter_mut().find(|(at, ..)| *at == base).unwrap();
    let mut bytes = batch.2.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    batch.2 = bytes.into();
}

impl World {
    pub(crate) fn end(&self, partition: i32) -> i64 {
        self.logs
            .get(&partition)
            .and_then(|log| log.last())
            .map_or(0, |(_, next, _)| *next)
    }

    fn fetch(&mut self, request: &FetchRequest, node: i32) -> FetchResponse {
        let mut topics = Vec::new();
        let mut room = request.max_bytes as usize;
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for asked in &topic.partitions {
                self.fetches
                    .push((node, asked.partition, asked.fetch_offset));
                if let Some(follower) = self.follower.filter(|follower| *follower != node)
                    && !request.rack_id.is_empty()
                {
                    partitions.push(PartitionData {
                        partition_index: asked.partition,
                        preferred_read_replica: follower,
                        ..Default::default()
                    });
                    continue;
                }
                if asked.fetch_offset > self.end(asked.partition) {
                    partitions.push(PartitionData {
                        partition_index: asked.partition,
                        error_code: ErrorCode::OFFSET_OUT_OF_RANGE,
                        high_watermark: -1,
                        ..Default::default()
                    });
                    continue;
                }
                let mut records = BytesMut::new();
                let limit = room.min(asked.partition_max_bytes as usize);
                for (_, next, bytes) in self.logs.get(&asked.partition).into_iter().flatten() {
                    if *next > asked.fetch_offset
                        && (records.is_empty() && room > 0 || records.len() + bytes.len() <= limit)
                    {
                        records.extend_from_slice(bytes);
                    }
                }
                room = room.saturating_sub(records.len());
                self.fetched_bytes += records.len();
                partitions.push(PartitionData {
                    partition_index: asked.partition,
                    high_watermark: self.end(asked.partition),
                    last_stable_offset: self.end(asked.partition),
                    log_start_offset: 0,
                    records: Some(records.freeze()),
                    ..Default::default()
                });
            }
            topics.push(FetchableTopicResponse {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                partitions,
                ..Default::default()
            });
        }
        FetchResponse {
            responses: topics,
            ..Default::default()
        }
    }

    pub(crate) fn refuse(&self, partition: i32, error: ErrorCode) -> FetchResponse {
        let data = PartitionData {
            partition_index: partition,
            error_code: error,
            high_watermark: -1,
            ..Default::default()
        };
        let topic = FetchableTopicResponse {
            topic_id: self.topic_id,
            partitions: vec![data],
            ..Default::default()
        };
        FetchResponse {
            responses: vec![topic],
            ..Default::default()
        }
    }

    pub(crate) fn commit(
        &mut self,
        request: &OffsetCommitRequest,
        error: ErrorCode,
    ) -> OffsetCommitResponse {
        let mut topics = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for p in &topic.partitions {
                if error.is_ok() {
                    self.events.push(format!(
                        "commit {}@{}",
                        p.partition_index, p.committed_offset
                    ));
                    self.committed.insert(p.partition_index, p.committed_offset);
                    self.metadata = p.committed_metadata.clone().unwrap_or_default();
                }
                partitions.push(OffsetCommitResponsePartition {
                    partition_index: p.partition_index,
                    error_code: error,
                    ..Default::default()
                });
            }
            let name = topic.name.clone();
            topics.push(OffsetCommitResponseTopic {
                name,
                partitions,
                ..Default::default()
            });
        }
        OffsetCommitResponse {
            topics,
            ..Default::default()
        }
    }
}

pub(crate) fn serve(cluster: &ScriptedCluster, world: &Shared, node: i32) {
    let broker = cluster.broker(node);
    serve_fetches(cluster, world, node);
    let w = world.clone();
    broker.on::<ListOffsetsRequest>(move |request, _| {
        let world = w.lock().unwrap();
        let topics = request
            .topics
            .into_iter()
            .map(|topic| ListOffsetsTopicResponse {
                partitions: topic
                    .partitions
                    .iter()
                    .map(|p| ListOffsetsPartitionResponse {
                        partition_index: p.partition_index,
                        offset: if p.timestamp == -2 {
                            0
                        } else {
                            world.end(p.partition_index)
                        },
                        leader_epoch: 0,
                        ..Default::default()
                    })
                    .collect(),
                name: topic.name,
                ..Default::default()
            });
        ListOffsetsResponse {
            topics: topics.collect(),
            ..Default::default()
        }
        .into()
    });
    let w = world.clone();
    broker.on::<OffsetForLeaderEpochRequest>(move |request, _| {
        let world = w.lock().unwrap();
        let topics = request.topics.iter().map(|topic| {
            let ends = topic.partitions.iter().map(|asked| EpochEndOffset {
                partition: asked.partition,
                leader_epoch: asked.leader_epoch,
                end_offset: world.end(asked.partition),
                ..Default::default()
            });
            OffsetForLeaderTopicResult {
                topic: topic.topic.clone(),
                partitions: ends.collect(),
                ..Default::default()
            }
        });
        OffsetForLeaderEpochResponse {
            topics: topics.collect(),
            ..Default::default()
        }
        .into()
    });
    let w = world.clone();
    broker.on::<OffsetFetchRequest>(move |request, _| {
        let world = w.lock().unwrap();
        let groups = request
            .groups
            .into_iter()
            .map(|group| OffsetFetchResponseGroup {
                group_id: group.group_id,
                topics: group
                    .topics
                    .into_iter()
                    .flatten()
                    .map(|topic| OffsetFetchResponseTopics {
                        partitions: topic
                            .partition_indexes
                            .iter()
                            .map(|p| OffsetFetchResponsePartitions {
                                partition_index: *p,
                                committed_offset: world.committed.get(p).copied().unwrap_or(-1),
                                ..Default::default()
                            })
                            .collect(),
                        name: topic.name,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            });
        OffsetFetchResponse {
            groups: groups.collect(),
            ..Default::default()
        }
        .into()
    });
    let w = world.clone();
    broker.on::<OffsetCommitRequest>(move |request, _| {
        w.lock().unwrap().commit(&request, ErrorCode::NONE).into()
    });
    serve_group(cluster, world, node);
}

/// Without sessions; an answer without records takes as long as the request allows.
pub(crate) fn serve_fetches(cluster: &ScriptedCluster, world: &Shared, node: i32) {
    let w = world.clone();
    cluster
        .broker(node)
        .on::<FetchRequest>(move |request, call| {
            let mut world = w.lock().unwrap();
            let response = world.fetch(&request, call.node);
            let empty = response
                .responses
                .iter()
                .flat_map(|topic| &topic.partitions)
                .all(|data| data.records.as_ref().is_none_or(Bytes::is_empty));
            let wait = if empty { request.max_wait_ms as u64 } else { 0 };
            Reply::after(Duration::from_millis(wait), response)
        });
}

/// A group of one member, which leads it.
fn serve_group(cluster: &ScriptedCluster, world: &Shared, node: i32) {
    let broker = cluster.broker(node);
    let w = world.clone();
    broker.on::<JoinGroupRequest>(move |request, _| {
        let mut world = w.lock().unwrap();
        if request.member_id.is_empty() && request.group_instance_id.is_none() {
            world.events.push("member id".into());
            return JoinGroupResponse {
                error_code: ErrorCode::MEMBER_ID_REQUIRED,
                member_id: "member-1".into(),
                ..Default::default()
            }
            .into();
        }
        world.events.push("join".into());
        let subscription = request.protocols[0].metadata.clone();
        world.subscriptions.push(subscription);
        world.generation += 1;
        world.heartbeat = ErrorCode::NONE;
        let member_id: Str = "member-1".into();
        JoinGroupResponse {
            generation_id: world.generation,
            protocol_type: Some("consumer".into()),
            protocol_name: Some(request.protocols[0].name.clone()),
            leader: member_id.clone(),
            members: vec![JoinGroupResponseMember {
                member_id: member_id.clone(),
                metadata: request.protocols[0].metadata.clone(),
                ..Default::default()
            }],
            member_id,
            ..Default::default()
        }
        .into()
    });
    let w = world.clone();
    broker.on::<SyncGroupRequest>(move |request, _| {
        w.lock().unwrap().events.push("sync".into());
        SyncGroupResponse {
            assignment: request.assignments[0].assignment.clone(),
            ..Default::default()
        }
        .into()
    });
    let w = world.clone();
    broker.on::<HeartbeatRequest>(move |_, _| {
        let mut world = w.lock().unwrap();
        world.heartbeats += 1;
        HeartbeatResponse {
            error_code: world.heartbeat,
            ..Default::default()
        }
        .into()
    });
    let w = world.clone();
    broker.on::<LeaveGroupRequest>(move |_, _| {
        w.lock().unwrap().events.push("leave".into());
        LeaveGroupResponse::default().into()
    });
}

/// Reads `count` records and returns them as partition and offset, having checked that each holds its
/// offset.
pub(crate) async fn read(consumer: &Consumer, count: usize) -> Vec<(i32, i64)> {
    let mut read = Vec::new();
    while read.len() < count {
        let record = tokio::time::timeout(Duration::from_secs(120), consumer.recv())
            .await
            .unwrap_or_else(|_| panic!("stuck after {read:?}"))
            .unwrap();
        let value = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
        assert_eq!(value.trim(), record.offset().to_string());
        read.push((record.partition(), record.offset()));
    }
    read
}

/// The offsets read of each partition, in the order read.
pub(crate) fn by_partition(read: &[(i32, i64)]) -> HashMap<i32, Vec<i64>> {
    let mut offsets: HashMap<i32, Vec<i64>> = HashMap::new();
    for (partition, offset) in read {
        offsets.entry(*partition).or_default().push(*offset);
    }
    offsets
}
