//! Reading from a follower that the leader advises (KIP-392).

use super::*;

fn advised(core: &mut Core<Data>, node: i32, follower: i32, now: Instant) {
    let answer = FetchedPartition {
        follower: Some(follower),
        ..answer(0, vec![])
    };
    core.handle_fetched(node, ErrorCode::NONE, 7, vec![answer], now);
}

/// One partition, led by broker 1, which advises broker 2.
fn following() -> (Core<Data>, Instant) {
    let (mut core, now) = assigned(1, 0);
    order(&mut core, 1, now);
    advised(&mut core, 1, 2, now);
    assert_eq!(core.new_brokers(), [2]);
    assert_eq!(core.plan_fetch(1, false, now), FetchPlan::Gone);
    (core, now)
}

#[test]
fn the_follower_is_read_until_the_advice_is_old() {
    let (mut core, mut now) = following();
    assert_eq!(offsets(&order(&mut core, 2, now))[&0], 0);
    core.handle_fetched(
        2,
        ErrorCode::NONE,
        9,
        vec![answer(0, vec![batch(0, 4, 50)])],
        now,
    );
    order(&mut core, 2, now);
    core.handle_fetched(2, ErrorCode::NONE, 9, vec![answer(0, vec![])], now);
    assert_eq!(deliver(&mut core), Some((0, 0, 4)));
    now += Duration::from_secs(301);
    assert_eq!(core.plan_fetch(2, false, now), FetchPlan::Gone);
    assert_eq!(core.new_brokers(), [1]);
    assert_eq!(offsets(&order(&mut core, 1, now))[&0], 5);
}

#[test]
fn whatever_a_follower_refuses_the_leader_is_asked() {
    for error in [
        ErrorCode::OFFSET_OUT_OF_RANGE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::KAFKA_STORAGE_ERROR,
    ] {
        let (mut core, now) = following();
        order(&mut core, 2, now);
        core.handle_fetched(2, ErrorCode::NONE, 9, vec![refusal(0, error)], now);
        assert_eq!(core.plan_fetch(2, false, now), FetchPlan::Gone);
        assert_eq!(core.new_brokers(), [1]);
        assert_eq!(position(&core, 0), Some(0), "{error}: no reset");
        let FetchPlan::Wait(Some(at)) = core.plan_fetch(1, false, now) else {
            panic!("{error}: not at the speed of the network")
        };
        assert_eq!(offsets(&order(&mut core, 1, at))[&0], 0);
    }
}

#[test]
fn a_follower_that_cannot_be_reached_is_left() {
    let (mut core, now) = following();
    order(&mut core, 2, now);
    core.handle_fetch_failure(2, now);
    assert_eq!(core.new_brokers(), [1]);
    assert_eq!(offsets(&order(&mut core, 1, now))[&0], 0);
}

#[test]
fn another_leader_knows_nothing_of_the_advice() {
    let (mut core, now) = following();
    core.update_leaders(|_| leader(3, 2));
    assert_eq!(core.plan_fetch(2, false, now), FetchPlan::Gone);
    assert_eq!(core.new_brokers(), [3]);
    order(&mut core, 3, now);
}

#[test]
fn what_was_fetched_is_kept_and_counted_where_it_is_read_from() {
    let (mut core, now) = assigned(1, 0);
    order(&mut core, 1, now);
    core.handle_fetched(
        1,
        ErrorCode::NONE,
        7,
        vec![answer(0, vec![batch(0, 4, 50)])],
        now,
    );
    order(&mut core, 1, now);
    advised(&mut core, 1, 2, now);
    assert_eq!(core.brokers[&2].queued_bytes, 50);
    assert_eq!(core.brokers[&1].queued_bytes, 0);
    core.pause(&tp(0), true).unwrap();
    core.pause(&tp(0), false).unwrap();
    assert_eq!(deliver(&mut core), Some((0, 0, 4)));
    assert_eq!(core.brokers[&2].queued_bytes, 0);
}

#[test]
fn a_leader_that_advises_itself_is_asked_at_leisure() {
    let (mut core, now) = assigned(1, 0);
    order(&mut core, 1, now);
    advised(&mut core, 1, 1, now);
    assert!(matches!(core.plan_fetch(1, false, now), FetchPlan::Wait(Some(at)) if at > now));
}
