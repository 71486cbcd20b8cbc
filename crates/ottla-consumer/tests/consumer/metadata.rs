//! What brokers tell of themselves and of their partitions: racks, topics of the cluster's own, leaders that are new; and what a
//! consumer tells them of its rack.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{hostile::by_brokers, support::*};
use ottla_consumer::{Bytes, ConsumerConfig, Offset, TopicPattern};
use ottla_net::testing::{Reply, ScriptedCluster};
use ottla_wire::{
    ErrorCode, Uuid,
    messages::{
        consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse},
        fetch::{FetchRequest, LeaderIdAndEpoch, NodeEndpoint},
        join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember},
        metadata::{
            MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
            MetadataResponseTopic,
        },
        sync_group::{SyncGroupRequest, SyncGroupResponse},
    },
};
use tokio::time::{Instant, sleep};

/// Brokers with their racks.
fn metadata(
    cluster: &ScriptedCluster,
    brokers: &[(i32, Option<&str>)],
    topics: Vec<MetadataResponseTopic>,
) -> MetadataResponse {
    let broker = |(node, rack): &(i32, Option<&str>)| {
        let address = cluster.broker(*node).address();
        MetadataResponseBroker {
            node_id: *node,
            host: address.host().to_owned().into(),
            port: address.port().into(),
            rack: rack.map(|rack| rack.to_owned().into()),
            ..Default::default()
        }
    };
    MetadataResponse {
        brokers: brokers.iter().map(broker).collect(),
        cluster_id: Some("scripted".into()),
        controller_id: 1,
        topics,
        ..Default::default()
    }
}

