//! Groups that are led from the classic protocol to that of KIP-848 and back, while they work.

mod stage;

use bytes::Bytes;
use ottla_wire::encode_versioned;
use ottla_wire::messages::consumer_protocol_assignment::ConsumerProtocolAssignment;

use self::stage::{Stage, TOPIC, assignment, join, joining, parts, sync};
use super::*;

#[test]
fn classic_members_are_taken_along_and_give_up_before_others_take() {
    let (mut stage, one) = Stage::mixed();
    assert_eq!(stage.group().type_name(), "consumer");
    // It is to join again, and says what it has: it keeps half of that.
    assert_eq!(stage.lives(&one, 1), ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = stage.joins(&one, None, &[0, 1, 2, 3]);
    assert_eq!((joined.error, joined.generation), (ErrorCode::NONE, 1));
    let kept = stage.syncs(&one, 1).unwrap();
    assert_eq!(kept.len(), 2);
    let waits = stage.beats("two", 2, Some(parts([]))).unwrap();
    assert_eq!(waits.assignment, None, "nothing is free yet");
    // It has given up the rest, and joins once more.
    assert_eq!(stage.lives(&one, 1), ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = stage.joins(&one, None, &kept);
    assert_eq!((joined.error, joined.generation), (ErrorCode::NONE, 2));
    assert_eq!(stage.syncs(&one, 2), Ok(kept.clone()));
    assert_eq!(stage.lives(&one, 2), ErrorCode::NONE);
    let given = stage.beats("two", 2, Some(parts([]))).unwrap();
    let rest = &parts(0..4) - &parts(kept);
    assert_eq!(given.assignment, Some(rest));
    assert_eq!(stage.group().state_name(), "Stable");
}

#[test]
fn an_eager_member_has_nothing_when_it_joins_again() {
    let (mut stage, one) = Stage::mixed();
    let joined = stage.joins(&one, None, &[]);
    assert_eq!(joined.generation, 2);
    let kept = stage.syncs(&one, 2).unwrap();
    let given = stage.beats("two", 2, Some(parts([]))).unwrap();
    let given = given.assignment.unwrap();
    assert_eq!((kept.len(), given.len()), (2, 2));
    assert!(given.is_disjoint(&parts(kept)));
}

#[test]
fn classic_members_join_a_group_of_the_new_protocol() {
    let mut stage = Stage::new();
    let two = stage.beats("two", 0, None).unwrap();
    assert_eq!(two.assignment, Some(parts(0..4)));
    let first = Join {
        must_know_its_id: true,
        ..join("", None, &[])
    };
    let told = stage.joins_with(first).unwrap();
    assert_eq!(told.error, ErrorCode::MEMBER_ID_REQUIRED);
    let joined = stage.joins(&told.member_id, None, &[]);
    assert_eq!((joined.error, joined.generation), (ErrorCode::NONE, 2));
    assert_ne!(joined.leader, joined.member_id, "the broker assigns");
    let one = joined.member_id;
    assert_eq!(stage.syncs(&one, 2), Ok(Vec::new()));
    // It waits, and nobody tells it to do anything about that.
    assert_eq!(stage.lives(&one, 2), ErrorCode::NONE);
    let kept = stage
        .beats("two", 1, Some(parts(0..4)))
        .unwrap()
        .assignment
        .unwrap();
    assert_eq!(stage.lives(&one, 2), ErrorCode::NONE);
    stage.beats("two", 1, Some(kept.clone())).unwrap();
    assert_eq!(stage.lives(&one, 2), ErrorCode::REBALANCE_IN_PROGRESS);
    stage.joins(&one, None, &[]);
    assert_eq!(parts(stage.syncs(&one, 2).unwrap()), &parts(0..4) - &kept);
    // Neither an unknown assignor nor one who does not consume is let in.
    let mut refused = |join| stage.joins_with(join).unwrap().error;
    let other = Join {
        protocols: vec![(
            "other".to_owned(),
            join("", None, &[]).protocols[0].1.clone(),
        )],
        ..join("", None, &[])
    };
    assert_eq!(refused(other), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let connect = Join {
        protocol_type: "connect".to_owned(),
        ..join("", None, &[])
    };
    assert_eq!(refused(connect), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let garbled = Join {
        protocols: vec![("cooperative-sticky".to_owned(), Bytes::from_static(b"?"))],
        ..join("", None, &[])
    };
    assert_eq!(refused(garbled), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let hasty = Join {
        session_timeout: Duration::ZERO,
        ..join("", None, &[])
    };
    assert_eq!(refused(hasty), ErrorCode::INVALID_SESSION_TIMEOUT);
}

#[test]
fn when_the_last_member_of_the_new_protocol_goes_the_others_are_a_classic_group_again() {
    for leaves in [true, false] {
        let (mut stage, one) = Stage::mixed();
        stage.joins(&one, None, &[]);
        stage.syncs(&one, 2).unwrap();
        if leaves {
            stage.beats("two", -1, None).unwrap();
        } else {
            // It is not heard of any more.
            for _ in 0..9 {
                stage.pass(Duration::from_secs(5));
                stage.lives(&one, 2);
            }
        }
        assert_eq!(stage.group().type_name(), "classic");
        assert_eq!(stage.lives(&one, 2), ErrorCode::REBALANCE_IN_PROGRESS);
        let joined = stage.joins(&one, None, &[]);
        assert_eq!((joined.error, joined.generation), (ErrorCode::NONE, 3));
        assert_eq!(joined.leader, one);
    }
}

#[test]
fn the_last_classic_member_leaves_a_group_of_the_new_protocol() {
    let (mut stage, one) = Stage::mixed();
    stage.leaves(&one);
    let given = stage.beats("two", 2, Some(parts([]))).unwrap();
    assert_eq!((given.epoch, given.assignment), (3, Some(parts(0..4))));
    assert_eq!(stage.lives(&one, 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn who_waits_in_a_classic_group_is_told_to_ask_again() {
    let (mut stage, one) = Stage::classic();
    // A second member makes the group wait for the first one.
    stage.waiters = 100;
    assert_eq!(stage.joins_with(join("", None, &[])), None);
    stage.beats("two", 0, None).unwrap();
    let Some(Action::Joined(_, told)) = stage.answer(101) else {
        panic!("{:?}", stage.actions)
    };
    assert_eq!(told.error, ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = stage.joins(&told.member_id, None, &[]);
    assert_eq!((joined.error, joined.generation), (ErrorCode::NONE, 2));
    assert_eq!(stage.lives(&one, 1), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn who_does_not_join_again_or_ask_for_its_assignment_in_time_is_put_out() {
    let (mut stage, one) = Stage::mixed();
    for _ in 0..12 {
        assert_eq!(stage.lives(&one, 1), ErrorCode::REBALANCE_IN_PROGRESS);
        stage.pass(Duration::from_secs(5));
        stage.beats("two", 2, None).unwrap();
    }
    assert_eq!(stage.lives(&one, 1), ErrorCode::UNKNOWN_MEMBER_ID);
    let joined = stage.joins("", None, &[]);
    for _ in 0..12 {
        stage.lives(&joined.member_id, joined.generation);
        stage.pass(Duration::from_secs(5));
        let consumer = stage.group().consumer.as_ref().unwrap();
        let epoch = consumer.members().find(|m| m.id == "two").unwrap().epoch;
        stage.beats("two", epoch, None).unwrap();
    }
    assert_eq!(
        stage.lives(&joined.member_id, joined.generation),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
}

#[test]
fn a_commit_is_taken_in_the_epoch_of_a_classic_member_only() {
    let (mut stage, one) = Stage::mixed();
    let now = stage.now;
    let mut commits = |generation| {
        let commit = stage
            .group()
            .check_commit(&one, None, generation, false, now);
        commit.map(|may| may.partition(TOPIC, 0))
    };
    assert_eq!(commits(1), Ok(true));
    assert_eq!(commits(0), Err(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(commits(2), Err(ErrorCode::ILLEGAL_GENERATION));
}

#[test]
fn a_static_member_comes_back_by_the_other_protocol() {
    let mut stage = Stage::new();
    let joined = stage.joins("", Some("i"), &[]);
    let sync = Sync {
        instance_id: Some("i".to_owned()),
        assignments: vec![(joined.member_id.clone(), assignment(&[0, 1, 2, 3]))],
        ..sync(&joined.member_id, 1)
    };
    stage.syncs_with(sync).unwrap();
    // Restarted with the other setting, it has at once what it had.
    let beat = Heartbeat {
        instance_id: Some("i".to_owned()),
        ..joining("two")
    };
    let back = stage.try_beat(&beat).unwrap();
    assert_eq!(back.assignment, Some(parts(0..4)));
    assert_eq!(
        stage.lives(&joined.member_id, 1),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    // And so it has when it changes back, which makes the group a classic one.
    let again = stage.joins("", Some("i"), &[]);
    assert_eq!(again.error, ErrorCode::NONE);
    assert_eq!(stage.group().type_name(), "classic");
}

#[test]
fn who_is_a_classic_member_again_has_what_it_had() {
    // Before it has heard that it is to give up half of it, and when it is giving that up.
    for told in [false, true] {
        let (mut stage, one) = Stage::mixed();
        let kept = match told {
            true => {
                stage.joins(&one, None, &[0, 1, 2, 3]);
                stage.syncs(&one, 1).unwrap()
            }
            false => vec![0, 1, 2, 3],
        };
        stage.beats("two", -1, None).unwrap();
        assert_eq!(stage.group().type_name(), "classic");
        // The next generation is not complete: what the member has, nobody else gets.
        let three = stage.beats("three", 0, None).unwrap();
        assert_eq!(stage.group().type_name(), "consumer");
        assert_eq!(three.assignment, Some(parts([])));
        assert_eq!(stage.held(&one), parts(0..4));
        // By then it says what is left of it.
        let joined = stage.joins(&one, None, &kept);
        assert_eq!(joined.error, ErrorCode::NONE);
        let owned = parts(stage.syncs(&one, joined.generation).unwrap());
        let waits = stage.beats("three", three.epoch, Some(parts([]))).unwrap();
        let given = waits.assignment.unwrap_or_default();
        assert!(given.is_disjoint(&parts(kept)), "{given:?}");
        assert!(given.is_disjoint(&owned));
    }
}

#[test]
fn what_a_leader_took_from_a_member_is_its_own_until_that_joins_again() {
    let (mut stage, one) = Stage::classic();
    let joined = stage.joins(&one, None, &[0, 1, 2, 3]);
    assert_eq!(joined.generation, 2);
    // Two are for somebody else, and given to nobody yet, as cooperative assignors have it.
    let half = Sync {
        assignments: vec![(one.clone(), assignment(&[0, 1]))],
        ..sync(&one, 2)
    };
    assert_eq!(stage.syncs_with(half), Ok(vec![0, 1]));
    let two = stage.beats("two", 0, None).unwrap();
    assert_eq!(two.assignment, Some(parts([])));
    assert_eq!(stage.lives(&one, 2), ErrorCode::REBALANCE_IN_PROGRESS);
    let waits = stage.beats("two", two.epoch, Some(parts([]))).unwrap();
    assert_eq!(waits.assignment, None);
    let joined = stage.joins(&one, None, &[0, 1]);
    assert_eq!(joined.generation, two.epoch);
    assert_eq!(stage.syncs(&one, two.epoch), Ok(vec![0, 1]));
    let given = stage.beats("two", two.epoch, Some(parts([]))).unwrap();
    assert_eq!(given.assignment, Some(parts(2..4)));
}

#[test]
fn who_takes_a_place_in_the_middle_of_a_rebalance_has_partitions_shared_out() {
    let mut stage = Stage::new();
    let joined = stage.joins("", Some("i"), &[]);
    assert_eq!(joined.generation, 1);
    // The leader never said who has what.
    let beat = Heartbeat {
        instance_id: Some("i".to_owned()),
        ..joining("two")
    };
    let back = stage.try_beat(&beat).unwrap();
    assert_eq!((back.epoch, back.assignment), (2, Some(parts(0..4))));
}

#[test]
fn who_brings_partitions_of_a_membership_that_is_over_is_told_so() {
    let (mut stage, one) = Stage::mixed();
    stage.leaves(&one);
    let late = stage.joins(&one, None, &[0, 1]);
    assert_eq!(late.error, ErrorCode::UNKNOWN_MEMBER_ID);
    // With nothing, it is as good as any that was told its id.
    assert_eq!(stage.joins(&one, None, &[]).error, ErrorCode::NONE);
}

#[test]
fn no_epoch_comes_under_the_number_of_a_generation_or_the_other_way_round() {
    let (mut stage, one) = Stage::classic();
    stage.leaves(&one);
    assert_eq!(stage.group().classic.generation(), 2, "the empty one");
    let two = stage.beats("two", 0, None).unwrap();
    assert_eq!((two.epoch, two.assignment), (3, Some(parts(0..4))));
    stage.beats("two", -1, None).unwrap();
    let epoch = stage.group().consumer.as_ref().unwrap().epoch();
    let joined = stage.joins("", None, &[]);
    assert_eq!(stage.group().type_name(), "classic");
    assert_eq!(
        (joined.error, joined.generation),
        (ErrorCode::NONE, epoch + 1)
    );
}

#[test]
fn a_group_changes_as_far_as_the_policy_goes() {
    for policy in MigrationPolicy::ALL {
        let mut stage = Stage::with_policy(policy);
        stage.begins_classic();
        let upgraded = stage.beats("two", 0, None).map(|beaten| beaten.epoch);
        let (upgrades, downgrades) = match policy {
            MigrationPolicy::Bidirectional => (true, true),
            MigrationPolicy::Upgrade => (true, false),
            MigrationPolicy::Downgrade => (false, true),
            MigrationPolicy::Disabled => (false, false),
        };
        let expected = match upgrades {
            true => Ok(2),
            false => Err(ErrorCode::GROUP_ID_NOT_FOUND),
        };
        assert_eq!(upgraded, expected, "{policy}");
        // Whatever it is, classic members are let into a consumer group.
        let mut stage = Stage::with_policy(policy);
        stage.beats("two", 0, None).unwrap();
        let joined = stage.joins("", None, &[]);
        assert_eq!(joined.error, ErrorCode::NONE);
        stage.beats("two", -1, None).unwrap();
        let expected = if downgrades { "classic" } else { "consumer" };
        assert_eq!(stage.group().type_name(), expected, "{policy}");
        let told = stage.lives(&joined.member_id, joined.generation);
        assert_eq!(told, ErrorCode::REBALANCE_IN_PROGRESS);
        let again = stage.joins(&joined.member_id, None, &[]);
        assert_eq!(
            (again.error, again.generation),
            (ErrorCode::NONE, joined.generation + 1)
        );
        let parsed = policy.to_string().to_uppercase().parse::<MigrationPolicy>();
        assert_eq!(parsed, Ok(policy));
    }
    let expected = "expected one of bidirectional, upgrade, downgrade, disabled";
    assert_eq!("both".parse::<MigrationPolicy>(), Err(expected.to_owned()));
}

#[test]
fn what_cannot_be_taken_along_stays_a_classic_group() {
    let why = |stage: &mut Stage| {
        let beat = joining("two");
        let beaten = stage.try_beat(&beat);
        assert_eq!(stage.group().type_name(), "classic");
        beaten.unwrap_err().message
    };
    let expected = |why| format!("Cannot upgrade classic group g to consumer group because {why}.");
    let connect = Join {
        protocol_type: "connect".to_owned(),
        ..join("", None, &[])
    };
    let mut stage = Stage::new();
    stage.joins_with(connect).unwrap();
    let embedded = "the group does not use the consumer embedded protocol";
    assert_eq!(why(&mut stage), expected(embedded));

    let mut stage = Stage::new();
    let joined = stage.joins("", None, &[]);
    let custom = ConsumerProtocolAssignment {
        user_data: Some(Bytes::from_static(b"!")),
        ..Default::default()
    };
    let custom = encode_versioned(&custom, 3).unwrap();
    stage
        .syncs_with(Sync {
            assignments: vec![(joined.member_id.clone(), custom)],
            ..sync(&joined.member_id, 1)
        })
        .unwrap();
    assert_eq!(
        why(&mut stage),
        expected("an unsupported custom assignor is in use")
    );

    let mut stage = Stage::new();
    let garbled = Join {
        protocols: vec![("range".to_owned(), Bytes::from_static(b"?"))],
        ..join("", None, &[])
    };
    stage.joins_with(garbled).unwrap();
    assert_eq!(
        why(&mut stage),
        expected("the embedded consumer protocol is malformed")
    );

    // Three are as many as a consumer group may have, and a fourth is one too many for any.
    let mut stage = Stage::new();
    for _ in 0..3 {
        stage.joins_with(join("", None, &[]));
    }
    assert_eq!(stage.group().classic.members().count(), 3);
    let full = stage.beats("two", 0, None);
    assert_eq!(full, Err(ErrorCode::GROUP_MAX_SIZE_REACHED));
    assert_eq!(stage.group().type_name(), "classic");
    stage.joins_with(join("", None, &[]));
    let size = "the group size exceeds the consumer group maximum size";
    assert_eq!(why(&mut stage), expected(size));
}

#[test]
fn only_who_joins_makes_a_group_a_consumer_group() {
    let (mut stage, one) = Stage::classic();
    let stranger = |stage: &mut Stage| stage.beats("two", 1, None);
    assert_eq!(stranger(&mut stage), Err(ErrorCode::GROUP_ID_NOT_FOUND));
    stage.leaves(&one);
    assert_eq!(stranger(&mut stage), Err(ErrorCode::GROUP_ID_NOT_FOUND));
    assert_eq!(stage.group().type_name(), "classic");
}
