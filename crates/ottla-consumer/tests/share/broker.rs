//! A broker with one partition and one share group of one member, as far as these tests need it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::BytesMut;
use ottla_consumer::Bytes;
use ottla_net::testing::{Reply, ScriptedCluster};
use ottla_wire::{
    ErrorCode, Uuid,
    compress::{Codec, Compression, Compressor},
    messages::{
        share_acknowledge::{
            PartitionData as Acknowledged, ShareAcknowledgeRequest, ShareAcknowledgeResponse,
            ShareAcknowledgeTopicResponse,
        },
        share_fetch::{
            AcquiredRecords, PartitionData, ShareFetchRequest, ShareFetchResponse,
            ShareFetchableTopicResponse,
        },
        share_group_heartbeat::{
            Assignment, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, TopicPartitions,
        },
    },
    record::{BatchWriter, NewRecord, SealOptions},
};

pub(crate) const TOPIC: &str = "clicks";
pub(crate) const GROUP: &str = "workers";

#[derive(Default)]
pub(crate) struct World {
    pub(crate) records: i64,
    pub(crate) topic_id: Uuid,
    /// The share session's next epoch.
    pub(crate) epoch: i32,
    pub(crate) acquired: BTreeSet<i64>,
    pub(crate) accepted: BTreeSet<i64>,
    counts: BTreeMap<i64, i16>,
    /// What the next heartbeat is answered with.
    pub(crate) heartbeat: ErrorCode,
    pub(crate) heartbeats: usize,
    pub(crate) joins: usize,
    pub(crate) leaves: usize,
    pub(crate) fetches: usize,
    /// Members may give back what they were told that they have.
    pub(crate) talked_nonsense: bool,
    /// The base offset of a batch whose records are a megabyte each, compressed.
    pub(crate) large: Option<i64>,
    /// How often a record is delivered before it is given up. 0: without end.
    pub(crate) deliveries_max: i16,
}

pub(crate) type Shared = Arc<Mutex<World>>;

/// A broker whose log has so many records.
pub(crate) fn start(records: i64) -> (ScriptedCluster, Shared) {
    let cluster = ScriptedCluster::start(1);
    let topic_id = cluster.add_topic(TOPIC, 1);
    cluster.set_coordinator(GROUP, Ok(1));
    let world = Arc::new(Mutex::new(World {
        topic_id,
        records,
        ..World::default()
    }));
    serve(&cluster, &world);
    (cluster, world)
}

/// Answers as it should.
pub(crate) fn serve(cluster: &ScriptedCluster, world: &Shared) {
    let broker = cluster.broker(1);
    let of = world.clone();
    broker.on::<ShareGroupHeartbeatRequest>(move |request, _| {
        of.lock().unwrap().heartbeat(&request).into()
    });
    let of = world.clone();
    broker.on::<ShareFetchRequest>(move |request, _| of.lock().unwrap().fetch(&request));
    let of = world.clone();
    broker.on::<ShareAcknowledgeRequest>(move |request, _| {
        of.lock().unwrap().acknowledge(&request).into()
    });
}

impl World {
    fn heartbeat(&mut self, request: &ShareGroupHeartbeatRequest) -> ShareGroupHeartbeatResponse {
        self.heartbeats += 1;
        let error = std::mem::take(&mut self.heartbeat);
        match request.member_epoch {
            0 => self.joins += 1,
            -1 => self.leaves += 1,
            _ => {}
        }
        let assignment = Assignment {
            topic_partitions: vec![TopicPartitions {
                topic_id: self.topic_id,
                partitions: vec![0],
                ..Default::default()
            }],
            ..Default::default()
        };
        ShareGroupHeartbeatResponse {
            error_code: error,
            member_id: Some(request.member_id.clone()),
            member_epoch: request.member_epoch.max(1),
            heartbeat_interval_ms: 5_000,
            assignment: (request.member_epoch == 0 && error.is_ok()).then_some(assignment),
            ..Default::default()
        }
    }