/// Each partition on one broker.
fn topic(name: &'static str, topic_id: Uuid, leaders: &[i32]) -> MetadataResponseTopic {
    let partitions = (0..).zip(leaders);
    MetadataResponseTopic {
        name: Some(name.into()),
        topic_id,
        partitions: partitions
            .map(|(partition_index, leader)| MetadataResponsePartition {
                partition_index,
                leader_id: *leader,
                leader_epoch: 0,
                replica_nodes: vec![*leader],
                isr_nodes: vec![*leader],
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn in_rack(rack: &str, config: ConsumerConfig) -> ConsumerConfig {
    ConsumerConfig {
        client_rack: rack.into(),
        ..config
    }
}

/// KIP-951: the refusal says who leads, and where that broker is, which no metadata has told.
#[tokio::test(start_paused = true)]
async fn a_new_leader_that_a_refusal_names_is_asked_without_metadata() {
    let (cluster, world) = start(2, 1);
    append(&world, 0, 2);
    let silent = Arc::<AtomicBool>::default();
    let known = metadata(
        &cluster,
        &[(1, None)],
        vec![topic(TOPIC, world.lock().unwrap().topic_id, &[1])],
    );
    for node in 1..=2 {
        let (silent, known) = (silent.clone(), known.clone());
        cluster
            .broker(node)
            .on::<MetadataRequest>(move |_, _| match silent.load(Relaxed) {
                true => Reply::Skip,
                false => known.clone().into(),
            });
    }
    let consumer = consumer(&cluster, config());
    consumer.assign([(tp(0), Offset::Beginning)]).unwrap();
    read(&consumer, 2).await;
    append(&world, 0, 3);
    silent.store(true, Relaxed);
    let address = cluster.broker(2).address().clone();
    let w = world.clone();
    cluster.broker(1).on::<FetchRequest>(move |_, _| {
        let mut refusal = w
            .lock()
            .unwrap()
            .refuse(0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        refusal.responses[0].partitions[0].current_leader = LeaderIdAndEpoch {
            leader_id: 2,
            leader_epoch: 1,
            ..Default::default()
        };
        refusal.node_endpoints = vec![NodeEndpoint {
            node_id: 2,
            host: address.host().to_owned().into(),
            port: address.port().into(),
            ..Default::default()
        }];
        refusal.into()
    });
    let begun = Instant::now();
    assert_eq!(read(&consumer, 3).await, [(0, 2), (0, 3), (0, 4)]);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let fetches = world.lock().unwrap().fetches.clone();
    assert!(fetches.contains(&(2, 0, 2)), "{fetches:?}");
}

#[tokio::test(start_paused = true)]
async fn topics_of_the_cluster_s_own_match_a_pattern_if_they_are_wanted() {
    for excluded in [true, false] {
        let (cluster, world) = start(1, 1);
        let offsets = MetadataResponseTopic {
            is_internal: true,
            ..topic("__consumer_offsets", Uuid([8; 16]), &[1])
        };
        let clicks = topic(TOPIC, world.lock().unwrap().topic_id, &[1]);
        let all = metadata(&cluster, &[(1, None)], vec![clicks, offsets]);
        cluster
            .broker(1)
            .on::<MetadataRequest>(move |_, _| all.clone().into());
        let config = ConsumerConfig {
            exclude_internal_topics: excluded,
            ..group_config()
        };
        let consumer = consumer(&cluster, config);
        let everything = TopicPattern::new(".*").unwrap();
        consumer.subscribe_pattern(everything).unwrap();
        sleep(Duration::from_secs(5)).await;
        let assigned: Vec<_> = consumer
            .assignment()
            .iter()
            .map(ToString::to_string)
            .collect();
        match excluded {
            true => assert_eq!(assigned, ["clicks-0"]),
            false => assert_eq!(assigned, ["__consumer_offsets-0", "clicks-0"]),
        }
    }
}

/// It leads a group of two: it is in rack a, another one in rack b, and each partition is in one of them.
#[tokio::test(start_paused = true)]
async fn racks_reach_the_group_and_the_leader_goes_by_them() {
    for (rack, expected) in [("a", vec![tp(1)]), ("", vec![tp(0)])] {
        let (cluster, world) = start(2, 2);
        let clicks = topic(TOPIC, world.lock().unwrap().topic_id, &[2, 1]);
        let all = metadata(&cluster, &[(1, Some("a")), (2, Some("b"))], vec![clicks]);
        for node in 1..=2 {
            let all = all.clone();
            cluster
                .broker(node)
                .on::<MetadataRequest>(move |_, _| all.clone().into());
        }
        let told = Arc::new(Mutex::new(Bytes::new()));
        let of = told.clone();
        cluster.broker(1).on::<JoinGroupRequest>(move |request, _| {
            let own = request.protocols[0].metadata.clone();
            *of.lock().unwrap() = own.clone();
            // The other one subscribes to the same, from another place.
            let mut other = own.to_vec();
            if rack == "a" {
                *other.last_mut().unwrap() = b'b';
            }
            let member = |id: &'static str, metadata: Bytes| JoinGroupResponseMember {
                member_id: id.into(),
                metadata,
                ..Default::default()
            };
            JoinGroupResponse {
                generation_id: 1,
                protocol_type: Some("consumer".into()),
                protocol_name: Some("range".into()),
                leader: "m-1".into(),
                member_id: "m-1".into(),
                members: vec![member("m-1", own), member("m-2", other.into())],
                ..Default::default()
            }
            .into()
        });
        cluster.broker(1).on::<SyncGroupRequest>(move |request, _| {
            let assignments = request.assignments.into_iter();
            let mut by_member: BTreeMap<_, _> = assignments
                .map(|of| (of.member_id.to_string(), of.assignment))
                .collect();
            assert_eq!(by_member.len(), 2);
            SyncGroupResponse {
                assignment: by_member.remove("m-1").unwrap(),
                ..Default::default()
            }
            .into()
        });
        let consumer = consumer(&cluster, in_rack(rack, group_config()));
        consumer.subscribe([TOPIC]).unwrap();
        sleep(Duration::from_secs(3)).await;
        assert_eq!(consumer.assignment(), expected, "in rack {rack:?}");
        // A nullable string, the last of version 3.
        let told = told.lock().unwrap().clone();
        let end: &[u8] = match rack {
            "" => &[0xff, 0xff],
            _ => &[0, 1, b'a'],
        };
        assert!(told.starts_with(&[0, 3]) && told.ends_with(end), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_rack_reaches_the_coordinator_by_the_consumer_protocol() {
    for (rack, expected) in [("a", Some("a")), ("", None)] {
        let (cluster, _world) = start(1, 1);
        let told = Arc::new(Mutex::new(Vec::new()));
        let of = told.clone();
        cluster
            .broker(1)
            .on::<ConsumerGroupHeartbeatRequest>(move |request, _| {
                let rack = request.rack_id.map(|rack| rack.to_string());
                of.lock().unwrap().push((request.member_epoch, rack));
                ConsumerGroupHeartbeatResponse {
                    member_id: Some(request.member_id),
                    member_epoch: 1,
                    heartbeat_interval_ms: 3_000,
                    ..Default::default()
                }
                .into()
            });
        let consumer = consumer(&cluster, in_rack(rack, by_brokers()));
        consumer.subscribe([TOPIC]).unwrap();
        sleep(Duration::from_secs(10)).await;
        let told = told.lock().unwrap().clone();
        assert_eq!(told[0], (0, expected.map(str::to_owned)));
        // What has not changed is not told again.
        assert!(
            told.len() > 1 && told[1..].iter().all(|told| *told == (1, None)),
            "{told:?}"
        );
    }
}
