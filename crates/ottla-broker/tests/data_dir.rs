//! Data directories that cannot be used, and those that only look like it.
#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::fs;
use std::path::Path;

use ottla_broker::{BrokerOptions, EmbeddedCluster, Error};
use ottla_wire::ErrorCode;
use ottla_wire::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use ottla_wire::messages::delete_groups::DeleteGroupsRequest;
use ottla_wire::messages::delete_topics::DeleteTopicsRequest;
use ottla_wire::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_wire::messages::offset_commit::{OffsetCommitRequest, OffsetCommitRequestTopic};

mod support;
use support::Client;
use support::share::{ACCEPT, Member, set};
use tokio::io::DuplexStream;

fn options(dir: &Path) -> BrokerOptions {
    BrokerOptions {
        data_dir: Some(dir.to_owned()),
        topics: vec![("t".into(), 2)],
        ..Default::default()
    }
}

/// A directory with a topic that holds a record, and a group that committed.
async fn used() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let cluster = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap();
    let mut client = Client::new(cluster.connect(1).unwrap());
    client.produce("t", 0, &[b"one"]).await.unwrap();
    let commit = commit("g");
    client.ask(&commit, 8).await.unwrap();
    client
        .ask(
            &InitProducerIdRequest {
                transactional_id: None,
                ..Default::default()
            },
            4,
        )
        .await
        .unwrap();
    let name = "share.auto.offset.reset";
    set(&mut client, "s", name, "earliest").await.unwrap();
    let stream = cluster.connect(1).unwrap();
    let mut member = Member::join(stream, "s", "m", "t").await.unwrap();
    assert_eq!(member.acquire(0, 1).await.unwrap(), [(0, 0, 1)]);
    let said = member.say(0, ACCEPT, &[(0, 0)]).await.unwrap();
    assert_eq!(said, ErrorCode::NONE);
    drop(member);
    cluster.stop().await;
    dir
}

#[tokio::test]
async fn another_broker_in_it_is_named_and_its_end_lets_go() {
    let dir = used().await;
    let first = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap();
    let error = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap_err();
    assert!(matches!(&error, Error::DataDirInUse { path } if path == dir.path()));
    assert!(error.to_string().contains("in use"), "{error}");
    first.stop().await;
    EmbeddedCluster::start_in_memory(options(dir.path())).unwrap();
}

#[tokio::test]
async fn another_version_is_named_and_nothing_is_touched() {
    let dir = used().await;
    let files = [
        // What the layout before this one looked like.
        r#"{"version":1,"cluster_id":"x"}"#.to_owned(),
        with_checksum(r#"{"version":3,"id":"unlike ours"}"#),
    ];
    for text in files {
        fs::write(dir.path().join("broker.json"), &text).unwrap();
        let error = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap_err();
        let Error::DataDirVersion { path, found } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(path, dir.path());
        assert!(found.starts_with("version "), "{found}");
        assert!(error.to_string().contains("version 2"), "{error}");
        assert_eq!(
            fs::read_to_string(dir.path().join("broker.json")).unwrap(),
            text
        );
    }
}

#[tokio::test]
async fn a_data_directory_of_apache_kafka_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("meta.properties"), "version=1\n").unwrap();
    let error = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap_err();
    assert!(matches!(error, Error::DataDirVersion { .. }), "{error}");
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing was put into it"
    );
}

#[tokio::test]
async fn a_folder_with_other_things_in_it_will_do() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    EmbeddedCluster::start_in_memory(options(dir.path()))
        .unwrap()
        .stop()
        .await;
    assert_eq!(fs::read(dir.path().join("notes.txt")).unwrap(), b"mine");
}