    fn fetch(&mut self, request: &ShareFetchRequest) -> Reply<ShareFetchResponse> {
        self.fetches += 1;
        if request.share_session_epoch == 0 {
            self.epoch = 0;
        }
        let expected = std::mem::replace(&mut self.epoch, request.share_session_epoch + 1);
        assert_eq!(request.share_session_epoch, expected);
        let batches = request.topics.iter().flat_map(|topic| &topic.partitions);
        let batches = batches.flat_map(|partition| &partition.acknowledgement_batches);
        let mut says = false;
        for batch in batches {
            says = true;
            self.say(
                batch.first_offset,
                batch.last_offset,
                &batch.acknowledge_types,
            );
        }
        // One batch at a time, of four.
        let begins = (0..self.records).step_by(4);
        let is_free = |world: &Self, offset: &i64| {
            let delivered = world.counts.get(offset).copied().unwrap_or(0);
            let given_up = world.deliveries_max > 0 && delivered >= world.deliveries_max;
            !given_up && !world.acquired.contains(offset) && !world.accepted.contains(offset)
        };
        let free: Vec<i64> = (0..self.records)
            .filter(|offset| is_free(self, offset))
            .collect();
        let mut records = BytesMut::new();
        for base in begins {
            let count = (self.records - base).min(4);
            if (base..base + count).any(|offset| free.contains(&offset)) {
                let bytes = match self.large {
                    Some(large) if large == base => {
                        batch_with(base, count, Compression::Gzip, 1 << 20)
                    }
                    _ => batch(base, count),
                };
                records.extend_from_slice(&bytes);
            }
        }
        let ranges = free.iter().map(|&offset| {
            let count = self.counts.entry(offset).or_default();
            *count += 1;
            AcquiredRecords {
                first_offset: offset,
                last_offset: offset,
                delivery_count: *count,
                ..Default::default()
            }
        });
        let acquired_records: Vec<_> = ranges.collect();
        self.acquired.extend(&free);
        let partition = PartitionData {
            records: records.freeze(),
            acquired_records,
            ..Default::default()
        };
        let responses = (says || !free.is_empty()).then(|| ShareFetchableTopicResponse {
            topic_id: self.topic_id,
            partitions: vec![partition],
            ..Default::default()
        });
        let wait = match free.is_empty() {
            true => Duration::from_millis(request.max_wait_ms as u64),
            false => Duration::from_millis(10),
        };
        let response = ShareFetchResponse {
            acquisition_lock_timeout_ms: 30_000,
            responses: responses.into_iter().collect(),
            ..Default::default()
        };
        Reply::after(wait, response)
    }

    pub(crate) fn acknowledge(
        &mut self,
        request: &ShareAcknowledgeRequest,
    ) -> ShareAcknowledgeResponse {
        if request.share_session_epoch >= 0 {
            assert_eq!(request.share_session_epoch, self.epoch);
        }
        self.epoch += 1;
        let mut responses = Vec::new();
        for topic in &request.topics {
            for partition in &topic.partitions {
                for batch in &partition.acknowledgement_batches {
                    self.say(
                        batch.first_offset,
                        batch.last_offset,
                        &batch.acknowledge_types,
                    );
                }
            }
            responses.push(ShareAcknowledgeTopicResponse {
                topic_id: topic.topic_id,
                partitions: vec![Acknowledged::default()],
                ..Default::default()
            });
        }
        if request.share_session_epoch == -1 {
            self.acquired.clear();
        }
        ShareAcknowledgeResponse {
            acquisition_lock_timeout_ms: 30_000,
            responses,
            ..Default::default()
        }
    }

    fn say(&mut self, first: i64, last: i64, types: &[i8]) {
        if self.talked_nonsense && last > self.records {
            return;
        }
        // Its coordinator has the broker release what a member has that leaves.
        assert_eq!(self.leaves, 0, "said too late");
        for offset in first..=last {
            let held = self.acquired.remove(&offset);
            assert!(held || self.talked_nonsense, "{offset} is not acquired");
            if types == [1] {
                self.accepted.insert(offset);
            }
        }
    }
}

pub(crate) fn batch(base: i64, count: i64) -> Bytes {
    batch_with(base, count, Compression::None, 0)
}

fn batch_with(base: i64, count: i64, codec: Compression, padding: usize) -> Bytes {
    let mut writer = BatchWriter::new(BytesMut::new());
    for offset in base..base + count {
        let value = format!("{offset}{}", " ".repeat(padding));
        let record = NewRecord {
            timestamp: 7,
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        };
        writer.append(&record).unwrap();
    }
    let options = SealOptions {
        codec: Codec::from(codec),
    };
    let mut sealed = writer.seal(&options, &mut Compressor::new()).unwrap();
    sealed.stamp(-1, -1, -1, false);
    let mut bytes = sealed.freeze().to_vec();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes.into()
}
