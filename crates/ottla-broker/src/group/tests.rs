//! When offsets expire, and with them groups.

use bytes::Bytes;
use ottla_wire::encode_versioned;

use super::classic::{Join, Sync};
use super::migration::MigrationPolicy;
use super::*;

const CONSUMER_SETTINGS: ConsumerGroupSettings = ConsumerGroupSettings {
    session_timeout: Duration::from_secs(45),
    heartbeat_interval: Duration::from_secs(5),
    members_max: 10,
    migration: MigrationPolicy::Bidirectional,
};
const RETENTION: Duration = Duration::from_secs(100);

fn groups() -> Groups {
    Groups::new(
        GroupSettings {
            session_timeout_min: Duration::from_secs(1),
            session_timeout_max: Duration::from_secs(1000),
            initial_rebalance_delay: Duration::ZERO,
            members_max: 10,
        },
        CONSUMER_SETTINGS,
    )
}

fn commit(groups: &mut Groups, topic: &str, now: Instant, commit_time_ms: i64) {
    let committed = Committed {
        offset: 1,
        leader_epoch: -1,
        metadata: String::new(),
        commit_time_ms,
    };
    let group = groups.get_or_create("g", now);
    group.offsets.commit(topic, 0, committed);
}

fn join(groups: &mut Groups, now: Instant, metadata: Bytes) -> String {
    let join = Join {
        member_id: String::new(),
        instance_id: None,
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        protocol_type: CONSUMER.to_owned(),
        protocols: vec![("range".to_owned(), metadata)],
        session_timeout: Duration::from_secs(1000),
        rebalance_timeout: Duration::from_secs(1000),
        must_know_its_id: false,
        can_skip_assignment: true,
        unique: 1,
    };
    let group = groups.get_or_create("g", now);
    let mut actions = Vec::new();
    group.classic.join(1, join, now, &mut actions);
    let [Action::Joined(_, joined)] = &actions[..] else {
        panic!("{actions:?}")
    };
    let sync = Sync {
        member_id: joined.member_id.clone(),
        instance_id: None,
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    };
    let id = joined.member_id.clone();
    group.classic.sync(2, sync, now, &mut actions);
    id
}

#[test]
fn offsets_of_simple_consumers_expire_by_their_age_and_then_the_group_goes() {
    let (mut groups, now) = (groups(), Instant::now());
    commit(&mut groups, "old", now, 0);
    commit(&mut groups, "new", now, 50_000);
    assert!(
        groups
            .expire(now, 99_999, RETENTION, &TopicsView::default())
            .is_empty()
    );
    assert_eq!(
        groups.expire(now, 100_000, RETENTION, &TopicsView::default()),
        ["g"]
    );
    let left = groups.get("g").unwrap().offsets.iter().count();
    assert_eq!(left, 1);
    assert_eq!(
        groups.expire(now, 150_000, RETENTION, &TopicsView::default()),
        ["g"]
    );
    assert!(groups.get("g").is_none());
}

#[test]
fn a_groups_offsets_expire_when_nobody_reads_the_topic_or_nobody_is_left() {
    let (mut groups, now) = (groups(), Instant::now());
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["read".into()],
        ..Default::default()
    };
    let id = join(
        &mut groups,
        now,
        encode_versioned(&subscription, 3).unwrap(),
    );
    commit(&mut groups, "read", now, 0);
    commit(&mut groups, "left", now, 0);
    groups.expire(now, 500_000, RETENTION, &TopicsView::default());
    let topics = |groups: &Groups| -> Vec<String> {
        let offsets = &groups.get("g").unwrap().offsets;
        offsets.iter().map(|(topic, ..)| topic.to_owned()).collect()
    };
    assert_eq!(topics(&groups), ["read"]);
    let group = groups.get_mut("g").unwrap();
    let left = group.classic.leave(&id, None, now, &mut Vec::new());
    assert!(left.is_ok() && group.classic.is_empty());
    groups.expire(
        now + RETENTION / 2,
        550_000,
        RETENTION,
        &TopicsView::default(),
    );
    assert_eq!(
        topics(&groups),
        ["read"],
        "counted from when it became empty"
    );
    groups.expire(now + RETENTION, 600_000, RETENTION, &TopicsView::default());
    assert!(groups.get("g").is_none());
}

#[test]
fn what_members_read_is_unknown_if_they_do_not_say_it_as_consumers_do() {
    let (mut groups, now) = (groups(), Instant::now());
    join(&mut groups, now, Bytes::from_static(b"?"));
    commit(&mut groups, "any", now, 0);
    assert_eq!(
        groups.get("g").unwrap().subscribed(&TopicsView::default()),
        Subscribed::Unknown
    );
    groups.expire(now, i64::MAX, RETENTION, &TopicsView::default());
    assert_eq!(groups.get("g").unwrap().offsets.iter().count(), 1);
}
