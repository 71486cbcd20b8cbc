//! Where a share group is, as our administration and Kafka's tool say and change it.

use std::time::Duration;

use ottla_admin::Admin;
use ottla_consumer::{AcknowledgeType, Error};
use ottla_protocol_tests::{Output, Tool, Tools};
use ottla_wire::ErrorCode;

use crate::{
    Place,
    client::{PATIENCE, cluster, write},
    group,
    scenarios::{next, numbers},
    share_consumer, topic,
};

/// Reads and accepts so many records of a topic, and leaves.
async fn read(place: &Place, group: &str, topic: &str, count: usize) -> Vec<u32> {
    for _ in 0..10 {
        let consumer = share_consumer(&place.bootstrap, group, |config| {
            config.max_poll_records = count;
            config.acquire_mode = ottla_consumer::ShareAcquireMode::RecordLimit;
        });
        consumer.subscribe([topic.to_owned()]).unwrap();
        let records = next(&consumer, count).await;
        for record in &records {
            consumer
                .acknowledge(record, AcknowledgeType::Accept)
                .unwrap();
        }
        let committed = consumer.commit_all().await;
        consumer.close(PATIENCE).await.unwrap();
        match committed {
            Ok(()) => return numbers(&records),
            // Kafka's leader learns with the first acknowledgement that an administrator has changed offsets.
            Err(Error::AcknowledgeFailed { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no acknowledgement succeeds");
}

pub(super) async fn our_administration_says_and_changes_them(place: &Place) {
    let bootstrap = &place.bootstrap;
    let (topic, group) = (
        topic(place, "offsets", 2).await,
        group(bootstrap, "offsets", &[]).await,
    );
    write(bootstrap, &topic, 1, 0..10).await;
    let admin = Admin::new(cluster(bootstrap)).with_timeout(Duration::from_secs(10));
    let places = async || {
        let all = admin.share_group_offsets(&group).await.unwrap();
        let begun = all.into_iter().filter(|at| at.start_offset.is_some());
        begun
            .map(|at| (at.partition, at.start_offset, at.lag))
            .collect::<Vec<_>>()
    };
    let code = |result: &Result<(), ottla_admin::Error>| {
        let error = result.as_ref().err();
        error.and_then(ottla_admin::Error::code)
    };
    // A group that nobody has joined yet.
    assert_eq!(places().await, []);
    let deleted = admin.delete_share_group_offsets(&group, &[&topic]).await;
    let not_found = Some(ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(code(&deleted[0].1), not_found);
    let told = format!("{group}-told");
    let altered = admin
        .alter_share_group_offsets(&told, &[(&topic, 0, 7)])
        .await;
    assert_eq!(code(&altered[0].1), None);
    assert_eq!(read(place, &told, &topic, 3).await, [7, 8, 9]);

    let consumer = share_consumer(bootstrap, &group, |_| ());
    consumer.subscribe([topic.clone()]).unwrap();
    let records = next(&consumer, 10).await;
    for (record, kind) in records.iter().zip([
        AcknowledgeType::Accept,
        AcknowledgeType::Reject,
        AcknowledgeType::Release,
        AcknowledgeType::Accept,
    ]) {
        consumer.acknowledge(record, kind).unwrap();
    }
    consumer.commit().await.unwrap();
    // Three are done with. Kafka's start offset follows with the next acknowledgement, and ours at once.
    let begun = places().await;
    let first = begun.iter().find(|(partition, ..)| *partition == 0);
    let is_there = matches!(first, Some((_, Some(0 | 2), Some(7))));
    assert!(is_there, "{begun:?}");
    let starts = [(&*topic, 0, 5)];
    let altered = admin.alter_share_group_offsets(&group, &starts).await;
    assert_eq!(code(&altered[0].1), Some(ErrorCode::NON_EMPTY_GROUP));
    let deleted = admin.delete_share_group_offsets(&group, &[&topic]).await;
    assert_eq!(code(&deleted[0].1), Some(ErrorCode::NON_EMPTY_GROUP));
    consumer.close(PATIENCE).await.unwrap();

    let starts = [(&*topic, 0, 5), ("no such topic", 0, 1)];
    let altered = admin.alter_share_group_offsets(&group, &starts).await;
    assert_eq!(altered[0].0, format!("{topic}[0]"));
    assert_eq!(code(&altered[0].1), None, "{altered:?}");
    let unknown = Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(code(&altered[1].1), unknown);
    let begun = places().await;
    assert!(begun.contains(&(0, Some(5), Some(5))), "{begun:?}");
    assert_eq!(read(place, &group, &topic, 2).await, [5, 6]);

    let topics = [&*topic, "no such topic"];
    let deleted = admin.delete_share_group_offsets(&group, &topics).await;
    assert_eq!(code(&deleted[0].1), None, "{deleted:?}");
    assert_eq!(code(&deleted[1].1), unknown);
    assert_eq!(places().await, []);
    assert_eq!(
        read(place, &group, &topic, 2).await,
        [0, 1],
        "from the beginning"
    );
    let described = admin.describe_groups(&[&group]).await.remove(0).1.unwrap();
    assert_eq!((described.protocol, &*described.state), ("share", "Empty"));
}

pub(super) async fn so_does_kafkas_tool(place: &Place) {
    let (topic, group) = (
        topic(place, "tool", 1).await,
        group(&place.bootstrap, "tool", &[]).await,
    );
    write(&place.bootstrap, &topic, 1, 0..6).await;
    assert_eq!(read(place, &group, &topic, 2).await, [0, 1]);
    let tools = place.tools.as_ref().unwrap();
    let class = Tool::Other("org.apache.kafka.tools.consumer.group.ShareGroupCommand");
    let of_group = ["--group", &*group];
    let run = |tools: &Tools, args: &[&str]| {
        let args = [args, &of_group].concat();
        tokio::task::block_in_place(|| tools.run(class, &args))
    };
    let offsets = || run(tools, &["--describe", "--offsets"]);
    // Group, topic, partition, start offset, lag.
    let at = offsets();
    let at = row(&at, &topic);
    assert_eq!((at[2], at[4]), ("0", "4"), "{at:?}");
    assert!(["0", "2"].contains(&at[3]), "{at:?}");
    let state = run(tools, &["--describe", "--state"]);
    assert!(state.text().contains("Empty"), "{}", state.text());

    let reset = ["--reset-offsets", "--topic", &topic, "--execute"];
    run(tools, &[&reset[..], &["--to-latest"]].concat());
    assert_eq!(row(&offsets(), &topic)[3], "6");
    run(tools, &[&reset[..], &["--to-earliest"]].concat());
    assert_eq!(row(&offsets(), &topic)[3], "0");
    assert_eq!(read(place, &group, &topic, 1).await, [0]);
    run(tools, &["--delete-offsets", "--topic", &topic]);
    let left = offsets();
    assert!(!left.text().contains(&topic), "{}", left.text());
    assert_eq!(read(place, &group, &topic, 1).await, [0]);
    run(tools, &["--delete"]);
    let admin = Admin::new(cluster(&place.bootstrap));
    let groups = admin.list_groups().await.unwrap();
    assert!(!groups.iter().any(|listed| listed.id == group));
}

/// What the tool says of a topic's partition 0.
fn row<'a>(output: &'a Output, topic: &str) -> Vec<&'a str> {
    let rows = output.text().lines();
    let mut rows = rows.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(1) == Some(&topic));
    row.unwrap_or_else(|| panic!("no row of {topic}: {}", output.text()))
}
