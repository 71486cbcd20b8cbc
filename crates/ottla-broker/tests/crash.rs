//! kill -9 of a broker under load, again and again: what was acknowledged is there, at the offset that was promised.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_broker::{BrokerOptions, EmbeddedCluster, Error};
use ottla_wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_wire::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use tokio::net::TcpStream;

mod support;
use support::Client;
use support::process::{DIR, Process};

const PARTITIONS: i32 = 4;
const ROUNDS: u64 = 12;

/// What one partition's producer was promised.
type Promised = BTreeMap<i64, Vec<u8>>;

#[tokio::test]
#[ignore = "started by the other tests, as a process of its own"]
async fn broker_process() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let options = BrokerOptions {
        data_dir: Some(dir.into()),
        ..Default::default()
    };
    let cluster = EmbeddedCluster::start(options).await.unwrap();
    assert_eq!(
        cluster
            .damage()
            .iter()
            .filter(|d| d.set_aside.is_some())
            .count(),
        0
    );
    println!("listening on {}", cluster.bootstrap_servers());
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut promised = vec![Promised::new(); PARTITIONS as usize];
    let mut committed = 0;
    for round in 0..ROUNDS {
        let process = Process::start(dir.path(), "").expect("the broker starts");
        let address = process.address.clone();
        if round == 0 {
            create_topic(&address).await;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let producers: Vec<_> = (0..PARTITIONS)
            .map(|partition| {
                tokio::spawn(produce(
                    address.clone(),
                    partition,
                    round,
                    Arc::clone(&stop),
                ))
            })
            .collect();
        let committer = tokio::spawn(commit(address.clone(), committed, Arc::clone(&stop)));
        tokio::time::sleep(Duration::from_millis(100 + 37 * (round % 5))).await;
        // SIGKILL, in the middle of whatever it does.
        drop(process);
        stop.store(true, Ordering::Relaxed);
        for (known, producer) in promised.iter_mut().zip(producers) {
            known.extend(producer.await.unwrap());
        }
        committed = committer.await.unwrap();
        verify(dir.path(), &promised, committed).await;
    }
    let records: usize = promised.iter().map(Promised::len).sum();
    assert!(records > 100, "{records} records are no load");
    assert!(committed > 0);
}

/// Compares a fresh broker over the same directory with what was promised.
async fn verify(dir: &Path, promised: &[Promised], committed: i64) {
    let options = BrokerOptions {
        data_dir: Some(dir.to_owned()),
        ..Default::default()
    };
    let cluster = EmbeddedCluster::start_in_memory(options).unwrap();
    for (partition, promised) in (0..).zip(promised) {
        let there: BTreeMap<i64, Option<Vec<u8>>> = cluster
            .records("t", partition)
            .unwrap()
            .into_iter()
            .collect();
        for (offset, value) in promised {
            let found = there.get(offset).and_then(Option::as_ref);
            assert!(
                found == Some(value),
                "partition {partition}, offset {offset}"
            );
        }
    }
    let mut client = Client::new(cluster.connect(1).unwrap());
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: vec![0],
                ..Default::default()
            }]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.ask(&request, 8).await.unwrap();
    let found = answer.groups[0].topics[0].partitions[0].committed_offset;
    assert!(
        found >= committed,
        "{committed} was committed, {found} is there"
    );
    drop(client);
    cluster.stop().await;
}

async fn create_topic(address: &str) {
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "t".into(),
            num_partitions: PARTITIONS,
            replication_factor: -1,
            // Small segments, so that they are also rolled while processes die.
            configs: vec![CreatableTopicConfig {
                name: "segment.bytes".into(),
                value: Some((1 << 20).to_string().into()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let answer = client.ask(&request, 5).await.unwrap();
    assert!(answer.topics[0].error_code.is_ok(), "{answer:?}");
}

/// Produces until the broker dies; returns what was acknowledged.
async fn produce(address: String, partition: i32, round: u64, stop: Arc<AtomicBool>) -> Promised {
    let mut promised = Promised::new();
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    let mut rng = fastrand::Rng::with_seed(round * 100 + partition as u64);
    while !stop.load(Ordering::Relaxed) {
        let mut value = vec![0; rng.usize(1..40_000)];
        rng.fill(&mut value);
        let Ok(answer) = client.produce("t", partition, &[&value]).await else {
            break;
        };
        assert!(answer.error_code.is_ok(), "{answer:?}");
        promised.insert(answer.base_offset, value);
    }
    promised
}

/// Commits rising offsets until the broker dies; returns the last that was acknowledged.
async fn commit(address: String, mut committed: i64, stop: Arc<AtomicBool>) -> i64 {
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    while !stop.load(Ordering::Relaxed) {
        let request = OffsetCommitRequest {
            group_id: "g".into(),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: "t".into(),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: committed + 1,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        match client.ask(&request, 8).await {
            Ok(answer) if answer.topics[0].partitions[0].error_code.is_ok() => committed += 1,
            Ok(answer) => panic!("{answer:?}"),
            Err(_) => break,
        }
    }
    committed
}

#[tokio::test]
async fn a_directory_is_locked_by_its_process_and_free_once_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let options = BrokerOptions {
        data_dir: Some(dir.path().to_owned()),
        ..Default::default()
    };
    let process = Process::start(dir.path(), "").expect("the broker starts");
    let error = EmbeddedCluster::start_in_memory(options.clone()).unwrap_err();
    assert!(matches!(error, Error::DataDirInUse { .. }), "{error:?}");
    drop(process);
    EmbeddedCluster::start_in_memory(options).unwrap();
}
