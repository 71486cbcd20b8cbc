//! Leaders that move and die under a share group.

use std::{collections::BTreeSet, time::Duration};

use ottla_protocol_tests::{KafkaCluster, Options, or_skip, unique};
use tokio::task::block_in_place;

use crate::{
    Accepting,
    client::{PATIENCE, until, within, write},
    group,
};

const PARTITIONS: i32 = 3;

#[test]
fn nothing_is_lost_when_leaders_are_killed_and_come_back() {
    let options = Options {
        nodes: 3,
        ..Options::default()
    };
    let options = options
        .set("group.share.min.record.lock.duration.ms", 1_000)
        .set("group.share.min.heartbeat.interval.ms", 500);
    let Some(kafka) = or_skip(KafkaCluster::start(options)) else {
        return;
    };
    within(PATIENCE * 4, async {
        let bootstrap = &kafka.bootstrap();
        let (topic, group) = (created(&kafka), group(bootstrap, "moves", &[]).await);
        let members: Vec<_> = (0..2)
            .map(|_| Accepting::start(bootstrap, &group, &topic))
            .collect();
        let seen = || -> BTreeSet<u32> {
            let all = members.iter().flat_map(Accepting::seen);
            all.map(|(number, _)| number).collect()
        };
        let mut written = 0;
        for round in 0..3 {
            write(bootstrap, &topic, PARTITIONS, written..written + 300).await;
            written += 300;
            if round > 0 {
                until("all is read", || seen().len() == written as usize).await;
            }
            let node = kafka.nodes().nth(round).unwrap();
            block_in_place(|| kafka.kill(node));
            write(bootstrap, &topic, PARTITIONS, written..written + 300).await;
            written += 300;
            until("all is read without it", || {
                seen().len() == written as usize
            })
            .await;
            block_in_place(|| kafka.restart(node).unwrap());
            block_in_place(|| kafka.wait_until_ready().unwrap());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for member in members {
            member.end().await;
        }
    });
}

fn created(kafka: &KafkaCluster) -> String {
    let topic = unique("moves");
    block_in_place(|| kafka.create_topic(&topic, PARTITIONS, &[]));
    topic
}