#[tokio::test]
async fn a_damaged_or_missing_file_that_is_needed_is_named() {
    let dir = used().await;
    let group = format!("groups/{:02x}.json", b'g');
    let share_group = format!("groups/{:02x}.json", b's');
    let needed = [
        "broker.json",
        "topics/t.json",
        &*group,
        &*share_group,
        "producer-ids.json",
    ];
    for name in needed {
        let file = dir.path().join(name);
        let whole = fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for bytes in [&b""[..], b"garbage", &whole[..whole.len() - 1], &flipped] {
            fs::write(&file, bytes).unwrap();
            let error = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap_err();
            assert!(
                matches!(&error, Error::DataDirDamaged { file: named, .. } if *named == file),
                "{error:?}"
            );
            assert_eq!(fs::read(&file).unwrap(), bytes, "nothing was changed");
        }
        fs::write(&file, whole).unwrap();
    }
    // With data beside it, nobody can say of what version that is.
    fs::rename(dir.path().join("broker.json"), dir.path().join("elsewhere")).unwrap();
    let error = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap_err();
    assert!(matches!(error, Error::DataDirDamaged { .. }), "{error:?}");
    fs::rename(dir.path().join("elsewhere"), dir.path().join("broker.json")).unwrap();
    let cluster = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap();
    assert_eq!(cluster.offsets("t", 0), Some((0, 1)));
    assert_eq!(cluster.damage(), []);
}

#[tokio::test]
async fn a_share_group_that_cannot_be_is_named_though_its_checksum_is_right() {
    let dir = used().await;
    let file = dir.path().join(format!("groups/{:02x}.json", b's'));
    let text = fs::read_to_string(&file).unwrap();
    let line = text.lines().next().unwrap();
    for (from, to) in [
        (r#""start":1"#, r#""start":-5"#),
        (r#""next":1"#, r#""next":0"#),
        (r#""available":[]"#, r#""available":[[0,0,1]]"#),
        (
            r#""partition":0,"state_epoch""#,
            r#""partition":"0","state_epoch""#,
        ),
    ] {
        assert!(line.contains(from), "{line}");
        fs::write(&file, with_checksum(&line.replace(from, to))).unwrap();
        let error = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap_err();
        assert!(
            matches!(&error, Error::DataDirDamaged { file: named, .. } if *named == file),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_file_under_another_name_is_not_taken_for_another_topic() {
    let dir = used().await;
    let topics = dir.path().join("topics");
    fs::copy(topics.join("t.json"), topics.join("u.json")).unwrap();
    let error = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap_err();
    assert!(
        matches!(&error, Error::DataDirDamaged { file, .. } if *file == topics.join("u.json")),
        "{error:?}"
    );
}

#[tokio::test]
async fn damage_to_batches_is_reported_by_a_cluster_that_runs() {
    let dir = used().await;
    let file = dir.path().join("logs/t-0/00000000000000000000.log");
    let mut bytes = fs::read(&file).unwrap();
    bytes[30] ^= 1;
    fs::write(&file, bytes).unwrap();
    let cluster = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap();
    let damage = cluster.damage();
    assert_eq!(damage.len(), 1);
    assert_eq!((&damage[0].file, damage[0].position), (&file, 0));
    let told = damage[0].to_string();
    assert!(
        told.contains("00000000000000000000.log, byte 0: "),
        "{told}"
    );
    assert!(told.contains("set aside in "), "{told}");
    assert_eq!(cluster.offsets("t", 0), Some((0, 0)));
}

#[tokio::test]
async fn a_deletion_that_was_interrupted_is_finished_unless_the_topic_was_made_anew() {
    let dir = used().await;
    let (topic, deleted) = (
        dir.path().join("topics/t.json"),
        dir.path().join("deleted/t.json"),
    );
    // Ended right after the topic was marked.
    fs::rename(&topic, &deleted).unwrap();
    let none = BrokerOptions {
        topics: Vec::new(),
        ..options(dir.path())
    };
    let cluster = EmbeddedCluster::start_in_memory(none.clone()).unwrap();
    assert_eq!(cluster.offsets("t", 0), None);
    assert!(!dir.path().join("logs/t-0").exists() && !deleted.exists());
    cluster.create_topic("t", 1).unwrap();
    let mut client = Client::new(cluster.connect(1).unwrap());
    client.produce("t", 0, &[b"new"]).await.unwrap();
    cluster.stop().await;
    // Ended right after a new topic of that name was made.
    fs::copy(&topic, &deleted).unwrap();
    let cluster = EmbeddedCluster::start_in_memory(none).unwrap();
    assert_eq!(cluster.offsets("t", 0), Some((0, 1)));
    assert!(!deleted.exists());
}

#[tokio::test]
async fn commits_that_cannot_be_kept_are_refused_and_work_again_when_there_is_room() {
    let dir = used().await;
    let cluster = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap();
    let mut client = Client::new(cluster.connect(1).unwrap());
    let mut errors = Vec::new();
    for (group, room) in [("g", Some(10)), ("h", None)] {
        cluster.limit_disk(room);
        let answer = client.ask(&commit(group), 8).await.unwrap();
        errors.push(answer.topics[0].partitions[0].error_code);
    }
    let expected = [ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::NONE];
    assert_eq!(errors, expected);
}

#[tokio::test]
async fn ids_may_be_as_long_as_the_protocol_lets_them() {
    let dir = used().await;
    let ids = ["long".repeat(31), "longer".repeat(31), "i".repeat(30_000)];
    let cluster = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap();
    let mut client = Client::new(cluster.connect(1).unwrap());
    for id in &ids {
        let answer = client.ask(&commit(id), 8).await.unwrap();
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
        assert_eq!(join(&mut client, id).await, ErrorCode::NONE);
        assert!(init(&mut client, id).await.producer_epoch == 0);
    }
    drop(client);
    cluster.stop().await;
    let cluster = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap();
    let mut client = Client::new(cluster.connect(1).unwrap());
    for id in &ids {
        assert_eq!(cluster.committed(id, "t", 0), Some(0));
        assert_eq!(cluster.group_members(id), ["m"]);
        assert_eq!(init(&mut client, id).await.producer_epoch, 1);
    }
    // One that is gone stays gone, and the others stay.
    cluster.fence_member(&ids[1], "m").await.unwrap();
    let request = DeleteGroupsRequest {
        groups_names: vec![ids[1].as_str().into()],
        ..Default::default()
    };
    let answer = client.ask(&request, 2).await.unwrap();
    assert_eq!(answer.results[0].error_code, ErrorCode::NONE);
    drop(client);
    cluster.stop().await;
    let cluster = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap();
    let committed = ids.each_ref().map(|id| cluster.committed(id, "t", 0));
    assert_eq!(committed, [Some(0), None, Some(0)]);
}

async fn join(client: &mut Client<DuplexStream>, group: &str) -> ErrorCode {
    let request = ConsumerGroupHeartbeatRequest {
        group_id: group.to_owned().into(),
        member_id: "m".into(),
        rebalance_timeout_ms: 1000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    client.ask(&request, 1).await.unwrap().error_code
}

async fn init(client: &mut Client<DuplexStream>, id: &str) -> InitProducerIdResponse {
    let request = InitProducerIdRequest {
        transactional_id: Some(id.to_owned().into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let answer = client.ask(&request, 4).await.unwrap();
    assert_eq!(answer.error_code, ErrorCode::NONE);
    answer
}

#[tokio::test]
async fn a_deleted_topics_offsets_do_not_come_back_to_a_new_topic_of_its_name() {
    let dir = used().await;
    let group = dir.path().join(format!("groups/{:02x}.json", b'g'));
    let before = fs::read(&group).unwrap();
    // The second time as if the broker was killed before it had written the group.
    for killed in [false, true] {
        let cluster = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap();
        let mut client = Client::new(cluster.connect(1).unwrap());
        client.ask(&commit("g"), 8).await.unwrap();
        let delete = DeleteTopicsRequest {
            topic_names: vec!["t".into()],
            ..Default::default()
        };
        let deleted = client.ask(&delete, 5).await.unwrap();
        assert_eq!(deleted.responses[0].error_code, ErrorCode::NONE);
        drop(client);
        cluster.stop().await;
        if killed {
            fs::write(&group, &before).unwrap();
        }
        let cluster = EmbeddedCluster::start_in_memory(options(dir.path())).unwrap();
        assert_eq!(cluster.committed("g", "t", 0), None, "killed: {killed}");
        cluster.stop().await;
    }
}

fn commit(group: &str) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![Default::default()],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn with_checksum(text: &str) -> String {
    format!("{text}\ncrc32c {:08x}\n", crc32c::crc32c(text.as_bytes()))
}
